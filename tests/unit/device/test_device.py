"""What a `set=1` request does to an interface, and what the link and time do."""

import errno

import pytest

from tests.support.fake_network import Machine, World, befriend
from tests.unit.device.kit import PRIVATE, Kit, Stranger
from wgpy.datapath.contract import DataPathError, Failed
from wgpy.device.device import MAX_PEERS
from wgpy.device.uapi import Address, AllowedIpChange, DeviceChange, PeerChange, UapiError
from wgpy.ip import Prefix, parse_prefix
from wgpy.keys import PresharedKey, PrivateKey, PublicKey

INITIATION, RESPONSE, TRANSPORT = 1, 2, 4
KEYS = [PublicKey(bytes([n]) * 32) for n in range(1, 6)]


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


def with_session(kit, number=1):
    """A stranger who has answered the device."""
    stranger = Stranger(kit, number)
    stranger.befriend(f"10.0.0.{number}", endpoint=True, persistent_keepalive=25)
    kit.settle()
    (data, _) = kit.sent(INITIATION)[-1]
    stranger.send(stranger.answer(data, index=number)[0])
    kit.settle()
    kit.path.sent.clear()
    return stranger


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


# --- The link ---


def test_a_port_can_be_chosen_before_the_link_is_up():
    kit = Kit()
    kit.device.apply(DeviceChange(listen_port=5555))
    assert kit.bound == []
    assert kit.device.state().listen_port == 5555
    kit.up()
    assert kit.bound[0].port == 5555


def test_a_link_whose_port_is_taken_comes_up_with_another_port():
    kit = Kit()
    kit.taken.add(7)
    kit.device.apply(DeviceChange(listen_port=7))
    with pytest.raises(OSError, match="in use"):
        kit.up()
    assert not kit.path._up
    with pytest.raises(UapiError):
        kit.device.apply(DeviceChange(listen_port=7))
    kit.device.apply(DeviceChange(listen_port=8))
    assert kit.path._up
    assert kit.bound[-1].port == 8


def test_down_drops_keys_and_timers_and_up_begins_anew(kit):
    stranger = with_session(kit)
    kit.device.set_up(False)
    assert kit.sessions() == 0
    kit.pass_time(600)
    assert kit.path.sent == []
    assert kit.device.wake() is None
    kit.up()
    kit.settle()
    ((data, _),) = kit.sent(INITIATION)
    stranger.send(stranger.answer(data, index=5)[0])
    kit.settle()
    assert kit.sessions() == 1


def test_the_random_port_is_kept_over_down_and_up(kit):
    port = kit.device.state().listen_port
    kit.device.set_up(False)
    kit.up()
    assert kit.device.state().listen_port == port


def test_an_mtu_that_cannot_be_carried_is_refused_and_the_old_one_kept(kit):
    kit.device.set_mtu(9000)
    with pytest.raises(DataPathError, match="65475"):
        kit.device.set_mtu(65_476)
    assert kit.path._mtu == 9000


def test_closing_wipes_the_key_and_the_sessions(kit):
    with_session(kit)
    private = kit.device.state().private_key
    kit.device.close()
    assert private.is_zero()
    assert kit.sessions() == 0


# --- Suspend and failure ---


@pytest.mark.parametrize("how", ["suspend", "failure"])
def test_keys_are_forgotten_and_the_next_packet_makes_new_ones(how):
    world = World()
    alice, bob = Machine(world, "192.0.2.1"), Machine(world, "192.0.2.2")
    befriend(alice, bob)
    alice.send(bob)
    world.run(1)
    assert alice.session_count() == 1
    if how == "suspend":
        alice.device.forget_keys()
    else:
        alice.device.process([Failed("the data path failed")])
    assert alice.session_count() == 0
    world.run(10)
    packet = alice.send(bob)
    world.run(2)
    assert bob.datapath.delivered[-1] == packet
    assert alice.session_count() == 1


