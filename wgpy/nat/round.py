"""One round: which of the peer's candidates is tried from which of our sockets, and how."""

from collections.abc import Callable
from typing import Final

from wgpy.nat import birthday
from wgpy.nat.behaviour import Behaviour
from wgpy.nat.birthday import Barrage
from wgpy.nat.candidates import Candidate, Kind, Rank, rank
from wgpy.nat.facts import NatFacts, Role, opener_ttl
from wgpy.nat.meeting import Begin
from wgpy.nat.place import Place
from wgpy.nat.punch import Shot, Target, Volley

# Where people carry the signals, the other side may begin minutes later.
PATIENT_SECONDS: Final = 590.0

Random = Callable[[int], bytes]


def targets(told: tuple[Candidate, ...], via: int) -> list[Target]:
    """Whom to try, the likeliest first, IPv4 before others: behind a NAT that allocates ports in
    order, what goes out first gets the port that was guessed. `via` is this round's socket."""
    found = []
    for candidate in told:
        kind = rank(candidate.host, relayed=candidate.kind is Kind.RELAYED)
        # A LAN, IPv6 and a relay change no ports, so none is burnt there.
        socket = via if kind is Rank.V4 else 0
        place = Place(candidate.host, candidate.port, socket)
        found.append(Target(place, kind, guess=candidate.kind is Kind.PREDICTED))
    return sorted(found, key=lambda each: (each.rank is not Rank.V4, each.guess, each.rank))


class Round:
    """The probes of one round, of either method. `told` are the peer's candidates, filtered."""

    __slots__ = ("_barrage", "_volley", "targets", "vias")

    def __init__(
        self,
        begin: Begin,
        told: tuple[Candidate, ...],
        facts: NatFacts,
        random: Random,
        *,
        patient: bool = False,
    ) -> None:
        self.vias = frozenset(each.via for each in begin.opened)
        self._barrage = _barrage(begin, told, random)
        via = begin.opened[0].via if begin.opened else 0
        # What is tried by luck is not tried one by one as well.
        self.targets = [
            each for each in targets(told, via) if self._barrage is None or each.rank is not Rank.V4
        ]
        ttl = opener_ttl(facts)
        self._volley = Volley(() if begin.early else self.targets, begin.start, ttl)
        if patient:
            self._volley.be_patient(
                self.targets,
                begin.start,
                ttl,
                begin.start + PATIENT_SECONDS,
                only_open=begin.early and facts.mapping is Behaviour.ENDPOINT_INDEPENDENT,
            )

    @property
    def end(self) -> float:
        """When nothing more is sent, and answers had their time."""
        ends = (
            [self._volley.end] if self._barrage is None else [self._volley.end, self._barrage.end]
        )
        return max(ends)

    def due(self) -> float:
        """When there is something to send, or the end."""
        moments = [self._volley.due(), None if self._barrage is None else self._barrage.due()]
        return min((each for each in moments if each is not None), default=self.end)

    def is_over(self, now: float) -> bool:
        """Whether the end has come."""
        return now >= self.end

    def step(self, now: float, spend: Callable[[Place], float]) -> list[Shot]:
        """What is to be sent now. `spend` counts a probe to a place within the bounds of all peers,
        or says how many seconds it has to wait; those of the birthday method have their own."""
        shots = self._volley.step(now, spend)
        return shots if self._barrage is None else shots + self._barrage.step(now)

    def proved(self, kind: Rank, now: float) -> None:
        """A path of this rank has answered."""
        if kind is Rank.RELAY:
            return
        self._volley.settle_for(kind, now)
        if self._barrage is not None:
            self._barrage.stop(now)


def _barrage(begin: Begin, told: tuple[Candidate, ...], random: Random) -> Barrage | None:
    """The birthday method's part, if it was agreed and the peer has an address to try."""
    for candidate in told:
        if candidate.kind is Kind.REFLEXIVE and ":" not in candidate.host:
            if begin.role is Role.MANY:
                vias = [each.via for each in begin.opened]
                return birthday.many(vias, candidate.host, candidate.port, begin.start)
            if begin.role is Role.SPRAY:
                return birthday.spray(candidate.host, begin.start, random)
    return None
