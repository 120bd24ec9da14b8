"""The native data path on real TUNs: with every other implementation, on a narrow underlay, with
each offload switched off, and after a panic."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.support.native_path import needs_native
from tests.support.netns import Pair, pair
from tests.support.programs import WGPY, WIREGUARD_GO, Implementation
from tests.support.requirements import program
from tests.support.tunnel import transfer, tunnel
from wgpy.datapath.contract import Failed, NewKeyPair, Slot
from wgpy.linux.tun import open_tun

pytestmark = [pytest.mark.root, needs_native]

UDP_SEGMENT = 103  # linux/udp.h
SO_RCVBUFFORCE = 33  # asm-generic/socket.h

NATIVE = replace(WGPY, name="native", env={"WGPY_DATAPATH": "native"})
PORTABLE = replace(WGPY, name="portable", env={"WGPY_DATAPATH": "portable"})
PLAIN = replace(WGPY, name="plain", env={"WGPY_DATAPATH": "native", "WGPY_OFFLOADS": "none"})


@pytest.fixture
def net() -> Iterator[Pair]:
    with pair() as net:
        yield net


GO = pytest.param(WIREGUARD_GO, marks=pytest.mark.tool("wireguard-go"))


@pytest.mark.tool("wg")
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("other", [NATIVE, PORTABLE, PLAIN, GO], ids=str)
def test_both_ways_with_others(net: Pair, other: Implementation, family: int) -> None:
    with tunnel(net, NATIVE, other, family=family) as made:
        assert "data path: native" in net.left.run(program("wgpy"), "show", made.left.name).stdout
        made.ping_both_ways()
        transfer(net.left, net.right, made.right.address)
        transfer(net.right, net.left, made.left.address6)
        _, rx, tx = made.left_sees()
        assert rx > 20_000_000
        assert tx > 20_000_000


@pytest.mark.tool("wg")
@pytest.mark.parametrize("family", [4, 6])
def test_a_narrow_underlay_slows_and_does_not_stop(net: Pair, family: int) -> None:
    """The segments do not fit the path: UDP_SEGMENT fails with EMSGSIZE, datagrams go through in
    fragments."""
    net.set_mtu(1400)
    with tunnel(net, NATIVE, NATIVE, family=family) as made:
        transfer(net.left, net.right, made.right.address)
        shown = net.left.run(program("wgpy"), "show", made.left.name, "--json").stdout
        assert '"segment_fallback"' in shown
        # Back to normal, the peer is tried again in a minute; until then it works all the same.
        net.set_mtu(1500)
        transfer(net.left, net.right, made.right.address6)


@pytest.mark.tool("wg")
def test_egress_without_checksum_offload(net: Pair) -> None:
    """UDP_SEGMENT fails with EIO there."""
    net.left.disable_offloads(net.left.link)
    with tunnel(net, NATIVE, NATIVE) as made:
        transfer(net.left, net.right, made.right.address)


@pytest.mark.tool("wg")
@pytest.mark.parametrize("size", [36, 1392])
def test_datagrams_that_come_as_one_leave_as_one(net: Pair, size: int) -> None:
    """A sender with UDP_SEGMENT: its datagrams have no "do not fragment", and come in dozens."""
    batch, batches = 40, 50
    total = batch * batches
    with (
        tunnel(net, NATIVE, NATIVE) as made,
        net.left.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        net.right.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        made.ping_both_ways()
        receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        receiver.bind((made.right.address, 0))
        receiver.settimeout(5)
        sender.connect(receiver.getsockname())
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
        link = f"/sys/class/net/{made.right.name}/statistics/rx_packets"
        before = int(net.right.run("cat", link).stdout)
        wanted = [number.to_bytes(4, "big") * (size // 4) for number in range(total)]
        for first in range(0, total, batch):
            sender.send(b"".join(wanted[first : first + batch]))
        assert [receiver.recv(2048) for _ in wanted] == wanted
        # Fewer writes than a tenth of the packets, and none that the kernel refused.
        assert int(net.right.run("cat", link).stdout) - before < total // 10
        told = net.right.run(program("wgpy"), "show", made.right.name, "--json").stdout
        shown = json.loads(told)[made.right.name]
        assert shown["offloads"]["tun_udp_merge"]
        assert "merge_fallback" not in shown["counters"]


@contextlib.contextmanager
def _native(name: str):  # type: ignore[no-untyped-def]
    from wgpy.datapath.native import Native

    tun = open_tun(name)
    path = Native(tun.fd, vnet_header=True, mtu=1420)
    try:
        yield path
    finally:
        path.close()
        tun.close()


def test_a_panic_is_reported_and_leaves_no_key(net: Pair) -> None:
    def panic() -> None:
        with _native(f"wgpn{os.getpid()}") as path:
            path.set_up(True)
            peer = path.add_peer()
            index = path.reserve_index()
            keys = (bytearray(b"a" * 32), bytearray(b"b" * 32))
            pair = NewKeyPair(*keys, index, 7, 0.0, 1e12, 1e12, 1e12)
            path.install(peer, Slot.CURRENT, pair, kick=False)
            assert path._inner.session_count() == 1
            with pytest.raises(RuntimeError, match="the data path failed: on purpose"):
                path._inner.panic("on purpose")
            assert path._inner.session_count() == 0
            assert path.drain(10) == [Failed("on purpose")]
            # It goes on: the peer is known, and a new key pair can be had.
            again = NewKeyPair(
                *(bytearray(b"a" * 32), bytearray(b"b" * 32)),
                path.reserve_index(),
                7,
                0.0,
                *[1e12] * 3,
            )
            path.install(peer, Slot.CURRENT, again, kick=False)
            assert path._inner.session_count() == 1

    net.left.inside(panic)


def test_the_worker_ends_with_its_path(net: Pair) -> None:
    def threads() -> int:
        return len(os.listdir("/proc/self/task"))

    def open_and_close() -> None:
        idle = threads()
        for number in range(20):
            with _native(f"wgpn{os.getpid()}") as path:
                path.set_up(bool(number % 2))
                assert threads() == idle + number % 2
            assert threads() == idle

    before = len(os.listdir("/proc/self/fd"))
    net.left.inside(open_and_close)
    assert len(os.listdir("/proc/self/fd")) == before
