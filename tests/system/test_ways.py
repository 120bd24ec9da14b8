"""Both data paths between namespaces, through a relay, by carriers and from other sockets, with
real TCP in the tunnel; and moves from one way to another while it runs."""

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.support.channel_relay import ChannelRelay
from tests.support.commands import wait_until
from tests.support.native_path import needs_native
from tests.support.netns import Namespace
from tests.support.tun_ends import TunEnd, tun_ends
from wgpy.datapath.contract import Endpoint, Via
from wgpy.linux.udp import bind

pytestmark = pytest.mark.root

KINDS = ["portable", pytest.param("native", marks=needs_native)]
RELAY_PORT = 3478
IPERF_PORT = 5201
ONE, OTHER = 0x4000, 0x4001
# Where the two are, as the relay might see them; nobody in these namespaces has the address.
BEHIND = Endpoint("198.51.100.9", 9999)
# What a stream carries at the very least in its second, on a machine that others use too.
LEAST_BYTES = 100_000
# Of counters, what would say that something went wrong inside.
FAULTS = {
    "bad_tag",
    "bad_inner",
    "wrong_source",
    "unknown_index",
    "unknown_relay",
    "unknown_channel",
    "bad_channel_data",
    "unknown_type",
    "hold_dropped",
    "hold_full",
}

Ends = tuple[TunEnd, Namespace, TunEnd]


@pytest.fixture(params=KINDS)
def ends(request: pytest.FixtureRequest, clean_machine: None) -> Iterator[Ends]:
    with tun_ends(request.param) as made:
        yield made


@pytest.fixture
def relay(ends: Ends) -> Iterator[ChannelRelay]:
    sock = ends[1].socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", RELAY_PORT))
    with ChannelRelay(sock) as made:
        yield made


def direct(ends: Ends) -> tuple[Endpoint, Endpoint]:
    """Where each end finds the other without the hub."""
    one, _, other = ends
    return Endpoint("10.93.0.2", other.port), Endpoint("10.93.0.1", one.port)


def relayed(end: TunEnd, hub: str, channel: int, carrier: int | None = None) -> Endpoint:
    """The peer of an end, behind the relay from now on."""

    def add(path) -> Via:  # type: ignore[no-untyped-def]
        via: Via = path.add_relay(Endpoint(hub, RELAY_PORT), carrier)
        path.set_channel(via, channel, BEHIND)
        return via

    return Endpoint(BEHIND.address, BEHIND.port, via=end.call(add), channel=channel)


def by_relay(ends: Ends, relay: ChannelRelay) -> tuple[Endpoint, Endpoint]:
    one, _, other = ends
    relay.join(("10.91.0.1", one.port), ONE, ("10.92.0.1", other.port), OTHER)
    return relayed(one, "10.91.0.2", ONE), relayed(other, "10.92.0.2", OTHER)


def by_carriers(
    ends: Ends, relay: ChannelRelay, stack: contextlib.ExitStack
) -> tuple[Endpoint, Endpoint]:
    one, _, other = ends
    found, far_ends = [], []
    for end, channel in ((one, ONE), (other, OTHER)):
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        far_ends.append(stack.enter_context(far))
        for sock in (near, far):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        found.append(relayed(end, "192.0.2.1", channel, near.detach()))
    relay.join(far_ends[0], ONE, far_ends[1], OTHER)
    return found[0], found[1]


def by_sockets(ends: Ends) -> tuple[Endpoint, Endpoint]:
    """Each from a socket of its own to that of the other."""
    made = []
    for end in (ends[0], ends[2]):
        bound = end.space.inside(lambda: bind(0, 0))
        assert bound.v4 is not None
        assert bound.v6 is not None
        os.close(bound.v6)
        fd = bound.v4
        made.append((end.call(lambda path, fd=fd: path.add_socket(fd)), bound.port))
    (one_via, one_port), (other_via, other_port) = made
    return (
        Endpoint("10.93.0.2", other_port, via=one_via),
        Endpoint("10.93.0.1", one_port, via=other_via),
    )


def wait_for_server(end: TunEnd, port: int) -> None:
    """Wait until a program listens there."""

    def listens() -> bool:
        return f":{port}" in end.space.run("ss", "-Hltn").stdout

    wait_until(listens, "the server to listen")


def iperf(source: TunEnd, target: TunEnd, seconds: int) -> int:
    """One TCP stream; the bytes that arrived."""
    server = target.space.popen("iperf3", "-s", "-1", "-p", str(IPERF_PORT))
    wait_for_server(target, IPERF_PORT)
    words = ("iperf3", "-c", target.address, "-p", str(IPERF_PORT), "-t", str(seconds), "-J")
    client = source.space.popen(*words)
    client.wait(seconds + 30)
    report = json.loads(client.output())
    server.wait(30)
    assert "error" not in report, report["error"]
    received: int = report["end"]["sum_received"]["bytes"]
    return received


