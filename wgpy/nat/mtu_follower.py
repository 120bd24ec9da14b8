"""The MTU of the tunnel's link follows the paths: the smallest of those in use, and no smaller.

One link serves all peers, and what is too large for one path would be cut into fragments on it, or
vanish where those are dropped. So the link has what fits every path; the operator's value is the
most, and comes back when the paths allow it.
"""

from collections.abc import Callable, Hashable
from typing import Final

# The least MTU that IPv6 works with (RFC 8200, section 5): with less the kernel takes it from the
# link, addresses and all, and does not give them back. On a path with less, long packets are lost.
LEAST: Final = 1280
# What every host takes (RFC 791), less what we add: the shortest datagram that is tried.
LEAST_V4: Final = 516


class MtuFollower:
    """`change(mtu)` sets the link's."""

    def __init__(self, change: Callable[[int], None]) -> None:
        self._change = change
        self._paths: dict[Hashable, int] = {}
        # What the operator wants, 0 until it is known; and what we made of it, 0 for nothing.
        self._wanted = 0
        self._set = 0
        self._v6 = True

    def link(self, mtu: int, *, v6: bool) -> None:
        """The link has this MTU: the operator's word, unless it is what we set. `v6`: it carries
        IPv6, which it would lose with less than that needs."""
        if v6 is not self._v6:
            self._v6 = v6
            self._follow()
        if mtu and mtu != self._set:
            self._wanted, self._set = mtu, 0
            self._follow()

    def path(self, peer: Hashable, mtu: int) -> None:
        """Packets of this size fit the path of a peer; 0 where nothing is known of it."""
        if mtu:
            self._paths[peer] = mtu
        else:
            self._paths.pop(peer, None)
        self._follow()

    def stop(self) -> None:
        """The link gets back what the operator wanted."""
        self._paths.clear()
        self._follow()

    def _follow(self) -> None:
        if not self._wanted:
            return
        fits = min(self._paths.values(), default=self._wanted)
        # An operator who wants less than IPv6 needs has less.
        least = min(LEAST if self._v6 else LEAST_V4, self._wanted)
        chosen = max(min(fits, self._wanted), least)
        if chosen != (self._set or self._wanted):
            self._set = chosen
            self._change(chosen)
