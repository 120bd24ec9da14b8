"""`wgpy ca signer`: an intermediate that signs for coordinators, in a process of its own."""

import argparse
import sys
from typing import TYPE_CHECKING

from wgpy.cli.errors import CommandError

if TYPE_CHECKING:
    from wgpy.mesh.issuer import SignerServer


def serve(args: argparse.Namespace, passphrase: bytes) -> None:
    """Sign what is asked for at the socket, until a signal ends it. Raises CommandError."""
    from pathlib import Path

    from wgpy.mesh.issuer import IssuerError, LocalIssuer, SignerServer

    try:
        server = SignerServer(LocalIssuer(Path(args.directory), passphrase), args.socket)
    except IssuerError as error:
        raise CommandError(str(error)) from None
    print(f"signer: listening at {args.socket}", flush=True)
    try:
        _until_signal(server)
    finally:
        server.close()
    counted = ", ".join(f"{name} {count}" for name, count in server.counters.items())
    print(f"signer: {counted}", file=sys.stderr)


def _until_signal(server: "SignerServer") -> None:
    import select
    import signal
    import socket

    # Signals that are waited for as what comes at a descriptor: none falls between two looks.
    told, tell = socket.socketpair()
    tell.setblocking(False)
    signal.set_wakeup_fd(tell.fileno())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: None)
    try:
        while True:
            ready, _, _ = select.select([server.fileno(), told.fileno()], [], [])
            if told.fileno() in ready:
                return
            server.serve_one()
    finally:
        signal.set_wakeup_fd(-1)
        told.close()
        tell.close()
