"""Both data paths on real sockets: how control datagrams go out."""

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from tests.support.ends import End
from tests.support.native_path import needs_native
from tests.support.netns import Namespace
from wgpy.datapath.contract import DataPathError, Endpoint
from wgpy.datapath.endpoint import IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DONT
from wgpy.linux.udp import bind

# Python has no name for it (linux/in.h).
IP_RECVTTL = 12

Make = Callable[..., End]

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
