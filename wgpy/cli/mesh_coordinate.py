"""`wgpy mesh coordinate`: one more coordinator, on the database of those that there are."""

import argparse

from wgpy.cli.errors import CommandError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is needed of another coordinator, and where this one is."""
    parser.add_argument(
        "--from",
        dest="source",
        metavar="DIRECTORY",
        required=True,
        help="a copy of /var/lib/wgpy/INTERFACE.mesh/coordinator of another coordinator",
    )
    parser.add_argument(
        "--store", metavar="URL", required=True, help="postgresql://USER@HOST/DATABASE, theirs"
    )
    parser.add_argument(
        "--endpoint",
        metavar="ENDPOINT",
        action="append",
        required=True,
        help="HOST[:PORT] where others reach this machine by UDP; may be repeated",
    )
    parser.add_argument(
        "--port", metavar="PORT", type=int, default=51820, help="the UDP port to listen on (51820)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("interface", metavar="INTERFACE", help="the interface of the mesh")


def run(args: argparse.Namespace) -> int:
    """Make it one; returns the exit code."""
    import json
    from pathlib import Path

    from wgpy.cli.mesh_init import with_port
    from wgpy.mesh.founding import FoundingError
    from wgpy.mesh.promoting import promote

    endpoints = tuple(with_port(x, args.port) for x in args.endpoint)
    try:
        name = promote(args.interface, Path(args.source), args.store, endpoints, args.port)
    except FoundingError as error:
        raise CommandError(str(error)) from None
    if args.json:
        print(json.dumps({"name": name, "endpoints": endpoints}, indent=2))
        return 0
    print(f"{name} coordinates too, at {', '.join(endpoints)}, when its agent has started again:")
    print(f"`systemctl restart wgpy-mesh@{args.interface}`, or end `wgpy mesh run` and run it.")
    print(f"Remove {args.source} now: whoever has it can be any node.")
    return 0
