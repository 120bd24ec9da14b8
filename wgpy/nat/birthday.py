"""The birthday method: many ports on one side, many guesses on the other, and luck.

One side's NAT gives each new destination a random port. It opens 256 sockets and sends one probe
from each to the other side's one address and port; then 256 of its 64,512 ports lead somewhere. The
other side tries random ones, and each has one chance in 252: of 1,024 one hits with 98 %.

That is a lot to send to somebody who has not answered. So both operators must have allowed it, it
is for this pair of NATs only, and the bounds are in budget.py: 200 a second, two peers at a time,
one try in ten minutes.
"""

from collections.abc import Callable, Sequence
from typing import Final

from wgpy.nat.budget import BIRTHDAY_PER_SECOND, BIRTHDAY_PROBES, BIRTHDAY_SOCKETS
from wgpy.nat.place import Place
from wgpy.nat.punch import Shot

# The other side's ports are open by then.
OPENING_SECONDS: Final = BIRTHDAY_SOCKETS / BIRTHDAY_PER_SECOND
SPRAYING_SECONDS: Final = BIRTHDAY_PROBES / BIRTHDAY_PER_SECOND
# An answer is waited for this long.
GRACE: Final = 1.0
# Timers are late by a few milliseconds.
AT_ONCE: Final = 4
LOWEST_PORT: Final = 1024
PORTS: Final = 65536 - LOWEST_PORT


class Barrage:
    """One side's probes: a place after the other, at a fixed rate. `end` is when it is over."""

    __slots__ = ("_next", "_start", "_stopped", "end", "places")

    def __init__(self, places: Sequence[Place], start: float, end: float) -> None:
        self.places = places
        self._start = start
        self._next = 0
        self._stopped = False
        self.end = end

    def _when(self) -> float:
        return self._start + self._next / BIRTHDAY_PER_SECOND

    def due(self) -> float | None:
        """When there is something to send, None if nothing is left."""
        if self._stopped or self._next >= len(self.places):
            return None
        return self._when()

    def step(self, now: float) -> list[Shot]:
        """What is to be sent now: at most `AT_ONCE`, however late the call is."""
        shots: list[Shot] = []
        while (due := self.due()) is not None and due <= now and len(shots) < AT_ONCE:
            shots.append(Shot(self.places[self._next], 0))
            self._next += 1
        if due is not None and due <= now:
            # The process slept. What was due meanwhile does not come at once.
            late = now - due + 1 / BIRTHDAY_PER_SECOND
            self._start += late
            self.end += late
        return shots

    def stop(self, now: float) -> None:
        """A path was proved."""
        self._stopped = True
        self.end = min(self.end, now + GRACE)


def many(vias: Sequence[int], host: str, port: int, start: float) -> Barrage:
    """From each of our sockets to the other side's one address and port."""
    places = [Place(host, port, via) for via in vias[:BIRTHDAY_SOCKETS]]
    return Barrage(places, start, start + OPENING_SECONDS + SPRAYING_SECONDS + GRACE)


def spray(host: str, start: float, random: Callable[[int], bytes]) -> Barrage:
    """From our one port to so many different ports of the other side's address.

    Theirs are random, so any ours are as good as others: a comb over all of them, so that none of
    the blocks that some NATs allocate from is left out, moved and shuffled at random.
    """
    drawn = int.from_bytes(random(8), "little")
    first, turn = drawn % PORTS, drawn // PORTS | 1
    tooth = PORTS // BIRTHDAY_PROBES
    places = [
        Place(host, LOWEST_PORT + (first + tooth * (number * turn % BIRTHDAY_PROBES)) % PORTS)
        for number in range(BIRTHDAY_PROBES)
    ]
    begin = start + OPENING_SECONDS
    return Barrage(places, begin, begin + SPRAYING_SECONDS + GRACE)
