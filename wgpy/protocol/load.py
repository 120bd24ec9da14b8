"""When an interface is under load: control datagrams pile up faster than they are worked on."""

from wgpy.protocol.constants import UNDER_LOAD_DEPTH, UNDER_LOAD_STICKY


class LoadMeter:
    """Under load from the moment that the queue is deep until a second after it last was."""

    __slots__ = ("_last_deep",)

    def __init__(self) -> None:
        self._last_deep: float | None = None

    def under_load(self, depth: int, now: float) -> bool:
        """Whether a queue of `depth` datagrams, now or within the last second, means load."""
        if depth >= UNDER_LOAD_DEPTH:
            self._last_deep = now
            return True
        return self._last_deep is not None and now - self._last_deep < UNDER_LOAD_STICKY
