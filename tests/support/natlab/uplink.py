"""What machines are plugged into: the internet, or the LAN of a router; and what they get there."""

from dataclasses import dataclass
from typing import Protocol

from tests.support.natlab.link import End, Link


@dataclass(frozen=True, slots=True)
class Grant:
    """Addresses with prefix lengths, and where packets to all others go."""

    v4: tuple[str, ...] = ()
    v6: tuple[str, ...] = ()
    gateway: str = ""
    gateway6: str = ""

    def commands(self, interface: str, metric: int = 0) -> list[str]:
        """What gives them to an interface that is up, for ip(8)."""
        lines = [f"address add {address} dev {interface}" for address in self.v4]
        lines += [f"address add {address} dev {interface} nodad" for address in self.v6]
        # The gateway of the internet is in nobody's network.
        way = f"dev {interface} onlink" + (f" metric {metric}" if metric else "")
        if self.v4:
            lines.append(f"route add default via {self.gateway} {way}")
        if self.v6:
            lines.append(f"route add default via {self.gateway6} {way}")
        return lines

    def first(self, family: int) -> str:
        """The first address of family 4 or 6, without its prefix length, or an empty text."""
        for address in self.v6 if family == 6 else self.v4:
            return bare(address)
        return ""


class Uplink(Protocol):
    """The internet, or the LAN of a router."""

    def socket_for(self) -> End:
        """A new interface, of a name that no other has, to plug a cable into."""

    def grant(self, count: int) -> Grant:
        """Addresses for a host, at most so many of each family."""

    def plugged(self, link: Link, grant: Grant) -> None:
        """Called after the cable lies: let packets for what was granted find it."""

    def announce(self, network: str, via: str) -> None:
        """Send what is for `network` to `via`, one of those that were granted."""


def bare(address: str) -> str:
    """An address without its prefix length."""
    return address.partition("/")[0]
