"""The order of checks: a row for each refusal, and what each costs nobody else."""

import hashlib

import pytest

from tests.support import credential_spec as spec
from tests.support.vectors import load, raw
from wgpy.keys import PresharedKey, PrivateKey, PublicKey
from wgpy.protocol import credential_intake
from wgpy.protocol.cookie import CookieChecker, CookieGenerator
from wgpy.protocol.credential_handshake import initiate
from wgpy.protocol.credential_intake import Intake, Ours, Standing
from wgpy.protocol.credential_payload import InitiationPayload, Offer, OfferKind
from wgpy.protocol.handshake import Local, Remote
from wgpy.protocol.messages import parse_cookie_reply
from wgpy.protocol.tai64n import stamp

WALL = 1_700_000_000 * 10**9
NETWORK = bytes(range(16))
ALICE, BOB = PrivateKey(b"a" * 32), PrivateKey(b"b" * 32)
CAROL = Local(PrivateKey(b"c" * 32))
HOME, AWAY = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
LEAF = Offer(OfferKind.CERTIFICATE, b"leaf")
ASKED = InitiationPayload(stamp(WALL), NETWORK, "bob.mesh", LEAF)


class Door:
    """Bob's interface, and anyone who knocks. `standings` are what is known of static keys."""

    def __init__(self, name="bob.mesh", psk=None):
        self.bob = Local(BOB)
        self.alice = Local(ALICE)
        self.psk = psk
        self.checker = CookieChecker(self.bob.public, lambda n: b"r" * n)
        self.generator = CookieGenerator(self.bob.public)
        self.standings = {}
        self.known = set()
        self.intake = Intake(self.standing, lambda key, offer: (key, offer.body) in self.known)
        self.intake.set_ours(Ours(self.bob, self.checker, NETWORK, name))
        self.count = 0

    def standing(self, static):
        return self.standings.get(static, Standing(Remote(self.bob, static, self.psk)))

    def random(self, length):
        self.count += 1
        return hashlib.blake2s(self.count.to_bytes(8, "big")).digest()[:length]

    def knock(self, asked=ASKED, who=None, now=0.0):
        """A datagram for Bob, macs included."""
        remote = Remote(who or self.alice, self.bob.public, None)
        first = initiate(remote, sender=1, payload=asked, random=self.random)
        return self.generator.add_macs(first.message, now)

    def arrive(self, data, address=HOME, port=7, *, under_load=False, now=0.0):
        source = address + port.to_bytes(2, "big")
        return self.intake.arrive(data, address, source, "origin", under_load=under_load, now=now)

    def take(self, data, *, now=0.0, wall_ns=WALL, address=HOME):
        assert self.arrive(data, address, now=now) is None
        return self.intake.take(now, wall_ns)

    def only(self, reason, number=1):
        return self.intake.counters == {reason: number}


@pytest.fixture
def door():
    return Door()


def later(seconds, **changes):
    return ASKED._replace(timestamp=stamp(WALL + int(seconds * 10**9)), **changes)


def test_what_passes(door):
    presented = door.take(door.knock())
    assert presented.static == door.alice.public
    assert presented.asked == ASKED[1:]
    assert presented.stamp == ASKED.timestamp
    assert (presented.origin, presented.address) == ("origin", HOME)
    assert door.intake.counters == {}
    answer, _ = presented.responder.respond(sender=2, payload=None, random=door.random)
    assert len(answer) == 60


# --- Steps 1 to 6 ---


@pytest.mark.parametrize("length", [0, 4, 148, 1199, 1201])
def test_the_length_is_exact(door, length):
    assert door.arrive((door.knock() + b"\0")[:length]) is None
    assert door.only("malformed")


def test_without_an_authority_nobody_is_answered(door):
    data = door.knock()
    door.arrive(data)
    door.intake.set_ours(None)
    assert len(door.intake) == 0
    assert door.arrive(data, under_load=True) is None
    assert door.intake.take(0.0, WALL) is None
    assert door.only("no_authority")


