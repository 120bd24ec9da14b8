"""One TCP flow between the machines for a while, and how much of it arrived."""

import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import Final

from wgpy.demo.machines import Machine
from wgpy.demo.namespace import inside

# Large enough that Python's share of a call is small, small enough to stay in the cache.
_CHUNK: Final = 256 * 1024
_PORT: Final = 5201


@dataclass(frozen=True, slots=True)
class Flow:
    """What arrived: bytes of payload, and in how many seconds."""

    size: int
    seconds: float

    @property
    def bits_per_second(self) -> float:
        """The goodput: payload only, no headers."""
        return self.size * 8 / self.seconds


class _Sink:
    """Accepts one connection and counts what comes, until it ends or the sink is closed."""

    def __init__(self, listener: socket.socket) -> None:
        self.received = 0
        self._listener = listener
        self._thread = threading.Thread(target=self._run, name="sink", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        buffer = bytearray(_CHUNK)
        # The sender resets the connection at the end, and closing the listener ends accept.
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            with connection:
                while size := connection.recv_into(buffer):
                    self.received += size

    def close(self) -> None:
        with contextlib.suppress(OSError):  # not connected, which is what a listener is
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(1.0)


def measure(sender: Machine, receiver: Machine, seconds: float) -> Flow:
    """Send as fast as it goes from one machine to the other for `seconds`. Raises OSError."""
    with inside(receiver.namespace):
        listener = socket.create_server((receiver.inner_v4, _PORT))
    sink = _Sink(listener)
    try:
        with inside(sender.namespace):
            source = socket.socket()
        with source:
            source.settimeout(seconds)
            source.connect((receiver.inner_v4, _PORT))
            # Reset at the end: what is still in the buffers would only take the demo's time.
            source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            chunk = bytes(_CHUNK)
            started = time.perf_counter()
            while (left := started + seconds - time.perf_counter()) > 0:
                source.settimeout(left)
                with contextlib.suppress(TimeoutError):
                    source.send(chunk)
            return Flow(sink.received, time.perf_counter() - started)
    finally:
        sink.close()
