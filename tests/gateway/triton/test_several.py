"""Several Tritons, some of which die, hang, stop or change while calls are under way."""

import asyncio
import logging
import re
import signal
import time
from collections.abc import Sequence

import grpc
import numpy as np
import pytest

from gateway.errors import DeadlineExceeded, EncoderFault, EncoderUnavailable
from gateway.triton import replica
from gateway.triton.addresses import Address
from gateway.triton.encoder import TritonEncoder
from tests.fake_triton import CONFIGS, FakeTriton, FakeTritonProcess, eventually, served, unit_rows

TOKENS = np.arange(3 * 7, dtype=np.int32).reshape(3, 7)


def encoder_of(*ports: int | str, call_seconds: float = 10) -> TritonEncoder:
    url = ",".join(port if isinstance(port, str) else f"127.0.0.1:{port}" for port in ports)
    return TritonEncoder(url, call_seconds=call_seconds, watch_seconds=0.05)


async def encode(encoder: TritonEncoder, times: int = 1) -> None:
    """So many calls at once, each of which must succeed."""
    spec = encoder.specs["V"]
    for rows in await asyncio.gather(*(encoder.encode_texts(spec, TOKENS) for _ in range(times))):
        np.testing.assert_array_equal(rows, unit_rows(TOKENS))


class TestSpread:
    async def test_is_even(self) -> None:
        a, b, c = FakeTriton(), FakeTriton(), FakeTriton()
        async with served(a) as pa, served(b) as pb, served(c) as pc, encoder_of(pa, pb, pc) as encoder:
            for _ in range(30):
                await encode(encoder)
            await encode(encoder, times=30)
        assert [len(triton.received) for triton in (a, b, c)] == [20, 20, 20]

    async def test_a_slow_one_gets_less(self) -> None:
        slow, fast = FakeTriton(seconds=0.2), FakeTriton(seconds=0.02)
        async with served(slow) as ps, served(fast) as pf, encoder_of(ps, pf) as encoder:

            async def client() -> None:
                for _ in range(10):
                    await encode(encoder)

            await asyncio.gather(*(client() for _ in range(4)))
        assert len(fast.received) > 2 * len(slow.received) > 0

    async def test_one_that_fails_fast_is_left_alone(self) -> None:
        broken, sound = FakeTriton(abort=(grpc.StatusCode.INTERNAL, "no memory")), FakeTriton()
        failed = 0
        async with served(broken) as pb, served(sound) as ps, encoder_of(pb, ps) as encoder:
            for _ in range(40):
                try:
                    await encode(encoder)
                except EncoderFault:
                    failed += 1
        assert failed == 3


