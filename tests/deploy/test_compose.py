"""What can be known of deploy/compose.yaml without an engine; images/ runs it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import Settings
from tests.deploy import compose_file
from tests.deploy.compose_file import ROOT, UnsetVariableError, seconds
from tests.deploy.images.dockerfile import stages

PROFILES = ("gpu", "cpu")


@pytest.fixture(params=PROFILES)
def model(request: pytest.FixtureRequest) -> dict[str, Any]:
    return compose_file.load({**compose_file.defaults(), "COMPOSE_PROFILES": request.param})


@pytest.mark.slow
def test_fits_the_schema_of_the_compose_specification(model: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "compose.json").write_text(json.dumps(model))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    run = subprocess.run([*command, tmp_path / "compose.json"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    model["services"]["gateway"]["red_only"] = True
    (tmp_path / "compose.json").write_text(json.dumps(model))
    assert subprocess.run([*command, tmp_path / "compose.json"], capture_output=True, check=False).returncode == 1


def test_plain_up_is_for_a_gpu_with_the_defaults() -> None:
    services = compose_file.load(compose_file.defaults())["services"]
    assert list(services) == ["export", "prometheus", "triton", "grafana", "gateway"]
    release = (ROOT / "deploy/triton-release.txt").read_text().strip()
    assert services["export"]["command"].split() == [
        *("PE-Core-L14-336", "--from=hub", "--engine", "tensorrt", "--precision", "fp16"),
        *("--repository", f"/repository/{release}-1"),
    ]
    assert services["triton"]["image"] == f"nvcr.io/nvidia/tritonserver:{release}-py3"
    assert services["triton"]["environment"] == {"PE_REPOSITORY": f"/repository/{release}-1"}
    assert services["export"]["build"]["args"] == {"TRITON_RELEASE": release}


def test_the_cpu_profile_needs_neither_gpu_nor_export() -> None:
    services = compose_file.load({**compose_file.defaults(), "COMPOSE_PROFILES": "cpu"})["services"]
    assert list(services) == ["triton-cpu", "prometheus", "gateway", "grafana"]
    assert not any("deploy" in service for service in services.values())


def test_without_its_env_file_it_says_what_is_missing() -> None:
    with pytest.raises(UnsetVariableError):
        compose_file.load({})


def test_everything_in_the_env_file_is_read() -> None:
    text = compose_file.FILE.read_text()
    for line in (ROOT / "deploy/.env").read_text().splitlines():
        if found := re.match(r"#?([A-Z_]+)=", line):
            known = {"COMPOSE_PROFILES"} | {str(field.validation_alias) for field in Settings.model_fields.values()}
            assert found[1] in known or f"${{{found[1]}" in text, line


def test_the_gateway_is_given_the_env_file_and_what_is_not_to_choose() -> None:
    gateway = compose_file.load(compose_file.defaults())["services"]["gateway"]
    fixed = {"HOST": "0.0.0.0", "PORT": "9001", "PE_TRITON_URL": "triton:8001"}
    assert gateway["env_file"] == [".env"]
    assert gateway["environment"] == {**compose_file.defaults(), **fixed}


def test_services_start_by_health(model: dict[str, Any]) -> None:
    for name, service in model["services"].items():
        for dependency, how in service.get("depends_on", {}).items():
            other = model["services"][dependency]
            if how["condition"] == "service_completed_successfully":
                assert other["restart"] == "no"
            else:
                assert how["condition"] == "service_healthy"
                assert "healthcheck" in other, f"{name} waits for the health of {dependency}, which has none"
    assert set(model["services"]["gateway"]["depends_on"]) & {"triton", "triton-cpu"}


def test_only_the_gateway_is_public(model: dict[str, Any]) -> None:
    assert model["networks"]["inside"] == {"internal": True}
    for name, service in model["services"].items():
        ports = service.get("ports", [])
        if name == "gateway":
            assert ports == ["9001:9001"]
        else:
            assert all(port.startswith("127.0.0.1:") for port in ports), name
        if name.startswith("triton"):
            assert list(service["networks"]) == ["inside"]
            assert ports == []


def test_no_service_may_do_more_than_it_must(model: dict[str, Any]) -> None:
    for name, service in model["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "cap_add", "pid", "ipc", "network_mode"} & set(service), name
        if "build" in service:
            dockerfile = ROOT / service["build"]["dockerfile"]
            assert stages(dockerfile)[-1].of("USER")
        elif name.startswith("triton"):
            assert service["user"] == "1000:1000"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert volume.endswith(":ro") or source in model["volumes"], f"{name} may write to {source}"


def test_triton_only_reads_the_models(model: dict[str, Any]) -> None:
    for name, service in model["services"].items():
        if name.startswith("triton"):
            assert all(volume.endswith(":ro") for volume in service["volumes"])


def test_what_is_mounted_from_the_checkout_is_there(model: dict[str, Any]) -> None:
    for service in model["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith(".") and source != compose_file.defaults()["PE_WEIGHTS_DIRECTORY"]:
                assert (ROOT / "deploy" / source).exists(), source
        if "build" in service:
            assert (ROOT / "deploy" / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_stopping_is_given_the_time_it_takes(model: dict[str, Any]) -> None:
    script = (ROOT / "deploy/triton/start.sh").read_text()
    exit_timeout = int(re.findall(r"--exit-timeout-secs=(\d+)", script)[0])
    longest_request = Settings.model_fields["deadline_seconds"].default
    assert exit_timeout > longest_request
    for name, service in model["services"].items():
        if name.startswith("triton"):
            assert seconds(service["stop_grace_period"]) > exit_timeout
    drain = Settings.model_fields["drain_seconds"].default
    assert seconds(model["services"]["gateway"]["stop_grace_period"]) > drain + longest_request


def test_interpolation_is_composes() -> None:
    variables = {"A": "a", "EMPTY": ""}
    assert compose_file.interpolate("${A} $$ ${B} ${B:-b} ${EMPTY:-${A:?}}-${A:-x}", variables) == "a $  b a-a"
    with pytest.raises(UnsetVariableError):
        compose_file.interpolate("${EMPTY:?}", variables)