# One TCP stream until SIGTERM; both ends print the digest of what they sent, and of what came.
SENDER = """
import hashlib, os, signal, socket, sys
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
digest = hashlib.sha256()
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as sock:
    while not stopped:
        block = os.urandom(1 << 14)
        sock.sendall(block)
        digest.update(block)
print(digest.hexdigest())
"""
RECEIVER = """
import hashlib, socket, sys
digest = hashlib.sha256()
with socket.create_server(("", int(sys.argv[1]))) as server:
    sock, _ = server.accept()
    while data := sock.recv(1 << 16):
        digest.update(data)
print(digest.hexdigest())
"""


def stream(source: TunEnd, target: TunEnd, meanwhile: Callable[[], None]) -> None:
    """One TCP stream for as long as something else takes: all of it arrives."""
    port = str(IPERF_PORT)
    receiver = target.space.popen(sys.executable, "-c", RECEIVER, port)
    wait_for_server(target, IPERF_PORT)
    sender = source.space.popen(sys.executable, "-c", SENDER, target.address, port)
    meanwhile()
    sender.child.send_signal(signal.SIGTERM)
    for process in (sender, receiver):
        assert process.wait(60) == 0, process.output()
    assert receiver.output() == sender.output()


def check(ends: Ends) -> None:
    """Pings of both sizes and families either way, and TCP."""
    one, _, other = ends
    for here, there in ((one, other), (other, one)):
        here.space.ping(there.address, 2)
        here.space.ping(f"fd77::{there.address[-1]}", 2)
        here.space.ping(there.address, 2, size=1390)
        assert iperf(here, there, 1) > LEAST_BYTES
    for end in (one, other):
        assert not FAULTS & set(end.counters()), end.counters()


@pytest.mark.tool("iperf3")
@pytest.mark.parametrize("way", ["relay", "carriers", "sockets"])
def test_a_tunnel(ends: Ends, relay: ChannelRelay, way: str) -> None:
    one, _, other = ends
    with contextlib.ExitStack() as stack:
        if way == "relay":
            places = by_relay(ends, relay)
        elif way == "carriers":
            places = by_carriers(ends, relay, stack)
        else:
            places = by_sockets(ends)
        one.use(places[0])
        other.use(places[1])
        check(ends)
        assert relay.refused == 0
        assert (relay.forwarded > 100) == (way != "sockets")
        for end, place in zip((one, other), places, strict=True):
            end.call(lambda path, via=place.via: path.remove_via(via))
        assert not one.space.can_ping(other.address)


def test_moves_while_tcp_runs(ends: Ends, relay: ChannelRelay) -> None:
    """To and fro between the relay and the direct path, each time with packets under way."""
    one, _, other = ends
    slow, fast = by_relay(ends, relay), direct(ends)
    for end, place in zip((one, other), slow, strict=True):
        # What was under way when the other side moved must not take this one back.
        end.call(lambda path, end=end: path.set_roaming(end.peer, False))
        end.use(place)

    def move() -> None:
        for _ in range(3):
            for places in (fast, slow):
                before = relay.forwarded
                if places is fast:
                    # Something goes through the relay before each move.
                    wait_until(lambda before=before: relay.forwarded > before + 50, "traffic", 30)
                for end, place in zip((one, other), places, strict=True):
                    end.use(place, hold=0.05)
                for end in (one, other):
                    end.call(lambda path, end=end: path.let_go(end.peer))

    stream(one, other, move)
    for end in (one, other):
        assert not FAULTS & set(end.counters()), end.counters()


class Datagrams:
    """Numbered datagrams through the tunnel, from one end to the other."""

    def __init__(self, ends: Ends, stack: contextlib.ExitStack) -> None:
        one, _, other = ends
        self._receiver = other.space.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sender = one.space.socket(socket.AF_INET, socket.SOCK_DGRAM)
        stack.enter_context(self._receiver)
        stack.enter_context(self._sender)
        self._receiver.bind((other.address, 0))
        self._receiver.settimeout(10)
        self._sender.connect(self._receiver.getsockname())
        self.count = 0

    def send(self, count: int) -> None:
        for _ in range(count):
            self._sender.send(self.count.to_bytes(4, "big"))
            self.count += 1

    def receive(self, count: int) -> list[int]:
        return [int.from_bytes(self._receiver.recv(100), "big") for _ in range(count)]


@pytest.mark.parametrize("hold", [0.0, 5.0])
def test_what_is_under_way_is_not_overtaken(ends: Ends, relay: ChannelRelay, hold: float) -> None:
    """The relay keeps what it has until after the move; without `hold` it would come last."""
    one, _, other = ends
    slow, fast = by_relay(ends, relay), direct(ends)
    one.use(slow[0])
    other.use(slow[1])
    with contextlib.ExitStack() as stack:
        datagrams = Datagrams(ends, stack)
        one.space.ping(other.address)
        relay.slow.set()
        datagrams.send(10)
        wait_until(lambda: relay.kept == 10, "the relay to have them")
        one.use(fast[0], hold=hold)
        datagrams.send(10)
        if not hold:
            assert datagrams.receive(10) == list(range(10, 20))
            relay.slow.clear()
            assert datagrams.receive(10) == list(range(10))
            return
        relay.slow.clear()
        assert datagrams.receive(10) == list(range(10))
        datagrams.send(5)
        one.call(lambda path: path.let_go(one.peer))
        datagrams.send(5)
        assert datagrams.receive(20) == list(range(10, 30))
        assert not FAULTS & set(one.counters())
