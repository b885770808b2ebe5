"""Who keeps a connection when there are too many, in a real gateway."""

import asyncio
import http.client
import re
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from gateway.http.connections import default_limit
from tests.fake_triton import FakeTriton, served
from tests.gateway.process import COMMAND, GatewayProcess

TEXT = "/perception_encoder/embed_text"
UPLOAD = f"POST {TEXT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n".encode()
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def test_a_quarter_of_the_descriptors_is_left_for_other_things() -> None:
    assert default_limit(1024) == 768
    assert default_limit(2**30) == 10_000
    assert default_limit(1) == 1


def address(gateway: GatewayProcess) -> tuple[str, int]:
    url = urlsplit(gateway.base_url)
    assert url.hostname is not None
    assert url.port is not None
    return url.hostname, url.port


def connect(gateway: GatewayProcess) -> socket.socket:
    return socket.create_connection(address(gateway), timeout=60)


@asynccontextmanager
async def connected(gateway: GatewayProcess, count: int, data: bytes = b"") -> AsyncIterator[list[socket.socket]]:
    """So many connections that have sent some data."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    clients = []

    def connect_all() -> None:
        for _ in range(count):
            clients.append(stack.enter_context(connect(gateway)))
            with suppress(ConnectionError):
                clients[-1].sendall(data)

    with ExitStack() as stack:
        # In a thread, because this process also reads the gateway's log, and the gateway waits for that.
        await asyncio.to_thread(connect_all)
        yield clients


async def status(gateway: GatewayProcess) -> int:
    """The status of a text's embedding, on a new connection."""
    async with httpx2.AsyncClient(base_url=gateway.base_url, timeout=60) as client:
        return (await client.post(TEXT, json={"text": "a"})).status_code


async def metric(gateway: GatewayProcess, series: str) -> float:
    async with httpx2.AsyncClient(base_url=gateway.base_url, timeout=60) as client:
        metrics = (await client.get("/metrics")).text
    found = re.search(rf"^{re.escape(series)} (\S+)$", metrics, re.MULTILINE)
    assert found is not None, metrics
    return float(found[1])


def memory(gateway: GatewayProcess) -> int:
    """Bytes of memory that the process holds."""
    pages = int(Path(f"/proc/{gateway.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "data", "workers"),
    [(5000, b"", 1), (2000, b"G", 1), (3000, GET, 2), (2000, GET + UPLOAD, 1)],
    ids=["silent", "begun", "idle", "uploading"],
)
async def test_many_connections_do_not_lock_others_out_of_1024_descriptors(
    count: int, data: bytes, workers: int
) -> None:
    prefix = ("sh", "-c", 'ulimit -Sn 256; ulimit -Hn 1024; exec "$0" "$@"')
    async with (
        served(FakeTriton()) as port,
        GatewayProcess(port, command=(*prefix, *COMMAND), NUM_WORKERS=str(workers)) as gateway,
    ):
        async with connected(gateway, count, data):
            for _ in range(20):
                async with asyncio.timeout(60):
                    while (answer := await status(gateway)) == 429:  # Uploads become slow enough to be evicted.
                        await asyncio.sleep(0.1)
                assert answer == 200
            assert await metric(gateway, "pe_connections") <= 768 * workers
            if UPLOAD not in data:  # Admission control refuses uploads, and their connections end, too.
                assert await metric(gateway, 'pe_connections_closed_total{reason="evicted"}') >= count - 768 * workers
        assert await gateway.stop() == 0
    assert (UPLOAD not in data) <= gateway.log.count("Closing the connection that has been idle longest") <= workers
    assert "Too many open files" not in gateway.log
    assert "Traceback" not in gateway.log


@pytest.mark.slow
async def test_connections_in_use_are_kept_and_new_ones_are_refused() -> None:
    async with served(FakeTriton()) as port, GatewayProcess(port, PE_MAX_CONNECTIONS="4") as gateway:
        async with connected(gateway, 4, UPLOAD) as uploading:
            await asyncio.sleep(0.2)
            for _ in range(20):
                with connect(gateway) as refused, suppress(ConnectionError):
                    refused.sendall(GET)
                    assert refused.recv(100) == b""
            for client in uploading:
                client.sendall(b'{"text": "a"}'.ljust(1000))
            for client in uploading:
                assert (await asyncio.to_thread(client.recv, 100)).startswith(b"HTTP/1.1 200 ")
            assert await status(gateway) == 200  # It replaces one that is idle now.
            assert await metric(gateway, 'pe_connections_closed_total{reason="refused"}') == 20
        assert await gateway.stop() == 0
    assert gateway.log.count("Refusing new connections, because 4 are open") == 1


@pytest.mark.slow
async def test_pipelined_requests_whose_responses_are_not_read_hold_little_memory() -> None:
    async with served(FakeTriton()) as port, GatewayProcess(port) as gateway:
        before = memory(gateway)
        with ExitStack() as stack:
            clients = []
            for _ in range(50):
                client = stack.enter_context(socket.socket())
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.connect(address(gateway))
                client.setblocking(False)
                with suppress(BlockingIOError):
                    client.send(b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n" + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3000)
                clients.append(client)
            for _ in range(10):
                assert await status(gateway) == 200
                await asyncio.sleep(0.2)
                assert memory(gateway) - before < 20 * 2**20


@pytest.mark.slow
@pytest.mark.parametrize("connection", ["keep-alive", "close"])
@pytest.mark.parametrize(
    ("limit", "expected"), [({"PE_MAX_BODY_BYTES": "1000"}, 413), ({"PE_MAX_IN_FLIGHT": "1"}, 429)]
)
async def test_an_early_refusal_reaches_a_client_that_sends_64_mb(
    limit: dict[str, str], expected: int, connection: str
) -> None:
    def refusal() -> int:
        client = http.client.HTTPConnection(urlsplit(gateway.base_url).netloc, timeout=30)
        with closing(client):
            client.request("POST", TEXT, bytes(64 * 2**20), {"Connection": connection})
            answer = client.getresponse()
            answer.read()
            return answer.status

    async with (
        served(FakeTriton()) as port,
        GatewayProcess(port, **limit) as gateway,
        connected(gateway, 1, UPLOAD),
    ):
        assert await asyncio.to_thread(refusal) == expected
