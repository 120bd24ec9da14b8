"""wgpy against wireguard-go: Debian's of 2022, without offloads, and the latest, with them."""

import pytest

from interop.checks import Checks, ours
from tests.support.netns import Pair
from tests.support.programs import WIREGUARD_GO, WIREGUARD_GO_LATEST, new_keys
from tests.support.tunnel import peer_section, transfer, tunnel
from tests.support.wire import Faults, faulty_pair

# Ethernet, IPv4 and UDP headers of a frame: what follows is WireGuard's, first its type.
OUTER_HEADERS = 14 + 20 + 8
UDP = 17


@pytest.mark.tool("wireguard-go")
class TestWireguardGo(Checks):
    """The one that Debian packages."""

    other = WIREGUARD_GO

    def test_one_of_thirty_peers(self, net: Pair) -> None:
        """Among 29 peers that never answer, the one that does has its tunnel."""
        with tunnel(net, ours(), self.other) as made:
            strangers = "".join(
                peer_section(new_keys().public, f"10.77.1.{n}/32", at=f"10.91.0.2:{n}", keepalive=1)
                for n in range(1, 30)
            )
            made.left.wg("addconf", "/dev/stdin", stdin=strangers)
            assert len(made.left.peers()) == 30
            made.ping_both_ways()
            assert sum(peer.handshake > 0 for peer in made.left.peers().values()) == 1

    @pytest.mark.usefixtures("clean_machine")
    def test_bad_wire(self) -> None:
        """Frames lost, repeated and reordered: TCP through the tunnel arrives whole."""
        faults = Faults(loss=0.01, duplication=0.05, reordering=0.05)
        with faulty_pair(faults) as (net, wire), tunnel(net, ours(), self.other) as made:
            net.left.ping(made.right.address, wait=20)
            transfer(net.left, net.right, made.right.address, 2_000_000)
            transfer(net.right, net.left, made.left.address6, 2_000_000)
            for what in (wire.counts.lost, wire.counts.repeated, wire.counts.reordered):
                assert what > 10

    @pytest.mark.usefixtures("clean_machine")
    def test_replayed_frames_are_not_taken(self) -> None:
        """Each frame comes twice; each packet inside comes once."""
        with (
            faulty_pair(Faults(duplication=1.0)) as (net, wire),
            tunnel(net, ours(), self.other) as made,
        ):
            net.left.ping(made.right.address, wait=20)
            for here, there in ((made.left, made.right), (made.right, made.left)):
                said = here.namespace.run("ping", "-n", "-c20", "-i0.05", there.address).stdout
                assert "20 received" in said
                assert "DUP" not in said
            assert wire.counts.repeated > 80

    @pytest.mark.usefixtures("clean_machine")
    @pytest.mark.parametrize("kind", [1, 2], ids=["initiation", "response"])
    def test_lost_handshake_message(self, kind: int) -> None:
        """The first message of a type is lost: the handshake is tried again after 5 s."""
        lost: list[bytes] = []

        def drop_first(_origin: int, frame: bytes) -> bool:
            is_udp = frame[12:14] == b"\x08\x00" and frame[23] == UDP
            if not is_udp or lost or frame[OUTER_HEADERS] != kind:
                return False
            lost.append(frame)
            return True

        with faulty_pair() as (net, wire), tunnel(net, ours(), self.other) as made:
            wire.drop = drop_first
            net.left.ping(made.right.address, wait=20)
            assert len(lost) == 1
            made.ping_both_ways(1)


@pytest.mark.tool("wireguard-go-latest")
class TestWireguardGoLatest(Checks):
    """The newest release, with TUN and UDP offloads."""

    other = WIREGUARD_GO_LATEST
