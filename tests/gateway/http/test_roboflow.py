"""Roboflow's three endpoints. The rows of cases also document the responses."""

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import BaseModel
from starlette.testclient import TestClient

from gateway.http.roboflow_wire import CompareRequest, EmbedImageRequest, EmbedTextRequest
from tests.fakes import FakeEncoder, FakeFetch, fake_spec, unit_vector
from tests.gateway.http.conftest import MakeClient
from tests.pictures import base64_image, encoded, flat

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
IMAGE = base64_image(flat(RED))
BAD_IMAGE = {"type": "base64", "value": "AAAA"}

EMBED_IMAGE = "/perception_encoder/embed_image"
EMBED_TEXT = "/perception_encoder/embed_text"
COMPARE = "/perception_encoder/compare"


def of_colour(colour: tuple[int, int, int]) -> list[float]:
    return unit_vector(np.array(colour)).tolist()  # type: ignore[no-any-return]


def close(answer: list[list[float]], *expected: list[float]) -> None:
    np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-6)


class TestEmbedImage:
    @pytest.mark.parametrize("image", [IMAGE, [IMAGE]])
    def test_one_image_is_a_list_of_one_row(self, client: TestClient, image: Any) -> None:
        answer = client.post(EMBED_IMAGE, json={"image": image})
        assert answer.status_code == 200
        assert list(answer.json()) == ["inference_id", "frame_id", "time", "embeddings"]
        assert answer.json()["inference_id"] is None
        assert answer.json()["time"] > 0
        assert answer.headers["x-model-id"] == "perception_encoder/PE-Fake-T8-16"
        close(answer.json()["embeddings"], of_colour(RED))

    def test_a_list_keeps_its_order_whatever_its_length(self, make_client: MakeClient) -> None:
        colours = [(10 * i, 0, 255 - 10 * i) for i in range(21)]
        encoder = FakeEncoder(fake_spec(max_batch_size=4))
        answer = make_client(encoder).post(EMBED_IMAGE, json={"image": [base64_image(flat(c)) for c in colours]})
        close(answer.json()["embeddings"], *map(of_colour, colours))
        assert sorted(n for _, n in encoder.batches) == [1, 4, 4, 4, 4, 4]

    def test_urls_are_fetched(self, make_client: MakeClient) -> None:
        client = make_client(fetch=FakeFetch({"https://example.com/blue.png": flat(BLUE), "https://a.b/x": b"Gone"}))
        answer = client.post(EMBED_IMAGE, json={"image": {"type": "url", "value": "https://example.com/blue.png"}})
        close(answer.json()["embeddings"], of_colour(BLUE))
        answer = client.post(EMBED_IMAGE, json={"image": {"type": "url", "value": "https://a.b/x"}})
        assert answer.status_code == 400
        assert answer.json() == {"message": "Could not load input image. Cause: Data is not image."}

    def test_unknown_fields_are_ignored(self, client: TestClient) -> None:
        body = {"image": {**IMAGE, "x": 1}, "model_id": "clip/ViT-B-16", "api_key": "k", "id": "7", "what": [1]}
        assert client.post(EMBED_IMAGE, json=body).status_code == 200

    @pytest.mark.parametrize(
        ("image", "cause"),
        [
            (BAD_IMAGE, "Data is not image."),
            ({"type": "base64", "value": "A"}, "Malformed base64 input image."),
            ({"type": "base64", "value": ""}, "Empty image payload."),
            ({"type": "base64"}, "An image of type `base64` needs a string as its `value`."),
            ({"type": "base64", "value": "\ud800"}, "Malformed base64 input image."),
            ({"type": "jpeg", "value": "AAAA"}, "Image declaration contains not recognised image type."),
            ({"type": "file", "value": "/etc/passwd"}, "Loading images from local filesystem is disabled."),
            (
                {"type": "numpy", "value": "AAAA"},
                "NumPy image type is not supported in this configuration of `inference`.",
            ),
            (
                {"type": "url", "value": "https://example.com/missing.png"},
                "Data pointed by URL could not be decoded into image.",
            ),
        ],
    )
    def test_bad_images(self, client: TestClient, image: Any, cause: str) -> None:
        message = f"Could not load input image. Cause: {cause}"
        # The client's own encoder refuses the surrogate.
        answer = client.post(EMBED_IMAGE, content=json.dumps({"image": image}))
        assert (answer.status_code, answer.json()) == (400, {"message": message})
        answer = client.post(EMBED_IMAGE, content=json.dumps({"image": [IMAGE, image]}))
        assert (answer.status_code, answer.json()) == (400, {"message": message, "index": 1})

    def test_none_and_too_many(self, make_client: MakeClient) -> None:
        client = make_client(max_items=2)
        answer = client.post(EMBED_IMAGE, json={"image": []})
        assert (answer.status_code, answer.json()) == (400, {"message": "The list of images is empty."})
        answer = client.post(EMBED_IMAGE, json={"image": [IMAGE] * 3})
        assert answer.status_code == 400
        assert answer.json() == {"message": "Too many items: 3 came, at most 2 are allowed."}

    def test_numpy_where_it_is_allowed(self, make_client: MakeClient) -> None:
        array = np.full((4, 6, 3), BLUE[::-1], np.uint8)  # BGR, as OpenCV has it
        value = base64.b64encode(array.dumps()).decode()
        answer = make_client(allow_numpy_input=True).post(
            EMBED_IMAGE, json={"image": {"type": "numpy", "value": value}}
        )
        close(answer.json()["embeddings"], of_colour(BLUE))


