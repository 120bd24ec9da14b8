"""A device in an event loop: descriptors and timers in, calls out.

One thread. The loop watches the data path's descriptor, a timer that counts suspended time, and
the link's events; the UAPI server and name look-ups run beside them.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from wgpy.datapath.choose import open_datapath
from wgpy.datapath.contract import DataPathError, Event, Failed, Offload, SocketError, TunLost
from wgpy.device.device import Device
from wgpy.device.guard import Guard
from wgpy.device.keylog import KeyLog
from wgpy.device.quarantine import LIFE
from wgpy.device.roads import Roads
from wgpy.device.server import UapiServer
from wgpy.device.trust import Trust
from wgpy.device.uapi import Address, DeviceChange, DeviceState
from wgpy.device.wallclock import STATE_DIRECTORY
from wgpy.device.ways import Ways
from wgpy.keys import PublicKey
from wgpy.linux import udp
from wgpy.linux.addresses import addresses
from wgpy.linux.monitor import Change, Monitor
from wgpy.linux.timerfd import BootTimer, boottime, suspended_time
from wgpy.linux.tun import DEFAULT_MTU, Tun
from wgpy.linux.watch import Watch

_log = logging.getLogger(__name__)

# Control datagrams taken in one go: a handshake costs some 0.2 ms, packets wait no longer than 7.
DRAIN_LIMIT = 32
# More than the clocks' own drift between two readings, less than any sleep.
SUSPEND_THRESHOLD = 0.5
# Names that are looked up at once, over all peers.
MAX_LOOKUPS = 8


if TYPE_CHECKING:
    from wgpy.identity.admissions import Admissions as Ledger


def _open_ledger(interface: str) -> "Ledger":
    """The interface's ledger of who came in by credential. Raises LedgerError."""
    from wgpy.identity.admissions import Admissions as Ledger

    return Ledger(STATE_DIRECTORY / f"{interface}.ledger")


# Makes who finds ways, from the device's roads, what tells the link's name now, and what is to be
# called after it did something by itself. With it comes what to wait for at the end.
OpenWays = Callable[
    [Roads, Callable[[], str], Callable[[], None]], tuple[Ways, Callable[[], Awaitable[None]]]
]


