"""`wgpy mesh`: a network of nodes that find each other. Each action has a module of its own.

The convention is that of commands (wgpy/cli/__init__.py): `add_arguments(parser)`, `run(args)`. A
module of several actions finds which in `args.action`, and while it adds arguments in
`parser.get_default("action")`. All are imported for `wgpy mesh --help`: what is slow to import is
imported inside `run`.
"""

import argparse
import importlib
import sys
from typing import Final, NamedTuple

from wgpy.cli.errors import CommandError


class Action(NamedTuple):
    """Where an action lives, and what it does in one line."""

    module: str
    help: str


ACTIONS: Final[dict[str, Action]] = {
    "map": Action("wgpy.cli.mesh_map", "show who reaches whom, and how"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand for each action."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, (module, text) in ACTIONS.items():
        made = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        made.set_defaults(action=name)
        importlib.import_module(module).add_arguments(made)


def run(args: argparse.Namespace) -> int:
    """Do what was asked; returns the exit code. An agent or coordinator that says no is a line."""
    from wgpy.mesh.ask import AskError

    try:
        code: int = sys.modules[ACTIONS[args.action].module].run(args)
    except AskError as error:
        raise CommandError(str(error)) from None
    return code