class TestImageFiles:
    """Image files without base64, which is a quarter less traffic."""

    @pytest.mark.parametrize("content_type", ["image/png", "image/jpeg", "IMAGE/*; q=1"])
    def test_as_the_body(self, client: TestClient, content_type: str) -> None:
        answer = client.post(EMBED_IMAGE, content=flat(RED), headers={"content-type": content_type})
        assert answer.status_code == 200
        close(answer.json()["embeddings"], of_colour(RED))

    @pytest.mark.parametrize(
        "content_type",
        ["application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded", "text/plain", None],
    )
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
    def test_as_a_body_of_no_telling_type(self, client: TestClient, content_type: str | None, kind: str) -> None:
        """What is plainly an image is one. curl declares a form if it is told nothing else."""
        content = io.BytesIO()
        Image.new("RGB", (8, 8), RED).save(content, kind)
        request = client.build_request("POST", EMBED_IMAGE, content=content.getvalue())
        if content_type:
            request.headers["content-type"] = content_type
        answer = client.send(request)
        assert answer.status_code == 200, answer.text
        declared = client.post(EMBED_IMAGE, content=content.getvalue(), headers={"content-type": "image/*"})
        assert answer.json()["embeddings"] == declared.json()["embeddings"]

    @pytest.mark.parametrize("content_type", ["application/octet-stream", "binary/octet-stream"])
    @pytest.mark.parametrize("content", [b"", b"no image", b"\0" * 100_000, b'{"image": "x"}'])
    def test_other_bytes_are_told_what_to_send(self, client: TestClient, content_type: str, content: bytes) -> None:
        answer = client.post(EMBED_IMAGE, content=content, headers={"content-type": content_type})
        message = (
            f"The body is {content_type}, and not an image file. Send an image file, a form with image files in parts "
            "named `image`, or JSON with `Content-Type: application/json`."
        )
        assert (answer.status_code, answer.json()) == (400, {"message": message})

    def test_a_format_that_is_not_read_is_the_decoders_to_name(self, client: TestClient) -> None:
        headers = {"content-type": "application/octet-stream"}
        answer = client.post(EMBED_IMAGE, content=b"%PDF-1.7 ...", headers=headers)
        assert answer.status_code == 400
        assert answer.json()["message"].startswith("Could not load input image. Cause: ")

    def test_a_body_of_no_telling_type_needs_its_key_in_the_head(self, make_client: MakeClient) -> None:
        client = make_client(api_keys="key")
        for kind in ("application/octet-stream", "application/x-www-form-urlencoded", ""):
            headers = {"content-type": kind}
            assert client.post(EMBED_IMAGE, content=flat(RED), headers=headers).status_code == 401
            headers["authorization"] = "Bearer key"
            assert client.post(EMBED_IMAGE, content=flat(RED), headers=headers).status_code == 200

    def test_a_body_whose_start_comes_in_pieces(self, client: TestClient) -> None:
        content = flat(RED)
        pieces = (content[i : i + 1] for i in range(len(content)))
        answer = client.post(EMBED_IMAGE, content=pieces, headers={"content-type": "application/octet-stream"})
        close(answer.json()["embeddings"], of_colour(RED))

    def test_as_parts_of_a_form_in_order(self, client: TestClient) -> None:
        big = np.random.default_rng(0).integers(
            0, 256, (900, 900, 3), np.uint8
        )  # larger than a spooled file keeps in memory
        files = [("image", (f"{i}.png", flat(c))) for i, c in enumerate((RED, GREEN))]
        files.append(("image", ("big.png", encoded(Image.fromarray(big)))))
        answer = client.post(EMBED_IMAGE, files=files)
        assert answer.status_code == 200
        rows = answer.json()["embeddings"]
        assert len(rows) == 3
        close(rows[:2], of_colour(RED), of_colour(GREEN))

    def test_a_part_may_be_text(self, client: TestClient) -> None:
        answer = client.post(EMBED_IMAGE, data={"image": IMAGE["value"]}, files={"other": b"x"})
        close(answer.json()["embeddings"], of_colour(RED))

    def test_the_variant_comes_by_query_or_header(self, make_client: MakeClient) -> None:
        client = make_client(FakeEncoder(fake_spec("A"), fake_spec("B")))
        png = {"content-type": "image/png"}
        by_query = client.post(EMBED_IMAGE + "?perception_encoder_version_id=B", content=flat(RED), headers=png)
        assert by_query.headers["x-model-id"] == "perception_encoder/B"
        header = {"x-perception-encoder-version-id": "A"}
        assert client.post(EMBED_IMAGE, files={"image": flat(RED)}, headers=header).headers["x-model-id"][-1] == "A"

    def test_mistakes(self, client: TestClient) -> None:
        answer = client.post(EMBED_IMAGE, content=b"", headers={"content-type": "image/png"})
        assert (answer.status_code, answer.json()) == (
            400,
            {"message": "Could not load input image. Cause: Data is not image."},
        )
        answer = client.post(EMBED_IMAGE, files={"picture": flat(RED)})
        assert (answer.status_code, answer.json()) == (400, {"message": "The form has no part named `image`."})
        for content_type in ("multipart/form-data", "multipart/form-data; boundary=x"):
            answer = client.post(EMBED_IMAGE, content=b"\x00" * 99, headers={"content-type": content_type})
            assert answer.status_code == 400
        answer = client.post(EMBED_IMAGE, files=[("image", flat(RED)), ("image", b"broken")])
        assert answer.json()["index"] == 1
        answer = client.post(EMBED_IMAGE, data={"image": [IMAGE["value"], ""]}, files={"other": b"x"})
        message = "Could not load input image. Cause: Empty image payload."
        assert (answer.status_code, answer.json()) == (400, {"message": message, "index": 1})


