"""`wgpy coordinator`: serve a mesh, in the foreground, beside the daemon of an interface."""

import argparse

from wgpy.cli.errors import CommandError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `wgpy coordinator`."""
    parser.add_argument("interface", metavar="INTERFACE", help="the interface of the mesh")
    parser.add_argument(
        "--store",
        metavar="URL",
        help="postgresql://USER@HOST/DATABASE or a file, in the place of the one that it has",
    )
    parser.add_argument(
        "--check", action="store_true", help="only ask whether it serves: exit with 0 if it does"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    import asyncio

    from wgpy.mesh.ask import AskError, ask_operator
    from wgpy.mesh.coordinator_files import FilesError
    from wgpy.mesh.coordinator_run import logging_to_stderr, serve

    if args.check:
        try:
            found = ask_operator(args.interface, {"ask": "status"})
        except AskError as error:
            raise CommandError(str(error)) from None
        print(f"coordinating {found['domain']}: {found['nodes']} nodes, {found['connected']} here")
        return 0
    try:
        with logging_to_stderr():
            asyncio.run(serve(args.interface, args.store))
    except FilesError as error:
        raise CommandError(str(error)) from None
    return 0
