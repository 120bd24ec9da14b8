"""The whole life of a tunnel on a fake clock: every timer of whitepaper section 6."""

import itertools

import pytest

from tests.support import fake_network
from tests.support.fake_network import Machine, Weather, World, befriend
from tests.support.native_path import NativeFakeDataPath, needs_native
from wgpy.keys import PresharedKey
from wgpy.protocol.constants import (
    MAX_INITIATIONS,
    MAX_JITTER,
    MAX_STAGED_PACKETS,
    REKEY_TIMEOUT,
    TYPE_INITIATION,
    TYPE_RESPONSE,
    TYPE_TRANSPORT,
)

KEEPALIVE_LENGTH = 32


@pytest.fixture(autouse=True, params=["portable", pytest.param("native", marks=needs_native)])
def datapath(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every life is lived on both data paths."""
    if request.param == "native":
        monkeypatch.setattr(fake_network, "FakeDataPath", NativeFakeDataPath)


def two(seed: int = 1, weather: Weather | None = None) -> tuple[World, Machine, Machine]:
    world = World(seed, weather)
    alice, bob = Machine(world, "192.0.2.1"), Machine(world, "192.0.2.2")
    befriend(alice, bob)
    return world, alice, bob


def keepalives(world: World, machine: Machine) -> list[float]:
    return [
        sent.when
        for sent in world.log
        if sent.source == machine.address
        and sent.kind == TYPE_TRANSPORT
        and len(sent.data) == KEEPALIVE_LENGTH
    ]


def talk(world: World, one: Machine, other: Machine, *, every: float, until: float) -> list[bytes]:
    """Send a packet each way every so often; the packets are listed as they are sent."""
    sent: list[bytes] = []
    moment = 0.0
    while moment < until:
        world.at(moment, lambda: sent.append(one.send(other)))
        world.at(moment + every / 2, lambda: sent.append(other.send(one)))
        moment += every
    return sent


def test_first_packet_waits_for_the_handshake_and_arrives() -> None:
    world, alice, bob = two()
    packet = alice.send(bob)
    world.run(1)
    assert bob.datapath.delivered == [packet]
    assert [sent.kind for sent in world.log] == [1, 2, 4]
    answer = bob.send(alice)
    world.run(1)
    assert alice.datapath.delivered == [answer]


def test_a_pre_shared_key_must_be_the_same() -> None:
    world = World()
    alice, bob = Machine(world, "192.0.2.1"), Machine(world, "192.0.2.2")
    alice.add_peer(bob, psk=PresharedKey(b"p" * 32))
    bob.add_peer(alice, psk=PresharedKey(b"q" * 32))
    alice.send(bob)
    world.run(4)
    assert bob.datapath.delivered == []
    bob.add_peer(alice, psk=PresharedKey(b"p" * 32))
    world.run(2)
    assert len(bob.datapath.delivered) == 1


def test_initiator_rekeys_at_120_seconds_and_loses_nothing() -> None:
    world, alice, bob = two()
    sent = talk(world, alice, bob, every=1.0, until=300)
    world.run(301)
    initiations = world.sent(TYPE_INITIATION, alice)
    assert initiations[0] == 0
    # The first packet after 120 s asks for it; there is one each second.
    assert [round(when) for when in initiations[1:]] == [121, 242]
    # Only the initiator renews by time: bob, who answered, never does.
    assert world.sent(TYPE_INITIATION, bob) == []
    assert sorted(alice.datapath.delivered + bob.datapath.delivered) == sorted(sent)
    assert alice.session_count() == bob.session_count() == 2


def test_initiator_rekeys_a_key_that_only_receives_at_165_seconds() -> None:
    world, alice, bob = two()
    alice.send(bob)
    for second in range(1, 170):
        world.at(second, lambda: bob.send(alice))
    # Keepalives are sent and would renew the key at 120 s: stop them from counting as sending by
    # cutting alice's side short of that. What is left is the receiving initiator.
    world.run(119)
    before = world.sent(TYPE_INITIATION, alice)
    assert len(before) == 1
    world.run(60)
    later = world.sent(TYPE_INITIATION, alice)[1:]
    assert later
    assert 119 < later[0] <= 166


def test_key_is_rejected_at_180_seconds() -> None:
    world, alice, bob = two()
    alice.send(bob)
    world.run(1)
    world.cut = True
    sealed_before = len(world.sent(TYPE_TRANSPORT, alice))
    world.run(180)
    alice.send(bob)
    world.run(0.1)
    assert len(world.sent(TYPE_TRANSPORT, alice)) == sealed_before
    # A packet sealed with the old key and delivered too late is refused as well.
    assert world.sent(TYPE_INITIATION, alice)[-1] == pytest.approx(181, abs=0.2)


def test_late_packet_of_an_expired_key_is_refused() -> None:
    world, alice, bob = two()
    alice.send(bob)
    world.run(1)
    world.weather.delay = 180.0
    bob.send(alice)
    world.run(181)
    assert alice.datapath.delivered == []
    assert alice.datapath.counters()["expired_key"] == 1


def test_keys_are_erased_540_seconds_after_the_last() -> None:
    world, alice, bob = two()
    alice.send(bob)
    world.run(530)
    assert alice.session_count() == bob.session_count() == 1
    world.run(15)
    assert alice.session_count() == bob.session_count() == 0


def test_unanswered_initiations_are_repeated_with_jitter_and_given_up() -> None:
    world, alice, bob = two()
    world.cut = True
    for _ in range(3):
        alice.send(bob)
    world.run(200)
    times = world.sent(TYPE_INITIATION, alice)
    assert len(times) == MAX_INITIATIONS == 20
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(REKEY_TIMEOUT <= gap <= REKEY_TIMEOUT + MAX_JITTER for gap in gaps)
    assert len({round(gap, 6) for gap in gaps}) > 10
    assert 90 <= times[-1] <= 103
    assert alice.datapath.counters()["staged_dropped"] == 3
    # Every initiation is a new one: no ephemeral key and no timestamp twice.
    assert len({sent.data for sent in world.log}) == 20
    # The next packet begins anew.
    world.cut = False
    packet = alice.send(bob)
    world.run(1)
    assert bob.datapath.delivered == [packet]


def test_waiting_packets_are_bounded_and_the_oldest_goes_first() -> None:
    world, alice, bob = two()
    world.cut = True
    packets = [alice.send(bob) for _ in range(MAX_STAGED_PACKETS + 5)]
    world.run(4)
    world.cut = False
    world.run(10)
    assert bob.datapath.delivered == packets[5:]
    assert alice.datapath.counters()["staged_overflow"] == 5


def test_data_without_an_answer_starts_a_handshake_after_15_seconds() -> None:
    world, alice, bob = two()
    alice.send(bob)
    world.run(20)
    world.cut = True
    alice.send(bob)
    world.run(14.9)
    assert len(world.sent(TYPE_INITIATION, alice)) == 1
    world.run(0.5)
    assert len(world.sent(TYPE_INITIATION, alice)) == 2


def test_passive_keepalive_answers_data_once_and_never_a_keepalive() -> None:
    world, alice, bob = two()
    alice.send(bob)
    world.run(100)
    # Bob got data and had nothing to say: one keepalive, 10 s later; alice says nothing to it.
    assert keepalives(world, bob) == [pytest.approx(10.0, abs=0.1)]
    assert keepalives(world, alice) == []


def test_another_keepalive_follows_if_more_data_came() -> None:
    world, alice, bob = two()
    alice.send(bob)
    world.at(5, lambda: alice.send(bob))
    world.run(60)
    assert [round(when) for when in keepalives(world, bob)] == [10, 20]


def test_persistent_keepalive() -> None:
    world = World()
    alice, bob = Machine(world, "192.0.2.1"), Machine(world, "192.0.2.2")
    bob.add_peer(alice)
    alice.add_peer(bob, keepalive=25)
    world.run(101)
    # The first asks for the handshake, whose end sends it at once.
    assert [round(when) for when in keepalives(world, alice)] == [0, 25, 50, 75, 100]
    assert keepalives(world, bob) == []


def test_both_begin_at_once() -> None:
    world, alice, bob = two()
    one, other = alice.send(bob), bob.send(alice)
    world.run(1)
    assert bob.datapath.delivered == [one]
    assert alice.datapath.delivered == [other]
    more = talk(world, alice, bob, every=1.0, until=20)
    world.run(30)
    assert len(alice.datapath.delivered + bob.datapath.delivered) == 2 + len(more)


def test_responder_does_not_seal_before_the_key_is_confirmed() -> None:
    world, alice, bob = two()
    alice.send(bob)
    world.run(0.015)
    assert world.sent(TYPE_RESPONSE, bob)
    bob.send(alice)
    world.run(0.001)
    assert world.sent(TYPE_TRANSPORT, bob) == []
    world.run(1)
    assert len(world.sent(TYPE_TRANSPORT, bob)) == 1
    assert world.sent(TYPE_INITIATION, bob) == [] or alice.datapath.delivered


def test_replayed_initiation_is_refused() -> None:
    world, alice, bob = two()
    alice.send(bob)
    world.run(1)
    first = world.log[0]
    responses = len(world.sent(TYPE_RESPONSE, bob))
    world.transmit("192.0.2.9", bob.address, first.data)
    world.run(1)
    assert len(world.sent(TYPE_RESPONSE, bob)) == responses
    assert bob.device.state().counters["replayed_timestamp"] == 1
    # And bob's idea of where alice is has not moved.
    assert bob.device.state().peers[0].endpoint == ("192.0.2.1", 51820)


def test_roaming_follows_authenticated_packets() -> None:
    world, alice, bob = two()
    alice.send(bob)
    world.run(1)
    alice.datapath._address = "192.0.2.77"
    world._machines["192.0.2.77"] = alice
    alice.send(bob)
    world.run(1)
    assert bob.device.state().peers[0].endpoint == ("192.0.2.77", 51820)
    answer = bob.send(alice)
    world.run(1)
    assert alice.datapath.delivered == [answer]


@pytest.mark.parametrize("seed", range(3))
def test_bad_weather(seed: int) -> None:
    """Loss, duplication, reordering and delay through three rekeys: nothing doubled, nothing made
    up, and what was not lost on the wire arrives."""
    weather = Weather(delay=0.05, jitter=0.4, loss=0.2, duplication=0.2)
    world, alice, bob = two(seed, weather)
    sent = talk(world, alice, bob, every=2.0, until=400)
    world.run(402)
    got = alice.datapath.delivered + bob.datapath.delivered
    assert len(got) == len(set(got))
    assert set(got) <= set(sent)
    assert len(got) > 0.7 * len(sent)
    # Whoever began renews at 120, 240 and 360 s.
    assert len(world.sent(TYPE_INITIATION, alice) + world.sent(TYPE_INITIATION, bob)) >= 4


def test_interface_down_erases_keys_and_up_starts_afresh() -> None:
    world, alice, bob = two()
    alice.send(bob)
    world.run(1)
    alice.device.set_up(False)
    assert alice.session_count() == 0
    alice.device.set_up(True)
    packet = alice.send(bob)
    world.run(1)
    assert bob.datapath.delivered[-1] == packet
    assert len(world.sent(TYPE_INITIATION, alice)) == 2