def test_forgetting_ends_a_handshake_under_way_and_its_retry_begins_anew(kit):
    stranger = Stranger(kit)
    stranger.befriend("10.0.0.1", endpoint=True, persistent_keepalive=25)
    kit.settle()
    ((first, _),) = kit.sent(INITIATION)
    kit.device.forget_keys()
    assert kit.path._reserved == set()
    stranger.send(stranger.answer(first)[0])
    kit.settle()
    assert kit.sessions() == 0
    kit.path.now += 1
    kit.pass_time(6)
    ((second, _),) = kit.sent(INITIATION)
    stranger.send(stranger.answer(second)[0])
    kit.settle()
    assert kit.sessions() == 1


# --- Names ---


def named(kit):
    """A peer whose endpoint has a name, and that has been called once."""
    kit.peer(
        KEYS[0],
        endpoint=Address("192.0.2.1", 51820),
        endpoint_name=("vpn.example", 51820),
        persistent_keepalive=25,
    )
    kit.settle()
    assert len(kit.sent(INITIATION)) == 1
    return KEYS[0]


def where(kit, key):
    return str(kit.shown()[key].endpoint)


def test_a_name_is_asked_for_when_nobody_answers(kit):
    key = named(kit)
    kit.pass_time(4.9)
    assert kit.asked == []
    kit.pass_time(1)
    assert kit.asked == [(key, "vpn.example", 51820)]
    assert kit.shown()[key].endpoint_name == ("vpn.example", 51820)


def test_an_address_that_the_name_no_longer_has_is_left_at_once(kit):
    key = named(kit)
    kit.pass_time(6)
    kit.sent(INITIATION)
    kit.device.resolved(key, [Address("192.0.2.9", 51820)])
    ((_, route),) = kit.sent(INITIATION)
    assert route.address == ("192.0.2.9", 51820)
    assert where(kit, key) == "192.0.2.9:51820"


def test_the_other_family_has_its_turn(kit):
    key = named(kit)
    answers = [Address("192.0.2.1", 51820), Address("2001:db8::1", 51820)]
    seen = []
    for _ in range(12):
        kit.pass_time(5.4)
        if kit.asked:
            kit.asked.clear()
            kit.device.resolved(key, answers)
        seen.append(where(kit, key))
    assert set(seen) == {"192.0.2.1:51820", "[2001:db8::1]:51820"}
    changes = sum(one != other for one, other in zip(seen, seen[1:], strict=False))
    assert changes >= 3, "and each again, while nobody answers"


def test_a_name_with_one_address_stays_there(kit):
    key = named(kit)
    for _ in range(5):
        kit.pass_time(5.4)
        kit.device.resolved(key, [Address("192.0.2.1", 51820)])
    assert where(kit, key) == "192.0.2.1:51820"


def test_an_answer_that_comes_too_late_moves_nothing(kit):
    stranger = Stranger(kit)
    stranger.befriend("10.0.0.1", endpoint=True, endpoint_name=("vpn.example", 1))
    kit.device.resolved(stranger.key, [Address("192.0.2.9", 1)])
    kit.device.resolved(KEYS[3], [Address("192.0.2.9", 1)])
    kit.device.resolved(stranger.key, [])
    assert where(kit, stranger.key) == "192.0.2.1:1001"
    assert kit.path.sent == []


def test_a_new_endpoint_without_a_name_ends_the_names_use(kit):
    key = named(kit)
    kit.peer(key, endpoint=Address("192.0.2.7", 7))
    assert kit.shown()[key].endpoint_name is None
    kit.pass_time(20)
    assert kit.asked == []


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


def test_counters_of_both_sides_are_added_up(kit):
    kit.path.take(b"")
    kit.path.take(bytes(148))
    stranger = Stranger(kit)
    stranger.send(stranger.initiation())
    kit.settle()
    assert kit.counters() == {"too_short": 1, "unknown_peer": 1, "unknown_type": 1}
