"""A TURN server that refuses, lies, or wants other credentials: a stated answer to each."""

import hmac
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.turn_server import (
    ALICE,
    CLIENT,
    HONEST,
    ONE_WAY,
    PEER,
    RELAYED,
    SERVER,
    FakeServer,
    World,
    allocated,
)
from wgpy.nat.channel_data import FIRST_CHANNEL
from wgpy.nat.place import Place
from wgpy.nat.stun import Class, Message, Method, pack
from wgpy.nat.turn import KEEPALIVE, State
from wgpy.nat.turn_auth import MAX_TEXT
from wgpy.nat.turn_credentials import Credentials, fixed
from wgpy.nat.turn_dialogue import MAX_RETRIES
from wgpy.nat.turn_events import (
    FIRST_PAUSE,
    MAX_PAUSE,
    WORDS,
    Allocated,
    Bound,
    CredentialsNeeded,
    Lost,
    Need,
    PermissionRefused,
    Reason,
    pause,
)
from wgpy.nat.turn_messages import is_reachable

ROUND_TRIP = 2 * ONE_WAY


def signed(message: Message) -> bool:
    """Whether a request is signed."""
    return "USERNAME" in message.attributes or "USERHASH" in message.attributes


def only(method: Method, answer: Callable[[Message], Any]) -> Callable[[Message], Any]:
    """A script that answers the signed requests of one method."""
    return lambda m: answer(m) if m.method is method and signed(m) else HONEST


def lost(world: World) -> list[tuple[Reason, int]]:
    return [(x.reason, x.code) for x in world.said(Lost)]


# --- Refusals of an allocation ---


@pytest.mark.parametrize(
    ("code", "reason", "least"),
    [
        (400, Reason.BAD_REQUEST, 60),
        (403, Reason.FORBIDDEN, 300),
        (420, Reason.UNSUPPORTED, 600),
        (440, Reason.UNSUPPORTED, 600),
        (441, Reason.UNAUTHORIZED, 300),
        (442, Reason.UNSUPPORTED, 600),
        (443, Reason.BAD_REQUEST, 60),
        (486, Reason.QUOTA, 60),
        (500, Reason.SERVER_ERROR, 5),
        (508, Reason.CAPACITY, 60),
        (599, Reason.SERVER_ERROR, 5),
        (699, Reason.SERVER_ERROR, 5),
        (300, Reason.REDIRECTED, 300),
    ],
)
def test_each_refusal_has_its_reason_and_its_pause(code: int, reason: Reason, least: float) -> None:
    world = World()
    world.server.script = only(Method.ALLOCATE, lambda m: world.server.error(m, code))
    world.begin()
    assert lost(world) == [(reason, code)]
    wait = world.said(Lost)[0].again - world.now
    assert least - 1 <= wait <= least * 1.25
    assert world.client.counters[f"error_{code}"] == 1
    assert world.client.state is State.PAUSED
    # A day of it: ever longer pauses, and no flood.
    world.run(86400)
    assert len(world.sent) <= 2 * (86400 / 600) + 40
    waits = [
        y.again - x.again for x, y in zip(world.said(Lost), world.said(Lost)[1:], strict=False)
    ]
    assert all(x <= MAX_PAUSE * 1.25 + 1 for x in waits)
    # It comes to its senses.
    world.server.script = None
    world.run(MAX_PAUSE * 1.25)
    assert allocated(world)


def test_every_reason_has_a_pause_and_pauses_grow() -> None:
    assert set(FIRST_PAUSE) == set(Reason)
    for reason in Reason:
        for random in (0, 255):
            waits = [pause(reason, before, random) for before in range(30)]
            assert waits == sorted(waits)
            assert 0.0 <= waits[0] <= 750
            assert 600 <= waits[-1] <= 750
            assert waits[1] >= 1.0


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        (("192.0.2.200", 3479), Place("192.0.2.200", 3479)),
        (("127.0.0.1", 3478), None),
        (("224.0.0.1", 3478), None),
        (("192.0.2.200", 0), None),
        (("2001:db8::1", 3478), None),
        ((SERVER.host, SERVER.port), None),
        (None, None),
    ],
)
def test_an_alternate_server_is_named_and_not_followed(
    attribute: tuple[str, int] | None, expected: Place | None
) -> None:
    world = World()
    more = {} if attribute is None else {"ALTERNATE_SERVER": attribute}
    # Before anything is signed, as coturn says it.
    world.server.script = lambda m: pack(world.server.error(m, 300, **more))
    world.begin()
    assert lost(world) == [(Reason.REDIRECTED, 300)]
    assert world.said(Lost)[0].alternate == expected
    assert all(not signed(x) for _, x in world.server.heard)


