"""A TURN client on real sockets, in a namespace: over datagrams, and over a stream.

Both have the same face: `bind` a peer, `send` to it by its channel, and look at what came in `data`
and `events`. Time passes only in `until` and `run`.
"""

import asyncio
import contextlib
import os
import select
import socket
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from tests.support.netns import Namespace
from wgpy.linux.timerfd import boottime
from wgpy.nat.channel_data import ChannelData, pack_channel_data, parse_channel_data
from wgpy.nat.place import Place, Send
from wgpy.nat.stun import is_stun
from wgpy.nat.turn import State, TurnClient
from wgpy.nat.turn_credentials import Source
from wgpy.nat.turn_events import Allocated, Bound, Event
from wgpy.nat.turn_stream import TurnStream
from wgpy.nat.turn_wire import StreamServer

# A machine with much to do; nothing here takes longer than a second by itself.
PATIENCE = 20.0


class Echo:
    """A peer: a UDP socket that sends everything back, in capitals, and keeps where it came from.
    Use `turn` to let it."""

    def __init__(self, space: Namespace, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = space.socket(family, socket.SOCK_DGRAM)
        self.socket.bind((address, 0))
        self.socket.setblocking(False)
        self.place = Place(*self.socket.getsockname()[:2])
        self.sources: list[Place] = []

    def turn(self) -> None:
        """Answer all that came."""
        with contextlib.suppress(BlockingIOError):
            while True:
                data, source = self.socket.recvfrom(70000)
                self.sources.append(Place(*source[:2]))
                self.socket.sendto(data.upper(), source)

    def close(self) -> None:
        self.socket.close()


class TurnEnd:
    """What both have in common."""

    client: TurnClient

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.data: list[ChannelData] = []
        self.peers: list[Echo] = []

    def said(self, kind: type[Event]) -> list[Any]:
        """The events of one kind."""
        return [x for x in self.events if isinstance(x, kind)]

    def turn(self, wait: float) -> None:
        """Let everything happen that can within `wait` seconds."""
        raise AssertionError("it is abstract")

    def send(self, channel: int, data: bytes) -> None:
        """Send by a channel."""
        raise AssertionError("it is abstract")

    def told(self) -> None:
        """Take what the client says after a call of it."""
        raise AssertionError("it is abstract")

    def bind(self, peer: Place) -> int:
        """A channel to a peer, when it is bound."""
        channel = self.client.bind(peer, boottime())
        assert channel is not None
        self.told()
        self.until(lambda: any(x.peer == peer for x in self.said(Bound)), f"a channel to {peer}")
        return channel

    def allocate(self) -> Allocated:
        """The allocation, when there is one."""
        self.until(lambda: self.said(Allocated), f"an allocation at {self.client.server}")
        found: Allocated = self.said(Allocated)[-1]
        return found

    def echoes(self, channel: int, data: bytes, tries: int = 1) -> bool:
        """Whether data sent by a channel comes back from the peer, within a second."""
        wanted = ChannelData(channel, data.upper())
        for _ in range(tries):
            self.send(channel, data)
            deadline = boottime() + 1.0
            while boottime() < deadline:
                if wanted in self.data:
                    self.data.remove(wanted)
                    return True
                self.turn(0.02)
        return False

    def until(self, done: Callable[[], object], what: str, timeout: float = PATIENCE) -> None:
        """Let things happen until something is so; AssertionError after `timeout` seconds."""
        deadline = boottime() + timeout
        while not done():
            if boottime() > deadline:
                said = f"{self.events[-3:]}, {dict(self.client.counters)}"
                raise AssertionError(f"waited in vain for {what}: {self.client.state}, {said}")
            self.turn(0.02)

    def run(self, seconds: float) -> None:
        """Let things happen for a while."""
        end = boottime() + seconds
        while boottime() < end:
            self.turn(0.02)


class DatagramEnd(TurnEnd):
    """A client over UDP; `start` it. With `port`, from that one."""

    def __init__(
        self, space: Namespace, server: Place, source: Source, *, port: int = 0, **options: Any
    ) -> None:
        super().__init__()
        family = socket.AF_INET6 if server.is_v6 else socket.AF_INET
        self.socket = space.socket(family, socket.SOCK_DGRAM)
        self.socket.bind(("", port))
        self.client = TurnClient(server, source, os.urandom, **options)
        # Messages of ours in order: how many times the wire was waited for can be told from them.
        self.sent: list[bytes] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()
        for peer in self.peers:
            peer.close()

    def start(self) -> None:
        self.client.start(boottime())
        self.told()

    def close(self) -> None:
        """Delete the allocation."""
        self.client.close(boottime())
        self.told()
        self.until(lambda: self.client.state is State.CLOSED, "the end")

    def told(self) -> None:
        for item in self.client.take():
            if isinstance(item, Send):
                self.sent.append(item.data)
                # As the data path does: what cannot be sent is lost.
                with contextlib.suppress(OSError):
                    self.socket.sendto(item.data, (item.to.host, item.to.port))
            else:
                self.events.append(item)

    def send(self, channel: int, data: bytes) -> None:
        server = self.client.server
        self.socket.sendto(pack_channel_data(channel, data), (server.host, server.port))

    def turn(self, wait: float) -> None:
        waiting = [self.socket, *(peer.socket for peer in self.peers)]
        select.select(waiting, [], [], wait)
        for peer in self.peers:
            peer.turn()
        with contextlib.suppress(OSError):
            while True:
                data, source = self.socket.recvfrom(70000, socket.MSG_DONTWAIT)
                place = Place(*source[:2])
                if is_stun(data):
                    self.client.receive(data, place, boottime())
                elif place == self.client.server:
                    self.data.append(parse_channel_data(data))
        self.client.tick(boottime())
        self.told()


class StreamEnd(TurnEnd):
    """A client over TCP or TLS; `start` it. Its loop runs in `turn` only."""

    def __init__(
        self, space: Namespace, server: StreamServer, source: Source, **options: Any
    ) -> None:
        super().__init__()
        self._space = space
        self._loop = asyncio.new_event_loop()
        self.client = TurnClient(server.place, source, os.urandom, stream=True, **options)
        self.stream = TurnStream(server, self.client, self.events.append, open_socket=self._open)
        self.carrier = socket.socket(fileno=self.stream.take_carrier())
        self.carrier.setblocking(False)
        self._task: asyncio.Task[None] | None = None

    def _open(self, family: socket.AddressFamily) -> socket.socket:
        return self._space.socket(family, socket.SOCK_STREAM)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            self._loop.run_until_complete(asyncio.gather(self._task, return_exceptions=True))
        self._loop.close()
        self.carrier.close()
        for peer in self.peers:
            peer.close()

    def start(self) -> None:
        self._task = self._loop.create_task(self.stream.run())

    def close(self) -> None:
        """Delete the allocation."""
        self.stream.close()
        task = self._task
        self.until(lambda: task is None or task.done(), "the end")

    def told(self) -> None:
        self._loop.call_soon(self.stream.pump)

    def send(self, channel: int, data: bytes) -> None:
        # As the data path does: what cannot be sent is lost.
        with contextlib.suppress(BlockingIOError):
            self.carrier.send(pack_channel_data(channel, data))

    def turn(self, wait: float) -> None:
        self._loop.run_until_complete(asyncio.sleep(min(wait, 0.005)))
        for peer in self.peers:
            peer.turn()
        with contextlib.suppress(BlockingIOError):
            while True:
                self.data.append(parse_channel_data(self.carrier.recv(70000)))


@contextlib.contextmanager
def closing(end: TurnEnd, *peers: Echo) -> Iterator[TurnEnd]:
    """Start an end, with peers that answer while it waits; at the end all sockets are closed."""
    end.peers += peers
    with end:  # type: ignore[attr-defined]
        end.start()  # type: ignore[attr-defined]
        yield end
