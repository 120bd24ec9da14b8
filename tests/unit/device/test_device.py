"""What a `set=1` request does to an interface."""

import errno

import pytest

from tests.support.fake_network import Machine, World, befriend
from tests.unit.device.kit import KEYS, PRIVATE, Kit, Stranger, with_session
from wgpy.device.refusals import MAX_PEERS
from wgpy.device.uapi import Address, AllowedIpChange, DeviceChange, PeerChange, UapiError
from wgpy.ip import Prefix, parse_prefix
from wgpy.keys import PresharedKey, PrivateKey, PublicKey

INITIATION, RESPONSE, TRANSPORT = 1, 2, 4


@pytest.fixture
def kit():
    return Kit().up()


def prefixes(*texts):
    return [AllowedIpChange(parse_prefix(text)) for text in texts]


def removed(*texts):
    return [AllowedIpChange(parse_prefix(text), remove=True) for text in texts]


def owned(kit, key):
    return [str(prefix) for prefix in kit.shown()[key].allowed_ips]


# --- Peers ---


def test_a_peer_that_is_ourselves_is_ignored(kit):
    kit.peer(PRIVATE.public(), allowed_ips=prefixes("10.0.0.0/8"))
    kit.peer(PRIVATE.public(), remove=True)
    assert kit.shown() == {}


def test_update_only_makes_no_peer(kit):
    kit.peer(KEYS[0], update_only=True, persistent_keepalive=5)
    assert kit.shown() == {}
    kit.peer(KEYS[0])
    kit.peer(KEYS[0], update_only=True, persistent_keepalive=5)
    assert kit.shown()[KEYS[0]].persistent_keepalive == 5


def test_removing(kit):
    kit.peer(KEYS[0], allowed_ips=prefixes("10.0.0.1"))
    kit.peer(KEYS[1], remove=True)
    kit.peer(KEYS[0], remove=True)
    assert kit.shown() == {}
    assert kit.path._roads == {}
    kit.peer(KEYS[0])
    assert owned(kit, KEYS[0]) == []


def test_replace_peers_leaves_those_of_the_request(kit):
    kit.peer(KEYS[0], allowed_ips=prefixes("10.0.0.1"))
    kit.peer(KEYS[1], allowed_ips=prefixes("10.0.0.2"))
    change = PeerChange(KEYS[1], allowed_ips=prefixes("10.0.0.3"))
    kit.device.apply(DeviceChange(replace_peers=True, peers=[change, PeerChange(KEYS[2])]))
    assert set(kit.shown()) == {KEYS[1], KEYS[2]}
    assert owned(kit, KEYS[1]) == ["10.0.0.3/32"]


def test_one_peer_twice_in_a_request(kit):
    changes = [
        PeerChange(KEYS[0], allowed_ips=prefixes("10.0.0.1")),
        PeerChange(KEYS[0], remove=True),
        PeerChange(KEYS[0], allowed_ips=prefixes("10.0.0.2")),
    ]
    kit.device.apply(DeviceChange(peers=changes))
    assert owned(kit, KEYS[0]) == ["10.0.0.2/32"]


def test_allowed_ips_are_added_replaced_moved_and_taken(kit):
    kit.peer(KEYS[0], allowed_ips=prefixes("10.0.0.1", "10.0.0.2"))
    kit.peer(KEYS[0], allowed_ips=prefixes("fd00::/64"))
    assert owned(kit, KEYS[0]) == ["10.0.0.1/32", "10.0.0.2/32", "fd00::/64"]
    kit.peer(KEYS[1], allowed_ips=prefixes("10.0.0.2"))
    assert owned(kit, KEYS[0]) == ["10.0.0.1/32", "fd00::/64"]
    kit.peer(KEYS[0], allowed_ips=removed("10.0.0.2", "fd00::/64"))
    assert (owned(kit, KEYS[0]), owned(kit, KEYS[1])) == (["10.0.0.1/32"], ["10.0.0.2/32"])
    kit.peer(KEYS[0], replace_allowed_ips=True, allowed_ips=prefixes("10.0.0.9"))
    assert owned(kit, KEYS[0]) == ["10.0.0.9/32"]
    kit.peer(KEYS[0], replace_allowed_ips=True)
    assert owned(kit, KEYS[0]) == []


