"""The wheel and the source archive, built by the commands of the release workflow."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from deploy.generate import files
from tests.deploy.test_workflows import ROOT, steps

pytestmark = pytest.mark.slow

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("deploy", "export", "gateway")
# What git ignores and an operator's checkout has.
IGNORED = ("deploy/.env", "deploy/gateway.env", "deploy/secrets/api-keys", "deploy/weights/weights.pt", "site/a.yaml")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both packages, of a copy of the checkout."""
    checkout = tmp_path_factory.mktemp("checkout")
    for path in files(ROOT):
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, checkout / path)
    for name in IGNORED:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("secret")
    (build,) = (step for job, step in steps("release.yaml") if "uv build" in step.get("run", ""))
    run = subprocess.run(["bash", "-euo", "pipefail", "-c", build["run"]], cwd=checkout, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return checkout / "dist"


def names(dist: Path) -> tuple[set[str], set[str]]:
    """The files of the wheel, and those of the source archive."""
    (wheel,) = dist.glob("*.whl")
    (source,) = dist.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        return set(zipfile.ZipFile(wheel).namelist()), {name.partition("/")[2] for name in archive.getnames()}


def test_they_are_named_for_the_version(dist: Path) -> None:
    made = {path.name for path in dist.iterdir() if path.name != ".gitignore"}
    name = PROJECT["name"].replace("-", "_")
    assert made == {f"{name}-{PROJECT['version']}-py3-none-any.whl", f"{name}-{PROJECT['version']}.tar.gz"}


def test_the_wheel_has_the_three_packages_whole_and_nothing_else(dist: Path) -> None:
    wheel, _ = names(dist)
    left_out = ("deploy/secrets/", "deploy/weights/")
    wanted = {str(path) for path in files(ROOT) if path.parts[0] in PACKAGES and not str(path).startswith(left_out)}
    assert {name for name in wheel if ".dist-info/" not in name} == wanted
    assert "gateway/http/page/static/index.html" in wheel


def test_the_source_archive_has_what_git_has(dist: Path) -> None:
    _, source = names(dist)
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split(
        "\n"
    )
    missing = {
        name for name in tracked if name and not name.startswith(("deploy/secrets/", "deploy/weights/"))
    } - source
    assert not missing


@pytest.mark.parametrize("ignored", IGNORED)
def test_neither_has_an_operators_files(dist: Path, ignored: str) -> None:
    assert (dist.parent / ignored).exists()
    for made in names(dist):
        assert ignored not in made


def test_the_wheel_is_described(dist: Path) -> None:
    (path,) = dist.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        folder = next(name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name)
        metadata = wheel.read(f"{folder}/METADATA").decode()
        scripts = wheel.read(f"{folder}/entry_points.txt").decode()
        assert f"{folder}/licenses/LICENSE" in wheel.namelist()
    assert f"Version: {PROJECT['version']}\n" in metadata
    assert set(re.findall(r"^(\S+) = ", scripts, re.MULTILINE)) == set(PROJECT["scripts"])
    assert len(re.findall(r"^Requires-Dist: (?!.*extra ==)", metadata, re.MULTILINE)) == len(PROJECT["dependencies"])


def test_the_gateway_of_the_wheel_starts(dist: Path, tmp_path: Path) -> None:
    """It finds its vocabulary and its page."""
    (wheel,) = dist.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = """
import gateway
from starlette.testclient import TestClient
from gateway.http.app import create_app
from gateway.settings import Settings
from gateway.texts.tokenizer import Tokenizer
from tests.fakes import FakeEncoder, FakeFetch, InlineDecoder
assert gateway.__file__.startswith({folder!r}), gateway.__file__
print(len(Tokenizer(32).encode("a photo of a cat")))
app = create_app(Settings(), FakeEncoder(), FakeFetch(), InlineDecoder())
with TestClient(app) as client:
    assert client.get("/page/app.js").status_code == 200
"""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    run = subprocess.run(
        [sys.executable, "-c", code.format(folder=str(tmp_path))],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