class Service:
    """The interface of one TUN. It needs no event loop before `run`."""

    def __init__(
        self,
        tun: Tun,
        *,
        stamp_ns: Callable[[], int] = time.time_ns,
        keylog: KeyLog | None = None,
        open_ways: OpenWays | None = None,
        quarantine_life: float = LIFE,
    ) -> None:
        """`open_ways` makes who finds ways through NATs, when settings ask for it."""
        self._tun = tun
        self._monitor = Monitor(tun)
        self._timer = BootTimer()
        self._suspended = suspended_time()
        self._ended = asyncio.Event()
        self._reason = ""
        self._lookups: dict[PublicKey, asyncio.Task[None]] = {}
        self._datapath = open_datapath(
            tun.fd, vnet_header=tun.vnet_header, mtu=DEFAULT_MTU, clock=boottime
        )
        name = tun.name()
        self._guard = Guard(name, tun.name)
        self._watch = Watch()
        self._device = Device(
            self._datapath,
            udp.bind,
            clock=boottime,
            wall_ns=time.time_ns,
            stamp_ns=stamp_ns,
            ask_name=self._ask_name,
            keylog=keylog,
            guard=self._guard,
            trust=Trust(lambda: _open_ledger(name), stamp_ns),
            follow=self._follow_files,
            ways=None if open_ways is None else lambda roads: self._open_ways(open_ways, roads),
            quarantine_life=quarantine_life,
        )
        # What is to be waited for at the end, once ways were looked for.
        self._leave: Callable[[], Awaitable[None]] | None = None
        self.server = UapiServer(self)
        self._link_seen = False
        self._followed: list[str] = []

    async def run(self) -> str:
        """Serve until the interface ends, then give everything back. Returns why it ended."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._datapath.fileno(), self._datapath_ready)
        loop.add_reader(self._timer.fd, self._timer_ready)
        loop.add_reader(self._monitor.fd, self._monitor_ready)
        loop.add_reader(self._guard.watch.fd, self._guard.watch_ready)
        loop.add_reader(self._watch.fd, self._watch_ready)
        self._guard.clean()
        self._look_at_addresses()
        self._follow_link()
        await self.server.start()
        watch = loop.create_task(self._watch_socket())
        try:
            await self._ended.wait()
        finally:
            watch.cancel()
            for task in self._lookups.values():
                task.cancel()
            await self.server.close()
            for fd in (
                self._datapath.fileno(),
                self._timer.fd,
                self._monitor.fd,
                self._guard.watch.fd,
                self._watch.fd,
            ):
                loop.remove_reader(fd)
            self._device.close()
            if self._leave is not None:
                await self._leave()
            self._guard.stop()
            self._watch.close()
            self._monitor.close()
            self._timer.close()
            self._tun.close()
        return self._reason

    def _open_ways(self, open_ways: OpenWays, roads: Roads) -> Ways:
        ways, self._leave = open_ways(roads, self._tun.name, self._wake)
        return ways

    def _wake(self) -> None:
        """Something happened beside the data path: timers may be others."""
        self._timer.set(self._device.wake())

    async def _watch_socket(self) -> None:
        await self.server.removed()
        self.stop("its control socket was removed")

    def stop(self, reason: str) -> None:
        """End `run`; the first reason counts."""
        self._reason = self._reason or reason
        self._ended.set()

    # --- What the loop calls ---

    def _datapath_ready(self) -> None:
        self._check_suspend()
        events = self._datapath.drain(DRAIN_LIMIT)
        if events:
            for event in events:
                self._note(event)
            self._device.process(events)
            self._timer.set(self._device.wake())

    def _timer_ready(self) -> None:
        self._timer.acknowledge()
        self._check_suspend()
        self._timer.set(self._device.wake())

    def _monitor_ready(self) -> None:
        change = self._monitor.read()
        if change & Change.ROUTES:
            self._device.routes_changed()
            self._look_at_addresses()
        if change & Change.LINK:
            self._follow_link()

    def _watch_ready(self) -> None:
        self._watch.acknowledge()
        # What was a file that is missing may be a directory now, or somewhere else.
        self._follow_files(self._followed)
        self._device.files_changed()
        self._timer.set(self._device.wake())

    # --- What the UAPI server calls ---

    def apply(self, change: DeviceChange) -> None:
        """Carry out a request. Raises UapiError."""
        try:
            self._device.apply(change)
        finally:
            self._timer.set(self._device.wake())

    def state(self, only: PublicKey | None = None) -> DeviceState:
        """What is now; with `only`, of that peer and no others."""
        return self._device.state(only)

    # --- Following the machine ---

    def _check_suspend(self) -> None:
        suspended = suspended_time()
        if suspended - self._suspended > SUSPEND_THRESHOLD:
            _log.info("the machine slept: every key is dropped")
            self._device.slept()
        self._suspended = suspended

    def _follow_link(self) -> None:
        link = self._monitor.state()
        if link is None:
            if self._link_seen:
                self.stop("its link was removed")
            return
        self._link_seen = True
        try:
            self._device.set_mtu(link.mtu)
        except DataPathError as error:
            _log.error("%s: %s", link.name, error)
        # The rules are in our namespace, and cannot follow: nothing passes rather than everything.
        unguarded = link.elsewhere and self._guard.active
        if unguarded:
            _log.error("%s: its firewall cannot follow it to another namespace: down", link.name)
        try:
            self._device.set_up(link.up and not unguarded)
        except OSError as error:
            _log.error("%s: the UDP port cannot be bound: %s", link.name, error.strerror)
        self._timer.set(self._device.wake())

    def _follow_files(self, paths: list[str]) -> None:
        self._followed = paths
        try:
            self._watch.follow(paths)
        except OSError as error:
            _log.error("%s cannot be followed: %s", error.filename, error.strerror)

    def _look_at_addresses(self) -> None:
        link = self._monitor.state()
        try:
            found = addresses(-1 if link is None or link.elsewhere else link.index)
        except OSError as error:
            _log.error("the machine's addresses are not known: %s", error.strerror or error)
            return
        self._device.set_addresses(found.own, found.networks)

    def _note(self, event: Event) -> None:
        if isinstance(event, TunLost):
            self._follow_link()
        elif isinstance(event, Offload):
            state = "on" if event.on else "off"
            _log.warning("%s is %s from now on: %s", event.name, state, os.strerror(event.errno))
        elif isinstance(event, Failed):
            _log.error("the data path failed, peers shake hands afresh: %s", event.text)
        elif isinstance(event, SocketError):
            _log.error("a UDP socket failed: %s", os.strerror(event.errno))

    # --- Names ---

    def _ask_name(self, key: PublicKey, name: str, port: int) -> None:
        if key not in self._lookups and len(self._lookups) < MAX_LOOKUPS:
            look_up = self._look_up(key, name, port)
            self._lookups[key] = asyncio.get_running_loop().create_task(look_up)

    async def _look_up(self, key: PublicKey, name: str, port: int) -> None:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_DGRAM)
        except OSError as error:
            _log.info("%s: %s", name, error.strerror)
            return
        finally:
            del self._lookups[key]
        addresses = list(dict.fromkeys(Address(str(item[4][0]), port) for item in found))
        self._device.resolved(key, addresses)
        self._timer.set(self._device.wake())
