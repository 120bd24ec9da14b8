"""The TURN client's life on a fake clock: allocate, refresh, bind, lose, come back, close."""

import itertools

import pytest

from tests.support.turn_server import (
    ALICE,
    CLIENT,
    ONE_WAY,
    PEER,
    RELAYED,
    SERVER,
    START,
    World,
    allocated,
)
from wgpy.nat.channel_data import FIRST_CHANNEL
from wgpy.nat.place import Place
from wgpy.nat.stun import Class, Message, Method, pack
from wgpy.nat.turn import FOLLOW_PAUSE, KEEPALIVE, MAX_ARRIVALS, State, TurnClient
from wgpy.nat.turn_auth import Challenge
from wgpy.nat.turn_events import Allocated, Arrived, Bound, Lost, Reason
from wgpy.nat.turn_peers import MAX_PEERS, RENEW

ROUND_TRIP = 2 * ONE_WAY


def test_an_allocation_is_made_with_what_the_challenge_asks_for() -> None:
    world = World()
    world.begin()
    assert world.events == [Allocated(Place(RELAYED, 50001), CLIENT, 600.0)]
    assert allocated(world)
    first, second = (message for _, message in world.server.heard)
    assert first.attributes.keys() == {"REQUESTED-TRANSPORT", "LIFETIME", "FINGERPRINT"}
    assert first.attributes["REQUESTED-TRANSPORT"] >> 24 == 17
    assert second.attributes["USERNAME"] == ALICE.username
    assert second.transaction != first.transaction
    assert world.client.relayed == Place(RELAYED, 50001)
    assert world.client.mapped == CLIENT
    assert world.client.round_trip == pytest.approx(ROUND_TRIP)


def test_a_cold_start_takes_two_round_trips_until_data_can_flow() -> None:
    world = World()
    channel = world.client.bind(PEER, world.now)
    world.begin(2 * ROUND_TRIP - 0.001)
    assert world.events == []
    world.run(0.002 + FOLLOW_PAUSE)
    assert world.events == [
        Allocated(Place(RELAYED, 50001), CLIENT, 600.0),
        Bound(PEER, FIRST_CHANNEL),
    ]
    assert channel == FIRST_CHANNEL
    assert world.server.carries(FIRST_CHANNEL) == (PEER.host, PEER.port)


def test_with_a_remembered_challenge_it_takes_one() -> None:
    world = World(remembered=Challenge("example.org", b"nonce-0"))
    world.client.bind(PEER, world.now)
    world.begin(ROUND_TRIP + FOLLOW_PAUSE + 0.001)
    assert [type(x) for x in world.events] == [Allocated, Bound]
    assert world.client.challenge == Challenge("example.org", b"nonce-0")


def test_a_remembered_challenge_that_is_stale_costs_nothing() -> None:
    for code in (401, 438):
        world = World(remembered=Challenge("example.org", b"old"))
        if code == 401:
            refused: list[bytes] = []

            def script(message: Message, world: World = world, refused: list[bytes] = refused):  # type: ignore[no-untyped-def]
                if message.attributes["NONCE"] == b"old":
                    refused.append(message.transaction)
                    return world.server.challenge(message, 401)
                return world.server.honest(message)

            world.server.script = script
        world.client.bind(PEER, world.now)
        world.begin(2 * ROUND_TRIP + FOLLOW_PAUSE + 0.001)
        assert [type(x) for x in world.events] == [Allocated, Bound], code


def test_a_channel_whose_request_overtook_the_allocate_is_asked_for_again() -> None:
    """As coturn answers it, with 400, and as the RFC says, with 437."""
    for code in (400, 437):
        world = World()
        world.client.bind(PEER, world.now)
        server = world.server

        def script(message: Message, server=server, code=code):  # type: ignore[no-untyped-def]
            if message.method is Method.CHANNEL_BIND and server.count(Method.CHANNEL_BIND) == 1:
                return server.error(message, code)
            return server.honest(message)

        server.script = script
        world.begin(3 * ROUND_TRIP + FOLLOW_PAUSE + 0.001)
        assert [type(x) for x in world.events] == [Allocated, Bound]
        assert server.count(Method.REFRESH) == 0


