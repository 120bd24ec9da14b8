"""What a NAT does, concluded from what was seen of it, in the words of RFC 4787 and RFC 5780.

Pure functions: observations in, behaviour out. What the observations do not show is not claimed.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

# An address and a port.
Endpoint = tuple[str, int]


class Behaviour(Enum):
    """On what a mapping, or a filter, depends (RFC 4787, 4.1 and 5)."""

    # There is no translation; of filters it is not said.
    NONE = "none"
    ENDPOINT_INDEPENDENT = "endpoint independent"
    ADDRESS_DEPENDENT = "address dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address and port dependent"
    # Not on the port, for one address was asked: endpoint independent or address dependent.
    PORT_INDEPENDENT = "port independent"
    # On the address or on both, for no two ports of one address were asked.
    DEPENDENT = "dependent"
    UNKNOWN = "unknown"


class Allocation(Enum):
    """Which port a new mapping gets."""

    KEPT = "kept"
    SEQUENTIAL = "sequential"
    RANDOM = "random"
    UNKNOWN = "unknown"


# Ports of new mappings no further apart than this are taken for consecutive: other machines behind
# the same NAT make some as well. Of ports that are random, one in 2,000 is so near.
MAX_STEP: Final = 16
# With fewer sockets nothing is said.
_LEAST: Final = 3

# Mappings that are not the same for every destination: what is called symmetric.
SYMMETRIC: Final = (
    Behaviour.ADDRESS_DEPENDENT,
    Behaviour.ADDRESS_AND_PORT_DEPENDENT,
    Behaviour.DEPENDENT,
)


def mapping_behaviour(local: Endpoint, seen: Mapping[Endpoint, Endpoint]) -> Behaviour:
    """How one socket of ours is mapped. `seen` is by destination what that saw us come from.

    RFC 5780, 4.3, with the addresses and ports of however many servers.
    """
    if not seen:
        return Behaviour.UNKNOWN
    if set(seen.values()) == {local}:
        return Behaviour.NONE
    by_host: dict[str, list[Endpoint]] = {}
    for (host, _), mapped in seen.items():
        by_host.setdefault(host, []).append(mapped)
    if any(len(set(mapped)) > 1 for mapped in by_host.values()):
        return Behaviour.ADDRESS_AND_PORT_DEPENDENT
    two_ports = any(len(mapped) > 1 for mapped in by_host.values())
    if len(set(seen.values())) > 1:
        return Behaviour.ADDRESS_DEPENDENT if two_ports else Behaviour.DEPENDENT
    if len(by_host) > 1:
        return Behaviour.ENDPOINT_INDEPENDENT
    return Behaviour.PORT_INDEPENDENT if two_ports else Behaviour.UNKNOWN


def filtering_behaviour(from_other_address: bool | None, from_other_port: bool | None) -> Behaviour:
    """Who is let in to a socket that has sent to one address and port of a server only.

    Whether something came in from another address, and from another port of the same; None where
    that was not tried, or did not work otherwise either (RFC 5780, 4.4).
    """
    if from_other_address:
        return Behaviour.ENDPOINT_INDEPENDENT
    if from_other_port is False:
        return Behaviour.ADDRESS_AND_PORT_DEPENDENT
    if from_other_port:
        refused = from_other_address is False
        return Behaviour.ADDRESS_DEPENDENT if refused else Behaviour.PORT_INDEPENDENT
    return Behaviour.UNKNOWN if from_other_address is None else Behaviour.DEPENDENT


def keeps_ports(ports: Sequence[tuple[int, int]]) -> bool | None:
    """Whether sockets are seen with the ports that they have. `ports` are pairs, ours and seen."""
    return all(ours == seen for ours, seen in ports) if ports else None


def allocation(ports: Sequence[tuple[int, int]]) -> tuple[Allocation, int]:
    """How the ports of new mappings follow each other, and the usual step between them or 0.

    `ports` are pairs, ours and seen by one server, in the order in which the sockets sent first.
    One step in three may be out of line: another machine's, or where the NAT began again.
    """
    if len(ports) < _LEAST:
        return Allocation.UNKNOWN, 0
    if 2 * sum(ours == seen for ours, seen in ports) > len(ports):
        return Allocation.KEPT, 0
    steps = [after[1] - before[1] for before, after in itertools.pairwise(ports)]
    for sign in (1, -1):
        near = [step for step in steps if 0 < sign * step <= MAX_STEP]
        if len(near) >= 2 and 3 * len(near) >= 2 * len(steps):
            counted = Counter(near)
            return Allocation.SEQUENTIAL, max(counted, key=lambda x: (counted[x], -abs(x)))
    return Allocation.RANDOM, 0
