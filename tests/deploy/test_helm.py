"""deploy/helm as Helm's own library renders it: the same objects as kustomize's, and what values may change."""

import json
import re
import tarfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import jsonschema
import kubernetes_validate
import pytest
import yaml

from export.graph.spec import Precision
from export.variants import VARIANTS
from tests.deploy.helm_library import CHART, VERSIONS, Helm, HelmError
from tests.deploy.test_kubernetes import CUSTOM, FOLDER, ROOT, Manifest, environment, render, with_component
from tests.deploy.test_kubernetes import VERSIONS as KUBERNETES_VERSIONS

pytestmark = pytest.mark.slow

# Files of values, the overlay and the export with the same objects.
SETS = {
    "one GPU": ((), "one-gpu", "gpu"),
    "several GPUs": (("values-several-gpus.yaml",), "several-gpus", "gpu"),
    "CPU": (("values-cpu.yaml",), "cpu", "cpu"),
}
EXPORT = {"export": {"enabled": True}}
EVERYTHING: dict[str, Any] = {
    **EXPORT,
    "autoscaling": {"enabled": True},
    "podMonitor": {"enabled": True},
    "imagePullSecrets": [{"name": "registry"}],
    "podAnnotations": {"example.com/team": "vision"},
    "placement": {"gpuProduct": "NVIDIA-L4", "zone": "zone-b"},
    "nodeSelector": {"pool": "gpus"},
    "tolerations": [{"key": "reserved", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}},
    "networkPolicy": {"proxyPort": 3128},
    "triton": {"arguments": ["--log-verbose=1"], "image": {"pullPolicy": "Always", "tag": "mine"}},
    "gateway": {
        "settings": {"PE_MAX_BODY_BYTES": 67108864, "ALLOW_URL_INPUT": False},
        "existingSecret": "more",
        "apiKeysSecret": "keys",
    },
    "service": {"type": "LoadBalancer", "annotations": {"example.com/internal": "true"}, "port": 80},
    "volume": {"storageClass": "shared", "accessModes": ["ReadWriteMany"], "size": "100Gi"},
    "ingress": {"enabled": True, "host": "embed.example.com", "tlsSecret": "tls", "className": "nginx"},
}


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Helm]:
    program = Helm(tmp_path_factory.mktemp("helm"))
    yield program
    program.close()


def of_kind(manifests: list[Manifest], kind: str, name: str = "perception-encoder") -> Manifest:
    (found,) = (one for one in manifests if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return found


def kinds(manifests: list[Manifest]) -> set[str]:
    return {manifest["kind"] for manifest in manifests}


def pod_of(manifests: list[Manifest]) -> Manifest:
    pod: Manifest = of_kind(manifests, "Deployment")["spec"]["template"]["spec"]
    return pod


def named(manifests: list[Manifest] | tuple[Manifest, ...]) -> dict[tuple[str, str], Manifest]:
    return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}


def from_kustomize(overlay: str, export: str) -> dict[tuple[str, str], Manifest]:
    """Objects of kustomize, without their namespace and the hashes in the names of ConfigMaps."""
    manifests = (*render(f"overlays/{overlay}"), *render(f"export/{export}"), *render("storage"))
    text = re.sub(
        r"(name: (?:perception-encoder-models|triton-start|triton-preflight))-[a-z0-9]{10}\b",
        r"\1",
        yaml.safe_dump_all(manifests),
    )
    found = named(list(yaml.safe_load_all(text)))
    for manifest in found.values():
        manifest["metadata"].pop("namespace", None)
        if manifest["kind"] == "Service":
            manifest["spec"].setdefault("type", "ClusterIP")  # Kubernetes' default
    del found["Namespace", "perception-encoder"]  # Helm makes none
    return found


