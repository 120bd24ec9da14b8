"""The nftables rules of a router, from the files in rules/."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from tests.support.natlab.plan import V6, Block, Nat

DIRECTORY = Path(__file__).parent / "rules"

# The files that make each kind. Only a cone that lets strangers in does without drop_new.nft, and
# the naive one, whose whole fault it is.
_FILES: Mapping[Nat, tuple[str, ...]] = {
    Nat.OPEN: (),
    Nat.FULL: ("full",),
    Nat.ADDR: ("full", "addr"),
    Nat.PORT: ("drop_new", "port"),
    Nat.HAIRPIN: ("drop_new", "hairpin"),
    Nat.SYM: ("drop_new", "sym"),
    Nat.SYMSEQ: ("drop_new", "symseq"),
    Nat.SYMADDR: ("drop_new", "symaddr"),
    Nat.NAIVE: ("naive",),
    Nat.BLOCKED: ("drop_new", "port"),
}

# The ports of SYMSEQ, and how many before the first comes again: more than a test opens within a
# mapping's life.
FIRST_PORT = 20_000
PORTS = 1024
# For how long cones let in from outside, in seconds, where the router is not told otherwise.
CONE_LIFE = 300


@dataclass(frozen=True, slots=True)
class Sides:
    """The interfaces of a router, and its WAN address."""

    wan: str
    lan: str
    address: str


def nat_rules(nat: Nat | None, sides: Sides, life: int) -> str:
    """A transaction that puts these rules in the place of all that the lab made before.

    `life` is in seconds. Tables of others, as of a port mapping service, stay.
    """
    files = () if nat is None else _FILES[nat]
    return _replace("ip natlab", "".join(_fill(name, sides, life) for name in files))


def v6_rules(v6: V6, sides: Sides) -> str:
    """The same for IPv6."""
    wanted = _fill("firewall6", sides, 0) if v6 is V6.FIREWALL else ""
    return _replace("ip6 natlab", wanted)


def block_rules(block: Block, sides: Sides) -> str:
    """The same for what is blocked."""
    wanted = "" if block is Block.NOTHING else _fill(f"block_{block.value}", sides, 0)
    return _replace("inet natlab_block", wanted)


def cut_rules(interfaces: list[str]) -> str:
    """Nothing comes in from these interfaces any more, ARP neither, and from all others again."""
    chains = "".join(
        f"  chain cut_{number} {{\n"
        f'    type filter hook ingress device "{name}" priority -500; policy drop;\n  }}\n'
        for number, name in enumerate(sorted(interfaces))
    )
    wanted = f"table netdev natlab_cut {{\n{chains}}}\n" if interfaces else ""
    return _replace("netdev natlab_cut", wanted)


def _replace(table: str, text: str) -> str:
    return f"table {table}\ndelete table {table}\n{text}"


def _fill(name: str, sides: Sides, life: int) -> str:
    ports = ", ".join(f"{number} : {FIRST_PORT + number}" for number in range(PORTS))
    return Template((DIRECTORY / f"{name}.nft").read_text()).substitute(
        WAN=sides.wan, LAN=sides.lan, IP=sides.address, LIFE=life, COUNT=PORTS, PORTS=ports
    )
