"""The way to a peer that is plain WireGuard: it answers no probes, only handshakes.

So candidates are tried by initiations, each a fresh one: a responder takes a timestamp once, and of
two within 20 ms only the first. Each fresh one also ends the handshake before it, so the answer of
an earlier candidate cannot be used any more; but it tells which one to ask again, and then nothing
else is sent until its answer had time to come. And where no such answer can be told (the data path
drops them with the index they are for), another candidate is the last of each sweep, and is waited
for.

    sweep      c1  c2  c3  c4 ─ 1 s ─ c2  c3  c4  c1 ─ 1 s ─ ...     25 ms from one to the next
    a path is proved by an authentic packet from where an initiation was sent just before
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from wgpy.nat.budget import Budget
from wgpy.nat.candidates import MAX_CANDIDATES, NOTHING, Refused, place_fault
from wgpy.nat.orders import Use
from wgpy.nat.place import Place

# A responder takes one initiation in 20 ms (MIN_INITIATION_INTERVAL), counted where they arrive:
# a quarter more for what the way adds and takes away.
STEP: Final = 0.025
# The longest round trip that an answer is waited for, before the next sweep or the next hint.
LISTEN: Final = 1.0
# As long as WireGuard itself tries (REKEY_ATTEMPT_TIME).
SEARCH_SECONDS: Final = 90.0
# An authentic packet this long after an initiation proves the path it was sent on.
PROOF_SECONDS: Final = 10.0


class Initiate(NamedTuple):
    """Make a fresh initiation for the peer, and send it there, wherever its endpoint is."""

    place: Place


class PlainPath:
    """The candidates of one plain peer, best first. Time is an argument, in seconds.

    `budget` is the node's: initiations to places that have not answered count as probes do.
    """

    def __init__(self, budget: Budget) -> None:
        self.counters: Counter[str] = Counter()
        self.used: Place | None = None
        self._budget = budget
        self._refused = NOTHING
        self._places: tuple[Place, ...] = ()
        self._orders: list[Initiate | Use] = []
        # What is left of this sweep, how many there were, and when the next step is.
        self._sweep: list[Place] = []
        self._sweeps = 0
        self._next: float | None = None
        self._until = 0.0
        self._sent: dict[Place, float] = {}
        self._hinted_until = 0.0

    def candidates(self, places: Sequence[Place], refused: Refused = NOTHING) -> None:
        """Where the peer may be, best first; the first ten that are not refused count."""
        good: list[Place] = []
        for place in dict.fromkeys(places):
            reason = place_fault(place.host, place.port, refused)
            if reason is None and len(good) < MAX_CANDIDATES:
                good.append(place)
            else:
                self.counters[f"candidate_{reason or 'too_many'}"] += 1
        self._refused = refused
        self._places = tuple(good)
        self._sweeps = 0

    def want(self, now: float) -> None:
        """A handshake is needed, and the path in use, if there is one, does not bring it about."""
        if self._next is None and self._places:
            self._until = now + SEARCH_SECONDS
            self._next = now
            self._sweep = []
            self._sweeps = 0

    def hint(self, place: Place, now: float) -> None:
        """An answer to an initiation that is not the last one came from there: it proves nothing,
        but that is where to ask. Heeded once in a while, for anybody can make one."""
        asked = self._sent.get(place)
        if self._next is None or asked is None or place not in self._places:
            return
        if now < self._hinted_until:
            return
        self.counters["hints"] += 1
        self._hinted_until = now + LISTEN
        self._sweep = [place]
        self._next = max(now, max(self._sent.values()) + STEP)

    def heard(self, place: Place, now: float) -> None:
        """An authentic packet of the peer came from there: an answer that finished a handshake, or
        one of a session."""
        if place == self.used:
            # It lives, after all.
            self._next = None
            return
        asked = self._sent.get(place)
        if asked is not None and now - asked <= PROOF_SECONDS:
            self.used = place
            self._next = None
            self._sweep = []
            self._sent.clear()
            self.counters["paths_proved"] += 1
            self._orders.append(Use(place, 0.0))
            return
        good = place_fault(place.host, place.port, self._refused) is None
        if good and (asked is None or now - asked > LISTEN):
            # It has moved, or somebody sends us its packets from elsewhere: it is asked there.
            self._initiate(place, now)

    def due(self) -> float | None:
        """When `tick` has something to do."""
        return self._next

    def tick(self, now: float) -> None:
        """Send the next initiation, if it is time."""
        if self._next is None or now < self._next:
            return
        if now >= self._until:
            self._next = None
            self.counters["searches_in_vain"] += 1
            return
        if not self._sweep:
            turn = self._sweeps % len(self._places)
            self._sweep = [*self._places[turn:], *self._places[:turn]]
            self._sweeps += 1
        place = self._sweep[0]
        wait = self._budget.probe_wait((place.host, place.port), now)
        if wait > 0:
            self._next = now + wait
            return
        del self._sweep[0]
        self._initiate(place, now)
        self._next = now + (STEP if self._sweep else LISTEN)

    def take(self) -> list[Initiate | Use]:
        """What is to be done, in this order."""
        taken, self._orders = self._orders, []
        return taken

    def _initiate(self, place: Place, now: float) -> None:
        if not self._budget.probe((place.host, place.port), now):
            return
        # Those that were asked long ago prove nothing any more.
        self._sent = {x: when for x, when in self._sent.items() if now - when <= PROOF_SECONDS}
        self._sent[place] = now
        self._orders.append(Initiate(place))
        self.counters["initiations"] += 1