def from_helm(manifests: list[Manifest]) -> dict[tuple[str, str], Manifest]:
    """Objects of Helm, without what Helm adds: labels, annotations, and the release's name in names of ConfigMaps."""

    def without(value: Any) -> Any:
        if isinstance(value, list):
            return [without(item) for item in value]
        if not isinstance(value, dict):
            return value
        added = {
            "app.kubernetes.io/instance",
            "app.kubernetes.io/version",
            "app.kubernetes.io/managed-by",
            "helm.sh/chart",
            "helm.sh/hook",
            "helm.sh/hook-delete-policy",
            "helm.sh/resource-policy",
            "checksum/settings",
        }
        kept = {key: without(item) for key, item in value.items() if key not in added}
        return {key: item for key, item in kept.items() if not (key == "annotations" and item == {})}

    text = yaml.safe_dump_all(manifests).replace("perception-encoder-triton-", "triton-")
    return {key: without(manifest) for key, manifest in named(list(yaml.safe_load_all(text))).items()}


@pytest.mark.parametrize("name", SETS)
def test_the_chart_makes_the_same_objects_as_kustomize(helm: Helm, name: str) -> None:
    files, overlay, export = SETS[name]
    made, wanted = from_helm(helm.template(EXPORT, files)), from_kustomize(overlay, export)
    assert made.keys() == wanted.keys()
    for key, manifest in made.items():
        other = wanted[key]
        labels = manifest["metadata"].pop("labels")
        assert other["metadata"].pop("labels", {}).items() <= labels.items()
        assert manifest == other, key


@pytest.mark.parametrize("component", ["placement", "proxy", "api-keys"])
def test_components_are_values(helm: Helm, component: str, tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "placement": {"placement": {"gpuProduct": "NVIDIA-H100-80GB-HBM3", "zone": "zone-a"}},
        "proxy": {"networkPolicy": {"proxyPort": 3128}},
        "api-keys": {"gateway": {"apiKeysSecret": "perception-encoder-api-keys"}},
    }
    made = from_helm(helm.template(EXPORT | values[component]))
    compared = 0
    top = "overlays/one-gpu" if component == "api-keys" else "export/gpu"
    for wanted in with_component(top, component, tmp_path):
        if wanted["kind"] not in ("ConfigMap", "Service"):
            compared += 1
            key = wanted["kind"], wanted["metadata"]["name"]
            names = r"(perception-encoder-models|triton-start|triton-preflight)-[a-z0-9]{10}\b"
            text = re.sub(names, r"\1", yaml.safe_dump(wanted["spec"]))
            assert in_order(made[key]["spec"]) == in_order(yaml.safe_load(text)), key
    assert compared == (2 if component == "placement" else 3)


def in_order(node: Any) -> Any:
    """Lists of objects with names in the order of these names, which means nothing to Kubernetes in these lists."""
    if isinstance(node, dict):
        return {key: in_order(value) for key, value in node.items()}
    if isinstance(node, list):
        return sorted(map(in_order, node), key=lambda item: str(item.get("name", "")) if isinstance(item, dict) else "")
    return node


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize(
    ("files", "values"),
    [*((files, EXPORT) for files, _, _ in SETS.values()), ((), EVERYTHING)],
    ids=[*SETS, "everything"],
)
def test_what_it_makes_fits_the_schemas_of_kubernetes(
    helm: Helm, files: tuple[str, ...], values: dict[str, Any], version: str
) -> None:
    validated = 0
    for manifest in helm.template(values, files):
        if manifest["apiVersion"] not in CUSTOM:
            validated += 1
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # it only warns of a schema that it does not have
                assert kubernetes_validate.validate(manifest, version, strict=True).startswith(version)
    assert validated >= 10


@pytest.mark.parametrize("name", SETS)
def test_helm_3_and_4_make_the_same(helm: Helm, name: str) -> None:
    three, four = (helm.template(EXPORT, SETS[name][0], version=version) for version in VERSIONS)
    assert named(three) == named(four)


@pytest.mark.parametrize("version", VERSIONS)
def test_helm_has_nothing_to_say_about_the_chart(helm: Helm, version: str) -> None:
    said = json.loads(helm.run("lint", paths=[str(CHART)], strict=True, values=EXPORT, helm_version=version))
    assert said["passed"]
    assert [message["message"] for message in said["messages"]] == ["icon is recommended"]


