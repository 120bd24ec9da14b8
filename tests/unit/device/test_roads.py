"""What whoever finds ways can do with a device, and what he is told of it."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tests.support.fake_network import Machine, World, befriend
from tests.support.fake_ways import FakeWays
from tests.unit.device.kit import KEYS, PRIVATE, Kit, Stranger
from wgpy.datapath.contract import Datagram, DataPathError, Endpoint
from wgpy.datapath.endpoint import Route
from wgpy.device.handshaker import MAX_CALLS
from wgpy.device.paths import NatSettings
from wgpy.device.roads import Roads
from wgpy.device.uapi import Address, Cleared, DeviceChange, PeerChange, UapiError
from wgpy.keys import PrivateKey
from wgpy.protocol.constants import (
    PROBE_MAX_LENGTH,
    PROBE_MIN_LENGTH,
    PROBE_REPLY_LENGTH,
    TYPE_INITIATION,
    TYPE_PROBE,
    TYPE_PROBE_REPLY,
    TYPE_RESPONSE,
    TYPE_TRANSPORT,
)
from wgpy.protocol.handshake import HandshakeError

SETTINGS = NatSettings()
PLACE = Endpoint("192.0.2.1", 1001)
ELSEWHERE = Endpoint("198.51.100.1", 2002)


@pytest.fixture
def kit() -> Kit:
    made = Kit(make_ways=FakeWays)
    made.device.apply(DeviceChange(nat=SETTINGS))
    return made.up()


@pytest.fixture
def ways(kit: Kit) -> FakeWays:
    found = kit.device._ways._ways
    assert isinstance(found, FakeWays)
    found.take()
    return found


@pytest.fixture
def roads(kit: Kit) -> Roads:
    return kit.device.roads


@pytest.fixture
def alice(kit: Kit) -> Stranger:
    made = Stranger(kit)
    made.befriend("10.0.0.1", nat=True)
    return made


def targets(kit: Kit, kind: int) -> list[tuple[str, int]]:
    return [(route.address[0], route.address[1]) for _, route in kit.sent(kind)]


# --- Where a peer is ---


def test_a_peer_is_where_it_is_put(kit: Kit, roads: Roads, alice: Stranger) -> None:
    assert roads.endpoint(alice.key) is None
    assert roads.use(alice.key, PLACE)
    assert roads.endpoint(alice.key) == PLACE
    assert str(kit.shown()[alice.key].endpoint) == "192.0.2.1:1001"
    roads.shake_hands(alice.key)
    assert targets(kit, TYPE_INITIATION) == [("192.0.2.1", 1001)]
    assert roads.use(alice.key, None)
    assert kit.shown()[alice.key].endpoint is None


def test_only_managed_peers_are_moved(kit: Kit, roads: Roads, alice: Stranger) -> None:
    kit.peer(KEYS[0])
    for key in (KEYS[0], KEYS[1]):
        assert not roads.use(key, PLACE)
        roads.shake_hands(key)
        roads.let_go(key)
        assert roads.endpoint(key) is None
        assert roads.activity(key) is None
        assert roads.remote(key) is None
        assert not roads.call(key, PLACE)
    assert kit.shown()[KEYS[0]].endpoint is None
    kit.device.apply(DeviceChange(nat=Cleared.CLEARED))
    assert not roads.use(alice.key, PLACE)


def test_a_handshake_under_way_follows_at_once(kit: Kit, roads: Roads, alice: Stranger) -> None:
    kit.peer(alice.key, persistent_keepalive=25)
    kit.settle()
    assert kit.path.sent == []
    roads.use(alice.key, PLACE)
    assert targets(kit, TYPE_INITIATION) == [("192.0.2.1", 1001)]
    roads.use(alice.key, PLACE)
    assert kit.path.sent == [], "it is there already"
    roads.use(alice.key, ELSEWHERE)
    ((data, route),) = kit.sent(TYPE_INITIATION)
    assert route.address == ("198.51.100.1", 2002)
    alice.route = Route(("198.51.100.1", 2002))
    alice.send(alice.answer(data)[0])
    kit.settle()
    kit.path.sent.clear()
    roads.use(alice.key, PLACE)
    assert targets(kit, TYPE_INITIATION) == [], "there is a session, which goes on there"


def test_a_peer_that_moves_may_still_answer_where_it_was(
    kit: Kit, roads: Roads, alice: Stranger
) -> None:
    """Both initiations came within 20 ms, and she took the first."""
    kit.peer(alice.key, persistent_keepalive=25)
    kit.settle()
    roads.use(alice.key, PLACE)
    ((first, _),) = kit.sent(TYPE_INITIATION)
    kit.path.now += 0.03
    roads.use(alice.key, ELSEWHERE)
    assert targets(kit, TYPE_INITIATION) == [("198.51.100.1", 2002)]
    alice.send(alice.answer(first)[0])
    kit.settle()
    assert kit.sessions() == 1
    assert targets(kit, TYPE_TRANSPORT) == [("198.51.100.1", 2002)]


def test_nothing_is_begun_while_the_link_is_down(kit: Kit, roads: Roads, alice: Stranger) -> None:
    kit.device.set_up(False)
    roads.use(alice.key, PLACE)
    roads.shake_hands(alice.key)
    assert kit.path.sent == []
    kit.up()
    roads.shake_hands(alice.key)
    assert len(kit.sent(TYPE_INITIATION)) == 1


def test_who_is_reached_by_a_socket_that_goes_is_nowhere(
    kit: Kit, roads: Roads, alice: Stranger
) -> None:
    other = Stranger(kit, 2)
    other.befriend("10.0.0.2", nat=True)
    via = roads.add_socket(9)
    roads.use(alice.key, replace(PLACE, via=via))
    roads.use(other.key, PLACE)
    roads.remove_via(via)
    assert roads.endpoint(alice.key) is None
    assert roads.endpoint(other.key) == PLACE
    assert kit.shown()[alice.key].endpoint is None
    roads.shake_hands(alice.key)
    roads.shake_hands(other.key)
    assert len(kit.sent(TYPE_INITIATION)) == 1


def test_peers_behind_relays(kit: Kit, roads: Roads, alice: Stranger) -> None:
    server = Endpoint("203.0.113.9", 3478)
    socket = roads.add_socket(9)
    by_socket = roads.add_relay(replace(server, via=socket))
    alone, carried = roads.add_relay(server), roads.add_relay(replace(server, port=443), 10)
    others = [Stranger(kit, number) for number in (2, 3)]
    for other in others:
        other.befriend(f"10.0.0.{other.route.address[1] - 1000}", nat=True)
    for one, relay in zip((alice, *others), (by_socket, alone, carried), strict=True):
        roads.set_channel(relay, 0x4001, PLACE)
        assert roads.use(one.key, replace(PLACE, via=relay, channel=0x4001))
    assert str(kit.shown()[alice.key].endpoint) == "192.0.2.1:1001", "as the relay knows it"
    roads.remove_via(socket)
    assert roads.endpoint(alice.key) is None, "nothing leads to the relay any more"
    roads.remove_via(0)
    assert [roads.endpoint(other.key) is None for other in others] == [False, False]
    roads.set_channel(alone, 0x4001, PLACE)
    assert roads.endpoint(others[0].key) is not None, "it was bound so before"
    roads.set_channel(alone, 0x4001, ELSEWHERE)
    assert roads.endpoint(others[0].key) is None
    roads.set_channel(carried, 0x4001, None)
    assert roads.endpoint(others[1].key) is None
    for one in (alice, *others):
        roads.shake_hands(one.key)
    assert kit.path.sent == []


def test_relays_are_bounded(roads: Roads) -> None:
    relays = [roads.add_relay(Endpoint("203.0.113.9", port)) for port in range(1, 17)]
    with pytest.raises(DataPathError):
        roads.add_relay(Endpoint("203.0.113.9", 99))
    roads.remove_via(relays[0])
    assert roads.add_relay(Endpoint("203.0.113.9", 99)) not in relays


def test_who_strays_goes_back_to_where_the_operator_said(
    kit: Kit, roads: Roads, alice: Stranger
) -> None:
    kit.peer(alice.key, endpoint=Address("192.0.2.77", 7))
    via = roads.add_socket(9)
    roads.use(alice.key, replace(PLACE, via=via))
    kit.peer(alice.key, nat=False)
    assert str(kit.shown()[alice.key].endpoint) == "192.0.2.77:7"


def test_packets_wait_while_a_peer_moves() -> None:
    world, alice, bob = pair()
    alice.send(bob)
    world.run(1)
    key = bob.private.public()
    place = alice.device.roads.endpoint(key)
    sent = len(world.log)
    alice.device.roads.use(key, place, hold=0.05)
    packets = [alice.send(bob) for _ in range(3)]
    world.run(0.02)
    assert len(world.log) == sent
    alice.device.roads.let_go(key)
    world.run(0.02)
    assert bob.datapath.delivered[-3:] == packets


def test_datagrams_of_his_own_go_where_he_says(kit: Kit, roads: Roads) -> None:
    assert roads.send(b"\x12\0\0\0 probe", PLACE) is None
    assert targets(kit, 0x12) == [("192.0.2.1", 1001)]
    kit.path.error = 101
    assert roads.send(b"\x12\0\0\0 probe", PLACE) == 101


# --- Peers that know no probes ---


def called(kit: Kit, roads: Roads, alice: Stranger, *places: Endpoint) -> list[bytes]:
    """The initiations to several places, more than 20 ms apart."""
    for place in places:
        assert roads.call(alice.key, place)
        kit.path.now += 0.021
    sent = kit.sent(TYPE_INITIATION)
    assert [route.address[:2] for _, route in sent] == [(x.address, x.port) for x in places]
    return [data for data, _ in sent]


def test_the_place_that_answers_is_told_and_used(
    kit: Kit, ways: FakeWays, roads: Roads, alice: Stranger
) -> None:
    ways.on_roamed = roads.use
    calls = called(kit, roads, alice, ELSEWHERE, PLACE, Endpoint("203.0.113.1", 3))
    assert len(kit.path._reserved) == 3
    alice.send(alice.answer(calls[1])[0])
    kit.settle()
    assert ways.take() == [("roamed", alice.key, PLACE), ("began", alice.key)]
    assert targets(kit, TYPE_TRANSPORT) == [("192.0.2.1", 1001)]
    kit.pass_time(4.9)
    assert len(kit.path._reserved) == 1, "a later place may answer as well"
    kit.pass_time(0.2)
    assert kit.path._reserved == set()
    assert kit.device._peers.by_index == {}
    assert kit.path.sent == [], "no handshake is wanted any more"


def test_of_two_answers_the_last_one_counts(
    kit: Kit, ways: FakeWays, roads: Roads, alice: Stranger
) -> None:
    ways.on_roamed = roads.use
    for index, data in enumerate(called(kit, roads, alice, ELSEWHERE, PLACE)):
        kit.path.now += 0.021
        answer, keys = alice.answer(data, index=index)
        alice.send(answer)
        kit.settle()
        ((keepalive, _),) = kit.sent(TYPE_TRANSPORT)
        ChaCha20Poly1305(bytes(keys.receive)).decrypt(bytes(12), keepalive[16:], None)
    assert [seen[0] for seen in ways.take()] == ["roamed", "began", "began"]
    assert kit.sessions() == 2, "the current one and the previous one"


def test_nobody_answers(kit: Kit, ways: FakeWays, roads: Roads, alice: Stranger) -> None:
    called(kit, roads, alice, ELSEWHERE, PLACE)
    kit.pass_time(6)
    assert kit.path._reserved == set()
    assert ways.take() == [("wanted", alice.key)]


def test_ten_calls_may_wait(kit: Kit, ways: FakeWays, roads: Roads, alice: Stranger) -> None:
    calls = called(kit, roads, alice, *(Endpoint("203.0.113.1", n) for n in range(1, 13)))
    assert len(kit.path._reserved) == MAX_CALLS == 10
    alice.send(alice.answer(calls[1])[0])
    kit.settle()
    assert ways.take() == []
    assert kit.counters()["unknown_index"] == 1
    kit.path.now += 0.021
    alice.send(alice.answer(calls[2])[0])
    kit.settle()
    assert [seen[0] for seen in ways.take()] == ["roamed", "began"]


def test_who_cannot_be_called(kit: Kit, roads: Roads, alice: Stranger) -> None:
    kit.peer(KEYS[0])
    assert not roads.call(KEYS[0], PLACE)
    low = type(KEYS[0])(bytes(31) + b"\x80")
    kit.peer(low, nat=True)
    assert not roads.call(low, PLACE)
    kit.path.error = 101
    assert not roads.call(alice.key, PLACE)
    kit.path.error = None
    kit.device.set_up(False)
    assert not roads.call(alice.key, PLACE)
    assert kit.path.sent == []
    assert kit.path._reserved == set()


def test_calls_end_with_the_peer(kit: Kit, roads: Roads, alice: Stranger) -> None:
    called(kit, roads, alice, ELSEWHERE, PLACE)
    kit.peer(alice.key, remove=True)
    assert kit.path._reserved == set()
    assert kit.device._peers.by_index == {}
    kit.pass_time(6)


# --- Secrets ---


def test_both_sides_share_a_secret(kit: Kit, roads: Roads, alice: Stranger) -> None:
    def ours() -> bytes:
        remote = roads.remote(alice.key)
        assert remote is not None
        return remote.static_static()

    theirs = alice.peer.remote.static_static()
    assert len(theirs) == 32
    assert (ours(), roads.own_public) == (theirs, PRIVATE.public())
    other = PrivateKey(b"n" * 32)
    kit.device.apply(DeviceChange(private_key=other))
    assert ours() != theirs
    assert roads.own_public == other.public()
    kit.device.apply(DeviceChange(private_key=PRIVATE))
    assert ours() == theirs
    kit.device.apply(DeviceChange(private_key=PrivateKey(bytes(32))))
    assert (roads.remote(alice.key), roads.own_public) == (None, None)


def test_there_is_no_secret_with_a_key_of_low_order(kit: Kit, roads: Roads) -> None:
    low = type(KEYS[0])(bytes(31) + b"\x80")
    kit.peer(low, nat=True)
    remote = roads.remote(low)
    assert remote is not None
    with pytest.raises(HandshakeError):
        remote.static_static()


# --- What is told ---


def test_what_happens_to_the_link(kit: Kit, ways: FakeWays, roads: Roads) -> None:
    port = roads.port
    assert port == kit.bound[-1].port
    kit.device.set_up(False)
    kit.up()
    kit.device.apply(DeviceChange(listen_port=77))
    assert ways.take() == [("bound", 0), ("bound", port), ("bound", 77)]
    assert roads.port == 77
    kit.device.apply(DeviceChange(fwmark=0xCA6C))
    kit.device.apply(DeviceChange(fwmark=0xCA6C))
    assert (ways.take(), roads.mark) == ([("bound", 77)], 0xCA6C)
    kit.taken.add(78)
    with pytest.raises(UapiError):
        kit.device.apply(DeviceChange(fwmark=0, listen_port=78))
    assert roads.mark == 0xCA6C
    ways.take()
    kit.device.set_up(False)
    kit.device.apply(DeviceChange(fwmark=5))
    assert (ways.take(), roads.mark) == ([("bound", 0)], 5)
    kit.up()
    ways.take()
    kit.device.routes_changed()
    assert ways.take() == [("changed",)]
    kit.device.apply(DeviceChange(private_key=PrivateKey(b"n" * 32)))
    assert ways.take() == [("own_key_changed",)]
    kit.device.apply(DeviceChange(private_key=PrivateKey(b"n" * 32)))
    assert ways.take() == []


def test_the_sockets_serve_when_they_are_told_of(kit: Kit, ways: FakeWays, roads: Roads) -> None:
    told: list[tuple[bool, bool]] = []
    ways.on_bound = lambda port: told.append((port == roads.port != 0, kit.path._up))
    kit.device.set_up(False)
    kit.up()
    assert told == [(False, False), (True, True)]


def test_a_handshake_with_a_peer_that_is_nowhere(
    kit: Kit, ways: FakeWays, roads: Roads, alice: Stranger
) -> None:
    roads.shake_hands(alice.key)
    assert ways.take() == [("wanted", alice.key)]
    kit.pass_time(6)
    assert ways.take() == [("wanted", alice.key)]
    kit.peer(KEYS[0], persistent_keepalive=25)
    kit.settle()
    assert ways.take() == [], "nobody looks for that one"


def test_a_peer_that_does_not_answer_where_it_is(
    kit: Kit, ways: FakeWays, roads: Roads, alice: Stranger
) -> None:
    roads.use(alice.key, PLACE)
    roads.shake_hands(alice.key)
    assert ways.take() == []
    ways.on_wanted = lambda key: roads.call(key, ELSEWHERE)
    kit.sent(TYPE_INITIATION)
    kit.pass_time(5.4)
    assert ways.take() == [("wanted", alice.key)]
    (_, first), (called, second) = kit.sent(TYPE_INITIATION)
    assert (first.address, second.address) == (("192.0.2.1", 1001), ("198.51.100.1", 2002))
    alice.send(alice.answer(called)[0])
    kit.settle()
    assert ways.take()[-1] == ("began", alice.key)


def test_sockets_are_bounded(roads: Roads) -> None:
    assert len({roads.add_socket(9) for _ in range(64)}) == 64
    with pytest.raises(DataPathError):
        roads.add_socket(9)


def test_where_a_managed_peer_writes_from_is_told_and_moves_nothing(
    kit: Kit, ways: FakeWays, roads: Roads, alice: Stranger
) -> None:
    roads.use(alice.key, ELSEWHERE)
    alice.send(alice.initiation())
    kit.settle()
    assert ways.take() == [("roamed", alice.key, PLACE)]
    assert roads.endpoint(alice.key) == ELSEWHERE
    assert targets(kit, TYPE_RESPONSE) == [("192.0.2.1", 1001)], "it is answered where it is"


def test_who_is_told_may_move_the_peer_before_it_is_answered(
    kit: Kit, ways: FakeWays, roads: Roads, alice: Stranger
) -> None:
    ways.on_roamed = roads.use
    roads.shake_hands(alice.key)
    roads.use(alice.key, ELSEWHERE)
    ((data, _),) = kit.sent(TYPE_INITIATION)
    ways.take()
    alice.send(alice.answer(data)[0])
    kit.settle()
    assert ways.take() == [("roamed", alice.key, PLACE), ("began", alice.key)]
    assert [route.address for _, route in kit.path.sent] == [("192.0.2.1", 1001)], "the keepalive"


def test_who_was_nowhere_in_a_session_learns_that_the_keys_are_good(
    kit: Kit, ways: FakeWays, roads: Roads, alice: Stranger
) -> None:
    roads.use(alice.key, PLACE)
    roads.shake_hands(alice.key)
    ((data, _),) = kit.sent(TYPE_INITIATION)
    roads.use(alice.key, None)
    alice.send(alice.answer(data)[0])
    kit.settle()
    assert kit.path.sent == [], "it is told where the answer came from, and says nothing"
    roads.use(alice.key, PLACE)
    assert targets(kit, TYPE_TRANSPORT) == [("192.0.2.1", 1001)]
    roads.use(alice.key, ELSEWHERE)
    assert kit.path.sent == []


def test_another_address_of_ours_is_no_news(
    kit: Kit, ways: FakeWays, roads: Roads, alice: Stranger
) -> None:
    roads.use(alice.key, PLACE)
    alice.route = Route(alice.route.address, bytes(12))
    alice.send(alice.initiation())
    kit.settle()
    assert ways.take() == []


def test_datagrams_that_are_no_handshake_go_to_the_lookout(kit: Kit, ways: FakeWays) -> None:
    for data in (b"\x12\0\0\0 probe", b"\x13\0\0\0 reply", b"\x01\x01\0\0\x21\x12\xa4\x42"):
        kit.device.process([Datagram(data, PLACE, kit.path.now)])
        assert ways.take() == [("received", data)]
    for data in (b"\x01\0\0\0 short", b"\x11\0\0\0 short"):
        kit.device.process([Datagram(data, PLACE, kit.path.now)])
    assert ways.take() == []
    assert kit.counters()["malformed"] == 2


def probe(path: bytes, kind: int = TYPE_PROBE, length: int = PROBE_MIN_LENGTH) -> bytes:
    return (kind.to_bytes(4, "little") + path).ljust(length, b"p")


def test_probes_come_up_while_ways_are_looked_for(
    kit: Kit, ways: FakeWays, roads: Roads, alice: Stranger
) -> None:
    ours, others = b"path-one", b"path-two"
    roads.set_path_ids([ours])
    passing = [
        probe(ours),
        probe(ours, length=PROBE_MAX_LENGTH),
        probe(ours, TYPE_PROBE_REPLY, PROBE_REPLY_LENGTH),
    ]
    for data in (
        *passing,
        probe(others),
        probe(ours, length=PROBE_MIN_LENGTH - 1),
        probe(ours, length=PROBE_MAX_LENGTH + 1),
        probe(ours, TYPE_PROBE_REPLY, PROBE_REPLY_LENGTH + 1),
    ):
        alice.send(data)
    kit.settle()
    assert ways.take() == [("received", data) for data in passing]
    assert kit.counters()["unknown_path"] == 1
    assert kit.counters()["wrong_length"] == 3
    kit.device.apply(DeviceChange(nat=Cleared.CLEARED))
    alice.send(passing[0])
    kit.device.apply(DeviceChange(nat=SETTINGS))
    alice.send(passing[0])
    kit.settle()
    assert ways.take() == [], "nobody was told of that path any more"


def test_stun_comes_up_from_where_it_was_asked_for(
    kit: Kit, ways: FakeWays, roads: Roads, alice: Stranger
) -> None:
    answer = b"\x01\x01\0\0\x21\x12\xa4\x42" + bytes(12)
    alice.send(answer)
    kit.settle()
    assert ways.take() == []
    roads.set_stun_sources([("192.0.2.1", 1001)])
    alice.send(answer)
    kit.settle()
    assert ways.take() == [("received", answer)]
    kit.device.apply(DeviceChange(nat=Cleared.CLEARED))
    alice.send(answer)
    kit.settle()
    assert ways.take() == []


def test_a_new_key_of_ours_leaves_the_probes(kit: Kit, ways: FakeWays, alice: Stranger) -> None:
    kit.device.apply(DeviceChange(private_key=PrivateKey(b"n" * 32)))
    kit.device.roads.set_path_ids([b"path-one"])
    ways.take()
    alice.send(probe(b"path-one"))
    kit.settle()
    assert ways.take() == [("received", probe(b"path-one"))]


def test_without_a_lookout_they_are_malformed() -> None:
    kit = Kit().up()
    kit.device.process([Datagram(b"\x12\0\0\0 probe", PLACE, kit.path.now)])
    assert kit.counters()["malformed"] == 1


def test_it_works_when_it_asked_to(kit: Kit, ways: FakeWays) -> None:
    assert kit.device.wake() is None
    ways.when = kit.path.now + 2
    assert kit.device.wake() == ways.when
    assert ways.take() == []
    kit.pass_time(2)
    assert ways.take() == [("work", kit.path.now)]
    assert kit.device.wake() is None


# --- Between two machines ---


def pair() -> tuple[World, Machine, Machine]:
    """Two machines that manage each other, each where the other is."""
    world = World()
    alice = Machine(world, "192.0.2.1", ways=FakeWays)
    bob = Machine(world, "192.0.2.2", ways=FakeWays)
    befriend(alice, bob)
    for one, other in ((alice, bob), (bob, alice)):
        key = other.private.public()
        one.device.apply(DeviceChange(nat=SETTINGS, peers=[PeerChange(key, nat=True)]))
        lookout(one).take()
    return world, alice, bob


def move(machine: Machine, address: str) -> None:
    machine.address = machine.datapath._address = address
    machine.world.add(machine)


def test_packets_from_elsewhere_are_told_of_and_move_nothing() -> None:
    world, alice, bob = pair()
    alice.send(bob)
    world.run(1)
    lookout(bob).take()
    key = alice.private.public()
    before = bob.device.roads.endpoint(key)
    move(alice, "198.51.100.9")
    packet = alice.send(bob)
    world.run(1)
    assert bob.datapath.delivered[-1] == packet
    ((what, who, source),) = lookout(bob).take()
    assert (what, who) == ("roamed", key)
    assert isinstance(source, Endpoint)
    assert source.address == "198.51.100.9"
    assert bob.device.roads.endpoint(key) == before
    bob.device.roads.use(key, source)
    packet = bob.send(alice)
    world.run(1)
    assert alice.datapath.delivered[-1] == packet


def test_an_ordinary_peer_roams_again() -> None:
    world, alice, bob = pair()
    alice.send(bob)
    world.run(1)
    key = alice.private.public()
    bob.device.apply(DeviceChange(peers=[PeerChange(key, nat=False)]))
    move(alice, "198.51.100.9")
    alice.send(bob)
    world.run(1)
    assert str(bob.device.state().peers[0].endpoint) == "198.51.100.9:51820"


def test_sessions_begin_and_end_on_both_sides() -> None:
    world, alice, bob = pair()
    alice.send(bob)
    world.run(1)
    assert lookout(alice).take() == [("began", bob.private.public())]
    assert lookout(bob).take() == [("began", alice.private.public())]
    bob.device.slept()
    assert lookout(bob).take() == [("ended", alice.private.public()), ("slept",)]
    bob.device.slept()
    assert lookout(bob).take() == [("slept",)], "there was no session any more"
    world.cut = True
    world.run(600)
    told = [seen[0] for seen in lookout(alice).take()]
    assert set(told[:-1]) == {"wanted"}
    assert told[-1] == "ended", "9 minutes later"


def lookout(machine: Machine) -> FakeWays:
    found = machine.device._ways._ways
    assert isinstance(found, FakeWays)
    return found
