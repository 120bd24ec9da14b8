"""The addresses that this machine has now, and the networks that it is attached to."""

import os
import socket
import struct
from typing import NamedTuple

from wgpy.ip import Prefix, mask
from wgpy.linux.netlink_messages import (
    HEADER,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    attributes,
    messages,
)

_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
# struct ifaddrmsg: family, prefix length, flags, scope, index.
_IFADDR = struct.Struct("=BBBBI")
_REPLY_LENGTH = 1 << 16
# A dump of 10,000 addresses comes in a hundred or so; a kernel that never says "done" ends here.
_MOST_REPLIES = 10_000
_TIMEOUT = 5.0


class Addresses(NamedTuple):
    """`own` are whole addresses of every link; `networks` those of the links but one."""

    own: tuple[Prefix, ...]
    networks: tuple[Prefix, ...]


class LinkAddress(NamedTuple):
    """One address (4 or 16 bytes) of a link, its prefix length and its flags; `network` is the
    other end's address at a point-to-point link. `link` is an interface index."""

    address: bytes
    network: bytes
    length: int
    flags: int
    link: int


def link_addresses() -> list[LinkAddress]:
    """Every address of every link, in the kernel's order. Raises OSError."""
    found: list[LinkAddress] = []
    for body in _dump():
        _family, length, flags, _scope, index = _IFADDR.unpack_from(body)
        present = attributes(body[_IFADDR.size :])
        # At a point-to-point link IFA_ADDRESS is the other end's.
        address = present.get(_IFA_LOCAL) or present.get(_IFA_ADDRESS)
        if address is not None:
            network = present.get(_IFA_ADDRESS, address)
            found.append(LinkAddress(address, network, length, flags, index))
    return found


def addresses(except_link: int) -> Addresses:
    """Ask the kernel (RTM_GETADDR). The networks of the link of index `except_link` are left out.

    Works on the network namespace of the thread. Raises OSError.
    """
    own: set[Prefix] = set()
    networks: set[Prefix] = set()
    for found in link_addresses():
        own.add(Prefix(found.address, len(found.address) * 8))
        if found.link != except_link:
            networks.add(Prefix(mask(found.network, found.length), found.length))
    return Addresses(tuple(sorted(own)), tuple(sorted(networks)))


def _dump() -> list[bytes]:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE) as asking:
        asking.settimeout(_TIMEOUT)
        request = _IFADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        flags = NLM_F_REQUEST | NLM_F_DUMP
        length = HEADER.size + len(request)
        asking.send(HEADER.pack(length, _RTM_GETADDR, flags, 1, 0) + request)
        found: list[bytes] = []
        for _ in range(_MOST_REPLIES):
            for answer, body in messages(asking.recv(_REPLY_LENGTH), 1):
                if answer == NLMSG_DONE:
                    return found
                if answer == NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", body)
                    raise OSError(-code, os.strerror(-code))
                if answer == _RTM_NEWADDR:
                    found.append(body)
    raise OSError("the kernel's list of addresses does not end")
