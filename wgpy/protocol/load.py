"""When an interface is under load: control datagrams pile up faster than they are worked on."""

from wgpy.protocol.constants import UNDER_LOAD_DEPTH, UNDER_LOAD_STICKY


class LoadMeter:
    """Under load from the moment that the queue is deep until a second after it last was.

    `deep` is how many datagrams wait then.
    """

    __slots__ = ("_deep", "_last_deep")

    def __init__(self, deep: int = UNDER_LOAD_DEPTH) -> None:
        self._deep = deep
        self._last_deep: float | None = None

    def under_load(self, depth: int, now: float) -> bool:
        """Whether a queue of `depth` datagrams, now or within the last second, means load."""
        if depth >= self._deep:
            self._last_deep = now
            return True
        return self._last_deep is not None and now - self._last_deep < UNDER_LOAD_STICKY
