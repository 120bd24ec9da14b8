"""Numbered datagrams between two namespaces, each way, and what became of them."""

import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.support.natlab.station import Station

# A datagram in a millisecond, of the size of a call's.
_EVERY = 0.001
_SIZE = 200
_NUMBER = struct.Struct("!I")
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_PORT = 7000
# The last of them are waited for so long.
_SILENCE = 1.0


@dataclass(slots=True)
class _Stream:
    sender: list[socket.socket]
    receiver: socket.socket
    sent: int = 0
    received: list[int] = field(default_factory=list)


class Numbered:
    """Datagrams from each of two stations to the other, inside the tunnel, while the block lasts.

    `flows` is how many there are, each from a port of its own, and half of them each way.
    """

    def __init__(self, one: Station, other: Station, *, flows: int = 2) -> None:
        self._ending = threading.Event()
        self._streams = [_stream(one, other, flows // 2), _stream(other, one, flows // 2)]
        self._threads = [threading.Thread(target=self._send, args=(x,)) for x in self._streams]
        self._threads += [threading.Thread(target=self._receive, args=(x,)) for x in self._streams]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()
        for stream in self._streams:
            for each in (*stream.sender, stream.receiver):
                each.close()

    def _send(self, stream: _Stream) -> None:
        began = time.monotonic()
        while not self._ending.is_set():
            while stream.sent * _EVERY < time.monotonic() - began:
                data = _NUMBER.pack(stream.sent).ljust(_SIZE)
                stream.sender[stream.sent % len(stream.sender)].send(data)
                stream.sent += 1
            time.sleep(2 * _EVERY)

    def _receive(self, stream: _Stream) -> None:
        while True:
            try:
                stream.received.append(_NUMBER.unpack_from(stream.receiver.recv(2048))[0])
            except TimeoutError:
                if self._ending.is_set():
                    return

    @property
    def sent(self) -> int:
        """Of both together, as of now."""
        return sum(stream.sent for stream in self._streams)

    @property
    def lost(self) -> int:
        """How many never came; after the block."""
        return sum(stream.sent - len(set(stream.received)) for stream in self._streams)

    @property
    def repeated(self) -> int:
        """How many came once too often; after the block."""
        return sum(len(x.received) - len(set(x.received)) for x in self._streams)


def _stream(source: Station, target: Station, flows: int) -> _Stream:
    receiver = target.host.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 32 << 20)
    receiver.bind((target.inner, _PORT))
    receiver.settimeout(_SILENCE)

    def open_all() -> list[socket.socket]:
        made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(flows)]
        for each in made:
            each.connect((target.inner, _PORT))
        return made

    return _Stream(source.host.namespace.inside(open_all), receiver)