def test_a_source_has_its_bucket_always(door):
    data = door.knock()
    replies = [door.arrive(data, now=0.0) for _ in range(8)]
    assert [reply is None for reply in replies] == [True] * 5 + [False] * 3
    assert door.intake.counters == {"rate_limited": 3, "cookie_replies_sent": 3}
    assert door.arrive(data, AWAY) is None
    assert len(door.intake) == 6


def test_who_borrows_an_address_does_not_use_up_its_bucket(door):
    """The owner of the address gets the cookie, and a bucket that needs one."""
    data = door.knock()
    reply = [door.arrive(data, now=0.0) for _ in range(6)][-1]
    assert door.generator.consume(parse_cookie_reply(reply), 0.0)
    proved = door.knock(later(1))
    for _ in range(4):
        assert door.arrive(data, now=0.01) is not None
    assert door.arrive(proved, now=0.01) is None
    assert len(door.intake) == 6
    assert door.arrive(proved, port=8, now=0.01) is not None


def test_who_proved_its_address_has_a_bucket_too(door):
    reply = door.arrive(door.knock(), under_load=True)
    assert door.generator.consume(parse_cookie_reply(reply), 0.0)
    data = door.knock()
    for _ in range(9):
        assert door.arrive(data, under_load=True) is None
    assert len(door.intake) == 5
    assert door.intake.counters == {"rate_limited": 4, "cookie_replies_sent": 1}


def test_under_load_an_address_must_be_proved(door):
    reply = door.arrive(door.knock(), under_load=True)
    assert len(reply) == 64
    assert len(door.intake) == 0
    assert door.only("cookie_replies_sent")
    assert door.generator.consume(parse_cookie_reply(reply), 0.0)
    assert door.arrive(door.knock(), under_load=True) is None
    assert len(door.intake) == 1


def test_a_deep_queue_is_load(door):
    data = door.knock()
    for number in range(credential_intake.UNDER_LOAD_DEPTH):
        assert door.arrive(data, number.to_bytes(4, "big")) is None
    assert door.arrive(data, AWAY) is not None


def test_a_full_table_of_sources_asks_for_cookies(door):
    door.intake.unproved = credential_intake.RateLimiter(capacity=3)
    data = door.knock()
    replies = [door.arrive(data, number.to_bytes(4, "big")) for number in range(5)]
    assert [reply is None for reply in replies] == [True] * 3 + [False] * 2
    assert door.intake.counts()["sources_full"] == 2


def test_cookies_have_a_budget(door):
    data = door.knock()
    replies = [
        door.arrive(data, number.to_bytes(4, "big"), under_load=True) for number in range(150)
    ]
    assert sum(reply is not None for reply in replies) == 64
    assert door.intake.counters == {"cookie_replies_sent": 64, "cookie_budget": 86}


def test_the_queue_is_bounded(door):
    """Only proved sources get as far."""
    for number in range(credential_intake.QUEUE_LENGTH + 2):
        address = number.to_bytes(4, "big")
        generator = CookieGenerator(door.bob.public)
        door.generator = generator
        reply = door.checker.reply(door.knock(), address + b"\0\7", 0.0)
        assert generator.consume(parse_cookie_reply(reply), 0.0)
        assert door.arrive(door.knock(), address) is None
    assert len(door.intake) == 128
    assert door.only("queue_full", 2)


# --- Steps 7 to 16 ---


def test_exchanges_have_a_budget_and_wait_for_it(door):
    door.intake.handshakes = credential_intake.Budget(10)
    for second in (1, 2):
        door.arrive(door.knock(later(second)))
    assert door.intake.next_at(0.0) == 0.0
    assert door.intake.take(0.0, WALL) is not None
    assert door.intake.next_at(0.0) == pytest.approx(0.1)
    assert door.intake.take(0.05, WALL) is None
    assert door.intake.take(0.1, WALL) is not None
    assert door.intake.next_at(0.1) is None
    assert door.intake.counts()["waited_for_budget"] == 1


def test_a_message_to_another_is_unauthenticated(door):
    remote = Remote(door.alice, CAROL.public, None)
    first = initiate(remote, sender=1, payload=ASKED, random=door.random)
    assert door.take(door.generator.add_macs(first.message, 0.0)) is None
    assert door.only("unauthenticated")