# --- Credentials ---


def test_wrong_credentials_are_tried_once_and_again_after_a_pause() -> None:
    world = World(fixed(Credentials("alice", "not it")))
    world.begin(60)
    # Unsigned, signed with the challenge: 401 to that is the last word.
    assert world.server.count(Method.ALLOCATE) == 2
    assert world.said(CredentialsNeeded) == [CredentialsNeeded(Need.REFUSED)]
    assert lost(world) == [(Reason.UNAUTHORIZED, 401)]
    world.server.users["alice"] = "not it"
    world.run(400)
    assert allocated(world)


def test_the_owner_is_asked_once_however_many_requests_find_it_out() -> None:
    world = World(renew=10)
    for number in range(5):
        world.client.bind(Place(PEER.host, 1 + number), world.now)
    world.begin()
    world.server.users["alice"] = "changed"
    world.run(100)
    assert world.client.counters["unauthorized"] == 6
    assert world.said(CredentialsNeeded) == [CredentialsNeeded(Need.REFUSED)]
    assert lost(world) == [(Reason.UNAUTHORIZED, 401)]
    world.client.set_credentials(Credentials("alice", "changed"), world.now)
    world.run(10)
    assert len(world.said(Bound)) == 10


def test_new_credentials_end_the_pause() -> None:
    world = World(fixed(Credentials("alice", "not it")))
    world.begin()
    again = world.client.again
    # The same ones are no news.
    world.client.set_credentials(Credentials("alice", "not it"), world.now)
    assert world.client.again == again
    world.client.set_credentials(ALICE, world.now)
    world.run(3 * ROUND_TRIP)
    assert allocated(world)


def test_without_credentials_the_owner_is_asked_and_the_source_again() -> None:
    have: list[Credentials] = []
    world = World(lambda now: have[0] if have else None)
    world.begin()
    assert world.said(CredentialsNeeded) == [CredentialsNeeded(Need.NONE)]
    assert lost(world) == [(Reason.NO_CREDENTIALS, 401)]
    assert len(world.sent) == 1
    have.append(ALICE)
    world.run(76)
    assert allocated(world)


def test_credentials_that_expired_are_not_used() -> None:
    world = World(lambda now: Credentials("alice", "a secret", 900.0))
    world.begin()
    assert lost(world) == [(Reason.NO_CREDENTIALS, 401)]
    assert not any(signed(x) for _, x in world.server.heard)


def test_credentials_that_end_are_asked_for_in_time_and_the_allocation_lives_on() -> None:
    """As coturn has it: who made an allocation may keep it."""
    world = World(fixed(Credentials("alice", "a secret", 1300.0)))
    world.client.bind(PEER, world.now)
    world.begin()
    world.run(238)
    assert world.said(CredentialsNeeded) == []
    world.run(2)
    assert world.said(CredentialsNeeded) == [CredentialsNeeded(Need.EXPIRING)]
    world.run(3600)
    assert world.said(CredentialsNeeded) == [CredentialsNeeded(Need.EXPIRING)]
    assert allocated(world)
    assert world.server.carries(FIRST_CHANNEL)
    # The next allocation needs new ones, though.
    world.client.set_credentials(Credentials("bob", "other"), world.now)
    world.server.users["bob"] = "other"
    world.server.restart()
    world.run(60)
    assert allocated(world)
    assert world.server.allocation is not None
    assert world.server.allocation.user == "bob"


