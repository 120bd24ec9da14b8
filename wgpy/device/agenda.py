"""When the timers of which peer are looked at next."""

import heapq

from wgpy.datapath.contract import Handle
from wgpy.device.peer import PeerEntry, PeerTable


class Agenda:
    """Peers by when their timers are looked at. Entries that no longer match are skipped: so a peer
    has one, or a few, and a later moment than the one noted costs nothing."""

    def __init__(self, peers: PeerTable) -> None:
        self._peers = peers
        self._heap: list[tuple[float, Handle]] = []

    def note(self, entry: PeerEntry, when: float | None) -> None:
        """Look at a peer then, or not at all."""
        if when is None:
            entry.look_at = None
        elif entry.look_at is None or when < entry.look_at:
            heapq.heappush(self._heap, (when, entry.handle))
            entry.look_at = when

    def due(self, now: float) -> PeerEntry | None:
        """Take out a peer whose moment has come; None if there is no more."""
        while self._heap and self._heap[0][0] <= now:
            when, handle = heapq.heappop(self._heap)
            entry = self._peers.by_handle.get(handle)
            if entry is not None and entry.look_at == when:
                entry.look_at = None
                return entry
        return None

    def next_at(self) -> float | None:
        """The next moment; None for never."""
        return self._heap[0][0] if self._heap else None

    def clear(self) -> None:
        """Look at nobody."""
        self._heap.clear()
        for entry in self._peers.by_key.values():
            entry.look_at = None
