"""Channel numbers, and when peers are asked for again."""

import random

from wgpy.nat.channel_data import FIRST_CHANNEL, LAST_CHANNEL
from wgpy.nat.place import Place
from wgpy.nat.turn_peers import (
    CHANNEL_LIFETIME,
    CHANNEL_REST,
    MAX_PEERS,
    MAX_REFUSED_PAUSE,
    REFUSED_PAUSE,
    RENEW,
    Peers,
)

NOW = 1000.0
COUNT = LAST_CHANNEL - FIRST_CHANNEL + 1
RESERVED = CHANNEL_LIFETIME + CHANNEL_REST


def peer(number: int) -> Place:
    return Place(f"203.0.113.{number % 250}", 1 + number // 250)


def test_numbers_are_taken_in_turn_and_rest_for_fifteen_minutes() -> None:
    peers = Peers()
    seen = []
    for number in range(COUNT):
        entry = peers.add(peer(number), NOW, channel=True)
        assert entry is not None
        peers.asked(entry, NOW)
        seen.append(entry.channel)
        peers.remove(entry.peer)
    assert seen == list(range(FIRST_CHANNEL, LAST_CHANNEL + 1))
    other = Place("198.51.100.1", 5)
    assert peers.add(other, NOW, channel=True) is None
    # A peer that had one gets it back.
    again = peers.add(peer(77), NOW + 1, channel=True)
    assert again is not None
    assert again.channel == FIRST_CHANNEL + 77
    assert peers.add(other, NOW + RESERVED - 1, channel=True) is None
    found = peers.add(other, NOW + RESERVED, channel=True)
    assert found is not None
    assert found.channel != FIRST_CHANNEL + 77


def test_a_number_that_was_never_asked_for_is_free_at_once() -> None:
    peers = Peers()
    for number in range(3 * COUNT):
        entry = peers.add(peer(number % 60), NOW, channel=True)
        assert entry is not None
        peers.remove(entry.peer)


def test_no_number_and_no_peer_changes_its_other_half_too_soon() -> None:
    """Any order of events: what a server that is as strict as RFC 8656 would accept."""
    chance = random.Random(5)
    peers = Peers()
    now = NOW
    numbers: dict[int, tuple[Place, float]] = {}
    owners: dict[Place, tuple[int, float]] = {}
    for _ in range(20000):
        now += chance.expovariate(1 / 3)
        which = peer(chance.randrange(200))
        if chance.random() < 0.5:
            peers.remove(which)
            continue
        entry = peers.add(which, now, channel=True)
        if entry is None:
            continue
        peers.asked(entry, now)
        peers.confirmed(entry, now)
        owner, until = numbers.get(entry.channel, (which, 0.0))
        assert owner == which or until <= now
        number, until = owners.get(which, (entry.channel, 0.0))
        assert number == entry.channel or until <= now
        numbers[entry.channel] = which, now + RESERVED
        owners[which] = entry.channel, now + RESERVED
    assert len(peers) <= MAX_PEERS


def test_peers_are_renewed_before_their_permission_ends() -> None:
    peers = Peers()
    entry = peers.add(peer(1), NOW, channel=True)
    assert entry is not None
    assert peers.due() == NOW
    assert peers.waiting(NOW) == [entry]
    peers.asked(entry, NOW)
    assert peers.waiting(NOW) == []
    assert peers.due() is None
    assert peers.confirmed(entry, NOW)
    assert peers.due() == NOW + RENEW
    assert RENEW < 300
    peers.asked(entry, NOW + RENEW)
    assert not peers.confirmed(entry, NOW + RENEW)


def test_a_refused_peer_is_asked_for_again_after_growing_pauses() -> None:
    peers = Peers()
    entry = peers.add(peer(1), NOW, channel=True)
    assert entry is not None
    waits = []
    for _ in range(10):
        peers.asked(entry, NOW)
        peers.refused(entry, NOW)
        waits.append(entry.due - NOW)
        assert not peers.permits(entry.peer.host)
    assert waits[:4] == [REFUSED_PAUSE * x for x in (1, 2, 4, 8)]
    assert set(waits[4:]) == {MAX_REFUSED_PAUSE}
    peers.confirmed(entry, NOW)
    assert peers.permits(entry.peer.host)
    peers.refused(entry, NOW)
    assert entry.due == NOW + REFUSED_PAUSE


def test_a_permission_has_no_number_and_a_channel_permits_its_address() -> None:
    peers = Peers()
    permission = peers.add(Place("203.0.113.5", 0), NOW, channel=False)
    channel = peers.add(Place("203.0.113.6", 9), NOW, channel=True)
    assert permission is not None
    assert channel is not None
    assert permission.channel == 0
    assert not peers.permits("203.0.113.5")
    for entry in (permission, channel):
        peers.asked(entry, NOW)
        peers.confirmed(entry, NOW)
        assert peers.permits(entry.peer.host)
    assert peers.bound() == [channel]
    peers.forget(NOW + 5)
    assert peers.bound() == []
    assert not peers.permits("203.0.113.6")
    assert [x.due for x in peers.waiting(NOW + 5)] == [NOW + 5] * 2
