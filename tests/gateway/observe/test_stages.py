import re

import pytest

from gateway.observe.stages import Stages


def test_a_stage_is_summed_over_items() -> None:
    stages = Stages()
    stages.add("decode", 0.001)
    stages.add("decode", 0.002)
    assert stages.seconds["decode"] == pytest.approx(0.003)


def test_a_stage_that_raises_is_measured() -> None:
    stages = Stages()
    with pytest.raises(ValueError), stages.measure("encode"):
        raise ValueError
    assert stages.seconds["encode"] > 0


def test_server_timing_lists_stages_in_the_order_of_the_pipeline() -> None:
    stages = Stages()
    for stage in ("encode", "tokenize", "decode"):
        stages.add(stage, 0.0125)
    header = stages.server_timing(0.05)
    assert header == "decode;dur=12.50, tokenize;dur=12.50, encode;dur=12.50, total;dur=50.00"
    assert re.fullmatch(r"(\w+;dur=\d+\.\d+(, )?)+", header)
