"""The image fetcher against real servers on loopback. Each test defines how names resolve."""

import asyncio
import gzip
import ipaddress
import re
import socket
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpcore2
import pytest

from gateway.errors import InvalidImage
from gateway.images.bounded_network import BoundedNetwork
from gateway.images.fetch import FetchPolicy, ImageFetcher
from gateway.images.url_policy import (
    DENIED,
    DISABLED,
    INVALID,
    NON_GLOBAL,
    NON_HTTPS,
    NOT_ALLOWED,
    UNREACHABLE,
    WITHOUT_FQDN,
    admit,
    is_global,
)
from tests.gateway.images.hostile_urls import REFUSED, REFUSED_WITH_ANY_NAME, RESOLVING, Hostile, Resolving
from tests.gateway.tcp_server import tcp_server

pytestmark = pytest.mark.slow  # starts servers

TLS_FILE: Final = Path(__file__).with_name("tls_for_tests.pem")
PUBLIC: Final = "93.184.216.34"
OTHER_PUBLIC: Final = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"
IMAGE: Final = b"\x89PNG and so on" * 1_000
URL: Final = "https://images.example.com/cat.png"
HTTP_URL: Final = "http://images.example.com/cat.png"
# No time limit that a slow machine could reach. A fetch that is not refused then runs into the test's own end.
PATIENT: Final = FetchPolicy(timeout_seconds=60)
ANY_NAME: Final = FetchPolicy(allow_non_https=True, allow_without_fqdn=True)

Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


