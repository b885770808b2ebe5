import json
import operator
from functools import partial

from hypothesis import HealthCheck, find, given, settings

from deploy.bench.harness import client
from deploy.bench.resilience import strategies

FAST = settings(max_examples=400, database=None, deadline=None, derandomize=True,
                suppress_health_check=list(HealthCheck))  # fmt: skip


def test_requests_reach_every_route_and_every_way_to_send_an_image() -> None:
    seen = set()

    @settings(FAST)
    @given(strategies.requests())
    def collect(request: strategies.Request) -> None:
        seen.add((request.path, request.kind.partition(";")[0]))

    collect()
    assert {path for path, _ in seen} == {client.IMAGE, client.TEXT, client.COMPARE, "/v1/embeddings"}
    assert {"application/json", "image/png", "multipart/form-data"} <= {kind for _, kind in seen}


@settings(FAST, max_examples=50)
@given(strategies.altered({"image": [{"type": "base64", "value": "x"}]}))
def test_an_altered_value_is_json_and_not_the_original(value: object) -> None:
    assert json.loads(json.dumps(value)) != {"image": [{"type": "base64", "value": "x"}]}


def test_an_altered_value_can_be_odd_at_any_depth() -> None:
    original = {"image": [{"type": "base64", "value": "x"}]}
    for odd in ({"image": [{"type": "base64"}]}, {"image": [{"type": "base64", "value": -1}]}, {"image": None}, {}):
        find(strategies.altered(original), partial(operator.eq, odd), settings=settings(FAST, max_examples=9999))


def test_damage_overwrites_inserts_deletes_and_cuts() -> None:
    data = bytes(range(100))
    lengths = [len(strategies.damage(data, seed)) for seed in range(200)]
    assert min(lengths) < 50
    assert max(lengths) > 100
    assert sum(strategies.damage(data, seed) == data for seed in range(200)) < 20
    assert strategies.damage(data, 7) == strategies.damage(data, 7)
