"""Traffic of tests that is counted: pings, numbered datagrams, connections."""

import re
import socket
import threading
from types import TracebackType
from typing import Self

from tests.support.netns import Namespace

SO_RCVBUFFORCE = 33  # asm-generic/socket.h


class Pings:
    """Twenty pings a second in the background, `count` in all."""

    def __init__(self, space: Namespace, address: str, count: int) -> None:
        self._count = count
        words = ("ping", "-n", "-q", "-i", "0.05", "-W", "5", "-c", str(count), address)
        self._process = space.popen(*words)

    def lost(self) -> int:
        """How many were not answered; waits for the last."""
        self._process.wait(self._count * 0.05 + 20)
        said = self._process.output()
        found = re.search(r"(\d+) packets transmitted, (\d+) received", said)
        assert found is not None, said
        assert int(found[1]) == self._count
        return self._count - int(found[2])


class Numbers:
    """Numbered datagrams in bursts, 3,200 a second, for as long as the block lasts and a little
    more. A burst is more than a gate holds."""

    BURST = 64
    EVERY = 0.02
    MOST = 60_000

    def __init__(self, source: Namespace, target: Namespace, address: str) -> None:
        self._receiver = target.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self._receiver.bind((address, 0))
        self._receiver.settimeout(5)
        self._sender = source.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sender.connect(self._receiver.getsockname())
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._sent = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.wait(10 * self.EVERY)
        self._ending.set()
        self._thread.join()

    def _send(self) -> None:
        while self._sent < self.MOST and not self._ending.wait(self.EVERY):
            for _ in range(self.BURST):
                self._sender.send(self._sent.to_bytes(4, "big") * 25)
                self._sent += 1

    def lost(self) -> int:
        """How many did not arrive; ends everything."""
        found = set()
        with self._receiver, self._sender:
            while len(found) < self._sent:
                try:
                    found.add(self._receiver.recv(2048)[:4])
                except TimeoutError:
                    break
        return self._sent - len(found)


def connects(source: Namespace, address: str, port: int, wait: float = 0.5) -> bool:
    """Whether a TCP connection comes about within `wait` seconds."""
    with source.socket(socket.AF_INET, socket.SOCK_STREAM) as caller:
        caller.settimeout(wait)
        try:
            caller.connect((address, port))
        except TimeoutError:
            return False
    return True


def listen(space: Namespace, address: str, port: int) -> socket.socket:
    """A TCP socket that takes connections, and says nothing on them; the caller closes it."""
    listener = space.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((address, port))
    listener.listen(16)
    return listener
