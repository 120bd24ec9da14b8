"""Where a node may be found: kinds of candidates, which are refused, their order, and which path is
better.

All of it is pure functions. A candidate is a claim: whoever reads one sends it a few bounded probes
and no more before it has answered.
"""

from collections import Counter
from collections.abc import Iterable
from enum import IntEnum
from typing import Final, NamedTuple

from wgpy.ip import Prefix, address_text, mask, parse_address

# In one signal, of one side. The same bound as in the field: a house has a few addresses, and each
# candidate costs the other side up to ten probes.
MAX_CANDIDATES: Final = 10
# Bridges of containers and old prefixes would else push out what is of use.
MAX_HOSTS: Final = 5
# Beside guesses: enough of them have to fit.
MAX_HOSTS_WITH_GUESSES: Final = 2


class Kind(IntEnum):
    """How an address was learned; the numbers stand in signals."""

    # An address of the machine itself, private or public, IPv4 or IPv6.
    HOST = 1
    # Forwarded to us by the router, which was asked to (PCP, NAT-PMP, UPnP).
    MAPPED = 2
    # Seen by a STUN server.
    REFLEXIVE = 3
    # Lent to us by a TURN server.
    RELAYED = 4
    # What our NAT will probably take next.
    PREDICTED = 5


class Candidate(NamedTuple):
    """One place where its owner may be found. `host` is numeric."""

    kind: Kind
    host: str
    port: int


class Refused(NamedTuple):
    """What is never a candidate on this machine: networks and addresses of our tunnels, since a
    path would lead into itself, and as the other side's, the addresses of this machine."""

    networks: tuple[Prefix, ...] = ()
    addresses: frozenset[str] = frozenset()


NOTHING: Final = Refused()


class Rank(IntEnum):
    """What sort of way a path is, best first."""

    # A private address of the other's that answers: the same house.
    LAN = 0
    V6 = 1
    # IPv4 by whatever NATs there are: mappings that somebody has to keep.
    V4 = 2
    RELAY = 3


def _prefixes(*texts: str) -> tuple[Prefix, ...]:
    found = []
    for text in texts:
        address, _, length = text.partition("/")
        found.append(Prefix(parse_address(address), int(length)))
    return tuple(found)


# Reason -> prefixes that no datagram of ours is ever sent to (RFC 6890). The last one is IPv4 in
# another spelling.
_NEVER: Final = {
    "unspecified": _prefixes("0.0.0.0/8", "::/128"),
    "loopback": _prefixes("127.0.0.0/8", "::1/128"),
    "link_local": _prefixes("169.254.0.0/16", "fe80::/10"),
    "multicast": _prefixes("224.0.0.0/4", "ff00::/8"),
    # The limited broadcast address is one of these.
    "reserved": _prefixes("240.0.0.0/4"),
    "mapped_v4": _prefixes("::ffff:0:0/96", "::/96"),
}
# Good within one house or provider only: RFC 1918, RFC 6598, RFC 4193.
_PRIVATE: Final = _prefixes(
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"
)


def _within(address: bytes, prefixes: Iterable[Prefix]) -> bool:
    return any(
        len(prefix.address) == len(address) and mask(address, prefix.length) == prefix.address
        for prefix in prefixes
    )


def is_private(host: str) -> bool:
    """Whether a numeric address means something in one house or provider only."""
    return _within(parse_address(host), _PRIVATE)


def place_fault(host: str, port: int, refused: Refused = NOTHING) -> str | None:
    """Why nothing is sent to this address and port, or None. The reason is a counter's name."""
    if not 0 < port < 65536:
        return "port"
    try:
        address = parse_address(host)
    except ValueError:
        return "malformed"
    if address_text(address) != host:
        return "spelling"
    for reason, prefixes in _NEVER.items():
        if _within(address, prefixes):
            return reason
    return "own_network" if _within(address, refused.networks) else None


def fault(candidate: Candidate, refused: Refused = NOTHING) -> str | None:
    """Why a candidate, ours or the other side's, is refused, or None."""
    found = place_fault(candidate.host, candidate.port, refused)
    if found is None and candidate.kind is not Kind.HOST and is_private(candidate.host):
        return "private"
    return found


