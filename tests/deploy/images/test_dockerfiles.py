"""What can be known of the images without building them. test_gateway_image.py and test_gpu_profile.py build them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.images.dockerfile import DOCKERFILES, ROOT, stages

each = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
IGNORED = (ROOT / ".dockerignore").read_text().splitlines()


def test_there_are_two() -> None:
    assert [path.name for path in DOCKERFILES] == ["export.Dockerfile", "gateway.Dockerfile"]


@each
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    run = subprocess.run([hadolint, "--no-color", path], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "")


@each
def test_every_file_they_copy_exists_and_reaches_the_builder(path: Path) -> None:
    copied = [
        source
        for stage in stages(path)
        for copy in stage.of("COPY")
        if not copy.value.startswith("--from=")
        for source in copy.words[:-1]
    ]
    assert "pyproject.toml" in copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source.partition('/')[0]}" in IGNORED, f"{source} is kept from the builder by .dockerignore"


def test_nothing_reaches_the_builder_that_no_image_copies() -> None:
    copied = " ".join(copy.value for path in DOCKERFILES for stage in stages(path) for copy in stage.of("COPY"))
    assert IGNORED[1] == "*"
    for line in IGNORED:
        if line.startswith("!"):
            assert line[1:] in copied, line


@each
def test_bases_are_pinned(path: Path) -> None:
    known = {stage.name for stage in stages(path)}
    for stage in stages(path):
        if stage.base not in known:
            tag = stage.base.rpartition(":")[2]
            assert re.match(r"\d+\.\d+|\$\{TRITON_RELEASE\}-py3$", tag), stage.base


@each
def test_nobody_is_root_and_nothing_is_interpreted_by_a_shell(path: Path) -> None:
    last = stages(path)[-1]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", last.of("USER")[-1].value)
    assert last.of("ENTRYPOINT")[-1].value.startswith("[")


def test_the_exporter_is_built_from_what_serves() -> None:
    (stage,) = stages(ROOT / "deploy/images/export.Dockerfile")
    assert stage.base == "nvcr.io/nvidia/tritonserver:${TRITON_RELEASE}-py3"


def test_the_gateway_has_no_torch_and_no_compiler() -> None:
    text = (ROOT / "deploy/images/gateway.Dockerfile").read_text()
    assert "apt-get" not in text
    hashed = (ROOT / "constraints/gateway.txt").read_text()
    assert not re.search(r"^(torch|onnx|nvidia|setuptools|pip)\b", hashed, re.MULTILINE)
    for install in re.findall(r"(pip [^&]*?(?:install|wheel) [^&]*)", re.sub(r"\\\n", "", text)):
        if "uninstall" not in install:
            assert "--no-deps" in install
            assert "--require-hashes" in install or "--no-build-isolation" in install or "dist/" in install, install
