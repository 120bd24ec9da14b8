"""Routes and policy rules: what `ip route` and `ip rule` do, for what a tunnel needs of them."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wgpy.ip import Prefix, parse_address
from wgpy.linux.netlink import Link, Netlink, NetlinkError, family_of

# rtnetlink(7): the routing table of everyday routes, and of the machine's own addresses.
MAIN_TABLE = 254
# linux/rtnetlink.h: RTPROT_BOOT, what ip(8) writes, and the scope of a route with no gateway.
_PROTOCOL_BOOT = 3
_SCOPE_LINK = 253
_SCOPE_UNIVERSE = 0
# RTN_UNICAST: a gateway or a direct route, and not our own addresses or broadcasts.
_UNICAST = 1
# linux/rtnetlink.h: RTN_UNREACHABLE. Its metric is after that of any route through a link.
_UNREACHABLE = 7
UNREACHABLE_METRIC = 20_000
# linux/fib_rules.h: FIB_RULE_INVERT, FR_ACT_TO_TBL; a rule that suppresses nothing says all ones.
_RULE_INVERT = 2
_TO_TABLE = 1
_NO_SUPPRESSION = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Route:
    """A route out of one interface, with no gateway, in a numbered table."""

    prefix: Prefix
    table: int

    def __str__(self) -> str:
        return str(self.prefix)


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy rule that looks in `table`, of IP `version` 4 or 6.

    With `not_mark`: only for packets without that firewall mark. With `suppress_default`: routes
    of length 0 do not count (`suppress_prefixlength 0`).
    """

    version: int
    priority: int
    table: int
    not_mark: int | None = None
    suppress_default: bool = False

    def words(self) -> str:
        """The rule as ip(8) writes it, without its priority."""
        selector = "" if self.not_mark is None else f"not fwmark {self.not_mark} "
        table = "main" if self.table == MAIN_TABLE else str(self.table)
        suppress = " suppress_prefixlength 0" if self.suppress_default else ""
        return f"{selector}table {table}{suppress}"


def add_route(net: Netlink, link: Link, route: Route) -> None:
    """Add a route through a link. A route that is there already, through this link, is no error.

    Raises NetlinkError; with EEXIST the message names the interface that has the route.
    """
    try:
        _change_route(net, "add", link, route)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
        holder = _holder(net, route)
        if holder is not None and holder.index == link.index:
            return
        name = "another" if holder is None else holder.name
        raise NetlinkError(error.code, f"{route} goes through {name} already") from None


def delete_route(net: Netlink, link: Link, route: Route) -> None:
    """Delete a route through a link; nothing is done when there is none. Raises NetlinkError."""
    try:
        _change_route(net, "del", link, route)
    except NetlinkError as error:
        if error.code not in (errno.ESRCH, errno.ENOENT):
            raise


def _change_route(net: Netlink, verb: str, link: Link, route: Route) -> None:
    version = route.prefix.version
    net.ask(
        f"ip -{version} route {verb} {route} dev {link.name} table {route.table}",
        "route",
        verb,
        family=family_of(version),
        dst=str(route.prefix),
        oif=link.index,
        table=route.table,
        proto=_PROTOCOL_BOOT,
        scope=_SCOPE_LINK if version == 4 else _SCOPE_UNIVERSE,
    )


def add_unreachable(net: Netlink, route: Route) -> None:
    """Say that a prefix is unreachable where the table has no other route for it.

    One that is there already is no error. Raises NetlinkError.
    """
    try:
        _change_unreachable(net, "add", route)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


def delete_unreachable(net: Netlink, route: Route) -> None:
    """Take that away; nothing is done when it is not there. Raises NetlinkError."""
    try:
        _change_unreachable(net, "del", route)
    except NetlinkError as error:
        if error.code not in (errno.ESRCH, errno.ENOENT):
            raise


def _change_unreachable(net: Netlink, verb: str, route: Route) -> None:
    version = route.prefix.version
    net.ask(
        f"ip -{version} route {verb} unreachable {route} table {route.table}",
        "route",
        verb,
        family=family_of(version),
        dst=str(route.prefix),
        type=_UNREACHABLE,
        priority=UNREACHABLE_METRIC,
        table=route.table,
        proto=_PROTOCOL_BOOT,
    )


def _holder(net: Netlink, route: Route) -> Link | None:
    """The link of the route of that very prefix and table."""
    for message in _routes(net, route.prefix.version, route.table):
        index = message.get_attr("RTA_OIF")
        if _destination(message, route.prefix.version) == route.prefix and index:
            return net.link_by_index(index)
    return None


def _routes(net: Netlink, version: int, table: int) -> list[Any]:
    messages = net.ask(f"routes of table {table}", "get_routes", family=family_of(version))
    return [message for message in messages if message.get_attr("RTA_TABLE") == table]


def _destination(message: Any, version: int) -> Prefix:
    text = message.get_attr("RTA_DST")
    address = parse_address(text) if text else bytes(4 if version == 4 else 16)
    return Prefix(address, message["dst_len"])