class TestFormats:
    """Formats of embeddings in responses."""

    @pytest.mark.parametrize(
        "accept", ["application/x-npy", "Application/X-NPY, */*", "application/x-npy;q=1, application/json"]
    )
    def test_as_an_array_file(self, client: TestClient, accept: str) -> None:
        for path, body in ((EMBED_IMAGE, {"image": [IMAGE] * 2}), (EMBED_TEXT, {"text": ["a", "b"]})):
            answer = client.post(path, json=body, headers={"accept": accept})
            assert answer.headers["content-type"] == "application/x-npy"
            array = np.load(io.BytesIO(answer.content), allow_pickle=False)
            assert (array.dtype, array.shape) == (np.dtype("<f4"), (2, 8))
            np.testing.assert_array_equal(array, np.float32(client.post(path, json=body).json()["embeddings"]))

    @pytest.mark.parametrize("accept", ["*/*", "application/json", "application/json, application/x-npy", "", "x"])
    def test_as_json_otherwise(self, client: TestClient, accept: str) -> None:
        answer = client.post(EMBED_TEXT, json={"text": "a"}, headers={"accept": accept})
        assert answer.headers["content-type"] == "application/json"

    def test_compare_has_no_array(self, client: TestClient) -> None:
        body = {"subject": IMAGE, "prompt": "a cat"}
        assert client.post(COMPARE, json=body, headers={"accept": "application/x-npy"}).status_code == 406
        assert client.post(COMPARE, json=body, headers={"accept": "application/x-npy, */*"}).status_code == 200

    def test_in_base64(self, client: TestClient) -> None:
        body = {"text": ["a", "b"], "encoding_format": "base64"}
        texts = client.post(EMBED_TEXT, json=body).json()["embeddings"]
        numbers = client.post(EMBED_TEXT, json={**body, "encoding_format": "float"}).json()["embeddings"]
        for text, row in zip(texts, numbers, strict=True):
            np.testing.assert_array_equal(np.frombuffer(base64.b64decode(text), "<f4"), np.float32(row))
        assert client.post(EMBED_TEXT, json={**body, "encoding_format": "hex"}).status_code == 422


