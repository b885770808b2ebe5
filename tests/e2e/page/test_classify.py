"""The tab Classify: its table, classes, counts and order."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.page.actions import SAMPLES, add_samples, classify_samples, give, numbered, write_classes
from tests.e2e.page.shown import class_counts, classified, number, paths_asked, table_rows

pytestmark = pytest.mark.triton


def test_the_table_is_what_the_endpoint_answers(classify: Page, base_url: str) -> None:
    shown = classify_samples(classify)
    write_classes(classify, "circle, square\n not one\nheart\nheart ", "a {} on paper, a {}")
    shown = classified(classify, 36)
    files = [("image", (row["file"], (SAMPLES / row["file"]).read_bytes())) for row in shown]
    classes = ["circle, square", "not one", "heart"]
    answer = httpx2.post(
        f"{base_url}/perception_encoder/classify",
        data={"classes": classes, "template": "a {} on paper, a {}"},
        files=files,
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    told = [prediction[0] for prediction in answer.json()["predictions"]]
    assert [row["class"] for row in shown] == [one["class"] for one in told]
    assert [number(row["probability"]) for row in shown] == pytest.approx(
        [100 * one["probability"] for one in told], abs=0.06
    )
    assert [number(row["similarity"]) for row in shown] == pytest.approx([one["similarity"] for one in told], abs=6e-4)


def test_the_first_classes_sort_the_samples_right(classify: Page) -> None:
    shown = classify_samples(classify)
    assert all(row["file"].removesuffix(".jpg").endswith(f"-{row['class']}") for row in shown)
    expect(classify.locator("#classify-samples")).to_be_hidden()
    expect(classify.locator("#classified-text")).to_have_text("36 pictures")


def test_other_classes_send_no_picture_again(classify: Page) -> None:
    classify_samples(classify)
    paths = paths_asked(classify)
    write_classes(classify, "red, blue, green")
    classified(classify, 36)
    assert set(class_counts(classify)) == {"All", "red", "blue", "green"}
    assert paths == ["embed_text"]
    write_classes(classify, "red,blue")  # both are known
    classify.fill("#template", "{}")
    expect(classify.locator("#class-counts button")).to_have_count(3)
    assert "embed_image" not in paths


def test_counts_filter_and_columns_sort(classify: Page) -> None:
    classify_samples(classify)
    found = class_counts(classify)
    assert found.pop("All") == 36
    assert sum(found.values()) == 36
    assert list(found) == ["circle", "square", "triangle", "star", "heart", "ring", "diamond", "arrow", "cross"]
    star = classify.locator("#class-counts button").filter(has_text="star")
    star.click()
    expect(star).to_have_attribute("aria-pressed", "true")
    assert {row["class"] for row in classified(classify, found["star"])} == {"star"}
    expect(classify.locator("#classified-text")).to_have_text(f"{found['star']} of 36 pictures")
    star.click()  # again: all
    classified(classify, 36)
    columns: dict[str, Callable[[str], Any]] = {"file": str, "class": str, "probability": number, "similarity": number}
    for column, of in columns.items():
        head = classify.locator(f"th.{column}")
        head.get_by_role("button").click()
        first = "descending" if of is number else "ascending"
        expect(head).to_have_attribute("aria-sort", first)
        values = [of(row[column]) for row in table_rows(classify)]
        assert values == sorted(values, reverse=of is number)
        head.get_by_role("button").click()
        expect(head).to_have_attribute("aria-sort", {"descending": "ascending", "ascending": "descending"}[first])
        values = [of(row[column]) for row in table_rows(classify)]
        assert values == sorted(values, reverse=of is not number)
        expect(classify.locator("[aria-sort]")).to_have_count(1)


def test_the_pictures_of_the_search_are_not_sent_again(classify: Page) -> None:
    classify.click("#classify-search")
    expect(classify.locator("#classify-trouble")).to_have_text("The search has no pictures of this model.")
    classify.click("#tab-search")
    add_samples(classify)
    classify.click("#tab-classify")
    paths = paths_asked(classify)
    classify.click("#classify-search")
    shown = classified(classify, 36)
    assert all(row["file"].removesuffix(".jpg").endswith(f"-{row['class']}") for row in shown)
    expect(classify.locator("td.preview img")).to_have_count(36)
    assert paths == []


def test_clear_can_be_undone(classify: Page) -> None:
    before = classify_samples(classify)
    classify.click("#classify-clear")
    expect(classify.locator("#classified")).to_be_hidden()
    expect(classify.locator("#classify-undo")).to_be_focused()
    classify.keyboard.press("Enter")
    assert classified(classify, 36) == before
    expect(classify.locator("#classify-undo")).to_be_hidden()
    classify.click("#classify-clear")
    give(classify, "drop", numbered(1))
    classified(classify, 1)
    expect(classify.locator("#classify-undo")).to_be_hidden()


def test_wrong_classes_and_prompts_are_called_that(classify: Page) -> None:
    before = classify_samples(classify)
    trouble = classify.locator("#classes-trouble")
    classify.fill("#template", "a photo")
    expect(trouble).to_have_text("The prompt needs a {} where the class belongs.")
    classify.fill("#template", "")
    expect(trouble).to_be_hidden()
    classify.fill("#classes", " \n, ")
    expect(trouble).to_have_text("Write at least one class.")
    classify.fill("#classes", "dog " * 40 + "\ncat")
    expect(classify.locator("#classes-cut")).to_contain_text("The model reads only the beginning of: dog dog")
    classify.fill("#classes", "x" * 200_000)
    expect(trouble).to_have_text("A text has 200000 characters; at most 128000 are allowed.")
    assert len(table_rows(classify)) == len(before)


def test_a_late_answer_about_classes_is_dropped(classify: Page) -> None:
    classify_samples(classify)
    held: list[Route] = []
    classify.route("**/embed_text", lambda route: held.append(route) if not held else route.continue_())
    with classify.expect_request("**/embed_text"):
        classify.fill("#classes", "old, older")
    write_classes(classify, "new, newer")
    assert set(class_counts(classify)) == {"All", "new", "newer"}
    assert len(held) == 1
