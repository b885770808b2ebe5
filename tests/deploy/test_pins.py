"""constraints/gateway-hashed.txt is what `make pins` would make of pyproject.toml and constraints/gateway.txt."""

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
HASHED = (ROOT / "constraints/gateway-hashed.txt").read_text()
# One requirement, perhaps for some machines only, then its hashes, a continued line each.
ENTRY = re.compile(
    r"^(\S+)==(\S+)(?: ; platform_machine [^\\\n]+)?((?: \\\n {4}--hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE
)
PLATFORM = {"sys_platform": "linux", "platform_system": "Linux"}


def needed() -> set[str]:
    """The gateway's dependencies and theirs, as those that are installed tell."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pending = [Requirement(text) for text in project["dependencies"]]
    seen: set[tuple[str, str]] = set()
    while pending:
        requirement = pending.pop()
        for extra in ("", *requirement.extras):
            if (found := (canonicalize_name(requirement.name), extra)) in seen:
                continue
            seen.add(found)
            for text in requires(requirement.name) or ():
                theirs = Requirement(text)
                if theirs.marker is None or theirs.marker.evaluate({**PLATFORM, "extra": extra}):
                    pending.append(theirs)
    return {name for name, _ in seen}


def test_holds_what_the_gateway_needs_and_nothing_else() -> None:
    assert {name for name, _, _ in ENTRY.findall(HASHED)} == needed()


def test_holds_the_tested_versions() -> None:
    tested = {
        canonicalize_name(name): version
        for name, version in re.findall(
            r"^([\w.-]+)==(\S+)", (ROOT / "constraints/gateway.txt").read_text(), re.MULTILINE
        )
    }
    for name, version, _ in ENTRY.findall(HASHED):
        assert tested[name] == version


@pytest.mark.parametrize("name", ["gateway-hashed.txt", "build-hashed.txt"])
def test_holds_nothing_but_versions_and_hashes(name: str) -> None:
    """No index, no URL, and nothing that pip would take without a hash."""
    hashed = (ROOT / "constraints" / name).read_text()
    assert len(ENTRY.findall(hashed)) > 4
    rest = ENTRY.sub("", re.sub(r"^#.*$", "", hashed, flags=re.MULTILINE))
    assert rest.strip() == ""
    assert "://" not in hashed


def test_images_build_with_what_the_project_asks_for() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    given = (ROOT / "deploy/build-requirements.txt").read_text().splitlines()
    assert asked == [line for line in given if not line.startswith("#")]
