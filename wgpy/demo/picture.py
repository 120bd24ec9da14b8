"""What runs in the demo, drawn in ASCII."""

from dataclasses import dataclass
from typing import Final

from wgpy.demo.machines import CABLE, Machine
from wgpy.keys import PublicKey

_WIDTH: Final = 30


@dataclass(frozen=True, slots=True)
class Side:
    """What the picture shows of one machine. `program` is the daemon's name and data path."""

    machine: Machine
    public_key: PublicKey
    program: str
    pid: int
    has_v6: bool


def shorten(key: PublicKey) -> str:
    """A public key as a person recognises it: its first six characters and its last four."""
    text = key.base64()
    return f"{text[:6]}...{text[-4:]}"


def draw(left: Side, right: Side) -> str:
    """Both machines, the tunnel and the cable, 77 columns wide, without a newline at the end."""
    rows = [(_border(left.machine), "", _border(right.machine))]
    boxes = zip(_box(left), _box(right), strict=True)
    for number, (ours, theirs) in enumerate(boxes):
        rows.append((f"| {ours:<{_WIDTH - 4}} |", _BETWEEN.get(number, ""), f"| {theirs}"))
    rows.append(("+" + "-" * (_WIDTH - 2) + "+", "", "+" + "-" * (_WIDTH - 2) + "+"))
    lines = []
    for ours, middle, theirs in rows:
        closed = theirs if theirs.startswith("+") else f"{theirs:<{_WIDTH - 1}}|"
        lines.append(f"  {ours}{middle:^15}{closed}".rstrip())
    return "\n".join(lines)


def _border(machine: Machine) -> str:
    return f"+-- {machine.name} ".ljust(_WIDTH - 1, "-") + "+"


# What joins the boxes, by row of the box.
_BETWEEN: Final = {
    1: "the tunnel",
    2: "<= = = = = = =>",
    8: "encrypted UDP",
    9: "---------------",
}


def _box(side: Side) -> list[str]:
    machine = side.machine
    v6 = machine.inner_v6 if side.has_v6 else "(no IPv6 here)"
    return [
        "",
        f"{machine.interface:<10}{machine.inner_v4}",
        f"{'':<10}{v6}",
        f"{'  key':<10}{shorten(side.public_key)}",
        "    |",
        side.program,
        f"{'  process ':<10}{side.pid}",
        "    |",
        f"{CABLE:<10}{machine.outer}",
        f"{'  port':<10}{machine.port}",
    ]
