"""Where this machine can be reached by others, and which of its links are tunnels."""

import fcntl
import socket
import struct
from typing import Final, NamedTuple

from wgpy.ip import Prefix, address_text, mask
from wgpy.linux.addresses import link_addresses

_SIOCGIFFLAGS, _SIOCGIFMTU, _SIOCGIFHWADDR = 0x8913, 0x8921, 0x8927
_IFF_UP, _IFF_LOOPBACK, _IFF_RUNNING = 0x1, 0x8, 0x40
# What tunnels have in the place of a hardware address (linux/if_arp.h: ARPHRD_NONE, ARPHRD_TUNNEL,
# ARPHRD_TUNNEL6, ARPHRD_SIT, ARPHRD_IPGRE).
_TUNNELS: Final = frozenset((0xFFFE, 768, 769, 776, 778))
# linux/if_addr.h: an address that is to be used no more, is not checked yet, or is taken twice.
_USELESS: Final = 0x08 | 0x20 | 0x40
_ETHERNET_MTU: Final = 1500

_SHORT = struct.Struct("16sH22x")
_INT = struct.Struct("16si20x")


class Hosts(NamedTuple):
    """`addresses` are numeric, of links that are up and lead outside, and `mtu` is the least MTU of
    these; `tunnels` are the networks of links that are tunnels, ours too."""

    addresses: tuple[str, ...]
    tunnels: tuple[Prefix, ...]
    mtu: int


def hosts() -> Hosts:
    """Ask the kernel, in the network namespace of the thread. Raises OSError."""
    addresses: list[str] = []
    tunnels: set[Prefix] = set()
    mtus: list[int] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        links: dict[int, tuple[bool, int] | None] = {}
        for found in link_addresses():
            if found.link not in links:
                links[found.link] = _link(sock, found.link)
            link = links[found.link]
            if link is None or found.flags & _USELESS:
                continue
            is_tunnel, mtu = link
            if is_tunnel:
                tunnels.add(Prefix(mask(found.address, found.length), found.length))
            else:
                addresses.append(address_text(found.address))
                mtus.append(mtu)
    return Hosts(tuple(addresses), tuple(sorted(tunnels)), min(mtus, default=_ETHERNET_MTU))


def _link(sock: socket.socket, index: int) -> tuple[bool, int] | None:
    """Whether a link is a tunnel, and its MTU; None if it is down, loopback or gone."""
    try:
        name = socket.if_indextoname(index).encode()
        flags: int = _SHORT.unpack(fcntl.ioctl(sock, _SIOCGIFFLAGS, _SHORT.pack(name, 0)))[1]
        kind: int = _SHORT.unpack(fcntl.ioctl(sock, _SIOCGIFHWADDR, _SHORT.pack(name, 0)))[1]
        mtu: int = _INT.unpack(fcntl.ioctl(sock, _SIOCGIFMTU, _INT.pack(name, 0)))[1]
    except OSError:
        return None
    if flags & _IFF_LOOPBACK or not (flags & _IFF_UP and flags & _IFF_RUNNING):
        return None
    return kind in _TUNNELS, mtu
