"""What must hold between wgpy and any other userspace WireGuard; one class per peer runs it.

wgpy is always on the left (the drawing in tests/support/tunnel.py). To tell a fault of a test
from a fault of wgpy, WGPY_STAND_IN=wireguard-go puts wireguard-go in wgpy's place.
"""

import os
import socket
import time
from pathlib import Path

import pytest

from tests.support import programs
from tests.support.mesh import GATE, Visitor
from tests.support.netns import Pair, wait_until
from tests.support.plugin import require
from tests.support.programs import Implementation, new_keys, new_psk
from tests.support.traffic import Pings
from tests.support.tunnel import endpoint, transfer, tunnel

_ALL = (
    programs.WGPY,
    programs.WIREGUARD_GO,
    programs.WIREGUARD_GO_LATEST,
    programs.BORINGTUN,
)
OURS = {made.name: made for made in _ALL}[os.environ.get("WGPY_STAND_IN", "wgpy")]

# Each direction of each TCP test: 7,000 packets of a common size.
MEGABYTES = 10_000_000
# The largest MTU that people use, on loopback: 34 KB.
LARGE_MTU = 34_000
# A keepalive on the wire: header and tag (whitepaper 5.4.6).
KEEPALIVE_SIZE = 32
# A peer takes one initiation in 20 ms, and wireguard-go's timestamps have steps of 17 ms: a
# second one within either is taken for a flood or a replay, and repeated after 5 s.
INITIATION_GAP = 0.05


def ours() -> Implementation:
    """What stands on the left; skips the test where it is not installed."""
    require(OURS.tool)
    return OURS


