"""The address plan of a network: which ranges are free, and which address a node gets. Pure.

    IPv4   one range that the operator chose: node number n has its nth address
    IPv6   a unique local /48 (RFC 4193); nodes have number n of its first /64

A node has one number, so the two addresses end alike, and a person who knows one knows the other.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from wgpy.ip import Prefix, mask, parse_prefix

# A /16 is room for 65,533 nodes, several times as many as a network may have, and little enough of
# each block that most machines have one free.
RANGE_LENGTH: Final = 16
# What an operator may choose instead: a /29 is room for five nodes, and nothing private is wider
# than 10.0.0.0/8.
SHORTEST_RANGE: Final = 8
LONGEST_RANGE: Final = 29
ULA_LENGTH: Final = 48
NODES6_LENGTH: Final = 64
# The seed of a ULA: 128 random bits never meet, and RFC 4193 section 3.2.1 wants its 40 bits to be
# as random.
SEED_LENGTH: Final = 16
# Routes this short are what exits add (a default route, its halves): they claim nothing.
_SHORTEST_CLAIM: Final = 2
# The machine's routes that are looked at, each once for every candidate; who has a full table of
# the Internet does not have it in private ranges.
_MOST_ROUTES: Final = 10_000

_ULA: Final = Prefix(b"\xfd" + bytes(15), 8)


@dataclass(frozen=True, slots=True)
class Block:
    """Where ranges may come from, and why one would take it, or rather not."""

    prefix: Prefix
    reason: str


# The first that has room is proposed. In the order of how likely others are to be there.
BLOCKS: Final = (
    Block(
        parse_prefix("10.0.0.0/8"),
        "private (RFC 1918), and the largest: the least likely to meet a network that one visits",
    ),
    Block(
        parse_prefix("100.64.0.0/10"),
        "shared (RFC 6598): no home or office has it, but some carriers and other VPNs do",
    ),
    Block(
        parse_prefix("172.16.0.0/12"),
        "private (RFC 1918), and small: containers on many machines have parts of it",
    ),
)

# What many machines have without knowing: not proposed, though a machine may not have it now.
_BUSY: Final = tuple(
    parse_prefix(text)
    for text in (
        # Routers, home and office, begin to count here; 10.88 is podman's, 10.96 and 10.244 are of
        # Kubernetes, 10.42 and 10.43 of k3s.
        *("10.0.0.0/12", "10.42.0.0/15", "10.88.0.0/16", "10.96.0.0/12", "10.244.0.0/16"),
        # Carriers count from here, and Tailscale's resolver is 100.100.100.100.
        *("100.64.0.0/14", "100.100.0.0/16"),
        # Docker takes 172.17 and upwards.
        "172.16.0.0/13",
    )
)


@dataclass(frozen=True, slots=True)
class Proposal:
    """One block's answer: a range in it that is free, or None, and in words why this one."""

    prefix: Prefix | None
    reason: str


class AddressError(ValueError):
    """A range or an address that cannot be had; says why in one line."""


def propose_ranges(taken: Iterable[Prefix], seed: bytes) -> tuple[Proposal, ...]:
    """What each block has to offer a machine whose routes and addresses are `taken`, best first.

    `seed` is 16 random bytes, the network's identifier for one: two networks begin at different
    places, so that a laptop can be in both. Raises AddressError for another seed, or too many
    routes.
    """
    _check_seed(seed)
    routes = [x for x in taken if x.version == 4]
    if len(routes) > _MOST_ROUTES:
        raise AddressError(
            f"this machine has over {_MOST_ROUTES:,} routes; choose a range yourself"
        )
    found = [_propose(block, routes, seed) for block in BLOCKS]
    return (
        *(x for x in found if x.prefix is not None),
        *(x for x in found if x.prefix is None),
    )


def _propose(block: Block, routes: list[Prefix], seed: bytes) -> Proposal:
    count = 1 << RANGE_LENGTH - block.prefix.length
    start = int.from_bytes(hashlib.sha256(b"wgpy range" + seed).digest()[:4], "big") % count
    first = int.from_bytes(block.prefix.address, "big")
    for step in range(count):
        number = first + ((start + step) % count << 32 - RANGE_LENGTH)
        candidate = Prefix(number.to_bytes(4, "big"), RANGE_LENGTH)
        if overlap(candidate, routes) is None and overlap(candidate, _BUSY) is None:
            return Proposal(candidate, block.reason)
    meets = overlap(block.prefix, routes)
    return Proposal(None, f"{block.prefix} has nothing free: this machine has {meets} in it")


