"""What the link, suspend, a failure and a name that nobody answers at do to an interface."""

import itertools

import pytest

from tests.support.fake_network import Machine, World, befriend
from tests.unit.device.kit import KEYS, Kit, Stranger, with_session
from wgpy.datapath.contract import DataPathError, Failed
from wgpy.device.uapi import Address, DeviceChange, UapiError

INITIATION = 1


@pytest.fixture
def kit():
    return Kit().up()


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
    changes = sum(one != other for one, other in itertools.pairwise(seen))
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
