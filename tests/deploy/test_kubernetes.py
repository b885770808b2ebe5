"""deploy/kubernetes as the real kustomize renders it, held against Kubernetes' own schemas and what was meant."""

import os
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
COLORS = ("blue-green/blue", "blue-green/green")
TOPS = (*SERVING, *EXPORTING, *COLORS, "blue-green/front", "kserve", "storage", "volume")
# Of other projects, whose schemas no package that the tests can have carries: README.md lists them as not validated.
CUSTOM = {"monitoring.coreos.com/v1", "serving.kserve.io/v1beta1"}
GATEWAY_API = "gateway.networking.k8s.io/v1"  # gateway_api/ has its schemas

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
        elif manifest["kind"] == "Pod":
            yield manifest["spec"]


def containers(name: str) -> dict[str, Manifest]:
    return {
        container["name"]: container
        for pod in pods(name)
        for container in (*pod.get("initContainers", []), *pod["containers"])
    }


def named(container: Manifest) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container.get("env", [])}


everything = pytest.mark.parametrize("name", [*SERVING, *EXPORTING, *COLORS, "kserve"])
serving = pytest.mark.parametrize("name", [*SERVING, *COLORS, "kserve"])


def test_nothing_is_left_unrendered() -> None:
    tops = {str(path.parent.relative_to(FOLDER)) for path in FOLDER.rglob("kustomization.yaml")}
    within = {"common", "base", "export/base", "kserve/with-pod"} | {
        name for name in tops if name.startswith("components/")
    }
    assert tops - within == set(TOPS)
    text = "".join(path.read_text() for path in FOLDER.rglob("kustomization.yaml"))
    for path in FOLDER.rglob("*.yaml"):
        # `kubectl debug` reads the files of debug/, kustomize does not.
        assert path.name == "kustomization.yaml" or path.name in text or path.parent.name == "debug", path


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", TOPS)
def test_fits_the_schemas_of_kubernetes(name: str, version: str) -> None:
    for manifest in render(name):
        if manifest["apiVersion"] not in CUSTOM:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # it only warns of a schema that it does not have
                assert kubernetes_validate.validate(manifest, version, strict=True).startswith(version)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_pod_within_the_inference_service_fits_them_too(version: str) -> None:
    (predictor,) = pods("kserve")
    own = {"minReplicas", "deploymentStrategy"}
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
    found = {manifest["apiVersion"] for name in TOPS for manifest in render(name)}
    assert found & CUSTOM == CUSTOM
    assert not {
        version
        for version in found - CUSTOM
        if "." in version.split("/")[0] and not version.startswith(("networking.k8s.io", "policy"))
    }


@everything
def test_every_reference_is_to_something_rendered(name: str) -> None:
    """kustomize appends hashes to the names of ConfigMaps, and follows them only where it knows that they are names."""
    there = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in (*render(name), *render("storage"))}
    text = yaml.safe_dump_all(render(name))
    references = re.findall(r"configMap(?:Ref)?:\n\s+name: (\S+)\n(?!\s+optional: true)", text)
    assert references
    for reference in references:
        assert ("ConfigMap", reference) in there
    for claim in re.findall(r"claimName: (\S+)", text):
        assert ("PersistentVolumeClaim", claim) in there


