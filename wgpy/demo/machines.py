"""The two machines of the demo: every name, address and port, fixed.

Fixed names make removal certain: what a name finds can be removed, however the demo ended.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

# The mark in the environment of each daemon of the demo, by which it is found again.
MARK: Final = "WGPY_DEMO"

# The link between the machines, named as a machine's only network card usually is.
CABLE: Final = "eth0"
CABLE_PREFIX: Final = 24
TUNNEL_PREFIX_V4: Final = 24
TUNNEL_PREFIX_V6: Final = 64

# WireGuard's usual MTU: 1,500 of the cable less 80 for IPv6, UDP and the transport message.
TUNNEL_MTU: Final = 1420

LOCKS: Final = Path("/run/wgpy")
CLOCKS: Final = Path("/var/lib/wgpy")
SOCKETS: Final = Path("/var/run/wireguard")


@dataclass(frozen=True, slots=True)
class Machine:
    """One side: a namespace, its end of the cable, its interface and addresses in the tunnel."""

    name: str
    # 192.0.2.0/24 is for documentation (RFC 5737): it is nobody's, and stays in the namespace.
    outer: str
    inner_v4: str
    inner_v6: str
    port: int = 51820

    @property
    def namespace(self) -> str:
        """The name of its network namespace."""
        return f"wgpy-{self.name}"

    @property
    def interface(self) -> str:
        """The name of its WireGuard interface, not used twice: the sockets share a directory."""
        return f"wg-{self.name}"

    @property
    def leftovers(self) -> tuple[Path, Path]:
        """What a daemon leaves for the next one of its name: its lock, and the time of its last
        handshake."""
        return LOCKS / f"{self.interface}.daemon.lock", CLOCKS / f"{self.interface}.clock"

    @property
    def socket(self) -> Path:
        """Where its daemon listens for configuration."""
        return SOCKETS / f"{self.interface}.sock"


ALICE: Final = Machine("alice", "192.0.2.1", "10.77.0.1", "fd77::1")
BOB: Final = Machine("bob", "192.0.2.2", "10.77.0.2", "fd77::2")
MACHINES: Final = (ALICE, BOB)


class DemoError(Exception):
    """The demo cannot go on: what is wrong and what to do, in one line."""
