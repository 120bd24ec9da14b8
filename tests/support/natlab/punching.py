"""Hole punching as simply as it can be: what a NAT lets through without anything clever.

Both ends learn from a reflector what their sockets look like from outside, and tell each other. One
end sends to that a little earlier than the other, and each answers what comes where it came from.
Many pairs punch at once, in one thread.
"""

import contextlib
import select
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.support.natlab.host import LabHost
from tests.support.natlab.reflector import Address, Reflector, mapped

# The second one begins so much later, in seconds: a signal that takes its time.
SKEW = 0.05
# Each sends so often, at such intervals.
_TIMES = 6
_EVERY = 0.05
# What has not come by then, after the last was sent, does not come.
_PATIENCE = 0.3
_PING, _PONG = b"ping", b"pong"


@dataclass(slots=True)
class _Side:
    """One socket of an attempt. `targets` are the places that it sends to."""

    udp: socket.socket
    attempt: int
    delay: float
    targets: list[Address] = field(default_factory=list)
    sent: int = 0
    through: bool = False

    def send(self, now: float) -> None:
        """What is due, `now` seconds after the start."""
        while self.sent < _TIMES and now >= self.delay + self.sent * _EVERY:
            self.sent += 1
            for target in self.targets:
                self._put(_PING, target)

    def receive(self) -> None:
        """Answer a ping. A pong proves that both ways are open."""
        data, source = self.udp.recvfrom(100)
        if data == self._word(_PONG):
            self.through = True
        elif data == self._word(_PING):
            self._put(_PONG, source)
            if source not in self.targets:
                self.targets.append(source)

    def _put(self, word: bytes, target: Address) -> None:
        self.udp.sendto(self._word(word), target)

    def _word(self, word: bytes) -> bytes:
        return word + self.attempt.to_bytes(4, "big")


def punch(
    pairs: Iterable[tuple[LabHost, LabHost]], reflector: Reflector, skew: float = SKEW
) -> list[bool]:
    """Let each pair punch, the first of it `skew` seconds earlier; whether both got through.

    A host without UDP gets nowhere. Takes about a second for all together.
    """
    with contextlib.ExitStack() as stack:
        attempts: list[tuple[_Side, _Side]] = []
        for number, (early, late) in enumerate(pairs):
            sides = []
            for host, delay in ((early, 0.0), (late, skew)):
                sides.append(_Side(stack.enter_context(host.udp()), number, delay))
            attempts.append((sides[0], sides[1]))
        _introduce(attempts, reflector)
        _run([side for sides in attempts for side in sides if side.targets])
        return [one.through and other.through for one, other in attempts]


def _introduce(attempts: list[tuple[_Side, _Side]], reflector: Reflector) -> None:
    """Tell each side what the other looks like, where both look like something."""
    sides = [side for sides in attempts for side in sides]
    places = iter(mapped([side.udp for side in sides], reflector))
    for (one, other), (first, second) in zip(
        attempts, zip(places, places, strict=True), strict=True
    ):
        if first is not None and second is not None:
            one.targets.append(second)
            other.targets.append(first)


def _run(sides: list[_Side]) -> None:
    """Let all send what is due, and take what comes, until all are through or time is over."""
    by_socket = {side.udp: side for side in sides}
    for udp in by_socket:
        udp.setblocking(False)
    start = time.monotonic()
    life = max((side.delay for side in sides), default=0.0) + _TIMES * _EVERY + _PATIENCE
    while (now := time.monotonic() - start) < life and not all(x.through for x in sides):
        for side in sides:
            side.send(now)
        for udp in select.select(list(by_socket), (), (), 0.005)[0]:
            by_socket[udp].receive()
