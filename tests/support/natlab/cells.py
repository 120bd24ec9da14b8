"""Every pair of NATs side by side in one lab, and what is to become of each pair.

    with Lab(*street()) as lab:
        lab.hosts[left(Nat.PORT)], lab.hosts[right(Nat.SYM)]    # 30 ms apart, as from the server

Two houses of each kind, so that a kind can meet itself. The cells are those of the matrix of
docs/nat.md.
"""

from tests.support.natlab.plan import Host, Line, Nat, Router

KINDS = (Nat.FULL, Nat.ADDR, Nat.PORT, Nat.SYM, Nat.SYMADDR, Nat.BLOCKED)
# Seconds from any house to any other, and to the server.
DELAY = 0.03
# As the internet has them: what an opener with a low TTL is to die on.
HOPS = 3

# Which mappings can be told beforehand, and which filters let in what comes from a port that could
# not be told.
_KNOWN = frozenset((Nat.FULL, Nat.ADDR, Nat.PORT))
_LENIENT = frozenset((Nat.FULL, Nat.ADDR))


def is_direct(one: Nat, other: Nat) -> bool:
    """Whether two such sides reach each other by punching alone."""
    if Nat.BLOCKED in (one, other):
        return False
    return (one in _KNOWN and other in _KNOWN) or one in _LENIENT or other in _LENIENT


def left(nat: Nat) -> str:
    """The machine in the first house of this kind."""
    return f"{nat.value}-a"


def right(nat: Nat) -> str:
    """The machine in the second one."""
    return f"{nat.value}-b"


def street(kinds: tuple[Nat, ...] = KINDS) -> tuple[list[Router], list[Host]]:
    """Two houses of each kind with a machine in each, of the same names, and the server."""
    line = Line(delay=DELAY / 2, hops=HOPS)
    routers, hosts = [], [Host("server", addresses=2, line=line)]
    for kind in kinds:
        for name in (left(kind), right(kind)):
            routers.append(Router(name, kind, line=line))
            hosts.append(Host(name, name))
    return routers, hosts
