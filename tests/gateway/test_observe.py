import json
import logging
import re

import numpy as np
import pytest

from gateway.cache import TextCache, TextEmbedding
from gateway.observe import Metrics, Stages
from tests.fakes import fake_spec


def test_a_stage_adds_up_over_items() -> None:
    stages = Stages()
    stages.add("decode", 0.001)
    stages.add("decode", 0.002)
    assert stages.seconds["decode"] == pytest.approx(0.003)


def test_a_failed_stage_is_measured_too() -> None:
    stages = Stages()
    with pytest.raises(ValueError), stages.measure("encode"):
        raise ValueError
    assert stages.seconds["encode"] > 0


def test_server_timing_is_in_the_order_of_the_pipeline() -> None:
    stages = Stages()
    for stage in ("encode", "tokenize", "decode"):
        stages.add(stage, 0.0125)
    header = stages.server_timing(0.05)
    assert header == "decode;dur=12.50, tokenize;dur=12.50, encode;dur=12.50, total;dur=50.00"
    assert re.fullmatch(r"(\w+;dur=\d+\.\d+(, )?)+", header)


def test_the_caches_gauge_follows_an_entry_that_came_after_its_miss() -> None:
    cache = TextCache(1 << 20)
    metrics = Metrics(cache)
    spec = fake_spec()

    def kept_bytes() -> float:
        metrics.record(route="r", status=200, seconds=0, stages=Stages(), request_id="1", client=None)
        return float(metrics.exposition().decode().split("\npe_text_cache_bytes ")[1].split("\n")[0])

    cache.get(spec, "a cat")
    assert kept_bytes() == 0
    cache.put(spec, "a cat", TextEmbedding(np.zeros(8, np.float32), 4, truncated=False))
    assert kept_bytes() == cache.bytes > 0


def test_no_character_of_a_client_reaches_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    client = "\x9b31m\x85\u2028 é"
    with caplog.at_level(logging.INFO, "gateway.access"):
        Metrics(TextCache(0)).record(route="r", status=200, seconds=0, stages=Stages(), request_id="1", client=client)
    (record,) = caplog.records
    assert record.message.isascii()
    assert record.message.isprintable()
    assert json.loads(record.message)["client"] == client