class TestEmbedText:
    def test_a_string_and_lists(self, client: TestClient) -> None:
        rows = client.post(EMBED_TEXT, json={"text": ["a cat", "a dog", "a cat"]}).json()["embeddings"]
        assert rows[0] == rows[2] != rows[1]
        assert client.post(EMBED_TEXT, json={"text": "a dog"}).json()["embeddings"] == [rows[1]]
        assert client.post(EMBED_TEXT, json={"text": []}).json()["embeddings"] == []

    @pytest.mark.parametrize("text", ["", "   ", "\x00", "\ud800", "<end_of_text>", "дом 猫 🐈"])
    def test_odd_texts_are_texts(self, client: TestClient, text: str) -> None:
        answer = client.post(EMBED_TEXT, content=json.dumps({"text": [text, "a cat"]}))
        assert answer.status_code == 200
        assert len(answer.json()["embeddings"]) == 2

    def test_truncation_is_reported(self, client: TestClient) -> None:
        answer = client.post(EMBED_TEXT, json={"text": ["cat " * 7, "cat " * 6, "cat " * 9000]})
        assert answer.headers["x-truncated"] == "0,2"
        assert "x-truncated" not in client.post(EMBED_TEXT, json={"text": "cat"}).headers

    def test_limits(self, make_client: MakeClient) -> None:
        client = make_client(max_text_characters=10, max_items=2)
        answer = client.post(EMBED_TEXT, json={"text": ["a", "b" * 11]})
        assert answer.status_code == 400
        assert answer.json() == {"message": "A text has 11 characters; at most 10 are allowed."}
        assert client.post(EMBED_TEXT, json={"text": ["a"] * 3}).status_code == 400

    def test_texts_have_a_limit_of_their_own(self, make_client: MakeClient) -> None:
        client = make_client(max_texts=80)
        assert len(client.post(EMBED_TEXT, json={"text": ["a"] * 80}).json()["embeddings"]) == 80
        answer = client.post(EMBED_TEXT, json={"text": ["a"] * 81})
        assert answer.json() == {"message": "Too many items: 81 came, at most 80 are allowed."}
        assert client.post(EMBED_IMAGE, json={"image": [IMAGE] * 65}).status_code == 400
        client = make_client(max_texts=3)
        assert client.post(EMBED_IMAGE, json={"image": [IMAGE] * 4}).status_code == 200
        answer = client.post(EMBED_TEXT, json={"text": ["a"] * 4})
        assert answer.json() == {"message": "Too many texts: 4 came, at most 3 are allowed."}


