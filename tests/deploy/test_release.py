from pathlib import Path

import pytest

from deploy import release
from deploy.release import ReleaseError, absolute, notes

CHANGELOG = """\
# Changelog

## Unreleased

- Not yet.

## 1.2.0 - 2027-02-28

### Added

- A [page](deploy/README.md#kubernetes), [another](https://example.com/a) and
  [a section](#changelog).
  - Part of it.
- More.

## [1.1.0] - 2027-01-01

- Before.
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "a"\nversion = "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    monkeypatch.setattr(release.notes, "__defaults__", (tmp_path,))
    return tmp_path


def test_the_notes_are_the_section_of_the_version_an_item_a_line(checkout: Path) -> None:
    assert notes("v1.2.0") == (
        "### Added\n\n"
        "- A [page](deploy/README.md#kubernetes), [another](https://example.com/a) and [a section](#changelog).\n"
        "  - Part of it.\n"
        "- More."
    )


def test_the_oldest_section_ends_with_the_file(checkout: Path) -> None:
    (checkout / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n## [1.2.0] - 2027-01-01\n\n- First.\n")
    assert notes("v1.2.0") == "- First."


def test_relative_links_are_made_absolute() -> None:
    text = "[a](deploy/README.md#kubernetes) [b](https://example.com/a) [c](#changelog)"
    assert absolute(text, "https://example.com/blob/v1/") == (
        "[a](https://example.com/blob/v1/deploy/README.md#kubernetes) [b](https://example.com/a) [c](#changelog)"
    )


@pytest.mark.parametrize("tag", ["1.2.0", "v1.2", "v1.2.1", "v1.2.0-rc1", ""])
def test_a_tag_of_another_version_is_refused(checkout: Path, tag: str) -> None:
    with pytest.raises(ReleaseError, match=r"the tag must be v1\.2\.0"):
        notes(tag)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ("## Unreleased\n\n- A.\n", 'rename "Unreleased" to "1.2.0 - YYYY-MM-DD"'),
        (
            "## 1.1.0 - 2027-01-01\n\n- A.\n\n## 1.2.0 - 2027-02-01\n\n- B.\n",
            "newest section of CHANGELOG.md is of 1.1.0",
        ),
        ("## 1.2.0\n\n- A.\n", "has no date"),
        ("## 1.2.0 - soon\n\n- A.\n", "has no date"),
        ("## 1.2.0 - 2027-02-30\n\n- A.\n", "has no date"),
        ("## 1.2.0 - 2027-02-01\n\n## 1.1.0 - 2027-01-01\n\n- A.\n", "the section of 1.2.0 is empty"),
    ],
)
def test_a_changelog_that_does_not_fit_is_refused(checkout: Path, sections: str, said: str) -> None:
    (checkout / "CHANGELOG.md").write_text(f"# Changelog\n\n{sections}")
    with pytest.raises(ReleaseError) as raised:
        notes("v1.2.0")
    assert said in str(raised.value)


def test_the_command_writes_the_notes_or_says_why_not(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert release.main(["v1.2.0", "--links", "https://example.com"]) == 0
    assert "[page](https://example.com/deploy/README.md#kubernetes)" in capsys.readouterr().out
    assert release.main(["v2.0.0"]) == 1
    said = capsys.readouterr()
    assert not said.out
    assert said.err.startswith("release: the tag is v2.0.0, but")
