"""Pairs of nodes behind the NATs of the matrix, on the fake internet.

The names are those of the network laboratory (tests/support/natlab), so that a cell means the same
in both: full, addr, port are independent mappings with growing filters; sym takes a random port for
each destination, symseq the next one, symaddr one for each address; naive is a plain Linux
masquerade; blocked lets no UDP out.
"""

from dataclasses import dataclass, field
from typing import Any

from tests.support.fake_nat import (
    Behaviour,
    Host,
    Host6,
    Masquerade,
    Nat,
    Ports,
    Reflector,
    World,
)
from tests.support.fake_node import FakePost, Node, Relay
from wgpy.nat import behaviour
from wgpy.nat.facts import UNKNOWN, NatFacts
from wgpy.nat.orders import DEFAULTS, Carrier, Options

_NATS: dict[str, dict[str, Any]] = {
    "full": {"filtering": Behaviour.INDEPENDENT},
    "addr": {"filtering": Behaviour.ADDRESS},
    "port": {},
    "sym": {"mapping": Behaviour.ADDRESS_AND_PORT, "ports": Ports.RANDOM},
    "symaddr": {"mapping": Behaviour.ADDRESS, "ports": Ports.RANDOM},
    "symseq": {"mapping": Behaviour.ADDRESS_AND_PORT, "ports": Ports.SEQUENTIAL},
    "hairpin": {"hairpin": True},
    "blocked": {"blocked": True},
}
KINDS = (*_NATS, "naive")
# What a check of the network calls them.
_WORDS = {
    Behaviour.INDEPENDENT: behaviour.Behaviour.ENDPOINT_INDEPENDENT,
    Behaviour.ADDRESS: behaviour.Behaviour.ADDRESS_DEPENDENT,
    Behaviour.ADDRESS_AND_PORT: behaviour.Behaviour.ADDRESS_AND_PORT_DEPENDENT,
}


def make_nat(world: World, kind: str, public: str, upstream: Nat | None = None) -> Nat:
    """A router of one of the kinds."""
    if kind == "naive":
        return Masquerade(world, public, upstream=upstream)
    return Nat(world, public, upstream=upstream, **_NATS[kind])


def facts_of(nat: Nat, *, birthday: bool = False, layers: int = 1) -> NatFacts:
    """What a check of the network would have found out."""
    if nat.blocked:
        return UNKNOWN
    step = nat.step if nat.ports is Ports.SEQUENTIAL else 0
    return NatFacts(_WORDS[nat.mapping], _WORDS[nat.filtering], step, layers, birthday)


@dataclass
class Pair:
    """Two nodes who are peers, and everything around them."""

    world: World
    post: FakePost
    alice: Node
    bob: Node
    nats: list[Nat]
    relay: Relay | None
    servers: list[Reflector] = field(default_factory=list)

    @property
    def nodes(self) -> tuple[Node, Node]:
        return self.alice, self.bob

    def start(self) -> "Pair":
        """Alice first, and Bob within a tenth of a second."""
        self.alice.start()
        self.world.after(0.1 * self.world.random.random(), self.bob.start)
        return self

    def both(self, carrier: Carrier) -> bool:
        return self.alice.carrier is self.bob.carrier is carrier

    def run_until_direct(self, seconds: float = 12.0) -> float | None:
        """Seconds until both sides have a direct path, None if they have none by then."""
        began = self.world.now
        self.world.run(seconds, until=lambda: self.both(Carrier.DIRECT))
        return self.world.now - began if self.both(Carrier.DIRECT) else None


def houses(
    first: str,
    second: str,
    seed: int = 1,
    *,
    relay: bool = True,
    birthday: bool = False,
    options: Options = DEFAULTS,
    v6: bool = False,
    signal_delay: float = 0.06,
    signal_jitter: float = 0.01,
    signal_loss: float = 0.0,
    **weather: float,
) -> Pair:
    """One node in each of two houses, behind NATs of these kinds.

    Signals go by the relay's way, 60 ms each. Who has the lesser key depends on the seed.
    """
    world = World(seed, **weather)
    post = FakePost(world, delay=signal_delay, jitter=signal_jitter, loss=signal_loss)
    servers = [Reflector(world, f"198.51.100.{number}") for number in (1, 2)]
    lends = Relay(world) if relay else None
    nats = [make_nat(world, kind, f"203.0.113.{i}") for i, kind in enumerate((first, second), 1)]
    nodes = []
    for number, (nat, key) in enumerate(zip(nats, (b"ab", b"ba")[seed % 2], strict=True), 1):
        node = Node(
            world,
            Host(world, f"192.168.{number}.2", nat),
            post,
            bytes([key]),
            facts=facts_of(nat, birthday=birthday),
            options=options,
            servers=servers,
            relay=lends,
            host6=Host6(world, f"2001:db8::{number}") if v6 else None,
        )
        nodes.append(node)
    nodes[0].befriend(nodes[1])
    return Pair(world, post, nodes[0], nodes[1], nats, lends, servers)
