from dataclasses import replace
from typing import Any

import pytest

from deploy.bench.against.interfaces import Convention, Interface, NotOffered, data_uri

PNG, JPEG = b"\x89PNG...", b"\xff\xd8..."
OPENAI = Interface("openai", "clip", images="object")


def test_roboflows_bodies() -> None:
    interface = Interface("roboflow", "PE-Core-B16-224")
    version = {"perception_encoder_version_id": "PE-Core-B16-224"}
    image = {"type": "base64", "value": "iVBORy4uLg=="}
    path, body = interface.images_body([PNG])
    assert (path, body) == ("/perception_encoder/embed_image", {**version, "image": image})
    assert interface.images_body([PNG, PNG])[1]["image"] == [image, image]
    assert interface.texts_body(["a"]) == ("/perception_encoder/embed_text", {**version, "text": "a"})
    assert interface.texts_body(["a", "b"])[1]["text"] == ["a", "b"]
    assert interface.compare_body(PNG, ["a"])[1] == {**version, "subject": image, "prompt": ["a"]}
    assert Interface("roboflow").texts_body(["a"])[1] == {"text": "a"}


@pytest.mark.parametrize(
    ("convention", "expected"),
    [
        ("string", {"input": data_uri(PNG)}),
        ("object", {"input": {"image": data_uri(PNG)}}),
        ("modality", {"input": data_uri(PNG), "modality": "image"}),
        (
            "messages",
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": data_uri(PNG)}}]},
                ]
            },
        ),
    ],
)
def test_openais_images(convention: Convention, expected: dict[str, Any]) -> None:
    path, body = replace(OPENAI, images=convention).images_body([PNG])
    assert path == "/v1/embeddings"
    assert body == {"model": "clip", "encoding_format": "float", **expected}


def test_what_openais_interface_lacks() -> None:
    for interface, files in ((replace(OPENAI, images=None), [PNG]), (replace(OPENAI, images="messages"), [PNG, PNG])):
        with pytest.raises(NotOffered):
            interface.images_body(files)
    with pytest.raises(NotOffered):
        OPENAI.compare_body(PNG, ["a"])


def test_uris_name_the_format() -> None:
    assert data_uri(PNG).startswith("data:image/png;base64,")
    assert data_uri(JPEG).startswith("data:image/jpeg;base64,")


def test_embeddings_are_in_the_order_of_their_index() -> None:
    body = {"data": [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [1, 0]}]}
    assert OPENAI.embeddings(body).tolist() == [[1, 0], [0, 2]]
    assert Interface("roboflow").embeddings({"embeddings": [[1, 2]]}).tolist() == [[1, 2]]


@pytest.mark.parametrize("body", [{"data": [{"embedding": "AAAA"}]}, {"data": [{}]}, {"embeddings": [[1], [1, 2]]}, 1])
def test_other_bodies(body: Any) -> None:
    with pytest.raises(ValueError, match="the response holds no"):
        OPENAI.embeddings(body)
