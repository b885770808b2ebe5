"""deploy/kubernetes as the real kustomize renders it, held against Kubernetes' own schemas and what was meant."""

import re
import subprocess
import tomllib
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from gateway.settings import Settings

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/kubernetes"
KUSTOMIZE = ROOT / ".tools/kustomize"

VERSIONS = ("1.36", "1.37")
SERVING = ("overlays/one-gpu", "overlays/several-gpus", "overlays/cpu")
EXPORTING = ("export/gpu", "export/cpu")
# Of other projects, whose schemas no package that the tests can have carries: README.md lists them as not validated.
CUSTOM = {"monitoring.coreos.com/v1", "serving.kserve.io/v1beta1"}

Manifest = dict[str, Any]


@cache
def render(name: str) -> tuple[Manifest, ...]:
    run = subprocess.run([KUSTOMIZE, "build", FOLDER / name], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return tuple(yaml.safe_load_all(run.stdout))


def of_kind(name: str, kind: str) -> Manifest:
    (found,) = (manifest for manifest in render(name) if manifest["kind"] == kind)
    return found


def pods(name: str) -> Iterator[Manifest]:
    """The specifications of all pods that a rendering asks for."""
    for manifest in render(name):
        if "template" in manifest.get("spec", {}):
            yield manifest["spec"]["template"]["spec"]
        elif manifest["kind"] == "InferenceService":
            yield manifest["spec"]["predictor"]


def containers(name: str) -> dict[str, Manifest]:
    return {
        container["name"]: container
        for pod in pods(name)
        for container in (*pod.get("initContainers", []), *pod["containers"])
    }


def named(container: Manifest) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container.get("env", [])}


everything = pytest.mark.parametrize("name", [*SERVING, *EXPORTING, "kserve"])
serving = pytest.mark.parametrize("name", [*SERVING, "kserve"])


def test_nothing_is_left_unrendered() -> None:
    tops = {str(path.parent.relative_to(FOLDER)) for path in FOLDER.rglob("kustomization.yaml")}
    within = {"common", "base", "export/base", "kserve/with-pod"} | {
        name for name in tops if name.startswith("components/")
    }
    assert tops - within == {*SERVING, *EXPORTING, "kserve"}
    text = "".join(path.read_text() for path in FOLDER.rglob("kustomization.yaml"))
    for path in FOLDER.rglob("*.yaml"):
        assert path.name == "kustomization.yaml" or path.name in text, path


@pytest.mark.parametrize("version", VERSIONS)
@everything
def test_fits_the_schemas_of_kubernetes(name: str, version: str) -> None:
    for manifest in render(name):
        if manifest["apiVersion"] not in CUSTOM:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # it only warns of a schema that it does not have
                assert kubernetes_validate.validate(manifest, version, strict=True).startswith(version)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_pod_within_the_inference_service_fits_them_too(version: str) -> None:
    (predictor,) = pods("kserve")
    own = {"minReplicas", "maxReplicas"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "predictor"},
        "spec": {key: value for key, value in predictor.items() if key not in own},
    }
    assert own < set(predictor)
    kubernetes_validate.validate(pod, version, strict=True)


def test_the_schemas_object() -> None:
    manifest = yaml.safe_load(yaml.safe_dump(of_kind("overlays/one-gpu", "Deployment")))
    manifest["spec"]["template"]["spec"]["initContainers"][0]["restartPolice"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError, match="restartPolice"):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


def test_custom_resources_are_all_said_to_be_unvalidated() -> None:
    found = {manifest["apiVersion"] for name in (*SERVING, *EXPORTING, "kserve") for manifest in render(name)}
    assert found & CUSTOM == CUSTOM
    assert not {
        version
        for version in found - CUSTOM
        if "." in version.split("/")[0] and not version.startswith(("networking.k8s.io", "policy"))
    }


@everything
def test_every_reference_is_to_something_rendered(name: str) -> None:
    """kustomize appends hashes to the names of ConfigMaps, and follows them only where it knows that they are names."""
    there = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in render(name)}
    text = yaml.safe_dump_all(render(name))
    references = re.findall(r"configMap(?:Ref)?:\n\s+name: (\S+)\n(?!\s+optional: true)", text)
    assert references
    for reference in references:
        assert ("ConfigMap", reference) in there
    for claim in re.findall(r"claimName: (\S+)", text):
        assert ("PersistentVolumeClaim", claim) in there