class TestLoss:
    async def test_kill_9_at_16_in_flight_costs_nothing(self) -> None:
        with FakeTritonProcess(seconds=0.5) as a, FakeTritonProcess(seconds=0.5) as b:
            async with encoder_of(a.target, b.target) as encoder:
                calls = asyncio.create_task(encode(encoder, times=16))
                await asyncio.sleep(0.25)
                a.signal(signal.SIGKILL)
                await calls
                await encode(encoder, times=16)

    async def test_a_hung_one_gets_no_new_work_and_its_calls_go_elsewhere(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(replica, "_PATIENCE_SECONDS", 0.5)
        caplog.set_level(logging.INFO)
        with FakeTritonProcess(seconds=0.1) as a, FakeTritonProcess(seconds=0.1) as b:
            async with encoder_of(a.target, b.target) as encoder:
                a.signal(signal.SIGSTOP)
                await encode(encoder, times=16)
                assert f"Triton at {a.target} is hung" in caplog.text
                start = time.monotonic()
                await encode(encoder, times=4)
                assert time.monotonic() - start < 5  # and not the ten that a call may last
                a.signal(signal.SIGCONT)
                await eventually(lambda: caplog.text.count(f"{a.target} is serving") == 2)

    async def test_a_lone_hung_one_keeps_to_the_deadline_and_is_noticed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(replica, "_PATIENCE_SECONDS", 0.3)
        with FakeTritonProcess() as only:
            async with encoder_of(only.target, call_seconds=1) as encoder:
                only.signal(signal.SIGSTOP)
                with pytest.raises(DeadlineExceeded):
                    await encode(encoder)
                assert not encoder.specs
                only.signal(signal.SIGCONT)
                await eventually(lambda: "V" in encoder.specs)
                await encode(encoder)

    @pytest.mark.parametrize(("slow", "hung"), [(1, False), (2, True)])
    async def test_one_look_unanswered_is_no_verdict(
        self, slow: int, hung: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(replica, "_PATIENCE_SECONDS", 0.5)
        triton = FakeTriton()
        async with served(triton) as port, encoder_of(port) as encoder:
            triton.slow_looks = slow
            await eventually(lambda: not triton.slow_looks)
            await asyncio.sleep(0.8)
            assert ("is hung" in caplog.text) is hung
            await eventually(lambda: "V" in encoder.specs)

    async def test_a_lost_connection_is_noticed_at_once(self) -> None:
        """Not at the next look, which is an hour away."""
        with FakeTritonProcess() as only:
            async with TritonEncoder(only.target, watch_seconds=3600) as encoder:
                assert encoder.specs
                only.signal(signal.SIGKILL)
                await eventually(lambda: not encoder.specs, seconds=1)

    @pytest.mark.parametrize("message", ["Server is stopping", "Socket closed"])
    async def test_a_lone_one_is_not_asked_twice_by_a_call_that_left(self, message: str) -> None:
        triton = FakeTriton(abort=(grpc.StatusCode.UNAVAILABLE, message))
        async with served(triton) as port, encoder_of(port) as encoder:
            with pytest.raises(EncoderUnavailable):
                await encode(encoder)
        assert triton.asked == 1

    async def test_a_stopping_one_is_retried_elsewhere_once(self) -> None:
        stopping = [FakeTriton(abort=(grpc.StatusCode.UNAVAILABLE, "Server is stopping")) for _ in range(3)]
        a, b, c = map(served, stopping)
        async with a as pa, b as pb, c as pc, encoder_of(pa, pb, pc) as encoder:
            with pytest.raises(EncoderUnavailable):
                await encode(encoder)
            assert sum(triton.asked for triton in stopping) == 2
            stopping[1].abort = stopping[2].abort = None
            await encode(encoder, times=9)

    async def test_a_call_that_never_left_waits_for_a_restart(self, unused_tcp_port: int) -> None:
        async with encoder_of(unused_tcp_port) as encoder:
            async with served(FakeTriton(), unused_tcp_port):
                await eventually(lambda: "V" in encoder.specs)
                spec = encoder.specs["V"]
            the_only = next(iter(encoder._fleet.replicas.values()))
            encoder._fleet.choose = lambda *_, besides=None, **__: None if besides else the_only  # type: ignore[method-assign]  # as if not noticed yet
            call = asyncio.create_task(encoder.encode_texts(spec, TOKENS))
            await asyncio.sleep(0.3)
            async with served(FakeTriton(), unused_tcp_port):
                np.testing.assert_array_equal(await call, unit_rows(TOKENS))
            with pytest.raises(EncoderUnavailable):
                await encoder.encode_texts(spec, TOKENS)


class TestDifferences:
    async def test_a_replaced_model_is_asked_for_by_its_version(self) -> None:
        triton = FakeTriton(version="3")
        async with served(triton) as port, encoder_of(port) as encoder:
            await encode(encoder)
        assert triton.versions == ["3"]

    async def test_versions_do_not_mix(self) -> None:
        old, older, new = FakeTriton(), FakeTriton(), FakeTriton(version="2")
        async with served(old) as a, served(older) as b, served(new) as c, encoder_of(a, b, c) as encoder:
            await encode(encoder, times=6)
            assert not new.received
            old.version = "2"
            await eventually(lambda: encoder.specs["V"].vision.version == "2")
            await encode(encoder, times=6)
        assert (len(old.received), len(older.received), len(new.received)) == (6, 3, 3)
        assert set(new.versions) == {"2"}

    async def test_a_certificate_that_changes_under_the_same_version_is_noticed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(replica, "_REREAD_SECONDS", 0.1)
        triton = FakeTriton()
        async with served(triton) as port, encoder_of(port) as encoder:
            triton.configs["V-vision"] = re.sub('"fp32"', '"bf16"', CONFIGS["V-vision"])
            await eventually(lambda: encoder.specs["V"].vision.certificate == {"precision": "bf16"})


class TestNames:
    async def test_addresses_come_and_go(self) -> None:
        a, b = FakeTriton(seconds=0.3), FakeTriton()
        known: list[str] = []

        async def resolve(_: Sequence[Address]) -> list[str]:
            if not known:
                raise OSError("no such name")
            return list(known)

        encoder = TritonEncoder("dns:///triton:1", watch_seconds=0.05, resolve=resolve, resolve_seconds=0.05)
        async with served(a) as pa, served(b) as pb, encoder:
            assert not encoder.specs
            known.append(f"127.0.0.1:{pa}")
            await eventually(lambda: "V" in encoder.specs)
            known.append(f"127.0.0.1:{pb}")
            await eventually(lambda: len(encoder._fleet.replicas) == 2)
            calls = asyncio.create_task(encode(encoder, times=4))
            await asyncio.sleep(0.1)
            known.pop(0)
            await eventually(lambda: len(encoder._fleet.replicas) == 1)
            await calls  # those at the one that left, too
            count = len(a.received)
            await encode(encoder, times=4)
            known.clear()  # a name server that fails takes nothing away
            await asyncio.sleep(0.2)
            await encode(encoder)
        assert (count, len(a.received), len(b.received)) == (2, 2, 7)

    async def test_a_real_name(self) -> None:
        async with served(FakeTriton()) as port, encoder_of(f"dns:///localhost:{port}") as encoder:
            await encode(encoder)