def test_a_server_that_wants_no_credentials_is_asked_without() -> None:
    world = World(lambda now: None)
    world.server.is_open = True
    world.client.bind(PEER, world.now)
    world.begin()
    assert [type(x) for x in world.events] == [Allocated, Bound]
    world.run(1300)
    assert allocated(world)
    assert all("USERNAME" not in x.attributes for _, x in world.server.heard)


def test_lost_requests_and_answers_are_repeated_as_rfc_8489_says() -> None:
    world = World()
    world.is_cut = True
    world.begin(39.49)
    assert [round(when - START, 3) for when, _ in world.sent] == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert len({data for _, data in world.sent}) == 1
    assert world.events == []
    world.run(0.02)
    assert [(x.reason, x.code, x.until) for x in world.said(Lost)] == [(Reason.SILENT, 0, None)]


def test_over_a_stream_nothing_is_repeated() -> None:
    world = World(stream=True)
    world.is_cut = True
    world.begin(9.9)
    assert len(world.sent) == 1
    world.run(0.2)
    assert [x.reason for x in world.said(Lost)] == [Reason.SILENT]
    # The connection is the owner's to make.
    world.run(1000)
    assert len(world.sent) == 1
    world.is_cut = False
    world.begin()
    assert allocated(world)


def test_a_stream_that_cannot_be_made_is_tried_ever_more_rarely() -> None:
    world = World(stream=True)
    moments = [world.now]
    for _ in range(20):
        world.client.disconnected(world.now)
        # Within the pause it is no news.
        world.client.disconnected(world.now)
        assert world.client.again is not None
        world.run(world.client.again - world.now)
        moments.append(world.now)
    world.run(0)
    waits = [second - first for first, second in itertools.pairwise(moments)]
    assert 0.5 <= waits[0] <= 0.625
    assert 1.0 <= waits[1] <= 1.25
    assert all(600 <= x <= 750 for x in waits[-5:])
    assert len(world.said(Lost)) == 20
    world.begin()
    assert allocated(world)


def test_an_allocation_is_kept_for_a_day() -> None:
    for stream in (False, True):
        world = World(stream=stream)
        world.client.bind(PEER, world.now)
        world.begin()
        for _ in range(24 * 60):
            world.run(60)
            assert world.server.carries(FIRST_CHANNEL) == (PEER.host, PEER.port)
        assert [type(x) for x in world.events] == [Allocated, Bound]
        # A refresh every 25 s over UDP, every 5 min over a stream; a channel every 4 min.
        refreshes = world.server.count(Method.REFRESH)
        assert refreshes == pytest.approx(86400 / (300 if stream else KEEPALIVE), rel=0.02)
        assert world.server.count(Method.CHANNEL_BIND) == pytest.approx(86400 / RENEW, rel=0.02)


def test_loss_of_every_third_packet_does_not_lose_the_allocation() -> None:
    world = World()
    world.client.bind(PEER, world.now)
    count = 0
    honest = world.server.honest

    def script(message: Message) -> object:
        nonlocal count
        count += 1
        return None if count % 3 == 0 else honest(message)

    world.server.script = script
    world.begin()
    world.run(7200)
    assert [type(x) for x in world.events] == [Allocated, Bound]
    assert world.client.counters["repeated"] > 50


def test_short_lifetimes_are_kept_and_gigantic_ones_are_not_believed() -> None:
    world = World(keepalive=0)
    world.server.max_lifetime = 20
    world.begin()
    world.run(600)
    assert world.said(Lost) == []
    assert world.server.count(Method.REFRESH) == pytest.approx(60, abs=3)

    world = World(keepalive=0)
    world.server.max_lifetime = 2**32 - 1
    world.server.script = lambda m: (
        world.server.success(
            m,
            {
                "XOR-RELAYED-ADDRESS": (RELAYED, 50001),
                "XOR-MAPPED-ADDRESS": (CLIENT.host, CLIENT.port),
                "LIFETIME": 2**32 - 1,
            },
        )
        if "USERNAME" in m.attributes
        else world.server.honest(m)
    )
    world.begin()
    assert world.events == [Allocated(Place(RELAYED, 50001), CLIENT, 3600.0)]
    assert world.client.counters["lifetime_cut"] == 1
    world.run(1801)
    assert world.server.count(Method.REFRESH) == 1


