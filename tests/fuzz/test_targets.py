"""The fuzz targets run, and notice what they look for."""

import pytest

from gateway.http import decode_json
from tests.fuzz.targets import TARGETS
from tests.pictures import flat

SEEDS = {
    "json_body": [b"", b'\x01{"text":"a"}', b'\x06{"subject":"a","prompt":[1],"api_key":"key"}', b"\x03\xff"],
    "form": [b"", b'\x05--X\r\nContent-Disposition: form-data; name="image"\r\n\r\n\xff\r\n--X--\r\n'],
    "head": [b"", b"api_key=key\nimage/png\nBearer x\n*/*", b"countinference=7&api_key=key\n\n\n\n\n1e9\n99"],
    "base64": [b"", b"data:image/png;base64,AAAA", b"\\u0041\\/", b"\xff"],
    "url": [b"", b"https://example.com/a.png", b"https://[::1]/", b"\xff"],
    "array": [b"", b"\x93NUMPY\x01\x00", b"\x80\x04.", flat((1, 2, 3))],
    "text": [b"", b"a cat", b"&#99999999999;", b"\xff"],
    "long_strings": [b"", b'\x05{"a":"' + b"\\u00e9b" * 1000 + b'"}', b'\xff["\\', b"\x00[1"],
}


@pytest.mark.parametrize("name", TARGETS)
def test_each_runs(name: str) -> None:
    for seed in SEEDS[name]:
        TARGETS[name](seed)


def test_an_error_that_nobody_expects_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_json, "_loads", lambda _: 1 / 0)
    with pytest.raises(AssertionError, match="500"):
        TARGETS["json_body"](b'\x01{"text":1}')