def overlap(ours: Prefix, theirs: Iterable[Prefix]) -> Prefix | None:
    """The first of `theirs` that shares an address with `ours`.

    Default routes and their halves are not counted: they are for what nobody else claims.
    """
    for other in theirs:
        if len(other.address) != len(ours.address) or other.length < _SHORTEST_CLAIM:
            continue
        length = min(ours.length, other.length)
        if mask(ours.address, length) == mask(other.address, length):
            return other
    return None


def overlaps(ours: Iterable[Prefix], theirs: Iterable[Prefix]) -> tuple[tuple[Prefix, Prefix], ...]:
    """Every pair of one of ours and one of theirs that share an address."""
    local = tuple(theirs)
    return tuple((x, y) for x in ours for y in local if overlap(x, (y,)) is not None)


def ula(seed: bytes) -> Prefix:
    """A network's /48, fd00::/8 with 40 bits from 16 random bytes (RFC 4193 section 3).

    A network takes its own identifier for a seed. Raises AddressError for another length.
    """
    _check_seed(seed)
    digest = hashlib.sha256(b"wgpy ula" + seed).digest()
    return Prefix(b"\xfd" + digest[:5] + bytes(10), ULA_LENGTH)


def _check_seed(seed: bytes) -> None:
    if len(seed) != SEED_LENGTH:
        raise AddressError(f"a seed is {SEED_LENGTH} random bytes")


def check_ranges(range4: Prefix, range6: Prefix) -> None:
    """Raise AddressError for ranges that no network can have."""
    if range4.version != 4 or range6.version != 6:
        raise AddressError("a network has one range of IPv4, and one of IPv6")
    if any(mask(*x) != x.address for x in (range4, range6)):
        raise AddressError("a range has no host bits")
    if not SHORTEST_RANGE <= range4.length <= LONGEST_RANGE:
        raise AddressError(f"{range4} is no range of /{SHORTEST_RANGE} to /{LONGEST_RANGE}")
    if not any(inside(range4, x.prefix) for x in BLOCKS) and not inside(range4, _HOME):
        raise AddressError(
            f"{range4} is not private: take one of 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or "
            "100.64.0.0/10"
        )
    if range6.length != ULA_LENGTH or not inside(range6, _ULA):
        raise AddressError(f"{range6} is no /{ULA_LENGTH} of fd00::/8")


# Private as well, and never proposed: it is where homes and visited networks are.
_HOME: Final = parse_prefix("192.168.0.0/16")


def inside(inner: Prefix, outer: Prefix) -> bool:
    """Whether `outer` has every address of `inner`."""
    same = len(inner.address) == len(outer.address)
    return (
        same and inner.length >= outer.length and mask(inner.address, outer.length) == outer.address
    )


def capacity(range4: Prefix) -> int:
    """How many nodes have room in a range: all but its first address and its last."""
    return (1 << 32 - range4.length) - 2


def addresses_of(number: int, range4: Prefix, range6: Prefix) -> tuple[Prefix, Prefix]:
    """The /32 and the /128 of a node's number, 1 and up. Raises AddressError beyond the range."""
    if not 1 <= number <= capacity(range4):
        raise AddressError(f"{range4} has no address number {number}")
    parts = (Prefix(range4.address, 32), Prefix(range6.address, 128))
    four, six = (
        Prefix(
            (int.from_bytes(x.address, "big") + number).to_bytes(len(x.address), "big"), x.length
        )
        for x in parts
    )
    return four, six


def nodes_range6(range6: Prefix) -> Prefix:
    """The /64 of a network's /48 that its nodes are in; the rest is for what is to come."""
    return Prefix(range6.address, NODES6_LENGTH)


def lowest_free(taken: Iterable[int], range4: Prefix) -> int:
    """The lowest node number that is not among `taken`, which are ascending.

    `taken` are those of nodes, coordinators too, and those that are reserved until a certificate
    ends. Raises AddressError where none is left.
    """
    wanted = 1
    if isinstance(taken, range) and taken.start == 1 and taken.step == 1:
        # No gap at all.
        wanted, taken = len(taken) + 1, ()
    for number in _at_least(taken, wanted):
        if number != wanted:
            break
        wanted += 1
    if wanted > capacity(range4):
        raise AddressError(f"{range4} is full: {capacity(range4):,} addresses are held or reserved")
    return wanted


def _at_least(numbers: Iterable[int], least: int) -> Iterator[int]:
    return (x for x in numbers if x >= least)
