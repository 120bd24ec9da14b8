"""Probes that open a TUN or a socket: what the kernel's network can do for a tunnel.

Nothing leaves the machine: the TUN is thrown away, and packets go over the loopback.
"""

import contextlib
import errno
import fcntl
import os
import socket
import struct
from typing import Final

from wgpy.doctor.facts import WANTED_BUFFER, Tun, TunDevice, Udp

_DEVICE: Final = "/dev/net/tun"
# linux/if_tun.h
_TUNSETIFF: Final = 0x400454CA
_TUNSETOFFLOAD: Final = 0x400454D0
_TUNSETVNETHDRSZ: Final = 0x400454D8
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_TUN_F_CSUM: Final = 0x01
_OFFLOADS: Final = {
    "tso4": _TUN_F_CSUM | 0x02,
    "tso6": _TUN_F_CSUM | 0x04,
    # The kernel takes USO only for both families at once (Linux 6.2).
    "uso": _TUN_F_CSUM | 0x20 | 0x40,
}
# sizeof(struct virtio_net_hdr)
_VNET_HEADER: Final = 10
# linux/udp.h
_UDP_SEGMENT: Final = 103
_UDP_GRO: Final = 104
_SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h


def probe_tun() -> Tun:
    """Open /dev/net/tun and, where that is allowed, make an interface for a moment."""
    try:
        fd = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return Tun(TunDevice.ABSENT)
    except PermissionError:
        return Tun(TunDevice.FORBIDDEN)
    except OSError:
        return Tun(TunDevice.NO_DRIVER)
    try:
        return _probe_interface(fd)
    finally:
        os.close(fd)


def _probe_interface(fd: int) -> Tun:
    # An empty name lets the kernel choose one that is free.
    request = struct.pack("16sH22x", b"", _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, request)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            return Tun(TunDevice.READY, refusal=None)
        return Tun(TunDevice.READY, refusal=error.strerror or str(error))
    offloads = {"vnet_hdr": _accepts(fd, _TUNSETVNETHDRSZ, struct.pack("i", _VNET_HEADER))}
    for name, flags in _OFFLOADS.items():
        offloads[name] = _accepts(fd, _TUNSETOFFLOAD, flags)
    return Tun(TunDevice.READY, refusal="", offloads=offloads)


def _accepts(fd: int, call: int, argument: int | bytes) -> bool:
    try:
        fcntl.ioctl(fd, call, argument)
    except OSError:
        return False
    return True


def probe_udp() -> Udp:
    """Try segmentation, coalescing and a large buffer on sockets of the loopback."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        gro = _sets(receiver, _UDP_GRO, 1)
        return Udp(_probe_segment(receiver, sender), gro, _probe_buffer(receiver))


def _sets(of: socket.socket, option: int, value: int) -> bool:
    try:
        of.setsockopt(socket.IPPROTO_UDP, option, value)
    except OSError:
        return False
    return True


def _probe_segment(receiver: socket.socket, sender: socket.socket) -> bool:
    """Whether one send of 2,400 bytes arrives as two datagrams (or as one that GRO rejoined)."""
    receiver.settimeout(1.0)
    try:
        receiver.bind(("127.0.0.1", 0))
        sender.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, 1200)
        sender.sendto(bytes(2400), receiver.getsockname())
        return receiver.recv(4096)[:1200] == bytes(1200)
    except OSError:
        return False


def _probe_buffer(of: socket.socket) -> int:
    """The receive buffer that we get when we ask for WANTED_BUFFER, in bytes."""
    of.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WANTED_BUFFER)
    # Over the sysctl's limit, with CAP_NET_ADMIN; without it the limit stands.
    with contextlib.suppress(OSError):
        of.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, WANTED_BUFFER)
    # The kernel counts its own overhead in: it doubles what was asked for (socket(7)).
    return of.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
