"""The name of an embedding space, which users store beside embeddings."""

from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from gateway.encoder import EncoderSpec
from gateway.http.app import create_app
from gateway.settings import Settings
from tests.fakes import FakeEncoder, FakeFetch, InlineDecoder, fake_spec
from tests.pictures import base64_image, flat

IMAGE = base64_image(flat((1, 2, 3)))


def spec(vision: str, text: str, **more: str) -> EncoderSpec:
    made = fake_spec()
    return replace(
        made,
        vision=replace(made.vision, certificate={"checkpoint_sha256": vision, **more}),
        text=replace(made.text, certificate={"checkpoint_sha256": text, **more}),
    )


def test_the_weights_of_both_towers_make_the_name() -> None:
    names = {spec(*digests).space_name for digests in (("a", "a"), ("a", "b"), ("b", "a"), ("b", "b"))}
    assert len(names) == 4
    assert all(name.startswith("PE-Fake-T8-16@") for name in names)


def test_engine_and_version_do_not() -> None:
    one = spec("a", "a", precision="fp32")
    other = replace(spec("a", "a", precision="fp16"), vision=replace(one.vision, version="7", max_batch_size=2))
    assert one.space_name == other.space_name


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/perception_encoder/embed_image", {"image": IMAGE}),
        ("/perception_encoder/embed_text", {"text": "a"}),
        ("/perception_encoder/compare", {"subject": IMAGE, "prompt": ["a"]}),
        ("/perception_encoder/classify", {"image": IMAGE, "classes": ["a"]}),
        ("/v1/embeddings", {"input": "a"}),
    ],
)
def test_every_answer_names_it_as_info_does(path: str, body: dict[str, object]) -> None:
    with TestClient(create_app(Settings(), FakeEncoder(), FakeFetch(), InlineDecoder())) as client:
        named = client.post(path, json=body).headers["x-embedding-space"]
        (model,) = client.get("/info").json()["models"].values()
    assert named == model["embedding_space"] == fake_spec().space_name
