"""Compressed bodies."""

import asyncio
import gzip
import io
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from gateway.errors import PayloadTooLarge
from gateway.http.content_encoding import decoded
from gateway.in_flight import InFlightLimiter
from tests.gateway.http.conftest import MakeClient
from tests.gateway.http.test_admission import App, app, queue  # noqa: F401
from tests.gateway.http.test_middleware import metric
from tests.pictures import base64_image, flat

TEXT = "/perception_encoder/embed_text"
IMAGE = "/perception_encoder/embed_image"
OPENAI = "/v1/embeddings"
BODY = b'{"text": "a cat"}'
ZIPPED = gzip.compress(BODY, mtime=0)
MAX = 64 * 2**10


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


def members(data: bytes) -> bytes:
    return b"".join(gzip.compress(data[i : i + 5]) for i in range(0, len(data), 5))


def named(data: bytes) -> bytes:
    """A member whose header has a name and a time, as the program gzip writes it."""
    out = io.BytesIO()
    with gzip.GzipFile("body.json", "wb", fileobj=out, mtime=1) as file:
        file.write(data)
    return out.getvalue()


def post(client: TestClient, content: bytes, coding: str, path: str = TEXT, kind: str = "application/json") -> Any:
    return client.post(path, content=content, headers={"content-encoding": coding, "content-type": kind})


@pytest.mark.parametrize(
    ("coding", "compress"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("x-gzip", gzip.compress),
        ("gzip, identity", gzip.compress),
        ("gzip", lambda data: gzip.compress(data, 0)),
        ("gzip", members),
        ("gzip", named),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("identity", bytes),
        ("", bytes),
    ],
)
class TestCodings:
    def test_small_bodies(self, client: TestClient, coding: str, compress: Callable[[bytes], bytes]) -> None:
        expected = client.post(TEXT, content=BODY).json()["embeddings"]
        answer = post(client, compress(BODY), coding)
        assert (answer.status_code, answer.json().get("embeddings")) == (200, expected)

    def test_in_chunks_of_any_size(self, client: TestClient, coding: str, compress: Callable[[bytes], bytes]) -> None:
        content = compress(BODY)
        for size in (1, 7):
            parts = (content[i : i + size] for i in range(0, len(content), size))
            answer = client.post(TEXT, content=parts, headers={"content-encoding": coding})
            assert answer.status_code == 200


def test_each_kind_of_body(client: TestClient) -> None:
    image = flat((255, 0, 0))
    row = client.post(IMAGE, json={"image": base64_image(image)}).json()["embeddings"]
    form = client.build_request("POST", IMAGE, files={"image": image})
    for content, kind in (
        (json.dumps({"image": base64_image(image)}).encode(), "application/json"),
        (image, "image/png"),
        (form.read(), form.headers["content-type"]),
    ):
        assert post(client, gzip.compress(content), "gzip", IMAGE, kind).json()["embeddings"] == row
    assert post(client, gzip.compress(b'{"input": "a"}'), "gzip", OPENAI).status_code == 200


def test_the_key_in_a_compressed_body(make_client: MakeClient) -> None:
    client = make_client(api_keys="key")
    for key, status in (("key", 200), ("wrong", 401)):
        assert (
            post(client, gzip.compress(b'{"text": "a", "api_key": "%s"}' % key.encode()), "gzip").status_code == status
        )


def test_an_empty_body_is_empty(client: TestClient) -> None:
    assert post(client, b"", "gzip").json()["detail"][0]["type"] == "missing"


