"""What the rules say of a connection: a pure function, and the reference for the nftables table.

An end of a connection is this machine, a peer behind the interface, or neither (outside). A peer
is a *member* if it came with a credential, or if it is configured and a rule names it.

1. A connection that has no member at either end is not judged: configured peers that no rule
   names work as if there were no firewall.
2. One that a `deny` rule fits is denied, whatever else fits.
3. One that an `allow` rule fits is allowed.
4. What this machine begins is allowed; everything else is denied.

Answers, and errors that belong to a connection, follow the connection (connection tracking).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from wgpy.firewall.rules import Action, Kind, Protocol, Rule, Selector
from wgpy.ip import Prefix, address_text, mask


@dataclass(frozen=True, slots=True)
class Member:
    """A peer of the interface: its public key in base64, which tells it from others, its name and
    groups, and the prefixes that are its own.

    `judged` is False for a configured peer that no rule names. It is no member, and matters only
    where its prefix lies within a member's: the longest prefix owns an address, as in WireGuard.
    """

    key: str
    name: str
    groups: frozenset[str]
    addresses: tuple[Prefix, ...]
    judged: bool = True


class Side(Enum):
    """Where an end of a connection is."""

    THIS = "this machine"
    PEER = "a peer"
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class End:
    """One end of a connection. `member` is set for a peer, `address` where it is known."""

    side: Side
    member: Member | None = None
    address: bytes | None = None

    @property
    def judged(self) -> bool:
        """Whether it is a member."""
        return self.member is not None and self.member.judged

    def __str__(self) -> str:
        if self.side is Side.THIS:
            return "this machine"
        where = "" if self.address is None else address_text(self.address)
        if self.member is None:
            return f"{where} (no peer)"
        name = self.member.name or self.member.key
        groups = f" ({', '.join(sorted(self.member.groups))})" if self.member.groups else ""
        return f"{name}{groups}{' at ' + where if where else ''}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a connection may be; the rule that decided, if one did; and why, in words."""

    allowed: bool
    rule: Rule | None
    reason: str


def owner(members: Iterable[Member], address: bytes) -> Member | None:
    """The member whose prefix fits the address and is the longest, or None."""
    best: Member | None = None
    length = -1
    for member in members:
        for prefix in member.addresses:
            if (
                len(prefix.address) == len(address)
                and prefix.length > length
                and mask(address, prefix.length) == prefix.address
            ):
                best, length = member, prefix.length
    return best


def verdict(
    rules: Sequence[Rule],
    source: End,
    destination: End,
    protocol: Protocol | None = None,
    port: int | None = None,
) -> Verdict:
    """What the rules say of a connection that `source` begins.

    `port` is the destination's, for TCP and UDP. `protocol` None is one that is none of the three
    that rules can name.
    """
    if not rules:
        return Verdict(True, None, "there are no rules")
    if source.side is Side.THIS and destination.side is Side.THIS:
        return Verdict(True, None, "it does not pass through the interface")
    if not source.judged and not destination.judged:
        if Side.PEER not in (source.side, destination.side):
            return Verdict(True, None, "it does not pass through the interface")
        return Verdict(True, None, "neither end is a member, so the firewall does not judge it")
    for action in (Action.DENY, Action.ALLOW):
        for rule in rules:
            if rule.action is action and fits(rule, source, destination, protocol, port):
                return Verdict(action is Action.ALLOW, rule, "a rule says so")
    if source.side is Side.THIS:
        return Verdict(True, None, "no rule denies what this machine begins")
    return Verdict(False, None, "no rule allows it")


def fits(
    rule: Rule, source: End, destination: End, protocol: Protocol | None, port: int | None
) -> bool:
    """Whether a rule speaks of a connection."""
    if not any(_selects(selector, source) for selector in rule.sources):
        return False
    if not any(_selects(selector, destination) for selector in rule.destinations):
        return False
    if not rule.services:
        return True
    return any(
        service.protocol is protocol
        and (service.every_port or (port is not None and service.first <= port <= service.last))
        for service in rule.services
    )


def _selects(selector: Selector, end: End) -> bool:
    match selector.kind:
        case Kind.ANY:
            return True
        case Kind.THIS:
            return end.side is Side.THIS
        case Kind.GROUP:
            return end.judged and end.member is not None and selector.name in end.member.groups
        case Kind.NAME:
            return end.judged and end.member is not None and selector.name == end.member.name
    prefix = selector.prefix
    return (
        end.side is Side.OUTSIDE
        and prefix is not None
        and end.address is not None
        and len(end.address) == len(prefix.address)
        and mask(end.address, prefix.length) == prefix.address
    )
