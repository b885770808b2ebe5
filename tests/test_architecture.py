"""The picture of the imports in `ARCHITECTURE.md` is current."""

from tests import draw_architecture
from tests.draw_architecture import PAGE, edges, packages, picture, with_picture


def test_the_picture_is_current() -> None:
    """If this fails, run `.venv/bin/python -m tests.draw_architecture`."""
    assert PAGE.read_text() == with_picture(PAGE.read_text())


def test_the_picture_shows_the_imports() -> None:
    found = edges(packages())
    assert "gateway.service" in found["gateway.http"]
    assert "gateway.images" in found["gateway.service"]
    assert not {end for start, ends in found.items() if start.startswith("export") for end in ends if "gateway" in end}
    assert "gateway.http --> gateway.service" in picture()


def test_an_import_that_others_imply_is_left_out() -> None:
    direct = {"a": {"b", "c"}, "b": {"c"}, "c": {"d"}, "d": set[str]()}
    assert draw_architecture._implied(direct, "a", "c")
    assert not draw_architecture._implied(direct, "a", "b")


def test_another_picture_is_replaced_and_the_text_around_it_stays() -> None:
    assert with_picture("a\n```mermaid\nold\n```\nb\n") == f"a\n```mermaid\n{picture()}```\nb\n"


def test_the_page_fits_on_one_screen() -> None:
    text = PAGE.read_text().replace(picture(), "")
    assert len(text.splitlines()) <= 45