@pytest.mark.parametrize(
    ("coding", "content"),
    [
        ("gzip", BODY),
        ("gzip", ZIPPED[:-1]),
        ("gzip", ZIPPED[:12]),
        ("gzip", ZIPPED[:-8] + b"\0" * 8),
        ("gzip", ZIPPED + b"x"),
        ("gzip", zlib.compress(BODY)),
        ("gzip", gzip.compress(b"", mtime=0) * 3_000),
        ("deflate", ZIPPED),
        ("deflate", zlib.compress(BODY)[:-1]),
        ("deflate", zlib.compress(BODY) + zlib.compress(BODY)),
        ("deflate", BODY),
    ],
    ids=range(11),
)
def test_damaged_bodies(client: TestClient, coding: str, content: bytes) -> None:
    answer = post(client, content, coding)
    message = f"The body is damaged or incomplete: it is not {coding}, as its Content-Encoding says."
    assert (answer.status_code, answer.json()) == (400, {"message": message})
    assert metric(client, "pe_in_flight_bytes") == 0


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "gzip, br", "x" * 5_000, "*", "\xe9"])
@pytest.mark.parametrize("path", [TEXT, OPENAI])
def test_other_codings(client: TestClient, path: str, coding: str) -> None:
    answer = client.post(path, content=BODY, headers=[(b"content-encoding", coding.encode("latin-1"))])
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "gzip, deflate")
    message = answer.json()["error" if path == OPENAI else "message"]
    assert "Send gzip, deflate, or the body as it is." in str(message)
    assert len(answer.content) < 400
    assert metric(client, "pe_errors_total", error="UnsupportedEncoding") == 1


def test_two_headers_are_one_list(client: TestClient) -> None:
    headers = [("content-encoding", "gzip"), ("content-encoding", "br")]
    assert client.post(TEXT, content=BODY, headers=headers).status_code == 415
    headers = [("content-encoding", "identity"), ("content-encoding", "gzip")]
    assert client.post(TEXT, content=gzip.compress(BODY), headers=headers).status_code == 200


class TestLimits:
    @pytest.mark.parametrize("kind", ["application/json", "image/png", "multipart/form-data; boundary=X", "text/plain"])
    @pytest.mark.parametrize("member", [100 * MAX, MAX // 2])
    def test_a_bomb_is_too_large(self, make_client: MakeClient, kind: str, member: int) -> None:
        client = make_client(max_body_bytes=MAX)
        content = gzip.compress(b" " * member) * 3
        if "X" in kind:
            content = gzip.compress(b"--X\r\nContent-Disposition: form-data; name=a\r\n\r\n") + content
        answer = post(client, content, "gzip", IMAGE, kind)
        message = f"The request's body is larger than the {MAX} bytes allowed when it is decompressed."
        assert (answer.status_code, answer.json()) == (413, {"message": message})
        assert metric(client, "pe_in_flight_bytes") == 0

    def test_the_last_byte_that_is_allowed(self, make_client: MakeClient) -> None:
        client = make_client(max_body_bytes=MAX)
        assert post(client, gzip.compress(BODY + b" " * (MAX - len(BODY))), "gzip").status_code == 200
        assert post(client, gzip.compress(BODY + b" " * (MAX - len(BODY) + 1)), "gzip").status_code == 413

    def test_what_was_sent_is_limited_too(self, make_client: MakeClient) -> None:
        client = make_client(max_body_bytes=MAX)
        assert post(client, gzip.compress(b"") * MAX, "gzip").status_code == 413

    async def test_a_bomb_is_refused_before_it_is_decompressed(self) -> None:
        """A gigabyte in a megabyte: little more than is allowed is ever decompressed."""
        bomb = gzip.compress(bytes(2**30), 1)
        limiter = InFlightLimiter(1, 2**30)
        received = 0

        async def receive() -> Any:
            nonlocal received
            received += 1
            return {"type": "http.request", "body": bomb[(received - 1) << 16 : received << 16], "more_body": True}

        with limiter.admit(lambda _: None) as reservation:
            receive_decoded = decoded(receive, "gzip", reservation, 10 * 2**20)

            async def decode() -> None:
                while True:
                    await receive_decoded()

            with pytest.raises(PayloadTooLarge, match="larger than the 10485760 bytes"):
                await decode()
            assert received <= 2
            assert limiter.bytes <= 10 * 2**20
        assert limiter.bytes == 0

    async def test_the_byte_budget_has_the_decompressed_body(self, app: App) -> None:  # noqa: F811
        """Of 1,500 bytes for all. 1,000 are allowed to one."""
        first, second = queue(), queue()
        coding = {"content-encoding": "gzip", "transfer-encoding": "chunked"}
        content = gzip.compress(b" " * 900)
        waiting = app.post(TEXT, first, coding)
        first.put_nowait(content)
        await asyncio.sleep(0.05)
        other = app.post(TEXT, second, coding)
        second.put_nowait(content)
        assert await other == 429
        first.put_nowait(gzip.compress(b'{"text": "x"}'))
        first.put_nowait(None)
        assert await waiting == 200
