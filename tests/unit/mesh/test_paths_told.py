"""What a node tells of its paths, and learns of its NAT, from the state of its daemon."""

from wgpy.device.paths import NatState, PathState
from wgpy.device.paths import PathKind as Kind
from wgpy.device.uapi import Address, DeviceState, PeerState
from wgpy.identity.settings import Expectation
from wgpy.keys import PublicKey
from wgpy.mesh.apply import KEEPALIVE
from wgpy.mesh.connection import SESSION, keepalive_of, paths_of, places
from wgpy.mesh.line import Endpoint
from wgpy.mesh.messages import Path, PathKind

NOW = 1_800_000_000
GATE = Expectation("gate.mesh")
PLACE = Address("192.0.2.1", 51820)


def key(number: int) -> PublicKey:
    return PublicKey(bytes([number]) * 32)


def test_paths_and_coordinators_that_are_reached() -> None:
    found = PathState(Kind.DIRECT, PLACE, round_trip=0.0123, loss=0.5)
    peers = [
        PeerState(key(1), path=found),
        PeerState(key(2), path=PathState(Kind.SEARCHING)),
        PeerState(key(3), endpoint=PLACE, last_handshake=(NOW - 100, 0), expectation=GATE),
        PeerState(key(4), endpoint=PLACE, last_handshake=(NOW - int(SESSION), 0), expectation=GATE),
        PeerState(key(5), endpoint=PLACE, expectation=GATE),
        # A newcomer in quarantine.
        PeerState(key(6), endpoint=PLACE, last_handshake=(NOW, 0)),
    ]
    assert paths_of(DeviceState(peers=peers), NOW) == {
        key(1): Path(key(1), PathKind.DIRECT, "192.0.2.1:51820", 12.3, 0.5),
        key(3): Path(key(3), PathKind.DIRECT, "192.0.2.1:51820"),
    }


def test_the_way_to_a_coordinator_is_kept_as_the_nat_needs_it() -> None:
    assert keepalive_of(DeviceState()) == KEEPALIVE
    assert keepalive_of(DeviceState(nat_state=NatState())) == KEEPALIVE
    # Never later than what was measured.
    assert keepalive_of(DeviceState(nat_state=NatState(keepalive=57.9))) == 57
    assert keepalive_of(DeviceState(nat_state=NatState(keepalive=0.4))) == 1


def test_where_nodes_and_coordinators_are_is_remembered() -> None:
    local = Address("fe80::1%eth0", 7)
    peers = [
        PeerState(key(1), path=PathState(Kind.DIRECT, PLACE)),
        # Found again by the same way: where it is at home is known to it alone.
        PeerState(key(2), path=PathState(Kind.DIRECT, local)),
        PeerState(key(3), endpoint=PLACE, path=PathState(Kind.RELAY, PLACE)),
        PeerState(key(4), endpoint=PLACE, last_handshake=(NOW - 100, 0), expectation=GATE),
        PeerState(key(5), endpoint=PLACE, last_handshake=(NOW - int(SESSION), 0), expectation=GATE),
        PeerState(key(6), endpoint=local, last_handshake=(NOW - 100, 0), expectation=GATE),
    ]
    at = Endpoint(PLACE.host, PLACE.port)
    assert places(DeviceState(peers=peers), NOW) == {key(1): at, key(4): at}
