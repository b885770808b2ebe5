import json
import logging

import pytest

from gateway.observe import requests
from gateway.observe.requests import Answered
from gateway.observe.stages import Stages


def one_line(request: Answered, caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> str:
    with caplog.at_level(level, "gateway.access"):
        requests.log(request)
    (record,) = caplog.records
    return record.message


def test_a_line_has_all_that_is_known(caplog: pytest.LogCaptureFixture) -> None:
    stages = Stages()
    stages.add("decode", 0.0015)
    stages.items = 3
    request = Answered("q1", "127.0.0.1", "/x", 502, "EncoderFault", seconds=0.25, bytes=77, stages=stages)
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


def test_no_character_of_a_client_reaches_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    client = "\x9b31m\x85\u2028 é"
    line = one_line(Answered("1", client, "r", 200, None, seconds=0, bytes=0, stages=Stages()), caplog)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["client"] == client


def test_what_is_asked_all_the_time_is_told_only_when_it_fails(caplog: pytest.LogCaptureFixture) -> None:
    request = Answered("1", None, "/readiness", 200, None, seconds=0, bytes=0, stages=Stages())
    with caplog.at_level(logging.INFO, "gateway.access"):
        requests.log(request)
    assert not caplog.records
    one_line(request._replace(status=503), caplog)
