"""Pictures that are given by their addresses, which the server fetches."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.browsing import Visit
from tests.e2e.page.accessibility import assert_accessible
from tests.e2e.page.actions import SAMPLES, give_text, ready, run_code
from tests.e2e.page.shown import best, classified, label, results, scores
from tests.running import PeServe

pytestmark = pytest.mark.triton

ROOT: Final = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def fetching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that fetches pictures from any address, its own included."""
    allowed = ("ALLOW_NON_HTTPS_URL_INPUT", "ALLOW_URL_INPUT_WITHOUT_FQDN", "ALLOW_URL_TO_NON_GLOBAL_ADDRESSES")
    settings = dict.fromkeys(allowed, "true")
    models = ("--repository", ROOT / "model_repository")
    stack = PeServe(tmp_path_factory.mktemp("fetching"), "--port", "0", *models, **settings)
    try:
        yield stack.wait_until_ready()
        stack.stop()
    finally:
        stack.kill()


@pytest.mark.parametrize("way", ["field", "paste", "drop"])
def test_a_picture_is_compared_by_its_address(
    visit: Callable[..., Visit], fetching: str, way: str, tmp_path: Path
) -> None:
    page = visit(fetching).page
    page.wait_for_selector(".best")
    address = f"{fetching}/page/samples/blue-cross.jpg"
    if way == "field":
        page.get_by_label("Address of a picture").fill(address)
        page.keyboard.press("Enter")
    else:
        give_text(page, way, address)
    expect(page.locator("#picture-name")).to_have_text(address)
    label(page, 1).fill("a blue cross")
    expect(best(page)).to_have_value("a blue cross")
    page.locator("#snippets summary").click()
    for language in ("curl", "python"):
        page.locator(f"[name=language][value={language}]").check(force=True)
        printed = run_code(page.locator("#snippet").text_content() or "", language, tmp_path)
        told = [float(found) for found in re.findall(r"-?\d+\.\d+", printed)]
        assert min(abs(value - scores(page)["a blue cross"]) for value in told) < 6e-4
    other = visit(page.url).page
    expect(best(other)).to_have_value("a blue cross")


def test_pictures_are_added_and_searched_by_their_addresses(visit: Callable[..., Visit], fetching: str) -> None:
    page = ready(visit(f"{fetching}/#search").page)
    addresses = [f"{fetching}/page/samples/{name}.jpg" for name in ("blue-cross", "red-star", "nope")]
    give_text(page, "paste", "\n".join(addresses))
    expect(page.locator("#results li")).to_have_count(2)
    expect(page.locator("#search-trouble")).to_contain_text("nope.jpg: The server does not take this address:")
    page.fill("#query", f"{fetching}/page/samples/red-circle.jpg")
    expect(page.locator("#like-name")).to_have_text("Like red-circle.jpg")
    assert results(page) == ["red-star.jpg", "blue-cross.jpg"]
    page.reload()
    expect(page.locator("#like-name")).to_have_text("Like red-circle.jpg")
    expect(page.locator("#results li")).to_have_count(2)


def test_addresses_are_given_in_a_dialog(visit: Callable[..., Visit], fetching: str) -> None:
    """A phone cannot drop, nor paste outside of a field."""
    page = ready(visit(f"{fetching}/#search").page)
    page.get_by_role("button", name="Add addresses").click()
    dialog = page.get_by_role("dialog", name="Add pictures by their addresses")
    for wrong in ("", "red-star.jpg", f"{fetching}/page/samples/red-star.jpg and more", "http://[x"):
        dialog.get_by_label("Addresses, one a line").fill(wrong)
        dialog.get_by_role("button", name="Add").click()
        expect(dialog.get_by_role("alert")).to_have_text("Write one address a line. Each begins with https: or http:.")
    assert_accessible(page, "the addresses")
    names = [path.name for path in sorted(SAMPLES.glob("red-*.jpg"))]
    lines = [f"{fetching}/page/samples/{name}" for name in (*names, names[0], "nope.jpg")]
    dialog.get_by_label("Addresses, one a line").fill("\n".join(lines))
    dialog.get_by_role("button", name="Add").click()
    expect(dialog).to_be_hidden()
    expect(page.locator("#results li")).to_have_count(len(names))
    expect(page.locator("#search-trouble")).to_contain_text(
        "Left out: nope.jpg: The server does not take this address:"
    )
    page.locator("#tab-classify").click()
    page.locator("#part-classify").get_by_role("button", name="Add addresses").click()
    dialog.get_by_label("Addresses, one a line").fill(lines[0])
    dialog.get_by_role("button", name="Cancel").click()
    expect(page.locator("#classified")).to_be_hidden()
    page.locator("#part-classify").get_by_role("button", name="Add addresses").click()
    expect(dialog.get_by_label("Addresses, one a line")).to_have_value("")
    dialog.get_by_label("Addresses, one a line").fill(lines[0])
    dialog.get_by_role("button", name="Add").click()
    expect(page.locator("#classified-table tbody tr")).to_have_count(1)


def test_an_address_that_the_server_refuses(compare: Page) -> None:
    compare.get_by_label("Address of a picture").fill("http://example.com/a.png")
    compare.get_by_role("button", name="Fetch").click()
    expect(compare.locator("#picture-trouble")).to_have_text(
        re.compile("^The server does not take this address: Providing images via non https:// URL is not supported")
    )
    compare.click("#tab-search")
    give_text(compare, "drop", "http://example.com/a.png")
    expect(compare.locator("#search-trouble")).to_contain_text("a.png: The server does not take this address")


def test_addresses_to_classify_are_read_by_the_server(classify: Page, base_url: str) -> None:
    """The server refuses loopback addresses by default, and that is its word on each."""
    addresses = [f"{base_url}/page/samples/red-circle.jpg", "https://127.0.0.1/x.jpg"]
    give_text(classify, "paste", "\n".join(addresses), "#classes")  # text in a field is a text
    expect(classify.locator("#classified")).to_be_hidden()
    give_text(classify, "paste", "\r\n".join([*addresses, "no address"]))  # nor is this anything else
    expect(classify.locator("#classified")).to_be_hidden()
    give_text(classify, "paste", "\r\n".join(addresses))
    shown = classified(classify, 2)
    assert [row["file"] for row in shown] == addresses
    told = [
        httpx2.post(f"{base_url}/perception_encoder/embed_image", data={"image": address}).json()["message"]
        for address in addresses
    ]
    assert [row["error"] for row in shown] == told


def test_text_is_pasted_into_a_field_as_ever(compare: Page) -> None:
    compare.context.grant_permissions(["clipboard-read", "clipboard-write"])
    compare.evaluate("navigator.clipboard.writeText('https://example.com/a.png')")
    label(compare, 1).fill("")
    label(compare, 1).focus()
    compare.keyboard.press("Control+V")
    expect(label(compare, 1)).to_have_value("https://example.com/a.png")
    expect(compare.locator("#picture-name")).to_have_text("A red circle")
