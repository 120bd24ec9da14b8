"""`wgpy mesh init`: found a network here, and coordinate it."""

import argparse
import json
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

from wgpy.cli import print_error
from wgpy.cli.errors import CommandError

if TYPE_CHECKING:
    from wgpy.ip import Prefix
    from wgpy.mesh.founding import Founded, Plan

_INTERFACE: Final = "mesh0"
# Seconds for the agent to start the daemon and the coordinator, which loads its libraries.
_PATIENCE: Final = 20.0
_POLL: Final = 0.1
_UNITS: Final = {"m": 60, "h": 3_600, "d": 86_400}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What a person may decide; the rest is proposed."""

    def add(option: str, metavar: str, text: str, **more: Any) -> None:
        parser.add_argument(f"--{option}", metavar=metavar, help=text, **more)

    add("interface", "INTERFACE", f"the interface of the mesh ({_INTERFACE})", default=_INTERFACE)
    add("name", "NAME", "what this node is called (the host's name)")
    add("domain", "DOMAIN", "what names of nodes end in (mesh)", default="mesh")
    add(
        "endpoint",
        "ENDPOINT",
        "HOST[:PORT] where others reach this machine by UDP; may be repeated (its addresses)",
        action="append",
        default=[],
    )
    add("port", "PORT", "the UDP port to listen on (51820)", type=int, default=51820)
    add("range", "PREFIX", "the IPv4 range of the network (one that is free here)")
    add("groups", "GROUPS", "the groups that nodes may ever have, with commas, at most 16")
    add("routes", "PREFIXES", "what nodes may ever be let route; 0.0.0.0/0 for exits (nothing)")
    add("validity", "DURATION", "how long certificates are valid, such as 7d", default="7d")
    parser.add_argument("--approval", action="store_true", help="let nodes in one by one")
    add("store", "URL", "postgresql://USER@HOST/DATABASE, for several coordinators (a file)")
    add("stun", "SERVER", "a STUN server; may be repeated", action="append", default=[])
    add("turn", "URI", "a TURN server; may be repeated", action="append", default=[])
    add("turn-secret-file", "FILE", "the secret that we share with it")
    add("root", "DIRECTORY", "where the root's key is to be made")
    add("root-passphrase-file", "FILE", "the root's passphrase; else one is made")
    parser.add_argument("--no-start", action="store_true", help="start nothing yet")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Found it; returns the exit code."""
    from wgpy.mesh.addresses import AddressError
    from wgpy.mesh.background import StartError, start
    from wgpy.mesh.founding import FoundingError, found

    try:
        plan = _plan(args)
        founded = found(plan)
    except (AddressError, FoundingError) as error:
        raise CommandError(str(error)) from None
    if not args.no_start:
        try:
            start(args.interface)
        except StartError as error:
            raise CommandError(
                f"the network is made, and its agent does not start: {error}; start it with "
                f"`wgpy mesh run {args.interface}`"
            ) from None
        if not _serves(args.interface):
            print_error(
                f"the coordinator does not answer yet: `wgpy coordinator --check {args.interface}` "
                "tells when it does"
            )
    if args.json:
        print(json.dumps(_as_json(args, founded), indent=2))
    else:
        print(_text(args, plan, founded), end="")
    return 0


def _serves(interface: str) -> bool:
    """Whether the coordinator answers its operator; waits for it, since it is asked next."""
    import time

    from wgpy.mesh.ask import AskError, ask_operator

    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            ask_operator(interface, {"ask": "status"})
            return True
        except AskError:
            if time.monotonic() > deadline:
                return False
        time.sleep(_POLL)


def _plan(args: argparse.Namespace) -> "Plan":
    import os
    from pathlib import Path

    from wgpy.keys import read_password
    from wgpy.mesh import founding
    from wgpy.mesh.founding import Plan

    network = os.urandom(16)
    label = args.name or _host_label()
    secret = None
    if args.turn_secret_file is not None:
        secret = read_password(args.turn_secret_file)
    elif args.turn:
        raise CommandError("--turn wants --turn-secret-file: the secret that the server has too")
    passphrase = None
    if args.root_passphrase_file is not None:
        passphrase = read_password(args.root_passphrase_file).encode()
    return Plan(
        interface=args.interface,
        network=network,
        name=label if label.endswith(f".{args.domain}") else f"{label}.{args.domain}",
        domain=args.domain,
        range4=_range(args.range, network),
        endpoints=_endpoints(args),
        groups=tuple(args.groups.split(",")) if args.groups else founding.GROUPS,
        routes=_prefixes(args.routes),
        validity=duration(args.validity),
        approval=args.approval,
        stun=tuple(args.stun),
        turn=tuple(args.turn),
        turn_secret=secret,
        store=args.store,
        port=args.port,
        root=None if args.root is None else Path(args.root).absolute(),
        passphrase=passphrase,
    )