def test_a_source_that_has_better_ones_is_not_followed_by_a_question() -> None:
    names = iter(range(100))
    world = World(lambda now: Credentials(f"user{next(names)}", "x", now + 600))
    world.server.users = {f"user{i}": "x" for i in range(100)}
    world.begin()
    world.run(7200)
    assert world.said(CredentialsNeeded) == []
    assert len(world.said(Allocated)) == 1


def test_a_strict_server_ends_the_allocation_and_a_new_user_begins_another() -> None:
    world = World(
        lambda now: Credentials("alice", "a secret") if now < 1010 else Credentials("bob", "x")
    )
    world.client.bind(PEER, world.now)
    world.begin()
    del world.server.users["alice"]
    world.server.users["bob"] = "x"
    world.run(200)
    # It stays at the server for its time, which who asks from another socket need not wait for.
    assert lost(world) == [(Reason.USER_CHANGED, 401), (Reason.MISMATCH, 441)]
    first = world.said(Lost)[0]
    assert first.until is not None
    assert first.until > world.now
    assert world.said(CredentialsNeeded) == []
    world.run(1500)
    assert allocated(world)
    assert world.server.allocation is not None
    assert world.server.allocation.user == "bob"
    assert world.server.carries(FIRST_CHANNEL) == (PEER.host, PEER.port)


def test_over_a_stream_the_new_user_begins_at_once() -> None:
    """The server forgets the allocation of a connection that ends."""
    world = World(
        lambda now: Credentials("alice", "a secret") if now < 1010 else Credentials("bob", "x"),
        stream=True,
    )
    world.begin(10)
    del world.server.users["alice"]
    world.server.users["bob"] = "x"
    world.run(300)
    (first,) = world.said(Lost)
    assert first.reason is Reason.USER_CHANGED
    assert first.again < world.now
    world.server.allocation = None
    world.begin(ROUND_TRIP + 0.001)
    # The challenge is still good.
    assert allocated(world)


def test_a_password_that_was_changed_keeps_the_allocation() -> None:
    world = World(lambda now: ALICE if now < 1050 else Credentials("alice", "changed"))
    world.begin(60)
    world.server.users["alice"] = "changed"
    world.run(3 * KEEPALIVE)
    assert world.said(Lost) == []
    assert len(world.said(Allocated)) == 1
    assert allocated(world)


# --- Nonces ---


def test_a_stale_nonce_is_answered_at_once_for_all_requests() -> None:
    world = World()
    for i in range(10):
        world.client.bind(Place("203.0.113.7", 1000 + i), world.now)
    world.begin()
    for _ in range(50):
        world.server.new_nonce()
        world.run(100)
    assert world.said(Lost) == []
    assert world.client.counters["stale"] >= 50
    assert world.client.counters["unanswered"] == 0


def test_a_server_that_changes_the_nonce_each_time_is_given_up() -> None:
    world = World()

    def script(message: Message) -> object:
        world.server.new_nonce()
        return world.server.challenge(message, 438 if signed(message) else 401)

    world.server.script = script
    world.client.bind(PEER, world.now)
    world.begin(5)
    assert lost(world) == [(Reason.NONCE, 438)]
    assert world.server.count(Method.ALLOCATE) == MAX_RETRIES + 1
    world.run(86400)
    assert set(lost(world)) == {(Reason.NONCE, 438)}
    assert len(world.sent) < (MAX_RETRIES + 1) * 2 * (86400 / 600 + 10)


def test_a_nonce_that_is_stale_and_the_same_is_given_up_at_once() -> None:
    world = World()
    world.server.script = only(Method.ALLOCATE, lambda m: world.server.challenge(m, 438))
    world.begin()
    assert lost(world) == [(Reason.NONCE, 438)]
    assert world.server.count(Method.ALLOCATE) == 2


def test_401_for_ever_with_new_realms_is_given_up() -> None:
    world = World()

    def script(message: Message) -> object:
        world.server.realm = f"realm{len(world.server.heard)}"
        return world.server.challenge(message, 401)

    world.server.script = script
    world.begin(9)
    assert lost(world) == [(Reason.NONCE, 401)]
    assert world.server.count(Method.ALLOCATE) == MAX_RETRIES + 1


