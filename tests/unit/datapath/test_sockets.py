"""Both data paths on real sockets: how control datagrams go out, and sockets beside the pair."""

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from tests.support.ends import NO_VNET, End, join_ends, pump
from tests.support.native_path import needs_native
from tests.support.netns import Namespace
from tests.support.packets import Segment, ip_packet, kernel_receives
from wgpy.datapath.contract import (
    Datagram,
    DataPathError,
    Endpoint,
    FilterRule,
    Roamed,
    SocketError,
)
from wgpy.datapath.endpoint import IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DONT
from wgpy.linux.udp import bind

# Python has no name for it (linux/in.h).
IP_RECVTTL = 12

Make = Callable[..., End]

HERE, THERE = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
PACKET = ip_packet(17, b"payload")
FAMILIES = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}
hosts = pytest.mark.parametrize("host", FAMILIES)


@pytest.fixture(params=["portable", pytest.param("native", marks=needs_native)])
def kind(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
def make(kind: str) -> Iterator[Make]:
    made: list[End] = []

    def one(**options: bool | int) -> End:
        made.append(End(kind, **options))  # type: ignore[arg-type]
        return made[-1]

    yield one
    for end in made:
        end.close()


def listen(host: str) -> socket.socket:
    """A socket that tells the time to live of what it gets."""
    sock = socket.socket(FAMILIES[host], socket.SOCK_DGRAM)
    sock.settimeout(5)
    sock.bind((host, 0))
    if host == "::1":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
    return sock


def take(sock: socket.socket) -> tuple[bytes, int]:
    """A datagram and its time to live."""
    data, ancillary, _flags, _from = sock.recvmsg(65_535, 100)
    ((_level, _kind, value),) = ancillary
    return data, struct.unpack("@i", value)[0]


@hosts
def test_a_time_to_live_is_of_one_datagram(make: Make, host: str) -> None:
    end = make()
    with listen(host) as sock:
        to = Endpoint(host, sock.getsockname()[1])
        for ttl in (3, 0, 255, 1):
            assert end.path.send(b"x" * 40, to=to, ttl=ttl) is None
            data, seen = take(sock)
            assert data == b"x" * 40
            assert seen == (ttl or 64)


@hosts
def test_a_time_to_live_beside_a_source(make: Make, host: str) -> None:
    end = make()
    own = socket.inet_pton(FAMILIES[host], host)
    stale = bytes((192, 0, 2, 55)) if host == "127.0.0.1" else bytes.fromhex("20010db8" + "00" * 12)
    with listen(host) as sock:
        for source in (own, stale):
            to = Endpoint(host, sock.getsockname()[1], source=source)
            assert end.path.send(b"x", to=to, ttl=7) is None
            assert take(sock) == (b"x", 7)
    assert end.path.counters() == {"stale_source": 1}


@pytest.mark.parametrize("ttl", [-1, 256, 1000])
def test_a_header_has_no_room_for_more(make: Make, ttl: int) -> None:
    end = make()
    with pytest.raises(DataPathError, match="a time to live is at most 255"):
        end.path.send(b"x", to=Endpoint("127.0.0.1", 9), ttl=ttl)


@pytest.mark.root
@hosts
def test_what_must_stay_whole_is_refused_where_it_does_not_fit(
    make: Make, host: str, clean_machine: None
) -> None:
    """And what comes after it goes in fragments again, whatever became of it."""
    with Namespace("narrow") as space:
        space.ip("link", "set", "lo", "mtu", "1300")
        end = make()
        bound = space.inside(lambda: bind(0, 0))
        option = (
            (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER)
            if host == "::1"
            else (socket.IPPROTO_IP, IP_MTU_DISCOVER)
        )
        fd = bound.v6 if host == "::1" else bound.v4
        assert fd is not None
        ours = socket.socket(fileno=os.dup(fd))
        end.path.set_sockets(bound.v4, bound.v6)
        with ours, space.inside(lambda: listen(host)) as sock:
            to = Endpoint(host, sock.getsockname()[1])
            for size, whole, wanted in (
                (1400, False, None),
                (1200, True, None),
                (1400, True, errno.EMSGSIZE),
                (1400, False, None),
                (1400, True, errno.EMSGSIZE),
                (1200, True, None),
            ):
                assert end.path.send(b"x" * size, to=to, whole=whole, ttl=9) == wanted
                if wanted is None:
                    assert take(sock) == (b"x" * size, 9)
                assert ours.getsockopt(*option) == PMTUDISC_DONT


@hosts
def test_whole_without_a_socket_of_the_family(make: Make, host: str) -> None:
    end = make()
    end.path.set_sockets(None, None)
    to = Endpoint(host, 9)
    assert end.path.send(b"x", to=to, whole=True) == errno.EAFNOSUPPORT
    assert end.path.send(b"x", to=to, ttl=1) == errno.EAFNOSUPPORT


# --- Sockets beside the pair ---


def open_socket(host: str) -> tuple[int, int]:
    """Another socket, opened as those of the pair are: its descriptor and port."""
    bound = bind(0, 0)
    assert bound.v4 is not None
    assert bound.v6 is not None
    wanted, other = (bound.v6, bound.v4) if host == "::1" else (bound.v4, bound.v6)
    os.close(other)
    return wanted, bound.port


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@hosts
def test_a_tunnel_from_and_to_another_socket(make: Make, host: str) -> None:
    here, there = make(), make()
    one, other = join_ends(here, there, host)
    (mine, my_port), (yours, your_port) = open_socket(host), open_socket(host)
    here_via, there_via = here.path.add_socket(mine), there.path.add_socket(yours)
    here.path.set_endpoint(one, Endpoint(host, your_port, via=here_via))
    there.path.set_endpoint(other, None)
    here.write(PACKET)
    assert there.frames(1, here) == [NO_VNET + PACKET]
    pump(lambda: bool(there.events), there)
    (roamed,) = there.events
    assert isinstance(roamed, Roamed)
    place = roamed.endpoint
    assert (place.address, place.port, place.via) == (host, my_port, there_via)
    assert place.source == socket.inet_pton(FAMILIES[host], host)
    large = Segment(payload=os.urandom(50_000), source=THERE, target=HERE)
    there.write(bytes(large), large.vnet(1380))
    wanted = [bytes(segment) for segment in large.split(1380)]
    arrived: list[bytes] = []
    while len(arrived) < len(wanted):
        arrived += kernel_receives(here.frames(1, there)[0])
    assert arrived == wanted
    assert here.path.counters() == there.path.counters() == {}
    assert there.path.offloads()["udp_segment"]


def test_a_train_of_another_socket_goes_in_one_call(make: Make) -> None:
    """The receiver, which takes them one by one, gets what UDP_SEGMENT cut."""
    here, there = make(), make()
    one, _other = join_ends(here, there)
    fd, port = open_socket("127.0.0.1")
    via = here.path.add_socket(fd)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind(("127.0.0.1", 0))
        here.path.set_endpoint(one, Endpoint("127.0.0.1", sock.getsockname()[1], via=via))
        large = Segment(payload=os.urandom(10_000))
        here.write(bytes(large), large.vnet(1000))
        pump(lambda: here.path.activity(one).tx_bytes > 0, here)
        found = [sock.recvfrom(2000) for _ in range(10)]
    assert {len(data) for data, _ in found} == {1040 + 32}
    assert {place for _, place in found} == {("127.0.0.1", port)}


def test_a_socket_has_one_family(make: Make) -> None:
    end = make()
    v4, v6 = (
        end.path.add_socket(open_socket("127.0.0.1")[0]),
        end.path.add_socket(open_socket("::1")[0]),
    )
    for via, host, wanted in (
        (v4, "127.0.0.1", None),
        (v4, "::1", errno.EAFNOSUPPORT),
        (v6, "::1", None),
        (v6, "127.0.0.1", errno.EAFNOSUPPORT),
    ):
        to = Endpoint(host, end.port, via=via)
        for options in ({}, {"whole": True}, {"ttl": 3}):
            assert end.path.send(b"x", to=to, **options) == wanted  # type: ignore[arg-type]


@pytest.mark.parametrize("busy", [False, True])
def test_a_socket_that_is_removed_is_closed(make: Make, busy: bool) -> None:
    end = make()
    before = descriptors()
    fd, port = open_socket("127.0.0.1")
    via = end.path.add_socket(fd)
    assert descriptors() == before + 1
    if busy:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for _ in range(100):
                stranger.sendto(b"junk", ("127.0.0.1", port))
    end.path.remove_via(via)
    assert descriptors() == before
    # The port is free, and nothing of it comes up any more.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as next_owner:
        next_owner.bind(("127.0.0.1", port))
    assert end.path.send(b"x", to=Endpoint("127.0.0.1", 9, via=via)) == errno.EDESTADDRREQ
    end.path.drain(9)
    assert not any(isinstance(event, SocketError) for event in end.path.drain(9))


def test_sockets_stay_when_the_pair_changes_and_when_the_link_goes(make: Make) -> None:
    here, there = make(), make()
    one, _other = join_ends(here, there)
    fd, port = open_socket("127.0.0.1")
    there.path.set_up(False)
    there.path.add_socket(fd)
    here.path.set_endpoint(one, Endpoint("127.0.0.1", port))
    here.write(PACKET)
    pump(lambda: here.path.activity(one).tx_bytes > 0, here)
    bound = bind(0, 0)
    there.path.set_sockets(bound.v4, bound.v6)
    there.path.drain(9)
    assert there.path.counters() == {}
    with pytest.raises(BlockingIOError):
        there.kernel.recv(100)
    there.path.set_up(True)
    assert there.frames(1, here) == [NO_VNET + PACKET]
    there.path.set_up(False)
    there.path.set_sockets(None, None)
    there.path.set_up(True)
    here.write(PACKET)
    assert there.frames(1, here) == [NO_VNET + PACKET]


def test_closing_closes_them_all(kind: str) -> None:
    before = descriptors()
    end = End(kind)
    for _ in range(64):
        end.path.add_socket(open_socket("127.0.0.1")[0])
    fd, _port = open_socket("127.0.0.1")
    with pytest.raises(DataPathError, match="there are 64 sockets already"):
        end.path.add_socket(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    end.close()
    # The native one keeps what its threads share until it is gone.
    del end
    assert descriptors() == before


def test_each_of_64_sockets_is_read(make: Make) -> None:
    end = make()
    end.path.set_filter([FilterRule(0x61616161, 4)], bytes(32))
    made = [open_socket("127.0.0.1") for _ in range(64)]
    vias = [end.path.add_socket(fd) for fd, _ in made]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for _, port in made:
            stranger.sendto(b"aaaa", ("127.0.0.1", port))
        pump(lambda: len(end.events) == 64, end)
    seen = [event.endpoint.via for event in end.events if isinstance(event, Datagram)]
    assert sorted(seen) == sorted(vias)


def test_what_is_no_udp_socket_is_refused(make: Make) -> None:
    end = make()
    before = descriptors()
    stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    local, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    other.close()
    readable, writable = os.pipe()
    os.close(writable)
    for fd in (stream.detach(), local.detach(), readable, 10_000):
        with pytest.raises(DataPathError, match=f"descriptor {fd} is no UDP socket"):
            end.path.add_socket(fd)
    assert descriptors() == before
