"""Several Tritons, some of which are killed, hang, stop or change while calls are in flight."""

import asyncio
import logging
import re
import signal
import time
from collections.abc import Sequence
from typing import Final

import grpc
import numpy as np
import pytest

from gateway.errors import DeadlineExceeded, EncoderFault, EncoderUnavailable
from gateway.triton import replica
from gateway.triton.addresses import Entry
from gateway.triton.encoder import TritonEncoder
from tests.fake_triton import CONFIGS, FakeTriton, FakeTritonProcess, eventually, served, unit_rows

pytestmark = pytest.mark.slow

TOKENS: Final = np.arange(3 * 7, dtype=np.int32).reshape(3, 7)


def encoder_of(*ports: int | str, call_timeout_seconds: float = 10) -> TritonEncoder:
    url = ",".join(port if isinstance(port, str) else f"127.0.0.1:{port}" for port in ports)
    return TritonEncoder(url, call_timeout_seconds=call_timeout_seconds, poll_interval_seconds=0.05)


async def encode(encoder: TritonEncoder, times: int = 1) -> None:
    """Make several calls at the same time. Each of them must succeed."""
    spec = encoder.specs["V"]
    for rows in await asyncio.gather(*(encoder.encode_texts(spec, TOKENS) for _ in range(times))):
        np.testing.assert_array_equal(rows, unit_rows(TOKENS))


class TestBalancing:
    async def test_is_even_between_equal_replicas(self) -> None:
        a, b, c = FakeTriton(), FakeTriton(), FakeTriton()
        async with served(a) as pa, served(b) as pb, served(c) as pc, encoder_of(pa, pb, pc) as encoder:
            for _ in range(30):
                await encode(encoder)
            await encode(encoder, times=30)
        assert [len(triton.received) for triton in (a, b, c)] == [20, 20, 20]

    async def test_a_slow_replica_gets_fewer_calls(self) -> None:
        slow, fast = FakeTriton(seconds=0.2), FakeTriton(seconds=0.02)
        async with served(slow) as ps, served(fast) as pf, encoder_of(ps, pf) as encoder:

            async def client() -> None:
                for _ in range(10):
                    await encode(encoder)

            await asyncio.gather(*(client() for _ in range(4)))
        assert len(fast.received) > 2 * len(slow.received) > 0

    async def test_a_replica_that_fails_fast_gets_no_more_calls(self) -> None:
        broken, sound = FakeTriton(abort=(grpc.StatusCode.INTERNAL, "no memory")), FakeTriton()
        failed = 0
        async with served(broken) as pb, served(sound) as ps, encoder_of(pb, ps) as encoder:
            for _ in range(40):
                try:
                    await encode(encoder)
                except EncoderFault:
                    failed += 1
        assert failed == 3


