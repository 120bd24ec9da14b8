"""The nftables tables of an exit: on the machine that uses one, and on the one that is one.

The guard, a table `wgpy-exit-IF` of family inet, refuses everything that would leave otherwise than
through the tunnel, sent by this machine or forwarded by it: whatever becomes of routes, rules, the
link and the daemons, nothing leaks. It lets pass:

- what goes through the tunnel and the loopback, and the daemon's own packets, by their mark;
- what never goes further than the link: its local addresses, limited broadcast, multicast of the
  link, neighbour discovery;
- the local prefixes that it is told.

Refused packets are counted, and their senders told, so that programs try another way at once.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from wgpy.ip import Prefix, mask, parse_prefix

# Where nftables(8) has its priorities `filter` and `srcnat`.
_PRIORITY_FILTER, _PRIORITY_SRCNAT = 0, 100
# RFC 3927, RFC 5771 (local network control), RFC 2365 (local scope: UPnP), RFC 919; RFC 4291
# (link-local, multicast of the node and of the link). Routers keep them within the site.
_OF_THE_LINK: Final = (
    *map(parse_prefix, ("169.254.0.0/16", "224.0.0.0/24", "239.255.0.0/16")),
    parse_prefix("255.255.255.255/32"),
    *map(parse_prefix, ("fe80::/10", "ff01::/16", "ff02::/16")),
)
# RFC 4861; its receivers want a hop limit of 255, which no router leaves.
_NEIGHBOURS: Final = (
    *("nd-router-solicit", "nd-router-advert", "nd-neighbor-solicit", "nd-neighbor-advert"),
)


def guard_name(interface: str) -> str:
    """The name of the guard's table."""
    return f"wgpy-exit-{interface}"


def masquerade_name(interface: str) -> str:
    """The name of the table of a node that offers routes and masquerades."""
    return f"wgpy-nat-{interface}"


def guard_commands(interface: str, mark: int, local: Sequence[Prefix]) -> list[dict[str, Any]]:
    """The guard's table, instead of the one that is there, in one transaction without a gap."""
    where = {"family": "inet", "table": guard_name(interface)}
    kept = without_covered((*_OF_THE_LINK, *local))
    commands = _anew(where)
    for version, kind in ((4, "ipv4_addr"), (6, "ipv6_addr")):
        elements = [_prefix(x) for x in kept if x.version == version]
        commands.append(
            {
                "add": {
                    "set": {
                        **where,
                        "name": f"local{version}",
                        "type": kind,
                        "flags": ["interval"],
                        "elem": elements,
                    }
                }
            }
        )
    rules: list[list[dict[str, Any]]] = [
        [_match({"meta": {"key": "oifname"}}, {"set": ["lo", interface]}), {"accept": None}],
        [_match({"meta": {"key": "mark"}}, mark), {"accept": None}],
        [
            _match(_field("icmpv6", "type"), {"set": list(_NEIGHBOURS)}),
            _match(_field("ip6", "hoplimit"), 255),
            {"accept": None},
        ],
        [_match(_field("ip", "daddr"), "@local4"), {"accept": None}],
        [_match(_field("ip6", "daddr"), "@local6"), {"accept": None}],
        [{"counter": None}, {"reject": {"type": "icmpx", "expr": "admin-prohibited"}}],
    ]
    for hook in ("output", "forward"):
        commands.append(_chain(where, hook, "filter", hook, _PRIORITY_FILTER))
        commands += [{"add": {"rule": {**where, "chain": hook, "expr": x}}} for x in rules]
    return commands


def masquerade_commands(
    interface: str, pairs: Iterable[tuple[Prefix, Prefix]]
) -> list[dict[str, Any]]:
    """The table of who offers: what goes from each source to its destination, and not into the
    tunnel, leaves with the address of the link that it leaves by."""
    where = {"family": "inet", "table": masquerade_name(interface)}
    commands = _anew(where)
    commands.append(_chain(where, "postrouting", "nat", "postrouting", _PRIORITY_SRCNAT))
    for source, destination in pairs:
        family = "ip" if source.version == 4 else "ip6"
        expression: list[dict[str, Any]] = [
            _match({"meta": {"key": "oifname"}}, interface, "!="),
            _match(_field(family, "saddr"), _prefix(source)),
        ]
        if destination.length:
            expression.append(_match(_field(family, "daddr"), _prefix(destination)))
        expression.append({"masquerade": None})
        rule = {**where, "chain": "postrouting", "expr": expression}
        commands.append({"add": {"rule": rule}})
    return commands


def without_covered(prefixes: Iterable[Prefix]) -> list[Prefix]:
    """Each prefix that is within no other: a set of intervals takes no overlaps."""
    kept: list[Prefix] = []
    for prefix in sorted(set(prefixes), key=lambda x: (x.length, x)):
        if not any(
            len(x.address) == len(prefix.address) and mask(prefix.address, x.length) == x.address
            for x in kept
        ):
            kept.append(prefix)
    return sorted(kept)


def _anew(where: dict[str, str]) -> list[dict[str, Any]]:
    table = {"table": {"family": where["family"], "name": where["table"]}}
    # Added first, so that deleting it never fails.
    return [{"add": table}, {"delete": table}, {"add": table}]


def _chain(where: dict[str, str], name: str, kind: str, hook: str, priority: int) -> dict[str, Any]:
    chain = {"name": name, "type": kind, "hook": hook, "prio": priority, "policy": "accept"}
    return {"add": {"chain": {**where, **chain}}}


def _match(left: dict[str, Any], right: Any, operator: str = "==") -> dict[str, Any]:
    return {"match": {"op": operator, "left": left, "right": right}}


def _field(protocol: str, name: str) -> dict[str, Any]:
    return {"payload": {"protocol": protocol, "field": name}}


def _prefix(prefix: Prefix) -> Any:
    text = str(prefix).partition("/")[0]
    if prefix.length == len(prefix.address) * 8:
        return text
    return {"prefix": {"addr": text, "len": prefix.length}}