@everything
def test_pods_are_as_restricted_as_the_namespace_demands(name: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, Restricted; and read-only roots."""
    assert of_kind(name, "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for pod in pods(name):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        for volume in pod["volumes"]:
            assert set(volume) - {"name"} <= {"persistentVolumeClaim", "projected", "configMap", "emptyDir"}
    for container in containers(name).values():
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context.get("runAsUser") != 0
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]


@serving
def test_triton_starts_before_the_gateway_and_outlives_it(name: str) -> None:
    (pod,) = pods(name)
    (triton,) = pod["initContainers"]
    assert (triton["name"], triton["restartPolicy"]) == ("triton", "Always")
    assert triton["startupProbe"]["periodSeconds"] * triton["startupProbe"]["failureThreshold"] >= 1800
    script = (ROOT / "deploy/triton/start.sh").read_text()
    exit_timeout = int(re.findall(r"--exit-timeout-secs=(\d+)", script)[0])
    longest_request = float(Settings.model_fields["deadline_seconds"].default)
    (gateway,) = pod["containers"]
    drain = float(named(gateway)["PE_DRAIN_SECONDS"])
    assert drain >= 10
    assert pod["terminationGracePeriodSeconds"] > drain + longest_request + exit_timeout


@serving
def test_only_its_own_gateway_reaches_triton(name: str) -> None:
    both = containers(name)
    assert named(both["triton"])["PE_ADDRESS"] == "127.0.0.1"
    assert [port["containerPort"] for port in both["triton"]["ports"]] == [8002]
    (gateway,) = (container for container in both.values() if container["name"] != "triton")
    assert named(gateway)["PE_TRITON_URL"] == "127.0.0.1:8001"
    text = yaml.safe_dump_all(render(name))
    assert not re.search(r"\b800[01]\b(?!/v2/health)(?!\n\s+- name: NUM_WORKERS)", text.replace("127.0.0.1:8001", ""))


@pytest.mark.parametrize("name", SERVING)
def test_the_network_is_closed_but_for_what_is_needed(name: str) -> None:
    policy = of_kind(name, "NetworkPolicy")["spec"]
    labels = of_kind(name, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    public, metrics = policy["ingress"]
    assert public == {"ports": [{"port": 9001}]}
    assert metrics["ports"] == [{"port": 8002}]
    assert metrics["from"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}
    outside = policy["egress"][-1]
    assert outside["ports"] == [{"port": 443}]
    assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(outside["to"][0]["ipBlock"]["except"])


@pytest.mark.parametrize("name", SERVING)
def test_service_and_budget_select_the_pods(name: str) -> None:
    labels = of_kind(name, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert of_kind(name, "Service")["spec"]["selector"].items() <= labels.items()
    assert of_kind(name, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"].items() <= labels.items()
    ports = {port["name"]: port["containerPort"] for port in containers(name)["gateway"]["ports"]}
    (port,) = of_kind(name, "Service")["spec"]["ports"]
    assert ports[port["targetPort"]] == port["port"] == 9001


def test_gpus_are_asked_for_where_they_are_used() -> None:
    def gpus(name: str) -> dict[str, Any]:
        return {
            container["name"]: container["resources"]["limits"].get("nvidia.com/gpu")
            for container in containers(name).values()
        }

    for name in ("overlays/one-gpu", "overlays/several-gpus"):
        assert gpus(name) == {"triton": "1", "gateway": None}
    assert gpus("export/gpu") == {"export": "1"}
    assert not any(gpus("overlays/cpu").values())
    assert not any(gpus("export/cpu").values())


@pytest.mark.parametrize(("exporting", "overlays"), [("gpu", SERVING[:2]), ("cpu", SERVING[2:])])
def test_what_is_served_is_what_was_exported(exporting: str, overlays: tuple[str, ...]) -> None:
    export = containers(f"export/{exporting}")["export"]
    models = of_kind(f"export/{exporting}", "ConfigMap")["data"]
    arguments = [expanded(argument, models) for argument in export["args"]]
    release = (ROOT / "deploy/triton-release.txt").read_text().strip()
    if exporting == "gpu":
        assert arguments == [
            *("PE-Core-L14-336", "--from=hub", "--engine=tensorrt", "--precision=fp16"),
            f"--repository=/repository/{release}-1",
        ]
    else:
        assert arguments == [
            *("PE-Demo-T8-64", "--engine=onnx", "--precision=fp32"),
            f"--repository=/repository/{release}-demo",
        ]
    for overlay in overlays:
        triton = containers(overlay)["triton"]
        (served,) = (manifest["data"] for manifest in render(overlay) if "PE_VARIANT" in manifest.get("data", {}))
        assert served == models
        assert f"--repository={expanded(named(triton)['PE_REPOSITORY'], served)}" == arguments[-1]
        assert mounts(triton)["/repository"] == {"subPath": "models", "readOnly": True}
    assert mounts(export)["/repository"] == {"subPath": "models"}


def mounts(container: Manifest) -> dict[str, dict[str, Any]]:
    return {
        mount["mountPath"]: {key: value for key, value in mount.items() if key not in ("name", "mountPath")}
        for mount in container["volumeMounts"]
    }


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """As the kubelet does."""
    return re.sub(r"\$\((\w+)\)", lambda found: variables[found[1]], text)


@serving
def test_triton_starts_as_everywhere(name: str) -> None:
    """By the same script, which has the flags."""
    triton = containers(name)["triton"]
    assert triton["args"] == ["/bin/bash", "/opt/triton/start.sh"]
    assert "command" not in triton
    data = {key: value for manifest in render(name) for key, value in manifest.get("data", {}).items()}
    assert data["start.sh"] == (ROOT / "deploy/triton/start.sh").read_text()
    assert data["preflight.py"] == (ROOT / "export/preflight.py").read_text()
    (pod,) = pods(name)
    (start,) = (volume["projected"] for volume in pod["volumes"] if volume["name"] == "start")
    assert len(start["sources"]) == 2


@everything
def test_images_are_pinned(name: str) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    release = (ROOT / "deploy/triton-release.txt").read_text().strip()
    tags = {
        "nvcr.io/nvidia/tritonserver": f"{release}-py3",
        "perception-encoder-gateway": version,
        "perception-encoder-export": f"{release}-{version}",
    }
    for container in containers(name).values():
        image, _, tag = container["image"].rpartition(":")
        assert tag == tags[image]


def test_the_autoscaler_follows_metrics_that_the_adapter_makes() -> None:
    scaler = of_kind("overlays/several-gpus", "HorizontalPodAutoscaler")["spec"]
    deployment = of_kind("overlays/several-gpus", "Deployment")
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"], "each apply would undo what the autoscaler did"
    adapter = yaml.safe_load((FOLDER / "components/autoscaling/prometheus-adapter.yaml").read_text())
    made = {rule["name"]["as"] for rule in adapter["rules"]["custom"]}
    assert {metric["pods"]["metric"]["name"] for metric in scaler["metrics"]} == made
    assert scaler["behavior"]["scaleDown"]["stabilizationWindowSeconds"] >= 300