class TestFailover:
    async def test_sigkill_at_16_in_flight_fails_no_call(self) -> None:
        with FakeTritonProcess(seconds=0.5) as a, FakeTritonProcess(seconds=0.5) as b:
            async with encoder_of(a.target, b.target) as encoder:
                calls = asyncio.create_task(encode(encoder, times=16))
                await asyncio.sleep(0.25)
                a.signal(signal.SIGKILL)
                await calls
                await encode(encoder, times=16)

    async def test_a_hung_replica_gets_no_new_calls_and_its_calls_are_retried(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        with FakeTritonProcess(seconds=0.1) as a, FakeTritonProcess(seconds=0.1) as b:
            async with encoder_of(a.target, b.target) as encoder:
                monkeypatch.setattr(replica, "_POLL_TIMEOUT_SECONDS", 0.5)  # The start may take longer.
                a.signal(signal.SIGSTOP)
                await encode(encoder, times=16)
                assert f"Triton at {a.target} is hung" in caplog.text
                start = time.monotonic()
                await encode(encoder, times=4)
                assert time.monotonic() - start < 5  # less than the deadline of 10 s
                a.signal(signal.SIGCONT)
                await eventually(lambda: caplog.text.count(f"{a.target} is serving") == 2)

    async def test_calls_to_a_single_hung_triton_end_at_their_deadline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with FakeTritonProcess() as only:
            async with encoder_of(only.target, call_timeout_seconds=1) as encoder:
                monkeypatch.setattr(replica, "_POLL_TIMEOUT_SECONDS", 0.3)  # The start may take longer.
                only.signal(signal.SIGSTOP)
                with pytest.raises(DeadlineExceeded):
                    await encode(encoder)
                await eventually(lambda: not encoder.specs)
                only.signal(signal.SIGCONT)
                await eventually(lambda: "V" in encoder.specs)
                await encode(encoder)

    @pytest.mark.parametrize(("slow", "hung"), [(1, False), (2, True)])
    async def test_one_unanswered_poll_does_not_make_a_replica_hung(
        self, slow: int, hung: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(replica, "_POLL_TIMEOUT_SECONDS", 0.5)
        triton = FakeTriton()
        async with served(triton) as port, encoder_of(port) as encoder:
            triton.slow_polls = slow
            await eventually(lambda: not triton.slow_polls)
            await asyncio.sleep(0.8)
            assert ("is hung" in caplog.text) is hung
            await eventually(lambda: "V" in encoder.specs)

    async def test_a_lost_connection_is_detected_without_a_poll(self) -> None:
        """The next poll is an hour away."""
        with FakeTritonProcess() as only:
            async with TritonEncoder(only.target, poll_interval_seconds=3600) as encoder:
                assert encoder.specs
                only.signal(signal.SIGKILL)
                await eventually(lambda: not encoder.specs, seconds=1)

    @pytest.mark.parametrize("message", ["Server is stopping", "Socket closed"])
    async def test_a_call_that_was_sent_to_a_single_triton_is_not_retried(self, message: str) -> None:
        triton = FakeTriton(abort=(grpc.StatusCode.UNAVAILABLE, message))
        async with served(triton) as port, encoder_of(port) as encoder:
            with pytest.raises(EncoderUnavailable):
                await encode(encoder)
        assert triton.infer_calls == 1

    async def test_a_call_is_retried_once_on_another_replica(self) -> None:
        stopping = [FakeTriton(abort=(grpc.StatusCode.UNAVAILABLE, "Server is stopping")) for _ in range(3)]
        a, b, c = map(served, stopping)
        async with a as pa, b as pb, c as pc, encoder_of(pa, pb, pc) as encoder:
            with pytest.raises(EncoderUnavailable):
                await encode(encoder)
            assert sum(triton.infer_calls for triton in stopping) == 2
            stopping[1].abort = stopping[2].abort = None
            await encode(encoder, times=9)

    async def test_a_call_that_was_never_sent_waits_for_a_restart(self, unused_tcp_port: int) -> None:
        async with encoder_of(unused_tcp_port) as encoder:
            async with served(FakeTriton(), unused_tcp_port):
                await eventually(lambda: "V" in encoder.specs)
                spec = encoder.specs["V"]
            the_only = next(iter(encoder._fleet.replicas.values()))
            # A call over the connection that is just ending would count as sent.
            channel = the_only._connection._channel
            await eventually(lambda: channel.get_state() is not grpc.ChannelConnectivity.READY)
            encoder._fleet.choose = lambda *_, exclude=None, **__: None if exclude else the_only  # type: ignore[method-assign]  # as if the failure were not detected yet
            call = asyncio.create_task(encoder.encode_texts(spec, TOKENS))
            await asyncio.sleep(0.3)
            async with served(FakeTriton(), unused_tcp_port):
                np.testing.assert_array_equal(await call, unit_rows(TOKENS))
            with pytest.raises(EncoderUnavailable):
                await encoder.encode_texts(spec, TOKENS)


class TestVersions:
    async def test_a_call_names_the_version_of_the_model(self) -> None:
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

    async def test_a_certificate_that_changes_without_a_new_version_is_detected(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(replica, "_CONFIG_REFRESH_SECONDS", 0.1)
        triton = FakeTriton()
        async with served(triton) as port, encoder_of(port) as encoder:
            triton.configs["V-vision"] = re.sub('"fp32"', '"bf16"', CONFIGS["V-vision"])
            await eventually(lambda: encoder.specs["V"].vision.certificate == {"precision": "bf16"})


class TestResolution:
    async def test_replicas_follow_the_addresses_of_a_name(self) -> None:
        a, b = FakeTriton(seconds=0.3), FakeTriton()
        known: list[str] = []

        async def resolve(_: Sequence[Entry]) -> dict[str, str]:
            if not known:
                raise OSError("no such name")
            return dict.fromkeys(known, "triton")

        encoder = TritonEncoder(
            "dns:///triton:1", poll_interval_seconds=0.05, resolve=resolve, resolve_interval_seconds=0.05
        )
        async with served(a) as pa, served(b) as pb, encoder:
            assert not encoder.specs
            known.append(f"127.0.0.1:{pa}")
            await eventually(lambda: "V" in encoder.specs)
            known.append(f"127.0.0.1:{pb}")
            await eventually(lambda: [r.state for r in encoder._fleet.replicas.values()] == ["serving"] * 2)
            calls = asyncio.create_task(encode(encoder, times=4))
            await asyncio.sleep(0.1)
            known.pop(0)
            await eventually(lambda: len(encoder._fleet.replicas) == 1)
            await calls  # including those on the removed replica
            count = len(a.received)
            await encode(encoder, times=4)
            known.clear()  # a failed lookup removes no replica
            await asyncio.sleep(0.2)
            await encode(encoder)
        assert (count, len(a.received), len(b.received)) == (2, 2, 7)

    async def test_a_dns_entry_is_resolved_by_the_system(self) -> None:
        async with served(FakeTriton()) as port, encoder_of(f"dns:///localhost:{port}") as encoder:
            await encode(encoder)
