"""`wgpy netcheck`: what stands between this machine and others, and what that means."""

import argparse
import functools
import json
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from wgpy.cli.errors import CommandError
from wgpy.config.load import find, interface_name, load
from wgpy.device import client
from wgpy.device.paths import MAX_STUN_SERVERS
from wgpy.device.servers import STUN_PORT, parse_stun_server
from wgpy.device.uapi import UapiError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `wgpy netcheck`."""
    parser.add_argument(
        "--stun",
        action="append",
        default=[],
        metavar="SERVER",
        help=f"a STUN server, HOST or HOST:PORT, {STUN_PORT} without one; may be repeated",
    )
    parser.add_argument(
        "--lifetime",
        action="store_true",
        help="measure how long a NAT remembers a silent socket, which takes six minutes",
    )
    parser.add_argument(
        "--portal",
        metavar="URL",
        help="an http:// page that answers 204, to see whether a login page stands in between",
    )
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    parser.add_argument(
        "interface",
        nargs="?",
        metavar="INTERFACE",
        help="the interface, or its file, whose servers are asked",
    )


def run(args: argparse.Namespace) -> int:
    """Look, and print it; 0 if UDP gets through, 1 if not."""
    from wgpy.nat import netcheck_services, netcheck_words
    from wgpy.nat.netcheck_run import Options, check

    servers = named(args.stun)
    mark, link = 0, -1
    if args.interface is not None:
        name = args.interface
        told = served(name)
        if told is None:
            path = find(name)
            told, name = configured(path), interface_name(path)
        servers = servers or told
        mark, link = tunnel_of(name)
    if not servers:
        raise CommandError(
            "no STUN server is named; give --stun, or an interface whose file has `stun` in [nat]"
        )
    if args.portal is not None and not args.portal.startswith("http://"):
        raise CommandError(
            f"{args.portal!r} does not begin with http://; nothing else is looked at"
        )
    if args.lifetime and sys.stderr.isatty():
        print("wgpy: this takes up to seven minutes", file=sys.stderr)
    mapper = functools.partial(netcheck_services.find, mark, link)
    report = check(servers, Options(args.lifetime, mark, args.portal, mapper))
    if args.json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        print(netcheck_words.text(report))
    return 0 if report.udp else 1


def named(texts: Sequence[str]) -> Sequence[tuple[str, int]]:
    """The servers of the command line. Raises CommandError."""
    if len(texts) > MAX_STUN_SERVERS:
        raise CommandError(f"{len(texts)} servers; at most {MAX_STUN_SERVERS} are asked")
    try:
        return [parse_stun_server(text) for text in texts]
    except ValueError as error:
        raise CommandError(str(error)) from None


def configured(path: Path) -> Sequence[tuple[str, int]]:
    """The servers of an interface's file, none if it names none. Raises ConfigError."""
    settings = load(path, "quick").config.nat
    return () if settings is None else settings.stun


def served(interface: str) -> Sequence[tuple[str, int]] | None:
    """The servers that an interface has which is up, as those of a mesh; None if it asks none."""
    try:
        nat = client.get(interface).nat
    except UapiError:
        # It is down, or is a file; then the file says it.
        return None
    return (nat.stun or None) if nat is not None else None


def tunnel_of(interface: str) -> tuple[int, int]:
    """The firewall mark by which packets pass by a tunnel that is up, or 0, and its link, or -1.

    A tunnel may be the way to everything; then the check would look at its other end.
    """
    try:
        return client.get(interface).fwmark, socket.if_nametoindex(interface)
    except (UapiError, OSError):
        # It is down, or is not ours to ask.
        return 0, -1
