"""The GPU profile of deploy/compose.yaml as far as it goes without a GPU, on a real Docker engine: its export job, its
Triton and its gateway, in the order that Compose gives them.

The demo and onnxruntime take the place of L14-336 and TensorRT, and a file of weights that of the hub. The bases of
the images are stand-ins (`stand_ins/`). The exporter's image is built by its Dockerfile, but torch and CUDA's libraries
are mounted.
"""

import json
from collections.abc import Callable, Iterator
from typing import Final

import httpx2
import pytest

from deploy import generate
from tests.deploy.images.compose_project import ComposeProject
from tests.deploy.images.conftest import TENSORRT
from tests.deploy.images.engine import Engine

pytestmark = pytest.mark.containers

DEMO: Final = {
    "PE_VARIANT": "PE-Demo-T8-64",
    "PE_ENGINE": "onnx",
    "PE_PRECISION": "fp32",
    "PE_WEIGHTS": "--checkpoint=/weights/PE-Demo-T8-64.safetensors",
    "PE_WEIGHTS_DIRECTORY": "../export/demo",
}
FOLDER: Final = f"/repository/{generate.release()}-1"
UP: Final = ("up", "--detach", "--wait", "--no-build", "--pull", "never")


@pytest.fixture(scope="module")
def stack(
    compose_project: Callable[..., ComposeProject], gateway_image: str, export_image: str
) -> Iterator[ComposeProject]:
    """After the first `up`, with empty volumes."""
    project = compose_project("gpu", **DEMO)
    project.clear()
    project.run(*UP, "gateway", seconds=300)
    yield project
    project.clear()


def with_the_volume(engine: Engine, script: str) -> str:
    """What a shell prints that has the models' volume, as the user who owns it."""
    return engine.out(
        *("run", "--rm", "--network=none", "--user=1000:1000", "--volume", "pe-test-repository:/repository"),
        *("pe-test/python", "bash", "-euc", script),
    )


def contents(engine: Engine) -> str:
    return with_the_volume(engine, f"cd {FOLDER} && find . -type f -printf '%p %T@\\n' | sort")


def test_the_exporters_image_has_what_its_dockerfile_says(engine: Engine, export_image: str) -> None:
    said = engine.out(
        *("run", "--rm", "--network=none", "--entrypoint", "sh", export_image, "-c"),
        "id -u; stat -c '%u %n' /repository /cache; ls /run /etc /opt/export/bin /opt/export/lib/python*/site-packages",
    )
    lines = said.splitlines()
    assert lines[0] == "1000"
    # The image's own bindings load its library.
    assert {"pe-export", "1000 /repository", "1000 /cache", "open_clip", "tensorrt"} <= set(lines)
    assert not {"pe-gateway", "pe-serve", "pe-bench", "pip.conf", "secrets"} & set(lines)


def test_the_export_has_filled_the_volume_and_the_gateway_answers(engine: Engine, stack: ComposeProject) -> None:
    for tower in ("vision", "text"):
        assert f"./PE-Demo-T8-64-{tower}/1/model.onnx " in contents(engine)
    state = stack.inspect("export")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 0)
    answer = httpx2.post(f"{stack.url}/perception_encoder/embed_text", json={"text": "a red circle"}, timeout=60)
    assert answer.status_code == 200


def test_a_second_start_exports_nothing(engine: Engine, stack: ComposeProject) -> None:
    before = contents(engine)
    triton = stack.inspect("triton")["Id"]
    stack.run("down", seconds=180)
    stack.run(*UP, "gateway", seconds=300)
    assert contents(engine) == before
    assert stack.log("export").count("up to date") == 2
    assert stack.inspect("triton")["Id"] != triton


def test_triton_does_not_even_start_with_a_plan_that_does_not_fit(engine: Engine, stack: ComposeProject) -> None:
    model = f"{FOLDER}/PE-Demo-T8-64-vision"
    certificate = json.loads(with_the_volume(engine, f"cat {model}/1/parity.json"))
    certificate["inputs"] |= {"engine": "tensorrt", "target": "tensorrt 9.9.9.9 sm70 batch 64"}
    with_the_volume(
        engine,
        f"cat > {model}/1/parity.json <<'END'\n{json.dumps(certificate)}\nEND\n"
        f"sed -i s/onnxruntime/tensorrt/ {model}/config.pbtxt",
    )
    run = stack.run("run", "--rm", "--no-deps", "--no-TTY", "triton", check=False)
    assert run.returncode == 1
    reason = f"PE-Demo-T8-64-vision: the plan needs TensorRT 9.9.9.9, and this machine has {TENSORRT}"
    assert reason in run.stderr
    assert "server_version" not in run.stdout + run.stderr
