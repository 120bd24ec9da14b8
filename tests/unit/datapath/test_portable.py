"""The shell of the portable data path: real UDP sockets on loopback, and a pair for the TUN.

A pair of AF_UNIX datagram sockets keeps packets apart as a TUN does, and needs no root.
"""

import errno
import os
import select
import socket

import pytest

from tests.support.memory_path import key_pair
from tests.support.netns import Namespace
from tests.support.packets import Segment, ip_packet, kernel_receives
from wgpy.datapath.contract import (
    AllowedIpOperation,
    Datagram,
    Endpoint,
    FilterRule,
    HandshakeNeeded,
    Slot,
    TunLost,
)
from wgpy.datapath.portable import Portable
from wgpy.ip import parse_prefix
from wgpy.linux.tun import open_tun
from wgpy.linux.udp import bind

UDP = 17
PACKET = ip_packet(UDP, b"payload")
NO_VNET = bytes(10)


class End:
    """A data path, up, with sockets on loopback; `kernel` is the other end of its TUN."""

    def __init__(self, *, vnet_header=True, mtu=1420):
        self.now = 1000.0
        self.kernel, self._tun = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for sock in (self.kernel, self._tun):
            sock.setblocking(False)
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                sock.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
        self.path = Portable(
            self._tun.fileno(), vnet_header=vnet_header, mtu=mtu, clock=lambda: self.now
        )
        self.port = 0
        self.rebind()
        self.path.set_up(True)

    def rebind(self):
        bound = bind(0, 0)
        self.path.set_sockets(bound.v4, bound.v6)
        self.port = bound.port

    def readable(self, within=5.0):
        return bool(select.select([self.path.fileno()], [], [], within)[0])

    def turn(self):
        """Wait for something to do, do it, and return the events."""
        assert self.readable(), "nothing happens"
        return self.path.drain(32)

    def frames(self, count):
        """The next frames for the kernel, vnet header first."""
        found = []
        while len(found) < count:
            self.turn()
            while True:
                try:
                    found.append(self.kernel.recv(1 << 17))
                except BlockingIOError:
                    break
        return found

    def write(self, packet, vnet=NO_VNET):
        """The kernel sends a packet, and the data path carries it on."""
        self.kernel.send(vnet + packet)
        return self.turn()

    def close(self):
        self.path.close()
        self.kernel.close()
        self._tun.close()


@pytest.fixture
def make():
    made = []

    def one(**options):
        made.append(End(**options))
        return made[-1]

    yield one
    for end in made:
        end.close()


def join(here, there, host="127.0.0.1"):
    """Each the other's peer: 10.0.0.1 is here, 10.0.0.2 there. Returns the handles."""
    peers = []
    indices = here.path.reserve_index(), there.path.reserve_index()
    keys = (b"a" * 32, b"b" * 32)
    for number, (end, other) in enumerate(((here, there), (there, here))):
        peer = end.path.add_peer()
        prefix = parse_prefix(f"10.0.0.{2 - number}")
        end.path.set_allowed_ips([AllowedIpOperation("add", peer, prefix)])
        end.path.set_endpoint(peer, Endpoint(host, other.port))
        pair = key_pair(
            keys[number], keys[1 - number], indices[number], indices[1 - number], created=end.now
        )
        end.path.install(peer, Slot.CURRENT, pair, kick=False)
        peers.append(peer)
    return tuple(peers)


@pytest.fixture
def ends(make):
    here, there = make(), make()
    return here, there, join(here, there)


def silent(end):
    """Whether there is nothing to do, after what there may have been was done."""
    for _ in range(5):
        if not end.readable(0):
            return True
        end.path.drain(32)
    return False


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_packet_goes_from_tun_to_tun(make, host):
    here, there = make(), make()
    join(here, there, host)
    here.write(PACKET)
    assert there.frames(1) == [NO_VNET + PACKET]
    assert silent(here)
    assert silent(there)


def test_without_vnet_headers(make):
    here, there = make(vnet_header=False), make(vnet_header=False)
    join(here, there)
    here.write(PACKET, b"")
    assert there.frames(1) == [PACKET]
    assert here.path.offloads()["tun_vnet_hdr"] is False
    here.write(ip_packet(UDP, b"", target=bytes((9, 9, 9, 9))), b"")
    assert here.kernel.recv(2000)[:1] == b"\x45", "an ICMP error, and no vnet header before it"


