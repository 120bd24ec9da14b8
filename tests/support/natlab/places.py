"""Where a machine of a lab can be plugged in, and the cable that it takes."""

from dataclasses import dataclass, field

from tests.support.natlab.internet import Internet
from tests.support.natlab.link import CarriedLink, End, Link, Wires
from tests.support.natlab.plan import Line, PlanError
from tests.support.natlab.router import LabRouter
from tests.support.natlab.uplink import Uplink


@dataclass(slots=True)
class Places:
    """The internet, and the routers that were built so far by name; closed by `close`."""

    internet: Internet
    routers: dict[str, LabRouter] = field(default_factory=dict)
    _wires: Wires = field(default_factory=Wires)
    _links: list[Link] = field(default_factory=list)

    def uplink(self, name: str) -> Uplink:
        """A router's LAN, or the internet where the name is empty. Raises PlanError."""
        if not name:
            return self.internet
        if name not in self.routers:
            raise PlanError(f"there is no router {name!r}")
        return self.routers[name]

    def lay(
        self, near: End, uplink: Uplink, line: Line | None, back: Line | None, mtu: int
    ) -> Link:
        """A cable from an interface that is not there yet to the uplink."""
        if line is None:
            if back is not None:
                raise PlanError(f"{near.node.name!r}: a line back, and none away")
            return Link(near, uplink.socket_for(), mtu)
        link = CarriedLink(near, uplink.socket_for(), mtu, self._wires, line)
        self._links.append(link)
        if back is not None:
            link.set(line, back)
        return link

    def close(self) -> None:
        """End the carriers, and remove their namespace."""
        for link in self._links:
            link.close()
        self._wires.close()
