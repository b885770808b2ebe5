"""Readiness, with a window of less than a second instead of ten."""

import asyncio
import contextlib
import signal
import socket
import time
from typing import Final

import grpc
import numpy as np
import pytest

from gateway.errors import EncoderFault, GatewayError, Overloaded
from gateway.triton import readiness
from gateway.triton.encoder import TritonEncoder
from gateway.triton.readiness import Readiness, TowerReadiness
from tests.fake_triton import FakeTriton, FakeTritonProcess, eventually, served
from tests.fakes import fake_spec

pytestmark = pytest.mark.slow

WINDOW: Final = 0.3
TOKENS: Final = np.arange(3 * 7, dtype=np.int32).reshape(3, 7)


class Probe:
    def __init__(self, seconds: float = 0) -> None:
        self.error: GatewayError | None = None
        self.seconds = seconds
        self.calls = 0

    async def __call__(self) -> None:
        self.calls += 1
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error


class TestTower:
    async def test_an_idle_tower_is_probed_and_a_success_lasts_for_the_window(self) -> None:
        probe = Probe()
        tower = TowerReadiness(probe, WINDOW)
        assert [await tower.ready() for _ in range(3)] == [True] * 3
        assert probe.calls == 1
        await asyncio.sleep(WINDOW * 1.1)
        probe.error = EncoderFault("x")
        assert not await tower.ready()
        assert probe.calls == 2
        probe.error = None
        assert await tower.ready()

    async def test_the_probe_is_repeated_before_the_window_ends(self) -> None:
        probe = Probe()
        tower = TowerReadiness(probe, WINDOW)
        for _ in range(8):
            assert await tower.ready()
            await asyncio.sleep(WINDOW * 0.6)
        assert probe.calls == 8

    async def test_a_tower_in_use_is_not_probed(self) -> None:
        probe = Probe()
        tower = TowerReadiness(probe, 5)
        for _ in range(5):
            with tower.observe_call():
                pass
            assert await tower.ready()
        assert probe.calls == 0

    async def test_load_alone_does_not_make_a_tower_unready(self) -> None:
        """A call takes five windows, and other calls are refused meanwhile."""
        probe = Probe()
        tower = TowerReadiness(probe, WINDOW)
        with tower.observe_call():
            pass
        with tower.observe_call():
            for _ in range(5):
                with pytest.raises(Overloaded), tower.observe_call():
                    raise Overloaded("x")
                assert await tower.ready()
                await asyncio.sleep(WINDOW)
            assert await tower.ready()
        assert probe.calls == 0

    async def test_a_hung_tower_becomes_unready_when_a_caller_gives_up_after_the_window(self) -> None:
        tower = TowerReadiness(Probe(), WINDOW)
        assert await tower.ready()

        async def client(seconds: float) -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    with tower.observe_call():
                        await asyncio.Event().wait()

        waiting = asyncio.create_task(client(WINDOW * 5))
        await asyncio.sleep(WINDOW * 1.5)
        await client(WINDOW * 0.1)  # a caller that gives up early proves nothing
        assert await tower.ready()
        await client(WINDOW * 2)
        assert not await tower.ready()
        await waiting

    async def test_a_tower_that_never_succeeded_is_not_ready_while_a_call_is_in_flight(self) -> None:
        tower = TowerReadiness(Probe(), WINDOW)
        with tower.observe_call():
            assert not await tower.ready()
        assert await tower.ready()

    async def test_ready_returns_before_a_slow_probe(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(readiness, "_MAX_WAIT_SECONDS", 0.1)
        probe = Probe(seconds=0.3)
        tower = TowerReadiness(probe, 5)
        assert not await tower.ready()
        assert not await tower.ready()
        await asyncio.sleep(0.3)
        assert await tower.ready()
        assert probe.calls == 1


class TestTowers:
    async def test_a_variant_whose_spec_changes_is_probed_again(self) -> None:
        probed: list[tuple[str, str]] = []

        async def probe(spec: object, name: str) -> None:
            probed.append((getattr(spec, "variant"), name))  # noqa: B009

        towers = Readiness(probe)
        assert not await towers.ready()
        a, b = fake_spec("A"), fake_spec("B")
        towers.set_specs({"A": a})
        assert await towers.ready()
        towers.set_specs({"A": a, "B": b})
        assert await towers.ready()
        assert sorted(probed) == [("A", "image"), ("A", "tokens"), ("B", "image"), ("B", "tokens")]
        towers.set_specs({"B": fake_spec("B")})
        assert await towers.ready()
        assert len(probed) == 6
        with towers.observe_call(b, "image"):
            pass  # the spec of B was replaced, so this call proves nothing
        towers.close()
        assert not await towers.ready()


class TestTriton:
    async def test_each_tower_is_probed(self) -> None:
        triton = FakeTriton()
        async with served(triton) as port, TritonEncoder(f"127.0.0.1:{port}") as encoder:
            assert await encoder.ready()
            assert sorted((name, batch.shape) for name, batch in triton.received) == [
                ("V-text", (1, 7)),
                ("V-vision", (1, 2, 3, 3)),
            ]
            await encoder.encode_texts(encoder.specs["V"], TOKENS)
            assert await encoder.ready()
            assert triton.infer_calls == 3

    async def test_a_triton_whose_models_fail_is_not_ready(self) -> None:
        triton = FakeTriton(abort=(grpc.StatusCode.INTERNAL, "no memory"))
        async with served(triton) as port, TritonEncoder(f"127.0.0.1:{port}") as encoder:
            assert not await encoder.ready()
            triton.abort = None
            assert await encoder.ready()

    async def test_a_killed_triton_is_unready_at_once_and_ready_soon_after_its_restart(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with FakeTritonProcess(port=port) as triton:
            async with TritonEncoder(triton.target) as encoder:
                assert await encoder.ready()
                triton.signal(signal.SIGKILL)
                killed_at = time.monotonic()
                while await encoder.ready():
                    await asyncio.sleep(0.01)
                assert time.monotonic() - killed_at < 1
                await asyncio.sleep(1.5)
                async with served(FakeTriton(), port):
                    restarted_at = time.monotonic()
                    while not await encoder.ready():
                        await asyncio.sleep(0.01)
                    assert time.monotonic() - restarted_at < 2
                    await eventually(lambda: "V" in encoder.specs)
