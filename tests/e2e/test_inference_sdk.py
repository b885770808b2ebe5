"""Roboflow's own client, unchanged, against the real stack: every method it has for this model."""

import base64
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from inference_sdk import InferenceConfiguration, InferenceHTTPClient
from inference_sdk.http.errors import HTTPCallErrorError
from PIL import Image

from tests.pictures import PHOTOGRAPHS, base64_image

pytestmark = [
    pytest.mark.triton,
    # Advice on how to send its key, which this server has no use for.
    pytest.mark.filterwarnings("ignore::inference_sdk.config.InferenceSDKGuidanceWarning"),
]

PHOTOGRAPH = PHOTOGRAPHS[0]


@pytest.fixture
def sdk(base_url: str) -> InferenceHTTPClient:
    return InferenceHTTPClient(api_url=base_url, api_key="anything")


def direct(client: httpx2.Client, path: Path) -> list[float]:
    """The embedding of a file, asked for without the SDK."""
    answer = client.post("/perception_encoder/embed_image", json={"image": base64_image(path.read_bytes())})
    return answer.json()["embeddings"][0]  # type: ignore[no-any-return]


def similarity(a: Any, b: Any) -> float:
    return float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("form", ["path", "base64", "pillow", "numpy"])
def test_one_image(sdk: InferenceHTTPClient, client: httpx2.Client, form: str) -> None:
    image: Any = {
        "path": str(PHOTOGRAPH),
        "base64": base64.b64encode(PHOTOGRAPH.read_bytes()).decode(),
        "pillow": Image.open(PHOTOGRAPH).convert("RGB"),
        "numpy": np.asarray(Image.open(PHOTOGRAPH).convert("RGB"))[..., ::-1],  # BGR, as OpenCV reads
    }[form]
    answer = sdk.get_perception_encoder_image_embeddings(image)
    assert list(answer) == ["inference_id", "frame_id", "time", "embeddings"]
    # Pillow images and arrays are sent as JPEG by the SDK, which costs a little.
    assert similarity(answer["embeddings"][0], direct(client, PHOTOGRAPH)) > 0.99


def test_lists_of_images(sdk: InferenceHTTPClient, client: httpx2.Client) -> None:
    paths = list(map(str, PHOTOGRAPHS[:3]))
    one_by_one = sdk.get_perception_encoder_image_embeddings(paths)
    rows = [answer["embeddings"][0] for answer in one_by_one]
    sdk.configure(InferenceConfiguration(max_batch_size=8))
    together = sdk.get_perception_encoder_image_embeddings(paths)
    np.testing.assert_allclose(together["embeddings"], rows, atol=1e-5)
    np.testing.assert_allclose(rows, [direct(client, path) for path in PHOTOGRAPHS[:3]], atol=1e-5)


def test_texts(sdk: InferenceHTTPClient) -> None:
    both = sdk.get_perception_encoder_text_embeddings(["a red circle", "a blue square"])
    one = sdk.get_perception_encoder_text_embeddings("a blue square")
    np.testing.assert_allclose(one["embeddings"], both["embeddings"][1:], atol=1e-5)
    assert np.linalg.norm(one["embeddings"][0]) == pytest.approx(1, abs=1e-5)


def test_the_variant_can_be_named(sdk: InferenceHTTPClient) -> None:
    answer = sdk.get_perception_encoder_text_embeddings("a", perception_encoder_version="PE-Demo-T8-64")
    assert len(answer["embeddings"]) == 1


@pytest.mark.parametrize("transport", ["legacy", "both", "header"])
def test_every_way_to_send_a_key(sdk: InferenceHTTPClient, transport: str) -> None:
    sdk.configure(InferenceConfiguration(api_key_transport=transport))
    assert sdk.get_perception_encoder_text_embeddings("a")["embeddings"]


def test_its_errors_carry_our_words(sdk: InferenceHTTPClient) -> None:
    with pytest.raises(HTTPCallErrorError) as unknown:
        sdk.get_perception_encoder_text_embeddings("a", perception_encoder_version="PE-Core-G14-448")
    assert unknown.value.status_code == 404
    assert "Loaded: PE-Demo-T8-64." in unknown.value.api_message
    with pytest.raises(HTTPCallErrorError) as broken:
        sdk.get_perception_encoder_image_embeddings("AAAA")
    assert broken.value.status_code == 400
    assert broken.value.api_message == "Could not load input image. Cause: Data is not image."
