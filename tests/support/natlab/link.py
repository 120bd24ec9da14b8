"""A cable of a lab between two namespaces: a veth pair, or two with a carrier between them.

      near                                                              far
    ┌─────────┐                                                      ┌────────┐
    │   wlan0 ├──────────────────────── veth ────────────────────────┤ lan1   │
    └─────────┘                                                      └────────┘
    ┌─────────┐        ┌──────────────── wires ───────────────┐        ┌────────┐
    │   wlan0 ├─ veth ─┤ near1 ──── the carrier ──── far1     ├─ veth ─┤ lan1   │
    └─────────┘        └──────────────────────────────────────┘        └────────┘

`near` is the host's or the router's own side, `far` that of the LAN or of the internet.
"""

import contextlib
from dataclasses import dataclass, field

from tests.support.capture import Capture
from tests.support.natlab.carried import BACK, OUT, Carrier, Counts, packet_socket
from tests.support.natlab.node import Node, wires_node
from tests.support.natlab.plan import Line, PlanError


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
        _veth(self.near, self.far, mtu)

    def set(self, line: Line, back: Line | None = None) -> None:
        """Other conditions for what leaves the near end, and for what comes back (`line`, if None).

        Raises PlanError if it was not laid with a line.
        """
        raise PlanError(f"{self.near.interface} of {self.near.node.name!r} has no line to change")

    def counts(self) -> tuple[Counts, Counts]:
        """What happened to frames that left the near end, and to those that came back.

        Raises PlanError if it was not laid with a line.
        """
        raise PlanError(f"{self.near.interface} of {self.near.node.name!r} has no line that counts")

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

    def close(self) -> None:
        """End what works for it; its interfaces go with their namespaces."""


class CarriedLink(Link):
    """One with a line, by a carrier between two interfaces of `wires` that no other has."""

    def __init__(self, near: End, far: End, mtu: int, wires: "Wires", line: Line) -> None:
        self._wires = wires
        self._number = wires.number()
        super().__init__(near, far, mtu)
        self._carrier = wires.carry(*self._middle(), seed=self._number)
        try:
            self.set(line)
        except BaseException:
            self._carrier.close()
            raise

    @property
    def pid(self) -> int:
        """The carrier's process."""
        return self._carrier.pid

    def _middle(self) -> tuple[End, End]:
        node = self._wires.node
        return End(node, f"near{self._number}"), End(node, f"far{self._number}")

    def _lay(self, mtu: int) -> None:
        near, far = self._middle()
        _veth(self.near, near, mtu)
        _veth(far, self.far, mtu)
        # Checksums and segments are made before a frame comes to the carrier, which only copies.
        for end in (self.near, self.far):
            end.node.namespace.disable_offloads(end.interface)

    def set(self, line: Line, back: Line | None = None) -> None:
        self._carrier.set(OUT, line)
        self._carrier.set(BACK, line if back is None else back)

    def counts(self) -> tuple[Counts, Counts]:
        return self._carrier.counts(OUT), self._carrier.counts(BACK)

    def remove(self) -> None:
        self.close()
        super().remove()
        self._wires.node.ip((f"link delete {self._middle()[1].interface}",))

    def close(self) -> None:
        self._carrier.close()


@dataclass(slots=True)
class Wires:
    """The namespace of the carriers' ends; made when the first is wanted."""

    made: Node | None = field(default=None)
    _numbers: int = 0

    @property
    def node(self) -> Node:
        if self.made is None:
            self.made = wires_node()
        return self.made

    def number(self) -> int:
        """A new one."""
        self._numbers += 1
        return self._numbers

    def carry(self, near: End, far: End, *, seed: int) -> Carrier:
        """Start a carrier between two ends here."""
        with contextlib.ExitStack() as stack:
            inside = self.node.namespace.inside
            ends = [
                stack.enter_context(inside(lambda: packet_socket(near.interface))),
                stack.enter_context(inside(lambda: packet_socket(far.interface))),
            ]
            return Carrier((ends[0], ends[1]), seed)

    def close(self) -> None:
        """Remove it."""
        if self.made is not None:
            self.made.close()


def _veth(near: End, far: End, mtu: int) -> None:
    """Lay a veth pair between two ends, and bring both up."""
    name = far.node.namespace.name
    peer = f"peer name {far.interface} mtu {mtu} netns {name}"
    near.node.ip(
        (
            f"link add {near.interface} mtu {mtu} type veth {peer}",
            f"link set {near.interface} up",
        )
    )
    far.node.ip((f"link set {far.interface} up",))
