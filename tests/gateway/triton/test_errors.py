from typing import Final

import grpc
import pytest

from gateway.errors import DeadlineExceeded, EncoderFault, EncoderUnavailable, Overloaded, ServerError
from gateway.http.error_responses import STATUS
from gateway.triton.errors import Unsent, translate

C: Final = grpc.StatusCode
ERRORS: Final = {C.RESOURCE_EXHAUSTED: Overloaded, C.DEADLINE_EXCEEDED: DeadlineExceeded} | dict.fromkeys(
    (C.UNAVAILABLE, C.CANCELLED, C.NOT_FOUND), EncoderUnavailable
)


@pytest.mark.parametrize("code", list(C))
def test_every_grpc_status_has_an_error_with_an_http_status(code: grpc.StatusCode) -> None:
    error = translate(code, "/secret/path")
    assert type(error) is ERRORS.get(code, EncoderFault)
    assert STATUS[type(error)] in (429, 502, 503, 504)
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ("Exceeds maximum queue size", Overloaded),
        ("Request timeout expired", DeadlineExceeded),
        ("Server is stopping, scheduler for model has stopped accepting new inference requests", EncoderUnavailable),
        ("Socket closed", EncoderUnavailable),
        ("failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Connection refused", Unsent),
        ("connections to all backends failing; last error: UNKNOWN", Unsent),
    ],
)
def test_unavailable_is_translated_by_its_message(details: str, expected: type[ServerError]) -> None:
    assert type(translate(C.UNAVAILABLE, details)) is expected


def test_an_unknown_status_is_a_fault() -> None:
    assert type(translate(None, None)) is EncoderFault
