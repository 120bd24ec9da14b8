"""`wgpy mesh guard`: close the exit of a node that has chosen one, before there is any network."""

import argparse

from wgpy.cli.errors import CommandError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `wgpy mesh guard`."""
    parser.add_argument("interface", metavar="INTERFACE", help="the interface of the mesh")


def run(args: argparse.Namespace) -> int:
    """Close it, where the node has chosen one; returns the exit code."""
    from wgpy.mesh import routes
    from wgpy.mesh.place import Place, PlaceError
    from wgpy.quick.root import become_root

    become_root("mesh guard")
    try:
        membership = Place(args.interface).membership()
        if membership.exit is not None and membership.ended is None:
            routes.close_exit(args.interface)
    except (PlaceError, routes.RoutesError) as error:
        raise CommandError(str(error)) from None
    return 0
