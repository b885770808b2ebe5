import json
from pathlib import Path

import pytest

from deploy.bench.tuning.tower_inputs import write
from export.repository.config_pbtxt import parse

PARAMETERS = """parameters { key: "context_length" value { string_value: "32" } }
parameters { key: "token_lengths" value { string_value: "8 16 32" } }"""


@pytest.mark.parametrize(("dims", "parameters", "length"), [("-1", PARAMETERS, 16), ("32", "", 32), ("12", "", 12)])
def test_texts_have_the_length_that_the_gateway_sends(tmp_path: Path, dims: str, parameters: str, length: int) -> None:
    """The texts have 9 tokens."""
    tensor = f'input {{ name: "tokens" data_type: TYPE_INT32 dims: {dims} }}'
    file = write(parse(f'name: "V-text" max_batch_size: 8 {tensor} {parameters}'), tmp_path)
    entries = json.loads(file.read_text())["data"]
    assert len(entries) == 1000
    assert {tuple(entry["tokens"]["shape"]) for entry in entries} == {(length,)}