def test_every_value_reaches_the_objects(helm: Helm) -> None:
    manifests = helm.template(EVERYTHING)
    pod = pod_of(manifests)
    (triton,), (gateway,) = pod["initContainers"], pod["containers"]
    assert triton["image"] == "nvcr.io/nvidia/tritonserver:mine"
    assert triton["imagePullPolicy"] == "Always"
    assert triton["args"][-1] == "--log-verbose=1"
    assert {"secretRef": {"name": "more", "optional": False}} in gateway["envFrom"]
    assert {"name": "api-keys", "secret": {"secretName": "keys"}} in pod["volumes"]
    assert of_kind(manifests, "ConfigMap", "perception-encoder-gateway")["data"] == {
        "PE_MAX_BODY_BYTES": "67108864",
        "ALLOW_URL_INPUT": "false",
    }
    job = of_kind(manifests, "Job", "perception-encoder-export")["spec"]["template"]["spec"]
    for one in (pod, job):
        assert one["nodeSelector"] == {
            "pool": "gpus",
            "nvidia.com/gpu.product": "NVIDIA-L4",
            "topology.kubernetes.io/zone": "zone-b",
        }
        assert [toleration["key"] for toleration in one["tolerations"]] == ["nvidia.com/gpu", "reserved"]
        assert one["affinity"] == EVERYTHING["affinity"]
        assert one["imagePullSecrets"] == EVERYTHING["imagePullSecrets"]
    template = of_kind(manifests, "Deployment")["spec"]["template"]
    assert template["metadata"]["annotations"].items() >= EVERYTHING["podAnnotations"].items()
    service = of_kind(manifests, "Service")
    assert (service["spec"]["type"], service["spec"]["ports"][0]["port"]) == ("LoadBalancer", 80)
    assert service["metadata"]["annotations"] == EVERYTHING["service"]["annotations"]
    claim = of_kind(manifests, "PersistentVolumeClaim", "perception-encoder-models")["spec"]
    assert claim == {
        "storageClassName": "shared",
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "100Gi"}},
    }


def test_the_ingress_leads_to_the_service_by_tls(helm: Helm) -> None:
    manifests = helm.template(EVERYTHING)
    ingress = of_kind(manifests, "Ingress")
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["spec"]["tls"] == [{"hosts": ["embed.example.com"], "secretName": "tls"}]
    (rule,) = ingress["spec"]["rules"]
    assert rule["host"] == "embed.example.com"
    service = of_kind(manifests, "Service")
    for path in rule["http"]["paths"]:
        assert path["backend"]["service"]["name"] == service["metadata"]["name"]
        assert path["backend"]["service"]["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}
    assert "Ingress" not in kinds(helm.template(EVERYTHING | {"server": {"enabled": False}}))


def test_the_ingress_can_publish_the_server_below_a_path(helm: Helm) -> None:
    def paths(path: str) -> list[str]:
        ingress = of_kind(helm.template({"ingress": EVERYTHING["ingress"] | {"path": path}}), "Ingress")
        return [one["path"] for one in ingress["spec"]["rules"][0]["http"]["paths"]]

    assert [f"/vision{path}" for path in paths("/")] == paths("/vision") == paths("/vision/")
    assert {"/perception_encoder", "/"} <= set(paths("/"))
    assert not any("metrics" in path for path in paths("/"))


def test_the_ingress_is_that_of_the_component(helm: Helm, tmp_path: Path) -> None:
    values = environment("ingress/ingress.env")
    ingress = {"host": values["HOST"], "className": values["CLASS"], "tlsSecret": values["CERTIFICATE"]}
    made = of_kind(helm.template({"ingress": {"enabled": True, **ingress}}), "Ingress")
    wanted = of_kind(with_component("overlays/one-gpu", "ingress", tmp_path), "Ingress")
    assert made["spec"] == wanted["spec"]
    assert made["metadata"]["annotations"] == wanted["metadata"]["annotations"]


def test_gpus_are_asked_for_as_the_values_say(helm: Helm) -> None:
    values = EXPORT | {"gpu": {"count": 2, "resource": "nvidia.com/mig-3g.40gb"}}
    manifests = helm.template(values)
    (triton,) = pod_of(manifests)["initContainers"]
    assert triton["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/mig-3g.40gb": "2"}
    job = of_kind(manifests, "Job", "perception-encoder-export")["spec"]["template"]["spec"]
    assert job["containers"][0]["resources"]["limits"] == {"memory": "32Gi", "nvidia.com/mig-3g.40gb": "1"}


def test_the_end_of_a_release_keeps_namespace_and_volume(helm: Helm) -> None:
    manifests = helm.template(EVERYTHING)
    assert "Namespace" not in kinds(manifests)
    claim = of_kind(manifests, "PersistentVolumeClaim", "perception-encoder-models")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_a_volume_that_exists_is_used(helm: Helm) -> None:
    manifests = helm.template(EXPORT | {"volume": {"existingClaim": "shared-models"}})
    assert "PersistentVolumeClaim" not in kinds(manifests)
    job = of_kind(manifests, "Job", "perception-encoder-export")["spec"]["template"]["spec"]
    for pod in (pod_of(manifests), job):
        assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "shared-models"}


