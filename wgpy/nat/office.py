"""The Office of a daemon: real sockets, names, files and timers for the agent, in the event loop.

`open_ways` is what a Service is given: it makes agent and office with the first settings, so that a
daemon without `[nat]` loads none of this room.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import socket
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from wgpy.device.paths import NatSettings, Transport, TurnUri
from wgpy.device.roads import Roads
from wgpy.device.ways import WayError
from wgpy.ip import address_text
from wgpy.keys import PublicKey, read_key_text
from wgpy.linux import tun, udp
from wgpy.linux.addresses import link_addresses
from wgpy.linux.gateway import gateway
from wgpy.linux.hosts import Hosts, hosts
from wgpy.linux.timerfd import boottime
from wgpy.nat.agent import Agent
from wgpy.nat.errands import Machine
from wgpy.nat.mapping import Changed
from wgpy.nat.place import Place
from wgpy.nat.portmap_run import PortMapper
from wgpy.nat.signal_file import FileSignal
from wgpy.nat.signal_message import sender_of
from wgpy.nat.signal_watch import SignalWatch
from wgpy.nat.turn import TurnClient
from wgpy.nat.turn_events import Event
from wgpy.nat.turn_stream import TurnStream
from wgpy.nat.turn_tls import Trust
from wgpy.nat.turn_wire import StreamServer
from wgpy.protocol.messages import ParseError

_log = logging.getLogger(__name__)

# Names that are looked up at once: a few servers by a few ways.
MAX_LOOKUPS: Final = 32
# Datagrams that one socket gives before the others have their turn.
_READS: Final = 16
_READ_SIZE: Final = 65_535
# fe80::/64, as machines make them (RFC 4291, 2.5.6).
_LINK_LOCAL: Final = b"\xfe\x80"


class UdpSocket:
    """A further UDP socket, read by the loop until the data path gets it."""

    def __init__(self, sock: socket.socket, received: Callable[[bytes, Place], None]) -> None:
        self._socket = sock
        self._received = received
        self.port: int = sock.getsockname()[1]
        asyncio.get_running_loop().add_reader(sock, self._ready)

    def _ready(self) -> None:
        for _ in range(_READS):
            try:
                data, address = self._socket.recvfrom(_READ_SIZE)
            except OSError:
                # Nothing more, or an ICMP error of an earlier send.
                return
            self._received(data, Place(address[0].partition("%")[0], address[1]))
            if self._socket.fileno() < 0:
                return

    def send(self, data: bytes, to: Place, ttl: int, whole: bool) -> None:
        """See Socket."""
        del whole  # Lengths are searched on paths that the data path has.
        with contextlib.suppress(OSError):  # A place that cannot be reached is not told of.
            if ttl:
                v6 = self._socket.family == socket.AF_INET6
                level = socket.IPPROTO_IPV6 if v6 else socket.IPPROTO_IP
                option = socket.IPV6_HOPLIMIT if v6 else socket.IP_TTL
                control = [(level, option, ttl.to_bytes(4, "little"))]
                self._socket.sendmsg([data], control, 0, (to.host, to.port))
            else:
                self._socket.sendto(data, (to.host, to.port))

    def detach(self) -> int:
        """See Socket."""
        asyncio.get_running_loop().remove_reader(self._socket)
        return self._socket.detach()

    def close(self) -> None:
        """See Socket."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