def test_a_preshared_key_is_set_shown_and_cleared(kit):
    psk = PresharedKey(b"p" * 32)
    kit.peer(KEYS[0], preshared_key=psk)
    assert kit.shown()[KEYS[0]].preshared_key == psk
    kit.peer(KEYS[0], persistent_keepalive=0)
    assert kit.shown()[KEYS[0]].preshared_key == psk
    kit.peer(KEYS[0], preshared_key=PresharedKey(bytes(32)))
    assert kit.shown()[KEYS[0]].preshared_key == PresharedKey(bytes(32))


def test_an_endpoint_on_a_link_that_is_not_there_changes_nothing(kit):
    change = DeviceChange(
        fwmark=5,
        listen_port=5,
        peers=[PeerChange(KEYS[0]), PeerChange(KEYS[1], endpoint=Address("fe80::1%nolink", 1))],
    )
    with pytest.raises(UapiError, match="nolink") as caught:
        kit.device.apply(change)
    assert caught.value.code == errno.EINVAL
    assert kit.shown() == {}
    assert kit.device.state().fwmark == 0
    assert kit.bound[-1].port != 5


def test_ten_thousand_peers_in_one_request(kit):
    def key(number):
        return PublicKey(number.to_bytes(32, "big"))

    changes = [
        PeerChange(
            key(n + 1),
            endpoint=Address("192.0.2.1", n + 1),
            allowed_ips=[AllowedIpChange(Prefix(bytes((10, *n.to_bytes(3, "big"))), 32))],
        )
        for n in range(10_000)
    ]
    kit.device.apply(DeviceChange(replace_peers=True, peers=changes))
    shown = kit.shown()
    assert len(shown) == 10_000
    assert str(shown[key(10_000)].allowed_ips[0]) == "10.0.39.15/32"
    # What makes them cheap: an X25519 exchange with each would take seconds.
    assert all(entry.protocol.remote._known is None for entry in kit.device._peers.by_key.values())
    assert kit.device.wake() is None, "peers that do nothing have no timers"
    kit.device.apply(DeviceChange(replace_peers=True, peers=changes[:1]))
    assert len(kit.shown()) == len(kit.path._roads) == 1


def test_the_number_of_peers_is_bounded(kit):
    changes = [PeerChange(PublicKey(n.to_bytes(32, "big"))) for n in range(1, MAX_PEERS + 2)]
    with pytest.raises(UapiError) as caught:
        kit.device.apply(DeviceChange(listen_port=9, peers=changes))
    assert caught.value.code == errno.ENOSPC
    assert kit.shown() == {}
    assert kit.bound[-1].port != 9


# --- Keys ---


def test_a_new_private_key_drops_every_session(kit):
    with_session(kit)
    with_session(kit, 2)
    assert kit.sessions() == 2
    kit.device.apply(DeviceChange(private_key=PRIVATE))
    assert kit.sessions() == 2, "the same key is no change"
    kit.device.apply(DeviceChange(private_key=PrivateKey(b"n" * 32)))
    assert kit.sessions() == 0
    assert len(kit.shown()) == 2


def test_a_private_key_whose_public_key_is_a_peers_removes_that_peer(kit):
    private = PrivateKey(b"n" * 32)
    kit.peer(private.public(), allowed_ips=prefixes("10.0.0.1"))
    kit.peer(KEYS[0])
    kit.device.apply(DeviceChange(private_key=private))
    assert set(kit.shown()) == {KEYS[0]}
    kit.peer(private.public())
    assert set(kit.shown()) == {KEYS[0]}


