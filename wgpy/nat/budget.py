"""What probes may cost others: one object for all peers of a node.

A peer may claim any address to be its own, and a probe goes there before that is proved. So that
nobody is made a cannon, what goes to places that have not answered is bounded for each place and in
all. Times are seconds; only differences count.
"""

from collections import Counter, deque
from collections.abc import Hashable
from typing import Final

Destination = tuple[str, int]

# To one address and port that has not answered. A volley takes six, and leaves four for what the
# other side's own probes bring about.
PER_DESTINATION: Final = 10
DESTINATION_SECONDS: Final = 5.0
# To all of them together: 5 KB/s.
PER_SECOND: Final = 50
# Answers to places that have not answered us: one for each authentic probe from there, so no more
# than were sent, and bounded like our own.
ANSWERS_PER_SECOND: Final = 100

# Peers whose paths are looked for at once. A round sends about 20 probes, within two seconds and a
# half; with more of them their probes would wait for each other and come at the wrong time.
MAX_ROUNDS: Final = 4
# Rounds that others asked for find room where our own would not: else two nodes that have both
# filled theirs could wait for each other.
MAX_ROUNDS_ASKED: Final = 8
# A round that nobody ended, for whatever reason, is over by then.
ROUND_SECONDS: Final = 15.0

# The birthday method has bounds of its own, and an operator's word.
MAX_BIRTHDAYS: Final = 2
# 19 KB/s to one address. Of 1,024 probes to 256 open ports of 64,512 one hits with 98 %.
BIRTHDAY_PER_SECOND: Final = 200
BIRTHDAY_SOCKETS: Final = 256
BIRTHDAY_PROBES: Final = 1024
# One try with a peer in this time.
BIRTHDAY_SECONDS: Final = 600.0
MAX_REMEMBERED: Final = 1024

# Whoever waits as long as it was told must not find a rounding error left to wait for.
_GRAIN: Final = 1e-6


class _Meter:
    """At most `limit` in any `seconds`, exactly: it remembers when each was."""

    __slots__ = ("_limit", "_seconds", "_times")

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._times: deque[float] = deque(maxlen=limit)

    def wait(self, now: float) -> float:
        """Seconds until one more is allowed."""
        if len(self._times) < self._limit:
            return 0.0
        left = self._times[0] + self._seconds - now
        return left + _GRAIN if left > 0 else 0.0

    def add(self, now: float) -> None:
        self._times.append(now)

    def is_idle(self, now: float) -> bool:
        return not self._times or now - self._times[-1] >= self._seconds


class _Destinations:
    """A meter for each destination, and one for all. No more are kept than were used of late, which
    the meter for all bounds."""

    __slots__ = ("_all", "_meters")

    def __init__(self, per_second: int) -> None:
        self._all = _Meter(per_second, 1.0)
        self._meters: dict[Destination, _Meter] = {}

    def wait(self, to: Destination, now: float) -> float:
        meter = self._meters.get(to)
        alone = 0.0 if meter is None else meter.wait(now)
        return max(alone, self._all.wait(now))

    def add(self, to: Destination, now: float) -> None:
        # In the order of their last use, so the first ones are those to forget.
        meter = self._meters.pop(to, None) or _Meter(PER_DESTINATION, DESTINATION_SECONDS)
        while self._meters:
            first = next(iter(self._meters))
            if not self._meters[first].is_idle(now):
                break
            del self._meters[first]
        meter.add(now)
        self._all.add(now)
        self._meters[to] = meter

    def __len__(self) -> int:
        return len(self._meters)


class Budget:
    """The bounds of a node. `counters` says what was held back.

    Peers are named by anything hashable, their public key commonly.
    """

    __slots__ = ("_answers", "_birthdays", "_met", "_probes", "_rounds", "counters")

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self._probes = _Destinations(PER_SECOND)
        self._answers = _Destinations(ANSWERS_PER_SECOND)
        # Peer -> when its round began.
        self._rounds: dict[Hashable, float] = {}
        # Peer -> when its birthday probes began, while they last; and when the last ones did.
        self._birthdays: dict[Hashable, float] = {}
        self._met: dict[Hashable, float] = {}

    # --- Probes and answers to places that have not answered ---

    def probe_wait(self, to: Destination, now: float) -> float:
        """Seconds until a probe may go there; 0 if one may now."""
        return self._probes.wait(to, now)

    def probe(self, to: Destination, now: float) -> bool:
        """Spend a probe to a place that has not answered, if one is allowed."""
        if self._probes.wait(to, now) > 0:
            self.counters["probes_put_off"] += 1
            return False
        self._probes.add(to, now)
        return True

    def answer(self, to: Destination, now: float) -> bool:
        """Spend an answer to such a place, if one is allowed."""
        if self._answers.wait(to, now) > 0:
            self.counters["answers_held_back"] += 1
            return False
        self._answers.add(to, now)
        return True

    # --- Rounds ---

    def begin_round(self, peer: Hashable, now: float, *, asked: bool) -> bool:
        """Whether paths to this peer may be looked for now. `asked`: it was the peer's wish."""
        self._rounds = {
            key: began for key, began in self._rounds.items() if now - began < ROUND_SECONDS
        }
        limit = MAX_ROUNDS_ASKED if asked else MAX_ROUNDS
        if peer not in self._rounds and len(self._rounds) >= limit:
            self.counters["rounds_put_off"] += 1
            return False
        self._rounds[peer] = now
        return True

    def end_round(self, peer: Hashable) -> None:
        """Called when a round is over, or will not be."""
        self._rounds.pop(peer, None)

    # --- The birthday method ---

    def begin_birthday(self, peer: Hashable, now: float) -> bool:
        """Whether the birthday method may be tried with this peer now; it is, if so."""
        self._birthdays = {
            key: began for key, began in self._birthdays.items() if now - began < ROUND_SECONDS
        }
        if not self.may_begin_birthday(peer, now):
            self.counters["birthdays_put_off"] += 1
            return False
        self._birthdays[peer] = now
        self._met.pop(peer, None)
        while len(self._met) >= MAX_REMEMBERED:
            del self._met[next(iter(self._met))]
        self._met[peer] = now
        return True

    def may_begin_birthday(self, peer: Hashable, now: float) -> bool:
        """The same, without doing it."""
        others = sum(
            key != peer and now - began < ROUND_SECONDS for key, began in self._birthdays.items()
        )
        if others >= MAX_BIRTHDAYS:
            return False
        return now - self._met.get(peer, -BIRTHDAY_SECONDS) >= BIRTHDAY_SECONDS

    def end_birthday(self, peer: Hashable) -> None:
        """Called when they are over."""
        self._birthdays.pop(peer, None)
