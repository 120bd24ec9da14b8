"""When which candidate gets a probe: an opener, then a volley, on both sides at the same time.

Each NAT lets in what answers to something that went out. So both sides send to each other, and the
packet that comes first must not come before the other side has sent:

- A router that is a plain Linux masquerade takes an early one for its own, and then gives our flow
  another port, for as long as such packets come. So both begin at an agreed time, and what is sent
  first is an *opener*: a probe with a hop limit that passes our own NATs and ends before theirs.
- The probes proper follow when the other side's opener has surely left.
- What fails is not tried again from the same port: the next round has another one.

All times are seconds from the agreed one.
"""

import heapq
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from wgpy.nat.candidates import Rank
from wgpy.nat.place import Place

# How far apart two sides may begin because signals take their time unevenly, beside the way there.
LEAD: Final = 0.1
# Doubling: an answer on a short path comes after the first one, loss and long paths get the last.
VOLLEY: Final = (0.0, 0.1, 0.3, 0.7, 1.5)
# Guesses are many and mostly wrong: with ten candidates a second must hold them all.
VOLLEY_OF_GUESS: Final = (0.0, 0.3, 1.5)
# After the last probe an answer, or the other side's probe, is waited for: a long round trip.
GRACE: Final = 0.8

# Where the other side starts when a person has pasted a text there: openers keep our NAT open, and
# probes find a side that waits for the first packet. 600 s of them are 160 for each candidate.
PATIENT_OPENER: Final = 5.0
PATIENT_PROBE: Final = 15.0


class Target(NamedTuple):
    """One place to be tried. `guess`: it is a predicted port."""

    place: Place
    rank: Rank
    guess: bool = False


class Shot(NamedTuple):
    """A probe to be sent now; `ttl` as in Send."""

    place: Place
    ttl: int


def _needs_opener(rank: Rank) -> bool:
    # No port is changed on the way over IPv6, on a LAN, or by a relay: the first packet to come in
    # is dropped at the worst.
    return rank is Rank.V4


class Volley:
    """One round's probes. It ends by itself; `end` is when, later if probes had to wait."""

    __slots__ = ("_order", "_shots", "end")

    def __init__(self, targets: Iterable[Target], start: float, ttl: int) -> None:
        """`ttl` is the openers' (facts.opener_ttl)."""
        # When, in which order, to whom, with which hop limit.
        self._shots: list[tuple[float, int, Target, int]] = []
        self._order = 0
        for target in targets:
            times: tuple[float, ...] = VOLLEY_OF_GUESS if target.guess else VOLLEY
            if _needs_opener(target.rank):
                self._plan(start, target, ttl)
                times = tuple(LEAD + each for each in times)
            for each in times:
                self._plan(start + each, target, 0)
        self._set_end(start)

    def be_patient(
        self,
        targets: Iterable[Target],
        start: float,
        ttl: int,
        until: float,
        *,
        only_open: bool = False,
    ) -> None:
        """Go on until then: the other side begins at some time, and nobody can say when.

        `only_open`: our NAT is one that its probes will pass once we have opened it, so none of
        ours has to reach the other side before, where it could do harm.
        """
        for target in targets:
            when, number = start, 0
            while when < until:
                # The first ones only open our own NAT: nobody is there yet.
                number += 1
                is_probe = number % round(PATIENT_PROBE / PATIENT_OPENER) == 0
                is_probe = is_probe and not (only_open and _needs_opener(target.rank))
                if is_probe or _needs_opener(target.rank):
                    self._plan(when, target, 0 if is_probe else ttl)
                when += PATIENT_OPENER
        self._set_end(start)

    def _plan(self, when: float, target: Target, ttl: int) -> None:
        self._order += 1
        heapq.heappush(self._shots, (when, self._order, target, ttl))

    def _set_end(self, start: float) -> None:
        self.end = max((each[0] for each in self._shots), default=start) + GRACE

    def due(self) -> float | None:
        """When there is something to send, None if nothing is left."""
        return self._shots[0][0] if self._shots else None

    def step(self, now: float, spend: Callable[[Place], float]) -> list[Shot]:
        """What is to be sent now. `spend` counts a probe to a place within its bounds, or says how
        many seconds it has to wait; then it is sent later."""
        shots: list[Shot] = []
        postponed = []
        while self._shots and self._shots[0][0] <= now:
            _, _, target, ttl = heapq.heappop(self._shots)
            seconds = spend(target.place)
            if seconds > 0:
                postponed.append((now + seconds, target, ttl))
            else:
                shots.append(Shot(target.place, ttl))
        for when, target, ttl in postponed:
            self._plan(when, target, ttl)
            self.end = max(self.end, when + GRACE)
        return shots

    def settle_for(self, rank: Rank, now: float) -> None:
        """A path of this rank was proved: from now on only better ones are tried."""
        self._shots = [each for each in self._shots if each[2].rank < rank]
        heapq.heapify(self._shots)
        self._set_end(now)
