"""The portable data path: the engine over a TUN and UDP sockets, in the caller's thread.

`fileno()` is an epoll that holds the TUN, the sockets and a doorbell; `drain` moves packets for a
bounded while and returns the events. It is small and plain, and needs no compiler.
"""

import errno
import os
import select
import socket
from collections.abc import Callable, Sequence

from wgpy.datapath.contract import (
    DataPathError,
    Endpoint,
    Event,
    Offload,
    SocketError,
    TunLost,
    Via,
)
from wgpy.datapath.endpoint import IP_PKTINFO, PMTUDISC_PROBE, UDP_GRO, UDP_SEGMENT, Route
from wgpy.datapath.engine import BUFFER_LENGTH, PACKET_OFFSET, VNET_OFFSET, Engine
from wgpy.datapath.vnet import VNET_HEADER_LENGTH

# Reads of one descriptor before the other one has its turn, and turns before the control plane
# has its own: 4 x 16 packets are under a millisecond of work, or 64 large ones ten.
READS_PER_TURN = 16
TURNS_PER_DRAIN = 4

# Room for PKTINFO of either family and the segment size of UDP_GRO.
_ANCILLARY_LENGTH = socket.CMSG_SPACE(20) + socket.CMSG_SPACE(4)

# A UDP_SEGMENT send that fails so is tried again datagram by datagram, and goes through: no
# checksum offload on the way out (EIO), too many segments or an old kernel (EINVAL), a segment
# that does not fit the path's MTU (EMSGSIZE).
_SEGMENT_ERRORS = frozenset((errno.EIO, errno.EINVAL, errno.EMSGSIZE))
# What a stale source address gives: it left the machine, or the route to it did.
_SOURCE_ERRORS = frozenset((errno.EINVAL, errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.ENODEV))
# The TUN's link was deleted (EBADFD, or ENODEV on older kernels).
_TUN_LOST = frozenset((errno.EBADFD, errno.ENODEV, errno.EBADF))


