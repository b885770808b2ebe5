"""A process that is stopped under load answers all accepted requests, and refuses the others in time."""

import asyncio
import signal
import time

import httpx2
import pytest

from gateway.drain import Drain
from gateway.in_flight import InFlightLimiter
from tests.fake_triton import FakeTriton, served
from tests.gateway.process import GatewayProcess

TEXT = "/perception_encoder/embed_text"


def test_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("gateway.drain.time.monotonic", lambda: now)

    def phase(drain: Drain) -> tuple[bool, bool, bool]:
        return (drain.begun, drain.refusing, drain.over)

    limiter = InFlightLimiter(9, 9)
    drain = Drain(limiter, seconds=10, patience_seconds=20)
    with limiter.admit(lambda error: None):
        assert phase(drain) == (False, False, False)
        drain.begin()
        assert phase(drain) == (True, False, False)
        now += 15
        assert phase(drain) == (True, True, False)
        now += 20
        assert phase(drain) == (True, True, True)  # The time for accepted requests is up.
    drain.begin()
    assert phase(drain) == (True, False, False)
    now += 15
    assert phase(drain) == (True, True, True)  # No request is in flight.


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
async def test_sigterm_under_load_loses_no_request(workers: int) -> None:
    """Requests take 4 s. The drain serves for 3 s, and refuses afterwards."""
    environment = {"NUM_WORKERS": str(workers), "PE_DRAIN_SECONDS": "3", "PE_TEXT_CACHE_BYTES": "0"}
    triton = FakeTriton()
    async with served(triton) as port, GatewayProcess(port, **environment) as gateway:
        triton.seconds = 4
        answers: list[httpx2.Response] = []
        unanswered: list[float] = []
        accepting = True

        async def client(number: int) -> None:
            """Open a connection for each request, as a load balancer does that has not noticed the drain."""
            count = 0
            while accepting:
                count += 1
                async with httpx2.AsyncClient(base_url=gateway.base_url, timeout=30) as http:
                    try:
                        answers.append(await http.post(TEXT, json={"text": f"{number} {count}"}))
                    except httpx2.TransportError:
                        unanswered.append(time.monotonic())
                await asyncio.sleep(0.05)

        clients = [asyncio.create_task(client(number)) for number in range(8)]
        await asyncio.sleep(0.5)
        gateway.signal(signal.SIGTERM)
        stopped = time.monotonic()
        async with asyncio.timeout(2):
            while await gateway.readiness() != 503:
                await asyncio.sleep(0.05)
        async with httpx2.AsyncClient(base_url=gateway.base_url, timeout=30) as http:
            late = asyncio.create_task(http.post(TEXT, json={"text": "still served"}))
            await asyncio.sleep(3.2)  # from after the signal, so the drain is over; the late request still runs
            refused = await http.post(TEXT, json={"text": "too late"})
            assert refused.status_code == 503
            assert (refused.headers["retry-after"], refused.headers["connection"]) == ("1", "close")
            assert (await http.get("/healthz")).status_code == 200
            served_late = await late
            assert (served_late.status_code, served_late.headers["connection"]) == (200, "close")
        accepting = False
        async with asyncio.timeout(20):
            assert await gateway.process.wait() == 0
        ended = time.monotonic()
        await asyncio.gather(*clients)
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert all(answer.json() == refused.json() for answer in answers if answer.status_code == 503)
    assert all(at > stopped + 3 for at in unanswered)  # One worker had exited while the others still refused.
    assert 3 < ended - stopped < 20
    assert "Traceback" not in gateway.log


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_second_signal_ends_it_at_once(workers: int) -> None:
    triton = FakeTriton()
    async with served(triton) as port, GatewayProcess(port, NUM_WORKERS=str(workers)) as gateway:
        triton.seconds = 30
        async with httpx2.AsyncClient(base_url=gateway.base_url, timeout=60) as http:
            request = asyncio.create_task(http.post(TEXT, json={"text": "x"}))
            await asyncio.sleep(0.5)
            gateway.signal(signal.SIGTERM)
            async with asyncio.timeout(20):  # Two signals that wait for a process are one.
                while await gateway.readiness() == 200:
                    await asyncio.sleep(0.1)
            assert gateway.process.returncode is None
            gateway.signal(signal.SIGTERM)
            async with asyncio.timeout(20):  # The request takes 30 s.
                assert await gateway.process.wait() != 0
            with pytest.raises(httpx2.TransportError):
                await request