def _host_label() -> str:
    label = socket.gethostname().partition(".")[0].lower()
    return "".join(x if x.isascii() and x.isalnum() else "-" for x in label).strip("-") or "gate"


def _range(text: str | None, network: bytes) -> "Prefix":
    """The range that was given, or the first that is free here; asked for at a terminal."""
    from wgpy.linux.netlink import NetlinkError
    from wgpy.mesh.addresses import overlap, propose_ranges
    from wgpy.mesh.surroundings import taken

    try:
        routes = taken()
    except NetlinkError as error:
        raise CommandError(str(error)) from None
    proposals = propose_ranges(routes, network)
    best = proposals[0]
    if text is None and sys.stdin is not None and sys.stdin.isatty():
        for proposal in proposals:
            print(f"  {proposal.prefix or 'nothing free'}: {proposal.reason}", file=sys.stderr)
        text = input(f"IPv4 range of the network [{best.prefix}]: ").strip() or None
    if text is None:
        if best.prefix is None:
            raise CommandError(f"no private range is free here: {best.reason}; choose a --range")
        return best.prefix
    (chosen,) = _prefixes(text)
    other = overlap(chosen, routes)
    if other is not None:
        raise CommandError(f"{chosen} meets {other}, which this machine has: choose another")
    return chosen


def _endpoints(args: argparse.Namespace) -> tuple[str, ...]:
    from wgpy.mesh.surroundings import own_addresses

    given = args.endpoint or own_addresses()
    if not given:
        raise CommandError("this machine has no address that others reach; say --endpoint HOST")
    found = [with_port(x, args.port) for x in given]
    return tuple(dict.fromkeys(found))[:4]


def with_port(text: str, port: int) -> str:
    """HOST:PORT, whatever is missing; an address of IPv6 in brackets."""
    if text.count(":") > 1 and not text.startswith("["):
        return f"[{text}]:{port}"
    if text.startswith("["):
        return text if "]:" in text else f"{text}:{port}"
    return text if ":" in text else f"{text}:{port}"


def _prefixes(text: str | None) -> "tuple[Prefix, ...]":
    from wgpy.ip import parse_prefix

    try:
        return tuple(parse_prefix(x.strip()) for x in (text or "").split(",") if x.strip())
    except ValueError as error:
        raise CommandError(str(error)) from None


def duration(text: str) -> int:
    """Seconds of `90m`, `24h` or `7d`. Raises CommandError."""
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not number.isdigit() or len(number) > 6 or not int(number):
        raise CommandError(f"{text!r} is no duration such as 30m, 24h or 7d")
    return int(number) * _UNITS[unit]


def _as_json(args: argparse.Namespace, founded: "Founded") -> dict[str, Any]:
    from wgpy.mesh.settings import settings_to_json

    secret = founded.root_passphrase
    return {
        "interface": args.interface,
        "name": founded.node.name,
        "addresses": [str(x) for x in founded.node.addresses],
        "settings": settings_to_json(founded.settings),
        "root": str(founded.root),
        "root_passphrase_file": None if secret is None else str(secret),
        "store": founded.store,
    }


def _text(args: argparse.Namespace, plan: "Plan", founded: "Founded") -> str:
    from wgpy.ip import address_text

    addresses = " and ".join(address_text(x.address) for x in founded.node.addresses)
    endpoints = ", ".join(plan.endpoints)
    lines = [
        f"{founded.node.name} is there, with {addresses}; it coordinates {plan.domain}.",
        f"Others reach it by UDP at {endpoints}"
        + ("." if args.endpoint else ": say --endpoint where that is not so."),
        "",
        f"The root of the network is in {founded.root}. Nothing here needs it for a year: take it",
        "to a medium that you lock away, and remove it from this machine.",
    ]
    if founded.root_passphrase is not None:
        lines.append(f"Its passphrase is in {founded.root_passphrase}: keep that elsewhere.")
    if not plan.routes:
        lines.append("Nodes cannot be let route anything; `--routes` says what they may.")
    lines += ["", "Let another machine in with `wgpy mesh invite`."]
    return "\n".join(lines) + "\n"
