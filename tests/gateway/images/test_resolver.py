"""Lookups of host names."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from gateway.errors import TooManyFetches
from gateway.images.resolver import Resolver
from gateway.in_flight import InFlightLimiter


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Lookups of other names than `localhost` wait for this event."""
    answers, look_up = threading.Event(), socket.getaddrinfo

    def slow(host: str, *arguments: Any, **options: Any) -> object:
        if host != "localhost":
            answers.wait(60)
        return look_up("localhost", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    yield answers
    answers.set()


async def test_lookups_count_until_they_end_although_nobody_waits(answers: threading.Event) -> None:
    limiter, resolve = InFlightLimiter(64, 2**20), Resolver(8)

    async def abandoned(host: str) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await resolve(host, 80)

    with limiter.admit(lambda error: None, "many"):
        await asyncio.gather(*[abandoned(f"{number}.example.com") for number in range(8)])
        with pytest.raises(TooManyFetches):
            await resolve("localhost", 80)
    with limiter.admit(lambda error: None, "one"):
        assert "127.0.0.1" in await resolve("localhost", 80)
    answers.set()
    with limiter.admit(lambda error: None, "many"):
        async with asyncio.timeout(60):
            while True:
                with suppress(TooManyFetches):
                    assert "127.0.0.1" in await resolve("localhost", 80)
                    break
                await asyncio.sleep(0)
    resolve.close()


async def test_a_name_without_an_address() -> None:
    resolve = Resolver(1)
    for _ in range(3):
        with pytest.raises(OSError):
            await resolve("no such host", 80)
    resolve.close()