def test_a_server_that_was_restarted_is_asked_anew_at_once() -> None:
    world = World()
    world.client.bind(PEER, world.now)
    world.begin(100)
    world.server.restart()
    world.run(KEEPALIVE + 3)
    lost, *rest = world.said(Lost)
    assert (lost.reason, lost.until, rest) == (Reason.GONE, None, [])
    assert lost.again == pytest.approx(world.now, abs=KEEPALIVE + 3)
    assert [x.relayed.port for x in world.said(Allocated)] == [50001, 50002]
    # The channel keeps its number, and nobody needs to be told another.
    assert world.said(Bound) == [Bound(PEER, FIRST_CHANNEL)] * 2
    assert world.server.carries(FIRST_CHANNEL) == (PEER.host, PEER.port)


def test_check_finds_out_within_two_round_trips() -> None:
    world = World()
    world.begin(5)
    world.server.restart()
    for _ in range(10):
        world.client.check(world.now)
    # Stale nonce, then 437, then the Allocate.
    world.run(4 * ROUND_TRIP)
    assert [type(x) for x in world.events] == [Allocated, Lost, Allocated]
    assert world.server.count(Method.REFRESH) == 2


def test_a_server_that_dies_is_given_up_and_asked_again_ever_more_rarely() -> None:
    world = World()
    world.begin(100)
    world.server.is_dead = True
    world.run(3 * 3600)
    reasons = [x.reason for x in world.said(Lost)]
    assert set(reasons) == {Reason.SILENT}
    pauses = [
        second.again - first.again - 39.5
        for first, second in zip(world.said(Lost), world.said(Lost)[1:], strict=False)
    ]
    for doubled, grown in enumerate(pauses, start=1):
        least = min(2.0**doubled, 600)
        assert least <= grown + 1e-6 < 1.25 * least + 0.01
    assert len(world.sent) < 60 + 7 * len(reasons)
    world.server.is_dead = False
    world.run(800)
    assert allocated(world)


def test_a_machine_that_slept_finds_its_allocation_gone() -> None:
    world = World()
    world.client.bind(PEER, world.now)
    world.begin(10)
    # Nothing runs meanwhile, on either side but the clock.
    world.now += 3600
    world.run(0.5)
    assert [x.reason for x in world.said(Lost)] == [Reason.EXPIRED]
    assert allocated(world)
    assert world.server.carries(FIRST_CHANNEL) is not None


def test_pauses_begin_anew_after_a_good_life() -> None:
    world = World()
    world.begin(5)
    for number in range(1, 6):
        world.server.restart()
        world.run(KEEPALIVE + 1)
        # Each lived long enough, so none has to wait.
        lost = world.said(Lost)
        assert [x.reason for x in lost] == [Reason.GONE] * number
        assert lost[-1].again < world.now
        assert len(world.said(Allocated)) == number + 1
        world.run(60)

    world = World()
    world.begin(1)
    for _ in range(5):
        world.server.restart()
        world.run(1)
        world.client.check(world.now)
        world.run(1)
    losses = world.said(Lost)
    waits = [x.again for x in losses]
    assert len(losses) >= 2
    assert waits[-1] > world.now - 10
    assert any(x.again > y for x, y in zip(losses[1:], waits, strict=False))


def test_network_changed_does_not_wait() -> None:
    world = World()
    world.server.is_dead = True
    world.begin(600)
    assert world.said(Lost)[-1].again > world.now + 10 or world.client.state is State.ALLOCATING
    world.server.is_dead = False
    world.client.network_changed(world.now)
    world.run(3 * ROUND_TRIP)
    assert allocated(world)
    # From another address the server knows nothing of it.
    world.server.restart()
    world.client.network_changed(world.now)
    world.run(6 * ROUND_TRIP)
    assert allocated(world)
    assert len(world.said(Allocated)) == 2


