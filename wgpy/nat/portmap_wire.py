"""The sockets of port mapping: towards one router, in the running event loop."""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable
from typing import Final

from wgpy.ip import address_text
from wgpy.linux.gateway import gateway
from wgpy.nat.mapping import ANNOUNCE_PORT, ANNOUNCE_V4, ANNOUNCE_V6
from wgpy.nat.place import Place, Send
from wgpy.nat.portmap_look import Network

_log = logging.getLogger(__name__)

FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
# The longest datagram of the three protocols has 1,500 bytes.
_LENGTH: Final = 2_048
# Datagrams that are read before others have their turn.
_AT_ONCE: Final = 16
# Searches go no farther than the home's own routers (UPnP Device Architecture 1.1, 1.3.2).
_SSDP_TTL: Final = 2


def find_network(family: socket.AddressFamily, mark: int, except_link: int) -> Network | None:
    """The router of a family and our address towards it; None where there is none."""
    try:
        found = gateway(family, mark, except_link)
    except OSError as error:
        _log.info("the router is not known: %s", error.strerror or error)
        return None
    if found is None:
        return None
    return Network(address_text(found.address), address_text(found.source), found.link)


class Wire:
    """The sockets towards one router: one that asks, and one that hears what it says unasked.

    `received` and `heard` are called with each datagram of the two. Raises OSError.
    """

    def __init__(
        self,
        network: Network,
        mark: int,
        received: Callable[[bytes, Place], None],
        heard: Callable[[bytes, Place], None] | None = None,
    ) -> None:
        self._network = network
        self._family = socket.AF_INET6 if network.is_v6 else socket.AF_INET
        self.counters: Counter[str] = Counter()
        self._readers: list[socket.socket] = []
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._asking = socket.socket(self._family, kind)
        try:
            if mark:
                self._asking.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            if not network.is_v6:
                own = socket.inet_aton(network.own)
                self._asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
                self._asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _SSDP_TTL)
            self._asking.bind(self._address(network.own, 0))
        except OSError:
            self._asking.close()
            raise
        self._read(self._asking, received)
        if heard is not None:
            self._listen(kind, heard)

    def _listen(self, kind: int, heard: Callable[[bytes, Place], None]) -> None:
        """Every machine is in these groups already. Bound to the group, the socket hears nothing
        that is sent to the machine alone."""
        listening = socket.socket(self._family, kind)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            group = ANNOUNCE_V6 if self._network.is_v6 else ANNOUNCE_V4
            listening.bind(self._address(group, ANNOUNCE_PORT))
        except OSError:
            # Another program has the port for itself; then a reboot is found by the next check.
            self.counters["deaf"] += 1
            listening.close()
            return
        self._read(listening, heard)

    def send(self, send: Send) -> None:
        """Send a datagram; what cannot be sent is lost, as on any wire."""
        try:
            self._asking.sendto(send.data, self._address(send.to.host, send.to.port))
        except OSError:
            self.counters["unsent"] += 1

    def close(self) -> None:
        """Give the sockets back."""
        loop = asyncio.get_running_loop()
        for each in self._readers:
            loop.remove_reader(each)
            each.close()
        self._readers.clear()

    def _address(self, host: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
        if not self._network.is_v6:
            return host, port
        # An address of the link alone says nothing without the link.
        is_local = host.startswith(("fe80:", "ff02:"))
        return host, port, 0, self._network.link if is_local else 0

    def _read(self, source: socket.socket, call: Callable[[bytes, Place], None]) -> None:
        self._readers.append(source)
        asyncio.get_running_loop().add_reader(source, self._ready, source, call)

    def _ready(self, source: socket.socket, call: Callable[[bytes, Place], None]) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, address = source.recvfrom(_LENGTH)
            except BlockingIOError:
                return
            except OSError:
                self.counters["unread"] += 1
                return
            call(data, Place(str(address[0]), int(address[1])))
            # What was called may have closed the sockets.
            if source not in self._readers:
                return
