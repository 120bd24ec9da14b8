"""Which services of the routers forward ports, for `wgpy netcheck`: what portmap_probe.py finds."""

import asyncio

from wgpy.nat.netcheck_report import PortMapping
from wgpy.nat.portmap_probe import probe


def find(mark: int, except_link: int) -> tuple[PortMapping, ...]:
    """Ask the routers, which takes 2 s, or 20 s with one that is slow. Nothing is mapped.

    Those that refuse are left out. `mark` and `except_link` are those of the tunnel. It blocks, and
    has an event loop of its own.
    """
    services = asyncio.run(probe(mark=mark, except_link=except_link))
    return tuple(
        PortMapping(service.value, at.network.gateway, at.external)
        for at in (services.v4, services.v6)
        if at is not None
        for service, found in at.found.items()
        if not found.refusal
    )