def test_a_second_spelling_of_a_key_is_refused(door):
    spelling = bytearray(bytes(door.alice.public))
    spelling[31] |= 0x80
    door.alice.key_pair.public_bytes = bytes(spelling)
    assert door.take(door.knock()) is None
    assert door.only("second_spelling")


@pytest.mark.parametrize("point", load("x25519")["low_order"])
def test_a_key_of_low_order_is_refused(door, point):
    door.alice.key_pair.public_bytes = raw(point)
    assert door.take(door.knock()) is None
    canonical = int.from_bytes(raw(point), "little") < 2**255 - 19
    assert door.only("unauthenticated" if canonical else "second_spelling")


def test_a_key_that_may_not_come_by_credential(door):
    door.standings[door.alice.public] = None
    assert door.take(door.knock()) is None
    assert door.only("not_by_credential")


def test_our_own_key_may_not_come(door):
    assert door.take(door.knock(who=Local(BOB))) is None
    assert door.only("not_by_credential")


def test_a_claimed_key_is_unauthenticated_and_harms_nobody(door):
    mallory = Local(PrivateKey(b"m" * 32))
    mallory.key_pair.public_bytes = bytes(door.alice.public)
    assert door.take(door.knock(who=mallory)) is None
    assert door.only("unauthenticated")
    assert door.take(door.knock()) is not None


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (later(301), "future_timestamp"),
        (later(0, network=bytes(16)), "wrong_network"),
        (later(0, wanted="carol.mesh"), "wrong_name"),
        (later(0, wanted=None), "wrong_name"),
        (later(0, offer=None), "no_credential"),
    ],
)
def test_what_is_asked_for_must_be_ours(door, asked, reason):
    assert door.take(door.knock(asked)) is None
    assert door.only(reason)
    assert len(door.intake.stamps) == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({12: 2}, "version"),
        ({29: 0x7F, 30: 0xFF, 31: 0xFF}, "malformed"),
        ({1063: 1}, "malformed"),
    ],
)
def test_a_payload_that_is_malformed(door, changes, reason):
    payload = bytearray(spec.initiation_payload(ASKED.timestamp, NETWORK, {}))
    for position, value in changes.items():
        payload[position] = value
    data, _ = spec.make_initiation(
        bytes(ALICE), bytes(door.bob.public), b"e" * 32, 1, bytes(payload)
    )
    assert door.take(data) is None
    assert door.only(reason)
    assert door.take(door.knock(later(1))) is None
    assert door.intake.counters["refused_lately"] == 1


def test_a_responder_without_a_name_is_asked_for_none():
    door = Door(name=None)
    assert door.take(door.knock()) is None
    assert door.only("wrong_name")
    assert door.take(door.knock(later(1, wanted=None)), address=AWAY) is not None


TOKEN = Offer(OfferKind.TOKEN, b"a.b.c")


def nameless(offer=TOKEN, **standing):
    """A door where others may enrol, and what it makes of who names nobody."""
    door = Door()
    door.intake.set_ours(Ours(door.bob, door.checker, NETWORK, "bob.mesh", enrols=True))
    if standing:
        remote = Remote(door.bob, door.alice.public, None)
        door.standings[door.alice.public] = Standing(remote, **standing)
    return door, door.take(door.knock(later(0, wanted=None, offer=offer)))


def test_who_names_nobody_and_shows_a_token_may_enrol():
    _, presented = nameless(may_enrol=True)
    assert presented.enrols
    assert presented.asked.offer == TOKEN
    # A token beside a name is a peer's.
    door, _ = nameless(may_enrol=True)
    assert not door.take(door.knock(later(1, offer=TOKEN)), address=AWAY).enrols


def test_nobody_enrols_where_nobody_may():
    door = Door()
    assert door.take(door.knock(later(0, wanted=None, offer=TOKEN))) is None
    assert door.only("no_enrolment")
    assert door.take(door.knock(later(1))) is None, "and it is not heard for a minute"
    # A key of the configuration has its place already.
    door, presented = nameless(key_suffices=True)
    assert presented is None
    assert door.only("no_enrolment")


