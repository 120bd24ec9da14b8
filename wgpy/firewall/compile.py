"""The rules as nftables takes them: one table `inet wgpy-IF`, in nft's JSON (libnftables-json(5)).

A packet can take five ways, and each has a chain:

    from-peer-to-this       input,   came in by the interface
    from-this-to-peer       output,  goes out by the interface (only where a rule denies there)
    from-peer-to-peer       forward, both
    from-peer-to-outside    forward, came in by it, goes out by another
    from-outside-to-peer    forward, came in by another, goes out by it

So a source address is believed only of what came in by the interface, where WireGuard has checked
it. What belongs to a connection goes on. What has a member at an end goes to the chain `judge-WAY`:
the `deny` rules, the `allow` rules, and at the end a drop. Anything else is let pass.

The link is known by its index, so that a link that is renamed stays guarded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from wgpy.firewall.matches import address_is, equals, link_is, state_in
from wgpy.firewall.rules import Action, Kind, Protocol, Rule, RulesError, Selector, Service
from wgpy.firewall.sets import MEMBERS, Contents, Names, element, set_name
from wgpy.firewall.verdict import Side
from wgpy.firewall.wall import Wall, wall_chains, wall_rules

Command = dict[str, Any]
# Matches that must all hold; a stage of a rule is several of these, of which one must.
Matches = list[dict[str, Any]]

# Rules of nftables that one interface may take: the rules of a person make some hundreds.
MAX_COMPILED: Final = 16_384
# The kernel's own filter hooks (linux/netfilter_ipv4.h): after connection tracking and DNAT.
_PRIORITY_FILTER: Final = 0
_HOOKS: Final = ("input", "forward", "output")


@dataclass(frozen=True, slots=True)
class Way:
    """One of the ways that a packet takes."""

    hook: str
    source: Side
    destination: Side

    @property
    def name(self) -> str:
        """Its chain."""
        words = {Side.THIS: "this", Side.PEER: "peer", Side.OUTSIDE: "outside"}
        return f"from-{words[self.source]}-to-{words[self.destination]}"


# In forward, the first that fits: what came in and goes out by the interface is the first.
WAYS: Final = (
    Way("input", Side.PEER, Side.THIS),
    Way("output", Side.THIS, Side.PEER),
    Way("forward", Side.PEER, Side.PEER),
    Way("forward", Side.PEER, Side.OUTSIDE),
    Way("forward", Side.OUTSIDE, Side.PEER),
)


def table_name(interface: str) -> str:
    """The name of the interface's table, of family inet."""
    return f"wgpy-{interface}"


def table(interface: str) -> dict[str, Any]:
    """The table as commands name it."""
    return {"table": {"family": "inet", "name": table_name(interface)}}


def build(
    interface: str,
    link: str,
    rules: Sequence[Rule],
    names: Names,
    present: Contents,
    wall: Wall | None = None,
) -> list[Command]:
    """The commands that make the table, with what is to stand in its sets, in the place of one of
    that name that was left behind.

    `link` is the link's name now. Without rules nobody is judged; there may be a wall all the same.
    Raises RulesError if it would have too many rules.
    """
    head = table(interface)
    writer = _Writer(interface)
    for base in names.bases() if rules else ():
        for version in (4, 6):
            for wide in (False, True):
                writer.set(set_name(base, version, wide=wide), version, wide=wide)
    for hook in _HOOKS:
        writer.chain(hook, hook)
    if wall is not None:
        for chain in wall_chains():
            writer.chain(chain)
        for chain, expression in wall_rules(wall, link):
            writer.rule(chain, *expression)
    for way in WAYS if rules else ():
        _way(writer, link, way, rules, names)
    if len(writer.rules) > MAX_COMPILED:
        raise RulesError(
            f"the rules become {len(writer.rules)} of nftables, of at most {MAX_COMPILED}",
            "join rules, or groups",
        )
    return [
        {"add": head},  # so that the next one never fails
        {"delete": head},
        {"add": head},
        *writer.sets,
        *writer.chains,
        *writer.rules,
        *(changes(interface, {}, present) if rules else ()),
    ]


def changes(interface: str, before: Contents, after: Contents) -> list[Command]:
    """The commands that bring the sets from one state to another; removals come first."""
    return [
        {
            verb: {
                "element": {
                    "family": "inet",
                    "table": table_name(interface),
                    "name": name,
                    "elem": [element(part) for part in sorted(difference)],
                }
            }
        }
        for verb, old, new in (("delete", after, before), ("add", before, after))
        for name, parts in sorted(new.items())
        if (difference := parts - old.get(name, set()))
    ]


