"""What Triton has at once, and who is next."""

import asyncio
from collections.abc import Hashable

import numpy as np
import pytest

from gateway.in_flight import InFlightLimiter
from gateway.triton.call_turns import CallTurns
from gateway.triton.encoder import TritonEncoder
from tests.fake_triton import FakeTriton, served

ROOM = 8


class Calls:
    """Calls that end when the test says so. Their names are noted as they begin."""

    def __init__(self) -> None:
        self.turns = CallTurns()
        self.begun: list[str] = []
        self._limiter = InFlightLimiter(64, 2**20)

    async def start(self, client: Hashable, *names: str, items: int = 4) -> list[asyncio.Task[None]]:
        """Start the calls of one request, as many as can begin now."""
        with self._limiter.admit(lambda error: None, client):
            tasks = [asyncio.create_task(self._call(name, items)) for name in names]
        await asyncio.sleep(0)
        return tasks

    async def _call(self, name: str, items: int) -> None:
        await self.turns.begin(items, ROOM)
        self.begun.append(name)

    async def end(self, items: int = 4) -> None:
        self.turns.end(items, ROOM)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_clients_take_turns_beyond_what_triton_has_use_for() -> None:
    calls = Calls()
    await calls.start("many", "m1", "m2", "m3", "m4", "m5")
    assert calls.begun == ["m1", "m2"]
    await calls.start("one", "o1")
    for _ in range(4):
        await calls.end()
    assert calls.begun == ["m1", "m2", "m3", "o1", "m4", "m5"]
    await calls.end()
    await calls.end()
    assert calls.turns.items == 0


async def test_a_short_request_of_a_client_does_not_wait_for_its_long_ones() -> None:
    calls = Calls()
    await calls.start("many", *(f"m{i}" for i in range(6)))
    await calls.start("many", "short")
    await calls.end()
    assert calls.begun == ["m0", "m1", "short"]


@pytest.mark.parametrize("items", [4, 7, 30])
async def test_the_last_call_may_exceed_the_room(items: int) -> None:
    calls = Calls()
    await calls.start("a", "first")
    await calls.start("a", "large", "waits", items=items)
    assert calls.begun == ["first", "large"]
    assert calls.turns.items == 4 + items


async def test_a_call_that_is_cancelled_loses_its_turn() -> None:
    calls = Calls()
    await calls.start("a", "a1", "a2")
    waiting, begins = await calls.start("b", "b1", "b2")
    waiting.cancel()
    await asyncio.sleep(0)
    calls.turns.end(4, ROOM)  # now it is the turn of `begins`, which does not learn it
    begins.cancel()
    await asyncio.gather(waiting, begins, return_exceptions=True)
    assert waiting.cancelled()
    assert begins.cancelled()
    assert calls.turns.items == 4
    await calls.start("c", "c1")
    assert calls.begun == ["a1", "a2", "c1"]


async def test_one_image_does_not_wait_for_all_lists_of_another_client() -> None:
    triton = FakeTriton(seconds=0.02)
    limiter = InFlightLimiter(64, 2**20)
    done: list[str] = []

    async def embed(client: str) -> None:
        spec = encoder.specs["V"]
        await encoder.encode_images(spec, np.zeros((4, *spec.image_size, 3), np.uint8))
        done.append(client)

    async with served(triton) as port, TritonEncoder(f"127.0.0.1:{port}") as encoder:
        tasks = []
        for client, calls in (("many", 20), ("one", 1)):
            with limiter.admit(lambda error: None, client):
                tasks += [asyncio.create_task(embed(client)) for _ in range(calls)]
        await asyncio.sleep(0.01)
        assert triton.infer_calls <= 2  # each of as many images as one batch has
        await asyncio.gather(*tasks)
    assert done.index("one") <= 4
