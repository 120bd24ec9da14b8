"""A TURN server on a TCP port of the loopback, for streams: honest, or told to misbehave."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from tests.support.openssl import openssl
from tests.support.turn_server import FakeServer
from wgpy.linux.timerfd import boottime
from wgpy.nat.channel_data import ChannelData, Deframer, pack_channel_data
from wgpy.nat.place import Place

NAME = "turn.example.org"


def make_certificate(path: Path, name: str = NAME) -> Path:
    """A certificate that signs itself, for a name; the key is in the same file."""
    pem, key = path / f"{name}.pem", path / f"{name}.key"
    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"),
        *("-keyout", key, "-out", pem, "-days", "30", "-subj", f"/CN={name}"),
        *("-addext", f"subjectAltName=DNS:{name}"),
    )
    with pem.open("a") as file:
        file.write(key.read_text())
    return pem


class Listener:
    """The port, and whoever is connected. What comes by channels is sent back, in capitals.

    `pieces`: everything is sent one byte at a time. `is_deaf`: nothing is read. `greeting` is sent
    to each who connects; `hangs_up`: then the connection is closed.
    """

    def __init__(self, certificate: Path | None = None, alpn: str | None = "stun.turn") -> None:
        self.server = FakeServer(boottime)
        self.connections = 0
        self.alpn: str | None = None
        self.pieces = False
        self.is_deaf = False
        self.greeting = b""
        self.hangs_up = False
        self.channel_data: list[ChannelData] = []
        self.place = Place("127.0.0.1", 0)
        self.writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
            if alpn is not None:
                self._tls.set_alpn_protocols([alpn])

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """While the port is open."""
        # A small buffer, so that what is not read is soon not sent either.
        server = await asyncio.start_server(
            self._connected, "127.0.0.1", self.place.port, ssl=self._tls, limit=4096
        )
        host, port = server.sockets[0].getsockname()[:2]
        self.place = Place(host, port)
        try:
            yield
        finally:
            server.close()
            await self.hang_up()

    async def hang_up(self) -> None:
        """End every connection, with no word of TLS."""
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for _ in range(5):
            await asyncio.sleep(0)

    def send(self, data: bytes) -> None:
        """Send bytes to all."""
        for writer in self.writers:
            for place in range(0, len(data), 1 if self.pieces else len(data)):
                writer.write(data[place : place + (1 if self.pieces else len(data))])

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = writer.get_extra_info("ssl_object")
        self.alpn = None if tls is None else tls.selected_alpn_protocol()
        writer.write(self.greeting)
        if self.hangs_up:
            writer.close()
            return
        deframer = Deframer()
        while True:
            while self.is_deaf:
                await asyncio.sleep(0.01)
            try:
                data = await reader.read(4096)
            except OSError:
                data = b""
            if not data:
                writer.close()
                # A connection that ends takes its allocation with it.
                self.server.allocation = None
                return
            for message in deframer.feed(data):
                self._answer(message)

    def _answer(self, message: bytes | ChannelData) -> None:
        if isinstance(message, bytes):
            for answer in self.server.take(message):
                self.send(answer)
        else:
            self.channel_data.append(message)
            back = pack_channel_data(message.channel, message.data.upper(), padded=True)
            self.send(back)


async def until(done: Callable[[], object], what: str) -> None:
    """Let the loop run until something is so."""
    for _ in range(4000):
        if done():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"waited in vain for {what}")