def test_the_export_is_waited_for_and_can_run_again(helm: Helm) -> None:
    manifests = helm.template(EXPORT | {"server": {"enabled": False}})
    assert kinds(manifests) == {"ConfigMap", "Job", "NetworkPolicy", "PersistentVolumeClaim"}
    annotations = of_kind(manifests, "Job", "perception-encoder-export")["metadata"]["annotations"]
    assert annotations["helm.sh/hook"] == "post-install,post-upgrade"
    assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation"
    # Helm knows that it is a hook: the program leaves hooks out.
    text = helm.run("template", release_name="a", chart=str(CHART), kube_version="1.36.0", values=EXPORT)
    assert "kind: Deployment" in text
    assert "kind: Job" not in text


def test_a_change_of_settings_replaces_the_pods(helm: Helm) -> None:
    def checksum(**values: Any) -> str:
        template = of_kind(helm.template(values), "Deployment")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/settings"])

    changes = ({"models": {"folder": 2}}, {"gateway": {"settings": {"PE_MAX_IN_FLIGHT": 8}}}, {"service": {"port": 80}})
    before, models, settings, service = checksum(), *(checksum(**values) for values in changes)
    assert len({before, models, settings}) == 3
    assert service == before


def test_two_releases_share_nothing_but_the_volume(helm: Helm) -> None:
    volume = {"volume": {"existingClaim": "perception-encoder-models"}}
    blue, green = (helm.template(volume | EXPORT, release=name) for name in ("perception-encoder", "green"))
    assert not named(blue).keys() & named(green).keys()
    labels = of_kind(green, "Deployment", "green-perception-encoder")["spec"]["template"]["metadata"]["labels"]
    for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
        spec = of_kind(blue, kind)["spec"]
        selector = spec.get("podSelector", spec["selector"] if kind == "Service" else spec.get("selector"))
        selector = selector.get("matchLabels", selector)
        assert not selector.items() <= labels.items(), kind


def test_the_service_is_turned_to_another_release_by_one_change(helm: Helm) -> None:
    volume = {"volume": {"existingClaim": "perception-encoder-models"}}
    before = named(helm.template(volume))
    after = named(helm.template(volume | {"service": {"release": "green"}}))
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    assert changed == {("Service", "perception-encoder")}
    green = helm.template(volume, release="green")
    labels = of_kind(green, "Deployment", "green-perception-encoder")["spec"]["template"]["metadata"]["labels"]
    assert after["Service", "perception-encoder"]["spec"]["selector"].items() <= labels.items()
    ended = helm.template(volume | {"service": {"release": "green"}, "server": {"enabled": False}})
    assert kinds(ended) == {"Service"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model": {}}, "additional properties 'model' not allowed"),
        ({"models": {"variant": "PE-Core-L14"}}, "at '/models/variant': value must be one of"),
        ({"models": {"engine": "onnx", "precision": "int8"}}, "at '/models/precision': value must be one of"),
        ({"models": {"folder": "../1"}}, "at '/models/folder'"),
        ({"models": {"weights": "hub"}}, "at '/models/weights'"),
        ({"tritonRelease": 27.10}, "at '/tritonRelease': got number, want string"),
        ({"gpu": {"count": "1"}}, "at '/gpu/count': got string, want integer"),
        ({"gpu": {"count": 0}}, "TensorRT needs a GPU, and gpu.count is 0"),
        ({"triton": {"resources": {"limits": {"memory": "16 GB"}}}}, "at '/triton/resources/limits/memory'"),
        ({"triton": {"image": {"repository": None}}}, "missing property 'repository'"),
        ({"volume": {"size": "50"}}, "at '/volume/size'"),
        ({"volume": {"existingClaim": "Models"}}, "at '/volume/existingClaim'"),
        ({"service": {"type": "Ingress"}}, "at '/service/type': value must be one of"),
        ({"ingress": {"enabled": True}}, "ingress.host: ingress.enabled needs the host's name"),
        ({"autoscaling": {"minReplicas": 5}}, "autoscaling.minReplicas: it is more than"),
        ({"gateway": {"settings": {"PE_API_KEYS": "a"}}}, "put the keys into a Secret"),
        ({"gateway": {"settings": {"PE_API_KEYS_FILE": "/a"}}}, "name a Secret in gateway.apiKeysSecret"),
        ({"gateway": {"settings": {"NUM_WORKERS": 2}}}, "set gateway.workers"),
        ({"gateway": {"settings": {"max-body": 2}}}, "invalid propertyName 'max-body'"),
    ],
    ids=str,
)
def test_bad_values_get_a_clear_error(helm: Helm, values: dict[str, Any], said: str) -> None:
    for version in VERSIONS:
        with pytest.raises(HelmError, match=re.escape(said)):
            helm.template(values, version=version)


