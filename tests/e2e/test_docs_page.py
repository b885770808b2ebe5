"""/docs in a real browser, and every example of /openapi.json against the real stack."""

from typing import Any

import httpx2
import pytest
from playwright.sync_api import expect

from tests.browsing import Visit, chromium

pytestmark = pytest.mark.triton


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


def test_the_page_works_offline_and_sends_what_it_shows(base_url: str) -> None:
    with chromium() as (browser, _):
        visit = Visit(browser, base_url)
        page = visit.page
        page.goto(f"{base_url}/docs")
        expect(page.locator(".opblock")).to_have_count(12)
        page.locator("#operations-Roboflow-compare_perception_encoder_compare_post .opblock-summary-control").click()
        page.get_by_role("button", name="Execute").click()
        answer = page.locator(".live-responses-table .response .microlight")
        expect(answer.first).to_contain_text('"similarity"')
        expect(page.locator(".live-responses-table .response-col_status").nth(1)).to_contain_text("200")
        visit.close()
