"""Ways for signals: within a process, through a directory; and whose word about us counts."""

import asyncio
import os
import random

import pytest

from tests.unit.nat.test_probe import ALICE, ALICES, BOB, NONCE
from tests.unit.nat.test_signal_message import OFFER
from wgpy.keys import PublicKey
from wgpy.nat.signal import MAX_UNDER_WAY, Post
from wgpy.nat.signal_file import MAX_READ, MAX_WAITING, FileSignal, tag
from wgpy.nat.signal_message import pack_signal
from wgpy.nat.signal_watch import SignalWatch
from wgpy.nat.witness import MAX_ADDRESSES, Witnesses

SIGNAL = pack_signal(OFFER, ALICES.signal, ALICE.public, NONCE)

# --- Within a process ---


class Clock:
    now = 100.0


def post(**weather):
    return Post(lambda: Clock.now, random.Random(1).random, **weather)


def test_a_signal_takes_its_time():
    Clock.now = 100.0
    made = post(delay=0.5)
    got = []
    made.box(BOB.public).listen(got.append)
    made.box(ALICE.public).send(BOB.public, SIGNAL)
    assert made.due() == 100.5
    made.deliver()
    assert got == []
    Clock.now = 100.5
    made.deliver()
    assert got == [SIGNAL]
    assert made.due() is None


def test_losses_strangers_and_floods_are_counted():
    made = post(loss=0.5)
    box = made.box(ALICE.public)
    for _ in range(100):
        box.send(BOB.public, SIGNAL)
    made.deliver()
    assert 20 < made.counters["lost"] < 80
    assert made.counters["nobody_there"] == 100 - made.counters["lost"]
    made = post(delay=1.0)
    for _ in range(MAX_UNDER_WAY + 3):
        made.box(ALICE.public).send(BOB.public, SIGNAL)
    assert made.counters["full"] == 3


def test_a_closed_box_hears_nothing():
    made, got = post(), []
    box = made.box(BOB.public)
    box.listen(got.append)
    box.close()
    made.box(ALICE.public).send(BOB.public, SIGNAL)
    made.deliver()
    assert got == []


# --- Through a directory ---


@pytest.fixture
def ends(tmp_path):
    got = []
    alice, bob = FileSignal(tmp_path, ALICE.public), FileSignal(tmp_path, BOB.public)
    bob.listen(got.append)
    return alice, bob, got


def test_a_signal_is_read_once_and_gone(ends, tmp_path):
    alice, bob, got = ends
    alice.send(BOB.public, SIGNAL)
    (name,) = os.listdir(tmp_path)
    assert name.startswith(f"{tag(BOB.public)}-{tag(ALICE.public)}-")
    alice.listen(lambda data: pytest.fail("not for Alice"))
    assert alice.poll() == 0
    assert bob.poll() == 1
    assert got == [SIGNAL]
    assert bob.poll() == 0
    assert os.listdir(tmp_path) == []


def test_signals_come_in_their_order(ends):
    alice, bob, got = ends
    sent = [SIGNAL[:-1] + bytes([number]) for number in range(5)]
    for each in sent:
        alice.send(BOB.public, each)
    bob.poll()
    assert got == sent


def test_nothing_is_taken_before_somebody_listens(tmp_path):
    FileSignal(tmp_path, ALICE.public).send(BOB.public, SIGNAL)
    bob = FileSignal(tmp_path, BOB.public)
    assert bob.poll() == 0
    assert len(os.listdir(tmp_path)) == 1


@pytest.mark.parametrize("age", [61, -61])
def test_an_old_file_is_ignored_and_removed(ends, tmp_path, age):
    alice, bob, _ = ends
    alice.send(BOB.public, SIGNAL)
    (name,) = os.listdir(tmp_path)
    when = os.stat(tmp_path / name).st_mtime - age
    os.utime(tmp_path / name, (when, when))
    assert bob.poll() == 0
    assert bob.counters["stale"] == 1
    assert os.listdir(tmp_path) == []


def test_what_is_no_signal_is_ignored(ends, tmp_path):
    _, bob, got = ends
    start = f"{tag(BOB.public)}-x-"
    (tmp_path / f"{start}1.signal").write_bytes(SIGNAL + b"x")
    (tmp_path / f"{start}2.signal").write_bytes(b"")
    (tmp_path / f"{start}3.signal").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / f"{start}4.signal")
    (tmp_path / f"{start}5.signal").mkdir()
    (tmp_path / f"{start}6.signal.part").write_bytes(SIGNAL)
    (tmp_path / "notes.txt").write_bytes(b"not ours")
    assert bob.poll() == 0
    assert got == []
    assert bob.counters == {"malformed": 4, "not_readable": 1}
    assert (tmp_path / "notes.txt").read_bytes() == b"not ours"


