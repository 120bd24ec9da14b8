"""A machine that forwards between a network and peers that the test plays, packet by packet.

                 outside                 gate                      the test
          veth0 192.0.2.2 ──────── veth0 192.0.2.1
                fd92::2                  fd92::1
                                         wgt0 10.0.0.254 ── TUN ── all the peers
                                              fd00::fe

The test holds the TUN: what it writes comes from a peer, what it reads goes to one. Each packet has
a port of its own, by which it is known wherever it comes out.
"""

import contextlib
import fcntl
import os
import select
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.support.netns import Namespace
from tests.support.packets import checksum, ip_packet, pseudo_header
from wgpy.firewall.rules import Protocol
from wgpy.ip import address_text, parse_address

LINK = "wgt0"
PORTS = (22, 53, 80, 8080)
THIS = {4: parse_address("10.0.0.254"), 6: parse_address("fd00::fe")}
OUTSIDE = {4: parse_address("192.0.2.2"), 6: parse_address("fd92::2")}
# Nobody's address behind the TUN, and no member's: what it sends is never judged.
PLAIN = {4: parse_address("10.0.99.1"), 6: parse_address("fd00:99::1")}
SENTINEL_PORT = 1


@dataclass(frozen=True)
class Flow:
    """The first packet of a connection."""

    source: bytes
    destination: bytes
    protocol: Protocol
    port: int


class Gate:
    """The two namespaces, the TUN, and sockets on every port in both."""

    def __init__(self, gate: Namespace, outside: Namespace) -> None:
        self.gate, self.outside = gate, outside
        gate.ip("link", "add", "veth0", "type", "veth", "peer", "name", "veth0", "netns",
                outside.name)  # fmt: skip
        for place, host in ((gate, 1), (outside, 2)):
            place.add_address("veth0", f"192.0.2.{host}/24", f"fd92::{host}/64")
            place.ip("link", "set", "veth0", "up")
        self.tun = gate.inside(self._open_tun)
        gate.add_address(LINK, "10.0.0.254/8", "fd00::fe/16")
        gate.ip("link", "set", LINK, "up")
        for place in (gate, outside):
            for name in (
                "net.ipv4.ip_forward=1",
                "net.ipv6.conf.all.forwarding=1",
                "net.ipv4.conf.all.rp_filter=0",
                "net.ipv4.conf.all.send_redirects=0",
                "net.ipv4.tcp_syn_retries=1",
            ):
                place.run("sysctl", "-q", "-w", name)
        gate.run("sysctl", "-q", "-w", f"net.ipv4.conf.{LINK}.send_redirects=0")
        outside.ip("route", "add", "10.0.0.0/8", "via", "192.0.2.1")
        outside.ip("route", "add", "fd00::/16", "via", "fd92::1")
        self.next_port = 10_000
        self.listeners = [
            self._listener(place, port) for place in (gate, outside) for port in PORTS
        ]

    def _open_tun(self) -> int:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", LINK.encode(), 0x1001))
        return fd

    def _listener(self, place: Namespace, port: int) -> socket.socket:
        udp = place.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        udp.setblocking(False)
        udp.bind(("::", port))
        return udp

    def close(self) -> None:
        for listener in self.listeners:
            listener.close()
        os.close(self.tun)

    def passed(self, flows: Sequence[Flow]) -> list[bool]:
        """Which of these got through."""
        mine: dict[int, int] = {}
        with contextlib.ExitStack() as stack:
            for number, flow in enumerate(flows):
                port = self._port()
                mine[port] = number
                self._send(flow, port, stack)
            seen = self._collect({self._sentinel(version, stack) for version in (4, 6)})
        return [any(mine.get(port) == number for port in seen) for number in range(len(flows))]

    def comes_through(self, flow: Flow, source_port: int) -> bool:
        """Whether a datagram from one peer to another, from this port, comes out at the TUN."""
        assert flow.protocol is Protocol.UDP
        os.write(self.tun, packet(flow, source_port))
        with contextlib.ExitStack() as stack:
            wanted = {self._sentinel(4, stack)}
            return (source_port, flow.port) in self._pairs(wanted)

    def _pairs(self, sentinels: set[int]) -> set[tuple[int, int]]:
        """Source and destination ports of what comes out, until the sentinels have."""
        found: set[tuple[int, int]] = set()
        while not sentinels <= {port for pair in found for port in pair}:
            ready, _, _ = select.select([self.tun], [], [], 10.0)
            assert ready, "the sentinel did not come back"
            with contextlib.suppress(BlockingIOError):
                while True:
                    raw = os.read(self.tun, 2000)
                    if raw[0] >> 4 == 4 and raw[9] in (6, 17):
                        found.add(struct.unpack_from("!HH", raw, (raw[0] & 0xF) * 4))
        return found

    def restore_routes(self, link: str) -> None:
        """Give the link the IPv6 address that it lost when it was down."""
        self.gate.ip("address", "replace", "fd00::fe/16", "dev", link, "nodad")

    def _port(self) -> int:
        self.next_port += 1
        if self.next_port > 64_000:
            self.next_port = 10_000
        return self.next_port

    def _send(self, flow: Flow, port: int, stack: contextlib.ExitStack) -> None:
        if flow.source not in (*THIS.values(), *OUTSIDE.values()):
            os.write(self.tun, packet(flow, port))
            return
        place = self.gate if flow.source in THIS.values() else self.outside
        family = socket.AF_INET if len(flow.source) == 4 else socket.AF_INET6
        target = address_text(flow.destination)
        own = address_text(flow.source)
        if flow.protocol is Protocol.ICMP:
            number = socket.IPPROTO_ICMP if len(flow.source) == 4 else socket.IPPROTO_ICMPV6
            sender = stack.enter_context(place.socket(family, socket.SOCK_RAW, number))
            sender.bind((own, 0))
            data = body(flow, port)
            if len(flow.source) == 16:
                data = data[:2] + bytes(2) + data[4:]
            # A packet that the table drops on its way out is an error here.
            with contextlib.suppress(PermissionError):
                sender.sendto(data, (target, 0))
            return
        kind = socket.SOCK_STREAM if flow.protocol is Protocol.TCP else socket.SOCK_DGRAM
        sender = stack.enter_context(place.socket(family, kind))
        sender.setblocking(False)
        sender.bind((own, port))
        with contextlib.suppress(BlockingIOError, PermissionError):
            sender.connect((target, flow.port))
            sender.send(b"x")

    def _sentinel(self, version: int, stack: contextlib.ExitStack) -> int:
        """Send what always passes, by the longest way, after everything else: its answer says that
        whatever was to come has come."""
        port = self._port()
        flow = Flow(PLAIN[version], OUTSIDE[version], Protocol.TCP, SENTINEL_PORT)
        self._send(flow, port, stack)
        return port

    def _collect(self, sentinels: set[int]) -> set[int]:
        """The ports of what came out, until the sentinels have."""
        seen: set[int] = set()
        while not sentinels <= seen:
            ready, _, _ = select.select([self.tun, *self.listeners], [], [], 10.0)
            assert ready, "the sentinels did not come back"
            for listener in self.listeners:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        seen.add(listener.recvfrom(100)[1][1])
            with contextlib.suppress(BlockingIOError):
                while True:
                    seen.update(ports(os.read(self.tun, 2000)))
        return seen


