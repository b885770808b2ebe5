import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.bench.harness import stack
from deploy.bench.speed import inputs, perf_analyzer
from gateway.images.preprocess import preprocess
from gateway.texts.tokenizer import Tokenizer
from tests.pictures import PHOTOGRAPHS

PAGE = Path(inputs.__file__).parents[1] / "perf_analyzer.md"
ROOT = PAGE.parents[2]
SERVED = stack.Stack(
    "http://x:1", "", "", "V", {"image_size": [16, 8], "context_length": 12, "token_lengths": [8, 10, 12]}
)


def test_tensors_are_those_that_the_gateway_sends(tmp_path: Path) -> None:
    vision, text, *_ = inputs.write(SERVED, [PHOTOGRAPHS[0].read_bytes()], tmp_path)
    (image,) = json.loads(vision.read_text())["data"]
    assert image["image"]["shape"] == [16, 8, 3]
    expected = preprocess(Image.open(PHOTOGRAPHS[0]).convert("RGB"), (16, 8))
    assert base64.b64decode(image["image"]["content"]["b64"]) == expected.tobytes()
    tokens = json.loads(text.read_text())["data"]
    assert len(tokens) == 1000
    assert len({entry["tokens"]["content"]["b64"] for entry in tokens}) == 1000
    row = np.frombuffer(base64.b64decode(tokens[0]["tokens"]["content"]["b64"]), "<i4")
    assert row.shape == (10,)  # The texts have 9 tokens.
    assert tokens[0]["tokens"]["shape"] == [10]
    assert row[0] == Tokenizer(12).encode("").tokens[0]


def test_bodies_have_the_same_images_and_texts(tmp_path: Path) -> None:
    *_, images, texts = inputs.write(SERVED, [PHOTOGRAPHS[0].read_bytes()], tmp_path)
    ((image,),) = (entry["payload"] for entry in json.loads(images.read_text())["data"])
    assert image["perception_encoder_version_id"] == "V"
    assert base64.b64decode(image["image"]["value"]) == PHOTOGRAPHS[0].read_bytes()
    assert len({entry["payload"][0]["text"] for entry in json.loads(texts.read_text())["data"]}) == 1000


def test_an_unreachable_gateway_is_an_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert inputs.main(["--url", "http://127.0.0.1:9", "--output", str(tmp_path / "inputs")]) == 1
    assert "refused" in capsys.readouterr().err
    assert not (tmp_path / "inputs").exists()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Stack]:
    with stack.start(ROOT / "model_repository", tmp_path_factory.mktemp("served"), None) as started:
        yield started


@pytest.mark.triton
def test_a_file_that_is_not_an_image_is_an_error(
    served: stack.Stack, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("not a picture")
    assert inputs.main(["--url", served.url, "--output", str(tmp_path), str(tmp_path / "notes.txt")]) == 1
    assert "cannot identify" in capsys.readouterr().err


@pytest.mark.triton
def test_the_commands_of_the_page(served: stack.Stack, tmp_path: Path) -> None:
    """Run all commands of the page in one shell. The first block only sets variables, which this test replaces."""
    first, *blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names = re.findall(r"\b([A-Z]+)=", first)
    here = {
        "VARIANT": served.variant,
        "GATEWAY": served.url,
        "TRITON": served.triton_grpc,
        "METRICS": f"{served.triton_metrics}/metrics",
        "LEVELS": "1 8",
        "RATES": "50",
        "WINDOW": "150",
        "STABILITY": "999",
    }
    assert sorted(names) == sorted(here)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    libraries, program = perf_analyzer.libraries(), perf_analyzer.find().parent
    run = subprocess.run(
        ["bash", "-euxc", "".join(blocks)],
        cwd=tmp_path,
        env={
            **os.environ,
            **here,
            "PATH": f"{program}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}:{':'.join(sys.path)}",  # the link to Python is outside of its environment
            "LD_LIBRARY_PATH": libraries,
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    reports = sorted(file.stem for file in tmp_path.glob("*.csv"))
    assert len(reports) == 9, reports
    for file in tmp_path.glob("*.csv"):
        assert perf_analyzer.parse(file.read_text())["items_per_s"] > 0, file
    assert re.search(r"^1,[\d.]+\n8,[\d.]+$", run.stdout, re.MULTILINE)
    assert re.search(r'^pe_requests_total\{route="/perception_encoder/embed_text",status="200"\}', run.stdout, re.M)
    assert perf_analyzer.parse((tmp_path / "triton-vision-8.csv").read_text())["server_ms"]["server_compute_infer"] > 0
