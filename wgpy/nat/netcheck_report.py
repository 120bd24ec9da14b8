"""What `wgpy netcheck` found, as values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from wgpy.device.servers import format_server
from wgpy.nat.behaviour import SYMMETRIC, Allocation, Behaviour, Endpoint
from wgpy.nat.lifetime import Bracket, keepalive


class Reach(Enum):
    """Who reaches this machine directly, the easiest first.

    What each pair of NATs let through when it was measured, both sides sending.
    """

    # Whoever likes, without our having sent.
    OPEN = "open"
    # Whoever we have sent to, whatever port it comes from: everybody, as soon as both have sent.
    EASY = "easy"
    # All but those whose own NAT is symmetric.
    USUAL = "usual"
    # A symmetric NAT whose next port can be told: all but the symmetric.
    GUESSABLE = "guessable"
    # A symmetric NAT: those who are OPEN or EASY.
    HARD = "hard"
    UNKNOWN = "unknown"


class Status(Enum):
    """What came of asking over one version of IP."""

    ANSWERED = "answered"
    SILENT = "no answer"
    NO_ROUTE = "no route"
    NOT_ASKED = "no server has such an address"


@dataclass(frozen=True, slots=True)
class Family:
    """What was found over one version of IP. What does not apply, or is not known, is None."""

    status: Status
    local: Endpoint | None = None
    seen: Endpoint | None = None
    mapping: Behaviour = Behaviour.UNKNOWN
    filtering: Behaviour = Behaviour.UNKNOWN
    keeps_ports: bool | None = None
    allocation: Allocation = Allocation.UNKNOWN
    # From one new mapping to the next, where they are sequential.
    step: int = 0
    hairpin: bool | None = None

    @property
    def is_translated(self) -> bool | None:
        """Whether there is a NAT."""
        return None if self.seen is None else self.mapping is not Behaviour.NONE

    @property
    def reach(self) -> Reach:
        """Who reaches us over it."""
        return reach(self.mapping, self.filtering, self.allocation)


def reach(mapping: Behaviour, filtering: Behaviour, ports: Allocation) -> Reach:
    """What a NAT's behaviour means for being reached."""
    if mapping in SYMMETRIC:
        return Reach.GUESSABLE if ports is Allocation.SEQUENTIAL else Reach.HARD
    if mapping is Behaviour.UNKNOWN:
        return Reach.UNKNOWN
    if filtering is Behaviour.ENDPOINT_INDEPENDENT:
        return Reach.OPEN
    if filtering in (Behaviour.ADDRESS_DEPENDENT, Behaviour.PORT_INDEPENDENT):
        return Reach.EASY
    # A filter that is not known is taken for the usual one, which is the strictest.
    return Reach.USUAL


@dataclass(frozen=True, slots=True)
class Server:
    """One server, or relay, that was asked. `round_trip` is in seconds, None without an answer;
    then `problem` says why."""

    name: str
    address: str
    round_trip: float | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A service that forwards ports: its protocol, where it is, and its address outside or ""."""

    protocol: str
    gateway: str
    outside: str = ""


# Looks for such services, and takes its time. Raises OSError where it cannot look.
PortMapper = Callable[[], tuple[PortMapping, ...]]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything. `port_mappings`, `lifetime` and `is_portal` are None if they were not looked at.

    `lifetime` of neither bound was looked at in vain. `tcp_works` is looked at only where nothing
    answers by UDP.
    """

    v4: Family
    v6: Family
    servers: tuple[Server, ...] = ()
    lifetime: Bracket | None = None
    port_mappings: tuple[PortMapping, ...] | None = None
    tcp_works: bool | None = None
    is_portal: bool | None = None
    counters: Mapping[str, int] = field(default_factory=dict)

    @property
    def udp(self) -> bool:
        """Whether UDP gets out, and back."""
        return Status.ANSWERED in (self.v4.status, self.v6.status)

    @property
    def preferred(self) -> Server | None:
        """The server with the shortest round trip."""
        answered = [x for x in self.servers if x.round_trip is not None]
        return min(answered, key=lambda x: x.round_trip or 0.0, default=None)

    def as_json(self) -> dict[str, Any]:
        """The same as plain values; times in seconds, and null for what is not known."""
        return {
            "udp": self.udp,
            "ipv4": _family_json(self.v4),
            "ipv6": _family_json(self.v6),
            "servers": [
                {
                    "name": x.name,
                    "address": x.address,
                    "round_trip": x.round_trip,
                    "problem": x.problem or None,
                }
                for x in self.servers
            ],
            "preferred": self.preferred.name if self.preferred else None,
            "lifetime": _lifetime_json(self.lifetime),
            "port_mapping": None
            if self.port_mappings is None
            else [
                {"protocol": x.protocol, "gateway": x.gateway, "outside": x.outside or None}
                for x in self.port_mappings
            ],
            "tcp": self.tcp_works,
            "captive_portal": self.is_portal,
            "counters": dict(sorted(self.counters.items())),
        }


def _family_json(family: Family) -> dict[str, Any]:
    return {
        "status": family.status.value,
        "local": _endpoint(family.local),
        "seen": _endpoint(family.seen),
        "nat": family.is_translated,
        "mapping": family.mapping.value,
        "filtering": family.filtering.value,
        "keeps_ports": family.keeps_ports,
        "allocation": family.allocation.value,
        "step": family.step or None,
        "hairpin": family.hairpin,
        "reach": family.reach.value,
    }


def _lifetime_json(known: Bracket | None) -> dict[str, Any] | None:
    if known is None:
        return None
    return {
        "survived": known.alive or None,
        "lost": known.dead,
        "keepalive": keepalive(known),
    }


def _endpoint(found: Endpoint | None) -> str | None:
    return None if found is None else format_server(*found)