def test_after_a_new_private_key_handshakes_use_it():
    world = World()
    alice, bob = Machine(world, "192.0.2.1"), Machine(world, "192.0.2.2")
    befriend(alice, bob)
    packet = alice.send(bob)
    world.run(1)
    assert bob.datapath.delivered == [packet]
    alice.private = PrivateKey(b"n" * 32)
    alice.device.apply(DeviceChange(private_key=alice.private))
    assert alice.session_count() == 0
    bob.add_peer(alice)
    world.run(6)
    packet = alice.send(bob)
    world.run(1)
    assert bob.datapath.delivered[-1] == packet


def test_without_a_private_key_peers_can_be_configured_and_wait():
    kit = Kit(private=None).up()
    kit.peer(KEYS[0], endpoint=Address("192.0.2.1", 1), persistent_keepalive=25)
    kit.pass_time(30)
    assert kit.path.sent == []
    assert kit.device.state().private_key is None
    kit.device.apply(DeviceChange(private_key=PRIVATE))
    kit.pass_time(30)
    assert kit.device.state().private_key == PRIVATE
    assert len(kit.sent(INITIATION)) >= 1


def test_clearing_the_private_key_drops_what_it_made(kit):
    with_session(kit)
    kit.device.apply(DeviceChange(private_key=PrivateKey(bytes(32))))
    assert kit.sessions() == 0
    assert kit.device.state().private_key is None


def test_the_operators_key_object_stays_the_operators(kit):
    private = PrivateKey(b"n" * 32)
    kit.device.apply(DeviceChange(private_key=private))
    kit.device.close()
    assert private == PrivateKey(b"n" * 32)


# --- Keepalives ---


def test_turning_a_keepalive_on_sends_one_at_once(kit):
    kit.peer(KEYS[0], endpoint=Address("192.0.2.1", 1))
    kit.settle()
    assert kit.path.sent == []
    kit.peer(KEYS[0], persistent_keepalive=25)
    kit.settle()
    assert len(kit.sent(INITIATION)) == 1


def test_changing_a_keepalive_sends_none(kit):
    stranger = with_session(kit)
    kit.peer(stranger.key, persistent_keepalive=50)
    kit.settle()
    assert kit.path.sent == []
    kit.peer(stranger.key, persistent_keepalive=0)
    kit.peer(stranger.key, persistent_keepalive=25)
    assert len(kit.sent(TRANSPORT)) == 1


def test_a_keepalive_waits_for_the_link():
    kit = Kit()
    kit.peer(KEYS[0], endpoint=Address("192.0.2.1", 1), persistent_keepalive=25)
    kit.settle()
    assert kit.path.sent == []
    kit.up()
    kit.settle()
    assert len(kit.sent(INITIATION)) == 1


def test_keepalives_keep_their_interval(kit):
    with_session(kit)
    kit.pass_time(24.9)
    assert kit.sent(TRANSPORT) == []
    kit.pass_time(0.2)
    assert len(kit.sent(TRANSPORT)) == 1


# --- Ports and marks ---


def test_a_taken_port_is_refused_and_nothing_is_changed(kit):
    kit.taken.add(7)
    kit.peer(KEYS[0])
    before = kit.device.state()
    change = DeviceChange(
        private_key=PrivateKey(b"n" * 32),
        listen_port=7,
        fwmark=9,
        replace_peers=True,
        peers=[PeerChange(KEYS[1])],
    )
    with pytest.raises(UapiError, match="7") as caught:
        kit.device.apply(change)
    assert caught.value.code == errno.EADDRINUSE
    assert kit.device.state() == before
    assert kit.bound[-1].mark == 0, "the sockets in use keep their mark"


def test_a_refused_mark_changes_nothing(kit):
    kit.bound[-1].refuse_mark = True
    before = kit.device.state()
    with pytest.raises(UapiError) as caught:
        kit.device.apply(DeviceChange(fwmark=9, listen_port=5))
    assert caught.value.code == errno.EPERM
    assert kit.device.state() == before


