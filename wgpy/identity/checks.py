"""What may stand in a credential, and whether its issuer may sign for it: small, pure checks."""

import re
from collections.abc import Iterable
from typing import Final

from wgpy.identity.claims import CredentialError
from wgpy.identity.settings import Limits
from wgpy.ip import Prefix, mask

# A credential is accepted this many seconds before it begins, as if it had begun: clocks differ.
# There is no grace at its end.
EARLY_SECONDS: Final = 300

# A name of RFC 1035 in 255 bytes of wire form has 253 characters as text.
MAX_NAME_LENGTH: Final = 253
MAX_GROUPS: Final = 16
MAX_PREFIXES: Final = 16
# One address of each family, or two of one.
MAX_ADDRESSES: Final = 2
# SQLite's and ASN.1's common ground: a signed integer of 64 bits.
MAX_GENERATION: Final = 2**63 - 1

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_GROUP: Final = re.compile(r"[a-z0-9-]{1,32}")

# The field of curve25519 (RFC 7748 section 4.1).
_P: Final = 2**255 - 19
# The u-coordinates below p whose points have an order that divides 8: every private key gives the
# secret zero with them. Two are p - 1 and 1, the two large ones have order 8.
_LOW_ORDER: Final = frozenset(
    {
        0,
        1,
        _P - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    }
)

_NOT_UNICAST_4: Final = tuple(
    Prefix(bytes(address), length)
    # This network, loopback, link-local, multicast, and all that is reserved with the broadcast
    # address (RFC 6890).
    for address, length in (
        ((0, 0, 0, 0), 8),
        ((127, 0, 0, 0), 8),
        ((169, 254, 0, 0), 16),
        ((224, 0, 0, 0), 4),
        ((240, 0, 0, 0), 4),
    )
)
_NOT_UNICAST_6: Final = (
    # ::/96 holds the unspecified address and loopback; then IPv4-mapped, link-local, multicast.
    Prefix(bytes(16), 96),
    Prefix(bytes(10) + b"\xff\xff" + bytes(4), 96),
    Prefix(b"\xfe\x80" + bytes(14), 10),
    Prefix(b"\xff" + bytes(15), 8),
)


def is_name(text: str) -> bool:
    """Whether `text` is a host name: lower-case labels of letters, digits and inner hyphens.

    No wildcard, no final dot, and no last label of digits alone, which would read as an address.
    """
    return (
        len(text) <= MAX_NAME_LENGTH
        and _NAME.fullmatch(text) is not None
        and not text.rpartition(".")[2].isdigit()
    )


def is_group(text: str) -> bool:
    """Whether `text` is the name of a group: 1 to 32 of a-z, 0-9 and hyphen."""
    return _GROUP.fullmatch(text) is not None


def is_sound_key(raw: bytes) -> bool:
    """Whether 32 bytes are an X25519 public key in its one spelling, and not of low order.

    X25519 ignores bit 255 and reduces by p, so other spellings would name the same key twice.
    """
    value = int.from_bytes(raw, "little")
    return len(raw) == 32 and value < _P and value not in _LOW_ORDER


def contains(outer: Prefix, inner: Prefix) -> bool:
    """Whether every address of `inner` is one of `outer`."""
    return (
        len(outer.address) == len(inner.address)
        and outer.length <= inner.length
        and mask(inner.address, outer.length) == outer.address
    )


def overlaps(one: Prefix, other: Prefix) -> bool:
    """Whether two prefixes have an address in common."""
    return contains(one, other) or contains(other, one)


def is_host(prefix: Prefix) -> bool:
    """Whether `prefix` is one whole unicast address that a peer could have in a tunnel."""
    ranges = _NOT_UNICAST_4 if prefix.version == 4 else _NOT_UNICAST_6
    whole = prefix.length == len(prefix.address) * 8
    return whole and not any(contains(x, prefix) for x in ranges)


def under_suffix(name: str, suffix: str) -> bool:
    """Whether `name` is `suffix` or below it (as RFC 5280 section 4.2.1.10 constrains names)."""
    return name == suffix or name.endswith(f".{suffix}")


class PrefixTable:
    """Which of many prefixes covers an address, at a cost that grows with their lengths alone."""

    __slots__ = ("_by_length",)

    def __init__(self, prefixes: Iterable[Prefix] = ()) -> None:
        self._by_length: dict[tuple[int, int], set[bytes]] = {}
        for prefix in prefixes:
            key = (len(prefix.address), prefix.length)
            self._by_length.setdefault(key, set()).add(prefix.address)

    def overlapping(self, prefix: Prefix) -> Prefix | None:
        """A prefix of the table that has an address in common with `prefix`, or None."""
        for (size, length), addresses in self._by_length.items():
            if size != len(prefix.address):
                continue
            if length <= prefix.length:
                covering = mask(prefix.address, length)
                if covering in addresses:
                    return Prefix(covering, length)
            else:
                for address in addresses:
                    if mask(address, prefix.length) == prefix.address:
                        return Prefix(address, length)
        return None


def check_times(not_before: float, not_after: float, wall: float) -> None:
    """Raise CredentialError if a credential is not valid at `wall`: a little early, never late."""
    if wall >= not_after:
        raise CredentialError("expired", f"it ended {wall - not_after:.0f} s ago")
    if wall < not_before - EARLY_SECONDS:
        raise CredentialError("not-yet-valid", f"it begins in {not_before - wall:.0f} s")


def check_limits(
    limits: Limits,
    name: str | None,
    addresses: Iterable[Prefix],
    prefixes: Iterable[Prefix],
    groups: Iterable[str],
) -> None:
    """Raise CredentialError where a credential says more than its issuer may sign for."""
    if name is not None and not any(under_suffix(name, suffix) for suffix in limits.names):
        raise CredentialError("name-not-permitted", f"its issuer may not sign for the name {name}")
    for prefix in (*addresses, *prefixes):
        if not any(contains(network, prefix) for network in limits.networks):
            raise CredentialError(
                "network-not-permitted", f"its issuer may not sign for the network {prefix}"
            )
    for group in groups:
        if group not in limits.groups:
            raise CredentialError(
                "group-not-permitted", f"its issuer may not sign for the group {group}"
            )
