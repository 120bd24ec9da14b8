"""The DNS server of a node: `dns.py` behind UDP and TCP sockets, in a thread and loop of its own.

It listens on the tunnel's addresses alone. It answers this machine, and other nodes of the mesh at
a small rate; who else sends is not answered. A question never waits for anything else of the node.
"""

import asyncio
import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from wgpy.ip import Prefix, address_text, mask, parse_address
from wgpy.mesh.dns import MAX_QUERY, DnsError, Zone, answer

PORT: Final = 53
# An answer costs 0.4 ms of Python: this machine's own questions take half a core at the most, and
# those of all other nodes together a thirtieth. Real resolvers ask a few in a second.
OWN_RATE, OWN_BURST = 1_000.0, 500.0
OTHERS_RATE, OTHERS_BURST = 100.0, 100.0
# TCP is for answers that do not fit a datagram, of which a mesh has none, and for who prefers it.
MAX_CONNECTIONS: Final = 16
OTHERS_CONNECTIONS: Final = 8
MAX_QUESTIONS: Final = 32
# RFC 7766, 6.2.3: a few seconds for who is idle, or slow.
PATIENCE: Final = 5.0
# How many datagrams are read before TCP has its turn.
_AT_ONCE: Final = 32
# linux/in.h, linux/in6.h: bind to an address that is not there yet, or no more.
_IP_FREEBIND, _IPV6_FREEBIND = 15, 78


class Rate:
    """A bucket that holds `burst` and is filled by `rate` a second."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._then = 0.0

    def take(self, now: float) -> bool:
        """Whether there is one left."""
        self._left = min(self._burst, self._left + max(0.0, now - self._then) * self._rate)
        self._then = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Responder:
    """What is answered to whom, without sockets; counts what it does."""

    def __init__(self, addresses: Sequence[bytes], ranges: Sequence[Prefix]) -> None:
        self.zone: Zone | None = None
        self.counters: Counter[str] = Counter()
        self._own = frozenset(addresses)
        self._ranges = tuple(ranges)
        self._own_rate = Rate(OWN_RATE, OWN_BURST)
        self._others_rate = Rate(OTHERS_RATE, OTHERS_BURST)

    def is_own(self, source: bytes) -> bool:
        """Whether it is this machine that asks."""
        return source in self._own or source == _LOOPBACK.get(len(source))

    def respond(self, query: bytes, source: bytes, now: float, *, tcp: bool) -> bytes | None:
        """The answer, or None where there is none to give."""
        if self.is_own(source):
            rate = self._own_rate
        elif any(len(x.address) == len(source) and _within(source, x) for x in self._ranges):
            rate = self._others_rate
        else:
            self.counters["stranger"] += 1
            return None
        if not rate.take(now):
            self.counters["rate"] += 1
            return None
        if self.zone is None:
            self.counters["early"] += 1
            return None
        try:
            return answer(self.zone, query, tcp=tcp, counters=self.counters)
        except DnsError:
            self.counters["malformed"] += 1
            return None


_LOOPBACK: Final = {4: bytes((127, 0, 0, 1)), 16: bytes(15) + b"\x01"}


def _within(address: bytes, prefix: Prefix) -> bool:
    return mask(address, prefix.length) == prefix.address


class DnsServer:
    """Sockets on every address given, from `start` to `stop`."""

    def __init__(
        self,
        addresses: Sequence[bytes],
        ranges: Sequence[Prefix],
        *,
        port: int = PORT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._addresses = tuple(addresses)
        self._port = port
        self._clock = clock
        self.responder = Responder(addresses, ranges)
        self._sockets: list[socket.socket] = []
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None
        self._open = 0

    def start(self) -> None:
        """Bind and serve. Raises OSError, with nothing left open, where an address is taken."""
        try:
            datagrams = [self._bind(x, socket.SOCK_DGRAM) for x in self._addresses]
            streams = [self._bind(x, socket.SOCK_STREAM) for x in self._addresses]
        except OSError:
            self._close()
            raise
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(datagrams, streams, ready)),
            name="wgpy-dns",
            daemon=True,
        )
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        """Close everything; nothing is done if it does not serve."""
        if self._thread is not None and self._loop is not None and self._ending is not None:
            self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join()
        self._thread = None
        self._close()

    def _close(self) -> None:
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()

    def _bind(self, address: bytes, kind: socket.SocketKind) -> socket.socket:
        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
        sock = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._sockets.append(sock)
        if family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        if kind == socket.SOCK_STREAM:
            # Connections of before a restart linger; with UDP it would let others share the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address_text(address), self._port))
        if kind == socket.SOCK_STREAM:
            sock.listen(MAX_CONNECTIONS)
        return sock

    async def _serve(
        self, datagrams: list[socket.socket], streams: list[socket.socket], ready: threading.Event
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        for sock in datagrams:
            self._loop.add_reader(sock, self._read, sock)
        servers = [
            await asyncio.start_server(self._talk, sock=sock, limit=2 * MAX_QUERY)
            for sock in streams
        ]
        ready.set()
        await self._ending.wait()
        for sock in datagrams:
            self._loop.remove_reader(sock)
        for server in servers:
            server.close()

    def _read(self, sock: socket.socket) -> None:
        """Answer what waits."""
        for _ in range(_AT_ONCE):
            try:
                query, source = sock.recvfrom(MAX_QUERY + 1)
            except BlockingIOError:
                return
            except OSError:
                # An earlier answer came back as an error of ICMP.
                self.responder.counters["unreachable"] += 1
                continue
            reply = self.responder.respond(query, _address(source), self._clock(), tcp=False)
            if reply is not None:
                try:
                    sock.sendto(reply, source)
                except OSError:
                    self.responder.counters["not_sent"] += 1

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One TCP connection: messages, each after its length of two bytes (RFC 7766)."""
        source = _address(writer.get_extra_info("peername"))
        # Others never take the last places.
        if self._open >= (MAX_CONNECTIONS if self.responder.is_own(source) else OTHERS_CONNECTIONS):
            self.responder.counters["connections"] += 1
            writer.transport.abort()
            return
        self._open += 1
        try:
            for _ in range(MAX_QUESTIONS):
                if not await self._exchange(reader, writer, source):
                    break
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            self.responder.counters["ended_early"] += 1
        finally:
            self._open -= 1
            writer.close()
            # It is closed, whatever its other end makes of that.
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: bytes
    ) -> bool:
        """Answer one message; False when the connection is to end."""
        async with asyncio.timeout(PATIENCE):
            try:
                head = await reader.readexactly(2)
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    raise
                return False
            length = int.from_bytes(head, "big")
            if length > MAX_QUERY:
                self.responder.counters["malformed"] += 1
                return False
            query = await reader.readexactly(length)
            reply = self.responder.respond(query, source, self._clock(), tcp=True)
            if reply is None:
                return False
            writer.write(len(reply).to_bytes(2, "big") + reply)
            await writer.drain()
            return True


def _address(source: Sequence[str | int]) -> bytes:
    return parse_address(str(source[0]).partition("%")[0])