@pytest.mark.parametrize("offer", [None, LEAF])
def test_without_a_token_no_name_is_a_wrong_name(offer):
    door, presented = nameless(offer, may_enrol=True, key_suffices=True)
    assert presented is None
    assert door.only("wrong_name")


def test_who_is_put_off_may_ask_again_at_once():
    door, _ = nameless(may_enrol=True)
    door.intake.put_off("quarantine_full")
    assert door.only("quarantine_full")
    assert door.take(door.knock(later(1, wanted=None, offer=TOKEN))).enrols


def test_a_key_that_suffices_needs_no_offer(door):
    static = door.alice.public
    remote = Remote(door.bob, static, None)
    door.standings[static] = Standing(remote, key_suffices=True)
    presented = door.take(door.knock(later(0, offer=None)))
    assert presented.asked.offer is None
    assert presented.standing.remote is remote


def test_a_mark_in_the_configuration_counts(door):
    remote = Remote(door.bob, door.alice.public, None)
    door.standings[door.alice.public] = Standing(remote, floor=ASKED.timestamp)
    assert door.take(door.knock()) is None
    assert door.only("replayed_timestamp")
    assert door.take(door.knock(later(1))) is not None


# --- After the authority ---


def test_an_accepted_stamp_is_good_once(door):
    data = door.knock()
    presented = door.take(data)
    assert door.intake.accept(presented, "session", 0.0) is None
    assert door.take(data, address=AWAY) is None
    assert door.only("replayed_timestamp")


def test_a_replay_is_no_refusal_of_its_owner(door):
    data = door.knock()
    door.intake.accept(door.take(data), "session", 0.0)
    assert door.take(data) is None
    assert door.take(door.knock(later(1))) is not None


def test_before_it_is_accepted_a_stamp_costs_its_owner_nothing(door):
    data = door.knock()
    assert door.take(data) is not None
    assert door.take(data) is not None


def test_a_refused_key_is_not_listened_to_for_a_minute(door):
    door.intake.refuse(door.take(door.knock()), "expired", 0.0)
    assert door.take(door.knock(later(5)), now=5.0) is None
    assert door.intake.counters == {"expired": 1, "refused_lately": 1}
    assert door.take(door.knock(later(61)), now=61.0) is not None


def test_a_replay_from_elsewhere_does_not_shut_its_owner_out(door):
    """A recorded 0x10 whose credential has expired since authenticates, and is refused."""
    door.intake.refuse(door.take(door.knock(), address=AWAY), "expired", 0.0)
    assert door.take(door.knock(later(5)), now=5.0) is not None


def test_signatures_have_a_budget_and_known_verdicts_need_none(door):
    door.intake.signatures = credential_intake.Budget(10)
    assert door.take(door.knock()) is not None
    assert door.take(door.knock(later(1))) is None
    assert door.only("signature_budget")
    door.known.add((door.alice.public, LEAF.body))
    assert door.take(door.knock(later(2))) is not None
    other = later(3, offer=Offer(OfferKind.CERTIFICATE, b"renewed"))
    assert door.take(door.knock(other)) is None
    assert len(door.intake.refused_lately) == 0


def test_the_next_handshake_takes_the_place_of_the_last(door):
    assert door.intake.accept(door.take(door.knock()), "first", 0.0) is None
    assert door.intake.accept(door.take(door.knock(later(1))), "second", 1.0) == "first"
    assert door.intake.pending.expire(6.0) == ["second"]
    assert door.intake.counts()["pending_expired"] == 1


def test_pending_is_bounded(door):
    door.intake.pending = credential_intake.Pending(capacity=1)
    alice, carol = door.take(door.knock()), door.take(door.knock(who=CAROL))
    assert door.intake.accept(alice, "alice", 0.0) is None
    assert door.intake.accept(carol, "carol", 0.0) == "carol"
    assert door.intake.stamps.greatest(CAROL.public) is None
    assert door.take(door.knock(later(1), who=CAROL)) is None
    assert door.only("pending_full")
    assert door.take(door.knock(later(1))) is not None