class _Writer:
    """Collects sets, chains and rules of one table."""

    def __init__(self, interface: str) -> None:
        self._where = {"family": "inet", "table": table_name(interface)}
        self.sets: list[Command] = []
        self.chains: list[Command] = []
        self.rules: list[Command] = []

    def set(self, name: str, version: int, *, wide: bool) -> None:
        flags = {"flags": ["interval"]} if wide else {}
        kind = "ipv4_addr" if version == 4 else "ipv6_addr"
        self.sets.append({"add": {"set": {**self._where, "name": name, "type": kind, **flags}}})

    def chain(self, name: str, hook: str | None = None) -> None:
        base = {"type": "filter", "hook": hook, "prio": _PRIORITY_FILTER, "policy": "accept"}
        self.chains.append(
            {"add": {"chain": {**self._where, "name": name, **(base if hook else {})}}}
        )

    def rule(self, chain: str, *expression: dict[str, Any]) -> None:
        self.rules.append({"add": {"rule": {**self._where, "chain": chain, "expr": [*expression]}}})

    def lay(self, chain: str, label: str, stages: Sequence[list[Matches]], end: Matches) -> None:
        """Rules that come to `end` where in each stage one of its alternatives holds.

        A stage with several alternatives leads to a chain of its own, named after `label`: so
        their numbers add up, and do not multiply.
        """
        prefix: Matches = []
        for number, stage in enumerate(stages):
            rest = stages[number + 1 :]
            if len(stage) == 1:
                prefix = prefix + stage[0]
                continue
            more = any(stage != [[]] for stage in rest)
            following = f"{label}-{number + 1}" if more else None
            for alternative in stage:
                last = end if following is None else [{"jump": {"target": following}}]
                if _one_version([*prefix, *alternative]):
                    self.rule(chain, *prefix, *alternative, *last)
            if following is None:
                return
            self.chain(following)
            chain, prefix = following, []
        if _one_version(prefix):
            self.rule(chain, *prefix, *end)


def _one_version(matches: Matches) -> bool:
    """Whether a packet can be of the IP version that all of these want; nft refuses others."""
    payloads = [match["match"]["left"].get("payload", {}).get("protocol") for match in matches]
    return not {"ip", "ip6"} <= set(payloads)


def _way(writer: _Writer, link: str, way: Way, rules: Sequence[Rule], names: Names) -> None:
    """The chains of one way, and what leads to them."""
    from_this = way.source is Side.THIS
    judge: list[tuple[str, Rule, list[list[Matches]]]] = []
    for action in (Action.DENY, Action.ALLOW):
        for number, rule in enumerate(rules, 1):
            if rule.action is not action or (from_this and action is Action.ALLOW):
                continue
            sources = list(_alternatives(rule.sources, way.source, "saddr", names))
            targets = list(_alternatives(rule.destinations, way.destination, "daddr", names))
            if sources and targets:
                stages = [_services(rule.services), sources, targets]
                judge.append((f"{way.name}-{number}", rule, stages))
    if from_this and not judge:
        return
    writer.chain(way.name)
    writer.chain(f"judge-{way.name}")
    entrance = [link_is(key, link) for key in _directions(way)]
    writer.rule(way.hook, *entrance, {"goto": {"target": way.name}})
    writer.rule(way.name, state_in("established", "related"), {"accept": None})
    for field, side in (("saddr", way.source), ("daddr", way.destination)):
        if side is Side.PEER:
            for match in _in_sets(MEMBERS, field):
                writer.rule(way.name, match, {"goto": {"target": f"judge-{way.name}"}})
    if not from_this:
        writer.rule(f"judge-{way.name}", state_in("invalid"), {"counter": None}, {"drop": None})
    for label, rule, stages in judge:
        word = "accept" if rule.action is Action.ALLOW else "drop"
        writer.lay(f"judge-{way.name}", label, stages, [{"counter": None}, {word: None}])
    if not from_this:
        writer.rule(f"judge-{way.name}", {"counter": None}, {"drop": None})


def _directions(way: Way) -> Iterator[str]:
    if way.source is Side.PEER:
        yield "iif"
    if way.destination is Side.PEER:
        yield "oif"


def _alternatives(
    selectors: Sequence[Selector], side: Side, field: str, names: Names
) -> Iterator[Matches]:
    """What an end must match: one of these. Nothing at all if no selector can fit on this way."""
    if any(
        selector.kind is Kind.ANY or (selector.kind is Kind.THIS and side is Side.THIS)
        for selector in selectors
    ):
        yield []
        return
    for selector in dict.fromkeys(selectors):
        if side is Side.PEER and selector.kind is Kind.GROUP:
            yield from ([match] for match in _in_sets(names.groups[selector.name], field))
        elif side is Side.PEER and selector.kind is Kind.NAME:
            yield from ([match] for match in _in_sets(names.names[selector.name], field))
        elif side is Side.OUTSIDE and selector.prefix is not None:
            address, length = str(selector.prefix).split("/")
            right = {"prefix": {"addr": address, "len": int(length)}}
            yield [address_is(selector.prefix.version, field, right)]


def _in_sets(base: str, field: str) -> Iterator[dict[str, Any]]:
    for version in (4, 6):
        for wide in (False, True):
            yield address_is(version, field, f"@{set_name(base, version, wide=wide)}")


def _services(services: Sequence[Service]) -> list[Matches]:
    """One alternative a protocol; no match at all for every protocol."""
    if not services:
        return [[]]
    found: list[Matches] = []
    for protocol in Protocol:
        mine = [service for service in services if service.protocol is protocol]
        if not mine:
            continue
        if protocol is Protocol.ICMP:
            kinds = {"set": ["icmp", "ipv6-icmp"]}
            found.append([equals({"meta": {"key": "l4proto"}}, kinds)])
        elif any(service.every_port for service in mine):
            found.append([equals({"meta": {"key": "l4proto"}}, protocol.value)])
        else:
            field = {"payload": {"protocol": protocol.value, "field": "dport"}}
            found.append([equals(field, {"set": _ports(mine)})])
    return found


def _ports(services: Sequence[Service]) -> list[object]:
    """Ports and ranges without overlaps, which nft refuses in a set."""
    joined: list[list[int]] = []
    for first, last in sorted((service.first, service.last) for service in services):
        if joined and first <= joined[-1][1] + 1:
            joined[-1][1] = max(last, joined[-1][1])
        else:
            joined.append([first, last])
    return [first if first == last else {"range": [first, last]} for first, last in joined]