def test_a_large_packet_of_the_kernel_arrives_whole(ends):
    here, there, _peers = ends
    large = Segment(payload=os.urandom(60_000))
    here.write(bytes(large), large.vnet(1380))
    wanted = [bytes(segment) for segment in large.split(1380)]
    arrived = []
    while len(arrived) < len(wanted):
        arrived += [packet for frame in there.frames(1) for packet in kernel_receives(frame)]
    assert arrived == wanted
    assert here.path.offloads() == {"tun_vnet_hdr": True, "udp_segment": True}


def test_the_answer_leaves_from_the_address_that_was_hit(make):
    here, there = make(), make()
    one, other = join(here, there)
    here.path.set_endpoint(one, Endpoint("127.0.0.3", there.port))
    there.path.set_endpoint(other, None)
    here.write(PACKET)
    there.frames(1)
    back = ip_packet(UDP, b"", source=bytes((10, 0, 0, 2)), target=bytes((10, 0, 0, 1)))
    there.write(back)
    events = []
    while not events:
        events = here.turn()
    assert here.kernel.recv(2000) == NO_VNET + back
    (roamed,) = events
    assert (roamed.endpoint.address, roamed.endpoint.port) == ("127.0.0.3", there.port)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(
    ("host", "source"),
    [("127.0.0.1", bytes((192, 0, 2, 55))), ("::1", bytes.fromhex("20010db8" + "00" * 12))],
)
def test_a_stale_source_is_forgotten_and_the_packet_goes_all_the_same(make, host, source, large):
    here, there = make(), make()
    one, _other = join(here, there, host)
    here.path.set_endpoint(one, Endpoint(host, there.port, source=source))
    if large:
        segment = Segment(payload=os.urandom(5000))
        here.write(bytes(segment), segment.vnet(1000))
    else:
        here.write(PACKET)
    there.frames(1)
    here.write(PACKET)
    assert here.path.counters() == {"stale_source": 1}
    assert here.path.offloads()["udp_segment"], "a lost address is no reason to give up offloads"


def test_a_stale_source_of_a_control_datagram(ends):
    here, there, (one, _other) = ends
    stale = Endpoint("127.0.0.1", there.port, source=bytes((192, 0, 2, 55)))
    here.path.set_endpoint(one, stale)
    assert here.path.send(b"x" * 148, peer=one) is None
    there.path.set_filter([FilterRule(0x78787878, 148)], bytes(32))
    (event,) = there.turn()
    assert isinstance(event, Datagram)
    assert event.data == b"x" * 148


def test_a_family_without_a_socket(make):
    end = make()
    bound = bind(0, 0)
    end.path.set_sockets(bound.v4, None)
    os.close(bound.v6)
    assert end.path.send(b"x", to=Endpoint("::1", 9)) == errno.EAFNOSUPPORT
    assert end.path.send(b"x", to=Endpoint("127.0.0.1", end.port)) is None


def test_a_refused_datagram_stops_nothing(ends):
    here, there, (one, _other) = ends
    free = bind(0, 0)
    for fd in (free.v4, free.v6):
        os.close(fd)
    here.path.set_endpoint(one, Endpoint("127.0.0.1", free.port))
    here.write(PACKET)
    here.path.set_endpoint(one, Endpoint("127.0.0.1", there.port))
    here.write(PACKET)
    assert there.frames(1) == [NO_VNET + PACKET]


@pytest.mark.parametrize("size", [0, 1, 3, 31, 32, 148, 1500, 9000, 65_507])
def test_junk_of_any_size_stops_nothing(ends, size):
    here, there, _peers = ends
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for fill in (b"\0", b"\4\0\0\0", b"\xff"):
            stranger.sendto((fill * size)[:size], ("127.0.0.1", there.port))
    here.write(PACKET)
    assert there.frames(1) == [NO_VNET + PACKET]
    assert sum(there.path.counters().values()) == 3


