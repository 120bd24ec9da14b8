"""What the parts of the agent need done by something that has sockets, files and a clock.

`Office` is that something: office.py in a daemon, and a fake one on a fake network in tests. Its
calls return at once; what they bring about comes by a call of the agent's.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from wgpy.device.paths import NatSettings, TurnUri
from wgpy.ip import Prefix
from wgpy.keys import PublicKey
from wgpy.nat.place import Place
from wgpy.nat.turn import TurnClient
from wgpy.nat.turn_events import Event


class Machine(NamedTuple):
    """What the machine has now: addresses that others may reach; the ways outside, each a router
    with our address towards it; networks of links that are tunnels; the MTU of the links that
    packets leave by, and that of our own tunnel; and whether that one carries IPv6."""

    hosts: tuple[str, ...]
    ways_out: tuple[str, ...]
    tunnels: tuple[Prefix, ...]
    link_mtu: int
    tunnel_mtu: int
    tunnel_v6: bool

    def moved_since(self, former: "Machine") -> bool:
        """Whether what was learned outside is no longer certain: the ways there are others, or
        where there is none, an address is gone. Whatever else comes and goes is another candidate,
        or one less."""
        is_gone = not set(former.hosts) <= set(self.hosts)
        return self.ways_out != former.ways_out or (not self.ways_out and is_gone)


class Socket(Protocol):
    """A further UDP socket of ours, opened as the tunnel's are."""

    port: int

    def send(self, data: bytes, to: Place, ttl: int, whole: bool) -> None:
        """Send a datagram; what cannot be sent is lost."""

    def detach(self) -> int:
        """Its descriptor, for the data path, which owns it from now on. Nothing more is read."""

    def close(self) -> None:
        """Nothing more is read or sent."""


class Stream(Protocol):
    """The connection of a TURN client by TCP or TLS (turn_stream.py)."""

    # Why there is none, for people; empty if there was none yet, or it ended as it should.
    trouble: str

    def take_carrier(self) -> int:
        """The descriptor by which ChannelData goes to and from the data path, which owns it."""

    def pump(self) -> None:
        """Do what the client wants: after each call of one of its methods."""

    def close(self) -> None:
        """Delete the allocation, and end it; nothing is told any more."""


class Office(Protocol):
    """Sockets, names, files and the clock."""

    def now(self) -> float:
        """Seconds of CLOCK_BOOTTIME."""

    def wall(self) -> float:
        """Seconds since 1970, never less than before, over restarts too."""

    def machine(self) -> Machine:
        """What the machine has now."""

    def find(self, name: str, port: int, found: Callable[[list[Place]], None]) -> None:
        """Look a name up, or an address; `found` is called with what there is, later; with nothing
        if it is not known."""

    def open_socket(self, version: int, received: Callable[[bytes, Place], None]) -> Socket | None:
        """A UDP socket of this IP version on a port of its own; None if there is none to be had."""

    def open_stream(
        self,
        server: Place,
        uri: TurnUri,
        ca_file: str | None,
        client: TurnClient,
        told: Callable[[Event], None],
    ) -> Stream:
        """Connect a client to its server, again and again until it is closed."""

    def relays_changed(self) -> None:
        """A stream brought news: `Agent.work` soon."""

    def set_signal(self, directory: str | None) -> None:
        """Carry signals by this directory, or not at all. Raises OSError."""

    def post(self, to: PublicKey, data: bytes) -> None:
        """Send a sealed signal to a peer."""

    def map_port(self, port: int, wanted: bool) -> None:
        """Ask routers to forward this port to us, or no longer; `Agent.mapped` hears of it."""

    def counters(self) -> Mapping[str, int]:
        """What was done with signals, and what was not."""

    def set_mtu(self, mtu: int) -> None:
        """The tunnel's link has this MTU from now on."""

    def secrets(self, settings: NatSettings) -> dict[str, bytes]:
        """What the files hold that the settings name, by file. Raises OSError and WayError."""

    def log(self, text: str, *, problem: bool = False) -> None:
        """A line for people."""
