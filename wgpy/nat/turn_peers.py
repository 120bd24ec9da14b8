"""The peers of one allocation: permissions and channels, their numbers, and when each is renewed.

A permission (RFC 8656, section 9) is for an address and lasts 5 minutes; a channel (section 12) is
for an address and a port, lasts 10, and renews the permission with it. So each channel is bound
again every 4 minutes, which keeps both, and only addresses without a channel need CreatePermission.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from wgpy.nat.channel_data import FIRST_CHANNEL, LAST_CHANNEL
from wgpy.nat.place import Place

# Peers and permissions of one allocation: more than the candidates of six peers, and what a renewal
# of all takes (64 requests in 4 minutes) is nothing to a server.
MAX_PEERS: Final = 64
# A minute before the permission would end. A request that needs all its 40 s still comes in time.
RENEW: Final = 240.0
# How long a server keeps a channel, and how long after that neither its number nor its peer may be
# bound to another (section 12): what is on the way then cannot come to the wrong one.
CHANNEL_LIFETIME: Final = 600.0
CHANNEL_REST: Final = 300.0
# After a refusal, doubled each time up to the last: the server's rules do not change by the minute.
REFUSED_PAUSE: Final = 60.0
MAX_REFUSED_PAUSE: Final = 600.0


class Standing(Enum):
    """What the server knows of a peer."""

    NONE = "none"
    ASKED = "asked"
    BOUND = "bound"
    REFUSED = "refused"


@dataclass(slots=True)
class Entry:
    """A peer, or with port 0 and channel 0 an address that has a permission only.

    `due` is when the server is to be asked (again), `asking` while an answer is waited for.
    """

    peer: Place
    channel: int
    due: float
    standing: Standing = Standing.NONE
    asking: bool = False
    refusals: int = 0
    # It was refused in a way that may be the allocation's fault.
    is_doubted: bool = False


class Peers:
    """What one allocation is used for. Peers stay when the allocation is lost, with their numbers,
    and are bound again in the next."""

    def __init__(self, renew: float = RENEW) -> None:
        self._renew = renew
        self._entries: dict[Place, Entry] = {}
        # Which peer a number was last bound to, and until when it can be bound to no other.
        self._numbers: dict[int, tuple[Place, float]] = {}
        self._next = FIRST_CHANNEL

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, peer: Place, now: float, *, channel: bool) -> Entry | None:
        """Begin with a peer, or return it if it is there; None if there are as many as may be, or
        no number is free."""
        found = self._entries.get(peer)
        if found is None and len(self._entries) < MAX_PEERS:
            number = self._number(peer, now) if channel else 0
            if number is not None:
                found = self._entries[peer] = Entry(peer, number, now)
        return found

    def remove(self, peer: Place) -> bool:
        """Let a peer's channel and permission end. Its number stays reserved as long as it must."""
        return self._entries.pop(peer, None) is not None

    def has(self, entry: Entry) -> bool:
        """Whether an entry is still that of its peer."""
        return self._entries.get(entry.peer) is entry

    def bound(self) -> list[Entry]:
        """The channels that the server knows."""
        return [x for x in self._entries.values() if x.channel and x.standing is Standing.BOUND]

    def permits(self, host: str) -> bool:
        """Whether the server may relay what comes from this address."""
        return any(
            entry.peer.host == host and entry.standing is Standing.BOUND
            for entry in self._entries.values()
        )

    def due(self) -> float | None:
        """When the next is to be asked for."""
        return min((x.due for x in self._entries.values() if not x.asking), default=None)

    def waiting(self, now: float) -> list[Entry]:
        """Those whose time has come, the longest overdue first."""
        found = [x for x in self._entries.values() if not x.asking and x.due <= now]
        return sorted(found, key=lambda x: x.due)

    def asked(self, entry: Entry, now: float) -> None:
        """A request for it was sent: the server may have bound it from now on."""
        entry.asking = True
        if entry.standing is Standing.NONE:
            entry.standing = Standing.ASKED
        if entry.channel:
            self._numbers[entry.channel] = entry.peer, now + CHANNEL_LIFETIME + CHANNEL_REST

    def confirmed(self, entry: Entry, now: float) -> bool:
        """The server said yes to what was sent at `now`; whether it had not before."""
        is_new = entry.standing is not Standing.BOUND
        entry.standing, entry.asking = Standing.BOUND, False
        entry.refusals, entry.is_doubted = 0, False
        entry.due = now + self._renew
        return is_new

    def refused(self, entry: Entry, now: float) -> None:
        """The server said no."""
        entry.standing, entry.asking = Standing.REFUSED, False
        # Four doublings pass the longest.
        grown = REFUSED_PAUSE * 2 ** min(entry.refusals, 4)
        entry.due = now + min(grown, MAX_REFUSED_PAUSE)
        entry.refusals += 1

    def postpone(self, entry: Entry, due: float) -> None:
        """Nothing came of a request: ask again then."""
        entry.asking, entry.due = False, due

    def forget(self, now: float) -> None:
        """There is no allocation any more: all are to be asked for again in the next."""
        for entry in self._entries.values():
            entry.standing, entry.asking, entry.due = Standing.NONE, False, now

    def _number(self, peer: Place, now: float) -> int | None:
        """A channel number for a peer: the one that it had, or the next that may be bound."""
        for number, (owner, until) in self._numbers.items():
            if owner == peer and now < until:
                return number
        held = {entry.channel for entry in self._entries.values()}
        count = LAST_CHANNEL - FIRST_CHANNEL + 1
        for step in range(count):
            number = FIRST_CHANNEL + (self._next - FIRST_CHANNEL + step) % count
            if number not in held and now >= self._numbers.get(number, (peer, now))[1]:
                self._next = number + 1
                return number
        return None
