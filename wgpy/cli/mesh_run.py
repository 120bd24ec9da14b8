"""`wgpy mesh run`: the agent of an interface, in the foreground. systemd and `join` start it."""

import argparse
import logging
import os
import sys
from importlib.util import find_spec

from wgpy.cli.errors import CommandError

_LEVELS = {"verbose": "DEBUG", "debug": "DEBUG", "error": "ERROR", "silent": "CRITICAL"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mesh run`."""
    parser.add_argument(
        "--background", action="store_true", help="say what happens to the system log"
    )
    parser.add_argument("interface", metavar="INTERFACE", help="the interface of the mesh")


def run(args: argparse.Namespace) -> int:
    """Run the agent until a signal, or until the node has left; returns the exit code."""
    from wgpy.quick.root import become_root

    become_root("mesh run")
    check_library()
    from wgpy.mesh.agent import run as run_agent
    from wgpy.mesh.extras import MeshExtras
    from wgpy.mesh.place import Place, PlaceError

    _set_logging(args.interface, background=args.background)
    try:
        run_agent(Place(args.interface), MeshExtras)
    except PlaceError as error:
        raise CommandError(str(error)) from None
    return 0


def check_library() -> None:
    """Raise CommandError where the library is missing that coordinators are spoken to with."""
    if find_spec("aiohttp") is None:
        raise CommandError("a mesh needs aiohttp: `pip install 'wgpy[mesh]'`")


def _set_logging(name: str, *, background: bool) -> None:
    """To standard error; in the background to the system's log, unless LOG_LEVEL asks for it."""
    chosen = os.environ.get("LOG_LEVEL", "")
    level = getattr(logging, _LEVELS.get(chosen, "INFO"))
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if background and not chosen:
        from logging.handlers import SysLogHandler

        handler = logging.NullHandler()
        if os.path.exists("/dev/log"):
            handler = SysLogHandler("/dev/log", SysLogHandler.LOG_DAEMON)
            handler.ident = "wgpy: "
    handler.setFormatter(logging.Formatter(f"{name}: %(levelname)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    # They speak of each message and of each slow callback, which is not for people.
    for chatty in ("aiohttp", "asyncio", "pyroute2"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
