import json
import random

from deploy.bench.harness import client as asking
from deploy.bench.resilience import strategies as mutation


def test_the_same_number_gives_the_same_input() -> None:
    assert [mutation.make(1, i) for i in range(50)] == [mutation.make(1, i) for i in range(50)]
    assert mutation.make(1, 0) != mutation.make(2, 0)


def test_inputs_reach_every_route_and_both_ways_of_sending_images() -> None:
    inputs = [mutation.make(1, i) for i in range(300)]
    assert {given.path for given in inputs} == {
        asking.IMAGE, asking.TEXT, "/perception_encoder/compare", "/v1/embeddings",
    }  # fmt: skip
    kinds = {given.kind.partition(";")[0] for given in inputs}
    assert {"application/json", "image/png", "multipart/form-data"} <= kinds
    assert len({given.body for given in inputs}) > 250
    assert max(len(given.body) for given in inputs) < 1_000_000


def test_values_stay_json_and_damage_does_not() -> None:
    rng = random.Random(3)
    values = [json.dumps(mutation.mutated({"image": [{"type": "base64", "value": "x"}]}, rng)) for _ in range(100)]
    assert len(set(values)) > 20
    damaged = [mutation._damaged(b'{"text": "a cat"}', rng) for _ in range(100)]
    assert sum(data == b'{"text": "a cat"}' for data in damaged) < 5
