"""The pair of sockets: one port, no sharing, and what the kernel is asked for."""

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from tests.support.netns import Namespace
from wgpy.linux.udp import BoundSockets, bind

SO_MARK = socket.SO_MARK


def sockets(bound: BoundSockets) -> list[socket.socket]:
    return [socket.socket(fileno=fd) for fd in (bound.v4, bound.v6) if fd is not None]


def close(bound: BoundSockets) -> None:
    for fd in (bound.v4, bound.v6):
        if fd is not None:
            os.close(fd)


@pytest.fixture
def space(clean_machine: None) -> Iterator[Namespace]:
    with Namespace("udp") as made:
        yield made


@pytest.mark.root
def test_both_families_have_one_port(space: Namespace) -> None:
    bound = space.inside(lambda: bind(0, 0))
    four, six = sockets(bound)
    assert four.getsockname()[1] == six.getsockname()[1] == bound.port != 0
    assert (four.family, six.family) == (socket.AF_INET, socket.AF_INET6)
    assert six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    for sock in (four, six):
        assert not os.get_blocking(sock.fileno())
        assert not sock.get_inheritable()
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 0
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
        # The kernel doubles what it is asked for (socket(7)).
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            assert sock.getsockopt(socket.SOL_SOCKET, option) >= 7 << 20
        sock.close()


@pytest.mark.root
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_port_that_either_family_has_taken_is_refused(
    space: Namespace, family: socket.AddressFamily
) -> None:
    with space.socket(family, socket.SOCK_DGRAM) as other:
        if family == socket.AF_INET6:
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("", 40_001))
        descriptors = len(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError, match="in use") as caught:
            space.inside(lambda: bind(40_001, 0))
        assert caught.value.errno == errno.EADDRINUSE
        assert len(os.listdir("/proc/self/fd")) == descriptors, "nothing is left open"
    bound = space.inside(lambda: bind(40_001, 0))
    assert bound.port == 40_001
    close(bound)


@pytest.mark.root
def test_two_pairs_do_not_share_a_port(space: Namespace) -> None:
    first = space.inside(lambda: bind(0, 0))
    with pytest.raises(OSError, match="in use"):
        space.inside(lambda: bind(first.port, 0))
    close(first)


@pytest.mark.root
def test_a_free_port_is_free_in_both_families(space: Namespace) -> None:
    """With all but a few ports taken in IPv6 alone, one of the few is found."""
    space.run("sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 40007")
    others = []
    for port in range(40_000, 40_006):
        other = space.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::", port))
        others.append(other)
    for _ in range(5):
        bound = space.inside(lambda: bind(0, 0))
        assert bound.port in (40_006, 40_007)
        close(bound)
    for other in others:
        other.close()


@pytest.mark.root
def test_the_mark_is_that_of_both_sockets_and_can_change(space: Namespace) -> None:
    bound = space.inside(lambda: bind(0, 51_820))
    pair = sockets(bound)
    assert [sock.getsockopt(socket.SOL_SOCKET, SO_MARK) for sock in pair] == [51_820] * 2
    bound.set_mark(0)
    assert [sock.getsockopt(socket.SOL_SOCKET, SO_MARK) for sock in pair] == [0, 0]
    for sock in pair:
        sock.close()


@pytest.mark.root
def test_a_machine_without_ipv6_has_the_other_socket(space: Namespace) -> None:
    space.run(
        "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.lo.disable_ipv6=1"
    )
    bound = space.inside(lambda: bind(0, 0))
    assert bound.v4 is not None
    assert bound.port
    close(bound)


@pytest.mark.root
def test_a_datagram_tells_which_address_it_hit(space: Namespace) -> None:
    bound = space.inside(lambda: bind(0, 0))
    four, six = sockets(bound)
    for sock, address in ((four, "127.0.0.2"), (six, "::1")):
        with space.socket(sock.family, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"hello", (address, bound.port))
        sock.settimeout(5)
        data, ancillary, _flags, _from = sock.recvmsg(100, 200)
        assert data == b"hello"
        packed = socket.inet_pton(sock.family, address)
        assert any(packed in content for _level, _kind, content in ancillary)
        sock.close()
