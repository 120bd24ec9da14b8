"""The sockets of a STUN server: one for each address and port, in one event loop.

A coordinator calls `StunServer` inside its own loop; `wgpy stun-server` runs nothing else.
"""

import asyncio
import socket
from collections.abc import Sequence

from wgpy.linux.timerfd import boottime
from wgpy.nat.place import Place
from wgpy.nat.stun_server import MAX_REQUEST, Responder

# Datagrams read from one socket before the others, and the rest of the program, have their turn.
_AT_ONCE = 64


class StunServer:
    """Binds the sockets, and serves them from `start` to `close`."""

    def __init__(self, places: Sequence[Place], *, any_client: bool = False) -> None:
        """Bind each address and port; 0 takes a free one, which `bound` tells.

        The address is one of this machine's, for answers name it. Raises OSError with the place,
        and ValueError for places that make no square (stun_server.py).
        """
        self._sockets: dict[Place, socket.socket] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        try:
            for place in places:
                sock = _bind(place)
                self._sockets[Place(place.host, sock.getsockname()[1])] = sock
            self._responder = Responder(self.bound, any_client=any_client)
        except (OSError, ValueError):
            self.close()
            raise
        self.counters = self._responder.counters

    @property
    def bound(self) -> tuple[Place, ...]:
        """The addresses and ports that are served."""
        return tuple(self._sockets)

    def start(self) -> None:
        """Serve from the running loop from now on."""
        self._loop = asyncio.get_running_loop()
        for place, sock in self._sockets.items():
            self._loop.add_reader(sock, self._readable, place, sock)

    def close(self) -> None:
        """Serve no more, and close the sockets. What waits to be sent is forgotten."""
        if self._timer is not None:
            self._timer.cancel()
        for sock in self._sockets.values():
            if self._loop is not None:
                self._loop.remove_reader(sock)
            sock.close()

    def _readable(self, at: Place, sock: socket.socket) -> None:
        now = boottime()
        for _ in range(_AT_ONCE):
            try:
                # A byte more than the longest: a longer one is known by it.
                data, address = sock.recvfrom(MAX_REQUEST + 1)
            except BlockingIOError:
                break
            except OSError:
                # An ICMP error for an answer of ours; the next datagram is read when it comes.
                self.counters["socket_error"] += 1
                break
            if "%" in address[0]:
                # A neighbour on one link: no router stands between us.
                self.counters["link_local"] += 1
                continue
            self._responder.receive(data, Place(address[0], address[1]), at, now)
        self._work(now)

    def _work(self, now: float) -> None:
        """Send what is to be sent, and be woken for what is to be sent later."""
        self._responder.tick(now)
        for reply in self._responder.take():
            try:
                self._sockets[reply.at].sendto(reply.data, reply.to[:2])
            except OSError:
                # No room, no route, a rule of the firewall: the client asks again.
                self.counters["not_sent"] += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._responder.due()
        if due is not None and self._loop is not None:
            self._timer = self._loop.call_later(max(0.0, due - now), self._late)

    def _late(self) -> None:
        self._timer = None
        self._work(boottime())


def _bind(place: Place) -> socket.socket:
    family = socket.AF_INET6 if place.is_v6 else socket.AF_INET
    kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    sock = socket.socket(family, kind)
    try:
        if place.is_v6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(place[:2])
    except OSError as error:
        sock.close()
        raise OSError(error.errno, error.strerror, str(place)) from None
    return sock