def test_a_challenge_that_is_none_is_a_lie() -> None:
    for realm, nonce in (("", b"n"), ("r", b""), ("r" * (MAX_TEXT + 1), b"n"), ("r\n", b"n")):
        world = World()
        world.server.realm, world.server.nonce = realm, nonce
        world.begin()
        assert lost(world) == [(Reason.LIED, 401)]
        assert world.client.counters["no_challenge"] == 1


def test_a_server_of_rfc_8489_gets_sha256_and_a_hash_of_the_name() -> None:
    world = World()
    world.server.algorithms = b"\0\2\0\0\0\1\0\0"
    world.server.nonce = b"obMatJos2wAAA-0"
    world.client.bind(PEER, world.now)
    world.begin()
    assert [type(x) for x in world.events] == [Allocated, Bound]
    for _, message in world.server.heard[1:]:
        assert "USERNAME" not in message.attributes
        assert "MESSAGE-INTEGRITY" not in message.attributes
        assert "MESSAGE-INTEGRITY-SHA256" in message.attributes
    world.server.new_nonce()
    world.run(3600)
    assert world.said(Lost) == []


def test_who_takes_the_algorithms_out_is_found_out() -> None:
    world = World()
    world.server.nonce = b"obMatJos2gAAA-0"
    world.begin()
    assert lost(world) == [(Reason.LIED, 401)]
    assert world.client.counters["bid_down"] == 1
    assert not any(signed(x) for _, x in world.server.heard)


# --- Lies ---


def grant(world: World, **changes: Any) -> Callable[[Message], Any]:
    """An Allocate that is answered with something else; None takes an attribute away."""
    right = {
        "XOR-RELAYED-ADDRESS": (RELAYED, 50001),
        "XOR-MAPPED-ADDRESS": (CLIENT.host, CLIENT.port),
        "LIFETIME": 600,
    }
    changed = right | {name.replace("_", "-"): value for name, value in changes.items()}
    attributes = {name: value for name, value in changed.items() if value is not None}
    return only(Method.ALLOCATE, lambda m: world.server.success(m, attributes))


@pytest.mark.parametrize(
    ("changes", "counter"),
    [
        ({"XOR_RELAYED_ADDRESS": ("127.0.0.1", 50001)}, "lied_relayed"),
        ({"XOR_RELAYED_ADDRESS": ("224.0.0.251", 50001)}, "lied_relayed"),
        ({"XOR_RELAYED_ADDRESS": ("0.0.0.0", 50001)}, "lied_relayed"),
        ({"XOR_RELAYED_ADDRESS": ("255.255.255.255", 50001)}, "lied_relayed"),
        ({"XOR_RELAYED_ADDRESS": ("169.254.0.1", 50001)}, "lied_relayed"),
        ({"XOR_RELAYED_ADDRESS": ("10.7.0.1", 50001)}, "lied_relayed"),
        ({"XOR_RELAYED_ADDRESS": (RELAYED, 0)}, "lied_relayed"),
        ({"XOR_RELAYED_ADDRESS": None}, "lied_relayed"),
        ({"XOR_RELAYED_ADDRESS": ("2001:db8::1", 50001)}, "lied_family"),
        ({"XOR_RELAYED_ADDRESS": ("::1", 50001)}, "lied_relayed"),
        ({"XOR_RELAYED_ADDRESS": ("::ffff:203.0.113.9", 50001)}, "lied_relayed"),
        ({"LIFETIME": 0}, "lied_lifetime"),
        ({"LIFETIME": 9}, "lied_lifetime"),
        ({"LIFETIME": None}, "lied_lifetime"),
    ],
)
def test_what_cannot_be_true_is_no_allocation(changes: dict[str, Any], counter: str) -> None:
    # 10.7/16 is the tunnel's own.
    world = World(allowed=lambda host: not host.startswith("10.7."))
    world.server.script = grant(world, **changes)
    world.begin()
    assert world.said(Allocated) == []
    assert lost(world) == [(Reason.LIED, 0)]
    assert world.client.counters[counter] == 1
    assert world.client.relayed is None
    assert world.said(Lost)[0].again - world.now > 290