@pytest.mark.root
@pytest.mark.tool("wg")
@pytest.mark.tool("ping")
class Checks:
    """The checks; a subclass names the other implementation."""

    other: Implementation

    @pytest.mark.parametrize("initiator", ["ours", "theirs"])
    @pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
    @pytest.mark.parametrize("psk", [False, True], ids=["no-psk", "psk"])
    def test_ping_and_tcp(self, net: Pair, psk: bool, family: int, initiator: str) -> None:
        """Both families inside, both directions; only the initiator knows where the other is."""
        first = initiator == "ours"
        with tunnel(
            net, ours(), self.other, psk=psk, family=family, endpoints=(first, not first)
        ) as made:
            here, there = (made.left, made.right) if first else (made.right, made.left)
            here.namespace.ping(there.address)
            made.ping_both_ways()
            transfer(net.left, net.right, made.right.address, MEGABYTES)
            transfer(net.right, net.left, made.left.address6, MEGABYTES)
            # Of the handshake's time only ours is asked: boringtun tells its age in its place.
            assert abs(time.time() - made.left_sees()[0]) < 300
            for _, rx, tx in (made.left_sees(), made.right_sees()):
                assert rx > MEGABYTES
                assert tx > MEGABYTES
            where = net.left.v6 if family == 6 else net.left.v4
            assert made.right.peer(made.left_keys.public).endpoint == endpoint(where)

    def test_wrong_psk_then_right_one(self, net: Pair) -> None:
        """With another pre-shared key there is no session; with the right one there is."""
        with tunnel(net, ours(), self.other, psk=True) as made:
            assert made.psk is not None
            change = ("peer", made.right_keys.public, "preshared-key", "/dev/stdin")
            made.left.wg("set", *change, stdin=new_psk())
            assert not net.left.can_ping(made.right.address)
            assert made.left_sees()[0] == 0
            made.left.setconf(made.left.config)
            made.ping_both_ways()

    @pytest.mark.parametrize("restarted", ["ours", "theirs"])
    def test_rekey_with_data_in_flight(self, net: Pair, restarted: str) -> None:
        """Either side forgets its sessions four times in one TCP stream; the stream is whole."""
        with tunnel(net, ours(), self.other) as made:
            made.ping_both_ways(1)
            here = made.left if restarted == "ours" else made.right
            there = made.right if restarted == "ours" else made.left

            def restart() -> None:
                time.sleep(INITIATION_GAP)
                here.restart_sessions()
                # It has no session, so this is answered only by way of a new one.
                here.namespace.ping(there.address, wait=20)

            transfer(net.left, net.right, made.right.address, MEGABYTES, between=restart)
            transfer(net.right, net.left, made.left.address, MEGABYTES, between=restart)

    def test_private_key_changed_live(self, net: Pair) -> None:
        """A new private key ends the old sessions; the peer that is told of it comes back."""
        with tunnel(net, ours(), self.other) as made:
            made.ping_both_ways(1)
            fresh = new_keys()
            made.left.wg("set", "private-key", "/dev/stdin", stdin=fresh.private)
            assert made.left.wg("show", "public-key").strip() == fresh.public
            made.right.wg("set", "peer", made.left_keys.public, "remove")
            inside = "10.77.0.1/32,fd77::1/128"
            made.right.wg("set", "peer", fresh.public, "allowed-ips", inside)
            made.left.namespace.ping(made.right.address)
            made.ping_both_ways(1)

    @pytest.mark.parametrize("mover", ["ours", "theirs"])
    def test_roaming(self, net: Pair, mover: str) -> None:
        """A side gets another address, then another port; the other follows, no session ends."""
        with tunnel(net, ours(), self.other) as made:
            made.ping_both_ways(1)
            moved, stays = (made.left, made.right) if mover == "ours" else (made.right, made.left)
            space = moved.namespace
            space.ip("address", "del", f"{space.v4}/24", "dev", space.link)
            space.add_address(space.link, "10.91.0.77/24")
            space.ping(stays.address, wait=20)
            assert _only_peer(stays).endpoint == endpoint("10.91.0.77")
            stays.namespace.ping(moved.address)
            moved.wg("set", "listen-port", "51999")
            space.ping(stays.address, wait=20)
            assert _only_peer(stays).endpoint == endpoint("10.91.0.77", 51999)
            stays.namespace.ping(moved.address)

    def test_persistent_keepalive(self, net: Pair) -> None:
        """With a keepalive of 1 s there is a session, and it counts, without any traffic."""
        with tunnel(net, ours(), self.other, keepalive=1, endpoints=(True, False)) as made:
            wait_until(lambda: made.left_sees()[0], "a handshake that only the keepalive asks for")
            sent = made.left_sees()[2]
            wait_until(lambda: made.left_sees()[2] >= sent + 2 * KEEPALIVE_SIZE, "two keepalives")
            assert made.left.peer(made.right_keys.public).keepalive == "1"
            net.right.ping(made.left.address)
            made.left.wg("set", "peer", made.right_keys.public, "persistent-keepalive", "off")
            assert made.left.peer(made.right_keys.public).keepalive == "off"

    # The ten seconds are real: those of the other implementation are not ours to test each time.
    @pytest.mark.parametrize("silent", ["ours", pytest.param("theirs", marks=pytest.mark.slow)])
    def test_passive_keepalive(self, net: Pair, silent: str) -> None:
        """Who got data and has nothing to say sends one keepalive, after ten seconds."""
        with tunnel(net, ours(), self.other) as made:
            made.ping_both_ways(1)
            quiet, asks = (made.left, made.right) if silent == "ours" else (made.right, made.left)
            # No answer to a ping, and none to a neighbour: nothing of IP's goes back.
            quiet.namespace.run("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")

            def kept() -> int:
                # As we count it: boringtun does not count keepalives.
                _, rx, tx = made.left_sees()
                return tx if silent == "ours" else rx

            before = kept()
            assert not asks.namespace.can_ping(quiet.address)
            wait_until(
                lambda: kept() == before + KEEPALIVE_SIZE, "the passive keepalive", timeout=20
            )
            quiet.namespace.run("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=0")
            made.ping_both_ways(1)

    @pytest.mark.parametrize("mtu", [1280, 1420, LARGE_MTU])
    def test_mtu(self, net: Pair, mtu: int) -> None:
        """The largest packet that the interface takes arrives, and TCP with it; then none more."""
        net.set_mtu(65_535 if mtu == LARGE_MTU else 1500)
        with tunnel(net, ours(), self.other, mtu=mtu) as made:
            made.ping_both_ways(1)
            for here, there in ((made.left, made.right), (made.right, made.left)):
                # IPv4 and ICMP headers are 20 and 8 bytes; IPv6's are 40 and 8.
                here.namespace.ping(there.address, 2, size=mtu - 28)
                here.namespace.ping(there.address6, 2, size=mtu - 48)
            transfer(net.left, net.right, made.right.address, MEGABYTES)
            transfer(net.right, net.left, made.left.address, MEGABYTES)

    def test_mtu_changed_live(self, net: Pair) -> None:
        """An MTU raised on the running interface holds for the next packet."""
        net.set_mtu(9000)
        with tunnel(net, ours(), self.other, mtu=1280) as made:
            made.ping_both_ways(1)
            for end in (made.left, made.right):
                end.namespace.ip("link", "set", end.name, "mtu", "8000")
            net.left.ping(made.right.address, 3, size=8000 - 28)
            net.right.ping(made.left.address, 3, size=8000 - 28)

    def test_down_and_up(self, net: Pair) -> None:
        """An interface that is set down is deaf; set up again it makes a new session."""
        with tunnel(net, ours(), self.other) as made:
            made.ping_both_ways(1)
            net.left.ip("link", "set", made.left.name, "down")
            assert not net.right.can_ping(made.left.address)
            net.left.ip("link", "set", made.left.name, "up")
            net.left.add_address(made.left.name, "fd77::1/64")
            net.left.ping(made.right.address, wait=20)
            made.ping_both_ways(1)

    def test_junk_does_no_harm(self, net: Pair) -> None:
        """Datagrams of every type and many lengths on our port: the session goes on."""
        with tunnel(net, ours(), self.other) as made:
            made.ping_both_ways(1)
            before = made.left_sees()
            with net.right.socket(socket.AF_INET, socket.SOCK_DGRAM) as junk:
                for kind in range(6):
                    for length in (0, 1, 4, 31, 32, 63, 64, 91, 92, 93, 147, 148, 149, 1500, 65507):
                        data = (bytes([kind, 0, 0, 0]) + os.urandom(length))[:length]
                        junk.sendto(data, (net.left.v4, 51820))
            made.ping_both_ways(1)
            after = made.left_sees()
            assert after[0] == before[0], "junk made a new session"
            assert made.left.peer(made.right_keys.public).endpoint == endpoint(net.right.v4)

    def test_beside_peers_with_credentials(self, net: Pair, tmp_path: Path) -> None:
        """Others come in by certificates, and go, on the same interface: it is of no matter."""
        if ours() is not programs.WGPY:
            pytest.skip("only wgpyd knows credentials")
        with (
            tunnel(net, ours(), self.other) as made,
            Visitor(made.left, made.left_keys.public, tmp_path) as visitor,
        ):
            made.ping_both_ways(1)
            shaken = made.left_sees()[0]
            pings = Pings(net.right, made.left.address, 60)
            for _ in range(2):
                visitor.come()
                visitor.go()
            assert pings.lost() == 0
            assert made.left_sees()[0] == shaken, "one handshake was enough"
            transfer(net.right, net.left, made.left.address, MEGABYTES, between=visitor.come)
            for side, far in ((made.left, made.right), (made.right, made.left)):
                time.sleep(INITIATION_GAP)
                side.restart_sessions()
                side.namespace.ping(far.address, wait=20)
            made.ping_both_ways(1)
            visitor.space.ping(GATE)
            assert visitor.is_in(), "whoever configures the others again leaves it"

    @pytest.mark.slow
    @pytest.mark.parametrize("initiator", ["ours", "theirs"])
    def test_rekey_by_time(self, net: Pair, initiator: str) -> None:
        """Traffic for 130 s: the initiator makes a new session after 120, and no ping is lost."""
        first = initiator == "ours"
        with tunnel(net, ours(), self.other, endpoints=(first, not first)) as made:
            here, there = (made.left, made.right) if first else (made.right, made.left)
            here.namespace.ping(there.address)
            # As we tell it: boringtun's handshake time is an age.
            before, _rx, _tx = made.left_sees()
            said = here.namespace.run(
                *("ping", "-n", "-q", "-c", "260", "-i", "0.5", there.address), timeout=200
            ).stdout
            assert "260 received" in said
            assert 115 <= made.left_sees()[0] - before <= 130


def _only_peer(interface: programs.Interface) -> programs.PeerStatus:
    (peer,) = interface.peers().values()
    return peer
