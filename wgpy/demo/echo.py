"""ICMP echo by our own hand, so that the demo needs no ping(8) (RFC 792, RFC 4443)."""

import contextlib
import os
import socket
import struct
import time
from dataclasses import dataclass
from typing import Final

_HEADER: Final = struct.Struct("!BBHHH")
# type of the request and of the reply
_TYPES: Final = {4: (8, 0), 6: (128, 129)}
# linux/icmpv6.h: the socket option that keeps neighbour discovery out, one bit a type, 1 = drop.
_ICMPV6_FILTER: Final = 1
_PAYLOAD: Final = b"a tunnel that a person can read."


@dataclass(frozen=True, slots=True)
class Echoes:
    """The answers to a few echo requests: round trips in seconds, None for each unanswered."""

    address: str
    times: tuple[float | None, ...]

    @property
    def answered(self) -> int:
        """How many came back."""
        return sum(time is not None for time in self.times)

    @property
    def settled(self) -> float | None:
        """The median round trip after the first, which may have waited for a handshake."""
        times = sorted(time for time in self.times[1:] if time is not None)
        return times[len(times) // 2] if times else None


def request(version: int, identifier: int, sequence: int) -> bytes:
    """An echo request. The kernel fills in the checksum of version 6, we that of 4."""
    kind = _TYPES[version][0]
    body = _HEADER.pack(kind, 0, 0, identifier, sequence) + _PAYLOAD
    if version == 6:
        return body
    return _HEADER.pack(kind, 0, checksum(body), identifier, sequence) + _PAYLOAD


def reply(version: int, packet: bytes) -> tuple[int, int] | None:
    """Identifier and sequence of an echo reply as a raw socket gives it; None if it is none.

    Version 4 comes with its IP header, version 6 without.
    """
    start = (packet[0] & 15) * 4 if version == 4 and packet else 0
    if len(packet) < start + _HEADER.size:
        return None
    kind, code, _, identifier, sequence = _HEADER.unpack_from(packet, start)
    return (identifier, sequence) if (kind, code) == (_TYPES[version][1], 0) else None


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    words: tuple[int, ...] = struct.unpack(f"!{len(padded) // 2}H", padded)
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ping(address: str, count: int, interval: float = 0.1, timeout: float = 2.0) -> Echoes:
    """Send `count` echoes, each when the last was answered or `timeout` seconds have passed.

    Runs in the calling thread's namespace and needs CAP_NET_RAW. Raises OSError.
    """
    version = 6 if ":" in address else 4
    identifier = os.getpid() & 0xFFFF
    times: list[float | None] = []
    with open_socket(version) as raw:
        raw.connect((address, 0))
        for sequence in range(count):
            if sequence:
                time.sleep(interval)
            # An ICMP error of the way (no key yet, say) comes as an error of send or of receive.
            with contextlib.suppress(OSError):
                raw.send(request(version, identifier, sequence))
            times.append(_await(raw, version, (identifier, sequence), timeout))
    return Echoes(address, tuple(times))


def open_socket(version: int) -> socket.socket:
    """A raw socket for echoes of IP version 4 or 6. Needs CAP_NET_RAW; raises OSError."""
    if version == 4:
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    kinds = bytearray(b"\xff" * 32)
    word, bit = divmod(_TYPES[6][1], 32)
    struct.pack_into("=I", kinds, 4 * word, 0xFFFFFFFF & ~(1 << bit))
    raw.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, bytes(kinds))
    return raw


def _await(
    raw: socket.socket, version: int, wanted: tuple[int, int], timeout: float
) -> float | None:
    started = time.perf_counter()
    while (left := started + timeout - time.perf_counter()) > 0:
        raw.settimeout(left)
        try:
            packet = raw.recv(2048)
        except TimeoutError:
            return None
        except OSError:
            continue  # an ICMP error about an earlier packet; this one may still be answered
        if reply(version, packet) == wanted:
            return time.perf_counter() - started
    return None
