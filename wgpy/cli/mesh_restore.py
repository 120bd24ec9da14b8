"""`wgpy mesh restore`: put back what an agent that was killed left on this machine."""

import argparse

from wgpy.cli.errors import CommandError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `wgpy mesh restore`."""
    parser.add_argument(
        "--names",
        action="store_true",
        help="only the resolver; an exit stays closed for the next agent",
    )
    parser.add_argument("interface", metavar="INTERFACE", help="the interface of the mesh")


def run(args: argparse.Namespace) -> int:
    """Put back names and routes, as far as there are any; returns the exit code."""
    from wgpy.mesh.ask import AskError, ask_agent
    from wgpy.quick.root import become_root

    become_root("mesh restore")
    try:
        ask_agent(args.interface, {"ask": "status"})
    except AskError:
        return _restore(args.interface, names_only=args.names)
    raise CommandError(
        f"the agent of {args.interface} runs, and keeps what it has made; end it first"
    )


def _restore(interface: str, *, names_only: bool) -> int:
    from wgpy.mesh import names, routes

    failures = []
    try:
        names.restore(interface)
    except names.NamesError as error:
        failures.append(str(error))
    if not names_only:
        try:
            routes.restore(interface)
        except routes.RoutesError as error:
            failures.append(str(error))
    if failures:
        raise CommandError("; ".join(failures))
    return 0
