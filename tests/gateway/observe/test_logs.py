import json
import logging
import sys
from typing import Final

import httpx2
import pytest

from gateway.observe.logs import JsonFormatter, TextFormatter
from tests.fake_triton import FakeTriton, served
from tests.gateway.process import GatewayProcess

FORGED: Final = 'x\nINFO gateway.access {"status": 200}\r\x1b[2J\x9b\u2028y'


def record(message: str, *arguments: object, name: str = "a", error: Exception | None = None) -> logging.LogRecord:
    info = None
    if error is not None:
        try:
            raise error
        except Exception:
            info = sys.exc_info()
    return logging.LogRecord(name, logging.ERROR, "a.py", 1, message, arguments, info)


def test_text_keeps_quoted_lines_within_one_entry() -> None:
    text = TextFormatter("%(levelname)s %(name)s %(message)s").format(
        record("odd: %s", FORGED, error=ValueError(FORGED))
    )
    first, *rest = text.split("\n")
    assert first == "ERROR a odd: x"
    assert len(rest) > 3
    assert all(line.startswith("    ") for line in rest)
    assert "".join(text.split("\n")).isprintable()


def test_json_keeps_quoted_lines_within_one_line() -> None:
    line = JsonFormatter().format(record("odd: %s", FORGED, error=ValueError(FORGED)))
    assert line.isascii()
    assert line.isprintable()
    entry = json.loads(line)
    assert list(entry) == ["time", "level", "logger", "message", "traceback"]
    assert entry["message"] == "odd: " + FORGED
    assert entry["time"].endswith("Z")


def test_the_access_log_has_the_fields_of_the_request_instead_of_a_message() -> None:
    entry = json.loads(JsonFormatter().format(record('{"request_id": "%d", "status": 200}', name="gateway.access")))
    assert list(entry) == ["time", "level", "logger", "request_id", "status"]
    assert entry["request_id"] == "%d"


@pytest.mark.slow
async def test_a_malformed_form_makes_one_line() -> None:
    """The line of the access log, without the warnings of the multipart parser."""
    async with served(FakeTriton()) as port, GatewayProcess(port) as gateway, httpx2.AsyncClient() as client:
        answer = await client.post(
            f"{gateway.base_url}/perception_encoder/embed_image",
            content=b"--y\r\n\r\n",
            headers={"Content-Type": "multipart/form-data; boundary=x"},
        )
        assert answer.status_code in (400, 422)
        assert await gateway.stop() == 0
    assert gateway.log.count("embed_image") == 1
    assert "multipart" not in gateway.log
