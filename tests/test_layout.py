"""The house's arrows: which module may import which, so that data flows one way and the gateway stays small."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GATEWAY = sorted(path.relative_to(ROOT) for path in (ROOT / "gateway").rglob("*.py"))

# Lower rooms never look up.
LEVELS = [
    {"errors", "arrays", "concurrency", "process_memory", "supervisor"},
    {"encoder", "settings", "in_flight"},
    {"observe", "drain"},
    {"images", "texts", "triton", "similarity"},
    {"service"},
    {"http"},
    {"serving"},
    {"__main__"},
]


def imports(path: Path) -> set[str]:
    """The modules that a file names, in full."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(path: Path) -> str:
    return path.parts[1].removesuffix(".py")


def level(name: str) -> int:
    return next(i for i, names in enumerate(LEVELS) if name in names)


@pytest.mark.parametrize("path", GATEWAY, ids=str)
def test_the_gateway_imports_one_way(path: Path) -> None:
    if room(path) == "__init__":
        return
    for module in imports(path):
        package, _, rest = module.partition(".")
        if package == "gateway" and (target := rest.partition(".")[0]) in set().union(*LEVELS):
            assert level(target) <= level(room(path)), (path, module)


@pytest.mark.parametrize("path", GATEWAY, ids=str)
def test_libraries_stay_in_their_rooms(path: Path) -> None:
    packages = {module.partition(".")[0] for module in imports(path)}
    assert not packages & {"export", "deploy", "torch", "onnxruntime", "open_clip"}, path
    if room(path) not in ("http", "serving"):
        assert not packages & {"fastapi", "starlette", "uvicorn"}, path
    if room(path) != "triton":
        assert not packages & {"grpc", "tritonclient"}, path


def test_every_room_has_a_level() -> None:
    assert {room(path) for path in GATEWAY} - {"__init__"} == set().union(*LEVELS)
