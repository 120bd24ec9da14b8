"""A NAT, STUN servers and a clock that exist in memory only.

    our sockets ── nat ── delay ── servers         each socket has a handle, `via`; servers are
    10.0.0.2:p     203.0.113.9                     `Responder`s, each on its addresses and ports

    world = World(Nat(mapping=Rule.ADDRESS, ports=Ports.RANDOM))
    world.serve(SQUARE)
    world.run(client, 60.0)

What is driven has receive, tick, due and take. Nothing is lost unless `world.lose` says so.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from wgpy.nat.place import Place, Send
from wgpy.nat.stun_server import Responder

OUTSIDE = "203.0.113.9"
INSIDE = "10.0.0.2"
# The clock at the start: zero would be "never" to some.
START = 1000.0
DELAY = 0.010
SQUARE = tuple(Place(f"192.0.2.{n}", port) for n in (1, 2) for port in (3478, 3479))


class Rule(Enum):
    """On what a mapping, or a filter, depends (RFC 4787, 4.1 and 5)."""

    INDEPENDENT = "independent"
    ADDRESS = "address"
    ADDRESS_AND_PORT = "address and port"


class Ports(Enum):
    """Which port a new mapping gets."""

    KEPT = "kept"
    RANDOM = "random"
    SEQUENTIAL = "sequential"


def depends(rule: Rule, place: Place) -> Hashable:
    """What of the other end a rule looks at."""
    if rule is Rule.INDEPENDENT:
        return None
    return place.host if rule is Rule.ADDRESS else place[:2]


@dataclass
class Mapping:
    inside: int
    port: int
    used: float
    sent_to: list[Place] = field(default_factory=list)


@dataclass
class Nat:
    """A router. `life` is how long it remembers a mapping over which nothing leaves."""

    mapping: Rule = Rule.INDEPENDENT
    filtering: Rule = Rule.ADDRESS_AND_PORT
    ports: Ports = Ports.KEPT
    life: float = 120.0
    hairpin: bool = False
    blocked: bool = False
    mappings: dict[Hashable, Mapping] = field(default_factory=dict)
    numbers: Any = field(default_factory=lambda: itertools.count(20_000))
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def leave(self, inside: int, to: Place, now: float) -> Place | None:
        """A datagram leaves from a port inside: where it seems to come from."""
        if self.blocked:
            return None
        key = (inside, depends(self.mapping, to))
        found = self.mappings.get(key)
        if found is None or now - found.used > self.life:
            found = self.mappings[key] = Mapping(inside, self._port(inside), now)
        found.used = now
        found.sent_to.append(to)
        return Place(OUTSIDE, found.port)

    def enter(self, port: int, source: Place, now: float) -> int | None:
        """One comes to a port outside: the port inside that it is for, or None."""
        for found in self.mappings.values():
            if found.port != port or now - found.used > self.life:
                continue
            wanted = depends(self.filtering, source)
            if wanted is None or any(depends(self.filtering, x) == wanted for x in found.sent_to):
                return found.inside
        return None

    def _port(self, inside: int) -> int:
        if self.ports is Ports.KEPT:
            return inside
        if self.ports is Ports.SEQUENTIAL:
            return int(next(self.numbers))
        return self.chance.randrange(1024, 65_536)


class Driven(Protocol):
    """What the world drives. `take` gives Sends among other things."""

    def receive(self, data: bytes, source: Place, now: float) -> Any: ...
    def tick(self, now: float) -> None: ...
    def due(self) -> float | None: ...
    def take(self) -> Sequence[Any]: ...


class World:
    """Everything but what is driven. Without a `nat` our sockets are outside themselves."""

    def __init__(self, nat: Nat | None = None) -> None:
        self.nat = nat
        self.now = START
        self.lose: Callable[[bytes, Place], bool] = lambda data, to: False
        # Hosts that are further away than DELAY, and by how much.
        self.further: dict[str, float] = {}
        # Handle of a socket to its port; handles that nobody named have one each.
        self.ports: dict[int, int] = {}
        self.sent: list[tuple[float, Send]] = []
        self.taken: list[Any] = []
        self._servers: dict[Place, Responder] = {}
        self._events: list[tuple[float, int, Callable[[Driven], None]]] = []
        self._numbers = itertools.count()
        self._chance = random.Random(2)

    def random(self, length: int) -> bytes:
        """Random bytes that are the same each time."""
        return self._chance.randbytes(length)

    def serve(self, places: Sequence[Place], *, any_client: bool = False) -> Responder:
        """A server on these addresses and ports."""
        responder = Responder(places, any_client=any_client)
        self._servers.update(dict.fromkeys(places, responder))
        return responder

    def stop(self, places: Sequence[Place]) -> None:
        """Whoever serves there does so no more."""
        for place in places:
            del self._servers[place]

    def local(self, via: int) -> Place:
        """The address and port of a socket of ours."""
        port = self.ports.setdefault(via, 40_000 + 7 * via)
        return Place(OUTSIDE if self.nat is None else INSIDE, port)

    def run(self, driven: Driven, seconds: float) -> None:
        """Let so much time pass."""
        until = self.now + seconds
        self._flush(driven)
        while (due := self._due(driven)) <= until:
            self.now = max(self.now, due)
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2](driven)
            driven.tick(self.now)
            self._answers()
            self._flush(driven)
        self.now = until

    def _due(self, driven: Driven) -> float:
        times = [driven.due(), *(server.due() for server in self._servers.values())]
        if self._events:
            times.append(self._events[0][0])
        return min((x for x in times if x is not None), default=float("inf"))

    def _flush(self, driven: Driven) -> None:
        for item in driven.take():
            if isinstance(item, Send):
                self.sent.append((self.now, item))
                self._leave(item)
            else:
                self.taken.append(item)

    def _leave(self, send: Send) -> None:
        here, to = self.local(send.to.via), Place(*send.to[:2])
        seen = here if self.nat is None else self.nat.leave(here.port, to, self.now)
        if seen is None or self.lose(send.data, to):
            return
        if to.host == OUTSIDE:
            if self.nat is not None and self.nat.hairpin:
                self._later(lambda driven: self._enter(driven, send.data, seen, to), to)
        elif to in self._servers:
            self._later(lambda driven: self._arrive(send.data, seen, to), to)

    def _later(self, call: Callable[[Driven], None], to: Place) -> None:
        when = self.now + DELAY + self.further.get(to.host, 0.0)
        heapq.heappush(self._events, (when, next(self._numbers), call))

    def _arrive(self, data: bytes, source: Place, at: Place) -> None:
        if at in self._servers:
            self._servers[at].receive(data, source, at, self.now)

    def _answers(self) -> None:
        for responder in dict.fromkeys(self._servers.values()):
            responder.tick(self.now)
            for reply in responder.take():
                if not self.lose(reply.data, reply.to):
                    self._later(
                        lambda driven, reply=reply: self._enter(
                            driven, reply.data, reply.at, reply.to
                        ),
                        reply.to,
                    )

    def _enter(self, driven: Driven, data: bytes, source: Place, to: Place) -> None:
        port = to.port if self.nat is None else self.nat.enter(to.port, source, self.now)
        for via, here in self.ports.items():
            if here == port:
                driven.receive(data, source._replace(via=via), self.now)
