"""Datagrams of a lab that nobody should have sent, and what was sent to whom.

with Tap(host.namespace, "wlan0") as tap, Forger(mallory.namespace) as forger:
    forger.send((bob, 51820), (alice, 51820), b"...")      # as if it were from bob
tap.to(mallory)
"""

import socket
import struct
from types import TracebackType
from typing import NamedTuple, Self

from tests.support.capture import Capture, udp_frame
from tests.support.netns import Namespace

# Ethernet's header, and the protocol numbers of IPv4 in it and of UDP in that.
_ETHERNET = 14
_IPV4 = b"\x08\x00"
_UDP = 17


class Datagram(NamedTuple):
    """One of UDP over IPv4, of which a capture has the whole."""

    source: tuple[str, int]
    target: tuple[str, int]
    payload: bytes


class Tap:
    """What passes an interface, in both directions, from `with` to its end."""

    def __init__(self, space: Namespace, link: str) -> None:
        self._capture = Capture(space, link)

    def __enter__(self) -> Self:
        self._capture.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._capture.__exit__(kind, error, trace)

    def datagrams(self) -> list[Datagram]:
        """Every datagram so far."""
        assert not self._capture.overflow
        found = (_datagram(frame) for _, frame in list(self._capture.frames))
        return [each for each in found if each is not None]

    def to(self, address: str) -> list[Datagram]:
        """Those that were sent to an address."""
        return [each for each in self.datagrams() if each.target[0] == address]


def _datagram(frame: bytes) -> Datagram | None:
    packet = frame[_ETHERNET:]
    if frame[12:14] != _IPV4 or len(packet) < 28 or packet[9] != _UDP:
        return None
    start = (packet[0] & 15) * 4
    source, target, length = struct.unpack_from("!HHH", packet, start)
    return Datagram(
        (socket.inet_ntoa(packet[12:16]), source),
        (socket.inet_ntoa(packet[16:20]), target),
        packet[start + 8 : start + length],
    )


class Forger:
    """Sends datagrams that say to be from anybody."""

    def __init__(self, space: Namespace) -> None:
        self._raw = space.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._raw.close()

    def send(self, source: tuple[str, int], target: tuple[str, int], payload: bytes) -> None:
        """One datagram of at most 1,472 bytes."""
        packet = udp_frame(source, target, payload)[_ETHERNET:]
        self._raw.sendto(packet, (target[0], 0))
