"""Forms whose parts, headers or delimiters are odd."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.gateway.http.conftest import MakeClient
from tests.gateway.http.test_roboflow import EMBED_IMAGE, GREEN, IMAGE, RED, close, of_colour
from tests.pictures import flat

UNREADABLE = {"detail": "There was an error parsing the body"}
FILE = b'Content-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
TEXT = b'Content-Disposition: form-data; name="image"\r\n\r\n'
OTHER = b'Content-Disposition: form-data; name="other"\r\n\r\n'


def form(*parts: bytes, end: bytes = b"--X--\r\n") -> bytes:
    return b"".join(b"--X\r\n" + part + b"\r\n" for part in parts) + end


def post(client: TestClient, content: bytes, options: str = "; boundary=X") -> Any:
    return client.post(EMBED_IMAGE, content=content, headers={"content-type": f"multipart/form-data{options}"})


@pytest.mark.parametrize("charset", ["punycode", "idna", "utf-16", "rot13", "hex", "unknown", "utf-8"])
def test_the_client_does_not_choose_a_codec(client: TestClient, charset: str) -> None:
    options = f"; charset={charset}; boundary=X"
    close(post(client, form(TEXT + IMAGE["value"].encode()), options).json()["embeddings"], of_colour(RED))
    answer = post(client, form(TEXT + b"z-" + b"9" * 50_000), options)
    assert (answer.status_code, answer.json()["message"]) == (
        400,
        "Could not load input image. Cause: Malformed base64 input image.",
    )


def test_a_text_is_utf_8(client: TestClient) -> None:
    answer = post(client, form(TEXT + b"\xff"))
    assert (answer.status_code, answer.json()) == (400, UNREADABLE)
    # Long ones are base64, which has no such characters.
    answer = post(client, form(TEXT + b"\xff" * 100_000))
    assert (answer.status_code, answer.json()["message"][-29:]) == (400, "Malformed base64 input image.")
    answer = post(client, form(TEXT))
    assert (answer.status_code, answer.json()["message"][-20:]) == (400, "Empty image payload.")


def test_a_long_text_is_an_image(client: TestClient) -> None:
    padded = b"data:image/png;base64," + b" " * 100_000 + IMAGE["value"].encode()
    close(post(client, form(TEXT + padded)).json()["embeddings"], of_colour(RED))


def test_delimiters_may_lie_between_pieces(client: TestClient) -> None:
    """A piece has 16 kB."""
    for size in range(16_384 - 120, 16_384 + 4, 3):
        content = form(OTHER + b"x" * size, FILE + flat(RED), FILE + flat(GREEN))
        close(post(client, content).json()["embeddings"], of_colour(RED), of_colour(GREEN))


def test_files_may_contain_what_looks_like_delimiters(client: TestClient) -> None:
    content = form(OTHER + b"\r\n--Y\r\n--X0\r\n--" * 100, FILE + flat(RED))
    close(post(client, content).json()["embeddings"], of_colour(RED))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        form(FILE + flat(RED), end=b""),
        form(FILE + flat(RED), end=b"--X"),
        form(b"\r\n" + flat(RED)),
        form(b"Content-Disposition: form-data\r\n\r\n"),
        form(b"a" * 5_000 + b": b\r\n" + FILE),
        form(b"a: " + b"b" * 5_000 + b"\r\n" + FILE),
        form(b"a: b\r\n" * 9 + FILE),
        form(b"Content-Disposition: form-data" + b";" * 100 + b'name="image"\r\n\r\n'),
        form(OTHER + b"\r\n--X0" * 2_000, FILE + flat(RED)),
        b"--X" + b" " * 20_000,
        form(OTHER, end=b"--X" + b" " * 20_000),
    ],
    ids=lambda value: repr(value[-30:]),
)
def test_what_is_no_form(client: TestClient, content: bytes) -> None:
    answer = post(client, content)
    assert (answer.status_code, answer.json()) == (400, UNREADABLE)


@pytest.mark.parametrize("options", ["", '; boundary=""', "; boundary=" + "X" * 1000, ";" * 1000 + " boundary=X"])
def test_boundaries(client: TestClient, options: str) -> None:
    answer = post(client, form(FILE + flat(RED)), options)
    assert (answer.status_code, answer.json()) == (400, UNREADABLE)


def test_the_number_of_parts(make_client: MakeClient) -> None:
    client = make_client(max_items=2)
    answer = post(client, form(*[FILE + flat(RED)] * 3))
    assert answer.json() == {"message": "Too many items: 3 came, at most 2 are allowed."}
    assert post(client, form(*[OTHER] * 64, *[FILE + flat(RED)] * 2)).status_code == 200
    answer = post(client, form(*[OTHER] * 65, FILE + flat(RED)))
    assert answer.json() == {"message": "Too many other parts: 65 came, at most 64 are allowed."}


def test_other_forms_are_no_json(client: TestClient) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded"}
    answer = client.post(EMBED_IMAGE, content=b"image=a&" * 100_000, headers=kind)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["type"] == "model_attributes_type"
    assert len(answer.content) < 500
