"""Where a datagram comes from and goes to, as every part of this room says it."""

from typing import NamedTuple


class Place(NamedTuple):
    """A numeric IPv4 or IPv6 address and a UDP port, and by which way it is reached.

    `via` is 0 for the tunnel's own sockets, or what the data path calls another socket of ours or a
    relay; with a relay, `channel` is the TURN channel, and the address the peer's as the relay
    sees it.
    """

    host: str
    port: int
    via: int = 0
    channel: int = 0

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_v6(self) -> bool:
        """Whether the address is one of IPv6."""
        return ":" in self.host


class Send(NamedTuple):
    """A datagram to be sent. `ttl` is its hop limit, 0 for the usual one; `whole`: it may not be
    fragmented on the way."""

    data: bytes
    to: Place
    ttl: int = 0
    whole: bool = False
