"""The GPU profile of deploy/compose.yaml as far as it goes without one: its export job and its Triton, with the demo
and onnxruntime in place of L14-336 and TensorRT, and a file of weights in place of the hub: as on a site without a
network, which this machine's containers do not have.
"""

import json
import os
from pathlib import Path

import pytest

from tests.deploy import compose_file
from tests.deploy.images.machine import Container, Image, Machine
from tests.deploy.images.services import start

pytestmark = pytest.mark.triton

DEMO = {
    "PE_VARIANT": "PE-Demo-T8-64",
    "PE_ENGINE": "onnx",
    "PE_PRECISION": "fp32",
    "PE_WEIGHTS": "--checkpoint=/weights/PE-Demo-T8-64.safetensors",
    "PE_WEIGHTS_DIRECTORY": "../export/demo",
}
VARIABLES = {**compose_file.defaults(), **DEMO}
SERVICES = compose_file.load(VARIABLES)["services"]
FOLDER = f"{VARIABLES['TRITON_RELEASE']}-{VARIABLES['PE_MODELS']}"


def export(machine: Machine, image: Image) -> Container:
    container = start(machine, "export", SERVICES["export"], image)
    assert container.process.wait(240) == 0, container.output()
    return container


def contents(folder: Path) -> dict[str, float]:
    return {str(path.relative_to(folder)): os.stat(path).st_mtime for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def repository(machine: Machine, export_image: Image) -> Path:
    """The volume, after the export job."""
    export(machine, export_image)
    return machine.volume("repository")


def test_the_export_fills_the_volume_once(machine: Machine, export_image: Image, repository: Path) -> None:
    before = contents(repository)
    files = {f"{FOLDER}/PE-Demo-T8-64-{tower}/1/model.onnx" for tower in ("vision", "text")}
    assert files <= set(before)
    again = export(machine, export_image)
    assert contents(repository) == before
    assert again.output().count("up to date") == 2


def test_triton_serves_what_was_exported(machine: Machine, triton_image: Image, repository: Path) -> None:
    container = start(machine, "triton", SERVICES["triton"], triton_image)
    machine.wait_until_healthy(container, SERVICES["triton"]["healthcheck"]["test"][1:])
    assert machine.run("curl -sf http://triton:8000/v2/models/PE-Demo-T8-64-text/ready").returncode == 0
    assert container.stop(45) == 0


def test_triton_does_not_even_start_with_a_plan_that_does_not_fit(
    machine: Machine, triton_image: Image, repository: Path
) -> None:
    certificate = repository / FOLDER / "PE-Demo-T8-64-vision/1/parity.json"
    text = certificate.read_text()
    fields = json.loads(text)
    fields["inputs"] |= {"engine": "tensorrt", "target": "tensorrt 9.9.9.9 sm70 batch 64"}
    certificate.write_text(json.dumps(fields))
    config = repository / FOLDER / "PE-Demo-T8-64-vision/config.pbtxt"
    before = config.read_text()
    config.write_text(before.replace("onnxruntime", "tensorrt"))
    try:
        container = start(machine, "misfit", SERVICES["triton"], triton_image)
        assert container.process.wait(30) == 1
    finally:
        certificate.write_text(text)
        config.write_text(before)
    said = container.output()
    assert "PE-Demo-T8-64-vision: the plan needs TensorRT 9.9.9.9, and this machine has no TensorRT" in said
    assert "server_version" not in said
