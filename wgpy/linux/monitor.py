"""Following the TUN's link, up, down, MTU and name, also in another network namespace.

`wgpyd` never changes namespace. The TUN's descriptor says in which one its link is; rtnetlink
answers for any namespace that has an identifier in ours (RTM_GETLINK with IFLA_TARGET_NETNSID),
and a socket with NETLINK_LISTEN_ALL_NSID hears their events (rtnetlink(7), netlink(7)). A few
messages of fixed shape: pyroute2 would triple the memory of an idle daemon.
"""

import contextlib
import errno
import os
import socket
import struct
from dataclasses import dataclass
from enum import Flag, auto

from wgpy.linux.netlink_messages import (
    HEADER,
    NLM_F_ACK,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    attribute,
    attributes,
    messages,
)
from wgpy.linux.tun import Tun

_SOL_NETLINK = 270
_NETLINK_LISTEN_ALL_NSID = 8

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_DELADDR = 20, 21
_RTM_NEWROUTE, _RTM_DELROUTE = 24, 25
_RTM_NEWNSID, _RTM_GETNSID = 88, 90

# RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE.
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400

_IFLA_IFNAME, _IFLA_MTU, _IFLA_TARGET_NETNSID = 3, 4, 46
_NETNSA_NSID, _NETNSA_FD = 1, 3
_NSID_NOT_ASSIGNED = -1
_IFF_UP = 1

# struct ifinfomsg: family, padding, type, index, flags, change.
_IFINFO = struct.Struct("=BxHiII")
# struct rtgenmsg, padded to four bytes.
_GENERIC = struct.Struct("=B3x")

_REPLY_LENGTH = 1 << 16
# Answers on the request socket come at once; more than this many others first means trouble.
_MOST_REPLIES = 64


@dataclass(frozen=True, slots=True)
class LinkState:
    """The TUN's link now. `elsewhere` tells that it is in another namespace than ours."""

    name: str
    index: int
    up: bool
    mtu: int
    elsewhere: bool


class Change(Flag):
    """What the events that were read concern."""

    NOTHING = 0
    LINK = auto()
    ROUTES = auto()


class Monitor:
    """Two rtnetlink sockets: one that hears events (`fd`), one that asks."""

    def __init__(self, tun: Tun) -> None:
        self._tun = tun
        # That of this thread: it is where its sockets are.
        self._own = os.stat("/proc/thread-self/ns/net").st_ino
        self._sequence = 0
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._events = socket.socket(socket.AF_NETLINK, kind | socket.SOCK_NONBLOCK)
        # Without CAP_NET_BROADCAST a link that moves away is not followed, only missed.
        with contextlib.suppress(PermissionError):
            self._events.setsockopt(_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID, 1)
        self._events.bind((0, _GROUPS))
        self.fd = self._events.fileno()
        self._ask = socket.socket(socket.AF_NETLINK, kind)
        self._ask.settimeout(2.0)
        self._ask.bind((0, 0))

    def close(self) -> None:
        """Close both sockets."""
        self._events.close()
        self._ask.close()

    def read(self) -> Change:
        """Read the events that wait, and say what they concern."""
        change = Change.NOTHING
        while True:
            try:
                data = self._events.recv(_REPLY_LENGTH)
            except BlockingIOError:
                return change
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                # Events were lost: anything may have changed.
                return Change.LINK | Change.ROUTES
            for kind, _body in messages(data):
                if kind in (_RTM_NEWLINK, _RTM_DELLINK):
                    change |= Change.LINK
                elif kind in (_RTM_NEWADDR, _RTM_DELADDR, _RTM_NEWROUTE, _RTM_DELROUTE):
                    change |= Change.ROUTES

    def state(self) -> LinkState | None:
        """The link as it is now; None when it is gone or cannot be found."""
        name = self._tun.name()
        namespace = self._tun.namespace()
        try:
            if namespace is None or os.fstat(namespace).st_ino == self._own:
                return self._link(name, None)
            nsid = self._namespace_id(namespace)
            return None if nsid is None else self._link(name, nsid)
        finally:
            if namespace is not None:
                os.close(namespace)

    def _link(self, name: str, nsid: int | None) -> LinkState | None:
        body = _IFINFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        body += attribute(_IFLA_IFNAME, name.encode() + b"\0")
        if nsid is not None:
            body += attribute(_IFLA_TARGET_NETNSID, struct.pack("=i", nsid))
        answer = self._request(_RTM_GETLINK, body, _RTM_NEWLINK)
        if answer is None:
            return None
        _family, _type, index, flags, _change = _IFINFO.unpack_from(answer)
        found = attributes(answer[_IFINFO.size :])
        (mtu,) = struct.unpack("=I", found[_IFLA_MTU])
        return LinkState(name, index, bool(flags & _IFF_UP), mtu, nsid is not None)

    def _namespace_id(self, namespace: int) -> int | None:
        """The identifier of a namespace in ours; one is made where there is none."""
        query = _GENERIC.pack(socket.AF_UNSPEC)
        query += attribute(_NETNSA_FD, struct.pack("=I", namespace))
        for _ in range(2):
            answer = self._request(_RTM_GETNSID, query, _RTM_NEWNSID)
            if answer is None:
                return None
            (nsid,) = struct.unpack("=i", attributes(answer[_GENERIC.size :])[_NETNSA_NSID])
            if nsid != _NSID_NOT_ASSIGNED:
                return int(nsid)
            wanted = attribute(_NETNSA_NSID, struct.pack("=i", _NSID_NOT_ASSIGNED))
            self._request(_RTM_NEWNSID, query + wanted, None)
        return None

    def _request(self, kind: int, body: bytes, wanted: int | None) -> bytes | None:
        """Ask, and return the body of the answer of kind `wanted`; None on an error, or when
        only an acknowledgement was wanted."""
        self._sequence += 1
        length = HEADER.size + len(body)
        flags = NLM_F_REQUEST | (NLM_F_ACK if wanted is None else 0)
        self._ask.send(HEADER.pack(length, kind, flags, self._sequence, 0) + body)
        for _ in range(_MOST_REPLIES):
            try:
                data = self._ask.recv(_REPLY_LENGTH)
            except TimeoutError:
                return None
            for answer, content in messages(data, self._sequence):
                if answer == wanted:
                    return content
                if answer == NLMSG_ERROR:
                    return None
        return None
