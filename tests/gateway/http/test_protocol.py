"""Clients that occupy a connection or send what is not HTTP, on real sockets and the event loop of production."""

import asyncio
import contextlib
import http.client
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import pytest
import uvicorn

from gateway.http.connections import Connections
from gateway.http.protocol import MAX_HEAD_BYTES, Protocol

pytestmark = pytest.mark.slow

GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
CHUNKED: Final = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
MB: Final = 2**20
LARGE: Final = bytes(16 * MB)


@dataclass
class App:
    """Responds with the body to `/echo`, with `LARGE` to `/large`, and with "ok" to all else.

    The body is read, unless a header says to refuse the request.

    Attributes:
        paths: of all requests.
        headers: of the last request whose body was read.
        largest: the most bytes of a body that came at once.
    """

    paths: list[str] = field(default_factory=list)
    headers: dict[bytes, bytes] = field(default_factory=dict)
    largest: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.paths.append(scope["path"])
        body = b""
        more = b"refuse" not in dict(scope["headers"])
        while more:
            message = await receive()
            self.largest = max(self.largest, len(message.get("body", b"")))
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.headers = dict(scope["headers"])
        answer = {"/echo": body, "/large": LARGE}.get(scope["path"], b"ok")
        length = (b"content-length", str(len(answer)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": answer})


@dataclass
class Served:
    """A running server."""

    port: int
    app: App
    registry: Connections

    def connect(self, receive_buffer: int | None = None) -> socket.socket:
        client = socket.socket()
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(10)
        client.connect(("127.0.0.1", self.port))
        return client

    def exchange(self, data: bytes) -> bytes:
        """Send data, and return all that the server sends until it closes the connection."""
        with self.connect() as client:
            client.sendall(data)
            return read_all(client)


def read_all(client: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := client.recv(65536):
            received += chunk
    return received


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    """A server in a thread."""
    registry, app = Connections(100), App()
    config = uvicorn.Config(
        cast(Any, app),
        port=0,
        loop="uvloop",
        http=cast(Any, partial(Protocol, registry=registry)),
        ws="none",
        lifespan="off",
        log_config=None,
        timeout_keep_alive=2,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    eventually(lambda: server.started)
    yield Served(server.servers[0].sockets[0].getsockname()[1], app, registry)
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def served(server: Served) -> Served:
    """A server with short timeouts that nobody is connected to."""
    eventually(lambda: len(server.registry) == 0)
    server.registry.head.seconds = server.registry.rest.seconds = server.registry.unread.seconds = 0.4
    server.app.paths.clear()
    return server


@pytest.fixture
def port(served: Served) -> int:
    return served.port


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def connection(port: int) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    yield reader, writer
    writer.close()


async def test_a_silent_connection_is_closed(connection: Connection) -> None:
    async with asyncio.timeout(10):
        assert await connection[0].read() == b""


async def test_a_head_in_crumbs_is_not_waited_for(connection: Connection) -> None:
    reader, writer = connection

    async def crumbs() -> None:
        for byte in GET * 100:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)

    sending = asyncio.create_task(crumbs())
    async with asyncio.timeout(10):
        # The server may close while a byte is on its way, which resets the connection.
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    sending.cancel()


async def test_a_head_without_end_is_refused(connection: Connection) -> None:
    reader, writer = connection
    writer.write(GET + b"x-more: " + b"a" * MAX_HEAD_BYTES)
    async with asyncio.timeout(10):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 431 ")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head


async def test_a_client_that_goes_on_sending_it_is_disconnected(connection: Connection) -> None:
    writer = connection[1]
    writer.write(GET)
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(10):  # TimeoutError if the server does not close the connection.
            while True:
                writer.write(b"x-more: " + b"a" * 1000 + b"\r\n")
                await writer.drain()


async def test_a_large_head_is_taken(connection: Connection) -> None:
    reader, writer = connection
    writer.write(GET + b"x-more: " + b"a" * (MAX_HEAD_BYTES - 200) + b"\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")


async def test_a_slow_body_is_left_to_the_app(connection: Connection) -> None:
    reader, writer = connection
    writer.write(POST + b"\r\n")
    for _ in range(10):
        await asyncio.sleep(0.1)
        writer.write(b" " * 10)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")


async def test_a_body_that_was_refused_is_not_waited_for(connection: Connection) -> None:
    reader, writer = connection
    writer.write(POST + b"refuse: 1\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    async with asyncio.timeout(10):
        assert (await reader.read()).endswith(b"ok")


async def test_a_connection_goes_on_after_any_whole_request(connection: Connection) -> None:
    """Also after a request that was refused before its body arrived, and after a pause longer than a head may take."""
    reader, writer = connection
    for head, body in ((POST, b" " * 100), (POST + b"refuse: 1\r\n", b" " * 100), (GET, b"")):
        writer.write(head + b"\r\n" + body[:50])
        await asyncio.sleep(0.1)
        writer.write(body[50:])
        answer = await reader.readuntil(b"ok")
        assert answer.startswith(b"HTTP/1.1 200")
        await asyncio.sleep(0.6)


def short(cases: Mapping[str, tuple[bytes, object]]) -> list[str]:
    """The names of the cases that can be sent byte by byte."""
    return [name for name, (data, _) in cases.items() if len(data) < 10_000]


# -- What is not HTTP, or more than a connection may send
CL = b"Content-Length: 6\r\n"
TE = b"Transfer-Encoding: chunked\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
INVALID: Final[dict[str, tuple[bytes, int]]] = {
    "both lengths": (b"POST / HTTP/1.1\r\n" + CL + TE + b"\r\n0\r\n\r\n" + SMUGGLED, 400),
    "both lengths, turned": (b"POST / HTTP/1.1\r\n" + TE + CL + b"\r\n0\r\n\r\n" + SMUGGLED, 400),
    "two lengths": (b"POST / HTTP/1.1\r\n" + CL + CL + b"\r\nabcdef", 400),
    "a list of lengths": (b"POST / HTTP/1.1\r\nContent-Length: 6, 6\r\n\r\nabcdef", 400),
    "a length with a sign": (b"POST / HTTP/1.1\r\nContent-Length: +6\r\n\r\nabcdef", 400),
    "a length of 24 digits": (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 24 + b"\r\n\r\n", 400),
    "two codings": (b"POST / HTTP/1.1\r\n" + TE + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n" + SMUGGLED, 400),
    "a coding that is not chunked": (b"POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "a coding within chunks": (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "chunks in HTTP/1.0": (b"POST / HTTP/1.0\r\n" + TE + b"\r\n0\r\n\r\n" + SMUGGLED, 501),
    "a line without CR": (b"GET / HTTP/1.1\nHost: x\n\n", 400),
    "a header without CR": (GET + b"a: b\nc: d\r\n\r\n", 400),
    "a header without LF": (GET + b"a: b\rc: d\r\n\r\n", 400),
    "an end without CR": (GET + b"\n\r\n\r\n", 400),
    "NUL in a header": (GET + b"a: b\0c\r\n\r\n", 400),
    "NUL in the target": (b"GET /\0 HTTP/1.1\r\n\r\n", 400),
    "a byte over 127 in the target": (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
    "a space after a name": (GET + b"a : b\r\n\r\n", 400),
    "a space in a name": (GET + b"a b: c\r\n\r\n", 400),
    "a space before a name": (b"GET / HTTP/1.1\r\n a: b\r\n\r\n", 400),
    "an empty name": (GET + b": b\r\n\r\n", 400),
    "a folded header": (GET + b"a: b\r\n c\r\n\r\n", 400),
    "a method of 5 kB": (b"A" * 5000 + b" / HTTP/1.1\r\n\r\n", 400),
    "a method that nobody knows": (b"FOO / HTTP/1.1\r\n\r\n", 400),
    "CONNECT": (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED, 400),
    "TLS": (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", 400),
    "HTTP/2 without an offer": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), 505),
    "HTTP/0.9": (b"GET /\r\n\r\n", 505),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\n\r\n", 400),
    "RTSP": (b"GET / RTSP/1.0\r\n\r\n", 505),
    "a chunk size that is no number": (CHUNKED + b"xyz\r\n\r\n", 400),
    "a chunk size with a prefix": (CHUNKED + b"0x5\r\nabcde\r\n0\r\n\r\n", 400),
    "a chunk size below 0": (CHUNKED + b"-1\r\na\r\n0\r\n\r\n", 400),
    "a chunk size of 72 bits": (CHUNKED + b"f" * 18 + b"\r\n", 400),
    "a chunk longer than its size": (CHUNKED + b"1\r\nab\r\n0\r\n\r\n", 400),
    "chunks without CR": (CHUNKED + b"1\na\n0\n\n", 400),
    "an extension without CR": (CHUNKED + b"1;a\nb\r\na\r\n0\r\n\r\n", 400),
    "a trailer without CR": (CHUNKED + b"0\r\na: b\n\n" + SMUGGLED, 400),
    "129 headers": (GET + b"a: b\r\n" * 128 + b"\r\n", 431),
    "a header of 1 MB": (GET + b"a: " + b"b" * MB + b"\r\n\r\n", 431),
    "a target of 1 MB": (b"GET /" + b"a" * MB + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "empty lines without end": (b"\r\n" * 100_000, 400),
    "trailers of 1 MB": (CHUNKED + b"0\r\n" + b"a: b\r\n" * (MB // 6) + b"\r\n" + SMUGGLED, 400),
    "a trailer of 1 MB": (CHUNKED + b"0\r\na: " + b"b" * MB + b"\r\n\r\n" + SMUGGLED, 400),
    "an extension of 1 MB": (CHUNKED + b"1;" + b"a" * MB + b"\r\nb\r\n0\r\n\r\n" + SMUGGLED, 400),
    "an extension for each byte": (CHUNKED + (b"1;" + b"a" * 1000 + b"\r\nb\r\n") * 1000 + b"0\r\n\r\n", 400),
}


@pytest.mark.parametrize(("name", "step"), [(name, None) for name in INVALID] + [(name, 1) for name in short(INVALID)])
def test_what_is_not_a_request_is_refused(served: Served, name: str, step: int | None) -> None:
    """At once or byte by byte, the client receives one response, and nothing after the fault is a request."""
    data, status = INVALID[name]
    with served.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), step or len(data)):
            client.sendall(data[start : start + (step or len(data))])
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert answer.count(b"content-length: ") == answer.count(b"connection: close\r\n") == 1
    assert "/smuggled" not in served.app.paths
    with served.connect() as client:  # The server serves others.
        client.sendall(GET + b"\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")


VALID: Final[dict[str, tuple[bytes, bytes]]] = {
    "an absolute target": (b"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", b"ok"),
    "empty lines before a request": (b"\r\n\r\n" + GET + b"\r\n", b"ok"),
    "126 headers": (GET + b"a: b\r\n" * 126 + b"\r\n", b"ok"),
    "chunks of one byte": (CHUNKED + b"1\r\na\r\n" * 50_000 + b"0\r\n\r\n", b"a" * 50_000),
    "chunks of empty lines": (CHUNKED + b"8\r\n\r\n\r\n\r\n\r\n\r\n" * 5000 + b"0\r\n\r\n", b"\r\n" * 20_000),
    "a body of empty lines": (
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n" + b"\r\n\r\n\r\n\r\nx",
        b"\r\n\r\n\r\n\r\nx",
    ),
    "trailers": (CHUNKED + b"2\r\nab\r\n0\r\nx-admin: yes\r\nc: d\r\n\r\n", b"ab"),
    "extensions": (CHUNKED + b'2;a=b;c="d"\r\nab\r\n0;e\r\n\r\n', b"ab"),
}


@pytest.mark.parametrize(
    ("name", "step"), [(name, None) for name in VALID] + [(name, step) for name in short(VALID) for step in (1, 2, 3)]
)
def test_unusual_requests_are_answered(served: Served, name: str, step: int | None) -> None:
    """Also if they arrive in pieces, and the request behind them on the same connection is answered, too."""
    data, body = VALID[name]
    with served.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data += b"GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        for start in range(0, len(data), step or len(data)):
            client.sendall(data[start : start + (step or len(data))])
        answer = read_all(client)
    first, second = answer.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert first.partition(b"\r\n\r\n")[2] == body
    assert second.endswith(b"ok")
    assert served.app.paths[-1] == "/next"
    assert set(served.app.headers) == {b"host", b"connection"}


def test_other_callbacks_run_between_small_chunks(served: Served) -> None:
    """One read of the socket can have 40,000 of them, which would take 30 ms."""
    served.app.largest = 0
    assert served.exchange(CHUNKED + b"1\r\na\r\n" * 200_000 + b"0\r\n\r\n" + b"GET /").count(b"a" * 200_000) == 1
    assert served.app.largest < 8_000


def test_trailers_without_end_end_the_connection(served: Served) -> None:
    with served.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.sendall(CHUNKED + b"0\r\n")
        with pytest.raises(ConnectionError):
            client.sendall(b"a: b\r\n" * 5_000_000)


# -- Clients that do not read
def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    with served.connect() as client:
        for i in range(500):
            client.sendall(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % i)
        client.sendall(GET + b"Connection: close\r\n\r\n")
        assert read_all(client).count(b"HTTP/1.1 200") == 501
    assert served.app.paths == [f"/{i}" for i in range(500)] + ["/"]


def test_only_one_pipelined_request_is_begun(served: Served) -> None:
    """Behind a response that is not read, requests wait, and the connection is not read."""
    with served.connect(receive_buffer=4096) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        client.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 64 * MB:
                sent += client.send((GET + b"\r\n") * 3000)
        eventually(lambda: bool(served.registry.unread.since))
        assert served.app.paths == ["/large"]
        (connection,) = served.registry.unread.since
        assert len(cast(Protocol, connection)._held) < MB
    assert sent < 64 * MB


def test_a_client_that_does_not_read_is_disconnected(served: Served) -> None:
    with served.connect(receive_buffer=4096) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: len(served.registry) == 1)
        eventually(lambda: len(served.registry) == 0)
        assert len(read_all(client)) < len(LARGE)


def test_a_client_that_does_not_read_after_connection_close_is_disconnected(served: Served) -> None:
    with served.connect(receive_buffer=4096) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        eventually(lambda: len(served.registry) == 1)
        eventually(lambda: len(served.registry) == 0)


def test_a_client_that_reads_slowly_gets_all(served: Served) -> None:
    served.registry.unread.seconds = 2
    with served.connect(receive_buffer=2**18) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = 0
        while chunk := client.recv(2**18):
            received += len(chunk)
            time.sleep(0.05)  # longer in all than the server waits without progress
    assert received > len(LARGE)


def test_an_idle_connection_is_closed_after_the_keep_alive_time(served: Served) -> None:
    with served.connect() as client:
        client.sendall(GET + b"\r\n")
        assert client.recv(1000).endswith(b"ok")
        start = time.monotonic()
        time.sleep(0.6)  # longer than a head may take
        client.sendall(b"\r\n")  # An empty line is no request.
        assert client.recv(1000) == b""
        assert 1.5 < time.monotonic() - start < 8


# -- Responses to requests whose body was refused
@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_an_early_response_reaches_a_client_that_sends_on(served: Served, connection: str) -> None:
    served.registry.rest.seconds = 5
    client = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    client.request("POST", "/", bytes(64 * MB), {"refuse": "1", "Connection": connection})
    answer = client.getresponse()
    assert (answer.status, answer.read()) == (200, b"ok")
    client.close()


def test_a_fault_reaches_a_client_that_sends_on(served: Served) -> None:
    served.registry.rest.seconds = 5
    client = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    client.request("GET", "/", headers={"a": "b" * (MB // 2)})
    assert client.getresponse().status == 431
    client.close()


# -- Offers of another protocol
@pytest.mark.parametrize("offer", [b"h2c", b"websocket", b"TLS/1.2"])
@pytest.mark.parametrize("parts", [1, 2])
def test_an_upgrade_is_declined_and_the_body_is_read(served: Served, offer: bytes, parts: int) -> None:
    head = (
        b"POST /echo HTTP/1.1\r\nUpgrade: " + offer + b"\r\nHost: x\r\nHTTP2-Settings: AAEAAEAA\r\n"
        b"Content-Length: %d\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n" % len(SMUGGLED)
    )
    with served.connect() as client:
        for _ in range(2):
            if parts == 1:
                client.sendall(head + SMUGGLED)
            else:
                client.sendall(head)
                time.sleep(0.1)
                client.sendall(SMUGGLED)
            answer = b""
            while not answer.endswith(SMUGGLED):
                chunk = client.recv(1000)
                assert chunk
                answer += chunk
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert served.app.headers[b"http2-settings"] == b"AAEAAEAA"
        client.sendall(GET + b"Connection: upgrade\r\nUpgrade: " + offer + b"\r\n\r\n")
        assert client.recv(1000).endswith(b"ok")
    assert served.app.paths == ["/echo", "/echo", "/"]


JAVA: Final = """
import java.net.URI;
import java.net.http.*;

public class Client {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (int i = 0; i < 3; i++) {
            HttpResponse<String> response = client.send(
                HttpRequest.newBuilder(URI.create(arguments[0])).POST(
                    HttpRequest.BodyPublishers.ofString("body " + i)).build(),
                HttpResponse.BodyHandlers.ofString());
            System.out.println(response.version() + " " + response.statusCode() + " " + response.body());
        }
    }
}
"""


@pytest.mark.skipif(shutil.which("java") is None, reason="needs a JDK")
def test_javas_client_is_served(served: Served, tmp_path: Path) -> None:
    """It offers HTTP/2 with each request until it knows that the server speaks HTTP/1.1."""
    program = tmp_path / "Client.java"
    program.write_text(JAVA)
    command = ["java", "-XX:TieredStopAtLevel=1", str(program), f"http://127.0.0.1:{served.port}/echo"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == [f"HTTP_1_1 200 body {i}" for i in range(3)], done.stderr
    assert served.app.paths == ["/echo"] * 3
