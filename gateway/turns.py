"""A queue in which clients take turns, and of each client the request that has the fewest items waiting is first.

A request may have 64 images, and a client 64 requests. In the order of their arrival, an image of another client would
wait for minutes. If the requests of a client took turns, too, none of them would end before its deadline.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

_T = TypeVar("_T", bound=Hashable)


class Turns(Generic[_T]):
    """Items that wait, each of a request of a client."""

    def __init__(self) -> None:
        # Clients in the order of their next turns, requests in the order of their arrival. The items are keys.
        self._clients: OrderedDict[Hashable, dict[Hashable, OrderedDict[_T, None]]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, client: Hashable, request: Hashable, item: _T) -> None:
        """Add an item behind those of the same request."""
        requests = self._clients.setdefault(client, {})
        requests.setdefault(request, OrderedDict())[item] = None
        self._count += 1

    def get(self) -> _T:
        """Take the item whose turn it is. Raises `KeyError` if there is none."""
        client, requests = self._clients.popitem(last=False)
        request = min(requests, key=lambda request: len(requests[request]))
        item, _ = requests[request].popitem(last=False)
        self._count -= 1
        if not requests[request]:
            del requests[request]
        if requests:
            self._clients[client] = requests
        return item

    def discard(self, client: Hashable, request: Hashable, item: _T) -> None:
        """Remove an item if it is there."""
        requests = self._clients.get(client)
        items = None if requests is None else requests.get(request)
        if requests is None or items is None or item not in items:
            return
        del items[item]
        self._count -= 1
        if not items:
            del requests[request]
        if not requests:
            del self._clients[client]
