"""Check which changes of the code change its digest."""

import subprocess
import sys
from pathlib import Path

import pytest

from export.source_digest import canonical, digest_of_modules

CODE = '''
def scale(x: float, factor: float = 2.0) -> str:
    """Scale a value."""
    # A comment.
    y = x * factor
    return f"{y:.3f} of {x}"
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# A comment.", "# Another one."),
        ('"""Scale a value."""', '"""Multiply a value.\n\n    With more words.\n    """'),
        ("y = x * factor", "y = (x\n         * factor)"),
        ('f"{y:.3f} of {x}"', "f'{y:.3f} of {x}'"),
    ],
    ids=["comment", "docstring", "layout", "quotes"],
)
def test_rewording_changes_nothing(old: str, new: str) -> None:
    assert old in CODE
    assert canonical(CODE) == canonical(CODE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x * factor", "factor * x"),
        ("2.0", "3.0"),
        (".3f", ".4f"),
        ("= 2.0", "= None"),
        ("scale", "scaled"),
        ('f"{y:.3f} of {x}"', "[y, '']"),
    ],
)
def test_code_counts(old: str, new: str) -> None:
    assert canonical(CODE) != canonical(CODE.replace(old, new))


def test_an_empty_string_counts() -> None:
    assert canonical("f('', 1)") != canonical("f(1)")


def test_a_package_stands_for_its_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "digested"
    (package / "inner").mkdir(parents=True)
    for name in ("__init__.py", "a.py", "inner/__init__.py", "inner/b.py"):
        (package / name).write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = digest_of_modules(["digested"])
    (package / "inner/b.py").write_text("x = 2\n")
    assert digest_of_modules(["digested"]) != before
    with pytest.raises(ValueError, match=r"no source of a module export\.nothing"):
        digest_of_modules(["export.nothing"])


def test_the_code_is_not_imported() -> None:
    """`pe-export check` must run without torch."""
    code = (
        "import sys; from export.source_digest import digest_of_modules; digest_of_modules(['export.graph']);"
        "sys.exit(any(name.startswith('export.graph.') or name == 'torch' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
