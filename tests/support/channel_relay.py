"""A relay that knows ChannelData and nothing else of TURN (RFC 8656 section 12.4).

    with ChannelRelay(open_socket()) as relay:
        relay.join(("10.91.0.1", 5000), 0x4000, ("10.92.0.1", 6000), 0x4001)

What one client sends on its channel goes to the other on the other's. As with a real relay, the
clients see nobody's address but the relay's. A client may be a socket instead of an address: then
it is the far end of a carrier, whose messages go to and fro as they are.
"""

import contextlib
import selectors
import socket
import struct
import threading
from types import TracebackType
from typing import Self

# RFC 8656 section 12.4: the channel and the length.
_HEADER = struct.Struct(">HH")
_LARGEST = 1 << 17
_BUFFER = 8 << 20
# Python's name for it comes with 3.14 (asm-generic/socket.h).
_SO_RCVBUFFORCE = 33
# How often it looks whether it is to end.
_TICK = 0.05
# Datagrams of one client before the other has its turn.
_AT_ONCE = 64

Client = tuple[str, int] | socket.socket


class ChannelRelay:
    """Forwards in a thread of its own, between pairs of clients. A context manager.

    `forwarded` counts datagrams, `refused` those that no pair explains or that lie of their length.
    While `slow` is set they are kept, and go on, in order, once it is cleared.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        with contextlib.suppress(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self._pairs: dict[tuple[Client, int], tuple[Client, int]] = {}
        self._selector = selectors.DefaultSelector()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.forwarded = 0
        self.refused = 0
        self.slow = threading.Event()
        self._kept: list[tuple[bytes, Client]] = []
        self._watch(sock)

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    def _watch(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ)

    def join(self, one: Client, channel: int, other: Client, other_channel: int) -> None:
        """What `one` sends on its channel goes to `other` on its own, and back."""
        for client in (one, other):
            if isinstance(client, socket.socket):
                self._watch(client)
        self._pairs[one, channel] = (other, other_channel)
        self._pairs[other, other_channel] = (one, channel)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._thread.join()
        self._selector.close()
        self._socket.close()

    @property
    def kept(self) -> int:
        """How many wait here."""
        return len(self._kept)

    def _run(self) -> None:
        while not self._ending.is_set():
            if not self.slow.is_set():
                while self._kept:
                    self._forward(*self._kept.pop(0))
            for key, _ in self._selector.select(_TICK):
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                self._empty(ready)

    def _empty(self, ready: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, address = ready.recvfrom(_LARGEST)
            except BlockingIOError:
                return
            # An ICMP error of an earlier send.
            except ConnectionRefusedError:
                continue
            client = ready if ready.family is socket.AF_UNIX else address[:2]
            if self.slow.is_set() or self._kept:
                self._kept.append((data, client))
            else:
                self._forward(data, client)

    def _forward(self, data: bytes, client: Client) -> None:
        if len(data) < _HEADER.size:
            self.refused += 1
            return
        channel, length = _HEADER.unpack_from(data)
        target = self._pairs.get((client, channel))
        if target is None or length != len(data) - _HEADER.size:
            self.refused += 1
            return
        to, number = target
        framed = _HEADER.pack(number, length) + data[_HEADER.size :]
        # A full buffer loses datagrams, as relays do.
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            if isinstance(to, socket.socket):
                to.send(framed)
            else:
                self._socket.sendto(framed, to)
            self.forwarded += 1
