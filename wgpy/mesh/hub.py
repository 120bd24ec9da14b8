"""Who is connected, and what is said to them at once: changes of the network, and signals.

One connection a key; a newer one takes the place of the last. Each has a short queue. Who does not
read misses what is older and asks for it, for what is pushed can be asked for as well; a signal
that finds no room is lost, as any may be.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection
from typing import Final

from wgpy.keys import PublicKey

# The largest network (store_nodes.py), whatever is connected twice for a moment.
MAX_CONNECTIONS: Final = 10_000
# Signals that wait for one node: those of a few dozen others that all begin to punch.
MAX_WAITING: Final = 64


class Connection:
    """What waits to be written to one node."""

    __slots__ = ("_changed", "_signals", "_wake", "ended", "key")

    def __init__(self, key: PublicKey) -> None:
        self.key = key
        # Why it is to end, for a person.
        self.ended: str | None = None
        self._changed: bytes | None = None
        self._signals: deque[bytes] = deque()
        self._wake = asyncio.Event()

    def changed(self, event: bytes) -> None:
        """The network has changed; a change that was not written yet gives way to this one."""
        self._changed = event
        self._wake.set()

    def signal(self, event: bytes) -> bool:
        """A signal; False if there is no room for it."""
        if self.ended is not None or len(self._signals) >= MAX_WAITING:
            return False
        self._signals.append(event)
        self._wake.set()
        return True

    def end(self, why: str) -> None:
        """Write what waits, and then no more."""
        self.ended = self.ended or why
        self._wake.set()

    async def next(self) -> list[bytes]:
        """What is to be written now; nothing when that is all and the connection is to end."""
        await self._wake.wait()
        self._wake.clear()
        if self.ended is not None:
            # What it was told last may be why.
            self._wake.set()
        found = list(self._signals)
        self._signals.clear()
        if self._changed is not None:
            found.append(self._changed)
            self._changed = None
        return found


class Hub:
    """The connections of one coordinator, in one event loop."""

    def __init__(self, counters: Counter[str], most: int = MAX_CONNECTIONS) -> None:
        self._counters = counters
        self._most = most
        self._connections: dict[PublicKey, Connection] = {}
        # Called with a key that is connected now and was not, or the other way round.
        self.on_change: Callable[[PublicKey, bool], None] = lambda _key, _connected: None

    def __len__(self) -> int:
        return len(self._connections)

    def __contains__(self, key: object) -> bool:
        return key in self._connections

    def keys(self) -> Collection[PublicKey]:
        """Who is connected."""
        return self._connections.keys()

    def has_room(self, key: PublicKey) -> bool:
        """Whether one of this key may connect."""
        return key in self._connections or len(self._connections) < self._most

    def add(self, connection: Connection) -> None:
        """Take a connection; one that the key had ends."""
        old = self._connections.get(connection.key)
        self._connections[connection.key] = connection
        if old is None:
            self.on_change(connection.key, True)
        else:
            self._counters["sockets_replaced"] += 1
            old.end("this node has connected again")

    def remove(self, connection: Connection) -> None:
        """Forget a connection that has ended; a newer one of its key stays."""
        if self._connections.get(connection.key) is connection:
            del self._connections[connection.key]
            self.on_change(connection.key, False)

    def push(self, event: bytes) -> None:
        """Tell everybody that the network has changed."""
        for connection in self._connections.values():
            connection.changed(event)
        self._counters["pushes"] += len(self._connections)

    def signal(self, to: PublicKey, event: bytes) -> bool:
        """Pass a signal on; False where its node is not connected, or does not read."""
        connection = self._connections.get(to)
        if connection is None:
            return False
        passed = connection.signal(event)
        self._counters["signals" if passed else "signals_full"] += 1
        return passed

    def drop(self, key: PublicKey, why: str) -> None:
        """End the connection of a key, if there is one."""
        connection = self._connections.get(key)
        if connection is not None:
            self._counters["sockets_ended"] += 1
            connection.end(why)

    def keep(self, live: Collection[PublicKey]) -> None:
        """End the connections whose keys have no session any more."""
        for key in [x for x in self._connections if x not in live]:
            self.drop(key, "the session of this node has ended")

    def end(self, why: str) -> None:
        """End them all."""
        for connection in list(self._connections.values()):
            connection.end(why)
