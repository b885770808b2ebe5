"""With windows of a fraction of the ten seconds that an answer proves a tower."""

import asyncio
import contextlib
import signal
import socket
import time

import grpc
import numpy as np
import pytest

from gateway.errors import EncoderFault, GatewayError, Overloaded
from gateway.triton import readiness
from gateway.triton.encoder import TritonEncoder
from gateway.triton.readiness import Readiness, TowerReadiness
from tests.fake_triton import FakeTriton, FakeTritonProcess, eventually, served
from tests.fakes import fake_spec

WINDOW = 0.3
TOKENS = np.arange(3 * 7, dtype=np.int32).reshape(3, 7)


class Canary:
    def __init__(self, seconds: float = 0) -> None:
        self.error: GatewayError | None = None
        self.seconds = seconds
        self.sung = 0

    async def __call__(self) -> None:
        self.sung += 1
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error


class TestTower:
    async def test_an_idle_one_is_asked_and_an_answer_lasts_for_a_while(self) -> None:
        canary = Canary()
        tower = TowerReadiness(canary, WINDOW)
        assert [await tower.ready() for _ in range(3)] == [True] * 3
        assert canary.sung == 1
        await asyncio.sleep(WINDOW * 1.1)
        canary.error = EncoderFault("x")
        assert not await tower.ready()
        assert canary.sung == 2
        canary.error = None
        assert await tower.ready()

    async def test_is_asked_again_before_the_answer_is_too_old(self) -> None:
        canary = Canary()
        tower = TowerReadiness(canary, WINDOW)
        for _ in range(8):
            assert await tower.ready()
            await asyncio.sleep(WINDOW * 0.6)
        assert canary.sung == 8

    async def test_one_that_is_called_needs_no_canary(self) -> None:
        canary = Canary()
        tower = TowerReadiness(canary, 5)
        for _ in range(5):
            with tower.call():
                pass
            assert await tower.ready()
        assert canary.sung == 0

    async def test_load_alone_takes_nothing_out(self) -> None:
        """An answer takes five times as long as answers prove anything, and some are refused."""
        canary = Canary()
        tower = TowerReadiness(canary, WINDOW)
        with tower.call():
            pass
        with tower.call():
            for _ in range(5):
                with pytest.raises(Overloaded), tower.call():
                    raise Overloaded("x")
                assert await tower.ready()
                await asyncio.sleep(WINDOW)
            assert await tower.ready()
        assert canary.sung == 0

    async def test_a_stuck_one_goes_with_a_caller_that_waited_for_long(self) -> None:
        tower = TowerReadiness(Canary(), WINDOW)
        assert await tower.ready()

        async def client(seconds: float) -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    with tower.call():
                        await asyncio.Event().wait()

        waiting = asyncio.create_task(client(WINDOW * 5))
        await asyncio.sleep(WINDOW * 1.5)
        await client(WINDOW * 0.1)  # one that left soon says nothing
        assert await tower.ready()
        await client(WINDOW * 2)
        assert not await tower.ready()
        await waiting

    async def test_one_that_has_never_answered_is_not_ready_because_it_is_called(self) -> None:
        tower = TowerReadiness(Canary(), WINDOW)
        with tower.call():
            assert not await tower.ready()
        assert await tower.ready()

    async def test_the_question_is_answered_soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(readiness, "_ANSWER_SECONDS", 0.1)
        canary = Canary(seconds=0.3)
        tower = TowerReadiness(canary, 5)
        assert not await tower.ready()
        assert not await tower.ready()
        await asyncio.sleep(0.3)
        assert await tower.ready()
        assert canary.sung == 1


class TestTowers:
    async def test_what_is_served_anew_proves_itself_anew(self) -> None:
        asked: list[tuple[str, str]] = []

        async def canary(spec: object, name: str) -> None:
            asked.append((getattr(spec, "variant"), name))  # noqa: B009

        towers = Readiness(canary)
        assert not await towers.ready()
        a, b = fake_spec("A"), fake_spec("B")
        towers.follow({"A": a})
        assert await towers.ready()
        towers.follow({"A": a, "B": b})
        assert await towers.ready()
        assert sorted(asked) == [("A", "image"), ("A", "tokens"), ("B", "image"), ("B", "tokens")]
        towers.follow({"B": fake_spec("B")})
        assert await towers.ready()
        assert len(asked) == 6
        with towers.call(b, "image"):
            pass  # it is not that one any more
        towers.close()
        assert not await towers.ready()


class TestTriton:
    async def test_each_tower_must_answer(self) -> None:
        triton = FakeTriton()
        async with served(triton) as port, TritonEncoder(f"127.0.0.1:{port}") as encoder:
            assert await encoder.ready()
            assert sorted((name, batch.shape) for name, batch in triton.received) == [
                ("V-text", (1, 7)),
                ("V-vision", (1, 2, 3, 3)),
            ]
            await encoder.encode_texts(encoder.specs["V"], TOKENS)
            assert await encoder.ready()
            assert triton.asked == 3

    async def test_one_whose_models_fail_is_not_ready(self) -> None:
        triton = FakeTriton(abort=(grpc.StatusCode.INTERNAL, "no memory"))
        async with served(triton) as port, TritonEncoder(f"127.0.0.1:{port}") as encoder:
            assert not await encoder.ready()
            triton.abort = None
            assert await encoder.ready()

    async def test_death_counts_at_once_and_so_does_the_return(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with FakeTritonProcess(port=port) as triton:
            async with TritonEncoder(triton.target) as encoder:
                assert await encoder.ready()
                triton.signal(signal.SIGKILL)
                killed = time.monotonic()
                while await encoder.ready():
                    await asyncio.sleep(0.01)
                assert time.monotonic() - killed < 1
                await asyncio.sleep(1.5)
                async with served(FakeTriton(), port):
                    back = time.monotonic()
                    while not await encoder.ready():
                        await asyncio.sleep(0.01)
                    assert time.monotonic() - back < 2
                    await eventually(lambda: "V" in encoder.specs)