def test_what_is_trusted_changed(door):
    door.intake.refuse(door.take(door.knock()), "unknown_issuer", 0.0)
    door.intake.set_ours(Ours(door.bob, door.checker, NETWORK, "bob.mesh"))
    assert door.take(door.knock(later(1))) is not None


def test_the_interface_s_pre_shared_key_reaches_the_response():
    door = Door(psk=PresharedKey(b"k" * 32))
    presented = door.take(door.knock())
    assert presented.standing.remote.psk_bytes() == b"k" * 32


def test_a_key_that_waits_for_a_standing_is_asked_about_once(door):
    asked = []
    door.intake = Intake(
        lambda static: asked.append(static) or door.standing(static), lambda key, offer: True
    )
    door.intake.set_ours(Ours(door.bob, door.checker, NETWORK, "bob.mesh"))
    assert door.take(door.knock()) is not None
    assert asked == [PublicKey(bytes(door.alice.public))]


def test_who_proved_its_key_and_asks_for_what_it_cannot_have_is_told_of(door):
    """Not replays, and nothing that anybody could send: a log is no place for a flood."""
    told = []
    door.intake = Intake(door.standing, lambda key, offer: True, lambda *what: told.append(what))
    door.intake.set_ours(Ours(door.bob, door.checker, NETWORK, "bob.mesh"))
    assert door.take(door.knock(later(1, wanted="eve.mesh"))) is None
    assert told == [(door.alice.public, "origin", "wrong_name")]
    assert door.take(door.knock(later(2))) is None
    assert door.take(door.knock(later(600)), now=61.0) is None
    assert [reason for _, _, reason in told] == ["wrong_name", "future_timestamp"]
    data = door.knock(later(3))
    presented = door.take(data, now=61.0)
    door.intake.accept(presented, "waiting", 61.0)
    assert door.take(data, now=61.0) is None
    damaged = bytearray(door.knock(later(4)))
    damaged[100] ^= 1
    damaged[-32:] = door.generator.add_macs(bytes(damaged[:-32]), 0.0)[-32:]
    assert door.take(bytes(damaged), now=61.0) is None
    assert len(told) == 2
    assert door.intake.counters["replayed_timestamp"] == 1
    assert door.intake.counters["unauthenticated"] == 1


def test_a_queue_that_is_forgotten_is_empty(door):
    door.arrive(door.knock())
    door.intake.forget_queue()
    assert len(door.intake) == 0
    assert door.intake.next_at(0.0) is None
    assert door.take(door.knock(later(1))) is not None


def test_a_flood_from_made_up_addresses_stays_within_the_bounds(door):
    """10,000 a second for three seconds, all with a right mac1; who has a cookie gets through."""
    reply = door.arrive(door.knock(), under_load=True)
    assert door.generator.consume(parse_cookie_reply(reply), 0.0)
    forged = bytearray(door.knock(later(-60)))
    forged[1184:] = bytes(16)
    exchanges, welcome, deepest = 0, [], 0
    for number in range(30_000):
        now = number / 10_000
        door.arrive(bytes(forged), number.to_bytes(4, "big"), now=now)
        if number % 5000 == 4999:
            honest = door.knock(later(number), now=now)
            door.arrive(honest, HOME, now=now)
        deepest = max(deepest, len(door.intake))
        if door.intake.next_at(now) == now:
            exchanges += 1
            presented = door.intake.take(now, WALL + number * 10**9)
            if presented is not None and presented.address == HOME:
                welcome.append(presented.stamp)
    assert len(welcome) == 6
    assert exchanges <= 3 * 500 + 50
    assert deepest <= credential_intake.QUEUE_LENGTH
    assert door.intake.counters["cookie_replies_sent"] <= 3 * 300 + 65
    assert door.intake.counters["cookie_budget"] >= 20_000
    assert len(door.intake.unproved) <= 65_536
    assert len(door.intake.stamps) == len(door.intake.pending) == 0