def test_what_waits_on_the_old_port_is_still_taken(ends):
    here, there, (one, _other) = ends
    here.write(PACKET)
    former = there.port
    there.rebind()
    assert there.port != former
    assert there.frames(1) == [NO_VNET + PACKET]
    here.path.set_endpoint(one, Endpoint("127.0.0.1", there.port))
    here.write(PACKET)
    assert there.frames(1) == [NO_VNET + PACKET]
    # The old port is free for others.
    for fd in (bound := bind(former, 0)).v4, bound.v6:
        os.close(fd)


def test_down_reads_neither_side_and_does_not_spin(ends):
    here, there, _peers = ends
    there.path.set_up(False)
    here.write(PACKET)
    back = ip_packet(UDP, b"", source=bytes((10, 0, 0, 2)), target=bytes((10, 0, 0, 1)))
    there.kernel.send(NO_VNET + back)
    assert not there.readable(0.05)
    assert there.path.drain(32) == []
    with pytest.raises(BlockingIOError):
        there.kernel.recv(100)
    there.path.set_up(True)
    there.path.set_up(True)
    assert there.frames(1) == [NO_VNET + PACKET]
    here.turn()
    assert here.kernel.recv(2000) == NO_VNET + back


def test_sockets_given_while_down_are_read_once_up(make):
    here, there = make(), make()
    there.path.set_up(False)
    there.rebind()
    join(here, there)
    here.write(PACKET)
    assert not there.readable(0.05)
    there.path.set_up(True)
    assert there.frames(1) == [NO_VNET + PACKET]


def test_events_make_it_readable_until_they_are_drained(make):
    end = make()
    peer = end.path.add_peer()
    end.path.set_endpoint(peer, Endpoint("127.0.0.1", 9))
    assert not end.readable(0)
    end.path.send_keepalive(peer)
    end.path.send_keepalive(peer)
    assert end.turn() == [HandshakeNeeded(peer)]
    assert not end.readable(0)


def test_more_datagrams_than_the_limit_keep_it_readable(make):
    end = make()
    end.path.set_filter([FilterRule(0x61616161, 4)], bytes(32))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for _ in range(10):
            stranger.sendto(b"aaaa", ("127.0.0.1", end.port))
    assert end.readable()
    found = []
    while len(found) < 10:
        assert end.readable()
        events = end.path.drain(3)
        assert len(events) <= 3
        found += events
    assert end.path.queue_depth() == 0


def test_a_busy_socket_leaves_the_control_plane_its_turn(ends):
    """However much waits, one drain ends."""
    _here, there, _peers = ends
    there.path.set_filter([FilterRule(0x61616161, 4)], bytes(32))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for _ in range(2000):
            stranger.sendto(b"aaaa", ("127.0.0.1", there.port))
    there.path.drain(0)
    assert 0 < there.path.queue_depth() < 2000
    assert there.readable(0)


@pytest.mark.root
@pytest.mark.parametrize("busy", ["reading", "writing"])
def test_a_tun_that_is_gone_is_reported_once(clean_machine, busy):
    with Namespace("lost") as space:
        tun = space.inside(lambda: open_tun("losttest0"))
        path = Portable(tun.fd, vnet_header=True, mtu=1420, clock=lambda: 1000.0)
        path.set_up(True)
        space.ip("link", "del", "losttest0")
        if busy == "writing":
            path._deliver([NO_VNET, PACKET])
        else:
            assert select.select([path.fileno()], [], [], 5)[0]
        assert path.drain(9) == [TunLost(errno.EBADFD)]
        assert path.counters() == {"tun_error": 1}
        assert path.drain(9) == []
        assert not select.select([path.fileno()], [], [], 0)[0], "it does not spin"
        path.close()
        tun.close()


def test_closing_wipes_the_buffers_and_closes_the_sockets(make):
    here, there = make(), make()
    join(here, there)
    here.write(PACKET)
    there.frames(1)
    before = len(os.listdir("/proc/self/fd"))
    there.path.close()
    # Two sockets, the epoll and the doorbell.
    assert len(os.listdir("/proc/self/fd")) == before - 4
    for buffer in (there.path._tun_buffer, there.path._udp_buffer, there.path._out):
        assert not any(buffer)
    assert there.path._indices == {}
    there.path.close = lambda: None


def test_nothing_it_opens_is_inherited(make):
    end = make()
    assert not os.get_inheritable(end.path.fileno())
    assert not os.get_inheritable(end.path._doorbell)
    assert not any(os.get_inheritable(fd) for fd in end.path._sockets)
