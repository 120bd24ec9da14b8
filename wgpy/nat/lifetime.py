"""How long a NAT remembers a silent socket, and how often a keepalive is needed for it.

Without any measurement a keepalive leaves every 25 s, as WireGuard's documents advise: most routers
remember for 30 s at the least. A longer time saves a phone's battery; some routers need a shorter.
A side socket is left silent for growing times and looked at (lifetime_look.py), 30, 60, 120, 180 s,
and then between the longest that it survived and the shortest that it did not: at most once a day.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from wgpy.nat.lifetime_look import Look, Verdict
from wgpy.nat.place import Place, Send

# Seconds that are looked at. Routers forget after 10, 30 or 60 s, Linux after 30 or 120 s, and RFC
# 4787, 4.3, asks for 120 s; beyond 180 s the packets saved are forty an hour.
LADDER: Final = (10, 15, 20, 30, 45, 60, 90, 120, 180)
# The way up the ladder while nothing was lost.
_UP: Final = (30, 60, 120, 180)

USUAL_INTERVAL: Final = 25.0
# Nothing is sent more often, whatever is measured: data flows then, or the path is of no use.
SHORTEST: Final = 5.0
# Taken off what a mapping survived: routers look at their tables now and then only.
MARGIN: Final = 5.0
# A mapping's life changes with the router's firmware and configuration, not during the day.
DAY: Final = 86_400.0
# A keepalive leaves after 80 to 100 % of the interval, so that many nodes do not send at once.
_SPREAD: Final = 0.2


class Bracket(NamedTuple):
    """What is known: the longest silence that was survived, 0 for none, and the shortest that was
    not, None for none. In seconds."""

    alive: int = 0
    dead: int | None = None


def bracket(verdicts: Mapping[int, Verdict]) -> Bracket:
    """What the looks say together, by their idle times.

    Where a longer silence gave another mapping, the same one after a shorter was the first still.
    """
    dead = min((idle for idle, x in verdicts.items() if x is Verdict.DEAD), default=None)
    survived = (Verdict.ALIVE,) if dead is None else (Verdict.ALIVE, Verdict.SAME)
    alive = [
        idle for idle, x in verdicts.items() if x in survived and (dead is None or idle < dead)
    ]
    return Bracket(max(alive, default=0), dead)


def next_idle(verdicts: Mapping[int, Verdict]) -> int | None:
    """The idle time to look at next, or None if there is nothing to learn any more."""
    if Verdict.UNKNOWN in verdicts.values():
        return None
    known = bracket(verdicts)
    if known.dead is None:
        return next((idle for idle in _UP if idle not in verdicts), None)
    between = [idle for idle in LADDER if known.alive < idle < known.dead]
    return between[len(between) // 2] if between else None


def keepalive(known: Bracket) -> float:
    """Seconds between keepalives.

    25 s or less where a mapping lives for 30 s or less; longer only if one may be lost on the way
    and the next still comes in time.
    """
    if known.alive:
        left = known.alive - MARGIN
        return max(SHORTEST, min(USUAL_INTERVAL, left), left / 2)
    if known.dead is not None:
        return max(SHORTEST, min(USUAL_INTERVAL, known.dead / 2))
    return USUAL_INTERVAL


def spread(interval: float, random: Callable[[int], bytes]) -> float:
    """An interval shortened by a part that is random, up to a fifth."""
    return interval * (1.0 - _SPREAD * random(1)[0] / 255)


class Lifetime:
    """Measures over a side socket, and says how often a keepalive is needed: `interval`."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._verdicts: dict[int, Verdict] = {}
        self._known = Bracket()
        self._server: Place | None = None
        self._look: Look | None = None
        self._began: float | None = None
        self._out: list[Send] = []
        self.counters: Counter[str] = Counter()

    @property
    def interval(self) -> float:
        """Seconds between keepalives, by what is known."""
        return keepalive(self._known)

    @property
    def known(self) -> Bracket:
        """What was measured last."""
        return self._known

    @property
    def is_searching(self) -> bool:
        """Whether a search is going on, and the side socket is needed."""
        return self._look is not None

    def may_begin(self, now: float) -> bool:
        """Whether `begin` would: the last search began a day ago, and is over."""
        return self._look is None and (self._began is None or now - self._began >= DAY)

    def may_begin_at(self) -> float | None:
        """From when `begin` would; None while a search goes on."""
        if self._look is not None:
            return None
        return float("-inf") if self._began is None else self._began + DAY

    def break_off(self) -> None:
        """The machine leaves the network, or nobody wants to know: what was known before stays."""
        if self._look is not None:
            self._look = None
            self._out.clear()
            self.counters["broken_off"] += 1

    def begin(self, server: Place, now: float) -> bool:
        """Begin a search over the side socket `server.via`; False if it is too soon."""
        if not self.may_begin(now):
            return False
        self._began = now
        self._server = server
        self._verdicts = {}
        self.counters["searches"] += 1
        self._go_on(now)
        return True

    def lost(self, idle: float, now: float) -> None:
        """The tunnel's own mapping was lost after so many seconds of silence: known at once."""
        self.counters["lost"] += 1
        dead = max(1, int(idle))
        if self._known.dead is None or dead < self._known.dead:
            alive = max((x for x in LADDER if x < dead and x <= self._known.alive), default=0)
            self._known = Bracket(alive, dead)

    def moved(self) -> None:
        """The machine is in another network: nothing is known of its NAT."""
        self._known = Bracket()
        self._look = None
        self._out.clear()

    def receive(self, data: bytes, source: Place, now: float) -> bool:
        """Take a datagram that came to the side socket; whether it was for the search."""
        if self._look is None:
            return False
        took = self._look.receive(data, source, now)
        self._after(now)
        return took

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self._look is not None:
            self._look.tick(now)
            self._after(now)

    def due(self) -> float | None:
        """When `tick` has something to do."""
        return None if self._look is None else self._look.due()

    def take(self) -> list[Send]:
        """What is to be sent."""
        taken, self._out = self._out, []
        return taken

    def _after(self, now: float) -> None:
        look = self._look
        if look is None:
            return
        self._out += look.take()
        if look.verdict is not None:
            self._verdicts[look.idle] = look.verdict
            self.counters[f"looks_{look.verdict.value}"] += 1
            self._go_on(now)

    def _go_on(self, now: float) -> None:
        """The next look, or the end of the search."""
        idle = next_idle(self._verdicts)
        if idle is None or self._server is None:
            self._look = None
            self._conclude()
            return
        self._look = Look(self._server, idle, now, self._random)
        self._out += self._look.take()

    def _conclude(self) -> None:
        """Take what was found; a search that broke off takes nothing back that was known."""
        found = bracket(self._verdicts)
        broke_off = Verdict.UNKNOWN in self._verdicts.values()
        if not broke_off or found.dead is not None or found.alive > self._known.alive:
            self._known = found
