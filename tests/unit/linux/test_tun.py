"""A real TUN in a namespace of its own."""

import fcntl
import os
import struct
from collections.abc import Iterator

import pytest

from tests.support.netns import Namespace
from wgpy.linux.tun import DEFAULT_MTU, QUEUE_LENGTH, Tun, TunError, open_tun, set_mtu

pytestmark = pytest.mark.root

NAME = "tuntest0"


@pytest.fixture
def space(clean_machine: None) -> Iterator[Namespace]:
    with Namespace("tun") as made:
        yield made


def made(space: Namespace, name: str = NAME) -> Tun:
    return space.inside(lambda: open_tun(name))


def test_it_is_made_with_the_default_mtu_and_goes_when_closed(space: Namespace) -> None:
    tun = made(space)
    assert tun.name() == NAME
    assert tun.vnet_header
    assert not os.get_blocking(tun.fd)
    assert not os.get_inheritable(tun.fd)
    shown = space.ip("link", "show", NAME)
    assert f"mtu {DEFAULT_MTU}" in shown
    assert f"qlen {QUEUE_LENGTH}" in shown
    tun.close()
    assert NAME not in space.ip("link")


def test_a_second_opener_is_refused_with_the_reason(space: Namespace) -> None:
    tun = made(space)
    with pytest.raises(TunError, match="another process has this interface open"):
        made(space)
    tun.close()
    made(space).close()


def test_a_name_that_another_kind_of_link_has_is_refused(space: Namespace) -> None:
    with pytest.raises(TunError, match=r"^lo: the TUN cannot be made: "):
        made(space, "lo")


def test_a_tun_without_vnet_headers(space: Namespace) -> None:
    tun = space.inside(lambda: open_tun(NAME, vnet_header=False))
    assert not tun.vnet_header
    tun.close()


def test_a_descriptor_from_elsewhere_is_taken_over(space: Namespace) -> None:
    first = made(space)
    copy = os.dup(first.fd)
    os.set_blocking(copy, True)
    os.set_inheritable(copy, True)
    second = Tun(copy)
    assert second.name() == NAME
    assert second.vnet_header
    assert not os.get_blocking(copy)
    assert not os.get_inheritable(copy)
    second.close()
    first.close()


def test_descriptors_that_are_no_tun_are_refused(space: Namespace) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    with pytest.raises(OSError, match="ioctl"):
        Tun(null)
    os.close(null)


def test_a_tap_is_refused(space: Namespace) -> None:
    def tap() -> int:
        fd = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", b"taptest0", 0x1002))
        return fd

    fd = space.inside(tap)
    with pytest.raises(TunError, match="no TUN"):
        Tun(fd)
    os.close(fd)


def test_a_new_name_is_noticed(space: Namespace) -> None:
    tun = made(space)
    space.ip("link", "set", NAME, "name", "renamed0")
    assert tun.name() == "renamed0"
    tun.close()


def test_the_last_name_is_known_when_the_link_is_gone(space: Namespace) -> None:
    tun = made(space)
    space.ip("link", "del", NAME)
    assert tun.name() == NAME
    assert tun.namespace() is None
    tun.close()


def test_it_says_in_which_namespace_it_is(space: Namespace) -> None:
    tun = made(space)

    def inode() -> int:
        fd = tun.namespace()
        assert fd is not None
        number = os.fstat(fd).st_ino
        os.close(fd)
        return number

    assert inode() == os.stat(f"/run/netns/{space.name}").st_ino
    with Namespace("other") as other:
        space.ip("link", "set", NAME, "netns", other.name)
        assert inode() == os.stat(f"/run/netns/{other.name}").st_ino
    tun.close()


def test_the_mtu_of_a_link_can_be_set(space: Namespace) -> None:
    tun = made(space)
    space.inside(lambda: set_mtu(NAME, 34_000))
    assert "mtu 34000" in space.ip("link", "show", NAME)
    tun.close()
