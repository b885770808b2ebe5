"""What can be known of deploy/compose.yaml without an engine; images/ runs it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.generate import version
from gateway.serving import decode_limits
from gateway.settings import Settings
from tests.deploy import compose_file
from tests.deploy.compose_file import ROOT, UnsetVariableError, seconds
from tests.deploy.images.dockerfile import stages

PROFILES = ("gpu,dcgm", "cpu")


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


def test_the_example_is_for_a_gpu() -> None:
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


def test_without_a_profile_it_says_what_to_do() -> None:
    with pytest.raises(UnsetVariableError, match="COMPOSE_PROFILES"):
        compose_file.load({})


def test_each_gpu_can_have_a_triton() -> None:
    services = compose_file.load({"COMPOSE_PROFILES": "gpu0,gpu7", "PE_GPU_7": "MIG-1"})["services"]
    assert [name for name in services if name.startswith("triton")] == ["triton-gpu0", "triton-gpu7"]
    assert [gpus(services[name]) for name in ("export", "triton-gpu0", "triton-gpu7")] == [["all"], ["0"], ["MIG-1"]]
    for name in ("triton-gpu0", "triton-gpu7"):
        assert services[name]["networks"] == {"inside": {"aliases": ["triton"]}}
        assert services[name]["environment"] == services["triton-gpu0"]["environment"]
    assert {"triton-gpu0", "triton-gpu7"} <= set(services["gateway"]["depends_on"])


def test_one_gpu_can_be_chosen() -> None:
    services = compose_file.load({"COMPOSE_PROFILES": "gpu", "PE_GPU": "GPU-1"})["services"]
    assert gpus(services["export"]) == gpus(services["triton"]) == ["GPU-1"]


def test_dcgms_exporter_has_our_counters_and_prometheus_asks_it() -> None:
    services = compose_file.load({**compose_file.defaults(), "COMPOSE_PROFILES": "gpu,dcgm"})["services"]
    exporter = services["dcgm-exporter"]
    (mounted,) = exporter["volumes"]
    assert mounted == f"./monitoring/dcgm-counters.csv:{exporter['environment']['DCGM_EXPORTER_COLLECTORS']}:ro,z"
    assert exporter["networks"] == ["inside"]
    config = yaml.safe_load((ROOT / "deploy/monitoring/prometheus.yaml").read_text())
    (job,) = (job for job in config["scrape_configs"] if job["job_name"] == "dcgm")
    assert job["dns_sd_configs"][0]["names"] == ["dcgm-exporter"]


def gpus(service: dict[str, Any]) -> list[str]:
    (request,) = service["deploy"]["resources"]["reservations"]["devices"]
    return list(request["device_ids"])


def test_the_examples_name_what_is_read_and_its_defaults() -> None:
    compose = compose_file.FILE.read_text()
    gateway = {str(field.validation_alias) for field in Settings.model_fields.values()}
    exports_environment = yaml.safe_load(compose)["services"]["export"]["environment"]
    for line in (ROOT / "deploy/.env.example").read_text().splitlines():
        if found := re.match(r"(?:# )?([A-Z][A-Z_0-9]+)=(.*)$", line):
            defaults = set(re.findall(rf"\${{{found[1]}:-([^}}]*)}}", compose))
            assert defaults == {found[2]} if defaults else found[1] in {"COMPOSE_PROFILES", *exports_environment}, line
    for line in (ROOT / "deploy/gateway.env.example").read_text().splitlines():
        if found := re.match(r"(?:# )?([A-Z][A-Z_0-9]+)=", line):
            assert found[1] in gateway or found[1].startswith("OTEL_"), line


def test_no_container_gets_more_of_the_settings_than_it_needs() -> None:
    """The token of the hub and the keys are secrets."""
    services = compose_file.load({"COMPOSE_PROFILES": "gpu,cpu", "HF_TOKEN": "t", "PE_API_KEYS": "k"})["services"]
    for name, service in services.items():
        assert ("HF_TOKEN" in service["environment"]) is (name == "export")
        assert "PE_API_KEYS" not in service["environment"]
        assert ("env_file" in service) is (name == "gateway")
    assert services["gateway"]["env_file"] == [{"path": "gateway.env", "required": False}]
    assert services["gateway"]["environment"] == {
        "HOST": "0.0.0.0",
        "PORT": "9001",
        "PE_TRITON_URL": "dns:///triton:8001",
        "NUM_WORKERS": "4",
        "PE_DECODE_WORKERS": "1",
    }


def test_a_proxy_of_dockers_client_does_not_come_between_the_services() -> None:
    """Busybox's wget, which checks Prometheus's health, ignores NO_PROXY. Grafana would ask the proxy instead."""
    services = compose_file.load(compose_file.defaults())["services"]
    for name in ("prometheus", "grafana"):
        environment = services[name]["environment"]
        assert {environment[proxy] for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")} == {""}


def test_an_upgrade_keeps_the_images_of_the_version_before() -> None:
    """For the way back, which may have to do without a network."""
    triton = "25.01"
    services = compose_file.load({**compose_file.defaults(), "TRITON_RELEASE": triton})["services"]
    assert services["gateway"]["image"] == f"perception-encoder-gateway:{version()}"
    assert services["export"]["image"] == f"perception-encoder-export:{triton}-{version()}"


def test_secrets_are_no_part_of_the_repository() -> None:
    """git ignores what operators write, and keeps the folders, which the engine would create as root."""
    names = ("deploy/.env", "deploy/gateway.env", "deploy/secrets/api-keys", "deploy/weights/model.safetensors")
    run = subprocess.run(["git", "check-ignore", *names], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.split() == list(names)
    tracked = subprocess.run(["git", "ls-files", "deploy"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"deploy/secrets/.gitignore", "deploy/weights/.gitignore"} <= set(tracked.split())


def test_memory_is_limited_and_the_gateways_holds_what_it_may_decode(model: dict[str, Any]) -> None:
    assert all("mem_limit" in service for service in model["services"].values())
    gateway = model["services"]["gateway"]
    settings = Settings.model_validate(gateway["environment"])
    one_image = decode_limits(settings).memory_bytes
    # Idle, its cache of texts, and the bodies in flight.
    process = 120 * 2**20 + settings.text_cache_bytes + settings.max_bytes_in_flight * 5 // 4
    needed = settings.num_workers * (process + settings.decode_workers * one_image)
    assert needed <= int(gateway["mem_limit"].removesuffix("g")) * 2**30


def test_logs_can_be_collected_and_do_not_fill_the_disk(model: dict[str, Any]) -> None:
    for service in model["services"].values():
        assert service["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "5"}}


def test_tritons_arguments_can_be_added() -> None:
    variables = {"COMPOSE_PROFILES": "cpu", "PE_TRITON_ARGUMENTS": "--log-verbose=1 --log-format=ISO8601"}
    command = compose_file.load(variables)["services"]["triton-cpu"]["command"]
    assert command == "/bin/bash /opt/triton/start.sh --log-verbose=1 --log-format=ISO8601"


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


def mounts(service: dict[str, Any]) -> list[tuple[str, bool]]:
    """The source of each mount, and whether it is read-only."""
    found = []
    for volume in service.get("volumes", []):
        if isinstance(volume, str):
            source, _, options = volume.split(":") if volume.count(":") == 2 else (*volume.split(":"), "")
            found.append((source, "ro" in options.split(",")))
        else:
            found.append((volume["source"], volume["read_only"]))
    return found


def test_what_is_mounted_from_the_checkout_can_be_read_with_selinux(model: dict[str, Any]) -> None:
    for service in model["services"].values():
        for volume in service.get("volumes", []):
            if isinstance(volume, str) and volume.startswith("."):
                assert volume.endswith(":ro,z")
            elif not isinstance(volume, str):
                assert volume["bind"] == {"create_host_path": False, "selinux": "z"}


def test_only_the_gateway_is_published(model: dict[str, Any]) -> None:
    assert model["networks"]["inside"] == {"internal": True}
    for name, service in model["services"].items():
        ports = service.get("ports", [])
        if name == "gateway":
            assert ports == ["127.0.0.1:9001:9001"]
        else:
            assert all(port.startswith("127.0.0.1:") for port in ports), name
        if name.startswith("triton"):
            assert list(service["networks"]) == ["inside"]
            assert ports == []


def test_ports_that_other_programs_have_can_be_changed() -> None:
    variables = {"PE_PUBLISH": "9101", "PE_PROMETHEUS_PUBLISH": "127.0.0.1:9190", "PE_GRAFANA_PUBLISH": "3100"}
    services = compose_file.load({**compose_file.defaults(), **variables})["services"]
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert ports == {"gateway": ["9101:9001"], "prometheus": ["127.0.0.1:9190:9090"], "grafana": ["3100:3000"]}


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
        for source, read_only in mounts(service):
            assert read_only or source in model["volumes"], f"{name} may write to {source}"


def test_triton_only_reads_the_models(model: dict[str, Any]) -> None:
    for name, service in model["services"].items():
        if name.startswith("triton"):
            assert all(read_only for _, read_only in mounts(service))


def test_what_is_mounted_from_the_checkout_is_there(model: dict[str, Any]) -> None:
    for service in model["services"].values():
        for source, _ in mounts(service):
            if source.startswith("."):
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
