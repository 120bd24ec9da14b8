"""An interface in memory for the UAPI server, and the server in a thread of its own."""

import asyncio
import contextlib
import errno
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from wgpy.device.server import UapiServer
from wgpy.device.uapi import DeviceChange, DeviceState, PeerState, UapiError
from wgpy.keys import PublicKey

FORBIDDEN_PORT = 1


class FakeInterface:
    """Remembers every change; a port of 1 is taken, a mark of 13 is a fault of the device."""

    def __init__(self) -> None:
        self.changes: list[DeviceChange] = []
        self.now = DeviceState(listen_port=51820, wgpy_version="1.2", datapath="portable")

    def apply(self, change: DeviceChange) -> None:
        """Keep the change, and show its port and its peers."""
        if change.listen_port == FORBIDDEN_PORT:
            raise UapiError(errno.EADDRINUSE, "the port is taken")
        if change.fwmark == 13:
            raise RuntimeError("a fault of the device")
        self.changes.append(change)
        if change.listen_port is not None:
            self.now.listen_port = change.listen_port
        for peer in change.peers:
            prefixes = [allowed.prefix for allowed in peer.allowed_ips]
            self.now.peers.append(
                PeerState(
                    peer.public_key,
                    endpoint=peer.endpoint,
                    endpoint_name=peer.endpoint_name,
                    allowed_ips=prefixes,
                )
            )

    def state(self, only: PublicKey | None = None) -> DeviceState:
        """What there is now."""
        if only is None:
            return self.now
        return replace(self.now, peers=[x for x in self.now.peers if x.public_key == only])


@contextlib.contextmanager
def served(interface: FakeInterface, path: Path) -> Iterator[UapiServer]:
    """The interface behind a socket, served by an event loop in another thread."""
    server = UapiServer(interface)
    server.listen(path)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def connect(path: Path) -> socket.socket:
    """A client's connection; it fails after 60 s."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(60)
    connection.connect(str(path))
    return connection


def read_answers(connection: socket.socket, count: int) -> list[str]:
    """The next answers, each without the empty line that ends it."""
    text = ""
    while text.count("\n\n") < count:
        data = connection.recv(1 << 16)
        if not data:
            break
        text += data.decode()
    return text.split("\n\n")[:-1]