def test_a_flood_is_taken_in_turns(ends, tmp_path):
    _, bob, _ = ends
    for number in range(3 * MAX_READ):
        (tmp_path / f"{tag(BOB.public)}-x-{number:04}.signal").write_bytes(SIGNAL)
    assert [bob.poll() for _ in range(4)] == [MAX_READ] * 3 + [0]


def test_what_cannot_be_removed_takes_its_turn_once(ends, tmp_path):
    alice, bob, got = ends
    for number in range(3 * MAX_READ):
        (tmp_path / f"{tag(BOB.public)}-0-{number:04}.signal").mkdir()
    for _ in range(3):
        assert bob.poll() == 0
    alice.send(BOB.public, SIGNAL)
    assert bob.poll() == 1
    assert got == [SIGNAL]


def test_a_signal_is_found_among_ten_thousand_files(ends, tmp_path):
    alice, bob, got = ends
    for number in range(10_000):
        (tmp_path / f"{number}-x-1.signal").touch()
    alice.send(BOB.public, SIGNAL)
    bob.poll()
    assert got == [SIGNAL]
    assert bob.entries == 10_001


def test_who_is_away_finds_the_latest(ends, tmp_path):
    alice, bob, got = ends
    for number in range(50):
        alice.send(BOB.public, SIGNAL[:-1] + bytes([number]))
    assert len(os.listdir(tmp_path)) == MAX_WAITING
    bob.poll()
    assert [each[-1] for each in got] == list(range(50 - MAX_WAITING, 50))


def test_a_directory_that_is_gone_is_counted(ends, tmp_path):
    alice, bob, _ = ends
    tmp_path.rmdir()
    alice.send(BOB.public, SIGNAL)
    assert bob.poll() == 0
    assert alice.counters["not_written"] == 1
    assert bob.counters["not_readable"] == 1


def test_the_shell_hears_of_it_at_once(tmp_path):
    async def run():
        heard = asyncio.get_running_loop().create_future()
        bob = FileSignal(tmp_path, BOB.public)
        bob.listen(heard.set_result)
        watch = SignalWatch(bob)
        try:
            await asyncio.sleep(0)
            FileSignal(tmp_path, ALICE.public).send(BOB.public, SIGNAL)
            return await asyncio.wait_for(heard, 30)
        finally:
            watch.close()

    assert asyncio.run(run()) == SIGNAL


def test_the_shell_takes_what_was_there_before(tmp_path):
    FileSignal(tmp_path, ALICE.public).send(BOB.public, SIGNAL)

    async def run():
        heard = asyncio.get_running_loop().create_future()
        bob = FileSignal(tmp_path, BOB.public)
        bob.listen(heard.set_result)
        watch = SignalWatch(bob)
        try:
            return await asyncio.wait_for(heard, 30)
        finally:
            watch.close()

    assert asyncio.run(run()) == SIGNAL


def test_no_directory_is_an_error(tmp_path):
    async def run():
        with pytest.raises(OSError, match="inotify_add_watch"):
            SignalWatch(FileSignal(tmp_path / "none" / "there", BOB.public))

    asyncio.run(run())


# --- Whose word counts ---


def peer(number):
    return PublicKey(bytes([number]) * 32)


HERE, LIE = ("203.0.113.1", 51820), ("192.0.2.66", 80)


def test_one_peers_word_is_told_to_nobody():
    witnesses = Witnesses()
    for _ in range(5):
        witnesses.seen(peer(1), LIE, 100.0)
    assert witnesses.agreed(frozenset(), 100.0) == ()
    witnesses.seen(peer(2), HERE, 100.0)
    assert witnesses.agreed(frozenset({HERE}), 100.0) == (HERE,)
    witnesses.seen(peer(3), HERE, 110.0)
    assert witnesses.agreed(frozenset(), 110.0) == (HERE,)
    assert witnesses.agreed(frozenset(), 220.1) == ()
    witnesses.seen(peer(2), HERE, 221.0)
    assert witnesses.agreed(frozenset(), 221.0) == (HERE,)
    witnesses.forget()
    assert witnesses.agreed(frozenset(), 221.0) == ()


def test_witnesses_are_bounded():
    witnesses = Witnesses()
    for port in range(1, 1000):
        for number in range(12):
            witnesses.seen(peer(number), ("192.0.2.1", port), 100.0)
    assert len(witnesses._seen) == MAX_ADDRESSES
    assert max(len(peers) for peers in witnesses._seen.values()) == 8
    assert witnesses.counters["addresses_displaced"] == 999 - MAX_ADDRESSES
