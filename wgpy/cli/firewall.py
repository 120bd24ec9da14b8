"""`wgpy firewall`: the rules of an interface and who is subject to them, and what they say."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence

from wgpy.cli.errors import CommandError
from wgpy.device import client
from wgpy.device.uapi import DeviceState, PeerState
from wgpy.firewall import explain
from wgpy.firewall.rules import RulesError
from wgpy.firewall.verdict import Member, verdict
from wgpy.firewall.wall import Wall, wall_verdict
from wgpy.identity.claims import Kind
from wgpy.identity.derived import quarantine_range
from wgpy.linux.udp import is_local


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`show` and `test`, and what each takes."""
    parser.add_argument("action", choices=("show", "test"), metavar="show|test")
    parser.add_argument(
        "interface", nargs="?", metavar="INTERFACE", help="the interface; for show, all without it"
    )
    parser.add_argument(
        "connection",
        nargs="*",
        metavar="CONNECTION",
        help="for test: who begins it, who is reached, and PORT[/tcp|/udp] or icmp",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.epilog = "An end is `this` (this machine), a peer's name or public key, or an address."


def run(args: argparse.Namespace) -> int:
    """Print what was asked for; 1 if `test` finds a connection denied, else 0."""
    if args.action == "show" and args.connection:
        raise CommandError("`firewall show` takes one interface; see `wgpy firewall --help`")
    if args.action == "test" and len(args.connection) != 3:
        raise CommandError("`firewall test` takes an interface, two ends and a port")
    names = client.list_interfaces() if args.interface is None else [args.interface]
    try:
        code, text = answer(args, {name: client.get(name) for name in names})
    except RulesError as error:
        raise CommandError(str(error)) from None
    sys.stdout.write(text)
    return code


def answer(args: argparse.Namespace, states: Mapping[str, DeviceState]) -> tuple[int, str]:
    """The exit code and the text for these interfaces. Raises RulesError."""
    if args.action == "test":
        (state,) = states.values()
        return _test(args.connection, state, as_json=args.json)
    if args.json:
        value = {x: explain.show_json(s.firewall, members(s)) for x, s in states.items()}
        return 0, json.dumps(value, indent=2) + "\n"
    parts = (
        f"{name}:\n{_wall_text(state)}{explain.show_text(state.firewall, members(state))}\n"
        for name, state in states.items()
    )
    return 0, "".join(parts)


def _wall_text(state: DeviceState) -> str:
    """A line about those who enrol, where somebody may."""
    standing = wall(state)
    if standing is None:
        return ""
    return f"  quarantine: {standing.range} reaches {standing.port}/tcp of this, and nothing else\n"


def wall(state: DeviceState) -> Wall | None:
    """The wall around those who enrol at an interface."""
    authority = state.authority
    if authority is None or not authority.enrol:
        return None
    return Wall(quarantine_range(authority.network), authority.enrol_port)


def _test(words: Sequence[str], state: DeviceState, *, as_json: bool) -> tuple[int, str]:
    everybody = members(state)
    source, destination = (explain.find_end(text, everybody, is_local) for text in words[:2])
    target = words[2]
    protocol, port = explain.parse_target(target)
    standing = wall(state)
    found = None
    if standing is not None:
        found = wall_verdict(standing, source, destination, protocol, port)
    if found is None:
        found = verdict(state.firewall.rules, source, destination, protocol, port)
    arguments = (state.firewall, source, destination, target, found)
    if as_json:
        text = json.dumps(explain.verdict_json(*arguments), indent=2)
    else:
        text = explain.verdict_text(*arguments)
    return 0 if found.allowed else 1, text + "\n"


def members(state: DeviceState) -> list[Member]:
    """The peers of an interface, as the rules see them."""
    names = {key: name for name, key in state.firewall.peers.items()}
    return [
        explain.member(
            peer.public_key.base64(),
            names,
            credential=_credential(peer),
            addresses=tuple(peer.allowed_ips),
        )
        for peer in state.peers
    ]


def _credential(peer: PeerState) -> tuple[str, frozenset[str]] | None:
    """Name and groups of a peer that came in by its credential."""
    if not peer.admitted or peer.claims is None or peer.claims.kind is Kind.ENROLMENT:
        return None
    return peer.claims.name, frozenset(peer.claims.groups)