def theirs(
    told: Iterable[Candidate], refused: Refused, counters: Counter[str]
) -> tuple[Candidate, ...]:
    """What is left of the other side's candidates; each one refused is counted by its reason, as
    `candidate_loopback` and so on."""
    good: dict[tuple[str, int], Candidate] = {}
    for candidate in told:
        reason = fault(candidate, refused)
        if reason is None and candidate.host in refused.addresses:
            reason = "own_address"
        if reason is None and (candidate.host, candidate.port) in good:
            reason = "duplicate"
        if reason is None and len(good) == MAX_CANDIDATES:
            reason = "too_many"
        if reason is None:
            good[candidate.host, candidate.port] = candidate
        else:
            counters[f"candidate_{reason}"] += 1
    return tuple(good.values())


def ours(
    found: Iterable[Candidate], refused: Refused = NOTHING, hosts: int = MAX_HOSTS
) -> tuple[Candidate, ...]:
    """The at most ten candidates that we tell, best first; of hosts at most `hosts`.

    Of one address and port the better kind stays. Guesses take what room is left.
    """
    best: dict[tuple[str, int], Candidate] = {}
    for candidate in sorted((x for x in found if fault(x, refused) is None), key=_order):
        best.setdefault((candidate.host, candidate.port), candidate)
    taken: list[Candidate] = []
    of_hosts = 0
    for candidate in best.values():
        if candidate.kind is Kind.HOST:
            of_hosts += 1
            if of_hosts > hosts:
                continue
        taken.append(candidate)
    return tuple(taken[:MAX_CANDIDATES])


def _order(candidate: Candidate) -> tuple[int, int]:
    # Guesses last, relays before them; else as paths are ranked. Sorting keeps the order in which
    # equals were found.
    late = {Kind.RELAYED: 1, Kind.PREDICTED: 2}.get(candidate.kind, 0)
    return late, rank(candidate.host, relayed=False)


def rank(host: str, *, relayed: bool) -> Rank:
    """What sort of path one to this numeric address is."""
    if relayed:
        return Rank.RELAY
    if is_private(host):
        return Rank.LAN
    return Rank.V6 if ":" in host else Rank.V4


# --- Which of two paths is better ---

# What a kind of path is worth in seconds of round trip: the house's own network is as good as a
# way outside that is 10 ms shorter, and IPv6, which keeps no mapping, as one by IPv4 5 ms shorter.
_WORTH: Final = {Rank.LAN: 0.0, Rank.V6: 0.010, Rank.V4: 0.015, Rank.RELAY: 0.0}
# A path in use is left for one that is better by this much, and by this part of its cost. Round
# trips differ by that from one probe to the next, and each move may reorder packets.
MARGIN: Final = 0.003
MARGIN_PART: Final = 0.10
# A move waits for what is on its way over the slower path, at most this long (security.md of the
# design: more would be felt; packets that overtake then are put in order by the other end's TCP).
MAX_HOLD: Final = 0.050


def cost(kind: Rank, round_trip: float) -> tuple[int, float]:
    """The lower the better: relays after everything else, then seconds.

    A single number for each path, and not a comparison of pairs, so that there are no circles.
    """
    return int(kind is Rank.RELAY), round_trip + _WORTH[kind]


def clearly_better(new: tuple[int, float], used: tuple[int, float]) -> bool:
    """Whether a path of this cost is worth leaving the one in use."""
    if new[0] != used[0]:
        return new[0] < used[0]
    return new[1] < used[1] - max(MARGIN, MARGIN_PART * used[1])


def hold(new_round_trip: float, used_round_trip: float, variation: float) -> float:
    """How long the new path waits, in seconds, so that it overtakes nothing on the one in use: the
    difference of the ways there, taken as half of the round trips', and what those vary by."""
    difference = (used_round_trip - new_round_trip) / 2 + variation
    return min(max(difference, 0.0), MAX_HOLD)