@pytest.mark.parametrize("mapped", [("127.0.0.1", 5), ("224.0.0.1", 5), ("198.51.100.7", 0), None])
def test_a_mapped_address_that_cannot_be_is_left_out(mapped: tuple[str, int] | None) -> None:
    world = World()
    world.server.script = grant(world, XOR_MAPPED_ADDRESS=mapped)
    world.begin()
    assert world.events == [Allocated(Place(RELAYED, 50001), None, 600.0)]


def test_an_allocation_of_ipv6_is_asked_for_and_must_be_one() -> None:
    world = World(family=6)
    world.begin()
    assert world.client.counters["lied_family"] == 1
    world = World(family=6)
    world.server.script = grant(world, XOR_RELAYED_ADDRESS=("2001:db8::9", 50001))
    world.begin()
    assert world.events == [Allocated(Place("2001:db8::9", 50001), CLIENT, 600.0)]
    assert all(x.attributes["REQUESTED-ADDRESS-FAMILY"] == 2 << 24 for _, x in world.server.heard)
    assert world.client.bind(PEER, world.now) is None
    assert world.client.bind(Place("2001:db8::77", 5), world.now) == FIRST_CHANNEL


def test_answers_that_are_not_signed_do_not_count() -> None:
    world = World()
    world.server.script = only(
        Method.ALLOCATE, lambda m: pack(world.server.success(m, {"LIFETIME": 600}))
    )
    world.begin(39)
    assert world.events == []
    assert world.client.counters["unauthentic"] == 7
    world.run(1)
    assert lost(world) == [(Reason.LIED, 0)]
    # In a stream nobody has slipped it in: the server is at fault.
    world = World(stream=True)
    world.server.script = only(
        Method.ALLOCATE, lambda m: pack(world.server.success(m, {"LIFETIME": 600}))
    )
    world.begin()
    assert lost(world) == [(Reason.LIED, 0)]


@pytest.mark.parametrize("code", [437, 403, 400, 500])
def test_errors_that_are_not_signed_count_only_where_servers_do_not_sign(code: int) -> None:
    """437 to a Refresh would end an allocation; coturn signs that one."""
    world = World()
    world.begin()
    world.server.script = only(Method.REFRESH, lambda m: pack(world.server.error(m, code)))
    world.run(KEEPALIVE + 3)
    assert allocated(world)
    assert world.client.counters["unauthentic"] >= 2
    world.server.script = None
    world.run(10)
    assert allocated(world)


def test_forged_answers_change_nothing() -> None:
    world = World()
    world.client.bind(PEER, world.now)
    world.client.start(world.now)
    world.run(ROUND_TRIP + ONE_WAY + 0.001)
    _, request = world.server.heard[-1]
    assert request.method is Method.ALLOCATE
    right = world.server.honest(request)
    assert isinstance(right, Message)
    key = world.server.key(request)
    assert key is not None
    data = pack(right, key[0])
    # From elsewhere; another transaction; another method; a request; what is no STUN.
    before = world.client.state
    other = Message(right.method, right.kind, bytes(12), right.attributes)
    refresh = Message(Method.REFRESH, right.kind, right.transaction, right.attributes)
    asked = Message(right.method, Class.REQUEST, right.transaction, right.attributes)
    assert not world.arrive(data, Place("192.0.2.1", 3479))
    assert not world.arrive(data, Place("192.0.2.2", 3478))
    assert not world.arrive(data, SERVER._replace(via=1))
    for message in (other, refresh, asked):
        assert not world.arrive(pack(message, key[0]))
    assert not world.arrive(data[:-1])
    assert not world.arrive(b"")
    assert world.client.counters["wrong_source"] == 3
    assert world.client.counters["unknown_transaction"] == 3
    assert world.client.counters["malformed"] == 2
    assert (world.client.state, world.events) == (before, [])
    assert world.arrive(data)
    # A second time it answers nothing.
    assert not world.arrive(data)
    assert len(world.said(Allocated)) == 1