class TestCompare:
    def test_image_to_texts_and_back(self, client: TestClient) -> None:
        answer = client.post(COMPARE, json={"subject": IMAGE, "prompt": ["a cat", "a dog"]})
        assert answer.status_code == 200
        assert list(answer.json()) == ["inference_id", "frame_id", "time", "similarity", "parent_id"]
        cat, dog = client.post(EMBED_TEXT, json={"text": ["a cat", "a dog"]}).json()["embeddings"]
        red = of_colour(RED)
        expected = [float(np.dot(red, cat)), float(np.dot(red, dog))]
        np.testing.assert_allclose(answer.json()["similarity"], expected, atol=1e-6)
        body = {"subject": "a cat", "subject_type": "text", "prompt": [IMAGE], "prompt_type": "image"}
        np.testing.assert_allclose(client.post(COMPARE, json=body).json()["similarity"], expected[:1], atol=1e-6)

    @pytest.mark.parametrize("subject", [IMAGE, IMAGE["value"], "data:image/png;base64," + IMAGE["value"]])
    def test_image_to_images(self, client: TestClient, subject: Any) -> None:
        body = {"subject": subject, "prompt": [base64_image(flat(GREEN)), IMAGE], "prompt_type": "image"}
        other, same = client.post(COMPARE, json=body).json()["similarity"]
        assert same == pytest.approx(1, abs=1e-6)
        assert other < 0.99

    def test_truncation_is_reported(self, client: TestClient) -> None:
        for body, expected in (
            ({"subject": IMAGE, "prompt": ["cat", "cat " * 9]}, "1"),
            ({"subject": "cat " * 9, "subject_type": "text", "prompt": "cat"}, "subject"),
            ({"subject": "cat " * 9, "subject_type": "text", "prompt": {"a": "cat " * 9, "b": "a"}}, "subject,0"),
            ({"subject": IMAGE, "prompt": ["cat"]}, None),
        ):
            assert client.post(COMPARE, json=body).headers.get("x-truncated") == expected

    def test_text_to_texts_in_one_batch(self, make_client: MakeClient) -> None:
        encoder = FakeEncoder()
        body = {"subject": "a cat", "subject_type": "text", "prompt": ["a dog", "a cat"]}
        other, same = make_client(encoder).post(COMPARE, json=body).json()["similarity"]
        assert same == pytest.approx(1, abs=1e-6)
        assert other < 0.99
        assert encoder.batches == [("texts", 2)]  # The subject is one of the prompts.

    @pytest.mark.parametrize(
        ("prompt", "prompt_type", "expected"),
        [
            ("a cat", "text", 1),
            (["a cat", "a dog", "a cow"], "text", 3),
            ([], "text", 0),
            ({"b": "a cat", "a": "a dog", "": "a cow", "日本": "x"}, "text", ["b", "a", "", "日本"]),
            ({"type": "a dog", "other": "a cat"}, "text", ["type", "other"]),
            ({"value": "a dog"}, "text", ["value"]),
            (IMAGE, "image", 1),
            ([IMAGE, IMAGE], "image", 2),
            ([IMAGE["value"]], "image", 1),
            (IMAGE["value"], "image", 1),
            ({"z": IMAGE, "y": IMAGE["value"]}, "image", ["z", "y"]),
        ],
    )
    def test_prompt_forms(self, client: TestClient, prompt: Any, prompt_type: str, expected: Any) -> None:
        answer = client.post(COMPARE, json={"subject": IMAGE, "prompt": prompt, "prompt_type": prompt_type})
        assert answer.status_code == 200
        similarity = answer.json()["similarity"]
        assert (len(similarity) if isinstance(expected, int) else list(similarity)) == expected

    def test_no_prompts_keep_their_form(self, client: TestClient) -> None:
        assert client.post(COMPARE, json={"subject": IMAGE, "prompt": {}}).json()["similarity"] == {}
        assert client.post(COMPARE, json={"subject": IMAGE, "prompt": []}).json()["similarity"] == []

    def test_a_key_that_only_json_escapes_can_say(self, client: TestClient) -> None:
        answer = client.post(COMPARE, content=json.dumps({"subject": IMAGE, "prompt": {"\ud800": "a cat"}}))
        assert answer.status_code == 200
        assert list(answer.json()["similarity"]) == ["\ud800"]

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ({"subject_type": "Image"}, "`subject_type` must be `image` or `text`, not 'Image'."),
            ({"prompt_type": "video"}, "`prompt_type` must be `image` or `text`, not 'video'."),
            ({"subject_type": "text"}, "`subject` holds an image, but `subject_type` is `text`."),
            ({"prompt": [IMAGE]}, "`prompt` holds an image, but `prompt_type` is `text`."),
            ({"prompt": {"type": "a dog", "value": "a cat"}}, "`prompt` holds an image, but `prompt_type` is `text`."),
            (
                {"subject": "not an image"},
                "Could not load input image. Cause: Data is not image.",
            ),
            (
                {"prompt": "/etc/passwd", "prompt_type": "image"},
                "Could not load input image. Cause: Data is not image.",
            ),
            ({"prompt": [], "prompt_type": "image"}, "There are no images in `prompt`."),
            ({"prompt": {}, "prompt_type": "image"}, "There are no images in `prompt`."),
            ({"prompt": ["x"] * 2049}, "Too many prompts: 2049 came, at most 2048 are allowed."),
            (
                {"prompt": [IMAGE] * 65, "prompt_type": "image"},
                "Too many images: 65 came, at most 64 are allowed.",
            ),
        ],
    )
    def test_mistakes(self, client: TestClient, body: Any, message: str) -> None:
        answer = client.post(COMPARE, json={"subject": IMAGE, "prompt": "a cat", **body})
        assert (answer.status_code, answer.json()) == (400, {"message": message})

    def test_the_index_is_the_prompts(self, client: TestClient) -> None:
        body = {"subject": IMAGE, "prompt": [IMAGE, IMAGE, BAD_IMAGE], "prompt_type": "image"}
        assert client.post(COMPARE, json=body).json()["index"] == 2
        body["prompt"] = [IMAGE, {"type": "x"}]
        assert client.post(COMPARE, json=body).json()["index"] == 1


