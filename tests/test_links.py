"""Relative links of all pages lead somewhere, and their anchors to a heading."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    page for page in ROOT.rglob("*.md") if not any(part.startswith(".") for part in page.relative_to(ROOT).parts)
)
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)[^)]*\)|(?:href|src|srcset)=\"([^\"]+)\"")


def prose(page: Path) -> str:
    """Without code, where brackets mean something else."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text()))


@cache
def anchors(page: Path) -> frozenset[str]:
    """As GitHub makes them of headings: https://github.com/gjtorikian/html-pipeline, its table of contents."""
    found: dict[str, int] = {}
    slugs = set()
    for heading in re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        count = found[slug] = found.get(slug, -1) + 1
        slugs.add(f"{slug}-{count}" if count else slug)
    return frozenset(slugs)


def dead(page: Path) -> list[str]:
    links = [first or second for first, second in _LINK.findall(prose(page))]
    return [link for link in links if not re.match(r"[a-z]+:", link) and not leads_somewhere(page, link)]


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path) if path else page
    if not target.exists() or ROOT not in [target.resolve(), *target.resolve().parents]:
        return False
    return not anchor or (target.suffix == ".md" and anchor in anchors(target))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert dead(page) == []


def test_a_dead_link_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two`, three!\n[a](#one-two-three) [b](#one) [c](gone.md) ![d](gone.svg) `[e](gone.py)`\n"
        '<img src="gone.webp">\n```\n[f](gone.md)\n```\n[g](https://example.com/gone)\n'
    )
    assert dead(page) == ["#one-two-three", "#one", "gone.md", "gone.svg", "gone.webp"]  # all lie outside of ROOT
    assert anchors(page) == {"one-two-three"}


def test_pages_are_found() -> None:
    assert ROOT / "README.md" in PAGES
    assert len(PAGES) > 5
