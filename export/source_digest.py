"""Hash Python code by its syntax tree. Comments, docstrings, layout and the Python version do not change the hash."""

import ast
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def digest_of_modules(names: Iterable[str]) -> str:
    """Hash the syntax trees of modules, found without importing them.

    Args:
        names: dotted names of modules. A package means every module in the package.

    Returns:
        A SHA-256 in hexadecimal digits.

    Raises:
        ValueError: a module has no source file.
    """
    digest = hashlib.sha256()
    for name, path in sorted(_files(names)):
        digest.update(f"{name}\n{canonical(path.read_text('utf-8'))}\n".encode())
    return digest.hexdigest()


def canonical(source: str) -> str:
    """Format source code as its syntax tree, without docstrings and other bare strings.

    `ast.dump` is not used, because its output differs between Python versions: 3.13 leaves empty fields out.
    """
    return _dump(ast.parse(source))


def _files(names: Iterable[str]) -> set[tuple[str, Path]]:
    files = set()
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ValueError(f"there is no source of a module {name}")
        origin = Path(spec.origin)
        if spec.submodule_search_locations is None:
            files.add((name, origin))
            continue
        for path in origin.parent.rglob("*.py"):
            parts = path.relative_to(origin.parent).with_suffix("").parts
            files.add((".".join((name, *parts)), path))
    return files


def _dump(node: object) -> str:
    if isinstance(node, list):
        return f"[{','.join(_dump(item) for item in node if not _is_bare_string(item))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [
        f"{name}={_dump(value)}"
        for name, value in _fields(node)
        # `kind` and `type_comment` are layout. Another Python version may not have a field that is empty here.
        if name not in ("kind", "type_comment") and value is not None and value != []
    ]
    if isinstance(node, ast.Constant) and node.value is None:
        fields = ["value=None"]
    return f"{type(node).__name__}({','.join(fields)})"


def _fields(node: ast.AST) -> Iterator[tuple[str, Any]]:
    for name, value in ast.iter_fields(node):
        if isinstance(node, ast.JoinedStr):
            # Python 3.12.1 ends format specifications with an empty string. 3.11 and 3.13 do not.
            value = [part for part in value if not (isinstance(part, ast.Constant) and part.value == "")]
        yield name, value


def _is_bare_string(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
