"""What a lab is to have: routers with their kinds of NAT, hosts, and what lines do to packets."""

from dataclasses import dataclass
from enum import Enum


class Nat(Enum):
    """What a router does to IPv4, in the words of RFC 4787: how it maps, and whom it lets in.

    A mapping is endpoint independent (EIM), address dependent (ADM), or address and port dependent
    (APDM), and so is the filter (EIF, ADF, APDF). The value is the name of the rules.
    """

    OPEN = "open"  # no translation: the LAN has public addresses
    FULL = "full"  # EIM, EIF
    ADDR = "addr"  # EIM, ADF
    PORT = "port"  # EIM, APDF: the usual home router
    HAIRPIN = "hairpin"  # as PORT, and its own hosts reach each other by its WAN address
    SYM = "sym"  # APDM, APDF, random ports
    SYMSEQ = "symseq"  # APDM, APDF, ports in sequence
    SYMADDR = "symaddr"  # ADM, APDF
    NAIVE = "naive"  # EIM, APDF, but a packet that comes too early spoils the mapping
    BLOCKED = "blocked"  # as PORT, and no UDP passes but that of port 53


class V6(Enum):
    """What a router does to IPv6, which it never translates."""

    NONE = "none"  # there is none behind it
    OPEN = "open"  # everything passes
    FIREWALL = "firewall"  # only answers come in


class Block(Enum):
    """What a router lets nobody do, beside its NAT."""

    NOTHING = "nothing"
    UDP = "udp"  # only that of port 53 passes
    ALL_BUT_WEB = "all_but_web"  # only TCP to the ports 80 and 443, and port 53


@dataclass(frozen=True, slots=True)
class Line:
    """What a line does to packets on their way: probabilities from 0 to 1, times in seconds.

    `jitter` is the most that is added to `delay`, evenly spread; the order is kept. A packet that
    is `reordered` waits for `reorder_by` more, and others overtake it. `rate` is in bits a second
    of Ethernet frames, 0 without a limit; what would wait for it longer than `queue` is dropped.
    `hops` routers on the way make the TTL or hop limit smaller; what it ends for is dropped. So is
    a packet of more than `mtu` bytes, 0 for no limit, and nobody is told: a black hole.
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    reorder_by: float = 0.01
    rate: float = 0.0
    queue: float = 0.1
    hops: int = 0
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class Router:
    """A router with a WAN and a LAN side.

    It hangs on the internet, or on the LAN of the router `behind`, whose LAN is 100.64/10 then:
    that is a CGNAT. `nat` None: there is no IPv4 here. `lan` is its IPv4 network, chosen if empty.
    `udp_timeouts` are the seconds after which a mapping is forgotten that was not answered, and
    one that was (the kernel's 30 and 120 otherwise).

    `line` is that of the WAN side, away from here, and `back` the way back (`line`, if None). It
    is carried in user space, which needs cargo, where `line` is not None.
    """

    name: str
    nat: Nat | None = Nat.PORT
    behind: str = ""
    v6: V6 = V6.NONE
    block: Block = Block.NOTHING
    lan: str = ""
    udp_timeouts: tuple[int, int] | None = None
    line: Line | None = None
    back: Line | None = None
    mtu: int = 1500


@dataclass(frozen=True, slots=True)
class Host:
    """A machine: behind a router's name, or on the internet where `behind` is empty.

    It may have several `addresses` of each family, as a server for RFC 5780 has two.
    `line`, `back` and `mtu` as in `Router`.
    """

    name: str
    behind: str = ""
    addresses: int = 1
    line: Line | None = None
    back: Line | None = None
    mtu: int = 1500


class PlanError(ValueError):
    """A lab that cannot be built: one line."""


def check(routers: tuple[Router, ...], hosts: tuple[Host, ...]) -> None:
    """Raise PlanError if names are not different, or not there, or in a circle."""
    known: set[str] = set()
    for router in routers:
        if router.name in known or not router.name:
            raise PlanError(f"router {router.name!r}: another one has this name, or it is empty")
        if router.behind and router.behind not in known:
            raise PlanError(f"router {router.name!r}: {router.behind!r} must stand before it")
        known.add(router.name)
    names: set[str] = set()
    for host in hosts:
        if host.name in names or not host.name:
            raise PlanError(f"host {host.name!r}: another one has this name, or it is empty")
        if host.behind and host.behind not in known:
            raise PlanError(f"host {host.name!r}: there is no router {host.behind!r}")
        names.add(host.name)