def body(flow: Flow, port: int) -> bytes:
    """The transport's part of the first packet."""
    match flow.protocol:
        case Protocol.TCP:
            text = struct.pack("!HHIIBBHHH", port, flow.port, 7, 0, 5 << 4, 2, 1024, 0, 0)
            at, number = 16, 6
        case Protocol.UDP:
            text, at, number = struct.pack("!HHHH", port, flow.port, 9, 0) + b"x", 6, 17
        case Protocol.ICMP if len(flow.source) == 4:
            text = struct.pack("!BBHHH", 8, 0, 0, port, 1)
            value = checksum(text)
            return text[:2] + value.to_bytes(2, "big") + text[4:]
        case _:
            text, at, number = struct.pack("!BBHHH", 128, 0, 0, port, 1), 2, 58
    value = checksum(pseudo_header(flow.source, flow.destination, number, len(text)), text)
    return text[:at] + value.to_bytes(2, "big") + text[at + 2 :]


def packet(flow: Flow, port: int) -> bytes:
    icmp = 1 if len(flow.source) == 4 else 58
    number = {Protocol.TCP: 6, Protocol.UDP: 17, Protocol.ICMP: icmp}[flow.protocol]
    return ip_packet(number, body(flow, port), source=flow.source, target=flow.destination)


def ports(raw: bytes) -> Iterator[int]:
    """The port that tells a packet from others: the source's, or in an answer the destination's."""
    start = (raw[0] & 0xF) * 4 if raw[0] >> 4 == 4 else 40
    number = raw[9] if raw[0] >> 4 == 4 else raw[6]
    if number in (6, 17):
        yield from (x for x in struct.unpack_from("!HH", raw, start) if x >= 10_000)
    elif raw[start] in (0, 8, 128, 129):
        yield struct.unpack_from("!H", raw, start + 4)[0]


@contextlib.contextmanager
def open_gate() -> Iterator[Gate]:
    """A gate, gone at the end."""
    with Namespace("gate") as inner, Namespace("outside") as outside:
        # One processor: what is sent after something else also arrives after it.
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(before)})
        made = Gate(inner, outside)
        try:
            yield made
        finally:
            made.close()
            os.sched_setaffinity(0, before)
