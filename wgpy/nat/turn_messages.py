"""What TURN's requests ask for, and what its answers say (RFC 8656): attributes and their checks.

A server may say anything. What cannot be true raises ParseError, whose reason names a counter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from wgpy.nat.candidates import place_fault
from wgpy.nat.place import Place
from wgpy.nat.stun import Message, ParseError, mapped_address

# REQUESTED-TRANSPORT is a protocol number and three bytes of nothing: 17 is UDP.
UDP: Final = 17 << 24
# REQUESTED-ADDRESS-FAMILY likewise: 1 is IPv4, which is what a server gives that is not asked.
FAMILY: Final = {4: 1 << 24, 6: 2 << 24}

# Seconds. Ten minutes is what a server gives that is not asked; what a crashed machine leaves
# behind is gone after that.
LIFETIME: Final = 600
# A shorter one cannot be kept up: a refresh takes a round trip, and two when the nonce is stale.
MIN_LIFETIME: Final = 10
# Longer ones are taken for an hour, so that a refresh finds out in time that the server forgot.
MAX_LIFETIME: Final = 3600
# What a peer may send before it has a channel: one datagram of the tunnel's, as long as they get.
MAX_ARRIVED: Final = 1500


def is_reachable(host: str) -> bool:
    """Whether packets can reach an address of this text from elsewhere: it is neither this
    machine's own, nor of one link, nor of many machines, nor IPv4 in the dress of IPv6."""
    return place_fault(host, 1) is None


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to an Allocate. `is_cut`: the server's lifetime was longer than MAX_LIFETIME."""

    relayed: Place
    mapped: Place | None
    lifetime: int
    is_cut: bool


def allocate_attributes(family: int) -> dict[str, Any]:
    """What an Allocate asks for. `family` is 4 or 6."""
    attributes: dict[str, Any] = {"REQUESTED-TRANSPORT": UDP, "LIFETIME": LIFETIME}
    if family != 4:
        attributes["REQUESTED-ADDRESS-FAMILY"] = FAMILY[family]
    return attributes


def refresh_attributes(lifetime: int, family: int) -> dict[str, Any]:
    """What a Refresh asks for; `lifetime` 0 deletes the allocation."""
    attributes: dict[str, Any] = {"LIFETIME": lifetime}
    if family != 4:
        attributes["REQUESTED-ADDRESS-FAMILY"] = FAMILY[family]
    return attributes


def read_grant(message: Message, family: int, allowed: Callable[[str], bool]) -> Grant:
    """Read the answer to an Allocate. `allowed` says of an address whether it may be the relay's:
    our own tunnel's may not. Raises ParseError."""
    relayed = message.attributes.get("XOR-RELAYED-ADDRESS")
    if relayed is None:
        raise ParseError("no relayed address", "lied_relayed")
    host, port = relayed
    if port == 0 or not is_reachable(host) or not allowed(host):
        raise ParseError("a relayed address that can be none", "lied_relayed")
    if (family == 6) != (":" in host):
        raise ParseError("a relayed address of the other family", "lied_family")
    mapped = mapped_address(message)
    # A wrong one does no harm, for it serves nobody but us: it is left out.
    is_sensible = mapped is not None and mapped[1] != 0 and is_reachable(mapped[0])
    seconds, is_cut = read_lifetime(message)
    if seconds < MIN_LIFETIME:
        raise ParseError(f"a lifetime of {seconds} s", "lied_lifetime")
    return Grant(
        Place(host, port), Place(*mapped) if mapped and is_sensible else None, seconds, is_cut
    )


def read_lifetime(message: Message) -> tuple[int, bool]:
    """LIFETIME in seconds, at most MAX_LIFETIME, and whether it was more. Raises ParseError."""
    seconds = message.attributes.get("LIFETIME")
    if not isinstance(seconds, int):
        raise ParseError("no lifetime", "lied_lifetime")
    return min(seconds, MAX_LIFETIME), seconds > MAX_LIFETIME


def read_data(message: Message) -> tuple[Place, bytes]:
    """Peer and datagram of a Data indication. Raises ParseError."""
    if message.unknown:
        raise ParseError("attributes that must be known and are not", "unknown_attribute")
    peer, data = message.attributes.get("XOR-PEER-ADDRESS"), message.attributes.get("DATA")
    if peer is None or not isinstance(data, bytes):
        raise ParseError("a Data indication without peer or data")
    if not 0 < len(data) <= MAX_ARRIVED:
        raise ParseError(f"a Data indication of {len(data)} bytes", "data_length")
    if peer[1] == 0:
        raise ParseError("a Data indication from port 0")
    return Place(*peer), data


def read_alternate(message: Message, server: Place) -> Place | None:
    """The server that a 300 names, by the same way as this one; None if it names none that could be
    meant (RFC 8489, section 10: of the same family, and another)."""
    found = message.attributes.get("ALTERNATE-SERVER")
    if found is None:
        return None
    host, port = found
    if port == 0 or not is_reachable(host) or (":" in host) != server.is_v6:
        return None
    alternate = Place(host, port, server.via)
    return None if alternate == server else alternate
