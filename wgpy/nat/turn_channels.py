"""Asks a TURN server for channels and permissions, and takes what it says to that."""

from collections import Counter
from typing import Any, Final

from wgpy.nat.place import Place, Send
from wgpy.nat.stun import Method
from wgpy.nat.turn_dialogue import Dialogue
from wgpy.nat.turn_events import Bound, Event, PermissionRefused
from wgpy.nat.turn_flight import MAX_IN_FLIGHT, Request
from wgpy.nat.turn_messages import is_reachable
from wgpy.nat.turn_peers import REFUSED_PAUSE, Entry, Peers

# After an error that may be the allocation's fault: time for a Refresh to find out.
DOUBT_PAUSE: Final = 1.0
# Such errors. 437 says that there is no allocation, coturn says 400 then; 441, that it is another
# user's.
_DOUBTFUL: Final = frozenset({400, 437, 441})


class Channels:
    """The peers of one client. `granted_at` is when there came to be an allocation, None while
    there is none. What the owner is told is appended to `out`."""

    def __init__(
        self,
        dialogue: Dialogue,
        counters: Counter[str],
        out: list[Send | Event],
        *,
        family: int,
        renew: float,
    ) -> None:
        self._out = out
        self.granted_at: float | None = None
        self._dialogue = dialogue
        self._counters = counters
        self._family = family
        self._peers = Peers(renew)

    def add(self, peer: Place, now: float, *, channel: bool) -> Entry | None:
        """Begin with a peer, or with port 0 with a permission."""
        is_right = is_reachable(peer.host) and peer.is_v6 == (self._family == 6)
        entry = self._peers.add(peer, now, channel=channel) if is_right else None
        if entry is None:
            self._counters["peer_not_taken"] += 1
        elif self.granted_at is not None:
            self.ask(now)
        return entry

    def remove(self, peer: Place) -> None:
        """Let a channel or a permission end."""
        self._peers.remove(peer)

    def permits(self, host: str) -> bool:
        """Whether the server may relay what comes from an address."""
        return self.granted_at is not None and self._peers.permits(host)

    def granted(self, now: float) -> None:
        """There is an allocation. Channels whose answers overtook that are bound already."""
        self.granted_at = now
        self._out += [Bound(x.peer, x.channel) for x in self._peers.bound()]
        self.ask(now)

    def forget(self, now: float) -> None:
        """There is no allocation, or a new one begins: all is to be asked for again."""
        self.granted_at = None
        self._peers.forget(now)

    def due(self) -> float | None:
        """When `ask` has something to do."""
        return self._peers.due() if len(self._dialogue.flight) < MAX_IN_FLIGHT else None

    def ask(self, now: float) -> None:
        """Ask for what is due, as much as may be in flight."""
        for entry in self._peers.waiting(now):
            if len(self._dialogue.flight) >= MAX_IN_FLIGHT:
                return
            attributes: dict[str, Any] = {"XOR-PEER-ADDRESS": (entry.peer.host, entry.peer.port)}
            method = Method.CREATE_PERMISSION
            if entry.channel:
                method = Method.CHANNEL_BIND
                attributes = {"CHANNEL-NUMBER": entry.channel, **attributes}
            self._peers.asked(entry, now)
            self._dialogue.ask(method, attributes, now, entry)

    def succeeded(self, request: Request, entry: Entry) -> None:
        """The server said yes."""
        is_new = self._peers.has(entry) and self._peers.confirmed(entry, request.began)
        if is_new and entry.channel and self.granted_at is not None:
            self._out.append(Bound(entry.peer, entry.channel))

    def refused(self, request: Request, entry: Entry, code: int, now: float) -> bool:
        """The server said no. Whether that puts the allocation in doubt."""
        if not self._peers.has(entry):
            return False
        if self.granted_at is None or request.began < self.granted_at:
            # It was read before the Allocate.
            self._peers.postpone(entry, now)
            if self.granted_at is not None:
                self.ask(now)
            return False
        if code in _DOUBTFUL and not entry.is_doubted:
            entry.is_doubted = True
            self._peers.postpone(entry, now + DOUBT_PAUSE)
            return True
        self._peers.refused(entry, now)
        self._out.append(PermissionRefused(entry.peer, entry.channel, code))
        return False

    def failed(self, entry: Entry, now: float) -> bool:
        """Nothing that counts came. What is wrong may be wrong with more than this peer, so whether
        that puts the allocation in doubt."""
        if not self._peers.has(entry):
            return False
        is_there = self.granted_at is not None
        self._peers.postpone(entry, now + REFUSED_PAUSE if is_there else now)
        return is_there
