"""The wall around those who enrol: they reach one TCP port of ours, and nobody reaches them.

It stands around a whole range of addresses, from before the first of them comes until nobody may
come any more, with rules and without. So no packet depends on a change that was made in time.

    input    from the range, by the interface:  to PORT/tcp at the interface's own address, or drop
    output   to the range, by the interface:    what answers that, or drop
    forward  from the range, or to it:          drop
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from wgpy.firewall.matches import address_is, equals, link_is, state_in
from wgpy.firewall.rules import Protocol
from wgpy.firewall.verdict import End, Side, Verdict
from wgpy.ip import Prefix, address_text, mask

IN: Final = "from-quarantine"
OUT: Final = "to-quarantine"


@dataclass(frozen=True, slots=True)
class Wall:
    """Where those live who enrol, an IPv6 prefix, and the TCP port that they reach.

    `former` is where they lived until now, as long as somebody may still be there: nothing passes.
    """

    range: Prefix
    port: int
    former: Prefix | None = None


def wall_chains() -> tuple[str, ...]:
    """The chains that its rules want, beside those of the hooks."""
    return IN, OUT


def wall_rules(wall: Wall, link: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Its rules, each with its chain. In the chains of the hooks they come before every other."""
    enters, leaves = _ends(wall.range, link)
    drop: list[dict[str, Any]] = [{"counter": None}, {"drop": None}]
    if wall.former is not None:
        came, went = _ends(wall.former, link)
        yield "input", [*came, *drop]
        yield "output", [*went, *drop]
        yield "forward", [*came, *drop]
        yield "forward", [*went, *drop]
    yield "input", [*enters, {"goto": {"target": IN}}]
    yield "output", [*leaves, {"goto": {"target": OUT}}]
    yield "forward", [*enters, *drop]
    yield "forward", [*leaves, *drop]
    # Not every address of the machine: one of the link that it came in by.
    ours = equals({"fib": {"result": "type", "flags": ["daddr", "iif"]}}, "local")
    yield IN, [state_in("invalid"), *drop]
    yield IN, [ours, _port("dport", wall), {"counter": None}, {"accept": None}]
    yield IN, drop
    yield OUT, [state_in("established"), _port("sport", wall), {"counter": None}, {"accept": None}]
    yield OUT, drop


def wall_verdict(
    wall: Wall, source: End, destination: End, protocol: Protocol | None, port: int | None
) -> Verdict | None:
    """What the wall says of a connection that `source` begins; None of one that is not its matter.

    The reference for the rules, as `verdict` is for those of a person. This machine is meant by the
    interface's own address.
    """
    if not _inside(wall, source) and not _inside(wall, destination):
        return None
    to_us = _inside(wall, source) and destination.side is Side.THIS
    if to_us and protocol is Protocol.TCP and port == wall.port:
        return Verdict(True, None, "who enrols reaches this port of the interface's address")
    return Verdict(
        False, None, "who enrols reaches one port of this machine, and nobody reaches it"
    )


def _inside(wall: Wall, end: End) -> bool:
    """Whether an end is in quarantine. Our own address never is."""
    if end.side is Side.THIS:
        return False
    found = [] if end.address is None else [end.address]
    if end.member is not None:
        found += [prefix.address for prefix in end.member.addresses]
    return any(len(x) == 16 and mask(x, wall.range.length) == wall.range.address for x in found)


def _ends(around: Prefix, link: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What comes from a range by the link, and what goes there."""
    prefix = {"prefix": {"addr": address_text(around.address), "len": around.length}}
    return (
        [link_is("iif", link), address_is(6, "saddr", prefix)],
        [link_is("oif", link), address_is(6, "daddr", prefix)],
    )


def _port(field: str, wall: Wall) -> dict[str, Any]:
    return equals({"payload": {"protocol": "tcp", "field": field}}, wall.port)
