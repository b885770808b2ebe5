"""Forms: their fields, and parts, headers or delimiters that are odd."""

import asyncio
import base64
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from gateway.http.form import Part
from gateway.http.form_items import sources_of
from gateway.http.headers import URLENCODED
from tests.fakes import FakeEncoder, fake_spec
from tests.gateway.http.conftest import MakeClient
from tests.gateway.http.test_roboflow import COMPARE, EMBED_IMAGE, EMBED_TEXT, GREEN, IMAGE, RED, close, of_colour
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
        "Could not load input image. Cause: Data is not image.",
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


def urlencoded(client: TestClient, path: str, content: bytes | str) -> Any:
    return client.post(path, content=content, headers={"content-type": URLENCODED})


class TestFields:
    """The fields of a form mean what those of JSON mean."""

    @pytest.mark.parametrize("field", ["perception_encoder_version_id", "perception_encoder_version_id[]"])
    def test_the_variant(self, make_client: MakeClient, field: str) -> None:
        client = make_client(FakeEncoder(fake_spec("A"), fake_spec("B")))
        for path, data, files in (
            (EMBED_IMAGE, {}, {"image": flat(RED)}),
            (EMBED_IMAGE, {"image": IMAGE["value"]}, None),
            (EMBED_TEXT, {"text": "a"}, {"other": b""}),
            (EMBED_TEXT, {"text": "a"}, None),
            (COMPARE, {"prompt": "a"}, {"subject": flat(RED)}),
            (COMPARE, {"prompt": "a", "subject": IMAGE["value"]}, None),
        ):
            answer = client.post(path, data={**data, field: "B"}, files=files)
            assert answer.headers["x-model-id"] == "perception_encoder/B", (path, answer.text)
            answer = client.post(path, data={**data, field: "PE-Core-G14-448"}, files=files)
            assert answer.status_code == 404
            # The field is nearer than the query and the header.
            query = "?perception_encoder_version_id=A"
            answer = client.post(path + query, data={**data, field: "B"}, files=files)
            assert answer.headers["x-model-id"] == "perception_encoder/B"
            for empty in ({}, {field: ""}):  # Browsers send the fields that nobody filled in.
                answer = client.post(path + query, data={**data, **empty}, files=files)
                assert answer.headers["x-model-id"] == "perception_encoder/A"

    @pytest.mark.parametrize("files", [{"image": flat(RED)}, None])
    def test_the_others(self, client: TestClient, files: Any) -> None:
        data = {} if files else {"image": IMAGE["value"]}
        ignored = {
            "inference_id": "7",
            "model_id": "x",
            "disable_active_learning": "true",
            "source": "s",
            "start": "1.5",
        }
        answer = client.post(EMBED_IMAGE, data={**data, **ignored, "encoding_format": "base64"}, files=files)
        (row,) = answer.json()["embeddings"]
        np.testing.assert_allclose(np.frombuffer(base64.b64decode(row), "<f4"), of_colour(RED), atol=1e-6)
        answer = client.post(EMBED_IMAGE, data={**data, "usage_billable": "no"}, files=files)
        assert answer.status_code == 200
        answer = client.post(EMBED_IMAGE, data={**data, "usage_billable": "x", "encoding_format": "hex"}, files=files)
        assert answer.status_code == 422
        found = [(entry["type"], entry["loc"], entry["input"]) for entry in answer.json()["detail"]]
        assert found == [
            ("bool_parsing", ["body", "usage_billable"], "x"),
            ("literal_error", ["body", "encoding_format"], "hex"),
        ]

    @pytest.mark.parametrize("files", [{"other": b""}, None])
    def test_what_is_missing_or_wrong_is_named_as_in_json(self, client: TestClient, files: Any) -> None:
        def locations(path: str, data: dict[str, Any]) -> list[list[str]]:
            answer = client.post(path, data={"other": "x", **data}, files=files)
            assert answer.status_code == 422
            return [entry["loc"] for entry in answer.json()["detail"]]

        assert locations(EMBED_TEXT, {}) == [["body", "text"]]
        assert locations(COMPARE, {}) == [["body", "subject"], ["body", "prompt"]]
        assert locations(COMPARE, {"prompt": "a"}) == [["body", "subject"]]
        assert ["body", "subject", "str"] in locations(COMPARE, {"subject": ["a", "b"], "prompt": "a"})
        answer = client.post(EMBED_IMAGE, data={"other": "x"}, files=files)
        assert (answer.status_code, answer.json()) == (400, {"message": "The form has no part named `image`."})

    @pytest.mark.parametrize("files", [{"other": b""}, None])
    def test_fields_are_short_and_utf_8(self, client: TestClient, files: Any) -> None:
        data = {"text": "a", "model_id": "x" * 4097}
        answer = client.post(EMBED_TEXT, data=data, files=files)
        message = "The form's field `model_id` has more than 4096 bytes."
        assert (answer.status_code, answer.json()) == (400, {"message": message})
        for content in (b"text=a&model_id=%ff", b"text=%ff", b"text=\xff"):
            answer = urlencoded(client, EMBED_TEXT, content)
            assert (answer.status_code, answer.json()) == (400, UNREADABLE)


