"""What is known of the NAT on one side of a path, and what follows from both sides' for punching.

The words are those of RFC 4787: which of our packets share a public port (mapping), and what of
outside may come in by it (filtering).
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from wgpy.nat.behaviour import MAX_STEP, SYMMETRIC, Behaviour

# The low-TTL opener has to pass our own NATs and to die before the peer's. Each router on the way
# takes one: with the usual single NAT, 2 are enough to leave it, and the first router of the
# provider drops the packet. Each more layer that was seen (CGNAT) needs one more. An opener that
# dies too early opens nothing, and one that gets too far does what the first probe would do: so the
# smallest number is right, and nothing rests on it.
_OPENER_PASSES: Final = 1
# Home router, provider's NAT, and a hypervisor or a phone in front of both.
MAX_LAYERS: Final = 3
# What is told to a peer, and the numbers that stand for it in signals.
NUMBERS: Final = {
    Behaviour.UNKNOWN: 0,
    Behaviour.ENDPOINT_INDEPENDENT: 1,
    Behaviour.ADDRESS_DEPENDENT: 2,
    Behaviour.ADDRESS_AND_PORT_DEPENDENT: 3,
}
# What is known in part, as the least that can be relied on.
_TOLD_AS: Final = {
    Behaviour.NONE: Behaviour.ENDPOINT_INDEPENDENT,
    Behaviour.PORT_INDEPENDENT: Behaviour.UNKNOWN,
    Behaviour.DEPENDENT: Behaviour.ADDRESS_AND_PORT_DEPENDENT,
}


def told_as(behaviour: Behaviour) -> Behaviour:
    """What a peer is told of a mapping: one of NUMBERS."""
    return _TOLD_AS.get(behaviour, behaviour)


@dataclass(frozen=True, slots=True)
class NatFacts:
    """One side's NAT; its behaviours are of NUMBERS.

    `step` is what the public port grows by from one new mapping to the next, of a NAT whose
    mappings depend on the destination; 0 where there is no order, or it is not known. `layers`
    counts NATs one behind the other, 1 where it is not known. `birthday`: the operator allows
    hundreds of probes to one peer.
    """

    mapping: Behaviour = Behaviour.UNKNOWN
    filtering: Behaviour = Behaviour.UNKNOWN
    step: int = 0
    layers: int = 1
    birthday: bool = False

    @property
    def depends(self) -> bool:
        """Whether a new destination gets a public port that no server could tell us."""
        return self.mapping in SYMMETRIC

    @property
    def is_sequential(self) -> bool:
        """Whether that port can be guessed."""
        return self.depends and 0 < abs(self.step) <= MAX_STEP


UNKNOWN: Final = NatFacts()


def opener_ttl(facts: NatFacts) -> int:
    """The hop limit of an opener behind these NATs."""
    return _OPENER_PASSES + min(max(facts.layers, 1), MAX_LAYERS)


class Role(IntEnum):
    """Who does what in the birthday method."""

    # Behind random ports: opens many mappings towards one address and port.
    MANY = 0
    # Behind one port for everybody: tries many ports of one address.
    SPRAY = 1


def birthday_role(ours: NatFacts, theirs: NatFacts) -> Role | None:
    """Our part in the birthday method, None where it is of no use or not allowed.

    It needs both operators' word, random ports on one side, and one port that is known on the
    other: where both have random ports, 2^16 times as many probes would be needed.
    """
    if not (ours.birthday and theirs.birthday):
        return None
    for role, many, spray in ((Role.MANY, ours, theirs), (Role.SPRAY, theirs, ours)):
        random = many.depends and not many.is_sequential
        if random and spray.mapping is Behaviour.ENDPOINT_INDEPENDENT:
            return role
    return None


def why_relayed(ours: NatFacts, theirs: NatFacts) -> str:
    """For people: why two such sides find no direct way, as far as their NATs tell."""
    if ours.depends and theirs.depends:
        return "the NATs on both sides take another port for each destination"
    for side, other, whose in ((ours, theirs, "our"), (theirs, ours, "their")):
        if not side.depends:
            continue
        text = f"{whose} NAT takes another port for each destination"
        if other.filtering is Behaviour.ADDRESS_AND_PORT_DEPENDENT:
            return f"{text}, the other lets none in"
        return f"{text}, and no probe came through"
    return "no probe came through"
