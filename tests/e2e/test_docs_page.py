"""/docs in a real browser, and every example of /openapi.json against the real stack."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browsing import Visit, chromium
from tests.running import PeServe

pytestmark = pytest.mark.triton

ROOT: Final = Path(__file__).parents[2]
COMPARE: Final = "#operations-Roboflow-compare_perception_encoder_compare_post"
LOCKS: Final = ".opblock .authorization__btn"
# What axe-core finds in the elements that Swagger UI 5.32 makes. No setting or style mends them.
SWAGGERS_OWN: Final = {
    "button-name",
    "heading-order",
    "label",
    "landmark-unique",
    "nested-interactive",
    "scrollable-region-focusable",
    "select-name",
}


@pytest.fixture(scope="module")
def device() -> Iterator[tuple[Browser, dict[str, Any]]]:
    expect.set_options(timeout=15_000)
    with chromium() as found:
        yield found


def opened(visit: Visit) -> Page:
    visit.page.goto(visit.url)
    expect(visit.page.locator(".opblock")).to_have_count(12)
    return visit.page


def test_every_example_of_a_body_runs(client: httpx2.Client) -> None:
    ran = 0
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        body = methods.get("post", {}).get("requestBody")
        if body is None:
            continue
        for example in body["content"]["application/json"]["examples"].values():
            answer = client.post(path, json=example["value"])
            assert answer.status_code == 200, (path, example["summary"], answer.text)
            ran += 1
    assert ran >= 9


def test_every_example_of_a_field_runs(client: httpx2.Client) -> None:
    """Each in turn, among the first examples of the fields that are needed."""
    document = client.get("/openapi.json").json()
    ran = 0
    for path, methods in document["paths"].items():
        body = methods.get("post", {}).get("requestBody")
        if body is None:
            continue
        schema = document["components"]["schemas"][body["content"]["application/json"]["schema"]["$ref"][21:]]
        needed: dict[str, Any] = {name: schema["properties"][name]["examples"][0] for name in schema["required"]}
        for name, field in schema["properties"].items():
            for example in field["examples"]:
                answer = client.post(path, json={**needed, name: example})
                assert answer.status_code == 200, (path, name, answer.text)
                ran += 1
    assert ran > 40


def test_the_page_works_offline_and_sends_what_it_shows(device: tuple[Browser, dict[str, Any]], base_url: str) -> None:
    visit = Visit(device[0], f"{base_url}/docs")
    page = opened(visit)
    page.locator(f"{COMPARE} .opblock-summary-control").click()
    page.get_by_role("button", name="Execute").click()
    answer = page.locator(".live-responses-table .response .microlight")
    expect(answer.first).to_contain_text('"similarity"')
    expect(page.locator(".live-responses-table .response-col_status").nth(1)).to_contain_text("200")
    expect(page.locator(LOCKS)).to_have_count(0)  # this server has no keys
    expect(page.get_by_role("button", name="Authorize")).to_have_count(0)
    page.get_by_role("link", name="Try it in the browser").click()
    expect(page).to_have_url(f"{base_url}/")
    expect(page.get_by_role("link", name="API")).to_be_visible()
    visit.close()


@pytest.mark.parametrize("source", ["PE_API_KEYS", "PE_API_KEYS_FILE"])
def test_what_needs_a_key_has_a_lock(device: tuple[Browser, dict[str, Any]], source: str, tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_text("open-sesame\n")
    keys = {source: "open-sesame" if source == "PE_API_KEYS" else str(tmp_path / "keys.txt")}
    arguments = ("--port", "0", "--repository", ROOT / "model_repository")
    stack = PeServe(
        tmp_path, *arguments, PE_METRICS_OPEN="false", PE_PLAYGROUND="false", PE_ROOT_PATH="/vision", **keys
    )
    try:
        visit = Visit(device[0], f"{stack.wait_until_ready()}/vision/docs")
        page = opened(visit)
        locked = page.locator(".opblock", has=page.locator(".authorization__btn")).locator(".opblock-summary-path")
        open_ = page.locator(".opblock", has_not=page.locator(".authorization__btn")).locator(".opblock-summary-path")
        assert [path.replace("\u200b", "") for path in open_.all_inner_texts()] == ["/healthz", "/readiness", "/info"]
        expect(locked).to_have_count(9)
        expect(page.get_by_role("link", name="Try it in the browser")).to_have_count(0)
        page.locator(f"{COMPARE} .opblock-summary-control").click()
        page.get_by_role("button", name="Execute").click()
        status = page.locator(".live-responses-table .response-col_status").nth(1)
        expect(status).to_contain_text("401")
        page.get_by_role("button", name="Authorize").first.click()
        page.locator(".auth-container input").fill("open-sesame")
        page.get_by_role("button", name="Apply credentials").click()
        page.get_by_role("button", name="Close").last.click()
        page.get_by_role("button", name="Execute").click()
        expect(status).to_contain_text("200")
        visit.close()
        stack.stop()
    finally:
        stack.kill()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_only_what_is_swaggers_own(
    device: tuple[Browser, dict[str, Any]], base_url: str, scheme: str
) -> None:
    """Every colour has contrast, in both schemes."""
    visit = Visit(device[0], f"{base_url}/docs", color_scheme=scheme)
    page = opened(visit)
    page.locator(f"{COMPARE} .opblock-summary-control").click()
    page.locator("#operations-Operation-info_info_get .opblock-summary-control").click()
    page.locator(COMPARE).get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table .response .microlight").first).to_contain_text('"similarity"')
    page.wait_for_timeout(500)  # what opens is on its way
    violations = Axe().run(page).response["violations"]
    assert {
        one["id"]: [node["html"] for node in one["nodes"]] for one in violations if one["id"] not in SWAGGERS_OWN
    } == {}
    swaggers = page.locator("#swagger-ui")
    for node in (node for one in violations for node in one["nodes"]):
        assert swaggers.locator(node["target"][0]).count() == 1, node["html"]
    brightness = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((sum, part) => sum + Number(part), 0)"
    )
    assert (brightness < 3 * 64) is (scheme == "dark")
    visit.close()


def test_it_follows_the_scheme_and_fits_a_phone(device: tuple[Browser, dict[str, Any]], base_url: str) -> None:
    visit = Visit(device[0], f"{base_url}/docs", **device[1])
    page = opened(visit)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    html = page.locator("html")
    expect(html).not_to_have_class("dark-mode")
    page.emulate_media(color_scheme="dark")
    expect(html).to_have_class("dark-mode")
    visit.close()