def test_an_attribute_that_must_be_known_makes_an_answer_useless() -> None:
    world = World()

    def script(message: Message) -> object:
        if not signed(message):
            return HONEST
        key = world.server.key(message)
        assert key is not None
        plain = pack(world.server.success(message, {"LIFETIME": 600}))[:-8] + bytes.fromhex(
            "00770000"
        )
        head = plain[:2] + (len(plain) - 20 + 24).to_bytes(2, "big") + plain[4:]
        return head + bytes.fromhex("00080014") + hmac.digest(key[0], head, "sha1")

    world.server.script = script
    world.begin()
    assert lost(world) == [(Reason.LIED, 0)]
    assert world.client.counters["unknown_attribute"] == 1


# --- Refreshes and peers that are refused ---


def test_437_for_ever_is_given_up() -> None:
    """The deletion is granted each time, and changes nothing."""
    world = World()
    world.server.script = lambda m: (
        world.server.error(m, 437)
        if m.method is Method.ALLOCATE and signed(m)
        else world.server.success(m, {"LIFETIME": 0})
        if m.method is Method.REFRESH
        else HONEST
    )
    world.begin(10)
    assert lost(world) == [(Reason.MISMATCH, 437)]
    assert world.server.count(Method.REFRESH) == 1
    assert world.said(Lost)[0].again > world.now + 100


def test_a_refresh_that_is_refused_is_repeated_while_the_allocation_lasts() -> None:
    world = World()
    world.begin()
    world.server.script = only(Method.REFRESH, lambda m: world.server.error(m, 508))
    world.run(500)
    assert world.said(Lost) == []
    # At 25 s, and 5, 10, 20... s later.
    assert world.server.count(Method.REFRESH) == 7
    world.run(200)
    assert lost(world)[0] == (Reason.EXPIRED, 0)
    world.server.script = None
    world.run(10)
    assert allocated(world)


def test_a_refresh_of_zero_seconds_ends_the_allocation() -> None:
    world = World()
    world.begin(61)
    world.server.script = only(Method.REFRESH, lambda m: world.server.success(m, {"LIFETIME": 0}))
    world.server.allocation = None
    world.run(25)
    assert lost(world) == [(Reason.GONE, 0)]
    assert allocated(world)


def test_a_refresh_without_a_lifetime_is_a_lie() -> None:
    world = World()
    world.begin()
    world.server.script = only(Method.REFRESH, lambda m: world.server.success(m, {}))
    world.run(KEEPALIVE)
    assert lost(world) == [(Reason.LIED, 0)]


@pytest.mark.parametrize("code", [403, 443, 447, 486, 500, 508])
def test_a_peer_that_is_refused_is_told_and_asked_for_again_ever_later(code: int) -> None:
    world = World()
    world.server.script = lambda m: (
        world.server.error(m, code)
        if m.attributes.get("XOR-PEER-ADDRESS") == (PEER.host, PEER.port)
        else HONEST
    )
    other = Place("203.0.113.78", 5)
    world.begin()
    world.client.bind(PEER, world.now)
    world.client.bind(other, world.now)
    world.run(1)
    refusal = PermissionRefused(PEER, FIRST_CHANNEL, code)
    assert world.said(PermissionRefused) == [refusal]
    assert world.said(Bound) == [Bound(other, FIRST_CHANNEL + 1)]
    assert not world.arrive(world.server.data((PEER.host, 9), b"x"))
    world.run(3600)
    # After 60, 120, 240, 480, 600 s and so on.
    assert len(world.said(PermissionRefused)) == 9
    world.server.script = None
    world.run(600)
    assert Bound(PEER, FIRST_CHANNEL) in world.said(Bound)
    assert world.said(Lost) == []


def test_a_peer_that_is_refused_with_400_is_asked_for_once_more_and_the_allocation_checked() -> (
    None
):
    world = World(keepalive=0)
    world.begin()
    world.server.script = only(Method.CHANNEL_BIND, lambda m: world.server.error(m, 400))
    world.client.bind(PEER, world.now)
    world.run(5)
    assert world.said(PermissionRefused) == [PermissionRefused(PEER, FIRST_CHANNEL, 400)]
    assert world.server.count(Method.CHANNEL_BIND) == 2
    assert world.server.count(Method.REFRESH) == 1
    assert world.said(Lost) == []