class TestVariants:
    def test_the_only_one_answers(self, client: TestClient) -> None:
        assert client.post(EMBED_TEXT, json={"text": "a"}).headers["x-model-id"].endswith("/PE-Fake-T8-16")
        body = {"text": "a", "perception_encoder_version_id": None}
        assert client.post(EMBED_TEXT, json=body).status_code == 200

    def test_of_several_the_one_asked_for(self, make_client: MakeClient) -> None:
        client = make_client(FakeEncoder(fake_spec("A"), fake_spec("B")))
        for variant in ("A", "B"):
            answer = client.post(EMBED_TEXT, json={"text": "a", "perception_encoder_version_id": variant})
            assert answer.headers["x-model-id"] == f"perception_encoder/{variant}"
        answer = client.post(EMBED_TEXT, json={"text": "a"})
        assert answer.status_code == 400
        assert answer.json()["message"] == "Several models are loaded, so the request must name one: A, B."

    @pytest.mark.parametrize(
        ("loaded", "settings", "expected"),
        [
            (["A", "B"], {"default_variant": "B"}, "B"),
            (["A", "PE-Core-L14-336"], {}, "PE-Core-L14-336"),
            (["A"], {"default_variant": ""}, "A"),
        ],
    )
    def test_defaults(self, make_client: MakeClient, loaded: list[str], settings: Any, expected: str) -> None:
        client = make_client(FakeEncoder(*map(fake_spec, loaded)), **settings)
        answer = client.post(EMBED_TEXT, json={"text": "a"})
        assert answer.headers["x-model-id"] == f"perception_encoder/{expected}"

    @pytest.mark.parametrize(
        ("variant", "status"), [("pe-fake-t8-16", 404), ("", 404), ("..", 404), ("a/b", 400), ("x" * 9999, 404)]
    )
    def test_unknown_ones_say_what_is_loaded(self, client: TestClient, variant: str, status: int) -> None:
        answer = client.post(EMBED_TEXT, json={"text": "a", "perception_encoder_version_id": variant})
        assert answer.status_code == status
        assert len(answer.json()["message"]) < 300
        if status == 404:
            assert "Loaded: PE-Fake-T8-16." in answer.json()["message"]

    def test_an_unloaded_default_is_not_replaced_by_another(self, make_client: MakeClient) -> None:
        assert make_client(default_variant="B").post(EMBED_TEXT, json={"text": "a"}).status_code == 404


MISSING_IMAGE = {"type": "missing", "loc": ["body", "image"], "msg": "Field required"}
WHOLE_BODY = {"type": "missing", "loc": ["body"], "msg": "Field required", "input": None}