def test_what_an_earlier_life_left_is_deleted_first() -> None:
    world = World()
    world.begin()
    old = world.server.allocation
    assert old is not None
    # The same socket, another process.
    world.client = TurnClient(SERVER, lambda now: ALICE, world.random.randbytes)
    world.events.clear()
    world.client.bind(PEER, world.now)
    world.begin(5 * ROUND_TRIP + 2.1)
    assert [type(x) for x in world.events] == [Allocated, Bound]
    assert world.server.allocation is not old
    assert world.server.carries(FIRST_CHANNEL) == (PEER.host, PEER.port)


def test_what_cannot_be_deleted_needs_another_socket() -> None:
    world = World()
    world.begin()
    assert world.server.allocation is not None
    world.server.allocation.user = "bob"
    world.client = TurnClient(SERVER, lambda now: ALICE, world.random.randbytes)
    world.events.clear()
    world.begin(5)
    assert [(x.reason, x.code) for x in world.said(Lost)] == [(Reason.MISMATCH, 441)]
    assert world.said(Lost)[0].again - world.now > 100


def test_close_deletes_the_allocation() -> None:
    world = World()
    world.begin()
    world.client.close(world.now)
    world.run(ROUND_TRIP + 0.001)
    assert world.client.state is State.CLOSED
    assert world.server.allocation is None
    assert world.client.due() is None
    world.run(100)
    assert world.client.state is State.CLOSED


def test_close_asks_again_when_the_nonce_is_stale_but_waits_no_longer_than_two_seconds() -> None:
    world = World()
    world.begin()
    world.server.new_nonce()
    world.client.close(world.now)
    world.run(2 * ROUND_TRIP + 0.001)
    assert world.client.state is State.CLOSED
    assert world.server.allocation is None

    world = World()
    world.begin()
    world.server.is_dead = True
    world.client.close(world.now)
    world.run(1.9)
    assert world.client.state is State.CLOSING
    world.run(0.2)
    assert world.client.state is State.CLOSED
    assert world.client.due() is None


def test_close_before_the_answer_leaves_nothing_behind() -> None:
    world = World()
    world.client.start(world.now)
    # The signed Allocate is on its way.
    world.run(1.5 * ROUND_TRIP)
    world.client.close(world.now)
    world.run(3)
    assert world.server.count(Method.ALLOCATE) == 2
    assert world.server.allocation is None
    assert world.client.state is State.CLOSED
    # Before anything was signed there is nothing to delete.
    world = World()
    world.client.start(world.now)
    world.client.close(world.now)
    assert world.client.state is State.CLOSED


# --- Peers ---


def test_a_peer_can_be_added_at_any_time_and_once_only() -> None:
    world = World()
    world.begin()
    assert world.client.bind(PEER, world.now) == FIRST_CHANNEL
    assert world.client.bind(PEER, world.now) == FIRST_CHANNEL
    assert world.client.bind(Place(PEER.host, 1), world.now) == FIRST_CHANNEL + 1
    world.run(ROUND_TRIP + 0.001)
    assert len(world.said(Bound)) == 2
    assert world.server.count(Method.CHANNEL_BIND) == 2


def test_what_a_relay_cannot_reach_is_not_asked_for() -> None:
    world = World()
    world.begin()
    for host in (
        "127.0.0.1",
        "224.0.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "169.254.1.1",
        "::1",
        "2001:db8::1",
    ):
        assert world.client.bind(Place(host, 5000), world.now) is None, host
        assert not world.client.permit(host, world.now)
    assert world.client.counters["peer_not_taken"] == 14
    world.run(1)
    assert world.server.count(Method.CHANNEL_BIND) == 0


