"""`wgpy status`: every node, and the way to it, now; with `--watch` again and again."""

import argparse
import functools
import json
import os
import shutil
import sys
import time
from typing import Final

from wgpy.cli import status_view, style
from wgpy.cli.errors import CommandError
from wgpy.cli.status_view import View
from wgpy.device import client
from wgpy.device.uapi import UapiError
from wgpy.mesh import ask
from wgpy.mesh.ask import AskError

# What a node keeps of a mesh: where it is, an agent should be.
STATE_DIRECTORY: Final = "/var/lib/wgpy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `wgpy status`."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--watch", action="store_true", help="show it on the whole terminal, until q or Ctrl-C"
    )
    form.add_argument("--json", action="store_true", help="print JSON, times in seconds")
    parser.add_argument(
        "interface", nargs="?", metavar="INTERFACE", help="one interface and not all of them"
    )


def run(args: argparse.Namespace) -> int:
    """Show what `args` asks for; 1 if the one interface is neither up nor has an agent."""
    if args.watch:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise CommandError("--watch needs a terminal; without it, status prints once")
        from wgpy.cli.watch import watch

        return watch(functools.partial(collect, args.interface), _draw)
    views = collect(args.interface)
    now = int(time.time())
    if args.json:
        print(json.dumps({x.interface: status_view.as_json(x) for x in views}, indent=2))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print(style.finish("\n".join(status_view.text(views, now, width))))
    silent = args.interface is not None and all(x.device is None and x.mesh is None for x in views)
    return 1 if silent else 0


def _draw(views: list[View], width: int) -> list[str]:
    return [style.finish(line) for line in status_view.text(views, int(time.time()), width)]


def collect(interface: str | None) -> list[View]:
    """What daemons and agents say now, of one interface or of all."""
    if interface is not None:
        return [look(interface)]
    try:
        names = set(client.list_interfaces())
    except UapiError as error:
        raise CommandError(str(error)) from None
    return [look(name) for name in sorted(names | set(ask.interfaces()))]


def look(interface: str) -> View:
    """One interface; whoever does not answer is told of in it."""
    device, mesh, problems = None, None, []
    try:
        device = client.get(interface)
    except UapiError as error:
        problems.append(str(error))
    try:
        mesh = ask.ask_agent(interface, {"ask": "status"})
    except AskError as error:
        # Without a mesh nobody should answer.
        if has_mesh(interface):
            problems.append(str(error))
    if mesh is not None and device is None:
        # An agent makes the interface; that it is down is said, and `wgpy up` is not the way.
        problems.clear()
    now = int(time.time())
    return status_view.view(interface, device, mesh, now, "; ".join(problems))


def has_mesh(interface: str) -> bool:
    """Whether the interface belongs to a mesh, as far as we may see."""
    return os.path.exists(ask.agent_socket(interface)) or os.path.exists(
        f"{STATE_DIRECTORY}/{interface}.mesh"
    )
