"""Clients that exist, through HTTPS by the real nginx, before the real stack.

nginx has the committed configuration, or one that it would get from the committed Ingress. For the latter, F5's Ingress
controller makes of each annotation the directive of its name, and of each path a location
(internal/configs/version1/nginx.ingress.tmpl in nginx/kubernetes-ingress 5.5.4).
"""

import base64
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import yaml
from inference_sdk import InferenceHTTPClient
from PIL import Image

from gateway.settings import Settings
from tests.deploy.nginx import CONF, Proxy, metric, nginx
from tests.pictures import PHOTOGRAPHS, base64_image, encoded
from tests.running import PeServe
from tests.tools import ROOT, find_tool

pytestmark = [
    pytest.mark.triton,
    # Advice on how to send its key, which this server has no use for.
    pytest.mark.filterwarnings("ignore::inference_sdk.config.InferenceSDKGuidanceWarning"),
]

INGRESS = ROOT / "deploy/kubernetes/components/ingress/ingress.yaml"
IMAGE, TEXT = "/perception_encoder/embed_image", "/perception_encoder/embed_text"
CLIENT_LEFT = 'pe_refused_total{reason="ClientLeft"}'
VERSIONS = ("1.1", "2")


def site_of_the_ingress() -> str:
    (ingress,) = yaml.safe_load_all(INGRESS.read_text())
    annotations = {key.removeprefix("nginx.org/"): value for key, value in ingress["metadata"]["annotations"].items()}
    code, keepalive = annotations.pop("http-redirect-code"), annotations.pop("keepalive")
    directives = "".join(f"    {name.replace('-', '_')} {value};\n" for name, value in annotations.items())
    (rule,) = ingress["spec"]["rules"]
    locations = "".join(
        f"    location {'= ' if path['pathType'] == 'Exact' else ''}{path['path']} {{\n"
        "        proxy_http_version 1.1;\n"
        '        proxy_set_header Connection "";\n'
        "        proxy_set_header Host $host;\n"
        "        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n"
        "        proxy_set_header X-Forwarded-Proto $scheme;\n"
        "        proxy_pass http://gateways;\n"
        "    }\n"
        for path in rule["http"]["paths"]
    )
    return (
        f"upstream gateways {{ server 127.0.0.1:9001; keepalive {keepalive}; }}\n"
        f"server {{ listen 80; return {code} https://$host$request_uri; }}\n"
        "server {\n"
        "    listen 443 ssl http2;\n"
        "    ssl_certificate /etc/nginx/tls/fullchain.pem;\n"
        "    ssl_certificate_key /etc/nginx/tls/privkey.pem;\n"
        f"{directives}{locations}}}\n"
    )


@dataclass(frozen=True)
class Front:
    """What clients reach, and what is behind."""

    proxy: Proxy
    path: str  # before the gateway's own
    gateway: int  # its port
    serve: PeServe

    def url(self, path: str) -> str:
        return f"https://localhost:{self.proxy.https}{self.path}{path}"

    def curl(self, path: str, *options: str | Path, version: str = "2", body: Path | None = None) -> tuple[int, str]:
        """The status (0 without an answer) and the body of what curl, which is no Python, is answered."""
        command: list[str | Path] = [find_tool("curl"), "--silent", "--cacert", self.proxy.certificate]
        command += [f"--http{version}", "--write-out", "\n%{http_version} %{http_code}", *options, self.url(path)]
        if body is not None:
            command += ["--header", "Content-Type: application/json", "--data-binary", f"@{body}"]
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        text, _, facts = run.stdout.rpartition("\n")
        spoken, status = facts.split()
        assert spoken in (version, "0")
        return int(status), text

    def metric(self, series: str) -> float:
        return metric(self.gateway, series)

    def direct(self, path: str, body: Any) -> httpx2.Response:
        return httpx2.post(f"http://127.0.0.1:{self.gateway}{path}", json=body, timeout=60)


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeServe]:
    settings = {
        "PE_ROOT_PATH": "/vision",
        "PE_MAX_IMAGE_PIXELS": "30000000",
        **dict.fromkeys(
            ("ALLOW_NON_HTTPS_URL_INPUT", "ALLOW_URL_INPUT_WITHOUT_FQDN", "ALLOW_URL_TO_NON_GLOBAL_ADDRESSES"), "true"
        ),
    }
    serve = PeServe(tmp_path_factory.mktemp("behind-https"), "--port", "0", **settings)
    try:
        serve.wait_until_ready()
        yield serve
        assert serve.stop() == 0, serve.output
    finally:
        serve.kill()


@pytest.fixture(scope="module", params=["committed", "ingress"])
def front(request: pytest.FixtureRequest, serve: PeServe) -> Iterator[Front]:
    gateway = int(serve.wait_until_ready().rpartition(":")[2])
    ingress = request.param == "ingress"
    with nginx(gateway, site=site_of_the_ingress() if ingress else CONF.read_text()) as proxy:
        yield Front(proxy, "" if ingress else "/vision", gateway, serve)


