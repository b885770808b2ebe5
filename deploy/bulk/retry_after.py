"""Read `Retry-After`: https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3"""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

# A server that asks for more is asked again after this time.
_MAX_SECONDS: Final = 300.0


def seconds(value: str | None) -> float | None:
    """Return the seconds to wait: from a number of seconds, or until a date. None without a header that can be read."""
    if value is None:
        return None
    value = value.strip()
    if re.fullmatch(r"[0-9]+", value, re.ASCII):
        return min(float(value), _MAX_SECONDS)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    # A date without a zone is in UTC, as HTTP's dates are.
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return min(max((date - datetime.now(UTC)).total_seconds(), 0.0), _MAX_SECONDS)