def test_there_are_at_most_64_peers_and_16_requests_at_a_time() -> None:
    world = World()
    numbers = {world.client.bind(Place("203.0.113.7", 1000 + i), START) for i in range(MAX_PEERS)}
    assert len(numbers) == MAX_PEERS
    assert world.client.bind(Place("203.0.113.7", 999), START) is None
    # The first 15 with the Allocate, then 16 a round trip.
    world.begin(6 * ROUND_TRIP + 0.001)
    assert len(world.said(Bound)) == MAX_PEERS
    moments = [when for when, x in world.server.heard if x.method is Method.CHANNEL_BIND]
    assert max(moments.count(x) for x in set(moments)) <= 16
    # All are renewed in time.
    world.run(3600)
    assert all(world.server.carries(number) for number in numbers if number)


def test_a_released_number_is_bound_to_no_other_peer_for_fifteen_minutes() -> None:
    world = World()
    world.begin()
    world.client.bind(PEER, world.now)
    world.run(1)
    world.client.release(PEER)
    other = Place("203.0.113.1", 1)
    assert world.client.bind(other, world.now) == FIRST_CHANNEL + 1
    # Who comes back gets its own, which the server still knows.
    assert world.client.bind(PEER, world.now) == FIRST_CHANNEL
    world.run(1)
    assert world.client.counters["error_400"] == 0
    assert world.server.carries(FIRST_CHANNEL) == (PEER.host, PEER.port)


def test_a_released_peer_is_not_renewed() -> None:
    world = World()
    world.begin()
    world.client.bind(PEER, world.now)
    world.run(1)
    world.client.release(PEER)
    world.run(1000)
    assert world.server.count(Method.CHANNEL_BIND) == 1
    assert world.server.carries(FIRST_CHANNEL) is None


def test_a_peer_released_while_it_is_asked_for_is_not_bound() -> None:
    world = World()
    world.begin()
    world.client.bind(PEER, world.now)
    world.client.release(PEER)
    world.run(1)
    assert world.said(Bound) == []


def test_a_permission_alone_is_made_and_renewed() -> None:
    world = World()
    world.client.permit(PEER.host, world.now)
    world.begin()
    world.run(3600)
    assert world.said(Bound) == []
    assert world.server.count(Method.CREATE_PERMISSION) == pytest.approx(3600 / RENEW, abs=2)
    assert world.server.allocation is not None
    assert world.server.allocation.permissions[PEER.host] > world.now
    world.client.release(Place(PEER.host, 0))
    world.run(600)
    assert world.server.allocation.permissions[PEER.host] < world.now


# --- Data indications ---


def test_a_datagram_of_a_permitted_address_arrives() -> None:
    world = World()
    world.client.bind(PEER, world.now)
    world.begin()
    assert world.arrive(world.server.data((PEER.host, 9), b"hello"))
    assert world.said(Arrived) == [Arrived(Place(PEER.host, 9), b"hello")]


def test_data_indications_of_others_are_counted_and_bounded() -> None:
    world = World()
    world.client.bind(PEER, world.now)
    # Before there is an allocation there is nobody.
    assert not world.arrive(world.server.data((PEER.host, 9), b"hello"))
    world.begin()
    assert not world.arrive(world.server.data(("203.0.113.99", 9), b"hello"))
    assert world.client.counters["data_stranger"] == 2
    assert not world.arrive(world.server.data((PEER.host, 9), bytes(1501)))
    assert not world.arrive(world.server.data((PEER.host, 9), b""))
    assert world.client.counters["data_length"] == 2
    assert not world.arrive(world.server.data((PEER.host, 0), b"hello"))
    assert not world.arrive(pack(Message(Method.DATA, Class.INDICATION, bytes(12), {"DATA": b"x"})))
    assert not world.arrive(pack(Message(Method.BINDING, Class.INDICATION, bytes(12))))
    assert world.client.counters["indication"] == 1
    assert world.said(Arrived) == []
    data = world.server.data((PEER.host, 9), b"hello")
    taken = [world.client.receive(data, SERVER, world.now) for _ in range(MAX_ARRIVALS + 5)]
    assert taken == [True] * MAX_ARRIVALS + [False] * 5
    assert world.client.counters["data_full"] == 5
    assert len(world.client.take()) == MAX_ARRIVALS
    assert world.client.receive(data, SERVER, world.now)
