import sys
from pathlib import Path

from deploy.embedded import libpython


def test_asks_an_interpreter_about_itself() -> None:
    interpreter = libpython.inspect_interpreter(Path(sys.executable))
    assert interpreter.version == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert interpreter.library == f"libpython{interpreter.version}.so.1.0"
    assert interpreter.site_packages.is_dir()


def test_prefers_the_interpreters_own(tmp_path: Path) -> None:
    own = tmp_path / "libpython3.11.so.1.0"
    own.touch()
    assert libpython.find(libpython.Interpreter("3.11", (tmp_path / "gone", tmp_path), tmp_path)) == own


def test_falls_back_to_the_systems(tmp_path: Path) -> None:
    # Stands for a libpython that is found by its name alone.
    class Loadable(libpython.Interpreter):
        library = "libc.so.6"

    assert libpython.find(Loadable("3.11", (tmp_path,), tmp_path)) == Path("libc.so.6")


def test_none_at_all(tmp_path: Path) -> None:
    assert libpython.find(libpython.Interpreter("3.99", (tmp_path,), tmp_path)) is None
