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
    "init": Action("wgpy.cli.mesh_init", "found a network here, and coordinate it"),
    "coordinate": Action("wgpy.cli.mesh_coordinate", "coordinate a network from here too"),
    "join": Action("wgpy.cli.mesh_join", "make this machine a node, by one pasted line"),
    "leave": Action("wgpy.cli.mesh_join", "be no node any more"),
    "run": Action("wgpy.cli.mesh_run", "keep this node in its network, in the foreground"),
    "map": Action("wgpy.cli.mesh_map", "show who reaches whom, and how"),
    "invite": Action("wgpy.cli.mesh_operator", "make a joining line, which lets a machine in"),
    "invites": Action("wgpy.cli.mesh_operator", "show the invitations, or take one back"),
    "nodes": Action("wgpy.cli.mesh_operator", "show every node, and what it may"),
    "approve": Action("wgpy.cli.mesh_operator", "let a node in that waits for it"),
    "remove": Action("wgpy.cli.mesh_operator", "take a node out, and revoke what it has"),
    "rights": Action("wgpy.cli.mesh_operator", "change a node's groups, and what it may route"),
    "settings": Action("wgpy.cli.mesh_operator", "show what holds for the network, or change it"),
    "routes": Action("wgpy.cli.mesh_routes", "show, take and offer subnets and exits"),
    "backup": Action("wgpy.cli.mesh_backup", "copy all that a node or a coordinator is"),
    "restored": Action("wgpy.cli.mesh_backup", "let a coordinator go on from a copy"),
    "guard": Action("wgpy.cli.mesh_guard", "close this node's exit until its agent is there"),
    "restore": Action("wgpy.cli.mesh_restore", "put back what an agent left that was killed"),
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
