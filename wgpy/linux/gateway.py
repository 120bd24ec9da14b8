"""Through which router packets to the Internet go now, and from which address of ours.

The kernel is asked for the route to an address (RTM_GETROUTE) and not for a table: so policy rules
count, and with the firewall mark of a tunnel's own packets the answer is their route, also where
the tunnel has taken the default route.
"""

import errno
import os
import socket
import struct
from typing import NamedTuple

from wgpy.ip import parse_address
from wgpy.linux.netlink_messages import (
    HEADER,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    attribute,
    attributes,
    messages,
)

_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_MARK = 1, 4, 5, 7, 16
# struct rtmsg: family, lengths of destination and source, tos, table, protocol, scope, type, flags.
_RTMSG = struct.Struct("=BBBBBBBBI")
_RTN_UNICAST = 1
_NUMBER = struct.Struct("=I")

# "The Internet", for the question alone: nothing is ever sent there. These are the addresses that
# RFC 7723 gives to whichever port control server is nearest, so no network routes them elsewhere.
_SOMEWHERE = {
    socket.AF_INET: parse_address("192.0.0.9"),
    socket.AF_INET6: parse_address("2001:1::1"),
}
# There is no way there; the last is a route of type `prohibit`, and EINVAL one of `blackhole`.
_NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL, errno.ESRCH)

_REPLY_LENGTH = 1 << 16
# The answer comes at once; more than this many other messages first means trouble.
_MOST_REPLIES = 16
_TIMEOUT = 2.0


class Gateway(NamedTuple):
    """`address` is the router's and `source` ours towards it, 4 or 16 bytes each; `link` is the
    index of the interface between them."""

    address: bytes
    source: bytes
    link: int


def gateway(family: socket.AddressFamily, mark: int = 0, except_link: int = -1) -> Gateway | None:
    """The router of a family, AF_INET or AF_INET6, for packets with this firewall mark.

    None where there is no route, where the next hop has no address of its own (a point-to-point
    link), and where the way leads through the link of index `except_link`. Works on the network
    namespace of the thread. Raises OSError.
    """
    body = _ask(family, mark)
    if body is None:
        return None
    *_, kind, _flags = _RTMSG.unpack_from(body)
    found = attributes(body[_RTMSG.size :])
    router, source = found.get(_RTA_GATEWAY), found.get(_RTA_PREFSRC)
    link = _NUMBER.unpack_from(found.get(_RTA_OIF, bytes(_NUMBER.size)))[0]
    if kind != _RTN_UNICAST or router is None or source is None or link == except_link:
        return None
    return Gateway(router, source, link)


def _ask(family: socket.AddressFamily, mark: int) -> bytes | None:
    """The body of the kernel's answer; None if there is no route."""
    target = _SOMEWHERE[family]
    request = _RTMSG.pack(family, len(target) * 8, 0, 0, 0, 0, 0, 0, 0)
    request += attribute(_RTA_DST, target)
    if mark:
        request += attribute(_RTA_MARK, _NUMBER.pack(mark))
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE) as asking:
        asking.settimeout(_TIMEOUT)
        header = HEADER.pack(HEADER.size + len(request), _RTM_GETROUTE, NLM_F_REQUEST, 1, 0)
        asking.send(header + request)
        for _ in range(_MOST_REPLIES):
            for answer, body in messages(asking.recv(_REPLY_LENGTH), 1):
                if answer == _RTM_NEWROUTE:
                    return body
                if answer == NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", body)
                    if -code in _NO_ROUTE:
                        return None
                    raise OSError(-code, os.strerror(-code))
    raise OSError("the kernel does not say which route it takes")
