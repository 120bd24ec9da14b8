"""Rules and verdicts for people and for programs: what `wgpy firewall` prints."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wgpy.firewall.rules import Protocol, Rule, RulesError, Settings
from wgpy.firewall.verdict import End, Member, Side, Verdict, owner
from wgpy.ip import Prefix, address_text, parse_address


def find_end(text: str, members: Sequence[Member], is_ours: Callable[[bytes], bool]) -> End:
    """The end that `this`, a name, a public key or an address means.

    `is_ours` says whether this machine has an address. Raises RulesError for what is none of them.
    """
    if text == "this":
        return End(Side.THIS)
    named = [member for member in members if text in (member.name, member.key)]
    if len(named) == 1:
        return End(Side.PEER, named[0])
    if named:
        raise RulesError(f"{text!r} is the name of {len(named)} peers", "give an address instead")
    try:
        address = parse_address(text)
    except ValueError:
        raise RulesError(
            f"{text!r} is no address and no peer that is here now", "write this for this machine"
        ) from None
    if is_ours(address):
        return End(Side.THIS, address=address)
    member = owner(members, address)
    return End(Side.OUTSIDE if member is None else Side.PEER, member, address)


def parse_target(text: str) -> tuple[Protocol | None, int | None]:
    """`PORT`, `PORT/tcp`, `PORT/udp` or `icmp`; a port alone is TCP's. Raises RulesError."""
    if text == "icmp":
        return Protocol.ICMP, None
    port, slash, name = text.partition("/")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    if not 1 <= number <= 65_535 or (slash and name not in ("tcp", "udp")):
        raise RulesError(f"{text!r} is no port", "write PORT, PORT/tcp, PORT/udp or icmp")
    return Protocol(name or "tcp"), number


def rule_number(settings: Settings, rule: Rule) -> int:
    """The place of a rule in the list, from 1."""
    return next(number for number, other in enumerate(settings.rules, 1) if other is rule)


def verdict_text(
    settings: Settings, source: End, destination: End, target: str, found: Verdict
) -> str:
    """What `wgpy firewall test` prints."""
    word = "allowed" if found.allowed else "denied"
    lines = [f"{word}: {source} to {destination}, {target}"]
    if found.rule is None:
        lines.append(f"  {found.reason}")
    else:
        where = f" ({found.rule.origin})" if found.rule.origin else ""
        lines.append(f"  by rule {rule_number(settings, found.rule)}{where}: {found.rule}")
    return "\n".join(lines)


def verdict_json(
    settings: Settings, source: End, destination: End, target: str, found: Verdict
) -> dict[str, Any]:
    """The same for programs; `rule` is null where the default decided."""
    rule = found.rule
    return {
        "allowed": found.allowed,
        "reason": found.reason,
        "rule": None if rule is None else _rule_json(rule_number(settings, rule), rule),
        "source": _end_json(source),
        "destination": _end_json(destination),
        "target": target,
    }


def _end_json(end: End) -> dict[str, Any]:
    return {
        "side": end.side.name.lower(),
        "address": None if end.address is None else address_text(end.address),
        "member": None if end.member is None else _member_json(end.member),
    }


def _rule_json(number: int, rule: Rule) -> dict[str, Any]:
    return {
        "number": number,
        "action": rule.action.value,
        "from": list(map(str, rule.sources)),
        "to": list(map(str, rule.destinations)),
        "ports": list(map(str, rule.services)),
        "origin": rule.origin,
    }


def _member_json(member: Member) -> dict[str, Any]:
    return {
        "publicKey": member.key,
        "name": member.name or None,
        "groups": sorted(member.groups),
        "addresses": list(map(str, member.addresses)),
        "judged": member.judged,
    }


def show_text(settings: Settings, members: Sequence[Member]) -> str:
    """What `wgpy firewall show` prints of one interface: its rules, then who is subject to them."""
    if not settings.rules:
        return "  no rules: nothing is judged"
    lines = []
    for number, rule in enumerate(settings.rules, 1):
        lines.append(f"  {number}: {rule}" + (f"  ({rule.origin})" if rule.origin else ""))
    judged = [member for member in members if member.judged]
    for member in judged:
        addresses = ", ".join(map(str, member.addresses)) or "(none)"
        groups = f" ({', '.join(sorted(member.groups))})" if member.groups else ""
        lines.append(f"  member {member.name or member.key}{groups}: {addresses}")
    if not judged:
        lines.append("  no members")
    return "\n".join(lines)


def show_json(settings: Settings, members: Sequence[Member]) -> dict[str, Any]:
    """The same for programs."""
    return {
        "rules": [_rule_json(number, rule) for number, rule in enumerate(settings.rules, 1)],
        "members": [_member_json(member) for member in members if member.judged],
    }


def member(
    key: str,
    configured: Mapping[str, str],
    *,
    credential: tuple[str, frozenset[str]] | None,
    addresses: tuple[Prefix, ...],
) -> Member:
    """A peer as the rules see it: by the name and groups of its credential or, without one, by the
    name that `configured` has for its public key, and else not at all."""
    if credential is not None:
        name, groups = credential
        return Member(key, name, groups, addresses)
    named = configured.get(key)
    return Member(key, named or "", frozenset(), addresses, judged=named is not None)
