"""Draw the packages of the product and the imports between them into `ARCHITECTURE.md`, as Mermaid.

`.venv/bin/python -m tests.draw_architecture` writes the picture. `tests/test_architecture.py` keeps it current.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "ARCHITECTURE.md"
PRODUCTS: Final = ("export", "gateway", "deploy")
# What no import shows: the data that passes between the products.
DATA: Final = (
    "model_repository[(model_repository)]",
    "triton([Triton])",
    "export.repository -. writes .-> model_repository",
    "triton -. loads .-> model_repository",
    "gateway.triton -. gRPC .-> triton",
)
_BEGIN, _END = "```mermaid\n", "```"

Edges = dict[str, set[str]]


def packages() -> list[str]:
    """Return the packages to draw: the subpackages, and the modules beside them that import a subpackage."""
    found = []
    for product in PRODUCTS:
        subpackages = [path.parent.name for path in sorted((ROOT / product).glob("*/__init__.py"))]
        found += [f"{product}.{name}" for name in subpackages]
        for path in sorted((ROOT / product).glob("[!_]*.py")):
            if any(name.startswith(tuple(f"{product}.{package}" for package in subpackages)) for name in imports(path)):
                found.append(f"{product}.{path.stem}")
    return found


def imports(path: Path) -> Iterator[str]:
    """Yield the full names that a module imports, those of its functions included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def edges(nodes: list[str]) -> Edges:
    """Map each package to those that it imports. An import that a chain of others implies is left out."""
    direct: Edges = {node: set() for node in nodes}
    for node in nodes:
        path = ROOT / node.replace(".", "/")
        for module in path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]:
            for name in imports(module):
                imported = ".".join(name.split(".")[:2])
                if imported in direct and imported != node:
                    direct[node].add(imported)
    return {node: {end for end in ends if not _implied(direct, node, end)} for node, ends in direct.items()}


def _implied(direct: Edges, start: str, end: str) -> bool:
    """Return whether a chain of at least two imports leads from `start` to `end`."""
    seen, waiting = set[str](), list(direct[start] - {end})
    while waiting:
        node = waiting.pop()
        if end in direct[node]:
            return True
        if node not in seen:
            seen.add(node)
            waiting += direct[node]
    return False


def picture() -> str:
    """Return the picture as Mermaid's text."""
    nodes = packages()
    lines = ["flowchart TD"]
    for product in PRODUCTS:
        lines.append(f"  subgraph {product}")
        lines += [f'    {node}["{node.partition(".")[2]}"]' for node in nodes if node.startswith(f"{product}.")]
        lines.append("  end")
    for node, ends in edges(nodes).items():
        lines += [f"  {node} --> {end}" for end in sorted(ends)]
    return "\n".join([*lines, *(f"  {line}" for line in DATA)]) + "\n"


def with_picture(page: str) -> str:
    """Return the text of the page with its picture replaced."""
    before, _, rest = page.partition(_BEGIN)
    return f"{before}{_BEGIN}{picture()}{_END}{rest.partition(_END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(with_picture(PAGE.read_text()))
