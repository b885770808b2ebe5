"""What the report says of pictures that were drawn."""

from typing import Any

from deploy.bench.first_check import first_report

RESULTS: dict[str, Any] = {
    "variant": "V", "command": "pe-bench first-check --url URL", "commit": "abc", "gpus": [],
    "machine": {"instructions": ["avx2", "avx512f"]},
}  # fmt: skip


def report(matches: int | None) -> str:
    found: dict[str, Any] = {
        "pictures": "the source", "similarities": [[0.0] * 5] * 5, "best": [0] * 5, "matches": matches,
        "same_image": 1.0, "same_text": 1.0, "first": {},
    }  # fmt: skip
    return first_report.markdown(
        RESULTS | {"steps": [{"name": "replay", "seconds": 0.1, "problems": [], "found": found}]}
    )


def test_drawn_pictures_leave_the_captions_unchecked_and_the_report_says_so() -> None:
    assert "**The captions were not checked" in report(None)
    assert "`deploy/setup.sh bench` installs the photographs" in report(None)
    assert "not checked" not in report(5)


def test_a_list_is_written_without_brackets() -> None:
    assert "| instructions | avx2 avx512f |" in report(5)
