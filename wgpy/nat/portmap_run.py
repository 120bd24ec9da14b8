"""Port mapping in an event loop: portmap.py for both families, with sockets, a timer, processes.

The sockets are of their own, bound to our address towards the router; the tunnel's port is only
spoken of.
"""

import asyncio
import logging
import os
import socket
from collections import Counter
from collections.abc import Callable
from typing import Final

from wgpy.linux.timerfd import BootTimer, boottime
from wgpy.nat.mapping import Changed, Mapping
from wgpy.nat.place import Place
from wgpy.nat.portmap import PortMap, State
from wgpy.nat.portmap_look import AtGateway, Network
from wgpy.nat.portmap_wire import FAMILIES, Wire, find_network
from wgpy.nat.upnp import Order, Outcome
from wgpy.nat.upnp_run import Worker, why_no_upnp

_log = logging.getLogger(__name__)

# How long leaving may take.
RELEASE_LIMIT: Final = 1.0
# At each wake-up it is looked whether the router is another one, but not more often than this.
REFRESH_INTERVAL: Final = 10.0


class _Family:
    """The PortMap of one family, and what it needs of the world."""

    def __init__(self, owner: "PortMapper", family: socket.AddressFamily) -> None:
        self._owner = owner
        self._family = family
        # What the sockets were opened for: the router, and the mark of what is sent.
        self._opened: tuple[Network, int] | None = None
        self._wire: Wire | None = None
        self._refreshed_at = float("-inf")
        self.core = PortMap(owner.random, owner.secret, upnp_refusal=owner.upnp_refusal)
        self.worker = Worker(self._done)
        self.counters: Counter[str] = Counter()

    def refresh(self, now: float) -> None:
        """Look which router there is now."""
        self._refreshed_at = now
        mark = self._owner.mark
        network = find_network(self._family, mark, self._owner.except_link)
        if network is None:
            self._close_wire()
        elif self._opened != (network, mark):
            self._close_wire()
            self._open(network, mark)
        self.core.set(network if self._opened else None, self._owner.port, now)
        self.flush()

    def tick(self, now: float) -> None:
        """Do what is due."""
        due = self.core.due()
        if due is None or due > now:
            return
        if now >= self._refreshed_at + REFRESH_INTERVAL:
            self.refresh(now)
        self.core.tick(now)
        self.flush()

    def flush(self) -> None:
        """Do what the core wants."""
        for item in self.core.take():
            if isinstance(item, Changed):
                self._owner.tell(item)
            elif isinstance(item, Order):
                self.worker.take(item)
            elif self._wire is not None:
                self._wire.send(item)

    async def close(self) -> None:
        """Give everything back."""
        await self.worker.close()
        self._close_wire()

    def _open(self, network: Network, mark: int) -> None:
        try:
            self._wire = Wire(network, mark, self._received, self._heard)
        except OSError as error:
            # The address may not be usable yet; its route will say so once more when it is.
            _log.info("no socket from %s: %s", network.own, error.strerror)
            self.counters["no socket"] += 1
            return
        self._opened = (network, mark)

    def _close_wire(self) -> None:
        if self._wire is not None:
            self.counters += self._wire.counters
            self._wire.close()
            self._wire = self._opened = None

    def _received(self, data: bytes, source: Place) -> None:
        self.core.receive(data, source, boottime())
        self._settle()

    def _heard(self, data: bytes, source: Place) -> None:
        self.core.heard(data, source, boottime())
        self._settle()

    def _done(self, order: Order, outcome: Outcome) -> None:
        self.core.outcome(order, outcome, boottime())
        self._settle()

    def _settle(self) -> None:
        self.flush()
        self._owner.rearm()


