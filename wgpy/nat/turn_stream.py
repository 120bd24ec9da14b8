"""TURN over TCP and TLS: a client's messages by a stream, and the tunnel's datagrams beside them.

    client = TurnClient(server.place, source, os.urandom, stream=True)
    stream = TurnStream(server, client, told)
    relay = datapath.add_relay(endpoint, carrier=stream.take_carrier())
    await stream.run()                              # until close() is done

       data path ══ AF_UNIX datagrams ══╗  one ChannelData each, without padding
                                        ╠═ TurnStream ── TCP or TLS ── server
                 TurnClient ── STUN ────╝

The stream carries datagrams, so what it cannot send soon it does not keep: of ChannelData at most
SEND_BUFFER bytes wait, and what comes then is dropped and counted, as a router does it. TCP inside
the tunnel takes that for the congestion that it is; a longer queue would only be delay.
"""

import asyncio
import contextlib
import os
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Final

from wgpy.linux.timerfd import BootTimer, boottime
from wgpy.nat.channel_data import ChannelData, Deframer, pack_channel_data, parse_channel_data
from wgpy.nat.place import Send
from wgpy.nat.stun import ParseError
from wgpy.nat.turn import State, TurnClient
from wgpy.nat.turn_events import Event
from wgpy.nat.turn_tls import TrustError, make_context
from wgpy.nat.turn_wire import OpenSocket, StreamServer, Wire, connect, plain_socket

# Bytes that wait here: 45 full datagrams, 50 ms at 10 Mb/s. With what the kernel may hold unsent
# (turn_wire.UNSENT) that is less than a home router's queue.
SEND_BUFFER: Final = 64 * 1024
# Datagrams that are taken from the data path in one go, and reads from the stream: after 64 KiB of
# either the loop has its turn, and the data path with it. Its socket holds twice as much.
CARRIER_BATCH: Final = 64
READ_BATCH: Final = 4
# The longest ChannelData.
_MAX_DATAGRAM: Final = 4 + 0xFFFF
# In these the client needs no connection.
_OVER: Final = (State.PAUSED, State.CLOSED)


