"""The TUN device: opening, offloads, and where it is now (linux/if_tun.h)."""

import contextlib
import errno
import fcntl
import os
import socket
import struct
from pathlib import Path

TUN_PATH = Path("/dev/net/tun")

_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000

_TUNSETIFF = 0x400454CA
_TUNGETIFF = 0x800454D2
_TUNSETOFFLOAD = 0x400454D0
_TUNGETDEVNETNS = 0x54E3
_SIOCGIFMTU = 0x8921
_SIOCSIFMTU = 0x8922
_SIOCSIFTXQLEN = 0x8943

_TUN_F_CSUM = 0x01
_TUN_F_TSO4 = 0x02
_TUN_F_TSO6 = 0x04

# struct ifreq: a name of 16 bytes, and a union of 24 of which the first are used here.
_IFREQ_FLAGS = struct.Struct("16sH22x")
_IFREQ_INT = struct.Struct("16si20x")

# WireGuard's default: 1500 less 80 for an outer IPv6 header, UDP and the message (wg-quick(8)).
DEFAULT_MTU = 1420
# Packets that wait for us. With the kernel's 500, a pause of 3 ms loses packets of a sender of
# 200,000 a second, and a machine that is shared pauses for longer; this is 10 ms of them.
QUEUE_LENGTH = 2000


class TunError(Exception):
    """The TUN cannot be had; the text says why, and what to do."""


class Tun:
    """An open TUN. `fd` is non-blocking; `vnet_header` tells whether packets carry one."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        name: bytes
        flags: int
        name, flags = _IFREQ_FLAGS.unpack(fcntl.ioctl(fd, _TUNGETIFF, _IFREQ_FLAGS.pack(b"", 0)))
        if not flags & _IFF_TUN or not flags & _IFF_NO_PI:
            raise TunError("the descriptor is no TUN opened with IFF_TUN and IFF_NO_PI")
        self.vnet_header = bool(flags & _IFF_VNET_HDR)
        self._name = name.rstrip(b"\0").decode()
        os.set_blocking(fd, False)
        os.set_inheritable(fd, False)
        if self.vnet_header:
            fcntl.ioctl(fd, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4 | _TUN_F_TSO6)

    def name(self) -> str:
        """The link's name now: it may be renamed, or moved to another namespace."""
        with contextlib.suppress(OSError):  # The link is gone: its last name is the answer.
            answer: bytes = fcntl.ioctl(self.fd, _TUNGETIFF, _IFREQ_FLAGS.pack(b"", 0))
            self._name = bytes(answer[:16]).rstrip(b"\0").decode()
        return self._name

    def namespace(self) -> int | None:
        """A descriptor of the network namespace that the link is in now, for the caller to close.

        None where the kernel cannot tell, or the link is gone.
        """
        try:
            return fcntl.ioctl(self.fd, _TUNGETDEVNETNS, 0)
        except OSError:
            return None

    def close(self) -> None:
        """Close it; a TUN that is not persistent goes with it."""
        os.close(self.fd)


def open_tun(name: str, *, vnet_header: bool = True) -> Tun:
    """Make a TUN called `name`, with an MTU of DEFAULT_MTU and room for QUEUE_LENGTH packets.

    Raises TunError.
    """
    try:
        fd = os.open(TUN_PATH, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise TunError(f"{TUN_PATH} is missing: load it with `modprobe tun`") from None
    except OSError as error:
        raise TunError(f"{TUN_PATH}: {error.strerror}: run as root") from None
    try:
        flags = _IFF_TUN | _IFF_NO_PI | (_IFF_VNET_HDR if vnet_header else 0)
        fcntl.ioctl(fd, _TUNSETIFF, _IFREQ_FLAGS.pack(name.encode(), flags))
        tun = Tun(fd)
        set_mtu(tun.name(), DEFAULT_MTU)
        _set(tun.name(), _SIOCSIFTXQLEN, QUEUE_LENGTH)
    except OSError as error:
        os.close(fd)
        if error.errno == errno.EBUSY:
            raise TunError(f"{name}: another process has this interface open") from None
        raise TunError(f"{name}: the TUN cannot be made: {error.strerror}") from None
    return tun


def set_mtu(name: str, mtu: int) -> None:
    """Set the MTU of a link in our own namespace. Raises OSError."""
    _set(name, _SIOCSIFMTU, mtu)


def mtu(name: str) -> int:
    """The MTU of a link in our own namespace. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFMTU, _IFREQ_INT.pack(name.encode(), 0))
    value: int = _IFREQ_INT.unpack(answer)[1]
    return value


def _set(name: str, request: int, value: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        fcntl.ioctl(sock, request, _IFREQ_INT.pack(name.encode(), value))
