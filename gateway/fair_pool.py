"""A bound that clients share: no client can use up what the others need."""

from collections.abc import Hashable


class FairPool:
    """Units that clients hold: requests, bytes or fetches.

    One client may hold up to `limit` units, and all clients together `limit + reserve`. The rule for what lies between
    is dynamic thresholds (Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998): a client gets further
    units while it holds less than a multiple of the free units. The multiple is `limit / reserve`. By this rule, a
    client that is alone gets exactly `limit`, and clients that ask for everything get equal parts.

    Args:
        limit: units of one client.
        reserve: units beyond the limit, for other clients. 0: the limit is for all clients together.

    Attributes:
        total: units that are held now.
    """

    def __init__(self, limit: int, reserve: int) -> None:
        self.limit = limit
        self._all = limit + reserve
        self._reserve = reserve
        self._held: dict[Hashable, int] = {}
        self.total = 0

    def held(self, client: Hashable) -> int:
        """Units that the client holds."""
        return self._held.get(client, 0)

    def fits(self, client: Hashable, size: int = 1) -> bool:
        """Whether the client may take `size` more units."""
        held = self._held.get(client, 0)
        return (
            held + size <= self.limit
            and self.total + size <= self._all
            and held * self._reserve < self.limit * (self._all - self.total)
        )

    def fits_others(self, client: Hashable, size: int = 1) -> bool:
        """Whether a client that holds nothing could take `size` units, while this one and others hold some.

        If `fits` is false for this client nevertheless, the client has its share, and the rest is for the others.
        """
        return 0 < self.held(client) < self.total and self.fits(None, size)

    def take(self, client: Hashable, size: int = 1) -> None:
        """Give units to the client. The caller has asked `fits`."""
        self._held[client] = self._held.get(client, 0) + size
        self.total += size

    def give_back(self, client: Hashable, size: int = 1) -> None:
        """Take units back from the client."""
        self.total -= size
        left = self._held[client] - size
        if left:
            self._held[client] = left
        else:
            del self._held[client]