def test_the_incumbents_client(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(front.proxy.certificate))
    sdk = InferenceHTTPClient(api_url=front.url(""), api_key="anything")
    (photograph, *_) = PHOTOGRAPHS
    image = sdk.get_perception_encoder_image_embeddings(str(photograph))["embeddings"]
    expected = front.direct(IMAGE, {"image": base64_image(photograph.read_bytes())}).json()["embeddings"]
    np.testing.assert_allclose(image, expected, atol=1e-5)
    assert len(sdk.get_perception_encoder_text_embeddings(["one", "two"])["embeddings"]) == 2


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A request of 20 MB: one picture of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (2000, 2500, 3), np.uint8)
    picture = encoded(Image.fromarray(pixels), compress_level=0)
    file = tmp_path_factory.mktemp("large") / "body.json"
    file.write_text(json.dumps({"image": {"type": "base64", "value": base64.b64encode(picture).decode()}}))
    assert 20_000_000 < file.stat().st_size < 21_000_000
    return file


@pytest.mark.parametrize("version", VERSIONS)
def test_twenty_megabytes(front: Front, large: Path, version: str) -> None:
    status, text = front.curl(IMAGE, version=version, body=large)
    assert status == 200, text
    (through,) = json.loads(text)["embeddings"]
    (direct,) = front.direct(IMAGE, json.loads(large.read_text())).json()["embeddings"]
    np.testing.assert_allclose(through, direct, atol=1e-5)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_body_that_is_too_large(front: Front, tmp_path: Path, version: str) -> None:
    body = tmp_path / "body"
    with body.open("wb") as file:
        file.truncate(Settings().max_body_bytes + 1)
    before = front.metric('pe_refused_total{reason="PayloadTooLarge"}')
    status, text = front.curl(IMAGE, version=version, body=body)
    assert status == 413
    if front.path:  # the committed configuration speaks as the gateway does; an Ingress controller has its own page
        assert "larger than" in json.loads(text)["message"]
    assert front.metric('pe_refused_total{reason="PayloadTooLarge"}') == before, "nginx refuses it"


def test_an_upload_that_is_cut_off_never_reaches_the_gateway(front: Front, large: Path) -> None:
    body = large.read_bytes()
    before = front.metric("pe_connections_closed_total"), front.metric(CLIENT_LEFT)
    with (
        socket.create_connection(("localhost", front.proxy.https)) as raw,
        front.proxy.tls.wrap_socket(raw, server_hostname="localhost") as wire,
    ):
        head = f"POST {front.path}{IMAGE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        wire.sendall(head.encode() + body[: len(body) // 2])
        assert front.metric("pe_in_flight") == 0
    assert front.curl(TEXT, "--json", '{"text": "still here"}')[0] == 200
    assert front.metric("pe_in_flight") == 0
    assert (front.metric("pe_connections_closed_total"), front.metric(CLIENT_LEFT)) == before


@pytest.mark.parametrize("version", VERSIONS)
def test_the_gateway_is_told_when_a_client_leaves(front: Front, version: str) -> None:
    """So that it stops working for nobody."""
    before = front.metric(CLIENT_LEFT)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/image.jpg"
        status, _ = front.curl(
            IMAGE, "--max-time", "1", "--json", json.dumps({"image": {"type": "url", "value": url}}), version=version
        )
        assert status == 0
        end = time.monotonic() + 20
        while front.metric(CLIENT_LEFT) == before:
            assert time.monotonic() < end
            time.sleep(0.05)
    assert front.metric("pe_fetches_in_flight") == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_metrics_are_for_prometheus_alone(front: Front, version: str) -> None:
    ways = ("/metrics", "/metrics/", "/metrics//", "//metrics", "/vision/metrics", "/v1/../metrics", "/%6detrics")
    for path in (*ways, "/docs/..%2fmetrics", "/metrics?", "/metrics%2f", "/vision/vision/metrics/"):
        status, text = front.curl(path, "--path-as-is", version=version)
        assert "pe_requests_total" not in text, path
        assert status in (400, 404), path


def test_the_log_has_the_client_and_not_what_it_says_of_itself(front: Front) -> None:
    """Also where nginx appends to the header: the gateway takes the last address that is not of a trusted proxy."""
    name = f"asked-through{front.path.replace('/', '-')}-{os.getpid()}"
    front.curl(
        TEXT, "--interface", "127.0.0.5", "--header", "X-Forwarded-For: 203.0.113.7, 127.0.0.1",
        "--header", f"X-Request-Id: {name}", "--json", '{"text": "x"}', version="1.1",
    )  # fmt: skip
    line = json.loads(front.serve.wait_for(rf'^.*gateway\.access (\{{"request_id": ?"{name}".*)$')[1])
    assert line["client"] == "127.0.0.5"


def test_plain_http_is_sent_to_tls_as_it_is(front: Front) -> None:
    answer = httpx2.post(f"http://127.0.0.1:{front.proxy.http}{front.path}{TEXT}", headers={"Host": "here"}, json={})
    assert (answer.status_code, answer.headers["location"]) == (308, f"https://here{front.path}{TEXT}")


def test_the_pages_can_be_read(front: Front) -> None:
    for path in ("/", "/docs"):
        status, text = front.curl(path)
        assert status == 200
        for found in re.findall(r'(?:src|href)="([^"#:]+)"', text):
            base = httpx2.URL(front.url(path)).join(found)
            assert front.curl(base.path.removeprefix(front.path))[0] == 200, found
