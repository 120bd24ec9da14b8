"""What a datagram is, told by its first bytes, before anybody looks inside.

On one socket come WireGuard's messages, TURN's ChannelData, STUN and types of our own. They are
tried in this order; RFC 7983 and RFC 9443 tell protocols apart in the same way.
"""

from collections.abc import Iterable

from wgpy.datapath.contract import DataPathError
from wgpy.datapath.endpoint import Route, place_of
from wgpy.ip import address_text, parse_address

# RFC 8489 section 5: type and length, 2 bytes each, the cookie, and 12 of a transaction.
STUN_HEADER_LENGTH = 20
STUN_COOKIE = bytes.fromhex("2112a442")
# An index must not read as the cookie.
STUN_COOKIE_INDEX = int.from_bytes(STUN_COOKIE, "little")
# Servers whose answers are waited for: a few for our own address, two for each relay.
MAX_STUN_SOURCES = 64
# STUN that waits for Python. Every answer was asked for, and 64 servers have sent two each.
STUN_QUEUE_LENGTH = 128


def is_channel(first: int) -> bool:
    """Whether a datagram with this first byte can be ChannelData (RFC 8656 section 12)."""
    return first & 0xF0 == 0x40


def is_stun(buffer: memoryview | bytes, start: int, end: int) -> bool:
    """Whether the datagram at buffer[start:end] is a STUN message (RFC 8489 section 5).

    No WireGuard message is one: after its type of 1 to 4 in four bytes the length field is zero,
    and it has more than 20 bytes.
    """
    size = end - start
    return (
        size >= STUN_HEADER_LENGTH
        and buffer[start] < 4
        and buffer[start + 4 : start + 8] == STUN_COOKIE
        and STUN_HEADER_LENGTH + int.from_bytes(buffer[start + 2 : start + 4], "big") == size
    )


class StunSources:
    """From where STUN may come up."""

    def __init__(self) -> None:
        self._places: frozenset[tuple[str, int]] = frozenset()

    def set(self, places: Iterable[tuple[str, int]]) -> None:
        """From these addresses and ports, and no others. Raises DataPathError."""
        self._places = frozenset(check_stun_sources(places))

    def has(self, route: Route) -> bool:
        """Whether a datagram comes from one of them."""
        return place_of(route) in self._places


def check_stun_sources(places: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """The same places with their addresses in the usual text. Raises DataPathError."""
    try:
        found = [(address_text(parse_address(host)), port) for host, port in places]
    except ValueError as error:
        raise DataPathError(f"a STUN server: {error}") from None
    if len(found) > MAX_STUN_SOURCES:
        raise DataPathError(f"{len(found)} STUN servers are more than {MAX_STUN_SOURCES}")
    return found
