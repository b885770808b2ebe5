"""Every file names the same release of Triton and the same version, and the generator knows every form of mention."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy import generate

OLD = "26.01"


def test_everything_generated_is_what_the_generator_writes() -> None:
    assert generate.main(["--check"]) == 0


def test_the_release_is_named_nowhere_else() -> None:
    """A mention that the generator does not know would stay behind when the release changes."""
    release = generate.release()
    assert re.fullmatch(r"\d\d\.\d\d", release)
    elsewhere = re.compile(rf"(?<![\d.]){re.escape(release)}(?![\d.]*\d)")
    for path in generate.files(generate.ROOT):
        if path not in (generate.RELEASE, Path("CHANGELOG.md")):
            text = generate._text(generate.ROOT / path)
            # The plain search first: the pattern takes seconds over every file of the checkout.
            rest = generate._MENTION.sub("", text) if release in text else ""
            assert not elsewhere.search(rest), f"{path} names the release, unseen by the generator"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (generate.RELEASE, Path("deploy/images/export.Dockerfile"), Path("pyproject.toml")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(generate.ROOT / name, tmp_path / name)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(generate.stale, "__defaults__", (tmp_path,))
    return tmp_path


def test_a_new_release_reaches_every_form_of_mention(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mentions = [  # put together here, or the generator would change this file too
        f"{before}{OLD}{after}"
        for before, after in (
            ("FROM nvcr.io/nvidia/tritonserver:", "-py3"),
            ("image: nvcr.io/nvidia/tritonserver:", "-py3-sdk"),
            ("newTag: ", "-py3"),
            ("--tag registry.example.com/perception-encoder-export:", f"-{generate.version()}"),
            ("rm -r /repository/", "-1"),
            ("TRITON_RELEASE=", ""),
            ("TRITON_RELEASE: ", ""),
            ('TRITON_RELEASE: "', '"'),
            ('tritonRelease: "', '"'),
            ("${TRITON_RELEASE:-", "}-py3"),
        )
    ]
    other = f"certifi==20{OLD}.18, Triton {OLD} did"
    (checkout / "file").write_text("\n".join([*mentions, other]))
    (checkout / generate.RELEASE).write_text("27.03\n")
    assert generate.main(["--check"]) == 1
    assert "file is not what" in capsys.readouterr().err
    assert generate.main([]) == 0
    written = (checkout / "file").read_text().splitlines()
    assert written == [*(line.replace(OLD, "27.03") for line in mentions), other]
    assert "27.03" in (checkout / "deploy/images/export.Dockerfile").read_text()
    assert generate.main(["--check"]) == 0


def test_a_new_version_reaches_every_form_of_mention(checkout: Path) -> None:
    old, new = "0.0.1", "1.2.3rc1"
    release = generate.release()
    mentions = [  # put together here, or the generator would change this file too
        f"{before}{old}"
        for before in (
            "--tag registry.example.com/perception-encoder-gateway:",
            f"--tag registry.example.com/perception-encoder-export:{release}-",
            f"image: perception-encoder-export:${{TRITON_RELEASE:-{release}}}-",
            "newTag: ",
            f"newTag: {release}-",
        )
    ]
    other = f"newTag: {release}-py3 since {old}"
    (checkout / "file").write_text("\n".join([*mentions, other]))
    project = checkout / "pyproject.toml"
    project.write_text(project.read_text().replace(f'version = "{generate.version()}"', f'version = "{new}"'))
    assert generate.main([]) == 0
    assert (checkout / "file").read_text().splitlines() == [*(line.replace(old, new) for line in mentions), other]
    assert generate.main(["--check"]) == 0