class TurnStream:
    """A client's connection, made again whenever the client wants. `told` gets its events.
    `counters` count what was carried and what was not."""

    def __init__(
        self,
        server: StreamServer,
        client: TurnClient,
        told: Callable[[Event], None],
        *,
        clock: Callable[[], float] = boottime,
        open_socket: OpenSocket = plain_socket,
    ) -> None:
        """`open_socket` makes a TCP socket for a family, and sets its firewall mark. Raises
        TrustError."""
        self.client = client
        self.counters: Counter[str] = Counter()
        self.alpn: str | None = None
        # Why there is no connection, for people.
        self.trouble = ""
        self._server = server
        self._context = None if server.trust is None else make_context(server.trust)
        self._told = told
        self._clock = clock
        self._open_socket = open_socket
        self._timer = BootTimer()
        self._near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._near.setblocking(False)
        self._wire: Wire | None = None
        self._deframer = Deframer()
        self._unsent = bytearray()
        self._is_writing = False
        self._opening: asyncio.Task[Wire] | None = None
        # Set when there is something for `run` to look at.
        self._news = asyncio.Event()

    def take_carrier(self) -> int:
        """The data path's end, a descriptor that is its own from now on; once."""
        return self._far.detach()

    async def run(self) -> None:
        """Serve until the client is closed. A failure to connect is the client's to get over."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._timer.fd, self._timer_ready)
        loop.add_reader(self._near, self._carrier_ready)
        try:
            while self.client.state is not State.CLOSED:
                again = self.client.again
                if again is None or self._clock() >= again:
                    await self._connect()
                else:
                    self._timer.set(again)
                    await self._wait()
        finally:
            self._end()
            loop.remove_reader(self._timer.fd)
            loop.remove_reader(self._near)
            self._timer.close()
            self._near.close()
            self._far.close()

    def close(self) -> None:
        """Delete the allocation and end `run`, within the client's CLOSE_TIME."""
        self.client.close(self._clock())
        if self._opening is not None:
            self._opening.cancel()
        self.pump()

    def pump(self) -> None:
        """Do what the client wants: after each call of one of its methods."""
        for item in self.client.take():
            if isinstance(item, Send):
                self._send(item.data)
            else:
                self._told(item)
        if self._wire is None or self.client.state in _OVER:
            self._news.set()
        else:
            self._flush()
            self._timer.set(self.client.due())

    def network_changed(self) -> None:
        """The machine has other addresses or routes: give up a connection from an address that it
        has not any more, and connect at once."""
        self.client.network_changed(self._clock())
        if self._wire is not None and not self._wire.has_address(self._open_socket):
            self._broken("its address is gone")
        self.pump()

    # --- The connection ---

    async def _connect(self) -> None:
        """One connection, from its beginning to its end."""
        try:
            self._wire = await self._open()
        except (OSError, TrustError) as error:
            self.counters["connect_failed"] += 1
            self.trouble = _why(error)
        if self._wire is not None:
            self.counters["connected"] += 1
            self.alpn = self._wire.alpn
            loop = asyncio.get_running_loop()
            loop.add_reader(self._wire.fileno(), self._stream_ready)
            self.client.start(self._clock())
            self.pump()
            while self._wire is not None and self.client.state not in _OVER:
                await self._wait()
            if self._wire is not None:
                # The client wants it no more.
                self._end()
                return
        self.client.disconnected(self._clock())
        self.pump()

    async def _open(self) -> Wire | None:
        """Connect; None if `close` did not want to wait for it. Raises what `connect` does."""
        opening = connect(self._server, self._context, self._open_socket)
        self._opening = task = asyncio.get_running_loop().create_task(opening)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError, TrustError):
                (await task).close()
            raise
        finally:
            self._opening = None
        return None if task.cancelled() else task.result()

    def _end(self) -> None:
        """Close the connection, and forget what was on its way."""
        wire, self._wire = self._wire, None
        if wire is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(wire.fileno())
            loop.remove_writer(wire.fileno())
            wire.close()
        self._is_writing = False
        self._unsent.clear()
        self._deframer = Deframer()

    async def _wait(self) -> None:
        await self._news.wait()
        self._news.clear()

    def _broken(self, reason: str) -> None:
        self.counters["broken"] += 1
        self.trouble = reason
        self._end()
        self._news.set()

    # --- What the loop calls ---

    def _timer_ready(self) -> None:
        self._timer.acknowledge()
        self.client.tick(self._clock())
        self._news.set()
        self.pump()

    def _stream_ready(self) -> None:
        wire = self._wire
        for _ in range(READ_BATCH):
            # What came may have ended the connection.
            if wire is None or self._wire is not wire:
                return
            try:
                data = wire.read()
                if data is None:
                    return
                if not data:
                    self._broken("it closed the connection")
                    return
                for message in self._deframer.feed(data):
                    self._arrived(message)
            except (OSError, ParseError) as error:
                self._broken(_why(error))
                return
            self.pump()
        if self._wire is wire:
            # TLS may have read more than it gave, of which the socket knows nothing.
            asyncio.get_running_loop().call_soon(self._stream_ready)

    def _arrived(self, message: bytes | ChannelData) -> None:
        if isinstance(message, bytes):
            self.client.receive(message, self._server.place, self._clock())
            return
        try:
            self._near.send(pack_channel_data(message.channel, message.data))
            self.counters["received"] += 1
        except BlockingIOError:
            # The data path is slower than the server: as a full receive buffer.
            self.counters["carrier_full"] += 1
        except OSError:
            # The data path has closed its end, and soon we are told to.
            self.counters["carrier_closed"] += 1

    def _carrier_ready(self) -> None:
        for _ in range(CARRIER_BATCH):
            try:
                datagram = self._near.recv(_MAX_DATAGRAM + 1)
                found = parse_channel_data(datagram)
            except BlockingIOError:
                break
            except (OSError, ParseError):
                self.counters["carrier_malformed"] += 1
                continue
            if self._wire is None:
                self.counters["no_connection"] += 1
            elif len(self._unsent) + len(datagram) > SEND_BUFFER:
                self.counters["congested"] += 1
            else:
                self.counters["carried"] += 1
                self._unsent += pack_channel_data(found.channel, found.data, padded=True)
        self._flush()

    # --- What is sent ---

    def _send(self, data: bytes) -> None:
        """A message of the client's: few and small, so they always find room."""
        if self._wire is not None:
            self._unsent += data

    def _flush(self) -> None:
        wire = self._wire
        if wire is None or self._is_writing:
            return
        self._write(wire)
        if self._unsent and self._wire is wire:
            self._is_writing = True
            asyncio.get_running_loop().add_writer(wire.fileno(), self._stream_writable)

    def _stream_writable(self) -> None:
        wire = self._wire
        if wire is None:
            return
        self._write(wire)
        if not self._unsent and self._wire is wire:
            self._is_writing = False
            asyncio.get_running_loop().remove_writer(wire.fileno())

    def _write(self, wire: Wire) -> None:
        try:
            while self._unsent:
                with memoryview(self._unsent) as view:
                    sent = wire.write(view)
                if sent == 0:
                    return
                del self._unsent[:sent]
        except OSError as error:
            self._broken(_why(error))


def _why(error: OSError | TrustError | ParseError) -> str:
    """What went wrong with a connection, in words."""
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    # asyncio has a text of its own, with numbers and without the system's words; ssl a better one.
    if not isinstance(error, OSError) or isinstance(error, ssl.SSLError) or error.errno is None:
        return str(error)
    return os.strerror(error.errno)