def prefixes_through(net: Netlink, link: Link) -> frozenset[Prefix]:
    """The destinations that the main table sends through a link."""
    return frozenset(
        _destination(message, version)
        for version in (4, 6)
        for message in _routes(net, version, MAIN_TABLE)
        if message.get_attr("RTA_OIF") == link.index
    )


def destinations(net: Netlink) -> frozenset[Prefix]:
    """The destinations of all unicast routes, in whatever table."""
    return frozenset(
        _destination(message, version)
        for version in (4, 6)
        for message in net.ask("routes", "get_routes", family=family_of(version))
        if message["type"] == _UNICAST
    )


@dataclass(frozen=True, slots=True)
class MainRoute:
    """A route of the main table: where to, the indices of its links, and whether by a gateway."""

    prefix: Prefix
    links: tuple[int, ...]
    gateway: bool


def main_routes(net: Netlink) -> list[MainRoute]:
    """The routes of the main table that lead to a link, of both IP versions."""
    found = []
    for version in (4, 6):
        for message in _routes(net, version, MAIN_TABLE):
            if message["type"] != _UNICAST:
                continue
            hops = message.get_attr("RTA_MULTIPATH") or ()
            index = message.get_attr("RTA_OIF")
            links = (index,) if index else tuple(hop["oif"] for hop in hops)
            gateway = any(message.get_attr(x) for x in ("RTA_GATEWAY", "RTA_VIA")) or bool(hops)
            found.append(MainRoute(_destination(message, version), links, gateway))
    return found


def tables_in_use(net: Netlink) -> frozenset[int]:
    """The tables that hold a route or that a rule looks in."""
    tables: set[int] = set()
    for version in (4, 6):
        for message in net.ask("routes", "get_routes", family=family_of(version)):
            tables.add(message.get_attr("RTA_TABLE"))
        tables.update(rule.table for rule in rules(net, version))
    return frozenset(tables)


def path_mtu(net: Netlink, host: str) -> int | None:
    """The MTU in bytes of the way to a numeric address (a %scope may follow); None with no way."""
    plain, _, scope = host.partition("%")
    extra: dict[str, int] = {}
    if scope:
        link = net.link(scope)
        if link is None:
            return None
        extra["oif"] = link.index
    try:
        found = net.ask(f"ip route get {host}", "route", "get", dst=plain, **extra)
    except NetlinkError:
        return None  # unreachable now: this address says nothing of the MTU
    return _mtu_of(net, found[0]) if found else None


def default_route_mtu(net: Netlink) -> int | None:
    """The MTU in bytes of the main table's default route, IPv4's before IPv6's; None with none."""
    for version in (4, 6):
        for message in _routes(net, version, MAIN_TABLE):
            if message["dst_len"] == 0 and (mtu := _mtu_of(net, message)):
                return mtu
    return None


def _mtu_of(net: Netlink, message: Any) -> int | None:
    metrics = message.get_attr("RTA_METRICS")
    mtu = metrics.get_attr("RTAX_MTU") if metrics is not None else None
    if mtu:
        return int(mtu)
    index = message.get_attr("RTA_OIF")
    link = net.link_by_index(index) if index else None
    return None if link is None else link.mtu


def rules(net: Netlink, version: int) -> list[Rule]:
    """The policy rules of one IP version, in their order.

    A selector that `Rule` has no word for is left out of what it says: use this list to choose
    priorities and tables, and to find rules of our own by priority.
    """
    found = []
    for message in net.ask("ip rule", "get_rules", family=family_of(version)):
        suppress = message.get_attr("FRA_SUPPRESS_PREFIXLEN")
        inverted = message["flags"] & _RULE_INVERT
        found.append(
            Rule(
                version=version,
                priority=message.get_attr("FRA_PRIORITY") or 0,
                table=message.get_attr("FRA_TABLE") or message["table"],
                not_mark=message.get_attr("FRA_FWMARK") if inverted else None,
                suppress_default=suppress == 0,
            )
        )
    return found


def add_rule(net: Netlink, rule: Rule) -> None:
    """Add a rule; the very same one there already is no error. Raises NetlinkError."""
    try:
        _change_rule(net, "add", rule)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


def delete_rule(net: Netlink, rule: Rule) -> None:
    """Delete this very rule, priority included; nothing is done when there is none."""
    if rule in rules(net, rule.version):
        _change_rule(net, "del", rule)


def _change_rule(net: Netlink, verb: str, rule: Rule) -> None:
    options: dict[str, int] = {}
    if rule.not_mark is not None:
        options.update(FRA_FWMARK=rule.not_mark, FRA_FWMASK=0xFFFFFFFF, flags=_RULE_INVERT)
    options["FRA_SUPPRESS_PREFIXLEN"] = 0 if rule.suppress_default else _NO_SUPPRESSION
    net.ask(
        f"ip -{rule.version} rule {verb} {rule.words()}",
        "rule",
        verb,
        family=family_of(rule.version),
        priority=rule.priority,
        table=rule.table,
        action=_TO_TABLE,
        **options,
    )


def ipv6_is_off() -> bool:
    """Whether this kernel, or this namespace, has no IPv6."""
    path = "/proc/sys/net/ipv6/conf/all/disable_ipv6"
    if not os.path.exists(path):
        return True
    return Path(path).read_text().strip() == "1"