class TestBodies:
    @pytest.mark.parametrize(
        "content_type",
        ["application/json", "APPLICATION/JSON; charset=utf-8", "application/vnd.api+json", None],
    )
    def test_json_by_media_type_or_without_one(self, client: TestClient, content_type: str | None) -> None:
        request = client.build_request("POST", EMBED_TEXT, content=b'{"text": "a"}')
        if content_type:
            request.headers["content-type"] = content_type
        assert client.send(request).status_code == 200

    @pytest.mark.parametrize(
        ("content", "detail"),
        [
            (b"", [WHOLE_BODY]),
            (b"null", [WHOLE_BODY]),
            (b"{}", [MISSING_IMAGE]),
            (
                b"{,}",
                [
                    {
                        "type": "json_invalid",
                        "loc": ["body", 1],
                        "msg": "JSON decode error",
                        "ctx": {"error": "Expecting property name enclosed in double quotes"},
                    }
                ],
            ),
            (b"\xff\xfe\xfd", "There was an error parsing the body"),
            (b"[" * 10_000, "There was an error parsing the body"),
            (b'{"x":' + b"[" * 100_000, "There was an error parsing the body"),
            (b'{"image": ' + b"1" * 10_000 + b"}", "There was an error parsing the body"),
        ],
        ids=lambda value: repr(value)[:20],
    )
    def test_bodies_that_do_not_fit(self, client: TestClient, content: bytes, detail: Any) -> None:
        answer = client.post(EMBED_IMAGE, content=content)
        assert answer.status_code == (400 if isinstance(detail, str) else 422)
        assert answer.json() == {"detail": detail}

    @pytest.mark.parametrize(
        ("path", "body", "locations"),
        [
            (
                EMBED_IMAGE,
                {"image": "AAAA"},
                [["image", "list[InferenceRequestImage]"], ["image", "InferenceRequestImage"]],
            ),
            (
                EMBED_IMAGE,
                {"image": {"value": "AAAA"}},
                [["image", "list[InferenceRequestImage]"], ["image", "InferenceRequestImage", "type"]],
            ),
            (EMBED_TEXT, {"text": 5}, [["text", "list[str]"], ["text", "str"]]),
            (EMBED_TEXT, {"text": None}, [["text", "list[str]"], ["text", "str"]]),
            (EMBED_TEXT, {"text": ["a", 1]}, [["text", "list[str]", 1], ["text", "str"]]),
            (EMBED_TEXT, {"text": "a", "perception_encoder_version_id": 7}, [["perception_encoder_version_id"]]),
            (EMBED_TEXT, {"text": "a", "id": 7}, [["id"]]),
            (EMBED_TEXT, {"text": "a", "id": 7, "usage_billable": "x"}, [["id"], ["usage_billable"]]),
            (
                COMPARE,
                {"subject": [IMAGE], "prompt": "a"},
                [["subject", "InferenceRequestImage"], ["subject", "str"]],
            ),
            (
                COMPARE,
                {"subject": IMAGE, "prompt": 5},
                [
                    ["prompt", "list[InferenceRequestImage]"],
                    ["prompt", "InferenceRequestImage"],
                    ["prompt", "str"],
                    ["prompt", "list[str]"],
                    ["prompt", "dict[str,union[InferenceRequestImage,str]]"],
                ],
            ),
        ],
    )
    def test_validation_names_the_place(
        self, client: TestClient, path: str, body: Any, locations: list[list[Any]]
    ) -> None:
        answer = client.post(path, json=body)
        assert answer.status_code == 422
        assert [entry["loc"] for entry in answer.json()["detail"]] == [["body", *loc] for loc in locations]

    @pytest.mark.parametrize(
        ("path", "wire", "required"),
        [
            (EMBED_IMAGE, EmbedImageRequest, {"image": IMAGE}),
            (EMBED_TEXT, EmbedTextRequest, {"text": "a"}),
            (COMPARE, CompareRequest, {"subject": IMAGE, "prompt": ["a"]}),
        ],
    )
    def test_null_is_the_default(
        self, client: TestClient, path: str, wire: type[BaseModel], required: dict[str, Any]
    ) -> None:
        nulls = dict.fromkeys(wire.model_fields.keys() - required.keys())
        answer = client.post(path, json=nulls | required)
        assert answer.status_code == 200, answer.text
        without = client.post(path, json=required).json()
        assert answer.json() | {"time": 0} == without | {"time": 0}

    def test_payloads_are_not_echoed(self, client: TestClient) -> None:
        answer = client.post(EMBED_IMAGE, json={"image": "A" * 100_000})
        assert answer.status_code == 422
        assert len(answer.content) < 1_000
        answer = client.post(EMBED_IMAGE, content=b"\x00" * 100_000, headers={"content-type": "text/plain"})
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["type"] == "model_attributes_type"
        assert len(answer.content) < 1_000

    @pytest.mark.parametrize("query", ["countinference=maybe", "api_key=x&countinference=7"])
    def test_the_incumbents_query_is_validated(self, client: TestClient, query: str) -> None:
        answer = client.post(f"{EMBED_TEXT}?{query}", json={"text": "a"})
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["query", "countinference"]
        assert client.post(f"{EMBED_TEXT}?countinference=False&api_key=x&z=1", json={"text": "a"}).status_code == 200

    def test_nan_and_repeated_keys_are_taken_as_python_takes_them(self, client: TestClient) -> None:
        answer = client.post(EMBED_TEXT, content=b'{"text": 5, "start": NaN, "text": "a"}')
        assert answer.status_code == 200
