"""The connection to a TURN server: TCP, or TLS over it, on one socket that never blocks.

asyncio's own streams keep what they cannot send in buffers of their own, and TLS in one more; what
carries datagrams must know how much waits. So the socket is used directly, and the loop only says
when it is ready.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from wgpy.nat.place import Place
from wgpy.nat.turn_tls import Trust, check_pin

# From the first packet to the end of the TLS handshake, in seconds: two losses of a SYN.
CONNECT_TIME: Final = 5.0
# A connection is over when what was sent is not acknowledged in this time; a quarter of an hour is
# what the kernel would wait otherwise. As long as a request may take (turn_flight.STREAM).
ACKNOWLEDGE_MS: Final = 10_000
# What the kernel may hold unsent, in bytes, beside what is on its way: what comes later should not
# have to wait behind it. Twenty datagrams keep the line busy while the loop does something else.
UNSENT: Final = 32 * 1024
# One read. A record of TLS has at most 16 KiB.
READ_SIZE: Final = 64 * 1024

# linux/tcp.h; Python has no name for it.
_TCP_NOTSENT_LOWAT: Final = 25

OpenSocket = Callable[[socket.AddressFamily], socket.socket]


@dataclass(frozen=True, slots=True)
class StreamServer:
    """Where a TURN server takes streams. `trust`: TLS, None for plain TCP; `name` is what its
    certificate must say, a host name or an address."""

    place: Place
    trust: Trust | None = None
    name: str = ""


def plain_socket(family: socket.AddressFamily) -> socket.socket:
    """A TCP socket that goes where the routing table says."""
    return socket.socket(family, socket.SOCK_STREAM)


class Wire:
    """An open connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.is_tls = isinstance(sock, ssl.SSLSocket)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def has_address(self, open_socket: OpenSocket) -> bool:
        """Whether the machine still has the address where the connection begins."""
        try:
            with open_socket(self._socket.family) as probe:
                probe.bind((self._socket.getsockname()[0], 0))
        except OSError:
            return False
        return True

    @property
    def alpn(self) -> str | None:
        """What TLS agreed on."""
        found = self._socket
        return found.selected_alpn_protocol() if isinstance(found, ssl.SSLSocket) else None

    def read(self) -> bytes | None:
        """What came; None if nothing did, and b"" when the server closed. Raises OSError."""
        try:
            return self._socket.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return b""

    def write(self, data: memoryview) -> int:
        """How much of it was sent: 0 if nothing can be now. Raises OSError."""
        try:
            return self._socket.send(data)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0

    def close(self) -> None:
        """Close it, saying so if that can be said at once."""
        if isinstance(self._socket, ssl.SSLSocket):
            # It says so, and will not wait for the other side to say it too.
            with contextlib.suppress(OSError, ValueError):
                self._socket.unwrap()
        self._socket.close()


async def connect(
    server: StreamServer, context: ssl.SSLContext | None, open_socket: OpenSocket = plain_socket
) -> Wire:
    """Connect; with a context, by TLS. Raises OSError (ssl.SSLError and TimeoutError, after
    CONNECT_TIME, are such), and TrustError."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if server.place.is_v6 else socket.AF_INET
    sock = open_socket(family)
    try:
        sock.setblocking(False)
        # What is sent is a message, or as many as there are.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, UNSENT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, ACKNOWLEDGE_MS)
        async with asyncio.timeout(CONNECT_TIME):
            await loop.sock_connect(sock, (server.place.host, server.place.port))
            if server.trust is not None and context is not None:
                name = server.name or server.place.host
                sock = await _start_tls(sock, server.trust, context, name)
    except BaseException:
        sock.close()
        raise
    return Wire(sock)


async def _start_tls(
    sock: socket.socket, trust: Trust, context: ssl.SSLContext, name: str
) -> ssl.SSLSocket:
    # From here on it owns the descriptor, and closes it when this fails.
    tls = context.wrap_socket(
        sock, server_hostname=name, do_handshake_on_connect=False, suppress_ragged_eofs=False
    )
    try:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await _ready(tls, reading=True)
            except ssl.SSLWantWriteError:
                await _ready(tls, reading=False)
        check_pin(trust, tls.getpeercert(binary_form=True))
    except BaseException:
        tls.close()
        raise
    return tls


async def _ready(sock: socket.socket, *, reading: bool) -> None:
    """Wait until a socket can be read from, or written to."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def ready() -> None:
        if not done.done():
            done.set_result(None)

    fd = sock.fileno()
    (loop.add_reader if reading else loop.add_writer)(fd, ready)
    try:
        await done
    finally:
        (loop.remove_reader if reading else loop.remove_writer)(fd)