def response(body: bytes = IMAGE, status: str = "200 OK", **headers: str) -> bytes:
    fields = {"Content-Length": str(len(body))} | {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def saying(*answers: bytes) -> Answer:
    """A handler that sends these responses in turn, and then repeats the last one."""
    left = list(answers)

    async def answer(head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(left.pop(0) if len(left) > 1 else left[0])

    return answer


def redirect(location: str) -> bytes:
    head, _, _ = response(b"", "302 Found").partition(b"\r\n\r\n")
    return head + b"\r\nLocation: " + location.encode() + b"\r\n\r\n"


@dataclass
class Internet(httpcore2.AsyncNetworkBackend):
    """A fake internet: name servers with configured answers, and addresses that map to ports on loopback."""

    names: dict[str, list[Sequence[str]]] = field(default_factory=dict)
    """The addresses that successive lookups of a name return. The last entry is repeated."""
    ports: dict[str, int] = field(default_factory=dict)
    """The local port of each address."""
    looked_up: list[str] = field(default_factory=list)
    connected: list[tuple[str, int]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.looked_up.append(host)
        answers = self.names.get(host)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        self.connected.append((host, port))
        if host not in self.ports:
            raise httpcore2.ConnectError("no such site")
        return await BoundedNetwork().connect_tcp("127.0.0.1", self.ports[host], timeout)

    @asynccontextmanager
    async def site(self, answer: Answer, address: str = PUBLIC, *, tls: bool = True) -> AsyncIterator[None]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                self.requests.append(head)
                await answer(head, writer)
                await writer.drain()

        context = None
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(TLS_FILE)
        async with tcp_server(serve, context) as self.ports[address]:
            yield

    @asynccontextmanager
    async def fetcher(self, policy: FetchPolicy | None = None) -> AsyncIterator[ImageFetcher]:
        trust = ssl.create_default_context(cafile=TLS_FILE)
        fetch = ImageFetcher(policy or FetchPolicy(), resolve=self.resolve, ssl_context=trust, network=self)
        try:
            yield fetch
        finally:
            await fetch.aclose()


@pytest.fixture
def internet() -> Internet:
    return Internet({"images.example.com": [[PUBLIC]], "other.example.com": [[OTHER_PUBLIC]]})


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            assert ipaddress.ip_address(address[0]).is_loopback, f"a test reached for {address}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


async def cause_of(fetching: Awaitable[bytes | bytearray]) -> str:
    with pytest.raises(InvalidImage) as caught:
        await fetching
    return caught.value.cause


# -- Accepted


async def test_the_body_is_not_copied(internet: Internet) -> None:
    """A copy as `bytes` would take 25 ms of the event loop for 64 MB."""
    async with internet.site(saying(response())), internet.fetcher() as fetch:
        assert isinstance(await fetch("https://images.example.com/cat.png"), bytearray)


async def test_fetches_an_image_by_one_request_without_a_fragment(internet: Internet) -> None:
    async with internet.site(saying(response())), internet.fetcher() as fetch:
        assert await fetch("https://images.example.com/a/cat.png?w=1#top") == IMAGE
    assert internet.connected == [(PUBLIC, 443)]
    assert internet.requests == [
        "GET /a/cat.png?w=1 HTTP/1.1\r\nHost: images.example.com\r\nAccept: image/*\r\n"
        "Accept-Encoding: identity\r\nUser-Agent: perception-encoder-server\r\n\r\n"
    ]


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [
        ("https://images.example.com", "images.example.com", "/"),
        ("https://images.example.com?a=b", "images.example.com", "/?a=b"),
        ("HTTPS://IMAGES.Example.COM./Cat.PNG", "images.example.com", "/Cat.PNG"),
        ("https://images.example.com:443/", "images.example.com", "/"),
        ("https://images.example.com:8443/", "images.example.com:8443", "/"),
        ("https://images.example.com/a b/ü.png?q=ü", "images.example.com", "/a%20b/%C3%BC.png?q=%C3%BC"),
        ("https://images.example.com/a%20b?sig=x%2By%3D", "images.example.com", "/a%20b?sig=x%2By%3D"),
        ("https://images.example.com/a@b:c/\\d", "images.example.com", "/a@b:c/%5Cd"),
        ("https://images。example．com/", "images.example.com", "/"),
        ("https://Bücher.example.com/", "xn--bcher-kva.example.com", "/"),
        ("https://my_bucket.s3.example.com/", "my_bucket.s3.example.com", "/"),
    ],
)
def test_a_url_is_normalised(url: str, host: str, path: str) -> None:
    target = admit(url, FetchPolicy())
    assert (target.authority, target.path) == (host, path)
    assert admit(target.url, FetchPolicy()) == target


async def test_a_certificate_must_match_the_name(internet: Internet) -> None:
    internet.names |= {"xn--bcher-kva.example.com": [[PUBLIC]], "stranger.example.com": [[PUBLIC]]}
    async with internet.site(saying(response())), internet.fetcher() as fetch:
        assert await fetch("https://bücher.example.com/") == IMAGE
        assert await cause_of(fetch("https://stranger.example.com/")) == UNREACHABLE
    assert len(internet.requests) == 1


async def test_the_systems_certificates_are_trusted_by_default(internet: Internet) -> None:
    async with internet.site(saying(response())):
        fetch = ImageFetcher(FetchPolicy(), resolve=internet.resolve, network=internet)
        assert await cause_of(fetch(URL)) == UNREACHABLE
        await fetch.aclose()
    assert not internet.requests


async def test_the_systems_resolver_by_default(internet: Internet) -> None:
    async with internet.site(saying(response()), tls=False):
        port = internet.ports[PUBLIC]
        for policy, cause in (
            (FetchPolicy(allow_non_https=True), WITHOUT_FQDN),
            (ANY_NAME, NON_GLOBAL),
            (FetchPolicy(allow_non_https=True, allow_without_fqdn=True, allow_non_global_addresses=True), None),
        ):
            fetch = ImageFetcher(policy)
            for host in ("localhost", "127.0.0.1"):
                if cause is None:
                    assert await fetch(f"http://{host}:{port}/") == IMAGE
                else:
                    assert await cause_of(fetch(f"http://{host}:{port}/")) == cause
            await fetch.aclose()


async def test_no_proxy_from_the_environment(internet: Internet, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    async with internet.site(saying(response())), internet.fetcher() as fetch:
        assert await fetch(URL) == IMAGE


async def test_connections_are_kept_for_the_next_image(internet: Internet) -> None:
    async with internet.site(saying(response(Set_Cookie="a=b"))), internet.fetcher() as fetch:
        for _ in range(3):
            assert await fetch(URL) == IMAGE
    assert len(internet.connected) == 1
    assert not any("Cookie" in head for head in internet.requests)


async def test_concurrent_fetches_all_succeed(internet: Internet) -> None:
    async with internet.site(saying(response())), internet.fetcher() as fetch:
        assert await asyncio.gather(*(fetch(URL) for _ in range(40))) == [IMAGE] * 40


# -- Refused


@pytest.mark.parametrize("hostile", REFUSED, ids=lambda hostile: hostile.why)
async def test_refuses_hostile_urls(hostile: Hostile, internet: Internet) -> None:
    async with internet.fetcher() as fetch:
        assert await cause_of(fetch(hostile.url)) == hostile.cause
    assert not internet.looked_up
    assert not internet.connected


@pytest.mark.parametrize("hostile", REFUSED_WITH_ANY_NAME, ids=lambda hostile: hostile.url)
async def test_refuses_hostile_urls_even_if_any_name_is_allowed(hostile: Hostile, internet: Internet) -> None:
    async with internet.fetcher(ANY_NAME) as fetch:
        assert await cause_of(fetch(hostile.url)) == hostile.cause
    assert not internet.looked_up
    assert not internet.connected


async def test_refuses_redirects_to_hostile_urls(internet: Internet) -> None:
    """Except URLs that are relative in a redirect, and URLs that a header cannot contain."""
    absolute = re.compile(r"(?!https:/?i)[A-Za-z-]+:/?/?[^/?#\\]")
    unsendable = re.compile(r"[\x00-\x1f\x7f\ud800]")
    for policy, table in ((FetchPolicy(), REFUSED), (ANY_NAME, REFUSED_WITH_ANY_NAME)):
        rows = [row for row in table if absolute.match(row.url) and not unsendable.search(row.url)]
        assert len(rows) > 45
        async with internet.site(saying(*(redirect(row.url) for row in rows))), internet.fetcher(policy) as fetch:
            for row in rows:
                assert await cause_of(fetch(URL)) == row.cause, row
    assert {address for address, _ in internet.connected} == {PUBLIC}


@pytest.mark.parametrize("resolving", RESOLVING, ids=lambda resolving: resolving.why)
async def test_refuses_names_with_a_private_address(resolving: Resolving, internet: Internet) -> None:
    internet.names["images.example.com"] = [resolving.addresses]
    async with internet.fetcher() as fetch:
        assert await cause_of(fetch(URL)) == NON_GLOBAL
    assert not internet.connected


async def test_a_name_is_resolved_once_so_that_rebinding_has_no_effect(internet: Internet) -> None:
    internet.names["images.example.com"] = [[PUBLIC], ["127.0.0.1"]]
    async with internet.site(saying(response())), internet.fetcher() as fetch:
        assert await fetch(URL) == IMAGE
        assert internet.looked_up == ["images.example.com"]
        assert await cause_of(fetch("https://images.example.com:444/")) == NON_GLOBAL
    assert internet.connected == [(PUBLIC, 443)]


async def test_the_host_of_a_redirect_is_resolved_and_checked_again(internet: Internet) -> None:
    internet.names["images.example.com"] = [[PUBLIC], ["10.0.0.1"]]
    hop = redirect("https://images.example.com:444/")
    async with internet.site(saying(hop)), internet.fetcher() as fetch:
        assert await cause_of(fetch(URL)) == NON_GLOBAL
    assert internet.connected == [(PUBLIC, 443)]


async def test_the_next_address_is_tried(internet: Internet) -> None:
    internet.names["images.example.com"] = [[OTHER_PUBLIC, PUBLIC]]
    async with internet.site(saying(response())), internet.fetcher() as fetch:
        assert await fetch(URL) == IMAGE
    assert internet.connected == [(OTHER_PUBLIC, 443), (PUBLIC, 443)]


async def test_each_policy_field_is_applied(internet: Internet) -> None:
    async def outcome(url: str, **policy: Any) -> str | bytes | bytearray:
        async with internet.fetcher(FetchPolicy(**policy)) as fetch:
            try:
                return await fetch(url)
            except InvalidImage as error:
                return error.cause

    listed, unlisted = frozenset({"Images.Example.COM."}), frozenset({"example.com"})
    async with internet.site(saying(response())):
        assert await outcome(URL, allow_url_input=False) == DISABLED
        assert await outcome(URL, allowed_hosts=listed) == IMAGE
        assert await outcome(URL, allowed_hosts=unlisted) == NOT_ALLOWED
        assert await outcome(URL, denied_hosts=listed) == DENIED
        assert await outcome("https://IMAGES.example.com./", denied_hosts=listed) == DENIED
        assert await outcome(URL, denied_hosts=unlisted) == IMAGE
        assert await outcome(URL, allowed_hosts=listed, denied_hosts=listed) == DENIED
        inside = frozenset({"::1"})
        assert await outcome("https://[0::1]/", allow_without_fqdn=True, denied_hosts=inside) == DENIED


@pytest.mark.parametrize("entry", ["https://images.example.com", "*.example.com", "a b", "", "images.example.com:443"])
def test_a_host_list_entry_that_is_not_a_host_raises(entry: str) -> None:
    with pytest.raises(ValueError, match="is no host name"):
        FetchPolicy(denied_hosts=frozenset({entry}))


def test_no_address_is_global_that_python_calls_private() -> None:
    for prefix in range(0, 0x10000, 3):
        ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.IPv4Address(prefix << 16 | 1)
        assert not is_global(ip) or (ip.is_global and not ip.is_multicast), ip
    for prefix in range(0, 0x10000, 17):
        ip = ipaddress.IPv6Address(prefix << 112 | 1)
        assert not is_global(ip) or (ip.is_global and not ip.is_multicast), ip
    assert all(is_global(ipaddress.ip_address(a)) for a in (PUBLIC, OTHER_PUBLIC, "1.1.1.1", "64:ff9b::8.8.8.8"))


# -- Redirects


async def test_follows_redirects(internet: Internet) -> None:
    hops = [redirect("/b"), redirect("c?d=é"), redirect("//other.example.com/e#f")]
    async with (
        internet.site(saying(*hops)),
        internet.site(saying(response()), OTHER_PUBLIC),
        internet.fetcher() as fetch,
    ):
        assert await fetch("https://images.example.com/x/y") == IMAGE
    assert [head.split(" ")[1] for head in internet.requests] == ["/x/y", "/b", "/c?d=%C3%A9", "/e"]


@pytest.mark.parametrize("allowed", [0, 1, 5])
async def test_redirect_loops_end(internet: Internet, allowed: int) -> None:
    async with (
        internet.site(saying(redirect(URL))),
        internet.fetcher(FetchPolicy(max_redirects=allowed)) as fetch,
    ):
        assert await cause_of(fetch(URL)) == UNREACHABLE
    assert len(internet.requests) == allowed + 1


@pytest.mark.parametrize(
    ("location", "cause"),
    [
        (b"http://images.example.com/", NON_HTTPS),
        (b"https://[::1", INVALID),
        (b"/\xff\xfe", INVALID),
        (b"https://user:pw@[", INVALID),
        (b"https://" + b"a" * 9_000, INVALID),
    ],
)
async def test_malformed_redirects_are_refused(internet: Internet, location: bytes, cause: str) -> None:
    answer = redirect("LOCATION").replace(b"LOCATION", location)
    async with internet.site(saying(answer)), internet.fetcher() as fetch:
        assert await cause_of(fetch(URL)) == cause


# -- Misbehaving servers

CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        response(status="404 Not Found"),
        response(status="403 Forbidden"),
        response(status="500 Internal Server Error"),
        response(status="302 Found"),
        response(status="304 Not Modified"),
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\x00\xff" * 1_000,
        b"HTTP/0.9 nonsense\r\n\r\n",
        b"HTTP/1.1 99999 No\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 300_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ntoo short",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"fffffffffffffffffffff\r\n",
        CHUNKED + b"5\r\nabc",
        response(Content_Encoding="br"),
        response(Content_Encoding="gzip, gzip"),
        response(Content_Encoding="gzip"),
        response(gzip.compress(IMAGE)[:-20], Content_Encoding="gzip"),
    ],
    ids=lambda answer: repr(answer[:60]),
)
async def test_unusable_responses_are_refused(internet: Internet, answer: bytes) -> None:
    async def answer_and_close(head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with internet.site(answer_and_close), internet.fetcher() as fetch:
        assert await cause_of(fetch(URL)) == UNREACHABLE


async def test_plain_http_where_tls_is_expected(internet: Internet) -> None:
    async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response())

    async with tcp_server(hello) as internet.ports[PUBLIC], internet.fetcher() as fetch:
        assert await cause_of(fetch(URL)) == UNREACHABLE


async def test_connection_refused_and_unknown_names(internet: Internet) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        internet.ports[PUBLIC] = listener.getsockname()[1]  # bound but not listening
        async with internet.fetcher() as fetch:
            assert await cause_of(fetch(URL)) == UNREACHABLE
            assert await cause_of(fetch("https://nowhere.example.com/")) == UNREACHABLE
    internet.names["images.example.com"] = [[]]
    async with internet.fetcher() as fetch:
        assert await cause_of(fetch(URL)) == UNREACHABLE


SMALL: Final = FetchPolicy(max_bytes=100_000)
TOO_LARGE: Final = "Data pointed by URL is larger than the 100000 bytes that are allowed."


async def test_a_content_length_above_the_limit_is_refused_before_the_body(internet: Internet) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n"
    async with internet.site(saying(answer)), internet.fetcher(SMALL) as fetch:
        assert await cause_of(fetch(URL)) == TOO_LARGE


@pytest.mark.parametrize("size", [99_999, 100_000])
async def test_a_body_at_the_limit_is_accepted(internet: Internet, size: int) -> None:
    async with internet.site(saying(response(b"a" * size))), internet.fetcher(SMALL) as fetch:
        assert len(await fetch(URL)) == size


@pytest.mark.parametrize("head", [CHUNKED, b"HTTP/1.1 200 OK\r\n\r\n"], ids=["chunked", "until it closes"])
async def test_an_endless_body_is_cut_off_at_the_limit(internet: Internet, head: bytes) -> None:
    sent = 0

    async def endless(request: str, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(head)
        while not writer.is_closing():
            writer.write(b"2000\r\n" + b"a" * 0x2000 + b"\r\n")
            sent += 0x2000
            await writer.drain()

    async with internet.site(endless), internet.fetcher(SMALL) as fetch:
        assert await cause_of(fetch(URL)) == TOO_LARGE
    assert sent < 10_000_000  # no more than the socket buffers hold


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate"])
async def test_compressed_bodies_and_bombs(internet: Internet, encoding: str) -> None:
    compress = zlib.compress if encoding == "deflate" else gzip.compress
    image = response(compress(IMAGE), Content_Encoding=encoding)
    bomb = response(compress(bytes(2_000_000)), Content_Encoding=encoding)
    async with internet.site(saying(image, bomb)), internet.fetcher(SMALL) as fetch:
        assert await fetch(URL) == IMAGE
        assert await cause_of(fetch(URL)) == TOO_LARGE


async def test_a_body_in_one_byte_chunks_is_refused(internet: Internet) -> None:
    chunks = CHUNKED + b"1\r\na\r\n" * 1_000_000
    async with internet.site(saying(chunks)), internet.fetcher(PATIENT) as fetch:
        start = time.thread_time()
        assert await cause_of(fetch(URL)) == UNREACHABLE
    assert time.thread_time() - start < 2


@pytest.mark.parametrize("piece", [b"HTTP/1.1 100 \r\n\r\n", b"a: b\r\n"], ids=["interim responses", "headers"])
async def test_endless_interim_responses_are_refused(internet: Internet, piece: bytes) -> None:
    sent = 0

    async def never_begin(head: str, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        if piece.startswith(b"a"):
            writer.write(b"HTTP/1.1 200 OK\r\n")
        while not writer.is_closing():
            writer.write(piece * 1_000)
            sent += len(piece) * 1_000
            await writer.drain()

    async with internet.site(never_begin), internet.fetcher(PATIENT) as fetch:
        assert await cause_of(fetch(URL)) == UNREACHABLE
    assert sent < 10_000_000  # no more than the socket buffers hold


# -- Timeouts


async def _dribble(head: str, writer: asyncio.StreamWriter) -> None:
    writer.write(CHUNKED)
    while not writer.is_closing():
        writer.write(b"1\r\na\r\n")
        await asyncio.sleep(0.02)


async def _silent(head: str, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def _continue_for_ever(head: str, writer: asyncio.StreamWriter) -> None:
    while not writer.is_closing():
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(0.02)


async def _headers_for_ever(head: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not writer.is_closing():
        writer.write(b"X: y\r\n")
        await asyncio.sleep(0.02)


async def _redirect_slowly(head: str, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.1)
    writer.write(redirect(HTTP_URL))


@pytest.mark.parametrize("answer", [_dribble, _silent, _continue_for_ever, _headers_for_ever, _redirect_slowly])
async def test_the_whole_download_has_one_time_limit(internet: Internet, answer: Answer) -> None:
    """These servers never end. Only a limit of the whole download gives this cause."""
    policy = FetchPolicy(timeout_seconds=0.25, allow_non_https=True)
    async with internet.site(answer, tls=False), internet.fetcher(policy) as fetch:
        async with asyncio.timeout(30):
            assert await cause_of(fetch(HTTP_URL)) == "Fetching data pointed by URL took longer than 0.25 seconds."


async def test_the_time_limit_includes_slow_lookups(internet: Internet) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(60)
        return [PUBLIC]

    fetch = ImageFetcher(FetchPolicy(timeout_seconds=0.1), resolve=resolve, network=internet)
    assert "longer than 0.1 seconds" in await cause_of(fetch(URL))
    await fetch.aclose()


async def test_slow_servers_do_not_exhaust_the_connection_pool(internet: Internet) -> None:
    """Neither while they are waited for, nor afterwards."""
    policy = FetchPolicy(timeout_seconds=60, allow_non_https=True)
    async with (
        internet.site(_silent, tls=False),
        internet.site(saying(response()), OTHER_PUBLIC),
        internet.fetcher(policy) as fetch,
    ):
        for _ in range(2):
            slow = [asyncio.create_task(fetch(HTTP_URL)) for _ in range(40)]
            async with asyncio.timeout(60):
                while sum("images.example.com" in head for head in internet.requests) < 40:
                    await asyncio.sleep(0.01)
            assert await fetch("https://other.example.com/") == IMAGE
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)
            internet.requests.clear()
        assert await fetch("https://other.example.com/") == IMAGE


async def test_cancelling_a_fetch_closes_the_connection(internet: Internet) -> None:
    closed = asyncio.Event()

    async def watch(head: str, writer: asyncio.StreamWriter) -> None:
        try:
            await _dribble(head, writer)
        finally:
            closed.set()

    async with internet.site(watch), internet.fetcher() as fetch:
        fetching = asyncio.ensure_future(fetch(URL))
        async with asyncio.timeout(30):
            while not internet.requests:
                await asyncio.sleep(0.01)
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        await asyncio.wait_for(closed.wait(), 30)