@pytest.mark.parametrize("files", [{"other": b""}, None])
class TestTexts:
    def test_one_or_more(self, client: TestClient, files: Any) -> None:
        texts = ["a & b = c; d", "дом + 猫 🐈 %41", "", "x" * 50_000]
        rows = client.post(EMBED_TEXT, json={"text": texts}).json()["embeddings"]
        for name in ("text", "text[]"):
            assert client.post(EMBED_TEXT, data={name: texts}, files=files).json()["embeddings"] == rows
        assert client.post(EMBED_TEXT, data={"text": texts[1]}, files=files).json()["embeddings"] == rows[1:2]
        numbered = {f"text[{i}]": text for i, text in enumerate(texts)}
        assert client.post(EMBED_TEXT, data=numbered, files=files).json()["embeddings"] == rows

    def test_limits(self, make_client: MakeClient, files: Any) -> None:
        client = make_client(max_text_characters=10, max_items=2)
        answer = client.post(EMBED_TEXT, data={"text": ["a", "b" * 11]}, files=files)
        assert answer.json() == {"message": "A text has 11 characters; at most 10 are allowed."}
        answer = client.post(EMBED_TEXT, data={"text": "b" * 100}, files=files)
        assert answer.json() == {"message": "A text is too long; at most 10 characters are allowed."}
        answer = client.post(EMBED_TEXT, data={"text": ["a"] * 3}, files=files)
        assert answer.json() == {"message": "Too many items: 3 came, at most 2 are allowed."}

    def test_the_key(self, make_client: MakeClient, files: Any) -> None:
        client = make_client(api_keys="key")
        assert client.post(EMBED_TEXT, data={"api_key": "key", "text": "a"}, files=files).status_code == 200
        assert client.post(EMBED_TEXT, data={"text": "a", "api_key": "key"}, files=files).status_code == 200
        for data in ({}, {"api_key": "wrong"}, {"api_key": "k" * 5_000}, {"api_key": ""}, {"x": ["y"] * 70}):
            answer = client.post(EMBED_TEXT, data={"text": "a", **data}, files=files)
            assert (answer.status_code, answer.json()["message"]) == (401, "Unauthorized api_key")
        # Only clients with a key learn what else is wrong.
        wrong: dict[str, Any] = {"text": "a", "api_key": "key", "x": ["y"] * 70}
        assert client.post(EMBED_TEXT, data=wrong, files=files).status_code == 400


def test_the_key_of_a_form_of_images(make_client: MakeClient) -> None:
    client = make_client(api_keys="key")
    for data, status in (({"api_key": "key"}, 200), ({"api_key": "no"}, 401), ({}, 401)):
        assert client.post(EMBED_IMAGE, data=data, files={"image": flat(RED)}).status_code == status
    bearer = {"authorization": "Bearer key"}
    data = {"api_key": "wrong"}  # The first place that has one decides.
    assert client.post(EMBED_IMAGE, data=data, files={"image": flat(RED)}, headers=bearer).status_code == 200
    assert post(client, b"x").status_code == 401


class TestNamesOfImages:
    @pytest.mark.parametrize("name", ["image", "image[]", "image[0]", "images", "images[]", "file", "file[]", "files"])
    def test_files(self, client: TestClient, name: str) -> None:
        files: Any = [(name, ("a.png", flat(RED))), (name, ("b", flat(GREEN), "application/octet-stream"))]
        close(client.post(EMBED_IMAGE, files=files).json()["embeddings"], of_colour(RED), of_colour(GREEN))

    def test_a_file_without_a_name(self, client: TestClient) -> None:
        """As `curl -F 'image=<a.png'` sends it."""
        for name in ("image", "file"):
            part = b'Content-Disposition: form-data; name="%s"\r\n\r\n' % name.encode()
            close(post(client, form(part + flat(RED))).json()["embeddings"], of_colour(RED))

    @pytest.mark.parametrize("content", [b"", b"BM, a text", b"P5 is a model", b"<html>", b"https://example.com/a.png"])
    def test_other_names_are_for_what_is_plainly_an_image(self, client: TestClient, content: bytes) -> None:
        answer = client.post(EMBED_IMAGE, files={"file": content})
        message = "The form's part `file` is not an image file. Send image files in parts named `image`."
        assert (answer.status_code, answer.json()) == (400, {"message": message})
        answer = client.post(EMBED_IMAGE, files={"file": content, "image": flat(RED)})
        close(answer.json()["embeddings"], of_colour(RED))
        assert client.post(EMBED_IMAGE, files={"image": content}).status_code == 400