@pytest.mark.parametrize("name", [*SERVING, *EXPORTING, *COLORS, "kserve", "volume"])
def test_pods_are_as_restricted_as_the_namespace_demands(name: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, Restricted; and read-only roots."""
    assert of_kind("storage", "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
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


@pytest.mark.parametrize("name", [*SERVING, *COLORS])
def test_the_network_is_closed_but_for_what_is_needed(name: str) -> None:
    policy = of_kind(name, "NetworkPolicy")["spec"]
    labels = of_kind(name, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    public, metrics = policy["ingress"]
    assert public == {"ports": [{"port": 9001}]}
    assert metrics["ports"] == [{"port": 8002}]
    assert metrics["from"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}
    dns, outside = policy["egress"]
    assert {port["port"] for port in dns["ports"]} == {53}
    assert {"ipBlock": {"cidr": "169.254.20.10/32"}} in dns["to"], "https://kubernetes.io, NodeLocal DNSCache"
    assert outside["ports"] == [{"port": 443}]
    assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(outside["to"][0]["ipBlock"]["except"])


@pytest.mark.parametrize("name", [*SERVING, *COLORS])
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


@pytest.mark.parametrize("name", [*SERVING, *EXPORTING, *COLORS, "kserve", "volume"])
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


def test_the_monitor_has_the_label_that_kube_prometheus_stack_selects() -> None:
    """Its chart selects monitors with `release: RELEASE` by default, and the page calls the release like the chart."""
    assert of_kind("overlays/several-gpus", "PodMonitor")["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def test_the_adapter_reads_prometheus_where_the_network_policy_expects_it() -> None:
    adapter = yaml.safe_load((FOLDER / "components/autoscaling/prometheus-adapter.yaml").read_text())["prometheus"]
    _, metrics = of_kind("overlays/several-gpus", "NetworkPolicy")["spec"]["ingress"]
    (namespace,) = metrics["from"][0]["namespaceSelector"]["matchLabels"].values()
    assert adapter == {"url": f"http://prometheus-operated.{namespace}.svc", "port": 9090}


def test_kserve_replaces_pods_as_the_deployment_does_and_makes_no_autoscaler() -> None:
    service = of_kind("kserve", "InferenceService")
    assert service["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "external"
    strategy = service["spec"]["predictor"]["deploymentStrategy"]
    assert strategy == of_kind("overlays/one-gpu", "Deployment")["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}


@pytest.mark.parametrize("name", sorted({*TOPS} - {"storage"}))
def test_deleting_all_else_keeps_the_namespace_and_the_volume(name: str) -> None:
    assert {manifest["kind"] for manifest in render("storage")} == {"Namespace", "PersistentVolumeClaim"}
    assert not {"Namespace", "PersistentVolumeClaim"} & {manifest["kind"] for manifest in render(name)}


@pytest.mark.parametrize("color", COLORS)
def test_the_front_may_also_watch_the_pods_of_each_color(color: str, tmp_path: Path) -> None:
    (monitor,) = (
        manifest
        for manifest in with_component("blue-green/front", "prometheus-operator", tmp_path)
        if manifest["kind"] == "PodMonitor"
    )
    labels = of_kind(color, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()


def with_component(name: str, component: str, folder: Path) -> list[Manifest]:
    """Render a kustomization of an operator that adds a component."""
    here = os.path.relpath(FOLDER, folder)
    text = f"resources: [{here}/{name}]\ncomponents: [{here}/components/{component}]\n"
    (folder / "kustomization.yaml").write_text(text)
    run = subprocess.run([KUSTOMIZE, "build", folder], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    manifests = list(yaml.safe_load_all(run.stdout))
    for manifest in manifests:
        assert manifest["metadata"]["namespace"] == "perception-encoder", manifest["metadata"]
        if manifest["apiVersion"] not in {*CUSTOM, GATEWAY_API}:
            kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)
    return manifests


def environment(path: str) -> dict[str, str]:
    lines = (FOLDER / "components" / path).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


@pytest.mark.parametrize("name", ["overlays/one-gpu", "export/gpu", *COLORS, "kserve"])
def test_placement_ties_pods_to_one_gpu_product_and_zone(name: str, tmp_path: Path) -> None:
    values = environment("placement/placement.env")
    manifests = with_component(name, "placement", tmp_path)
    (spec,) = (
        manifest["spec"]["predictor"]
        if manifest["kind"] == "InferenceService"
        else manifest["spec"]["template"]["spec"]
        for manifest in manifests
        if manifest["kind"] in ("Deployment", "Job", "InferenceService")
    )
    assert spec["nodeSelector"] == {
        "nvidia.com/gpu.product": values["GPU_PRODUCT"],
        "topology.kubernetes.io/zone": values["ZONE"],
    }
    assert len(manifests) == len(render(name)), "the component's values are no object of the cluster"


def test_the_autoscaler_goes_where_the_servers_are(tmp_path: Path) -> None:
    assert "HorizontalPodAutoscaler" in {
        manifest["kind"] for manifest in with_component("overlays/one-gpu", "autoscaling", tmp_path)
    }


def test_a_proxy_may_be_reached_by_the_export_alone(tmp_path: Path) -> None:
    (policy,) = (
        manifest["spec"]
        for manifest in with_component("export/gpu", "proxy", tmp_path)
        if manifest["metadata"]["name"] == "perception-encoder-export-proxy"
    )
    assert policy["podSelector"] == of_kind("export/gpu", "NetworkPolicy")["spec"]["podSelector"]
    assert policy["egress"] == [{"ports": [{"port": 3128}]}]
    assert policy["policyTypes"] == ["Egress"]


def test_the_volumes_pod_has_the_exports_user_and_its_folders() -> None:
    """So it can delete what the export wrote, and the export finds what was copied."""
    (pod,), (export,) = pods("volume"), pods("export/gpu")
    assert pod["securityContext"] == export["securityContext"]
    assert pod["volumes"] == [volume for volume in export["volumes"] if volume["name"] == "models"]
    assert mounts(containers("volume")["volume"]) == {"/volume": {}}
    folders = {mount.get("subPath") for mount in mounts(containers("export/gpu")["export"]).values()}
    page = (ROOT / "deploy/kubernetes/README.md").read_text()
    for folder in folders - {None}:
        assert f"/volume/{folder}/" in page


@pytest.mark.parametrize("name", ["overlays/one-gpu", *COLORS, "kserve"])
def test_keys_come_as_a_file_which_the_gateway_reads_again(name: str, tmp_path: Path) -> None:
    """A variable would need new pods, which is a pause with one GPU. Without the Secret, no pod starts."""
    (spec,) = (
        manifest["spec"]
        for manifest in with_component(name, "api-keys", tmp_path)
        if manifest["kind"] in ("Deployment", "InferenceService")
    )
    pod = spec["predictor"] if "predictor" in spec else spec["template"]["spec"]
    (gateway,) = pod["containers"]
    assert {"name": "api-keys", "secret": {"secretName": "perception-encoder-api-keys"}} in pod["volumes"]
    (mount,) = (mount for mount in gateway["volumeMounts"] if mount["name"] == "api-keys")
    assert "subPath" not in mount, "the kubelet does not renew a file of a subPath"
    assert named(gateway)["PE_API_KEYS_FILE"] == f"{mount['mountPath']}/api-keys"


@pytest.mark.parametrize("name", EXPORTING)
def test_the_export_takes_a_token_from_a_secret_that_may_be_missing(name: str) -> None:
    (secret,) = (source["secretRef"] for source in containers(name)["export"]["envFrom"] if "secretRef" in source)
    assert secret == {"name": "perception-encoder-export", "optional": True}


def test_one_service_selects_one_color() -> None:
    def labels(name: str) -> dict[str, str]:
        found: dict[str, str] = of_kind(name, "Deployment")["spec"]["template"]["metadata"]["labels"]
        return found

    def selects(service: str, name: str) -> bool:
        return bool(of_kind(service, "Service")["spec"]["selector"].items() <= labels(name).items())

    for service, selected in (("blue-green/front", "blue-green/blue"), *((color, color) for color in COLORS)):
        assert [color for color in COLORS if selects(service, color)] == [selected]
    folders = {
        manifest["data"]["PE_MODELS"]
        for color in COLORS
        for manifest in render(color)
        if "PE_MODELS" in manifest.get("data", {})
    }
    assert folders == {"1", "2"}
    names = [{(manifest["kind"], manifest["metadata"]["name"]) for manifest in render(name)} for name in (*COLORS,)]
    assert not names[0] & names[1], "deleting one color would delete objects of the other"
    assert of_kind("blue-green/front", "Service")["spec"]["ports"] == of_kind(COLORS[0], "Service")["spec"]["ports"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_debug_container_is_as_restricted_as_the_namespace_demands(version: str) -> None:
    partial = yaml.safe_load((FOLDER / "debug/perf-analyzer.yaml").read_text())
    (spec,) = pods("overlays/one-gpu")
    image = "nvcr.io/nvidia/tritonserver"
    debugged = spec | {
        "ephemeralContainers": [{"name": "debugger", "image": image, "targetContainerName": "triton"} | partial]
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": debugged}
    kubernetes_validate.validate(pod, version, strict=True)
    context = partial["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == containers("overlays/one-gpu")["triton"]["securityContext"]["runAsUser"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}


@pytest.mark.parametrize("name", EXPORTING)
def test_the_job_always_ends(name: str) -> None:
    """wait-for-export.sh has no timeout of its own."""
    assert of_kind(name, "Job")["spec"]["activeDeadlineSeconds"] <= 7200


@pytest.mark.parametrize(
    ("answers", "status", "said"),
    [
        (["SuccessCriteriaMet Complete"], 0, "completed"),
        (["FailureTarget", "FailureTarget Failed"], 1, "Killed"),
        ([None], 2, "no such host"),
        (["", "Complete"], 0, "job/perception-encoder-export waits: 0/3 nodes are available"),
    ],
)
def test_the_wait_for_the_export_ends_as_the_job_does(
    answers: list[str | None], status: int, said: str, tmp_path: Path
) -> None:
    """The script is real. A stand-in for kubectl, which needs a cluster, prints a job's conditions, one call each."""
    for number, answer in enumerate(answers):
        (tmp_path / f"answer{number}").write_text("exit 1" if answer is None else f"printf '%s' '{answer}'")
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        f"""#!/bin/sh
cd {tmp_path}
test "$1 $2" = '--namespace perception-encoder' || exit 64
case "$3 $4" in
'get job/perception-encoder-export')
    echo >> calls
    file=answer$(($(wc -l < calls) - 1))
    grep -q '^exit' $file && echo 'no such host' >&2
    . ./$file ;;
'get pods') [ "$6" = job-name=perception-encoder-export ] && echo '0/3 nodes are available' ;;
'logs job/perception-encoder-export') echo Killed ;;
*) exit 64 ;;
esac
"""
    )
    kubectl.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = FOLDER / "wait-for-export.sh"
    run = subprocess.run([script], env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == status
    assert said in run.stdout + run.stderr
    assert (tmp_path / "calls").read_text().count("\n") == len(answers)
