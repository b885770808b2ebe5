"""The sockets that a server listens on, and what a gateway says if it cannot listen."""

import asyncio
import os
import socket
import sys
from contextlib import ExitStack

import httpx2
import pytest
import uvloop

from gateway import listening
from tests.fake_triton import FakeTriton, served
from tests.gateway.process import GatewayProcess

needs_ipv6 = pytest.mark.skipif(not os.path.exists("/proc/net/if_inet6"), reason="this machine has no IPv6")
V4, V6 = "127.0.0.1", "::1"


def answering(host: str) -> set[str]:
    """Listen on a host. Returns the loopback addresses that accept a connection."""
    listeners = listening.bind(host, 0)
    try:
        for listener in listeners:
            listener.listen()
        (port,) = {listener.getsockname()[1] for listener in listeners}
        found = set()
        for address in (V4, V6):
            try:
                with socket.create_connection((address, port), 5):
                    found.add(address)
            except OSError:
                continue
        return found
    finally:
        for listener in listeners:
            listener.close()


@needs_ipv6
@pytest.mark.parametrize(
    ("host", "addresses"), [("0.0.0.0", {V4}), ("::", {V4, V6}), ("127.0.0.1", {V4}), ("::1", {V6})]
)
def test_the_addresses_that_answer(host: str, addresses: set[str]) -> None:
    assert answering(host) == addresses


def test_a_name_answers_at_its_addresses() -> None:
    assert V4 in answering("localhost")


@pytest.mark.parametrize(("processes", "at_once"), [(1, 16), (4, 4), (64, 1)])
def test_several_connections_are_accepted_in_each_round_of_the_loop(processes: int, at_once: int) -> None:
    """Otherwise, a burst of connections waits in the kernel's backlog, where nothing bounds it."""
    rounds: list[int] = []
    now = 0
    listeners = listening.bind(V4, 0)

    class Accepted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            rounds.append(now)
            transport.close()

    async def accept() -> None:
        nonlocal now
        loop = asyncio.get_running_loop()
        servers = [
            await loop.create_server(Accepted, sock=listener)
            for listener in listening.with_copies(listeners, processes)
        ]
        address = listeners[0].getsockname()
        with ExitStack() as clients:
            for _ in range(32):
                clients.enter_context(socket.create_connection(address))
            while len(rounds) < 32:
                now += 1
                await asyncio.sleep(0)
        for server in servers:
            server.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(accept())
    assert len(set(rounds)) == 32 // at_once


@needs_ipv6
def test_all_of_both_needs_the_port_in_both() -> None:
    with socket.create_server((V4, 0)) as other, pytest.raises(OSError, match="in use"):
        listening.bind("::", other.getsockname()[1])


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "[::]", "2001:db8::1"])
def test_an_address_of_another_machine_is_an_error(host: str) -> None:
    with pytest.raises(OSError):
        listening.bind(host, 0)


async def refusal(**environment: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", env={**os.environ, **environment}, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        _, log = await process.communicate()
    return process.returncode, log.decode()


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_port_in_use_is_an_error(workers: str) -> None:
    with socket.create_server((V4, 0)) as listener:
        port = str(listener.getsockname()[1])
        status, log = await refusal(HOST=V4, PORT=port, NUM_WORKERS=workers)
    assert status == 1
    assert log.splitlines()[-1] == (
        f"pe-gateway: cannot listen on 127.0.0.1, port {port}: Address already in use. "
        "Stop the program that listens there, or set another PORT."
    )


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_host_that_is_no_address_is_an_error(workers: str) -> None:
    status, log = await refusal(HOST="no such host", NUM_WORKERS=workers)
    assert status == 1
    assert "cannot listen on no such host, port 9001: Name or service not known. HOST takes an address" in log


@needs_ipv6
@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_both_ip_versions_answer_with_any_number_of_workers(workers: str) -> None:
    async with (
        served(FakeTriton()) as triton,
        GatewayProcess(triton, HOST="::", NUM_WORKERS=workers) as gateway,
        httpx2.AsyncClient() as client,
    ):
        for host in ("127.0.0.1", "[::1]"):
            url = gateway.base_url.replace("127.0.0.1", host)
            assert (await client.get(f"{url}/info")).status_code == 200
        assert await gateway.stop() == 0
    assert '"client":"127.0.0.1"' in gateway.log
    assert '"client":"::1"' in gateway.log
