"""The networks that this machine reaches by links of its own, and hearing that they may change."""

import contextlib
import errno
import socket
from typing import Final, NamedTuple

from wgpy.ip import Prefix
from wgpy.linux.netlink import Netlink
from wgpy.linux.routes import main_routes

# RTMGRP_LINK, _IPV4_ROUTE, _IPV6_ROUTE (linux/rtnetlink.h). With an address comes its route.
_GROUPS: Final = 0x1 | 0x40 | 0x400
_LENGTH: Final = 1 << 16


class OwnNetwork(NamedTuple):
    """A destination of the main table, the name of its link, and whether a gateway is between."""

    prefix: Prefix
    link: str
    gateway: bool


def own_networks(net: Netlink, interface: str) -> list[OwnNetwork]:
    """What the main table sends elsewhere than through `interface`; no default routes."""
    names: dict[int, str] = {}
    found = []
    for route in main_routes(net):
        for index in route.links[:1]:
            if index not in names:
                link = net.link_by_index(index)
                names[index] = "" if link is None else link.name
            if route.prefix.length and names[index] not in ("", interface):
                found.append(OwnNetwork(route.prefix, names[index], route.gateway))
    return found


class NetworkWatch:
    """A netlink socket (`fd`, non-blocking) that hears of links and routes."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._socket.bind((0, _GROUPS))
        self.fd = self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def acknowledge(self) -> None:
        """Read what waits. What it says is not looked at: the caller compares."""
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    self._socket.recv(_LENGTH)
                except OSError as error:
                    # More came than there was room for: that is a change as well.
                    if error.errno != errno.ENOBUFS:
                        raise
