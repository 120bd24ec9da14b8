"""What the doctor looks at, as plain values: probes fill them in, checks read them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from wgpy.linux.udp import BUFFER_BYTES

# What the daemon asks for each of its UDP sockets.
WANTED_BUFFER: Final = BUFFER_BYTES

# The capabilities that a tunnel uses, by name and number (linux/capability.h).
CAPABILITIES: Final = {
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
    "CAP_NET_BIND_SERVICE": 10,
    "CAP_NET_BROADCAST": 11,
    "CAP_SYS_ADMIN": 21,
}


class TunDevice(Enum):
    """What opening /dev/net/tun gave."""

    READY = "ready"
    ABSENT = "absent"
    FORBIDDEN = "forbidden"
    # The node is there, the driver behind it is not (ENODEV, ENXIO).
    NO_DRIVER = "no driver"


@dataclass(frozen=True, slots=True)
class Tun:
    """The TUN driver. `refusal` is why no interface could be made, "" if one could, and None if
    that was not tried, which takes CAP_NET_ADMIN; `offloads` is None then too."""

    device: TunDevice
    refusal: str | None = None
    offloads: dict[str, bool] | None = None


@dataclass(frozen=True, slots=True)
class Udp:
    """What a UDP socket of this machine can do. `buffer` is the largest receive buffer in bytes
    that a socket of ours can have."""

    segment: bool
    gro: bool
    buffer: int


class Ipv6(Enum):
    """Whether the kernel speaks IPv6."""

    ON = "on"
    # Switched off by the sysctl, for new interfaces.
    OFF = "off"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Clock:
    """The wall clock. `synchronised` is None where the kernel would not say."""

    year: int
    synchronised: bool | None
    has_boottime: bool


@dataclass(frozen=True, slots=True)
class DataPaths:
    """Which data paths there are, and what WGPY_DATAPATH asks for."""

    native: bool
    wanted: str
    # Why the portable one cannot run ("" if it can).
    portable_refusal: str


@dataclass(frozen=True, slots=True)
class UapiSocket:
    """A socket in /var/run/wireguard: an interface's name, and whether somebody listens."""

    interface: str
    # None where we may not ask.
    alive: bool | None


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the doctor knows of a machine."""

    kernel: str
    is_root: bool
    capabilities: frozenset[str]
    tun: Tun
    udp: Udp
    ipv6: Ipv6
    # "resolvconf", "resolvectl", or None.
    resolver: str | None
    clock: Clock
    data_paths: DataPaths
    # "module" (could be loaded), "loaded", or None.
    kernel_wireguard: str | None
    # Where each program of interest is; None if it is not.
    programs: Mapping[str, str | None] = field(default_factory=dict)
    sockets: tuple[UapiSocket, ...] = ()
    # Whether others than root may write to /var/run/wireguard.
    sockets_open_to_all: bool = False
