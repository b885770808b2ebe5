"""deploy/nginx/perception-encoder.conf, but for ports and certificate, in the real nginx before the real stack."""

import asyncio
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest

from gateway.settings import Settings
from tests.deploy.nginx import CONF, Proxy, metric, nginx
from tests.pictures import PHOTOGRAPHS, base64_image
from tests.running import PeServe, free_port

TEXT = "/vision/perception_encoder/embed_text"
IMAGE = "/vision/perception_encoder/embed_image"
ANSWERED = 'pe_requests_total{route="/perception_encoder/embed_text",status="200"}'
PLACES = 16  # requests in flight, of each worker


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
            end = time.monotonic() + 120
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
    assert int(re.search(r"keepalive_timeout (\d+)s;", conf)[1]) < settings.keep_alive_seconds  # type: ignore[index]


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


def connections(port: int) -> set[str]:
    """Connections to a loopback port by the other side's port, those just closed included."""
    suffix = f":{port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {remote for _, local, remote, state, *_ in lines if local.endswith(suffix) and state != "0A"} | {
        local for _, local, remote, *_ in lines if remote.endswith(suffix)
    }