def test_the_schema_knows_every_value_and_misses_none() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.Draft7Validator.check_schema(schema)

    def same(properties: dict[str, Any], known: dict[str, Any], path: str) -> None:
        assert set(properties) - {"global"} == set(known), path  # Helm itself adds `global`
        for name, value in known.items():
            below = properties[name]
            if "properties" in below:
                assert below["additionalProperties"] is False, f"{path}/{name}"
                assert set(below["required"]) == set(value), f"{path}/{name}"
                same(below["properties"], value, f"{path}/{name}")

    same(schema["properties"], values, "")
    models = schema["properties"]["models"]["properties"]
    assert models["variant"]["enum"] == list(VARIANTS)
    assert models["precision"]["enum"] == list(get_args(Precision))
    # Engines are modules, which import torch.
    modules = {path.stem for path in (ROOT / "export/engines").glob("*.py")}
    assert set(models["engine"]["enum"]) <= modules


def test_settings_that_the_chart_sets_are_all_refused() -> None:
    environment = yaml.safe_load((FOLDER / "base/deployment.yaml").read_text())["spec"]["template"]["spec"]
    fixed = {variable["name"] for variable in environment["containers"][0]["env"]}
    refused = set(re.findall(r'"([A-Z_]+)" "', (CHART / "templates/checks.yaml").read_text()))
    assert refused == fixed | {"PE_API_KEYS", "PE_API_KEYS_FILE"}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_package_has_what_it_needs(helm: Helm, version: str, tmp_path: Path) -> None:
    helm.run("package", path=str(CHART), destination=str(tmp_path), helm_version=version)
    (archive,) = tmp_path.glob("perception-encoder-*.tgz")
    with tarfile.open(archive) as package:
        packed = {name.partition("/")[2] for name in package.getnames()}
    assert packed == {str(path.relative_to(CHART)) for path in CHART.rglob("*") if path.is_file()}


def notes(helm: Helm, values: dict[str, Any]) -> str:
    """Helm 4 only: the dry run of Helm 3's library stands for a Kubernetes that is too old for the chart."""
    said = helm.run(
        "install",
        release_name="perception-encoder",
        chart=str(CHART),
        namespace="vision",
        dry_run="client",
        values=values,
    )
    return str(json.loads(said)["notes"])


def test_the_notes_say_what_comes_next(helm: Helm) -> None:
    after_export = notes(helm, EXPORT | {"server": {"enabled": False}})
    assert "Next, start the servers" in after_export
    assert "rollout" not in after_export
    serving = notes(helm, {})
    assert "kubectl --namespace vision rollout status deployment/perception-encoder" in serving
    assert "port-forward service/perception-encoder 9001:9001" in serving
    assert "curl https://embed.example.com/info" in notes(helm, EVERYTHING)
    assert "of the release green" in notes(helm, {"service": {"release": "green"}})
