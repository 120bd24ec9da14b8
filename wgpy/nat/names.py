"""The STUN servers' names: looked up, and again where that failed or the network is another one."""

from collections.abc import Callable, Iterable
from typing import Final

from wgpy.nat.errands import Office
from wgpy.nat.place import Place

Name = tuple[str, int]

# Names that are not known are asked for again after these, in seconds: at its start a machine has
# no network yet, and later a resolver may be away for a while.
RETRY: Final = (2.0, 5.0, 15.0, 60.0)


class ServerNames:
    """`told(places)` hears of all that is known whenever it is more, or otherwise."""

    def __init__(self, office: Office, told: Callable[[list[Place]], None]) -> None:
        self._office = office
        self._told = told
        self._names: tuple[Name, ...] = ()
        self._places: dict[Name, list[Place]] = {}
        self._failures = 0
        self._again: float | None = None

    def configure(self, names: Iterable[Name]) -> None:
        """These names from now on."""
        self._names, self._places = tuple(names), {}
        self.ask()

    def ask(self) -> None:
        """Look all of them up: the network is another one."""
        self._failures, self._again = 0, None
        self._find(self._names)

    def _find(self, names: Iterable[Name]) -> None:
        for name in names:
            self._office.find(*name, self._namer(name))

    def _namer(self, name: Name) -> Callable[[list[Place]], None]:
        return lambda places: self._found(name, places)

    def _found(self, name: Name, places: list[Place]) -> None:
        if name not in self._names:
            return
        if places:
            if places != self._places.get(name):
                self._places[name] = places
                self._told(self._chosen())
        elif name not in self._places and self._again is None:
            wait = RETRY[min(self._failures, len(RETRY) - 1)]
            self._failures += 1
            self._again = self._office.now() + wait

    def _chosen(self) -> list[Place]:
        """One of each family: two addresses of one server are one opinion."""
        chosen: list[Place] = []
        for name in self._names:
            for version in (False, True):
                known = self._places.get(name, [])
                chosen += [x for x in known if x.is_v6 is version][:1]
        return chosen

    def tick(self, now: float) -> None:
        """Ask again for those that are not known."""
        if self._again is not None and now >= self._again:
            self._again = None
            self._find([name for name in self._names if name not in self._places])

    def due(self) -> float | None:
        """When `tick` has something to do."""
        return self._again
