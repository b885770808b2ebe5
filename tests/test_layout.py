"""The import rules of the product: data flows one way, libraries stay in one package, and file names are unique."""

import ast
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
MODULES: Final = sorted(
    path.relative_to(ROOT) for product in ("gateway", "export", "deploy") for path in (ROOT / product).rglob("*.py")
)

# The files and folders of the checkout's root. A program that tests start must leave nothing there.
AT_THE_TOP: Final = {
    *(".ci", ".dockerignore", ".github", ".gitignore", "Makefile", "constraints", "pyproject.toml"),
    *("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md"),
    *("deploy", "export", "gateway", "model_repository", "tests"),
}

# The subpackages and top-level modules of the gateway. A module imports only from its own subpackage and lower levels.
LEVELS: Final = [
    {"errors", "arrays", "concurrency", "cpus", "fair_pool", "json_string", "parent_death", "turns"},
    {"listening", "process_memory", "supervisor"},
    {"encoder", "in_flight", "settings"},
    {"observe", "drain"},
    {"images", "texts", "triton", "similarity", "zero_shot"},
    {"service"},
    {"http"},
    {"serving"},
    {"__main__"},
]
# Libraries that only some subpackages of the gateway may import.
LIBRARIES: Final = {
    "fastapi": {"http"},
    "starlette": {"http", "serving"},
    "uvicorn": {"http", "serving"},
    "msgspec": {"http"},
    "python_multipart": {"http"},
    "grpc": {"triton"},
    "tritonclient": {"triton"},
    "opentelemetry": {"observe"},
    "PIL": {"images"},
    "pi_heif": {"images"},
    "cykooz_resizer": {"images"},
    "httpcore2": {"images"},
    "ftfy": {"texts"},
    "tokenizers": {"texts"},
    **{library: set[str]() for library in ("export", "deploy", "torch", "onnx", "onnxruntime", "open_clip")},
}
# Data flows from a checkpoint to a graph, an engine and the repository. `pipeline` alone connects them.
FORBIDDEN_IN_EXPORT: Final = {
    "weights": {"engines", "pipeline", "cli"},
    "graph": {"weights", "repository", "pipeline", "cli"},
    "engines": {"weights", "pipeline", "cli"},
    "repository": {"weights", "pipeline", "cli"},
}
# The parts of the exporter that `deploy` may use. Benchmarks measure the whole exporter, so they may import all of it.
DEPLOY_MAY_IMPORT: Final = (
    "export.errors",
    "export.files",
    "export.preflight",
    "export.repository.config_pbtxt",
    "export.repository.holding",
    "export.variants",
)

# File names that several modules have, because the modules have the same job in different packages.
SHARED_JOBS: Final = {
    "__init__.py": "the description of a package",
    "__main__.py": "the command of a package",
    "cli.py": "the command line of a package",
    "client.py": "requests to the gateway",
    "embedder.py": "from inputs to embeddings: images, texts",
    "encoder.py": "the `Encoder` protocol, and its implementation by Triton",
    "errors.py": "the error classes of a package, or their translation",
    "pipeline.py": "the connection of a package's stages",
    "progress.py": "progress of a long command",
    "files.py": "files that a package reads or writes",
    "model.py": "a Python backend of Triton, which requires this name",
}


# Modules whose constants lack `Final`, and why.
WITHOUT_FINAL: Final = {
    "export/graph": "a change of the code would export every model again",
    "export/weights/checkpoint.py": "as before",
    "deploy/embedded/end_with_parent.py": "starts before each child process, so it does not import typing",
    "deploy/embedded/keep_private.py": "as before",
}


def imports(path: Path) -> set[str]:
    """The full names that a module imports."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def in_product(product: str) -> Iterable[Path]:
    return [path for path in MODULES if path.parts[0] == product]


def package(path: Path) -> str:
    """The subpackage of a module, or the name of a module at the top of a product."""
    return path.parts[1].removesuffix(".py")


def packages_imported(path: Path, product: str) -> set[str]:
    """The subpackages and top-level modules of a product that a module imports."""
    names = [module.split(".") for module in imports(path)]
    return {name[1] for name in names if name[0] == product and len(name) > 1}


def level(name: str) -> int:
    return next(i for i, names in enumerate(LEVELS) if name in names)


@pytest.mark.parametrize("path", in_product("gateway"), ids=str)
def test_the_gateway_imports_only_from_lower_levels(path: Path) -> None:
    own = package(path)
    for imported in packages_imported(path, "gateway") - {own}:
        assert level(imported) < level(own), imported


@pytest.mark.parametrize("path", in_product("gateway"), ids=str)
def test_the_gateway_uses_each_library_in_one_place(path: Path) -> None:
    for module in imports(path):
        library = module.partition(".")[0]
        assert package(path) in LIBRARIES.get(library, {package(path)}), library


@pytest.mark.parametrize("path", in_product("export"), ids=str)
def test_the_exporter_imports_along_the_flow_of_data(path: Path) -> None:
    assert not packages_imported(path, "gateway")
    assert not packages_imported(path, "deploy")
    assert not packages_imported(path, "export") & FORBIDDEN_IN_EXPORT.get(package(path), set())


@pytest.mark.parametrize("path", in_product("deploy"), ids=str)
def test_deploy_imports_little_of_the_exporter(path: Path) -> None:
    if not package(path).startswith("bench"):
        for module in imports(path):
            assert not module.startswith("export.") or module.startswith(DEPLOY_MAY_IMPORT), module


def test_nothing_else_is_at_the_top() -> None:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    assert {Path(file).parts[0] for file in files} <= AT_THE_TOP


def test_every_gateway_package_has_a_level() -> None:
    assert {package(path) for path in in_product("gateway")} - {"__init__"} == set().union(*LEVELS)


def test_modules_share_a_file_name_only_if_they_share_a_job() -> None:
    by_name = defaultdict(list)
    for path in MODULES:
        by_name[path.name].append(str(path))
    clashes = {name: paths for name, paths in by_name.items() if len(paths) > 1}
    assert not {name: paths for name, paths in clashes.items() if name not in SHARED_JOBS}


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_constants_are_final(path: Path) -> None:
    if str(path).startswith(tuple(WITHOUT_FINAL)):
        return
    for node in ast.parse((ROOT / path).read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            is_type = ast.unparse(node.value).startswith("TypeVar(")
            assert is_type or not node.targets[0].id.isupper(), f"{node.targets[0].id}: Final"
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id.isupper():
            assert ast.unparse(node.annotation).startswith("Final"), node.target.id
