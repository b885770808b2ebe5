"""Look up the addresses of host names by the system's resolver, in threads."""

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from gateway.errors import TooManyFetches
from gateway.fair_pool import FairPool
from gateway.in_flight import requester, reserve_of

_TOO_MANY: Final = "Too many hosts of image URLs are being looked up. Try again in a moment, or send the images."


class Resolver:
    """Resolves host names; see `Resolve`.

    A lookup cannot be cancelled, and takes 10 s or more where a name server does not answer. So it counts for its
    client until its thread is free, although the fetch has timed out. Otherwise one client's lookups would occupy all
    threads.

    Args:
        max_lookups: lookups at once for one client. All clients together have a quarter more.
    """

    def __init__(self, max_lookups: int) -> None:
        reserve = reserve_of(max_lookups)
        self._lookups = FairPool(max_lookups, reserve)
        # As many threads as lookups, so that none waits for another. A thread starts when it is first needed.
        self._threads = ThreadPoolExecutor(max_lookups + reserve, thread_name_prefix="image-url-resolver")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Look up a name.

        Raises:
            OSError: the name has no address.
            TooManyFetches: the client has too many lookups, some of which it may no longer wait for.
        """
        loop = asyncio.get_running_loop()
        client, _ = requester()
        if not self._lookups.fits(client):
            raise TooManyFetches(_TOO_MANY)

        def ended(_: Future[Sequence[str]]) -> None:
            with suppress(RuntimeError):  # The event loop is closed.
                loop.call_soon_threadsafe(self._lookups.give_back, client)

        self._lookups.take(client)
        lookup = self._threads.submit(_look_up, host, port)
        lookup.add_done_callback(ended)
        return await asyncio.wrap_future(lookup)

    def close(self) -> None:
        """Begin no more lookups, and do not wait for those that run."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int) -> Sequence[str]:
    return [str(address[0]) for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
