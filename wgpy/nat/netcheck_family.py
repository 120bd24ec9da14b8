"""Find out what stands between us and the servers over one version of IP (RFC 5780), without a
socket.

    1  the main socket asks every server where it is seen
    2  of the one that can tell most:
         the main socket asks its other address and ports: how are we mapped?
         a socket that asks it once, and then for answers from elsewhere: who is let in?
         that one and others, one after the other: which ports do we get?
    3  two of those send to each other's address outside: does it come back?

A filter is only concluded from what did not come where the same was heard by the main socket, which
had sent there.
"""

import ipaddress
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, NamedTuple

from wgpy.nat.behaviour import (
    Endpoint,
    allocation,
    filtering_behaviour,
    keeps_ports,
    mapping_behaviour,
)
from wgpy.nat.netcheck_report import Family, Server, Status
from wgpy.nat.place import Place, Send
from wgpy.nat.stun import CHANGE_ADDRESS, CHANGE_PORT, Class, Message, Method, pack
from wgpy.nat.stun_client import (
    USUAL,
    Answer,
    Failure,
    Reason,
    Schedule,
    StunClient,
    is_usable,
)

# The main one, the one for filters, and three more: with four mappings made in a row there are
# three steps from one to the next.
SOCKETS: Final = 5
# Servers that are asked, over one version of IP: as many as fit in a picture, and in the client.
MAX_SERVERS: Final = 8

# Seconds until those that answered are enough to go on with.
ENOUGH: Final = 2.0
# What is let in comes after one round trip; three lost in a row are not to be feared.
FILTERED: Final = Schedule(first=0.5, sends=3, last=1.0)
# When two sockets send to each other. The first from each side opens the filter for the other's.
_HAIRPIN_AT: Final = (0.0, 0.5, 1.0)
_HAIRPIN_WAIT: Final = 0.5


class Socket(NamedTuple):
    """A socket of ours: its handle, and its address and port."""

    via: int
    local: Endpoint


class Target(NamedTuple):
    """A server to ask, as it was written and where it is."""

    name: str
    place: Place


class _Purpose(Enum):
    SERVER = 1
    MAPPING = 2
    SOCKET = 3
    OTHER_ADDRESS = 4
    OTHER_PORT = 5


class _Hairpin:
    """Two sockets that send to each other's address outside."""

    def __init__(self, ends: Sequence[tuple[Socket, Endpoint]], data: Sequence[bytes]) -> None:
        self._sends: list[Send] = []
        # By the handle of a socket: what comes to it if it comes at all.
        self._expected: dict[int, bytes] = {}
        for number, (here, _) in enumerate(ends):
            there, seen = ends[1 - number]
            self._sends.append(Send(data[number], Place(*seen, via=here.via)))
            self._expected[there.via] = data[number]
        self.sent = 0

    def volley(self) -> list[Send]:
        """What both send now."""
        self.sent += 1
        return self._sends

    def has_come(self, data: bytes, via: int) -> bool:
        """Whether a datagram is one of these."""
        return self._expected.get(via) == data


