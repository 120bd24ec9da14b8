"""`wgpy portmap`: which services of port mapping the router has; or keep a port mapped by them."""

import argparse
import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any, Final

from wgpy.cli import style
from wgpy.cli.errors import CommandError
from wgpy.linux.timerfd import boottime

if TYPE_CHECKING:
    from wgpy.nat.mapping import Mapping
    from wgpy.nat.portmap_look import AtGateway, Services

# How often it is looked whether the machine has another router; nobody tells a command.
_INTERVAL: Final = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `wgpy portmap`."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--port",
        type=int,
        metavar="PORT",
        help="keep this UDP port of ours mapped until a signal ends it, and give it back then",
    )


def run(args: argparse.Namespace) -> int:
    """Look, and return 1 if there is no service; or keep a port until a signal ends it."""
    import asyncio

    if args.port is not None:
        if not 0 < args.port <= 65_535:
            raise CommandError(f"{args.port} is no port; write a number from 1 to 65535")
        asyncio.run(_keep(args.port, as_json=args.json))
        return 0
    from wgpy.nat.portmap_probe import probe

    services = asyncio.run(probe())
    print(json.dumps(as_json(services), indent=2) if args.json else report(services))
    return 0 if any(at and at.found for at in (services.v4, services.v6)) else 1


# --- Looking ---


def report(services: "Services") -> str:
    """What was found, for a person."""
    parts = [_family(at) for at in (services.v4, services.v6) if at is not None]
    return "\n\n".join(parts) or "This machine has no router: there is no default route."


def _family(at: "AtGateway") -> str:
    from wgpy.nat.mapping import Service

    lines = [f"router {at.network.gateway}, and we are {at.network.own}"]
    for service in Service:
        found = at.found.get(service)
        if found is not None:
            lines.append(f"  {service.value:<8} {found.refusal or 'yes'}{_since(found.epoch)}")
        elif at.network.is_v6 and service is not Service.PCP:
            # These know no IPv6.
            continue
        elif service is Service.UPNP and at.upnp_refusal:
            lines.append(f"  {service.value:<8} not asked: {at.upnp_refusal}")
        else:
            lines.append(f"  {service.value:<8} no")
    if at.external:
        lines.append(f"  its external address is {at.external}")
    lines.append(f"  {_meaning(at)}")
    return "\n".join(lines)


def _since(epoch: int | None) -> str:
    return f", up for {style.finish(style.leading(epoch))}" if epoch else ""


def _meaning(at: "AtGateway") -> str:
    """What it is good for, in one sentence."""
    if at.is_double_nat:
        return "That address is private: there is another NAT, and a port of this one is of no use."
    if any(not found.refusal for found in at.found.values()):
        return "A port can be asked for, so that peers reach this machine directly."
    if at.found:
        return "It forwards no ports now."
    return "It forwards no ports, or has that switched off."


def as_json(services: "Services") -> dict[str, Any]:
    """The same for programs."""
    return {"ipv4": _family_json(services.v4), "ipv6": _family_json(services.v6)}


def _family_json(at: "AtGateway | None") -> dict[str, Any] | None:
    if at is None:
        return None
    return {
        "router": at.network.gateway,
        "own": at.network.own,
        "external": at.external or None,
        "double_nat": at.is_double_nat,
        "services": {
            service.value: {"epoch": found.epoch, "refusal": found.refusal or None}
            for service, found in at.found.items()
        },
        "upnp_description": at.upnp or None,
        "upnp_not_asked": at.upnp_refusal or None,
    }


# --- Keeping ---


class _Teller:
    """Prints where the port is reachable, each time that this is another place."""

    def __init__(self, port: int, *, as_json: bool) -> None:
        self._port = port
        self._as_json = as_json
        self._told: tuple[object, ...] = ()

    def tell(self, mappings: "tuple[Mapping, ...]", reason: str) -> None:
        """What is now; `reason` says why there is nothing by IPv4."""
        now = (*((x.external, x.service) for x in mappings), "" if mappings else reason)
        if now == self._told:
            return
        self._told = now
        print(self._json(mappings, reason) if self._as_json else self._words(mappings, reason))
        sys.stdout.flush()

    def _words(self, mappings: "tuple[Mapping, ...]", reason: str) -> str:
        places = [f"at {x.external} by {x.service.value}" for x in mappings]
        if not places:
            return f"UDP port {self._port} is not reachable through the router: {reason}"
        return f"UDP port {self._port} is reachable {', and '.join(places)}"

    def _json(self, mappings: "tuple[Mapping, ...]", reason: str) -> str:
        listed = [
            {
                "external": str(x.external),
                "service": x.service.value,
                "router": x.gateway,
                "seconds": None if x.expires is None else int(x.expires - boottime()),
            }
            for x in mappings
        ]
        fields = {"port": self._port, "mappings": listed, "reason": reason or None}
        return json.dumps(fields)


async def _keep(port: int, *, as_json: bool) -> None:
    import asyncio
    import os
    import signal

    from wgpy.nat.portmap_run import PortMapper

    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    teller = _Teller(port, as_json=as_json)
    # A mapping is told at once, and that there is none when everything was asked.
    mapper = PortMapper(
        lambda change: teller.tell(mapper.mappings, mapper.reason), secret=os.urandom(32)
    )
    mapper.set_port(port)
    while not ended.is_set():
        if not mapper.is_asking:
            teller.tell(mapper.mappings, mapper.reason)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_INTERVAL):
                await ended.wait()
        mapper.refresh()
    await mapper.close()