def test_400_to_a_channel_finds_out_that_the_allocation_is_gone() -> None:
    """As coturn says it after a restart."""
    world = World(keepalive=0)
    world.begin()
    world.server.restart()
    world.server.script = only(
        Method.CHANNEL_BIND,
        lambda m: world.server.error(m, 400) if world.server.allocation is None else HONEST,
    )
    world.client.bind(PEER, world.now)
    world.run(10)
    assert lost(world) == [(Reason.GONE, 437)]
    assert world.server.carries(FIRST_CHANNEL) == (PEER.host, PEER.port)
    assert world.said(PermissionRefused) == []


def test_a_channel_that_is_not_answered_puts_the_server_in_doubt() -> None:
    world = World(keepalive=0)
    world.begin()
    world.server.script = only(Method.CHANNEL_BIND, lambda m: None)
    world.client.bind(PEER, world.now)
    world.run(41)
    assert world.server.count(Method.REFRESH) == 1
    assert world.said(Lost) == []
    world.server.script = None
    world.run(60)
    assert world.said(Bound) == [Bound(PEER, FIRST_CHANNEL)]


# --- Anything ---


def chaos(server: FakeServer, choose: st.DataObject) -> Callable[[Message], Any]:
    """A server that draws each answer."""

    def script(message: Message) -> Any:
        kind = choose.draw(st.integers(0, 9))
        if kind <= 3:
            return HONEST
        if kind == 4:
            return None
        if kind == 5:
            server.new_nonce()
            return server.challenge(message, choose.draw(st.sampled_from([401, 438])))
        code = choose.draw(st.sampled_from([300, 400, 403, 420, 437, 441, 486, 500, 508, 699]))
        answer = server.error(message, code)
        if kind == 6:
            return answer
        if kind == 7:
            return pack(answer)
        if kind == 8:
            lifetime = choose.draw(st.integers(0, 2**32 - 1))
            return server.success(message, {"LIFETIME": lifetime})
        return choose.draw(st.binary(max_size=60))

    return script


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_whatever_a_server_says_the_client_stays_within_its_bounds(choose: st.DataObject) -> None:
    world = World(stream=choose.draw(st.booleans()))
    world.client.bind(PEER, world.now)
    world.client.permit("203.0.113.80", world.now)
    world.server.script = chaos(world.server, choose)
    world.begin(30)
    for _ in range(10):
        what = choose.draw(st.integers(0, 5))
        if what == 0:
            world.client.check(world.now)
        elif what == 1:
            world.client.network_changed(world.now)
        elif what == 2:
            world.client.disconnected(world.now)
        elif what == 3:
            world.client.start(world.now)
        elif what == 4:
            world.client.bind(Place("203.0.113.81", choose.draw(st.integers(1, 9))), world.now)
        world.run(choose.draw(st.sampled_from([0.1, 5, 60, 700])))
    assert len(world.sent) < 3000
    is_there = world.client.state is State.ALLOCATED
    assert (world.client.relayed is not None) == is_there
    # It comes to its senses.
    world.server.script = None
    for _ in range(40):
        world.run(60)
        world.client.start(world.now)
        if allocated(world):
            break
    assert allocated(world)
    world.client.close(world.now)
    world.run(3)
    assert world.client.state is State.CLOSED
    assert world.client.due() is None


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_which_addresses_can_be_reached(address: Any) -> None:
    """As the standard library sees them; private ones are fine, a relay may stand beside us."""
    expected = not (
        address.is_loopback
        or address.is_multicast
        or address.is_unspecified
        or address.is_link_local
    )
    if address.version == 4:
        number = int(address)
        expected = expected and number >> 24 != 0 and number < 224 << 24
    else:
        expected = expected and int(address) >> 32 not in (0, 0xFFFF)
    assert is_reachable(str(address)) == expected


def test_every_reason_has_words_of_its_own() -> None:
    assert set(WORDS) == set(Reason)
    assert len(set(WORDS.values())) == len(WORDS)
