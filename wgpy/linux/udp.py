"""The two UDP sockets of an interface: IPv4 and IPv6 on one port, as WireGuard binds them."""

import contextlib
import errno
import os
import socket
from dataclasses import dataclass

from wgpy.datapath.endpoint import (
    IP_MTU_DISCOVER,
    IP_PKTINFO,
    IPV6_MTU_DISCOVER,
    PMTUDISC_DONT,
    UDP_GRO,
)
from wgpy.ip import address_text

# As much as a burst at 10 Gb/s brings in 5 ms; what the kernel's and other implementations take.
BUFFER_BYTES = 7 << 20
# Attempts to find a port that is free in both families, when any will do.
_PORT_ATTEMPTS = 100

_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33


@dataclass(slots=True)
class BoundSockets:
    """Descriptors of the sockets, None for a family that the machine lacks, and their port.

    Whoever serves the sockets owns and closes them.
    """

    v4: int | None
    v6: int | None
    port: int

    def set_mark(self, mark: int) -> None:
        """Set the firewall mark of what the sockets send, 0 for none. Raises OSError."""
        for fd in (self.v4, self.v6):
            if fd is not None:
                _set_mark(fd, mark)


def bind(port: int, mark: int) -> BoundSockets:
    """Bind both families to `port`, or to a free one if it is 0. Raises OSError.

    A machine without IPv6 gets the IPv4 socket alone, and the other way round. SO_REUSEADDR is
    never set: two daemons could share a port without a word.
    """
    for _ in range(_PORT_ATTEMPTS):
        v4 = _open(socket.AF_INET, port, mark)
        chosen = v4.getsockname()[1] if v4 is not None else port
        try:
            v6 = _open(socket.AF_INET6, chosen, mark)
        except OSError as error:
            if v4 is not None:
                v4.close()
            if port == 0 and error.errno == errno.EADDRINUSE:
                continue
            raise
        if v4 is None and v6 is None:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        if v6 is not None:
            chosen = v6.getsockname()[1]
        return BoundSockets(
            None if v4 is None else v4.detach(), None if v6 is None else v6.detach(), chosen
        )
    raise OSError(errno.EADDRINUSE, "no port is free for IPv4 and IPv6 at once")


def bind_one(version: int, mark: int) -> socket.socket | None:
    """One more socket of IP version 4 or 6 on a free port, opened as the pair is; None for a family
    that the machine lacks. Raises OSError."""
    return _open(socket.AF_INET6 if version == 6 else socket.AF_INET, 0, mark)


def _open(family: socket.AddressFamily, port: int, mark: int) -> socket.socket | None:
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return None
        raise
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            # Datagrams larger than the path's MTU are fragmented rather than lost, as the
            # kernel's WireGuard sends them.
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_DONT)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DONT)
        for option, force in (
            (socket.SO_RCVBUF, _SO_RCVBUFFORCE),
            (socket.SO_SNDBUF, _SO_SNDBUFFORCE),
        ):
            _set_buffer(sock, option, force)
        if mark:
            _set_mark(sock.fileno(), mark)
        with contextlib.suppress(OSError):  # Before Linux 5.0 datagrams come one by one.
            sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        sock.bind(("::" if family == socket.AF_INET6 else "", port))
    except OSError as error:
        sock.close()
        # A kernel with IPv6 compiled in but switched off lets the socket be made, not bound.
        if family == socket.AF_INET6 and error.errno == errno.EADDRNOTAVAIL:
            return None
        raise
    return sock


def _set_buffer(sock: socket.socket, option: int, force: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, BUFFER_BYTES)
    except PermissionError:
        # Without CAP_NET_ADMIN in the initial namespace: as much as net.core.*mem_max allows.
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)


def _set_mark(fd: int, mark: int) -> None:
    sock = socket.socket(fileno=os.dup(fd))
    with sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)


def is_local(address: bytes) -> bool:
    """Whether this machine has an address of 4 or 16 bytes: only then a socket can be bound to it.

    Where the sysctl ip_nonlocal_bind is set, every address looks like one.
    """
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address_text(address), 0))
        except OSError:
            return False
    return True
