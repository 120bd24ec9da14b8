"""A cable of a lab between two namespaces: a veth pair.

`near` is the host's or the router's own side, `far` that of the LAN or of the internet.
"""

from dataclasses import dataclass

from tests.support.capture import Capture
from tests.support.natlab.node import Node


@dataclass(frozen=True, slots=True)
class End:
    """One end of a cable: an interface of a node."""

    node: Node
    interface: str


class Link:
    """A cable that lies, with both ends up."""

    def __init__(self, near: End, far: End, mtu: int) -> None:
        self.near = near
        self.far = far
        self._lay(mtu)

    def _lay(self, mtu: int) -> None:
        near, far = self.near, self.far
        space = far.node.namespace.name
        peer = f"peer name {far.interface} mtu {mtu} netns {space}"
        near.node.ip(
            (
                f"link add {near.interface} mtu {mtu} type veth {peer}",
                f"link set {near.interface} up",
            )
        )
        far.node.ip((f"link set {far.interface} up",))

    def cut(self) -> None:
        """Let nothing through, either way. Nobody is told: both ends still have their carrier."""
        for end in (self.near, self.far):
            end.node.cut(end.interface, True)

    def heal(self) -> None:
        """Let everything through again."""
        for end in (self.near, self.far):
            end.node.cut(end.interface, False)

    def capture(self) -> Capture:
        """What goes over it, as the near side sees it: to be used with `with`."""
        return Capture(self.near.node.namespace, self.near.interface)

    def remove(self) -> None:
        """Take it away, with what the two ends had of addresses and routes."""
        self.near.node.ip((f"link delete {self.near.interface}",))
        for end in (self.near, self.far):
            end.node.forget(end.interface)