def test_the_port_changes_while_sessions_live_on(kit):
    with_session(kit)
    kit.device.apply(DeviceChange(listen_port=5555))
    assert kit.device.state().listen_port == 5555
    assert kit.sessions() == 1
    binds = len(kit.bound)
    kit.device.apply(DeviceChange(listen_port=5555))
    assert len(kit.bound) == binds, "the same port is no change"
    kit.device.apply(DeviceChange(listen_port=0))
    assert kit.device.state().listen_port not in (0, 5555)


def test_the_mark_goes_to_the_sockets_there_are_and_to_those_to_come(kit):
    kit.device.apply(DeviceChange(fwmark=51820))
    assert kit.bound[-1].mark == 51820
    kit.device.apply(DeviceChange(listen_port=5555))
    assert kit.bound[-1].mark == 51820
    kit.device.apply(DeviceChange(fwmark=0))
    assert kit.bound[-1].mark == 0
    assert kit.device.state().fwmark == 0


def test_mark_and_port_in_one_request(kit):
    kit.device.apply(DeviceChange(fwmark=3, listen_port=5555))
    assert (kit.bound[-1].port, kit.bound[-1].mark) == (5555, 3)


def test_a_mark_clears_sticky_sources(kit):
    stranger = Stranger(kit)
    stranger.befriend("10.0.0.1")
    stranger.route = stranger.route._replace(pktinfo=bytes((3, 0, 0, 0, 10, 1, 1, 1, 10, 1, 1, 1)))
    stranger.send(stranger.initiation())
    kit.settle()
    (road,) = kit.path._roads.values()
    assert road.route.pktinfo
    kit.device.apply(DeviceChange(fwmark=3))
    assert not road.route.pktinfo


def test_changed_routes_clear_sticky_sources(kit):
    stranger = Stranger(kit)
    stranger.befriend("10.0.0.1")
    stranger.route = stranger.route._replace(pktinfo=bytes((3, 0, 0, 0, 10, 1, 1, 1, 10, 1, 1, 1)))
    stranger.send(stranger.initiation())
    kit.settle()
    kit.device.routes_changed()
    (road,) = kit.path._roads.values()
    assert road.route == stranger.route._replace(pktinfo=b"")


# --- State ---


def test_the_state_is_what_was_set(kit):
    kit.device.apply(DeviceChange(listen_port=5555, fwmark=7))
    kit.peer(KEYS[0], endpoint=Address("2001:db8::1", 9), allowed_ips=prefixes("::/0"))
    state = kit.device.state()
    assert (state.private_key, state.listen_port, state.fwmark) == (PRIVATE, 5555, 7)
    assert state.datapath == "memory"
    assert state.wgpy_version
    (peer,) = state.peers
    assert (str(peer.endpoint), peer.last_handshake) == ("[2001:db8::1]:9", (0, 0))
    assert (peer.rx_bytes, peer.tx_bytes, peer.persistent_keepalive) == (0, 0, 0)


def test_one_peer_is_shown_alone(kit):
    kit.peer(KEYS[0], allowed_ips=[AllowedIpChange(parse_prefix("10.7.0.2"))])
    kit.peer(KEYS[1])
    assert [x.public_key for x in kit.device.state().peers] == [KEYS[0], KEYS[1]]
    (peer,) = kit.device.state(KEYS[0]).peers
    assert (peer.public_key, peer.allowed_ips) == (KEYS[0], [parse_prefix("10.7.0.2")])
    assert kit.device.state(KEYS[2]).peers == []


def test_counters_of_both_sides_are_added_up(kit):
    kit.path.take(b"")
    kit.path.take(bytes(148))
    stranger = Stranger(kit)
    stranger.send(stranger.initiation())
    kit.settle()
    assert kit.counters() == {"too_short": 1, "unknown_peer": 1, "unknown_type": 1}