class PortMapper:
    """Keeps a UDP port of ours reachable, by IPv4 and by IPv6, in the running event loop.

    `changed` is called with each change of a mapping, of either family. `secret`, 32 bytes, is the
    same after a restart (see PortMap). `mark` is the firewall mark of the tunnel's packets, so that
    the way to the router is theirs; `except_link` the index of the tunnel itself.
    """

    def __init__(
        self,
        changed: Callable[[Changed], None],
        *,
        secret: bytes,
        mark: int = 0,
        except_link: int = -1,
        upnp: bool = True,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._changed = changed
        self.secret, self.random = secret, random
        self.mark, self.except_link = mark, except_link
        self.upnp_refusal = why_no_upnp() if upnp else "it is switched off"
        self.port = 0
        self._timer = BootTimer()
        asyncio.get_running_loop().add_reader(self._timer.fd, self._timer_ready)
        self._families = [_Family(self, family) for family in FAMILIES]

    @property
    def mappings(self) -> tuple[Mapping, ...]:
        """What is held now: at most one by IPv4 and one by IPv6; they expire by CLOCK_BOOTTIME."""
        found = (each.core.mapping for each in self._families)
        return tuple(mapping for mapping in found if mapping is not None)

    @property
    def seen(self) -> tuple[AtGateway, ...]:
        """What was last found at the routers."""
        found = (each.core.seen for each in self._families)
        return tuple(at for at in found if at is not None)

    @property
    def double_nat(self) -> str:
        """The router's external address, if it stands behind a NAT too; else empty."""
        return self._families[0].core.double_nat

    @property
    def reason(self) -> str:
        """Why there is no mapping by IPv4, in words; empty if there is."""
        return self._families[0].core.reason

    @property
    def is_asking(self) -> bool:
        """Whether a router was asked, by IPv4, and what it says is not known yet."""
        return self._families[0].core.state in (State.LOOKING, State.ASKING)

    @property
    def counters(self) -> Counter[str]:
        """Of both families."""
        total: Counter[str] = Counter()
        for each in self._families:
            total += each.core.counters + each.counters + each.worker.counters
        return total

    def set_port(self, port: int) -> None:
        """The UDP port of ours that is to be reachable; 0 for none."""
        self.port = port
        self.refresh()

    def set_mark(self, mark: int) -> None:
        """The firewall mark of the tunnel's packets, 0 for none."""
        self.mark = mark
        self.refresh()

    def network_changed(self) -> None:
        """Addresses or routes changed: the router may be another one with the same address."""
        self.refresh()
        for each in self._families:
            each.core.again(boottime())
            each.flush()
        self.rearm()

    def refresh(self) -> None:
        """Look which routers there are; those that are still there are not asked anything."""
        for each in self._families:
            each.refresh(boottime())
        self.rearm()

    async def close(self, limit: float = RELEASE_LIMIT) -> None:
        """Give the mappings back, within `limit` seconds, and everything else with them."""
        for each in self._families:
            each.core.release(boottime())
            each.flush()
        self.rearm()
        end = boottime() + limit
        # Answers come by the same loop; a few looks are simpler than one more thing to be told.
        while boottime() < end and not all(
            each.core.ended and each.worker.idle for each in self._families
        ):
            await asyncio.sleep(0.02)
        for each in self._families:
            await each.close()
        asyncio.get_running_loop().remove_reader(self._timer.fd)
        self._timer.close()

    # --- What the families call ---

    def tell(self, change: Changed) -> None:
        """One of the two changed."""
        if change.mapping is None:
            _log.info("the router forwards no port to us any more: %s", change.reason)
        else:
            external, service = change.mapping.external, change.mapping.service.value
            _log.info("the router forwards %s to us, by %s", external, service)
        self._changed(change)

    def rearm(self) -> None:
        """Set the timer to what is due next."""
        moments = [each.core.due() for each in self._families]
        self._timer.set(min((moment for moment in moments if moment is not None), default=None))

    def _timer_ready(self) -> None:
        self._timer.acknowledge()
        for each in self._families:
            each.tick(boottime())
        self.rearm()
