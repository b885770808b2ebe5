"""deploy/nginx/perception-encoder.conf, but for ports and certificate, in the real nginx before the real stack."""

import asyncio
import itertools
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest

from gateway import serving
from gateway.settings import Settings
from tests.pictures import PHOTOGRAPHS, base64_image
from tests.running import PeServe, free_port
from tests.tools import ROOT, find_tool

CONF = ROOT / "deploy/nginx/perception-encoder.conf"
TEXT = "/vision/perception_encoder/embed_text"
IMAGE = "/vision/perception_encoder/embed_image"
ANSWERED = 'pe_requests_total{route="/perception_encoder/embed_text",status="200"}'
NOBODY = 65534
PLACES = 16  # requests in flight, of each worker
MAIN = """
worker_processes 1;
pid {folder}/nginx.pid;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


@dataclass(frozen=True)
class Proxy:
    https: int  # ports
    http: int
    tls: ssl.SSLContext  # of a client that knows the certificate
    folder: Path

    def client(self) -> httpx2.Client:
        return httpx2.Client(base_url=f"https://localhost:{self.https}", verify=self.tls, timeout=60)

    def async_client(self, connections: int) -> httpx2.AsyncClient:
        limits = httpx2.Limits(max_connections=connections)
        return httpx2.AsyncClient(
            base_url=f"https://localhost:{self.https}", verify=self.tls, timeout=60, limits=limits
        )


@contextmanager
def nginx(*gateways: int) -> Iterator[Proxy]:
    """Before gateways at these ports; as nobody, so that nothing it does needs root."""
    program, openssl = find_tool("nginx"), find_tool("openssl")
    https, http = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="nginx-") as name:
        folder = Path(name)
        shutil.copy(program, folder / "nginx")  # nobody may not be let into the checkout
        subprocess.run(
            [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "privkey.pem",
             "-out", folder / "fullchain.pem"],
            check=True, capture_output=True,
        )  # fmt: skip
        site = CONF.read_text()
        for old, new in {
            "listen 80;": f"listen 127.0.0.1:{http};",
            "listen 443 ssl;": f"listen 127.0.0.1:{https} ssl;",
            "server 127.0.0.1:9001;": " ".join(f"server 127.0.0.1:{port};" for port in gateways),
            "/etc/nginx/tls/": f"{folder}/",
        }.items():
            assert old in site
            site = site.replace(old, new)
        (folder / "site.conf").write_text(site)
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder))
        folder.chmod(0o755)
        user: dict[str, object] = {}
        if os.geteuid() == 0:
            for path in (folder, *folder.iterdir()):
                os.chown(path, NOBODY, NOBODY)
            user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [folder / "nginx", "-e", "stderr", "-p", folder, "-c", folder / "nginx.conf", "-g", "daemon off;"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, **user,  # type: ignore[call-overload]
            )  # fmt: skip
        try:
            wait_for_port(https, process, folder / "log")
            yield Proxy(https, http, ssl.create_default_context(cafile=str(folder / "fullchain.pem")), folder)
            said = (folder / "log").read_text()
        finally:
            process.terminate()
            process.wait(10)
        assert "[alert]" not in said, said
        assert "[emerg]" not in said, said


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 10
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return


class Gateway(NamedTuple):
    port: int
    process: subprocess.Popen[bytes]


@contextmanager
def bare_gateway(**environment: str) -> Iterator[Gateway]:
    """A gateway, whose Triton is not there unless told where."""
    port = free_port()
    here = {"PORT": str(port), "HOST": "127.0.0.1", "PE_ROOT_PATH": "/vision", "PE_TRITON_URL": "127.0.0.1:9"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway"], env={**os.environ, **here, **environment}, stdout=log, stderr=log
        )
        try:
            end = time.monotonic() + 30
            while True:
                assert process.poll() is None
                assert time.monotonic() < end
                try:
                    httpx2.get(f"http://127.0.0.1:{port}/healthz")
                except httpx2.TransportError:
                    time.sleep(0.1)
                else:
                    break
            yield Gateway(port, process)
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeServe]:
    """The real stack with two gateway processes."""
    settings = {
        "PE_ROOT_PATH": "/vision",
        "PE_MAX_IN_FLIGHT": str(PLACES),
        "PE_MAX_FETCHES": str(PLACES),
        **dict.fromkeys(
            ("ALLOW_NON_HTTPS_URL_INPUT", "ALLOW_URL_INPUT_WITHOUT_FQDN", "ALLOW_URL_TO_NON_GLOBAL_ADDRESSES"), "true"
        ),
    }
    serve = PeServe(tmp_path_factory.mktemp("behind-nginx"), "--port", "0", "--workers", "2", **settings)
    try:
        serve.wait_until_ready()
        yield serve
        assert serve.stop() == 0, serve.output
    finally:
        serve.kill()


@pytest.fixture(scope="module")
def stack(serve: PeServe) -> int:
    """Its port."""
    return int(serve.wait_until_ready().rpartition(":")[2])


@pytest.fixture(scope="module")
def proxy(stack: int) -> Iterator[Proxy]:
    with nginx(stack) as running:
        yield running


@pytest.fixture
def client(proxy: Proxy) -> Iterator[httpx2.Client]:
    with proxy.client() as client:
        yield client


def test_limits_match_the_gateways() -> None:
    conf, settings = CONF.read_text(), Settings()
    assert int(re.search(r"client_max_body_size (\d+)m;", conf)[1]) * 2**20 == settings.max_body_bytes  # type: ignore[index]
    assert f"the {settings.max_body_bytes} bytes" in conf
    assert int(re.search(r"proxy_read_timeout (\d+)s;", conf)[1]) > settings.deadline_seconds  # type: ignore[index]
    idle = serving.uvicorn_config(settings).timeout_keep_alive
    assert int(re.search(r"keepalive_timeout (\d+)s;", conf)[1]) < idle  # type: ignore[index]


pytestmark = pytest.mark.triton


def test_answers_below_the_path(client: httpx2.Client) -> None:
    answer = client.post(TEXT, json={"text": ["a red circle", "a blue square"]})
    assert answer.status_code == 200
    assert len(answer.json()["embeddings"]) == 2
    assert "total;dur=" in answer.headers["server-timing"]
    assert client.get("/vision/readiness").json() == {"status": "ready"}
    assert client.get("/perception_encoder/embed_text").status_code == 404
    assert client.post("/vision/v1/embeddings", json={"input": "x"}).json()["object"] == "list"


def test_documents_name_the_path(client: httpx2.Client) -> None:
    assert client.get("/vision/openapi.json").json()["servers"] == [{"url": "/vision"}]
    assert client.get("/vision").headers["location"].endswith("/vision/")


@pytest.mark.parametrize("path", ["/vision/", "/vision/docs"])
def test_pages_find_all_they_are_made_of(client: httpx2.Client, path: str) -> None:
    page = client.get(path)
    assert page.status_code == 200
    found = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
    assert len(found) >= 3
    for url in found:
        assert client.get(str(page.url.join(url))).status_code == 200, url


def test_the_log_has_the_client_and_not_what_it_says_of_itself(proxy: Proxy, serve: PeServe) -> None:
    transport = httpx2.HTTPTransport(verify=proxy.tls, local_address="127.0.0.5")
    headers = {"X-Forwarded-For": "203.0.113.7", "X-Request-Id": "who-asked"}
    with httpx2.Client(transport=transport) as client:
        client.post(f"https://localhost:{proxy.https}{TEXT}", json={"text": "x"}, headers=headers)
    line = json.loads(serve.wait_for(r'^.*gateway\.access (\{"request_id": ?"who-asked".*)$')[1])
    assert line["client"] == "127.0.0.5"


def test_plain_http_is_sent_to_tls_as_it_is(proxy: Proxy) -> None:
    answer = httpx2.post(f"http://127.0.0.1:{proxy.http}{TEXT}", headers={"Host": "here"}, json={"text": "x"})
    assert (answer.status_code, answer.headers["location"]) == (308, f"https://here{TEXT}")


def test_metrics_are_for_prometheus_alone(client: httpx2.Client, stack: int) -> None:
    assert client.get("/vision/metrics").status_code == 404
    assert httpx2.get(f"http://127.0.0.1:{stack}/metrics").status_code == 200


def test_large_bodies_and_answers_are_whole(client: httpx2.Client, stack: int) -> None:
    body = {"image": [base64_image(path.read_bytes()) for path in PHOTOGRAPHS for _ in range(6)]}
    through, direct = (
        client.post(IMAGE, json=body),
        httpx2.post(f"http://127.0.0.1:{stack}{IMAGE.removeprefix('/vision')}", json=body, timeout=60),
    )
    assert int(through.request.headers["content-length"]) > 2**20  # more than nginx keeps in memory
    assert len(through.json()["embeddings"]) == len(body["image"])
    assert [row[0] for row in through.json()["embeddings"]] == pytest.approx(
        [row[0] for row in direct.json()["embeddings"]], abs=1e-5
    )


def test_too_large_a_body_is_refused_in_the_gateways_words(proxy: Proxy) -> None:
    """Before any of it is sent."""
    limit = Settings().max_body_bytes
    with (
        socket.create_connection(("localhost", proxy.https)) as raw,
        proxy.tls.wrap_socket(raw, server_hostname="localhost") as wire,
    ):
        wire.sendall(f"POST {IMAGE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {limit + 1}\r\n\r\n".encode())
        answer = b""
        while chunk := wire.recv(4096):
            answer += chunk
            if answer.endswith(b"}"):
                break
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"Content-Type: application/json" in answer
    assert answer.endswith(b'{"message":"The request\'s body is larger than the %d bytes allowed."}' % limit)


def test_who_sends_slowly_takes_no_place(proxy: Proxy, stack: int) -> None:
    with (
        socket.create_connection(("localhost", proxy.https)) as raw,
        proxy.tls.wrap_socket(raw, server_hostname="localhost") as wire,
    ):
        wire.sendall(f"POST {TEXT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{{".encode())
        time.sleep(0.3)
        assert metric(stack, "pe_in_flight") == 0


def test_connections_to_the_gateway_are_kept(client: httpx2.Client, stack: int) -> None:
    before = connections(stack)
    for _ in range(50):
        assert client.get("/vision/healthz").status_code == 200
    assert len(connections(stack) - before) <= 2


async def test_requests_over_two_workers_add_up(proxy: Proxy, stack: int) -> None:
    """Whichever worker answers, whichever is asked: the metrics are those of both."""

    async def burst(client: httpx2.AsyncClient) -> set[int]:
        answers = await asyncio.gather(*(client.post(TEXT, json={"text": f"text {i}"}) for i in range(60)))
        return {answer.status_code for answer in answers}

    before = metric(stack, ANSWERED)
    async with proxy.async_client(PLACES) as client:
        assert await burst(client) == {200}
    assert metric(stack, ANSWERED) == before + 60


async def test_refusals_pass_through(proxy: Proxy, stack: int) -> None:
    """Both workers fetch as many images as they may, which never come; the others are told to come back."""
    with socket.create_server(("127.0.0.1", 0), backlog=PLACES * 4) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/image.jpg"
        async with proxy.async_client(PLACES * 4) as client:
            body = {"image": {"type": "url", "value": url}}
            tasks = [asyncio.create_task(client.post(IMAGE, json=body)) for _ in range(PLACES * 4)]
            refused = [await task for task in itertools.islice(asyncio.as_completed(tasks), PLACES * 2)]
            assert metric(stack, "pe_fetches_in_flight") <= PLACES * 2
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    assert {answer.status_code for answer in refused} == {429}
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert "Too many images are being fetched" in refused[0].json()["message"]


def test_a_gateway_without_a_model_is_heard() -> None:
    with bare_gateway(PE_DRAIN_SECONDS="0") as gateway, nginx(gateway.port) as proxy, proxy.client() as client:
        answer = client.post(TEXT, json={"text": "x"})
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert "model" in answer.json()["message"].lower()


def test_another_gateway_answers_for_one_that_is_gone_or_not_ready(stack: int) -> None:
    with (
        bare_gateway(PE_DRAIN_SECONDS="0") as not_ready,
        nginx(stack, not_ready.port, free_port()) as proxy,
        proxy.client() as client,
    ):
        for i in range(30):
            assert client.post(TEXT, json={"text": f"another {i}"}).status_code == 200


async def test_a_gateway_is_replaced_and_nobody_notices(serve: PeServe) -> None:
    settings = {"PE_TRITON_URL": serve.triton(), "PE_TEXT_CACHE_BYTES": "0"}
    statuses: list[int] = []
    over = asyncio.Event()

    async def ask(client: httpx2.AsyncClient) -> None:
        while not over.is_set():
            answer = await client.post(TEXT, json={"text": f"text {len(statuses)}"})
            statuses.append(answer.status_code)

    with bare_gateway(**settings) as one, bare_gateway(**settings) as two, nginx(one.port, two.port) as proxy:
        async with proxy.async_client(8) as client:
            asking = [asyncio.create_task(ask(client)) for _ in range(8)]
            await answered_more(one.port, 0)
            before = await answered_more(two.port, 0)
            one.process.terminate()
            await asyncio.to_thread(one.process.wait, 60)
            await answered_more(two.port, before + 20)
            over.set()
            await asyncio.gather(*asking)
    assert len(statuses) > 50
    assert set(statuses) == {200}


async def answered_more(port: int, than: float) -> float:
    """Wait until a gateway has answered more requests, and return how many."""
    async with asyncio.timeout(60):
        while (answered := metric(port, ANSWERED)) <= than:
            await asyncio.sleep(0.05)
    return answered


def metric(port: int, series: str) -> float:
    for line in httpx2.get(f"http://127.0.0.1:{port}/metrics").text.splitlines():
        if line.startswith(f"{series} "):
            return float(line.rpartition(" ")[2])
    return 0


def connections(port: int) -> set[str]:
    """Connections to a loopback port by the other side's port, those just closed included."""
    suffix = f":{port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {remote for _, local, remote, state, *_ in lines if local.endswith(suffix) and state != "0A"} | {
        local for _, local, remote, *_ in lines if remote.endswith(suffix)
    }
