"""The table in the kernel does what `verdict` says: real packets, by rules that are made up.

                 outside                 gate                      the test
          veth0 192.0.2.2 ──────── veth0 192.0.2.1
                fd92::2                  fd92::1
                                         wgt0 10.0.0.254 ── TUN ── all the peers
                                              fd00::fe

The gate's kernel forwards and has the table. The test holds the TUN and plays the peers: what it
writes comes from a peer, what it reads goes to one. Each packet has a port of its own, by which it
is known wherever it comes out.
"""

import contextlib
import fcntl
import os
import select
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.netns import Namespace
from tests.support.packets import checksum, ip_packet, pseudo_header
from wgpy.firewall.rules import (
    Action,
    Protocol,
    Rule,
    Settings,
    parse_selector,
    parse_service,
)
from wgpy.firewall.table import Firewall
from wgpy.firewall.verdict import End, Member, Side, owner, verdict
from wgpy.ip import address_text, parse_address, parse_prefix

pytestmark = [pytest.mark.root, pytest.mark.tool("nft", "ip")]

LINK = "wgt0"
PORTS = (22, 53, 80, 8080)
THIS = {4: parse_address("10.0.0.254"), 6: parse_address("fd00::fe")}
OUTSIDE = {4: parse_address("192.0.2.2"), 6: parse_address("fd92::2")}
# Nobody's address behind the TUN, and no member's: what it sends is never judged.
PLAIN = {4: parse_address("10.0.99.1"), 6: parse_address("fd00:99::1")}
SENTINEL_PORT = 1


def member(key: str, name: str, groups: str, prefixes: str, *, judged: bool = True) -> Member:
    return Member(
        key, name, frozenset(groups.split()), tuple(map(parse_prefix, prefixes.split())), judged
    )


MEMBERS = (
    member("ada", "ada.mesh", "staff", "10.0.0.1/32 fd00::1/128"),
    member("bob", "bob.mesh", "staff servers", "10.0.0.2/32 fd00::2/128"),
    # A router, within whose prefix others have addresses.
    member("cid", "cid.mesh", "servers", "10.0.0.3/32 10.9.0.0/16 fd00:9::/32 fd00::3/128"),
    member("dan", "dan.mesh", "", "10.9.5.5/32 fd00:9::5/128"),
    member("office", "the office", "", "10.0.1.0/24 fd00:1::/64"),
    # Configured, and named nowhere; the second lies within the router's prefix.
    member("eve", "", "", "10.0.2.0/24 fd00:2::/64", judged=False),
    member("fay", "", "", "10.9.7.0/24 fd00:9:7::/64", judged=False),
)
# One address of each, and two of the router.
PEERS = [
    parse_address(text)
    for text in (
        *("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.9.200.1", "10.9.5.5"),
        *("10.0.1.7", "10.0.2.7", "10.9.7.7"),
        *("fd00::1", "fd00::2", "fd00::3", "fd00:9::77", "fd00:9::5"),
        *("fd00:1::7", "fd00:2::7", "fd00:9:7::7"),
    )
]


@dataclass(frozen=True)
class Flow:
    """The first packet of a connection."""

    source: bytes
    destination: bytes
    protocol: Protocol
    port: int


def end(address: bytes) -> End:
    if address in THIS.values():
        return End(Side.THIS, address=address)
    found = owner(MEMBERS, address)
    return End(Side.OUTSIDE if found is None else Side.PEER, found, address)


# --- The machine ---


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


@pytest.fixture(scope="module")
def gate() -> Iterator[Gate]:
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


# --- Made-up rules ---

selectors = st.sampled_from(
    [
        parse_selector(text)
        for text in (
            *("any", "this", "group:staff", "group:servers", "group:nobody"),
            *("name:ada.mesh", "name:dan.mesh", "name:the office", "name:cid.mesh"),
            *("net:192.0.2.0/24", "net:fd92::2/128", "net:0.0.0.0/0", "net:10.0.0.0/8"),
        )
    ]
)
services = st.sampled_from(
    [
        parse_service(text)
        for text in ("tcp", "udp", "icmp", "22/tcp", "50-80/tcp", "53/udp", "80/tcp", "1-60/udp")
    ]
)
rules = st.builds(
    Rule,
    st.sampled_from(Action),
    st.lists(selectors, min_size=1, max_size=3).map(tuple),
    st.lists(selectors, min_size=1, max_size=3).map(tuple),
    st.lists(services, max_size=3).map(tuple),
)


def flows() -> list[Flow]:
    """Every pair of ends of one IP version, each with another protocol and port, in turn."""
    kinds = [(Protocol.TCP, port) for port in PORTS] + [(Protocol.UDP, port) for port in PORTS]
    kinds.append((Protocol.ICMP, 0))
    found = []
    for version, size in ((4, 4), (6, 16)):
        ends = [x for x in PEERS if len(x) == size] + [THIS[version], OUTSIDE[version]]
        for source in ends:
            for destination in ends:
                if {source, destination} <= {THIS[version], OUTSIDE[version]}:
                    continue
                if source != destination:
                    protocol, port = kinds[len(found) % len(kinds)]
                    found.append(Flow(source, destination, protocol, port))
    return found


def expected(table: Sequence[Rule], flow: Flow) -> bool:
    port = None if flow.protocol is Protocol.ICMP else flow.port
    source, destination = end(flow.source), end(flow.destination)
    return verdict(table, source, destination, flow.protocol, port).allowed


# Without shrinking: each example takes a second, and a few rules can be read as they are.
@settings(
    max_examples=25,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
    deadline=None,
)
@given(table=st.lists(rules, min_size=1, max_size=6), turn=st.integers(0, 8))
def test_the_kernel_does_what_the_verdict_says(gate: Gate, table: list[Rule], turn: int) -> None:
    firewall = Firewall(LINK)
    gate.gate.inside(lambda: firewall.start(Settings(tuple(table))))
    try:
        gate.gate.inside(lambda: firewall.change(add=MEMBERS))
        tried = flows()[turn:] + flows()[:turn]
        got = gate.passed(tried)
        wrong = [
            (str(end(flow.source)), str(end(flow.destination)), flow, allowed)
            for flow, allowed in zip(tried, got, strict=True)
            if allowed != expected(table, flow)
        ]
        assert wrong == [], list(map(str, table))
    finally:
        gate.gate.inside(firewall.stop)
