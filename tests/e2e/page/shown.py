"""What the page shows, as Python values."""

import re

from playwright.sync_api import Locator, Page, expect


def number(text: str) -> float:
    """Return a number that is shown with a minus sign or a percent sign."""
    return float(text.replace("−", "-").removesuffix(" %"))


def overflow(page: Page) -> int:
    """Return by how many CSS pixels the page is wider than its window."""
    return page.evaluate(  # type: ignore[no-any-return]
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


def centre(element: Locator) -> tuple[float, float]:
    """Return the middle of an element, in CSS pixels of the window."""
    box = element.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def paths_asked(page: Page) -> list[str]:
    """Return a list that grows: the ends of the URLs that the page asks for from now on, without the icon."""
    paths: list[str] = []

    def note(url: str) -> None:
        if not url.startswith("blob:") and not url.endswith("/icon.svg"):
            paths.append(url.split("?")[0].rsplit("/", 1)[-1])

    page.on("request", lambda request: note(request.url))
    return paths


# -- Compare


def label(page: Page, index: int) -> Locator:
    """Return the field of a label; the first is 1."""
    return page.get_by_label(f"Label {index}", exact=True)


def best(page: Page) -> Locator:
    """Return the field of the label that fits best."""
    return page.locator(".best input")


def scores(page: Page, kind: str = "cosine") -> dict[str, float]:
    """Wait until every label has a score, and return each label's `cosine` or `percent`."""
    rows = page.locator("#labels li")
    expect(page.locator("#labels .value").filter(has_text=re.compile(r"\d"))).to_have_count(rows.count())
    return {row.locator("input").input_value(): number(row.locator(f".{kind}").inner_text()) for row in rows.all()}


# -- Search


def results(page: Page) -> list[str]:
    """Return the file names of the results, in their order."""
    return [button.get_attribute("data-name") or "" for button in page.locator("#results button").all()]


# -- Classify


def table_rows(page: Page) -> list[dict[str, str]]:
    """Return the rows of the table, each by the names of its columns."""
    return page.eval_on_selector_all(  # type: ignore[no-any-return]
        "#classified-table tbody tr",
        """(rows) => rows.map((row) => Object.fromEntries([...row.children].map((cell) =>
            [cell.className, (cell.querySelector("span:first-child:not(.meter)") ?? cell).innerText.trim()])))""",
    )


def classified(page: Page, count: int) -> list[dict[str, str]]:
    """Wait until the table has so many rows, each with a class or an error, and return them."""
    expect(page.locator("#classified-table tbody tr")).to_have_count(count)
    expect(page.locator("td.class:has(span:first-child:empty)")).to_have_count(0)
    return table_rows(page)


def class_counts(page: Page) -> dict[str, int]:
    """Return how many pictures each class has, and `All` and `Not classified`."""
    found = page.locator("#class-counts button").all()
    return {one.locator("span").inner_text(): int(one.locator("b").inner_text()) for one in found}