class DaemonOffice:
    """The sockets, names and files of one interface. `link` gives the TUN's name now, `wall_ns` the
    time in nanoseconds, and `wake` is called after what the loop brought, for the timers."""

    def __init__(
        self,
        roads: Roads,
        *,
        link: Callable[[], str],
        wall_ns: Callable[[], int],
        wake: Callable[[], None],
    ) -> None:
        self.agent: Agent
        self._roads = roads
        self._link = link
        self._wall_ns = wall_ns
        self._wake = wake
        self._hosts = Hosts((), (), 1500)
        self._lookups: set[asyncio.Task[None]] = set()
        # Of directories that were used before, and of what was no signal.
        self._counts: Counter[str] = Counter()
        self._signal: FileSignal | None = None
        self._watch: SignalWatch | None = None
        self._mapper: PortMapper | None = None
        self._streams: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()

    # --- The clock and the machine ---

    def now(self) -> float:
        """See Office."""
        return boottime()

    def wall(self) -> float:
        """See Office."""
        return self._wall_ns() / 1e9

    def machine(self) -> Machine:
        """See Office."""
        try:
            self._hosts = hosts()
        except OSError as error:
            _log.error("the machine's addresses are not known: %s", error.strerror or error)
        if self._mapper is not None:
            self._mapper.network_changed()
        found = self._hosts
        return Machine(
            found.addresses,
            self._ways_out(),
            found.tunnels,
            found.mtu,
            self._tunnel_mtu(),
            self._tunnel_v6(),
        )

    def _ways_out(self) -> tuple[str, ...]:
        ways = []
        for family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):  # None that can be known is none.
                found = gateway(family, self._roads.mark)
                if found is not None:
                    source = address_text(found.source)
                    ways.append(f"{address_text(found.address)} from {source} by {found.link}")
        return tuple(ways)

    def _tunnel_mtu(self) -> int:
        try:
            return tun.mtu(self._link())
        except OSError:
            return 0  # It is gone, or in another namespace.

    def _tunnel_v6(self) -> bool:
        """Whether the tunnel's link has an address of IPv6 beside the one that it makes itself."""
        try:
            index = socket.if_nametoindex(self._link())
            addresses = [x.address for x in link_addresses() if x.link == index]
        except OSError:
            return False  # It is gone, or in another namespace.
        return any(len(x) == 16 and x[:2] != _LINK_LOCAL for x in addresses)

    def set_mtu(self, mtu: int) -> None:
        """See Office."""
        try:
            tun.set_mtu(self._link(), mtu)
            _log.info("packets of %d bytes fit every path: that is the MTU from now on", mtu)
        except OSError as error:
            _log.error("the MTU cannot be %d: %s", mtu, error.strerror)

    def log(self, text: str, *, problem: bool = False) -> None:
        """See Office."""
        _log.log(logging.WARNING if problem else logging.INFO, "%s", text)

    # --- Names and sockets ---

    def find(self, name: str, port: int, found: Callable[[list[Place]], None]) -> None:
        """See Office."""
        loop = asyncio.get_running_loop()
        if len(self._lookups) >= MAX_LOOKUPS:
            loop.call_soon(found, [])
            return
        task = loop.create_task(self._find(name, port, found))
        self._lookups.add(task)
        task.add_done_callback(self._lookups.discard)

    async def _find(self, name: str, port: int, found: Callable[[list[Place]], None]) -> None:
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.getaddrinfo(name, port, type=socket.SOCK_DGRAM)
        except OSError as error:
            _log.warning("%s: %s", name, error.strerror)
            answers = []
        found(list(dict.fromkeys(Place(str(x[4][0]), port) for x in answers)))
        self._wake()

    def open_socket(
        self, version: int, received: Callable[[bytes, Place], None]
    ) -> UdpSocket | None:
        """See Office."""

        def came(data: bytes, place: Place) -> None:
            received(data, place)
            self._wake()

        try:
            sock = udp.bind_one(version, self._roads.mark)
        except OSError as error:
            _log.warning("no further UDP socket can be had: %s", error.strerror)
            return None
        return None if sock is None else UdpSocket(sock, came)

    def open_stream(
        self,
        server: Place,
        uri: TurnUri,
        ca_file: str | None,
        client: TurnClient,
        told: Callable[[Event], None],
    ) -> TurnStream:
        """See Office."""
        trust = None
        if uri.transport is Transport.TLS:
            trust = Trust(None if ca_file is None else Path(ca_file))
        stream = TurnStream(
            StreamServer(server, trust, uri.host), client, told, open_socket=self._tcp_socket
        )
        task = asyncio.get_running_loop().create_task(stream.run())
        self._streams.add(task)
        task.add_done_callback(self._streams.discard)
        return stream

    def _tcp_socket(self, family: socket.AddressFamily) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        if self._roads.mark:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self._roads.mark)
        return sock

    def relays_changed(self) -> None:
        """See Office."""
        self.agent.work(boottime())
        self._wake()

    # --- Signals, port mapping, secrets ---

    def set_signal(self, directory: str | None) -> None:
        """See Office."""
        if self._watch is not None:
            self._watch.close()
        self._counts = Counter(self.counters())
        self._signal = self._watch = None
        own = self._roads.own_public
        if directory is None or own is None:
            return
        signal = FileSignal(Path(directory), own)
        signal.listen(self._signalled)
        try:
            self._watch = SignalWatch(signal)
            self._signal = signal
        except OSError as error:
            _log.error("%s: no signals by it: %s", directory, error.strerror)

    def counters(self) -> Mapping[str, int]:
        """See Office."""
        found = Counter(self._counts)
        if self._signal is not None:
            found.update({f"signal_file_{x}": n for x, n in self._signal.counters.items()})
        return found

    def _signalled(self, data: bytes) -> None:
        try:
            sender = sender_of(data)
        except ParseError:
            # Anybody may write into a directory that is shared.
            self._counts["signal_file_no_signal"] += 1
            return
        self.agent.signalled(sender, data)
        self._wake()

    def post(self, to: PublicKey, data: bytes) -> None:
        """See Office."""
        if self._signal is not None:
            self._signal.send(to, data)

    def map_port(self, port: int, wanted: bool) -> None:
        """See Office."""
        own = self._roads.own_public
        if self._mapper is None:
            if not wanted or own is None:
                return
            self._mapper = PortMapper(
                self._mapped,
                # The same after a restart; that others could know it gives them nothing that being
                # on our network does not.
                secret=hashlib.blake2s(bytes(own), person=b"portmap").digest(),
                mark=self._roads.mark,
                except_link=socket.if_nametoindex(self._link()),
            )
        if wanted:
            self._mapper.set_port(port)
            return
        mapper, self._mapper = self._mapper, None
        task = asyncio.get_running_loop().create_task(mapper.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _mapped(self, change: Changed) -> None:
        if self._mapper is not None:
            held = self._mapper.mappings
            service = held[0].service.value if held else ""
            self.agent.mapped(tuple(each.external for each in held), service)
            self._wake()
        del change

    def secrets(self, settings: NatSettings) -> dict[str, bytes]:
        """See Office."""
        found: dict[str, bytes] = {}
        for server in settings.turn:
            for path in (server.password_file, server.secret_file):
                if path is not None:
                    found[path] = read_key_text(path).encode()
            if server.ca_file is not None:
                with open(server.ca_file, "rb") as file:
                    file.read(1)
        if settings.signal is not None:
            _check_directory(Path(settings.signal))
        return found

    async def close(self) -> None:
        """Wait for what is being given back, a second at the most."""
        for task in self._lookups:
            task.cancel()
        waiting = [*self._streams, *self._closing]
        if waiting:
            await asyncio.wait(waiting, timeout=2.0)
        for task in [task for task in waiting if not task.done()]:
            task.cancel()


def _check_directory(directory: Path) -> None:
    """Whether signals can be left there. Raises WayError."""
    try:
        with tempfile.TemporaryFile(dir=directory):
            return
    except PermissionError:
        raise WayError(
            f"{directory}: signal cannot be written there: wgpyd writes below /run/wgpy and "
            "/var/lib/wgpy only"
        ) from None
    except OSError as error:
        raise WayError(f"{directory}: signal: {error.strerror}; make the directory") from None


def open_ways(
    roads: Roads,
    *,
    link: Callable[[], str],
    wall_ns: Callable[[], int],
    wake: Callable[[], None],
) -> tuple[Agent, Callable[[], Awaitable[None]]]:
    """An agent in the running event loop, and what to wait for at its end."""
    office = DaemonOffice(roads, link=link, wall_ns=wall_ns, wake=wake)
    office.agent = Agent(roads, office, os.urandom)
    return office.agent, office.close
