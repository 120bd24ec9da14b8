"""A laboratory of NATs in network namespaces: an internet, home routers, laptops and servers.

    with Lab(
        routers=[Router("home", Nat.PORT), Router("office", Nat.SYM)],
        hosts=[Host("alice", "home"), Host("bob", "office"), Host("server", addresses=2)],
    ) as lab:
        lab.hosts["alice"].namespace.ping(lab.hosts["server"].v4)

What that builds, as `two_homes(Nat.PORT, Nat.SYM)` does; every box is a namespace, and every cable
a veth pair:

      alice                                                                    bob
    ┌──────────────────┐                                      ┌──────────────────┐
    │ wlan0            │                                      │            wlan0 │
    │ 192.168.1.10/24  │                                      │  192.168.2.10/24 │
    └─────────┬────────┘                                      └────────┬─────────┘
      home    │                                                 office │
    ┌─────────┴────────┐                                      ┌────────┴─────────┐
    │ lan  192.168.1.1 │        ┌───────────────────┐         │  lan 192.168.2.1 │
    │ nft  NAT         │        │ internet, routing │         │  nft NAT         │
    │ wan  11.77.1.1   ├────────┤    11.77.0.254    ├─────────┤  wan 11.77.1.2   │
    └──────────────────┘        └─────────┬─────────┘         └──────────────────┘
                                server    │
                              ┌───────────┴────────────┐
                              │ wlan0 11.77.2.1, .101  │
                              └────────────────────────┘

Where a description gives a `line`, as `Router("home", line=Line(delay=0.015, hops=3))`, a process
in user space carries the frames of that cable: late, in another order, slowly or not at all, as
`lab.routers["home"].link.set(Line(loss=0.1))` says at any time. Tests that do so are marked
`pytest.mark.tool("carrier")`: cargo builds it.

A router may stand behind another (`behind`): the outer one is a CGNAT then. Addresses are those of
addresses.py; plan.py has every word of a description. Nothing leaves the machine, and when the
block ends, whatever happens, nothing of it is left.
"""

from tests.support.natlab.host import LabHost
from tests.support.natlab.lab import Lab, two_homes
from tests.support.natlab.link import Link
from tests.support.natlab.plan import V6, Block, Host, Line, Nat, PlanError, Router
from tests.support.natlab.router import LabRouter

__all__ = [
    "V6",
    "Block",
    "Host",
    "Lab",
    "LabHost",
    "LabRouter",
    "Line",
    "Link",
    "Nat",
    "PlanError",
    "Router",
    "two_homes",
]
