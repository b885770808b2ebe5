"""`Retry-After`, in both of its forms."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from deploy.bulk.retry_after import seconds

pytestmark = pytest.mark.bulk


@pytest.mark.parametrize(("value", "expected"), [("0", 0), ("1", 1), (" 17 ", 17), ("99999999", 300)])
def test_a_number_of_seconds(value: str, expected: float) -> None:
    assert seconds(value) == expected


def test_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert seconds(soon) == pytest.approx(30, abs=2)


@pytest.mark.parametrize(
    "value",
    [
        "Wed, 21 Oct 2015 07:28:00 GMT",
        "Wednesday, 21-Oct-15 07:28:00 GMT",
        "Wed Oct 21 07:28:00 2015",
        "Wed, 21 Oct 2015",
    ],
)
def test_a_date_that_has_passed(value: str) -> None:
    assert seconds(value) in (0, None)
    assert seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0


@pytest.mark.parametrize("value", [None, "", "soon", "-1", "1.5", "٣"])
def test_what_is_neither(value: str | None) -> None:
    assert seconds(value) is None