class Portable(Engine):
    """`contract.DataPath` in pure Python. The TUN's descriptor stays its owner's."""

    name = "portable"

    def __init__(
        self,
        tun: int,
        *,
        vnet_header: bool,
        mtu: int,
        clock: Callable[[], float],
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        super().__init__(vnet_header=vnet_header, mtu=mtu, clock=clock, random=random)
        self._tun = tun
        # By descriptor, with the way that each is; and those beside the pair by their ways.
        self._sockets: dict[int, tuple[socket.socket, Via]] = {}
        self._v4: socket.socket | None = None
        self._v6: socket.socket | None = None
        self._others: dict[Via, socket.socket] = {}
        self._tun_buffer = memoryview(bytearray(BUFFER_LENGTH))
        self._udp_buffer = memoryview(bytearray(BUFFER_LENGTH))
        self._segment = True
        self._doorbell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._rung = False
        self._epoll = select.epoll()
        self._epoll.register(self._doorbell, select.EPOLLIN)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def _ring(self) -> None:
        if not self._rung:
            self._rung = True
            os.eventfd_write(self._doorbell, 1)

    def close(self) -> None:
        self.set_up(False)
        for handle in list(self._roads):
            self.drop_keys(handle)
        self.set_sockets(None, None)
        for via in list(self._others):
            self.remove_via(via)
        self._epoll.close()
        os.close(self._doorbell)
        for buffer in (self._tun_buffer, self._udp_buffer, self._out):
            buffer[:] = bytes(len(buffer))

    def offloads(self) -> dict[str, bool]:
        return {
            "tun_vnet_hdr": self._vnet_header,
            "udp_segment": self._segment,
        }

    # --- Descriptors ---

    def set_up(self, up: bool) -> None:
        if up != self._up:
            for fd in (self._tun, *self._sockets):
                if up:
                    self._epoll.register(fd, select.EPOLLIN)
                else:
                    self._unregister(fd)
        super().set_up(up)

    def _unregister(self, fd: int) -> None:
        try:
            self._epoll.unregister(fd)
        except OSError as error:
            # The kernel has let go of it already, as it does of a TUN whose link was deleted.
            if error.errno not in (errno.ENOENT, errno.EBADF):
                raise

    def set_sockets(self, v4: int | None, v6: int | None) -> None:
        former = [(fd, sock) for fd, (sock, via) in self._sockets.items() if not via]
        self._v4 = None if v4 is None else socket.socket(fileno=v4)
        self._v6 = None if v6 is None else socket.socket(fileno=v6)
        for fd, old in former:
            # What arrived on the old port is still good: key pairs do not belong to a port.
            if self._up:
                self._read_socket(old, 0, READS_PER_TURN)
            self._unserve(fd, old)
        for sock in (self._v4, self._v6):
            if sock is not None:
                self._serve(sock, 0)

    def add_socket(self, fd: int) -> Via:
        sock = _take_over(fd, "UDP socket", socket.AF_INET, socket.AF_INET6)
        try:
            via = super().add_socket(fd)
        except DataPathError:
            sock.close()
            raise
        self._others[via] = sock
        self._serve(sock, via)
        return via

    def add_relay(self, server: Endpoint, carrier: int | None = None) -> Via:
        sock = None if carrier is None else _take_over(carrier, "carrier", socket.AF_UNIX)
        try:
            via = super().add_relay(server, carrier)
        except DataPathError:
            if sock is not None:
                sock.close()
            raise
        if sock is not None:
            self._others[via] = sock
            self._serve(sock, via)
        return via

    def _close_via(self, via: Via) -> None:
        sock = self._others.pop(via, None)
        # A relay without a carrier has no descriptor of its own.
        if sock is not None:
            self._unserve(sock.fileno(), sock)

    def _serve(self, sock: socket.socket, via: Via) -> None:
        self._sockets[sock.fileno()] = (sock, via)
        if self._up:
            self._epoll.register(sock, select.EPOLLIN)

    def _unserve(self, fd: int, sock: socket.socket) -> None:
        del self._sockets[fd]
        self._unregister(fd)
        sock.close()

    # --- Moving packets ---

    def drain(self, limit: int) -> list[Event]:
        if self._rung:
            os.eventfd_read(self._doorbell)
            self._rung = False
        for _ in range(TURNS_PER_DRAIN):
            busy = False
            for fd, _events in self._epoll.poll(0):
                served = self._sockets.get(fd)
                if served is not None and served[0].family is socket.AF_UNIX:
                    busy |= self._read_carrier(*served, READS_PER_TURN)
                elif served is not None:
                    busy |= self._read_socket(*served, READS_PER_TURN)
                elif fd == self._tun and self._up:
                    busy |= self._read_tun(READS_PER_TURN)
            if not busy:
                break
        return self._collect(limit)

    def _read_tun(self, times: int) -> bool:
        """Seal what the TUN has. Whether it may have more."""
        now = self._clock()
        offset = VNET_OFFSET if self._vnet_header else PACKET_OFFSET
        into = [self._tun_buffer[offset : offset + VNET_HEADER_LENGTH + 65_535]]
        for _ in range(times):
            try:
                size = os.readv(self._tun, into)
            except BlockingIOError:
                return False
            except OSError as error:
                self._tun_failed(error.errno or 0)
                return False
            if not self._vnet_header:
                self._tun_buffer[VNET_OFFSET:PACKET_OFFSET] = bytes(VNET_HEADER_LENGTH)
            self.outbound(self._tun_buffer, size - (PACKET_OFFSET - offset), now)
        return True

    def _tun_failed(self, code: int) -> None:
        self._count("tun_error")
        if code in _TUN_LOST:
            self.set_up(False)
            self._alarm(TunLost(code))

    def _read_socket(self, sock: socket.socket, via: Via, times: int) -> bool:
        """Open what a socket has. Whether it may have more."""
        now = self._clock()
        into = [self._udp_buffer[: BUFFER_LENGTH // 2]]
        for _ in range(times):
            try:
                size, ancillary, flags, address = sock.recvmsg_into(into, _ANCILLARY_LENGTH)
            except BlockingIOError:
                return False
            except OSError as error:
                # ICMP errors of earlier sends come up here and concern no one else's packets.
                self._count("receive_error")
                if error.errno == errno.EBADF:
                    self._alarm(SocketError(sock.fileno(), errno.EBADF))
                    return False
                continue
            if flags & socket.MSG_TRUNC:
                self._count("truncated")
                continue
            segment = 0
            pktinfo = b""
            for level, kind, data in ancillary:
                if level == socket.IPPROTO_UDP and kind == UDP_GRO:
                    segment = int.from_bytes(data[:4], "little")
                elif kind in (IP_PKTINFO, socket.IPV6_PKTINFO):
                    pktinfo = data
            self.inbound(self._udp_buffer, size, segment, Route(address, pktinfo, via), now)
        return True

    def _read_carrier(self, sock: socket.socket, via: Via, times: int) -> bool:
        """Open what a relay's carrier has. Whether it may have more."""
        now = self._clock()
        into = [self._udp_buffer[: BUFFER_LENGTH // 2]]
        for _ in range(times):
            try:
                size, _ancillary, _flags, _address = sock.recvmsg_into(into)
            except BlockingIOError:
                return False
            except OSError:
                # Whoever has the other end is gone; it is told of what follows elsewhere.
                self._count("receive_error")
                continue
            self.inbound_carried(self._udp_buffer, size, via, now)
        return True

    # --- What the engine sends ---

    def _deliver(self, buffers: Sequence[memoryview | bytes | bytearray]) -> None:
        if not self._vnet_header:
            buffers = [buffers[0][VNET_HEADER_LENGTH:], *buffers[1:]]
        try:
            os.writev(self._tun, buffers)
        except OSError as error:
            self._tun_failed(error.errno or 0)

    def _transmit(self, data: memoryview, segment: int, route: Route) -> int | None:
        if len(data) > segment and self._segment:
            error = self._send(data, route, segment)
            if error is None or error not in _SEGMENT_ERRORS:
                return error
            if error != errno.EMSGSIZE:
                self._segment = False
                self._alarm(Offload("udp_segment", False, error))
        failed = None
        for start in range(0, len(data), segment):
            failed = self._send(data[start : start + segment], route) or failed
        return failed

    def _transmit_control(
        self, data: bytes, route: Route, ttl: int = 0, whole: bool = False
    ) -> int | None:
        sock = self._socket(route) if whole else None
        if sock is None or sock.family is socket.AF_UNIX:
            return self._send(data, route, ttl=ttl)
        option = route.discover()
        try:
            usual = sock.getsockopt(*option)
            sock.setsockopt(*option, PMTUDISC_PROBE)
        except OSError as error:
            return error.errno or errno.EIO
        try:
            return self._send(data, route, ttl=ttl)
        finally:
            sock.setsockopt(*option, usual)

    def _socket(self, route: Route) -> socket.socket | None:
        """The socket that a route goes by, None if there is none of its family."""
        if not route.via:
            return self._v6 if route.is_v6 else self._v4
        sock = self._others[route.via]
        family = socket.AF_INET6 if route.is_v6 else socket.AF_INET
        return sock if sock.family in (family, socket.AF_UNIX) else None

    def _send(
        self, data: memoryview | bytes, route: Route, segment: int = 0, ttl: int = 0
    ) -> int | None:
        sock = self._socket(route)
        if sock is None:
            return errno.EAFNOSUPPORT
        try:
            if sock.family is socket.AF_UNIX:
                sock.send(data)
            elif segment or ttl or route.pktinfo:
                control = route.control(ttl)
                if segment:
                    size = segment.to_bytes(2, "little")
                    control.append((socket.IPPROTO_UDP, UDP_SEGMENT, size))
                sock.sendmsg((data,), control, 0, route.address)
            else:
                sock.sendto(data, route.address)
        except OSError as error:
            if route.pktinfo and error.errno in _SOURCE_ERRORS:
                self._forget_source(route)
                return self._send(data, route.without_source(), segment, ttl)
            return error.errno or errno.EIO
        return None

    def _forget_source(self, route: Route) -> None:
        """The source is stale: every peer that used it chooses afresh."""
        self._count("stale_source")
        self._vias.forget_source(route)
        for road in self._roads.values():
            if road.route == route:
                road.route = route.without_source()


def _take_over(fd: int, what: str, *families: socket.AddressFamily) -> socket.socket:
    """A socket of datagrams that somebody gives us. Raises DataPathError, with it closed."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        if error.errno != errno.EBADF:
            os.close(fd)
        raise DataPathError(f"descriptor {fd} is no {what}: {error.strerror}") from None
    if sock.family in families and sock.type is socket.SOCK_DGRAM:
        sock.setblocking(False)
        return sock
    sock.close()
    raise DataPathError(f"descriptor {fd} is no {what}")
