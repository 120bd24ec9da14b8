"""`wgpy stun-server`: tell machines behind NATs where they are seen."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wgpy.cli.errors import CommandError
from wgpy.device.servers import STUN_PORT, parse_stun_server
from wgpy.ip import address_text, parse_address

if TYPE_CHECKING:
    from wgpy.nat.place import Place
    from wgpy.nat.stun_serve import StunServer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `wgpy stun-server`."""
    parser.add_argument(
        "--listen",
        action="append",
        required=True,
        metavar="ADDRESS",
        help=f"an address of this machine, with :PORT if that is not {STUN_PORT}; may be repeated",
    )
    parser.add_argument(
        "--other-port",
        type=int,
        metavar="PORT",
        help="the second port of each address: the next one without this, 0 for none",
    )
    parser.add_argument(
        "--any-client",
        action="store_true",
        help="also answer requests that are shorter than their answer, as those of others are",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    import asyncio

    from wgpy.nat.stun_serve import StunServer

    try:
        server = StunServer(places(args.listen, args.other_port), any_client=args.any_client)
    except ValueError as error:
        raise CommandError(str(error)) from None
    asyncio.run(_serve(server))
    counted = ", ".join(f"{name} {count}" for name, count in sorted(server.counters.items()))
    print(f"stun-server: {counted or 'nobody asked'}", file=sys.stderr)
    return 0


def places(listen: Sequence[str], other_port: int | None) -> list["Place"]:
    """Each address and port to be bound. Raises CommandError."""
    from wgpy.nat.place import Place

    found: list[Place] = []
    for text in listen:
        try:
            host, port = parse_stun_server(text)
        except ValueError as error:
            raise CommandError(str(error)) from None
        try:
            packed = parse_address(host)
        except ValueError:
            raise CommandError(f"{host!r} is no address; write one of this machine's") from None
        if not any(packed):
            raise CommandError(f"{host} is every address; write one of this machine's")
        second = port + 1 if other_port is None else other_port
        if second == port or not 0 <= second <= 65_535:
            raise CommandError(f"{second} cannot be the second port beside {port}")
        ports = (port, second) if second else (port,)
        found += (Place(address_text(packed), number) for number in ports)
    if len(set(found)) != len(found):
        raise CommandError("an address is there twice")
    return found


async def _serve(server: "StunServer") -> None:
    import asyncio
    import signal

    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    server.start()
    # Said when a signal already ends it as it should.
    print("stun-server: listening on", ", ".join(map(str, server.bound)), flush=True)
    await ended.wait()
    server.close()
