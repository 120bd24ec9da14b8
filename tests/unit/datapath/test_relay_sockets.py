"""Both data paths through a relay on real sockets, and by carriers."""

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from tests.support.channel_relay import ChannelRelay
from tests.support.ends import NO_VNET, End, join_ends, pump
from tests.support.native_path import needs_native
from tests.support.packets import Segment, ip_packet, kernel_receives
from wgpy.datapath.contract import Datagram, DataPathError, Endpoint, FilterRule, Roamed
from wgpy.linux.udp import bind

Make = Callable[[], End]

PACKET = ip_packet(17, b"payload")
HERE, THERE = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
BACK = ip_packet(17, b"back", source=THERE, target=HERE)
FAMILIES = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}
ONE, OTHER = 0x4000, 0x4FFF


@pytest.fixture(params=["portable", pytest.param("native", marks=needs_native)])
def kind(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
def make(kind: str) -> Iterator[Make]:
    made: list[End] = []

    def one() -> End:
        made.append(End(kind))
        return made[-1]

    yield one
    for end in made:
        end.close()


@pytest.fixture(params=FAMILIES)
def host(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
def relay(host: str) -> Iterator[ChannelRelay]:
    sock = socket.socket(FAMILIES[host], socket.SOCK_DGRAM)
    sock.bind((host, 0))
    with ChannelRelay(sock) as made:
        yield made


def place(via: int, channel: int) -> Endpoint:
    """A peer behind a relay, at an address that nobody here has."""
    return Endpoint("192.0.2.77", 77, via=via, channel=channel)


def through(end: End, relay: ChannelRelay, host: str, peer: int, channel: int, via: int = 0) -> int:
    """From now on the peer is behind the relay."""
    handle = end.path.add_relay(Endpoint(host, relay.port, via=via))
    end.path.set_channel(handle, channel, Endpoint("192.0.2.77", 77))
    end.path.set_endpoint(peer, place(handle, channel))
    return handle


def carrier(end: End, peer: int, channel: int) -> tuple[int, socket.socket]:
    """From now on the peer is behind a relay by a carrier, of which this is the far end."""
    far, near = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    handle = end.path.add_relay(Endpoint("198.51.100.1", 443), near.detach())
    end.path.set_channel(handle, channel, Endpoint("192.0.2.77", 77))
    end.path.set_endpoint(peer, place(handle, channel))
    return handle, far


def both_ways(here: End, there: End) -> None:
    """A small packet either way, and a large one of the kernel."""
    here.write(PACKET)
    assert there.frames(1, here) == [NO_VNET + PACKET]
    there.write(BACK)
    assert here.frames(1, there) == [NO_VNET + BACK]
    large = Segment(payload=os.urandom(40_000))
    here.write(bytes(large), large.vnet(1368))
    wanted = [bytes(segment) for segment in large.split(1368)]
    arrived: list[bytes] = []
    while len(arrived) < len(wanted):
        arrived += kernel_receives(there.frames(1, here)[0])
    assert arrived == wanted


def test_through_a_relay(make: Make, relay: ChannelRelay, host: str) -> None:
    here, there = make(), make()
    one, other = join_ends(here, there)
    relay.join((host, here.port), ONE, (host, there.port), OTHER)
    through(here, relay, host, one, ONE)
    through(there, relay, host, other, OTHER)
    both_ways(here, there)
    assert relay.refused == 0
    assert here.path.counters() == there.path.counters() == {}
    assert here.path.offloads()["udp_segment"]


def test_from_another_socket(make: Make, relay: ChannelRelay, host: str) -> None:
    here, there = make(), make()
    one, other = join_ends(here, there)
    bound = bind(0, 0)
    assert bound.v4 is not None
    assert bound.v6 is not None
    mine, unused = (bound.v6, bound.v4) if host == "::1" else (bound.v4, bound.v6)
    os.close(unused)
    via = here.path.add_socket(mine)
    relay.join((host, bound.port), ONE, (host, there.port), OTHER)
    through(here, relay, host, one, ONE, via)
    through(there, relay, host, other, OTHER)
    both_ways(here, there)
    before = len(os.listdir("/proc/self/fd"))
    here.path.remove_via(via)
    assert len(os.listdir("/proc/self/fd")) == before - 1
    assert here.path.send(b"x", peer=one) == errno.EDESTADDRREQ


def test_by_carriers(make: Make, kind: str) -> None:
    here, there = make(), make()
    one, other = join_ends(here, there)
    (_, far), (_, away) = carrier(here, one, ONE), carrier(there, other, OTHER)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with far, away, ChannelRelay(sock) as relay:
        relay.join(far, ONE, away, OTHER)
        both_ways(here, there)
        assert relay.refused == 0
    assert here.path.counters() == there.path.counters() == {}


def test_from_a_carrier_to_a_socket(make: Make, relay: ChannelRelay, host: str) -> None:
    here, there = make(), make()
    one, other = join_ends(here, there)
    _, far = carrier(here, one, ONE)
    with far:
        relay.join(far, ONE, (host, there.port), OTHER)
        through(there, relay, host, other, OTHER)
        both_ways(here, there)


def test_a_peer_roams_from_the_relay(make: Make, relay: ChannelRelay, host: str) -> None:
    here, there = make(), make()
    one, other = join_ends(here, there, host)
    relay.join((host, here.port), ONE, (host, there.port), OTHER)
    through(here, relay, host, one, ONE)
    handle = through(there, relay, host, other, OTHER)
    here.write(PACKET)
    there.frames(1, here)
    here.path.set_endpoint(one, Endpoint(host, there.port))
    here.write(PACKET)
    there.frames(1, here)
    pump(lambda: bool(there.events), there)
    (roamed,) = there.events
    assert isinstance(roamed, Roamed)
    assert (roamed.endpoint.address, roamed.endpoint.port) == (host, here.port)
    through_it = place(handle, OTHER)
    there.path.set_endpoint(other, through_it)
    there.write(BACK)
    assert here.frames(1, there) == [NO_VNET + BACK]


def test_control_datagrams_by_a_carrier(make: Make) -> None:
    end = make()
    peer = end.path.add_peer()
    end.path.set_filter([FilterRule(0x20, 40)], bytes(32))
    handle, far = carrier(end, peer, ONE)
    data = b"\x20\0\0\0" + bytes(36)
    with far:
        far.settimeout(5)
        for options in ({}, {"ttl": 3}, {"whole": True}):
            assert end.path.send(data, peer=peer, **options) is None  # type: ignore[arg-type]
            assert far.recv(100) == struct.pack(">HH", ONE, 40) + data
        far.send(struct.pack(">HH", ONE, 40) + data)
        pump(lambda: bool(end.events), end)
        (event,) = end.events
        assert isinstance(event, Datagram)
        assert (event.data, event.endpoint) == (data, place(handle, ONE))


def test_a_full_carrier_drops_and_counts_and_holds_nobody_up(make: Make) -> None:
    here, there = make(), make()
    one, _other = join_ends(here, there)
    handle, far = carrier(here, one, ONE)
    with far:
        sent = 0
        while (error := here.path.send(bytes(1400), peer=one)) is None:
            sent += 1
            assert sent < 10_000
        assert error == errno.EAGAIN
        assert here.path.counters() == {"carrier_full": 1}
        large = Segment(payload=bytes(50_000))
        here.write(bytes(large), large.vnet(1000))
        pump(lambda: here.path.counters()["carrier_full"] == 51, here)
        # The direct way is as it was, and so is the carrier once it is emptied.
        here.path.set_endpoint(one, Endpoint("127.0.0.1", there.port))
        here.write(PACKET)
        assert there.frames(1, here) == [NO_VNET + PACKET]
        here.path.set_endpoint(one, place(handle, ONE))
        far.settimeout(5)
        for _ in range(sent):
            assert len(far.recv(2000)) == 1404
        assert here.path.send(b"x", peer=one) is None
        assert far.recv(10) == struct.pack(">HH", ONE, 1) + b"x"


def test_a_carrier_whose_other_end_is_gone(make: Make) -> None:
    end = make()
    peer = end.path.add_peer()
    handle, far = carrier(end, peer, ONE)
    far.close()
    assert end.path.send(b"x", peer=peer) in (errno.ECONNREFUSED, errno.ENOTCONN)
    assert end.path.send(b"x", peer=peer) in (errno.ECONNREFUSED, errno.ENOTCONN)
    for _ in range(5):
        end.path.drain(9)
    before = len(os.listdir("/proc/self/fd"))
    end.path.remove_via(handle)
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_what_is_no_carrier_is_refused(make: Make) -> None:
    end = make()
    before = len(os.listdir("/proc/self/fd"))
    server = Endpoint("198.51.100.1", 443)
    stream, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    other.close()
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for fd in (stream.detach(), udp.detach(), 10_000):
        with pytest.raises(DataPathError, match=f"descriptor {fd} is no carrier"):
            end.path.add_relay(server, fd)
    # Nor is one kept of a relay that is refused.
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    far.close()
    with pytest.raises(DataPathError, match="is not an IP address"):
        end.path.add_relay(Endpoint("relay.example", 443), near.detach())
    assert len(os.listdir("/proc/self/fd")) == before


def test_closing_closes_carriers(kind: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    end = End(kind)
    peer = end.path.add_peer()
    for _ in range(16):
        _, far = carrier(end, peer, ONE)
        far.close()
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    far.close()
    with pytest.raises(DataPathError, match="there are 16 relays already"):
        end.path.add_relay(Endpoint("198.51.100.1", 443), near.detach())
    end.close()
    del end
    assert len(os.listdir("/proc/self/fd")) == before
