"""A machine of a lab: a laptop that can be carried from router to router, or a server."""

import socket
from dataclasses import dataclass

from tests.support.natlab.link import End, Link
from tests.support.natlab.node import host_node
from tests.support.natlab.places import Places
from tests.support.natlab.plan import Host, Line, PlanError
from tests.support.natlab.uplink import Grant, bare

# The interface that a host has from the start.
INTERFACE = "wlan0"


@dataclass(frozen=True, slots=True)
class Way:
    """An interface of a host that is plugged in; of two ways out the lower metric is taken."""

    link: Link
    grant: Grant
    metric: int


class LabHost:
    """A running machine. `v4` and `v6` are its addresses, of the way that was plugged in last."""

    def __init__(self, plan: Host, places: Places) -> None:
        self.plan = plan
        self.name = plan.name
        self.node = host_node(plan.name)
        self.namespace = self.node.namespace
        self.ways: dict[str, Way] = {}
        self._places = places

    def build(self) -> None:
        """Plug it in where the plan says."""
        plan = self.plan
        self.attach(plan.behind, line=plan.line, back=plan.back, mtu=plan.mtu)

    # --- Where it is ---

    def addresses(self, family: int = 4) -> list[str]:
        """All addresses of one family, those of the last way first."""
        grants = [way.grant for way in reversed(self.ways.values())]
        return [bare(x) for grant in grants for x in (grant.v6 if family == 6 else grant.v4)]

    @property
    def v4(self) -> str:
        return self.namespace.v4

    @property
    def v6(self) -> str:
        return self.namespace.v6

    def udp(self, port: int = 0) -> socket.socket:
        """A UDP socket on `v4`, for use from anywhere; the caller closes it."""
        made = self.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            made.bind((self.v4, port))
        except BaseException:
            made.close()
            raise
        return made

    @property
    def link(self) -> Link:
        """The cable that was plugged in last. Raises PlanError if there is none."""
        if not self.ways:
            raise PlanError(f"host {self.name!r} is not plugged in")
        return next(reversed(self.ways.values())).link

    # --- What befalls it ---

    def attach(
        self,
        behind: str,
        interface: str = INTERFACE,
        *,
        line: Line | None = None,
        back: Line | None = None,
        mtu: int = 1500,
        metric: int = 0,
    ) -> None:
        """Plug in a new interface, with new addresses, behind a router or (empty) the internet."""
        if interface in self.ways:
            raise PlanError(f"host {self.name!r}: {interface} is plugged in")
        uplink = self._places.uplink(behind)
        grant = uplink.grant(self.plan.addresses)
        link = self._places.lay(End(self.node, interface), uplink, line, back, mtu)
        self.ways[interface] = Way(link, grant, metric)
        self.node.ip(grant.commands(interface, metric))
        uplink.plugged(link, grant)
        self._name_addresses()

    def detach(self, interface: str = INTERFACE) -> None:
        """Pull the cable out, and forget what came with it: addresses and routes."""
        self.ways.pop(interface).link.remove()
        self._name_addresses()

    def move(
        self,
        behind: str,
        interface: str = INTERFACE,
        *,
        line: Line | None = None,
        back: Line | None = None,
    ) -> None:
        """From wherever it is to another place, as from a Wi-Fi to LTE: nothing stays of before."""
        for old in list(self.ways):
            self.detach(old)
        self.attach(behind, interface, line=line, back=back)

    def down(self, interface: str = INTERFACE) -> None:
        """Switch the interface off. Its addresses of IPv4 stay, and its routes go."""
        self.node.ip((f"link set {interface} down",))

    def up(self, interface: str = INTERFACE) -> None:
        """Switch it on again, with the addresses and routes that it had."""
        way = self.ways[interface]
        flush = f"address flush dev {interface} scope global"
        commands = way.grant.commands(interface, way.metric)
        self.node.ip((flush, f"link set {interface} up", *commands))

    def cut(self) -> None:
        """Let nothing through its cable, the last one; nobody is told."""
        self.link.cut()

    def heal(self) -> None:
        """Let everything through again."""
        self.link.heal()

    def _name_addresses(self) -> None:
        way = next(reversed(self.ways.values()), None)
        grant = way.grant if way else Grant()
        self.namespace.link = next(reversed(self.ways), "")
        self.namespace.v4, self.namespace.v6 = grant.first(4), grant.first(6)
