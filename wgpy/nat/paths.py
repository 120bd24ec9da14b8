"""The paths to one peer: a bounded table."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from wgpy.nat.candidates import Rank, rank
from wgpy.nat.path import Path
from wgpy.nat.place import Place

# Ten candidates, by two sockets where a round has one of its own, and as many places again that
# only the peer's probes have shown.
MAX_PATHS: Final = 40
# Beside the one in use, and relays: if it dies, one of these may live.
MAX_SPARE: Final = 2


class Paths:
    """Places and what is known of them. `counters` counts what found no room."""

    __slots__ = ("_paths", "_relayed", "counters")

    def __init__(self, counters: Counter[str]) -> None:
        self.counters = counters
        self._paths: dict[Place, Path] = {}
        # Addresses and ports that the peer said are lent to it by a TURN server.
        self._relayed: frozenset[tuple[str, int]] = frozenset()

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[Path]:
        return iter(self._paths.values())

    def get(self, place: Place) -> Path | None:
        """What is known of a place."""
        return self._paths.get(place)

    def told_relayed(self, places: frozenset[tuple[str, int]]) -> None:
        """The peer's relayed candidates, whose paths rank as such."""
        self._relayed = places

    def rank(self, place: Place) -> Rank:
        """What sort of path leads to a place."""
        relayed = place.channel != 0 or (place.host, place.port) in self._relayed
        return rank(place.host, relayed=relayed)

    def add(self, place: Place, *, told: bool) -> Path | None:
        """The path to a place, a new one if need be; None, and counted, if there is no room."""
        found = self._paths.get(place)
        if found is not None:
            found.told = found.told or told
            return found
        if len(self._paths) >= MAX_PATHS and not self._make_room():
            self.counters["paths_full"] += 1
            return None
        made = Path(place, self.rank(place), told)
        self._paths[place] = made
        return made

    def _make_room(self) -> bool:
        for path in self._paths.values():
            if not path.proved and not path.told:
                del self._paths[path.place]
                self.counters["paths_displaced"] += 1
                return True
        return False

    def remove(self, path: Path) -> None:
        """Nothing is known of that place any more."""
        self._paths.pop(path.place, None)

    def forget_unproved(self, keep: frozenset[Place]) -> None:
        """Called when a round begins: what earlier ones tried in vain goes."""
        self._paths = {
            place: path for place, path in self._paths.items() if path.proved or place in keep
        }

    def forget_spare(self, used: Path | None) -> None:
        """Called when a round is over: of direct paths that are proved and not in use, the best
        stay."""
        spare = [
            path
            for path in self._paths.values()
            if path.proved and path is not used and path.rank is not Rank.RELAY
        ]
        for path in sorted(spare, key=lambda each: each.cost)[MAX_SPARE:]:
            self.remove(path)

    def best(self) -> Path | None:
        """Where to go when the path in use is dead: a relay if one answers, for what kills one
        direct path kills others as well; else the best that is left."""
        proved = [path for path in self._paths.values() if path.proved]
        return min(proved, key=lambda path: (path.rank is not Rank.RELAY, path.cost), default=None)
