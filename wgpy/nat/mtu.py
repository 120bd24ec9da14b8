"""How long datagrams may be on a path: padded probes that may not be fragmented (RFC 8899).

A path's round trip says nothing of it, and ICMP is often lost. So a proved path is asked with
probes of the lengths that paths commonly have: the longest first, which mostly passes, and then by
halves. Afterwards the length found is confirmed from time to time, since routes change.
"""

from typing import Final

from wgpy.nat.candidates import Rank
from wgpy.nat.orders import Mtu, Order
from wgpy.nat.path import Path
from wgpy.nat.place import Place

# Packets on the wire (IP header included) that links commonly carry: what IPv4 and IPv6 promise,
# tunnels in tunnels, mobile networks, PPPoE, Ethernet, jumbo frames.
LADDER: Final = (
    576,
    1024,
    1124,
    1200,
    1280,
    1320,
    1360,
    1380,
    1400,
    1420,
    1440,
    1460,
    1472,
    1480,
    1492,
    1500,
    4352,
    9000,
)
_HEADERS_V4: Final = 20 + 8
_HEADERS_V6: Final = 40 + 8
# ChannelData (RFC 8656, section 12.4).
_RELAY_HEADER: Final = 4
# RFC 8899, 5.1.2: so many probes of a length are lost before it counts as too long.
TRIES: Final = 3
# Twice the round trip is waited for an answer, within this.
MIN_WAIT: Final = 0.3
MAX_WAIT: Final = 2.0
# What was found is confirmed this often, and searched for anew that often (PMTU_RAISE_TIMER).
CONFIRM_SECONDS: Final = 60.0
# While packets pass, a path that has become narrower swallows all that are long.
BUSY_CONFIRM_SECONDS: Final = 10.0
RAISE_SECONDS: Final = 600.0
# What Ethernet carries, where nobody says what our own link does.
LINK_MTU: Final = 1500


def lengths(largest: int, *, v6: bool, relayed: bool) -> tuple[int, ...]:
    """The lengths of datagrams to try, ascending, where our own link carries packets of `largest`
    bytes. Through a relay nobody says which IP the rest of the way is: the longer header counts."""
    headers = _HEADERS_V6 if v6 or relayed else _HEADERS_V4
    headers += _RELAY_HEADER if relayed else 0
    return tuple(each - headers for each in LADDER if each <= largest)


class Search:
    """The search on one path. Ask `due`, then `step`, and say what `arrived`.

    `found` is the greatest length that has passed, 0 if none has yet. `settled` becomes true when
    the search ends, and false when what was found does not pass any more.
    """

    __slots__ = (
        "_at",
        "_begun",
        "_confirmed",
        "_high",
        "_lengths",
        "_low",
        "_next",
        "_tries",
        "found",
        "settled",
    )

    def __init__(self, lengths: tuple[int, ...], now: float) -> None:
        self._lengths = lengths
        self.found = 0
        self._begin(-1, now)

    def _begin(self, low: int, now: float) -> None:
        """Search above `low`. Places in the list: all up to it pass, all from `high` on do not."""
        self.settled = False
        self._begun = self._confirmed = now
        self._low, self._high = low, len(self._lengths)
        self._try(self._high - 1, now)

    def _try(self, at: int, now: float) -> None:
        self._at, self._tries, self._next = at, 0, now

    def due(self, *, busy: bool = False) -> float | None:
        """When `step` has something to do; None if no length passes at all. `busy`: packets
        pass."""
        if not self._lengths:
            return None
        if busy and self.settled and self._tries == 0:
            return min(self._next, self._confirmed + BUSY_CONFIRM_SECONDS)
        return self._next

    def step(self, round_trip: float, now: float, *, busy: bool = False) -> int | None:
        """The length of a probe to be sent now, if there is one."""
        due = self.due(busy=busy)
        if due is None or now < due:
            return None
        if self.settled and self._tries == 0 and now - self._begun >= RAISE_SECONDS:
            self._begin(min(self._low, len(self._lengths) - 2), now)
        if self._tries == TRIES:
            self._fails(now)
            if self.settled:
                return None
        self._tries += 1
        self._next = now + min(max(2 * round_trip, MIN_WAIT), MAX_WAIT)
        return self._lengths[self._at]

    def arrived(self, length: int, now: float) -> None:
        """A probe of this length was answered."""
        if length not in self._lengths:
            return
        at = self._lengths.index(length)
        if self.settled and at == self._low:
            self._confirm_later(now)
        elif self.settled and at < self._low:
            return
        elif self.settled:
            # What did not pass passes now.
            self._begin(at, now)
            self.found = length
            self._narrow(now)
        elif at > self._low:
            self._low = at
            self.found = length
            self._narrow(now)

    def _fails(self, now: float) -> None:
        if self.settled:
            # It passed once, and does not now: what is shorter may.
            self.found = 0
            self._begin(-1, now)
            return
        self._high = self._at
        self._narrow(now)

    def _narrow(self, now: float) -> None:
        if self._low + 1 >= self._high:
            self.settled = True
            self.found = self._lengths[self._low] if self._low >= 0 else 0
            self._at = max(self._low, 0)
            self._confirm_later(now)
            return
        self._try((self._low + self._high) // 2, now)

    def _confirm_later(self, now: float) -> None:
        self._confirmed = now
        self._try(self._at, now + CONFIRM_SECONDS)


class Lengths:
    """The search on the path in use. `orders` is where the result goes, as `Mtu`."""

    __slots__ = ("_orders", "_place", "_search", "_told", "link_mtu")

    def __init__(self, orders: list[Order]) -> None:
        self.link_mtu = LINK_MTU
        self._orders = orders
        self._place: Place | None = None
        self._search: Search | None = None
        self._told = 0

    @property
    def found(self) -> int:
        """What was told of the path in use, 0 before that."""
        return self._told

    def begin(self, path: Path, now: float) -> None:
        """Another path is in use."""
        relayed = path.rank is Rank.RELAY
        tried = lengths(self.link_mtu, v6=path.place.is_v6, relayed=relayed)
        self._place, self._search, self._told = path.place, Search(tried, now), 0

    def end(self) -> None:
        """None is in use any more."""
        self._place, self._search, self._told = None, None, 0

    def due(self, *, busy: bool = False) -> float | None:
        """When `step` has something to do. `busy`: packets pass."""
        return None if self._search is None else self._search.due(busy=busy)

    def step(self, path: Path, now: float, *, busy: bool = False) -> int | None:
        """The length of a probe to be sent now, if there is one."""
        if self._search is None:
            return None
        length = self._search.step(path.round_trip, now, busy=busy)
        self._tell()
        return length

    def arrived(self, place: Place, length: int, now: float) -> None:
        """A probe of this length was answered by this place."""
        if self._search is not None and place == self._place:
            self._search.arrived(length, now)
            self._tell()

    def _tell(self) -> None:
        search, place = self._search, self._place
        if search is None or place is None or not search.settled or search.found == self._told:
            return
        self._told = search.found
        if search.found:
            self._orders.append(Mtu(place, search.found))
