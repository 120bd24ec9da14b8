"""Who is connected, and what is said to them at once: changes of the network, and signals.

One connection a key; a newer one takes the place of the last. What is pushed is written as a whole
frame (RFC 6455 section 5.2), made once for everybody, straight to each transport. Who does not read
is cut off: it asks for what it has missed when it comes back. A signal that finds no room is lost,
as any may be.
"""

import asyncio
import struct
from collections import Counter
from collections.abc import Collection
from typing import Final

from wgpy.keys import PublicKey

# The largest network (store_nodes.py), whatever is connected twice for a moment.
MAX_CONNECTIONS: Final = 10_000
# What waits for one node in this process, on top of what the kernel takes: a dozen pushes. Who has
# more has not read for a while.
MAX_WAITING: Final = 256 * 1024
# Signals, which are short and many, leave room for what is not to be lost.
MAX_SIGNALS: Final = 64 * 1024
# A code of our own (RFC 6455 section 7.4.2): ended from here, for the reason beside it.
ENDED: Final = 4_000
# Seconds for the node to say goodbye too.
FAREWELL: Final = 2.0
# A reason has 123 bytes at the most (RFC 6455 section 5.5).
_MAX_REASON: Final = 123
_TEXT: Final = 0x81
_CLOSE: Final = 0x88


def frame(event: bytes) -> bytes:
    """A text message as one frame of a server, which masks nothing."""
    return _head(_TEXT, len(event)) + event


def _head(first: int, length: int) -> bytes:
    if length < 126:
        return struct.pack("!BB", first, length)
    if length < 1 << 16:
        return struct.pack("!BBH", first, 126, length)
    return struct.pack("!BBQ", first, 127, length)


class Connection:
    """One node's connection: its transport, on which the frames of others stand too, each whole."""

    __slots__ = ("_transport", "ended", "key")

    def __init__(self, key: PublicKey, transport: asyncio.WriteTransport) -> None:
        self.key = key
        # Why it is to end, for a person.
        self.ended: str | None = None
        self._transport = transport

    def write(self, framed: bytes, most: int = MAX_WAITING) -> bool:
        """Write a frame; False if more than `most` bytes wait already, or it has ended."""
        transport = self._transport
        if self.ended is not None or transport.is_closing():
            return False
        if transport.get_write_buffer_size() > most:
            return False
        transport.write(framed)
        return True

    def end(self, why: str) -> None:
        """Say goodbye; in a moment the connection is gone, whatever the node says."""
        if self.ended is not None:
            return
        self.ended = why
        if not self._transport.is_closing():
            body = ENDED.to_bytes(2, "big") + why.encode()[:_MAX_REASON]
            self._transport.write(_head(_CLOSE, len(body)) + body)
        asyncio.get_running_loop().call_later(FAREWELL, self._transport.abort)


class Hub:
    """The connections of one coordinator, in one event loop."""

    def __init__(self, counters: Counter[str], most: int = MAX_CONNECTIONS) -> None:
        self._counters = counters
        self._most = most
        self._connections: dict[PublicKey, Connection] = {}

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
        if old is not None:
            self._counters["sockets_replaced"] += 1
            old.end("this node has connected again")

    def remove(self, connection: Connection) -> None:
        """Forget a connection that has ended; a newer one of its key stays."""
        if self._connections.get(connection.key) is connection:
            del self._connections[connection.key]

    def push(self, event: bytes) -> None:
        """Tell everybody that the network has changed."""
        framed = frame(event)
        slow = [x for x in self._connections.values() if not x.write(framed)]
        for connection in slow:
            self._counters["sockets_slow"] += 1
            connection.end("the node does not read")
        self._counters["pushes"] += len(self._connections) - len(slow)

    def signal(self, to: PublicKey, event: bytes) -> bool:
        """Pass a signal on; False where its node is not connected, or does not read."""
        connection = self._connections.get(to)
        if connection is None:
            return False
        passed = connection.write(frame(event), MAX_SIGNALS)
        self._counters["signals" if passed else "signals_full"] += 1
        return passed

    def drop(self, key: PublicKey, why: str) -> None:
        """End the connection of a key, if there is one."""
        connection = self._connections.get(key)
        if connection is not None:
            self._counters["sockets_ended"] += 1
            connection.end(why)

    def connections(self) -> tuple[Connection, ...]:
        """Those that there are now."""
        return tuple(self._connections.values())

    def keep(self, present: Collection[Connection], live: Collection[PublicKey]) -> None:
        """End those of `present` whose keys have no session any more. Others came after it was
        asked who is `live`."""
        for connection in present:
            if connection.key not in live and self._connections.get(connection.key) is connection:
                self.drop(connection.key, "the session of this node has ended")

    def end(self, why: str) -> None:
        """End them all."""
        for connection in list(self._connections.values()):
            connection.end(why)
