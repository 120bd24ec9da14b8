"""`wgpy mesh backup`, and `wgpy mesh restored` for when a copy was put back."""

import argparse
import time
from pathlib import Path
from typing import Final

from wgpy.cli.errors import CommandError

# A network that grows by more between two copies says so.
JOINED: Final = 100
_MOST_JOINED: Final = 65_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mesh backup` or of `mesh restored`."""
    if parser.get_default("action") == "backup":
        parser.add_argument("file", metavar="FILE", help="the copy, a tar archive; a new file")
        parser.add_argument(
            "interface", nargs="?", metavar="INTERFACE", help="of which mesh, if there are several"
        )
        return
    parser.add_argument(
        "--joined",
        type=_number,
        default=JOINED,
        metavar="NUMBER",
        help=f"how many nodes may have joined since the copy was made, {JOINED} without this",
    )
    parser.add_argument("interface", metavar="INTERFACE", help="the interface of the mesh")


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) > _MOST_JOINED:
        raise argparse.ArgumentTypeError(f"a number up to {_MOST_JOINED} is wanted")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Make a copy, or let one that was put back go on; returns the exit code."""
    from wgpy.mesh.copies import CopyError
    from wgpy.quick.root import become_root

    become_root(f"mesh {args.action}")
    try:
        if args.action == "backup":
            _backup(args)
        else:
            _restored(args)
    except CopyError as error:
        raise CommandError(str(error)) from None
    return 0


def _backup(args: argparse.Namespace) -> None:
    from wgpy.mesh import copies

    interface = args.interface or _only_place()
    apart = copies.make(interface, Path(args.file))
    print(f"{args.file} has all that {interface} is: keep it as you keep the root.")
    if apart is not None:
        print(f"The store is not in it: pg_dump copies {apart}.")


def _only_place() -> str:
    """The one interface that is in a mesh, whether its agent runs or not."""
    from wgpy.mesh.coordinator_files import STATE_DIRECTORY

    found = sorted(path.parent.name for path in STATE_DIRECTORY.glob("*.mesh/mesh.json"))
    if len(found) != 1:
        several = ", ".join(name.removesuffix(".mesh") for name in found)
        raise CommandError(
            f"several meshes are here: name one of {several}" if found else "no mesh is here"
        )
    return found[0].removesuffix(".mesh")


def _restored(args: argparse.Namespace) -> None:
    from wgpy.mesh import ask, copies

    try:
        ask.ask_operator(args.interface, {"ask": "status"})
    except ask.AskError:
        place = copies.restored(args.interface, time.time(), args.joined)
    else:
        raise CommandError(f"the coordinator of {args.interface} runs; end it first")
    print(f"{place}: open invitations are taken back, {args.joined} addresses set aside. Who was")
    print("removed after the copy was made has to be removed once more.")
