import json
import logging

import pytest

from gateway.observe import access_log
from gateway.observe.access_log import FinishedRequest
from gateway.observe.stages import Stages


def one_line(request: FinishedRequest, caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> str:
    with caplog.at_level(level, "gateway.access"):
        access_log.log(request)
    (record,) = caplog.records
    return record.message


def test_a_line_has_all_fields(caplog: pytest.LogCaptureFixture) -> None:
    stages = Stages()
    stages.add("decode", 0.0015)
    stages.items = 3
    request = FinishedRequest("q1", "127.0.0.1", "/x", 502, "EncoderFault", seconds=0.25, bytes=77, stages=stages)
    assert json.loads(one_line(request, caplog)) == {
        "request_id": "q1",
        "client": "127.0.0.1",
        "route": "/x",
        "status": 502,
        "error": "EncoderFault",
        "items": 3,
        "bytes": 77,
        "ms": 250.0,
        "decode": 1.5,
    }


def test_a_line_is_printable_ascii(caplog: pytest.LogCaptureFixture) -> None:
    client = "\x9b31m\x85\u2028 é"
    line = one_line(FinishedRequest("1", client, "r", 200, None, seconds=0, bytes=0, stages=Stages()), caplog)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["client"] == client


def test_health_checks_are_logged_only_if_they_fail(caplog: pytest.LogCaptureFixture) -> None:
    request = FinishedRequest("1", None, "/readiness", 200, None, seconds=0, bytes=0, stages=Stages())
    with caplog.at_level(logging.INFO, "gateway.access"):
        access_log.log(request)
    assert not caplog.records
    one_line(request._replace(status=503), caplog)
