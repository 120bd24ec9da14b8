"""How two nodes reach each other before they have a path: the interface, and one within a process.

Signals are sealed (signal_message.py), so whoever carries them need not be trusted: it can drop,
delay, repeat and see who speaks to whom, and no more. The mesh has the real one; a directory that
both sides share is in signal_file.py, a text for people to paste in blob.py.
"""

import heapq
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from wgpy.keys import PublicKey

# Signals under way in one process, which is a few for each peer.
MAX_UNDER_WAY: Final = 4096


class Signal(Protocol):
    """A way for sealed signals, each of 353 bytes. Any may be lost, late, doubled or forged."""

    def send(self, peer: PublicKey, data: bytes) -> None:
        """Give a signal to whoever has this key. Raises nothing: what cannot be sent is lost."""

    def listen(self, callback: Callable[[bytes], None]) -> None:
        """Call this with each signal that comes for us. `sender_of` says whose it claims to be."""

    def close(self) -> None:
        """Nothing comes and goes any more."""


class Post:
    """Carries signals within one process, with delay and loss: for tests on a clock of their own.

    `clock` gives seconds, `chance` numbers from 0 to 1. `delay` and `jitter` are in seconds, `loss`
    is a share. Call `deliver` when `due` says so.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        chance: Callable[[], float],
        *,
        delay: float = 0.0,
        jitter: float = 0.0,
        loss: float = 0.0,
    ) -> None:
        self.delay = delay
        self.jitter = jitter
        self.loss = loss
        self.counters: Counter[str] = Counter()
        self._clock = clock
        self._chance = chance
        self._listeners: dict[PublicKey, Callable[[bytes], None]] = {}
        self._under_way: list[tuple[float, int, PublicKey, bytes]] = []
        self._order = 0

    def box(self, owner: PublicKey) -> "PostBox":
        """The `Signal` of whoever has this key."""
        return PostBox(self, owner)

    def due(self) -> float | None:
        """When the next signal arrives."""
        return self._under_way[0][0] if self._under_way else None

    def deliver(self) -> None:
        """Hand over what has arrived by now."""
        while self._under_way and self._under_way[0][0] <= self._clock():
            _, _, peer, data = heapq.heappop(self._under_way)
            listener = self._listeners.get(peer)
            if listener is None:
                self.counters["nobody_there"] += 1
            else:
                listener(data)

    def take(self, peer: PublicKey, data: bytes) -> None:
        """A signal for whoever has this key."""
        if self._chance() < self.loss:
            self.counters["lost"] += 1
            return
        if len(self._under_way) >= MAX_UNDER_WAY:
            self.counters["full"] += 1
            return
        self._order += 1
        arrival = self._clock() + self.delay + self.jitter * self._chance()
        heapq.heappush(self._under_way, (arrival, self._order, peer, data))

    def register(self, owner: PublicKey, callback: Callable[[bytes], None] | None) -> None:
        """Who is called with what comes for `owner`; None for nobody."""
        if callback is None:
            self._listeners.pop(owner, None)
        else:
            self._listeners[owner] = callback


class PostBox:
    """One node's side of a `Post`."""

    def __init__(self, post: Post, owner: PublicKey) -> None:
        self._post = post
        self._owner = owner

    def send(self, peer: PublicKey, data: bytes) -> None:
        """As Signal.send."""
        self._post.take(peer, data)

    def listen(self, callback: Callable[[bytes], None]) -> None:
        """As Signal.listen."""
        self._post.register(self._owner, callback)

    def close(self) -> None:
        """As Signal.close."""
        self._post.register(self._owner, None)
