"""Bound what Triton has of one tower. Beyond the bound, clients take turns.

Triton runs calls in the order of their arrival. The lists of one client may have thousands of images, and an image of
another client would wait for all of them.
"""

import asyncio

from gateway.in_flight import requester
from gateway.turns import Turns


class CallTurns:
    """The calls to one tower.

    Attributes:
        items: images or texts of the calls that have begun and not ended.
    """

    def __init__(self) -> None:
        self.items = 0
        self._waiting: Turns[_Call] = Turns()

    async def begin(self, items: int, room: int) -> None:
        """Wait for the turn of a call. A call begins while Triton has fewer than `room` items, and may exceed the room.

        Args:
            items: of this call.
            room: at least 1.
        """
        if self.items < room and not self._waiting:
            self.items += items
            return
        client, request = requester()
        call = _Call(items)
        self._waiting.put(client, request, call)
        try:
            await call.begun
        except asyncio.CancelledError:
            self._waiting.discard(client, request, call)
            if call.begun.done() and not call.begun.cancelled():
                self.end(items, room)
            raise

    def end(self, items: int, room: int) -> None:
        """Note the end of a call, and begin those that there is room for."""
        self.items -= items
        while self._waiting and self.items < room:
            call = self._waiting.get()
            if not call.begun.done():
                self.items += call.items
                call.begun.set_result(None)


class _Call:
    def __init__(self, items: int) -> None:
        self.items = items
        self.begun = asyncio.get_running_loop().create_future()
