"""Who reaches whom, as nodes say of themselves: in memory, bounded, and believed by nobody."""

from collections import OrderedDict
from typing import Final

from wgpy.keys import PublicKey
from wgpy.mesh.messages import MapPath, Path, Report
from wgpy.mesh.wire import MAX_PATHS

# What a node said longer ago is no news: it says it again every few minutes.
KEEP: Final = 3_600.0
MAX_OF_NODE: Final = 1_000


class Reports:
    """The last that each node said of each of its paths."""

    def __init__(self, most: int = MAX_PATHS, of_node: int = MAX_OF_NODE) -> None:
        self._most = most
        self._of_node = of_node
        self._said: OrderedDict[PublicKey, OrderedDict[PublicKey, tuple[Path, float]]]
        self._said = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def take(self, of: PublicKey, report: Report, now: float) -> None:
        """Put down what a node says; what is oldest makes room."""
        said = self._said.setdefault(of, OrderedDict())
        self._said.move_to_end(of)
        for path in report.paths:
            if said.pop(path.key, None) is None:
                self._count += 1
            said[path.key] = (path, now)
            if len(said) > self._of_node:
                said.popitem(last=False)
                self._count -= 1
        while self._count > self._most:
            oldest = next(iter(self._said))
            if oldest == of:
                # It alone is more than there is room for.
                said.popitem(last=False)
                self._count -= 1
            else:
                self.forget(oldest)

    def forget(self, of: PublicKey) -> None:
        """Forget what a node said."""
        self._count -= len(self._said.pop(of, ()))

    def paths(self, now: float) -> tuple[MapPath, ...]:
        """Everything that is not old."""
        return tuple(
            MapPath(of, path, at)
            for of, said in self._said.items()
            for path, at in said.values()
            if now - at <= KEEP
        )
