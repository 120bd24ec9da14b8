"""When which path is asked again: those that are proved, and those that ought to be soon.

While packets pass, the path in use is asked every second and a half, so that its death is known in
under five. Without traffic it is asked as often as its NATs need to keep the mapping, and so are
those that are held in reserve.
"""

from typing import Final

from wgpy.nat.path import BUSY_INTERVAL, Health, Path
from wgpy.nat.place import Place

# Traffic that was seen this long ago still counts: the shell tells of it once a second or so.
BUSY_SECONDS: Final = 5.0
# A relay has just been told to let the peer in, and the peer has yet to tell its own: the second
# question comes soon, the later ones less often, and within ten in five seconds.
FIRST_GAP: Final = 0.2
LAST_GAP: Final = 5.0
# If it never does, the next meeting asks it again.
SOON_SECONDS: Final = 30.0
# A path that died is asked for a while, for a cable that was pulled out comes back in.
REVIVE_GAP: Final = 1.0
REVIVE_SECONDS: Final = 10.0


class Watch:
    """The times of proved paths. `keepalive` is in seconds, less than the NAT's mappings last."""

    __slots__ = ("_active", "keepalive")

    def __init__(self, keepalive: float) -> None:
        self.keepalive = keepalive
        self._active: float | None = None

    def active(self, now: float) -> None:
        """Packets pass between us and the peer."""
        self._active = now

    def is_busy(self, now: float) -> bool:
        """Whether they did of late."""
        return self._active is not None and now - self._active < BUSY_SECONDS

    def interval(self, *, used: bool, now: float) -> float:
        """How often a proved path is asked."""
        return BUSY_INTERVAL if used and self.is_busy(now) else self.keepalive

    def look(self, path: Path, *, used: bool, now: float) -> Health:
        """What to do about a proved path."""
        return path.look(self.interval(used=used, now=now), now)

    def due(self, path: Path, *, used: bool, now: float) -> float:
        """When that may change."""
        return path.ask_at(self.interval(used=used, now=now))


class _Check:
    __slots__ = ("gap", "grows", "next", "until")

    def __init__(self, now: float, gap: float, until: float, *, grows: bool) -> None:
        self.next = now
        self.gap = gap
        self.until = until
        self.grows = grows


class Checks:
    """Places that are asked until they answer, or for so long."""

    __slots__ = ("_checks",)

    def __init__(self) -> None:
        self._checks: dict[Place, _Check] = {}

    def soon(self, place: Place, now: float) -> None:
        """A relay: for half a minute, at longer and longer intervals, until it answers."""
        self._checks[place] = _Check(now, FIRST_GAP, now + SOON_SECONDS, grows=True)

    def revive(self, place: Place, now: float) -> None:
        """A path that was in use: every second for ten seconds."""
        self._checks[place] = _Check(now, REVIVE_GAP, now + REVIVE_SECONDS, grows=False)

    def end(self, place: Place) -> None:
        """It answers, or it is gone."""
        self._checks.pop(place, None)

    def end_revivals(self) -> None:
        """There is another path: what died may stay so."""
        self._checks = {x: each for x, each in self._checks.items() if each.grows}

    def places(self) -> frozenset[Place]:
        """All that are asked."""
        return frozenset(self._checks)

    def due(self) -> float | None:
        """When `step` has something to say."""
        return min((each.next for each in self._checks.values()), default=None)

    def step(self, now: float) -> list[Place]:
        """Whom to ask now."""
        asked = []
        for place, check in list(self._checks.items()):
            if now > check.until:
                del self._checks[place]
            elif check.next <= now:
                asked.append(place)
                check.next = now + check.gap
                if check.grows:
                    check.gap = min(2 * check.gap, LAST_GAP)
        return asked
