"""Zero-shot classification by HTTP."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.fakes import FakeEncoder, fake_spec
from tests.gateway.http.conftest import MakeClient
from tests.pictures import base64_image, flat

CLASSIFY = "/perception_encoder/classify"
RED = base64_image(flat((255, 0, 0)))
BLUE = base64_image(flat((0, 0, 255)))
CLASSES = ["cat", "dog", "horse", "bird", "car", "boat", "train"]


def ask(client: TestClient, **body: Any) -> Any:
    answer = client.post(CLASSIFY, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def embed(client: TestClient, **body: Any) -> Any:
    route = "embed_image" if "image" in body else "embed_text"
    return np.array(client.post(f"/perception_encoder/{route}", json=body).json()["embeddings"])


def test_the_answer_is_what_the_embeddings_give(client: TestClient) -> None:
    images, texts = embed(client, image=[RED, BLUE]), embed(client, text=CLASSES)
    cosines = images @ texts.T
    odds = np.exp(10 * cosines)  # the fake's logit scale
    expected = odds / odds.sum(axis=1, keepdims=True)
    found = ask(client, image=[RED, BLUE], classes=CLASSES, top_k=99)
    assert len(found) == 2
    for row, probabilities, similarities in zip(found, expected, cosines, strict=True):
        assert [list(prediction) for prediction in row] == [["class", "probability", "similarity"]] * len(CLASSES)
        order = np.argsort(-probabilities)
        assert [prediction["class"] for prediction in row] == [CLASSES[place] for place in order]
        np.testing.assert_allclose([p["probability"] for p in row], probabilities[order], rtol=1e-5)
        np.testing.assert_allclose([p["similarity"] for p in row], similarities[order], atol=1e-6)


def test_one_image_is_a_list_of_one_and_five_classes_are_answered(client: TestClient) -> None:
    (row,) = ask(client, image=RED, classes=CLASSES)
    assert len(row) == 5
    assert row == ask(client, image=[RED], classes=CLASSES, top_k=7)[0][:5]
    assert len(ask(client, image=RED, classes=CLASSES, top_k=2)[0]) == 2
    assert ask(client, image=RED, classes=["cat"])[0][0]["probability"] == 1


def test_a_template_makes_the_prompts(client: TestClient) -> None:
    plain = ask(client, image=RED, classes={"cat": "a cat", "dog": "a dog"})
    assert ask(client, image=RED, classes=["cat", "dog"], template="a {}") == plain
    several = ask(client, image=RED, classes={"cat": ["a cat", "the cat"], "dog": ["a dog", "the dog"]})
    assert ask(client, image=RED, classes=["cat", "dog"], template=["a {}", "the {}"]) == several
    assert several != plain


def test_class_embeddings_come_from_the_cache(make_client: MakeClient) -> None:
    encoder = FakeEncoder()
    client = make_client(encoder)
    client.post("/perception_encoder/embed_text", json={"text": CLASSES})
    encoder.batches.clear()
    ask(client, image=RED, classes=CLASSES)
    assert encoder.batches == [("images", 1)]


def test_long_prompts_are_listed_by_their_class(client: TestClient) -> None:
    long = "word " * 100
    classes = {"cat": ["cat"], "dog": ["dog", long], "horse": long}
    answer = client.post(CLASSIFY, json={"image": RED, "classes": classes})
    assert answer.headers["x-truncated"] == "1,2"
    assert answer.headers["x-model-id"] == "perception_encoder/PE-Fake-T8-16"
    assert "x-truncated" not in client.post(CLASSIFY, json={"image": RED, "classes": ["cat"]}).headers


def test_forms(client: TestClient) -> None:
    files = [("image", ("a.png", flat((255, 0, 0)))), ("image", ("b.png", flat((0, 0, 255))))]
    expected = ask(client, image=[RED, BLUE], classes=["cat", "dog"], template="a {}", top_k=1)
    data = {"classes": ["cat", "dog"], "template": "a {}", "top_k": "1"}
    answer = client.post(CLASSIFY, files=files, data=data)
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == expected
    answer = client.post(CLASSIFY, data={"image": RED["value"], "classes": "cat"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"][0][0]["class"] == "cat"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"top_k": "x", "classes": ["a"]}, "top_k"),
        ({"top_k": "0", "classes": ["a"]}, "top_k"),
        ({}, "classes"),
    ],
)
def test_fields_of_a_form_that_do_not_fit(client: TestClient, data: dict[str, Any], problem: str) -> None:
    answer = client.post(CLASSIFY, files=[("image", ("a.png", flat((1, 2, 3))))], data=data)
    assert answer.status_code == 422
    assert problem in answer.text


def test_a_form_without_an_image(client: TestClient) -> None:
    answer = client.post(CLASSIFY, data={"classes": ["a"]})
    assert answer.status_code == 400
    assert answer.json() == {"message": "The form has no image file in a part named `image`."}


@pytest.mark.parametrize(
    "body",
    [
        {"classes": ["a"]},
        {"image": RED},
        {"image": RED, "classes": "a"},
        {"image": RED, "classes": [["a"]]},
        {"image": RED, "classes": {"a": [1]}},
        {"image": RED, "classes": {"a": {"b": "c"}}},
        {"image": RED, "classes": ["a"], "template": 5},
        {"image": RED, "classes": ["a"], "top_k": 0},
        {"image": RED, "classes": ["a"], "top_k": -1},
        {"image": RED, "classes": ["a"], "top_k": "many"},
        {"image": "text", "classes": ["a"]},
        [],
    ],
)
def test_what_has_another_form(client: TestClient, body: Any) -> None:
    answer = client.post(CLASSIFY, json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"image": [], "classes": ["a"]}, "The list of images is empty."),
        ({"image": RED, "classes": []}, "`classes` is empty."),
        ({"image": RED, "classes": ["a", "a"]}, "Class 'a' occurs twice in `classes`."),
        ({"image": RED, "classes": ["a"], "template": "b"}, "The template 'b' has no `{}` for the class."),
        ({"image": RED, "classes": ["a"] * 9}, "9"),
        ({"image": RED, "classes": ["a", "b"], "template": ["{}"] * 3}, "Too many prompts: 6 came"),
        ({"image": [RED] * 5, "classes": ["a"]}, "5"),
        ({"image": [RED, {"type": "base64", "value": "AAAA"}], "classes": ["a"]}, "Data is not image"),
        ({"image": RED, "classes": ["a"], "perception_encoder_version_id": "PE-X"}, "PE-X"),
    ],
)
def test_what_is_refused(make_client: MakeClient, body: Any, problem: str) -> None:
    answer = make_client(max_items=4, max_texts=8).post(CLASSIFY, json=body)
    assert answer.status_code in (400, 404), answer.text
    assert problem in answer.json()["message"]


def test_null_means_the_default(client: TestClient) -> None:
    expected = ask(client, image=RED, classes=CLASSES)
    assert ask(client, image=RED, classes=CLASSES, template=None, top_k=None) == expected


def test_a_model_without_a_logit_scale(make_client: MakeClient) -> None:
    spec = fake_spec()
    certificate = {key: value for key, value in spec.text.certificate.items() if key != "logit_scale"}
    client = make_client(FakeEncoder(replace(spec, text=replace(spec.text, certificate=certificate))))
    answer = client.post(CLASSIFY, json={"image": RED, "classes": ["a"]})
    assert answer.status_code == 400
    assert "has no logit scale" in answer.json()["message"]


def test_an_answer_that_would_be_too_long(make_client: MakeClient) -> None:
    client = make_client(max_items=64)
    names = [f"{number:0>9999}" for number in range(8)]
    body = {"image": [RED] * 64, "classes": names, "top_k": 8}
    answer = client.post(CLASSIFY, content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert "too long" in answer.json()["message"]


def test_keys_count_here_too(make_client: MakeClient) -> None:
    client = make_client(api_keys="key")
    body = {"image": RED, "classes": ["a"]}
    assert client.post(CLASSIFY, json=body).status_code == 401
    assert client.post(CLASSIFY, json={**body, "api_key": "key"}).status_code == 200
    assert client.post(CLASSIFY, json=body, headers={"authorization": "Bearer key"}).status_code == 200


def test_arrays_are_for_embeddings(client: TestClient) -> None:
    answer = client.post(CLASSIFY, json={"image": RED, "classes": ["a"]}, headers={"accept": "application/x-npy"})
    assert answer.status_code == 406


def test_an_image_file_as_the_body_has_no_place_for_classes(make_client: MakeClient) -> None:
    body: dict[str, Any] = {"content": flat((1, 2, 3)), "headers": {"content-type": "image/png"}}
    answer = make_client().post(CLASSIFY, **body)
    assert answer.status_code == 400
    assert "Send a form, or JSON." in answer.json()["message"]
    assert make_client(api_keys="key").post(CLASSIFY, **body).status_code == 401
