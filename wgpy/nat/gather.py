"""Where we may be found, and what NAT we are behind: gathered from the tunnel's own sockets.

    bound, hosts, servers, mapped, relayed     what the owner knows
    receive, tick, due, take                   STUN, without a socket
    candidates, facts                          what came of it

After that one server of each family is asked again and again, which keeps the mapping; when it sees
us elsewhere, or is silent, all of them are.

The same address from two servers means that our mapping does not depend on the destination (RFC
4787, 4.1). Different ones mean that it does, and where their ports follow each other in the order
in which the servers were asked, the next one can be guessed.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from wgpy.nat.behaviour import MAX_STEP, Behaviour, mapping_behaviour
from wgpy.nat.candidates import NOTHING, Candidate, Kind, Refused, ours
from wgpy.nat.facts import NatFacts, told_as
from wgpy.nat.lifetime import USUAL_INTERVAL, spread
from wgpy.nat.place import Place, Send
from wgpy.nat.stun_client import USUAL, Answer, StunClient

# Addresses that are asked, of each family: two tell the mapping, a third the order of ports, and a
# fourth is for one that is away.
MAX_SERVERS: Final = 4
# Host addresses that are looked at; candidates.py takes fewer.
MAX_HOSTS: Final = 16
# When every server was silent: the network may be coming up.
RETRY: Final = (2.0, 5.0, 15.0, 60.0)
# Between two whole rounds, whoever asks for one.
LEAST_GAP: Final = 0.2
# Where no socket of ours is seen: that there is no NAT at all is of no interest here.
_NOWHERE: Final = ("", 0)


class Gatherer:
    """Our side of every path. `random` gives random bytes.

    `keepalive` is how often, in seconds, the mapping is used and looked at (keeper.py).
    """

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self.counters: Counter[str] = Counter()
        self.keepalive = USUAL_INTERVAL
        # The operator allows the birthday method.
        self.birthday = False
        self.candidates: tuple[Candidate, ...] = ()
        self.facts = NatFacts()
        self.refused: Refused = NOTHING
        self._random = random
        self._stun = StunClient(random)
        self._stun.counters = self.counters
        self._port = 0
        self._hosts: tuple[str, ...] = ()
        self._servers: tuple[Place, ...] = ()
        self._mapped: tuple[Place, ...] = ()
        self._relayed: tuple[Place, ...] = ()
        self._witnessed: tuple[tuple[str, int], ...] = ()
        # Of the round under way: transaction -> its place in the order of asking; and what came.
        self._number = 0
        self._asked: dict[bytes, int] = {}
        # Those of IPv4, with those that are over.
        self._of_v4: set[bytes] = set()
        self._answers: dict[int, Answer] = {}
        # The address and port that the world sees, by family.
        self._reflexive: dict[int, tuple[str, int]] = {}
        # RFC 5780: further addresses of the servers, asked once they are known.
        self._others: tuple[Place, ...] = ()
        self._behaviour = Behaviour.UNKNOWN
        self._step = 0
        self._failures = 0
        self._next: float | None = None
        # Who saw us in the last round, one of each family where nothing depends on the destination;
        # whether the next round asks them alone, and the one under way does; and whether somebody
        # wants a whole one after it.
        self._keepers: tuple[Place, ...] = ()
        self._look_next = self._is_look = self._is_missed = False
        self._began = float("-inf")
        self._out: list[Send] = []

    # --- What the owner knows ---

    def set_hosts(self, hosts: Iterable[str], refused: Refused) -> None:
        """The machine's addresses but those of tunnels, and what is never a candidate."""
        self._hosts = tuple(dict.fromkeys(hosts))[:MAX_HOSTS]
        self.refused = refused
        self._build()

    def set_servers(self, servers: Sequence[Place]) -> None:
        """The STUN servers, as many as there are addresses of them."""
        chosen: list[Place] = []
        for version in (False, True):
            chosen += [each for each in servers if each.is_v6 is version][:MAX_SERVERS]
        self._servers = tuple(chosen)

    def set_mapped(self, places: Sequence[Place]) -> None:
        """What the router forwards to our port."""
        self._mapped = tuple(places)
        self._build()

    def set_relayed(self, places: Sequence[Place]) -> None:
        """What TURN servers lend us."""
        self._relayed = tuple(places)
        self._build()

    def set_witnessed(self, seen: Sequence[tuple[str, int]]) -> None:
        """Where several peers see us, beside what servers say."""
        self._witnessed = tuple(seen)
        self._build()

    def server_of(self, version: int) -> Place | None:
        """A server to ask from another socket; the first of the IP version."""
        return next((x for x in self._servers if x.is_v6 is (version == 6)), None)

    @property
    def translator(self) -> Place | None:
        """A server of IPv4 that sees us at another address than we have; None if none does."""
        seen = self._reflexive.get(4)
        return None if seen is None or seen[0] in self._hosts else self.server_of(4)

    def bound(self, port: int, now: float) -> None:
        """The tunnel's sockets are on this port now; 0 for none."""
        self._port = port
        self.forget(now)

    def forget(self, now: float) -> None:
        """The network is another one, or our port: what servers saw is no longer true."""
        self._reflexive, self._behaviour, self._step = {}, Behaviour.UNKNOWN, 0
        self._others, self._failures = (), 0
        # What is under way left by the former network, or never left.
        self._stun.cancel()
        self._asked, self._answers, self._began = {}, {}, float("-inf")
        self._build()
        self.again(now)

    @property
    def sources(self) -> tuple[Place, ...]:
        """From where answers may come."""
        return (*self._servers, *self._others)

    # --- The round ---

    def again(self, now: float) -> None:
        """Ask every server, unless that was done a moment ago: then a moment later."""
        self._look_next = False
        if self._port and self._servers:
            self._next = max(now, self._began + LEAST_GAP)
        else:
            self._next = None

    @property
    def is_settled(self) -> bool:
        """Whether nothing is to be expected soon: every server answered or was silent once, or
        there is none."""
        return not self._servers or not self._port or bool(self._reflexive) or self._failures > 0

    def tick(self, now: float) -> None:
        """Ask, ask again, give up."""
        if self._next is not None and now >= self._next:
            self._next = None
            if not self._asked:
                self._begin(now)
            elif self._is_look:
                self._is_missed = True
        self._stun.tick(now)
        self._collect(now)

    def due(self) -> float | None:
        """When `tick` has something to do."""
        moments = (self._next, self._stun.due())
        return min((each for each in moments if each is not None), default=None)

    def receive(self, data: bytes, source: Place, now: float) -> bool:
        """A STUN message came to the tunnel's sockets; whether it was an answer of ours."""
        found = self._stun.receive(data, source, now)
        self._collect(now)
        return found

    def take(self) -> list[Send]:
        """What is to be sent."""
        taken, self._out = self._out, []
        return taken

    def _begin(self, now: float) -> None:
        self._began = now
        self._asked, self._answers, self._number = {}, {}, 0
        self._of_v4.clear()
        self._is_look, self._is_missed = self._look_next, False
        for place in self._keepers if self._is_look else (*self._servers, *self._others):
            self._ask(place, now)
        if not self._asked:
            self._finish(now)

    def _ask(self, place: Place, now: float) -> None:
        transaction = self._stun.ask(place, now)
        if transaction is not None:
            self._asked[transaction] = self._number
            if not place.is_v6:
                self._of_v4.add(transaction)
            self._number += 1

    def _collect(self, now: float) -> None:
        was_asking = bool(self._asked)
        # An answer may name another server, which is asked at once.
        while items := self._stun.take():
            for item in items:
                if isinstance(item, Send):
                    self._out.append(item)
                    continue
                number = self._asked.pop(item.transaction, None)
                if number is not None and isinstance(item, Answer):
                    self._answered(number, item, now)
        if was_asking and not self._asked:
            self._finish(now)
        elif was_asking:
            self._conclude(now)

    def _answered(self, number: int, answer: Answer, now: float) -> None:
        """The first answer is news at once: paths can begin with it, whatever the others say."""
        self._answers[number] = answer
        family = 6 if answer.server.is_v6 else 4
        known = self._reflexive.get(family)
        if known is None:
            self._reflexive[family] = answer.mapped
            self._build()
        other = answer.other
        if other is None or len(self._others) >= MAX_SERVERS or answer.server in self._others:
            return
        place = Place(*other)
        if place not in self.sources and place.is_v6 is answer.server.is_v6:
            self._others = (*self._others, place)
            self._ask(place, now)

    def _conclude(self, now: float) -> None:
        """The mapping behaviour is of IPv4: no server of IPv6 is waited for, which may be out of
        reach for seconds, and none that has to be asked again."""
        answers = [self._answers[number] for number in sorted(self._answers)]
        seen = [each for each in answers if not each.server.is_v6]
        is_late = now - self._began >= USUAL.first
        if len(seen) < 2 or (not is_late and self._of_v4 & self._asked.keys()):
            return
        found = behaviour(seen)
        if found != (self._behaviour, self._step):
            self._behaviour, self._step = found
            self._build()

    def _finish(self, now: float) -> None:
        """Every server that was asked has answered, or will not."""
        answers = [self._answers[number] for number in sorted(self._answers)]
        if self._is_look:
            self._looked(answers, now)
            return
        self.counters["stun_rounds"] += 1
        if not answers:
            self.counters["stun_silent"] += 1
            wait = RETRY[min(self._failures, len(RETRY) - 1)]
            self._failures += 1
            self._next = now + wait if self._servers and self._port else None
            return
        self._failures = 0
        self._next = now + spread(self.keepalive, self._random)
        keepers = []
        for family in (4, 6):
            seen = [each for each in answers if each.server.is_v6 is (family == 6)]
            if seen:
                # Of those that agree; where none do, the latest is nearest to the next.
                self._reflexive[family] = seen[-1].mapped
                keepers.append(seen[-1].server)
        self._behaviour, self._step = behaviour([each for each in answers if not each.server.is_v6])
        self._keepers = tuple(keepers)
        self._look_next = self._behaviour is Behaviour.ENDPOINT_INDEPENDENT
        self._build()

    def _looked(self, answers: list[Answer], now: float) -> None:
        """Those who kept the mapping have answered, or will not."""
        self.counters["stun_looks"] += 1
        self._next = now + spread(self.keepalive, self._random)
        same = all(x.mapped == self._reflexive[6 if x.server.is_v6 else 4] for x in answers)
        if self._is_missed or not same or len(answers) < len(self._keepers):
            self.again(now)

    def _build(self) -> None:
        found = [Candidate(Kind.HOST, host, self._port) for host in self._hosts if self._port]
        found += [Candidate(Kind.MAPPED, place.host, place.port) for place in self._mapped]
        found += [
            Candidate(Kind.REFLEXIVE, *seen) for seen in self._reflexive.values() if self._port
        ]
        found += [Candidate(Kind.REFLEXIVE, *seen) for seen in self._witnessed if self._port]
        found += [Candidate(Kind.RELAYED, place.host, place.port) for place in self._relayed]
        candidates = ours(found, self.refused)
        facts = NatFacts(self._behaviour, step=self._step, birthday=self.birthday)
        self.candidates, self.facts = candidates, facts


def behaviour(answers: Sequence[Answer]) -> tuple[Behaviour, int]:
    """The mapping behaviour that answers to one socket show, in the order in which their servers
    were asked, and the step from one port to the next where there is one."""
    seen = {(each.server.host, each.server.port): each.mapped for each in answers}
    found = told_as(mapping_behaviour(_NOWHERE, seen))
    if found is not Behaviour.ADDRESS_AND_PORT_DEPENDENT:
        return found, 0
    return found, _step([each.mapped[1] for each in answers])


def _step(ports: Sequence[int]) -> int:
    """What ports grow by, 0 where they do not. Others behind the same NAT may have taken one or two
    in between, so the least difference counts if all are small and of one sign."""
    steps = [after - before for before, after in itertools.pairwise(ports)]
    small = [each for each in steps if 0 < abs(each) <= MAX_STEP]
    if len(small) != len(steps) or len({each > 0 for each in steps}) != 1:
        return 0
    return min(steps, key=abs)