class FamilyCheck:
    """The check over one version of IP. `sockets` are SOCKETS bound to free ports.

    `result` may be asked at any time, and is whole once `done` is true.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        sockets: Sequence[Socket],
        now: float,
        random: Callable[[int], bytes],
    ) -> None:
        self.client = StunClient(random)
        self.done = False
        self._random = random
        self._targets = targets[:MAX_SERVERS]
        self._main, self._filter, *self._rest = sockets
        self._purposes: dict[bytes, tuple[_Purpose, Place]] = {}
        self._answers: dict[Place, Answer] = {}
        self._problems: dict[Place, str] = {}
        # What each place saw the main socket come from, and a chosen server the other sockets.
        self._seen: dict[Endpoint, Endpoint] = {}
        self._sockets_seen: dict[int, Endpoint] = {}
        self._let_in: dict[_Purpose, bool | None] = {}
        self._best: Answer | None = None
        self._hairpin: _Hairpin | None = None
        self._hairpins: bool | None = None
        self._wake: float | None = now + ENOUGH
        self._out: list[Send] = []
        for target in self._targets:
            place = target.place._replace(via=self._main.via)
            self._ask(_Purpose.SERVER, place, now)
        self._work(now)

    def receive(self, data: bytes, source: Place, now: float) -> bool:
        """Take a datagram; `source.via` says to which socket it came. Whether it was of use."""
        if self._hairpin is not None and self._hairpin.has_come(data, source.via):
            self._hairpins = True
            self._work(now)
            return True
        took = self.client.receive(data, source, now)
        self._work(now)
        return took

    def tick(self, now: float) -> None:
        """Do what is due."""
        self.client.tick(now)
        if self._wake is not None and self._wake <= now:
            self._wake = None
            if self._hairpin is not None:
                self._volley(now)
        self._work(now)

    def due(self) -> float | None:
        """When `tick` has something to do."""
        if self.done:
            return None
        return min((x for x in (self._wake, self.client.due()) if x is not None), default=None)

    def take(self) -> list[Send]:
        """What is to be sent."""
        taken, self._out = self._out, []
        return taken

    @property
    def best(self) -> Place | None:
        """The server that was chosen, as the main socket reaches it."""
        return None if self._best is None else self._best.server

    # --- What happens ---

    def _ask(
        self,
        purpose: _Purpose,
        place: Place,
        now: float,
        *,
        change: int = 0,
        source: Place | None = None,
    ) -> None:
        attributes = {"CHANGE-REQUEST": change} if change else None
        schedule = USUAL if source is None else FILTERED
        transaction = self.client.ask(place, now, attributes, source=source, schedule=schedule)
        if transaction is not None:
            self._purposes[transaction] = (purpose, place)

    def _work(self, now: float) -> None:
        for item in self.client.take():
            if isinstance(item, Send):
                self._out.append(item)
                continue
            purpose, place = self._purposes.pop(item.transaction)
            if isinstance(item, Answer):
                self._answered(purpose, place, item, now)
            else:
                self._failed(purpose, place, item)
        self._go_on(now)

    def _answered(self, purpose: _Purpose, place: Place, answer: Answer, now: float) -> None:
        if purpose is _Purpose.SERVER:
            self._answers[place] = answer
            self._seen[place[:2]] = answer.mapped
        elif purpose is _Purpose.MAPPING:
            self._seen[place[:2]] = answer.mapped
        elif purpose is _Purpose.SOCKET:
            self._sockets_seen[place.via] = answer.mapped
            if place.via == self._filter.via:
                self._ask_for_others(place, now)
        else:
            self._let_in[purpose] = True

    def _failed(self, purpose: _Purpose, place: Place, failure: Failure) -> None:
        if purpose is _Purpose.SERVER:
            code = f" ({failure.code})" if failure.code else ""
            self._problems[place] = failure.reason.value + code
        elif purpose in (_Purpose.OTHER_ADDRESS, _Purpose.OTHER_PORT):
            # A server that refuses does not show what a filter would have done.
            self._let_in[purpose] = False if failure.reason is Reason.TIMEOUT else None

    def _go_on(self, now: float) -> None:
        """The next step, if this one has given what it can."""
        asking = any(purpose is _Purpose.SERVER for purpose, _ in self._purposes.values())
        if self._best is None:
            # Both the clock and the last of the servers may come first.
            if self._answers and (self._wake is None or not asking):
                self._choose(now)
            elif not asking:
                self.done = True
            return
        if self._hairpin is None and self._can_hairpin():
            self._begin_hairpin(now)
        came_back = self._hairpin is None or bool(self._hairpins) or self._wake is None
        self.done = came_back and not self._purposes

    def _choose(self, now: float) -> None:
        """Of the servers that answered, one with another address, another port, and the nearest."""
        self._wake = None

        def merit(answer: Answer) -> tuple[bool, bool, float]:
            other = _other(answer)
            address = other is not None and other[0] != answer.server.host
            port = other is not None and other[1] != answer.server.port
            return not address, not port, answer.round_trip

        self._best = best = min(self._answers.values(), key=merit)
        server, other = best.server, _other(best)
        if other is not None:
            corners = {(server.host, other[1]), (other[0], server.port), other} - {server[:2]}
            for corner in sorted(corners - set(self._seen)):
                self._ask(_Purpose.MAPPING, Place(*corner, via=self._main.via), now)
        for socket in (self._filter, *self._rest):
            self._ask(_Purpose.SOCKET, server._replace(via=socket.via), now)
        self._work(now)

    def _ask_for_others(self, place: Place, now: float) -> None:
        """The filter's socket has sent to one place only, and asks for answers from others."""
        other = None if self._best is None else _other(self._best)
        if other is None:
            return
        port = CHANGE_PORT if other[1] != place.port else 0
        if other[0] != place.host:
            source = Place(*other, via=place.via)
            change = CHANGE_ADDRESS | port
            self._ask(_Purpose.OTHER_ADDRESS, place, now, change=change, source=source)
        if port:
            source = place._replace(port=other[1])
            self._ask(_Purpose.OTHER_PORT, place, now, change=port, source=source)

    # --- Hairpinning ---

    def _can_hairpin(self) -> bool:
        """Whether there is something to come back from: two sockets that are translated."""
        if self._best is None:
            return False
        server = self._best.server.host
        ends = [(x.local, self._sockets_seen.get(x.via)) for x in self._rest[:2]]
        return all(seen not in (None, local) and _may_send(server, seen) for local, seen in ends)

    def _begin_hairpin(self, now: float) -> None:
        ends = [(socket, self._sockets_seen[socket.via]) for socket in self._rest[:2]]
        # A form that passes what looks into packets on the way, and that nobody answers.
        data = [pack(Message(Method.BINDING, Class.INDICATION, self._random(12))) for _ in range(2)]
        self._hairpin = _Hairpin(ends, data)
        self._hairpins = False
        self._volley(now)

    def _volley(self, now: float) -> None:
        if self._hairpin is None or self._hairpin.sent == len(_HAIRPIN_AT):
            return
        before = _HAIRPIN_AT[self._hairpin.sent]
        self._out += self._hairpin.volley()
        after = _HAIRPIN_AT[self._hairpin.sent :]
        self._wake = now + (after[0] - before if after else _HAIRPIN_WAIT)

    # --- What was found ---

    def servers(self) -> list[Server]:
        """Every server that was asked, in the order that they were given in."""
        found = []
        for target in self._targets:
            place = target.place._replace(via=self._main.via)
            answer = self._answers.get(place)
            if answer is None:
                problem = self._problems.get(place, Reason.TIMEOUT.value)
                found.append(Server(target.name, str(target.place), None, problem))
            else:
                found.append(Server(target.name, str(target.place), answer.round_trip))
        return found

    def result(self) -> Family:
        """What is known by now."""
        if self._best is None:
            return Family(Status.SILENT, local=self._main.local)
        local = self._main.local
        sockets = [
            (socket.local[1], self._sockets_seen[socket.via][1])
            for socket in (self._filter, *self._rest)
            if socket.via in self._sockets_seen
        ]
        ports, step = allocation(sockets)
        return Family(
            status=Status.ANSWERED,
            local=local,
            seen=self._best.mapped,
            mapping=mapping_behaviour(local, self._seen),
            filtering=filtering_behaviour(*self._filters()),
            keeps_ports=keeps_ports([(local[1], self._best.mapped[1]), *sockets]),
            allocation=ports,
            step=step,
            hairpin=self._hairpins,
        )

    def _filters(self) -> tuple[bool | None, bool | None]:
        """Whether another address, and another port, was let in; None if it was never heard."""
        found: list[bool | None] = []
        other = None if self._best is None else _other(self._best)
        for purpose in (_Purpose.OTHER_ADDRESS, _Purpose.OTHER_PORT):
            let_in = self._let_in.get(purpose)
            if not let_in and other is not None and self._best is not None:
                is_port = purpose is _Purpose.OTHER_PORT
                place = (self._best.server.host, other[1]) if is_port else other
                let_in = None if place not in self._seen else let_in
            found.append(let_in)
        return found[0], found[1]


def _other(answer: Answer) -> Endpoint | None:
    """The server's other address and port, if we may send there."""
    host = answer.server.host
    if answer.other == answer.server[:2] or not _may_send(host, answer.other):
        return None
    return answer.other


def _may_send(server: str, named: Endpoint | None) -> bool:
    """Whether we send to a place because a server named it, which could name any.

    Not to where nobody can be, to our own machine, to another version of IP, nor, for a server
    outside, into networks that only we can reach.
    """
    if named is None or not is_usable(named):
        return False
    here, there = ipaddress.ip_address(server), ipaddress.ip_address(named[0])
    return (
        there.version == here.version
        and there.is_loopback == here.is_loopback
        and there.is_link_local == here.is_link_local
        and (there.is_global or not here.is_global)
    )
