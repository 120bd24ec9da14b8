"""Which services of port mapping the routers of this machine have: a look, with sockets."""

import asyncio
import contextlib
import logging
import socket
from collections import Counter

from wgpy.linux.timerfd import boottime
from wgpy.nat.place import Place
from wgpy.nat.portmap_look import AtGateway, Extent, Look, Services
from wgpy.nat.portmap_wire import FAMILIES, Wire, find_network
from wgpy.nat.upnp import Order, Outcome
from wgpy.nat.upnp_run import Worker, why_no_upnp
from wgpy.protocol.messages import ParseError

_log = logging.getLogger(__name__)


async def probe(*, mark: int = 0, except_link: int = -1, upnp: bool = True) -> Services:
    """Ask the routers of both families; nothing is mapped.

    `mark` is the firewall mark of the packets whose router is meant, `except_link` the index of a
    link that is no way out, as that of a tunnel. Takes 2 s, and longer only if a gateway of UPnP is
    slow to say its address: 20 s at the most.
    """
    refusal = why_no_upnp() if upnp else "it is switched off"
    looks = [_probe(family, mark, except_link, refusal) for family in FAMILIES]
    v4, v6 = await asyncio.gather(*looks)
    return Services(v4, v6)


async def _probe(
    family: socket.AddressFamily, mark: int, except_link: int, refusal: str
) -> AtGateway | None:
    network = find_network(family, mark, except_link)
    if network is None:
        return None
    counters: Counter[str] = Counter()
    look = Look(
        network, boottime(), counters=counters, extent=Extent.EVERYTHING, upnp_refusal=refusal
    )
    woken = asyncio.Event()

    def received(data: bytes, source: Place) -> None:
        if source.host == network.gateway:
            try:
                look.receive(data, source, boottime())
            except ParseError as error:
                counters[error.reason] += 1
            woken.set()

    def done(order: Order, outcome: Outcome) -> None:
        look.outcome(order, outcome)
        woken.set()

    worker = Worker(done)
    try:
        wire = Wire(network, mark, received)
    except OSError as error:
        _log.info("no socket from %s: %s", network.own, error.strerror)
        return None
    try:
        while not look.finished:
            for item in look.take():
                if isinstance(item, Order):
                    worker.take(item)
                else:
                    wire.send(item)
            due = look.due()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if due is None else max(due - boottime(), 0)):
                    await woken.wait()
            woken.clear()
            look.tick(boottime())
    finally:
        await worker.close()
        wire.close()
    return look.seen
