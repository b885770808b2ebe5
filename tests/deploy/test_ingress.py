"""The components `ingress` and `gateway-api`, which bring requests from outside a cluster to the gateway."""

import json
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest
import yaml
from starlette.routing import Route

from gateway.http.app import create_app
from gateway.settings import Settings
from tests.deploy.test_kubernetes import FOLDER, GATEWAY_API, ROOT, Manifest, environment, of_kind, with_component
from tests.fakes import FakeEncoder, FakeFetch, InlineDecoder

pytestmark = pytest.mark.slow

FILE: Final = Path(__file__)


def faults(objects: list[Manifest]) -> list[str]:
    """What the schemas of the Gateway API, and strictness about unknown fields, find."""
    command: list[str | Path] = ["node", FILE.parent / "gateway_api/validate.js", ROOT / ".tools/gateway-api"]
    run = subprocess.run(command, input=json.dumps(objects), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


@pytest.fixture(scope="module")
def gateway_api(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    manifests = with_component("overlays/one-gpu", "gateway-api", tmp_path_factory.mktemp("site"))
    return [manifest for manifest in manifests if manifest["apiVersion"] == GATEWAY_API]


def test_gateway_and_routes_fit_the_schemas_of_the_gateway_api(gateway_api: list[Manifest]) -> None:
    assert [manifest["kind"] for manifest in gateway_api] == ["Gateway", "HTTPRoute", "HTTPRoute"]
    assert faults(gateway_api) == []


def test_the_schemas_of_the_gateway_api_object(gateway_api: list[Manifest]) -> None:
    gateway, route, redirect = json.loads(json.dumps(gateway_api))
    del gateway["spec"]["listeners"][0]["protocol"]
    route["spec"]["rules"][0]["timeout"] = route["spec"]["rules"][0].pop("timeouts")
    redirect["spec"]["rules"][0]["filters"][0]["requestRedirect"]["statusCode"] = 309
    found = faults([gateway, route, redirect, {**route, "kind": "HttpRoute"}])
    for fault, about in zip(found, ["protocol", "timeout", "timeout", "statusCode", "no schema"], strict=True):
        assert about in fault


def test_routes_hang_together(gateway_api: list[Manifest]) -> None:
    gateway, route, redirect = gateway_api
    values = environment("gateway-api/gateway.env")
    assert gateway["spec"]["gatewayClassName"] == values["CLASS"]
    http, https = gateway["spec"]["listeners"]
    assert https["tls"]["certificateRefs"] == [{"name": values["CERTIFICATE"]}]
    for listener, its_route in ((https, route), (http, redirect)):
        assert listener["hostname"] == values["HOST"]
        assert its_route["spec"]["hostnames"] == [values["HOST"]]
        assert its_route["spec"]["parentRefs"] == [
            {"name": gateway["metadata"]["name"], "sectionName": listener["name"]}
        ]
    (rule,) = route["spec"]["rules"]
    service = of_kind("overlays/one-gpu", "Service")
    assert rule["backendRefs"] == [
        {"name": service["metadata"]["name"], "port": port["port"]} for port in service["spec"]["ports"]
    ]
    assert int(rule["timeouts"]["request"].removesuffix("s")) > Settings().deadline_seconds
    paths = {(match["path"]["value"], match["path"]["type"] == "Exact") for match in rule["matches"]}
    assert_all_but_metrics(paths)


def test_the_ingress_leads_to_the_service(tmp_path: Path) -> None:
    (ingress,) = (
        manifest
        for manifest in with_component("overlays/one-gpu", "ingress", tmp_path)
        if manifest["kind"] == "Ingress"
    )
    values = environment("ingress/ingress.env")
    assert ingress["spec"]["ingressClassName"] == values["CLASS"]
    assert ingress["spec"]["tls"] == [{"hosts": [values["HOST"]], "secretName": values["CERTIFICATE"]}]
    (rule,) = ingress["spec"]["rules"]
    assert rule["host"] == values["HOST"]
    service = of_kind("overlays/one-gpu", "Service")
    (port,) = service["spec"]["ports"]
    for path in rule["http"]["paths"]:
        assert path["backend"] == {"service": {"name": service["metadata"]["name"], "port": {"name": port["name"]}}}
    assert_all_but_metrics({(path["path"], path["pathType"] == "Exact") for path in rule["http"]["paths"]})


def test_the_ingress_sets_what_the_page_of_nginx_explains() -> None:
    """Each annotation of F5's controller has the name of a directive."""
    (ingress,) = yaml.safe_load_all((FOLDER / "components/ingress/ingress.yaml").read_text())
    conf = (ROOT / "deploy/nginx/perception-encoder.conf").read_text()
    annotations = {key.removeprefix("nginx.org/"): value for key, value in ingress["metadata"]["annotations"].items()}
    assert annotations.pop("http-redirect-code") == re.findall(r"return (\d+) https:", conf)[0]
    assert len(annotations) > 8
    for name, value in annotations.items():
        assert re.search(rf"^\s+{name.replace('-', '_')} {re.escape(value)};", conf, re.MULTILINE), name


def assert_all_but_metrics(paths: set[tuple[str, bool]]) -> None:
    """Each route of the gateway is led to by a path, which is exact or a prefix; /metrics by none."""
    app = create_app(Settings(), FakeEncoder(), FakeFetch(), InlineDecoder())
    routes = {route.path for route in app.routes if isinstance(route, Route)}
    assert {"/metrics", "/v1/embeddings", "/perception_encoder/classify", "/page/{file:path}"} <= routes
    led = {
        route
        for route in routes
        if any(route == path if exact else f"{route}/".startswith(f"{path}/") for path, exact in paths)
    }
    assert routes - led == {"/metrics"}
    assert len(paths) <= 64, "more are no valid rule of an HTTPRoute"