class TestCompare:
    def test_files_and_texts(self, client: TestClient) -> None:
        texts = {"subject": IMAGE, "prompt": ["a cat", "a dog"]}
        expected = client.post(COMPARE, json=texts).json()["similarity"]
        for data in ({"prompt": ["a cat", "a dog"]}, {"prompt[]": ["a cat", "a dog"], "prompt_type": "text"}):
            answer = client.post(COMPARE, data=data, files={"subject": flat(RED)})
            assert answer.json()["similarity"] == expected
        data = {"prompt": ["a cat", "a dog"], "subject": IMAGE["value"]}
        assert client.post(COMPARE, data=data).json()["similarity"] == expected
        data = {"prompt": ["a cat", "a dog"], "subject": "a cat", "subject_type": "text"}
        assert client.post(COMPARE, data=data).json()["similarity"][0] == pytest.approx(1, abs=1e-6)

    def test_images(self, client: TestClient) -> None:
        """Prompts that are all files need no `prompt_type`."""
        files = [("subject", flat(RED)), ("prompt", flat(GREEN)), ("prompt", flat(RED))]
        for data in ({}, {"prompt_type": "image"}):
            other, same = client.post(COMPARE, data=data, files=files).json()["similarity"]
            assert same == pytest.approx(1, abs=1e-6)
            assert other < 0.99
        # In any mixture, where texts can only be URLs or base64.
        data = {"prompt_type": "image", "prompt": IMAGE["value"]}
        assert len(client.post(COMPARE, data=data, files=files).json()["similarity"]) == 3

    def test_mistakes(self, client: TestClient) -> None:
        subject = ("subject", flat(RED))
        image = {"message": "`prompt` holds an image, but `prompt_type` is `text`."}
        assert client.post(COMPARE, data={"prompt": "a"}, files=[subject, ("prompt", flat(RED))]).json() == image
        data = {"prompt_type": "text"}
        assert client.post(COMPARE, data=data, files=[subject, ("prompt", flat(RED))]).json() == image
        data = {"prompt": "a", "prompt_type": "video"}
        answer = client.post(COMPARE, data=data, files=[subject])
        assert answer.json() == {"message": "`prompt_type` must be `image` or `text`, not 'video'."}
        data = {"prompt": "a", "subject_type": "text"}
        answer = client.post(COMPARE, data=data, files=[subject])
        assert answer.json() == {"message": "`subject` holds an image, but `subject_type` is `text`."}
        files: Any = [subject, ("prompt", flat(RED)), ("prompt", ("x", b"broken"))]
        answer = client.post(COMPARE, files=files)
        assert (answer.status_code, answer.json()["index"]) == (400, 1)


class TestUrlencoded:
    def test_escapes_may_lie_between_pieces(self, client: TestClient) -> None:
        """A piece has 16 kB."""
        expected = client.post(EMBED_TEXT, json={"text": "é=é"}).json()
        for size in range(16_384 - 40, 16_384, 2):
            answer = urlencoded(client, EMBED_TEXT, b"other=" + b"x" * size + b"&text=%c3%a9%3d%C3%A9")
            assert answer.json()["embeddings"] == expected["embeddings"]

    @pytest.mark.parametrize(
        ("content", "text"),
        [
            ("text=a+b", "a b"),
            ("text=a=b;c", "a=b;c"),
            ("&&x&text=a&", "a"),
            ("%74ext=a", "a"),
            ("text=100%", "100%"),
            ("text=100%2", "100%2"),
            ("text=%zz", "%zz"),
            ("text=&x=y", ""),
            ("text", ""),
        ],
    )
    def test_what_is_a_field(self, client: TestClient, content: str, text: str) -> None:
        expected = client.post(EMBED_TEXT, json={"text": text}).json()["embeddings"]
        assert urlencoded(client, EMBED_TEXT, content).json()["embeddings"] == expected

    def test_limits(self, client: TestClient) -> None:
        answer = urlencoded(client, EMBED_TEXT, b"&" * 5_000)
        assert (answer.status_code, answer.json()) == (400, UNREADABLE)
        answer = urlencoded(client, EMBED_IMAGE, b"image=a&" * 1_000)
        assert answer.json() == {"message": "Too many items: 65 came, at most 64 are allowed."}
        answer = urlencoded(client, EMBED_TEXT, b"x=a&" * 1_000)
        assert answer.json() == {"message": "Too many other parts: 65 came, at most 64 are allowed."}
        assert urlencoded(client, EMBED_TEXT, b"x" * 100_000 + b"&text=a").status_code == 200

    @pytest.mark.parametrize("content", [b"", b'{"text": "a"}', b' \n{"text": "a"}', b'[{"image": 1}]'])
    @pytest.mark.parametrize("path", [EMBED_IMAGE, EMBED_TEXT, COMPARE])
    def test_json_is_refused_as_the_incumbent_refuses_it(self, client: TestClient, path: str, content: bytes) -> None:
        """As `curl -d` sends it, without a media type."""
        answer = urlencoded(client, path, content)
        kind = "model_attributes_type" if content else "missing"
        assert (answer.status_code, answer.json()["detail"][0]["type"]) == (422, kind)


def test_openais_routes_have_no_forms(client: TestClient) -> None:
    assert client.post("/v1/embeddings", data={"input": "a"}).status_code == 400


async def test_other_callbacks_run_before_a_part_is_decoded() -> None:
    """A thousand parts that may be URLs take 40 ms."""
    ran: list[int] = []
    asyncio.get_running_loop().call_soon(ran.append, 1)
    await sources_of([Part("image", False, bytearray(b"https://a.b/"))])
    assert ran
