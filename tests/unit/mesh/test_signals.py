"""Signals between the directory of a daemon and the messages of a coordinator."""

import os
from pathlib import Path

import pytest

from tests.support.stores import key
from wgpy.mesh.place import Place
from wgpy.mesh.signals import BURST, Signal, Signals
from wgpy.nat.signal_file import FileSignal
from wgpy.nat.signal_message import LIFE, MESSAGE_LENGTH

OURS, THEIRS, STRANGER = key(1), key(2), key(3)
DATA = bytes(range(256)) + bytes(MESSAGE_LENGTH - 256)


class Clock:
    """Two clocks: what passes, and what the wall says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ahead = 0.0

    def wall(self) -> float:
        import time

        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def signals(tmp_path: Path, clock: Clock) -> Signals:
    place = Place("mesh0", tmp_path, tmp_path)
    place.make_signals()
    made = Signals(place, OURS, lambda: clock.now, clock.wall)
    made.set_nodes([THEIRS])
    return made


def daemon(signals: Signals) -> FileSignal:
    """Our daemon's side of the directory."""
    return FileSignal(signals.directory, OURS)


def test_what_the_daemon_says_is_taken_once(signals: Signals) -> None:
    daemon(signals).send(THEIRS, DATA)
    assert signals.take() == [Signal(THEIRS, DATA)]
    assert signals.take() == []
    assert os.listdir(signals.directory) == []


def test_what_comes_is_read_by_the_daemon(signals: Signals) -> None:
    heard: list[bytes] = []
    box = daemon(signals)
    box.listen(heard.append)
    signals.deliver(THEIRS, DATA)
    assert signals.take() == [], "what is for us is none of those that go out"
    assert box.poll() == 1
    assert heard == [DATA]


def test_the_oldest_goes_first(signals: Signals) -> None:
    signals.set_nodes([THEIRS, STRANGER])
    box = daemon(signals)
    sent = [(THEIRS, b"a"), (STRANGER, b"b"), (THEIRS, b"c"), (STRANGER, b"d")]
    for to, mark in sent:
        box.send(to, mark + DATA[1:])
    assert [(x.to, x.data[:1]) for x in signals.take()] == sent


def test_strangers_neither_hear_nor_speak(signals: Signals) -> None:
    daemon(signals).send(STRANGER, DATA)
    assert signals.take() == []
    signals.deliver(STRANGER, DATA)
    assert os.listdir(signals.directory) == []
    assert signals.counters == {"signals_of_nobody": 1, "signals_from_nobody": 1}


def test_an_old_one_is_of_no_use(signals: Signals, clock: Clock) -> None:
    daemon(signals).send(THEIRS, DATA)
    clock.ahead = LIFE + 1.0
    assert signals.take() == []
    assert signals.counters == {"signals_lost": 1}
    assert os.listdir(signals.directory) == []


def test_junk_is_no_signal(signals: Signals) -> None:
    box = daemon(signals)
    box.send(THEIRS, DATA[:-1])
    box.send(THEIRS, DATA)
    name = min(os.listdir(signals.directory))
    (signals.directory / f"{name[:-7]}-more").write_text("no signal")
    link = name.replace(".signal", "0.signal")
    (signals.directory / link).symlink_to("/etc/hostname")
    signals.deliver(THEIRS, DATA + b"1")
    assert [x.data for x in signals.take()] == [DATA]
    assert signals.counters["signals_malformed"] == 1
    assert signals.counters["signals_lost"] == 2


def test_a_flood_from_a_coordinator_has_a_bound(signals: Signals, clock: Clock) -> None:
    for _ in range(int(BURST) + 50):
        signals.deliver(THEIRS, DATA)
    assert signals.counters["signals_too_many"] == 50
    clock.now += 1.0
    signals.deliver(THEIRS, DATA)
    assert signals.counters["signals_too_many"] == 50


def test_a_directory_that_is_gone_is_counted(signals: Signals) -> None:
    signals.directory.rmdir()
    assert signals.take() == []
    signals.deliver(THEIRS, DATA)
    assert signals.counters == {"signals_not_readable": 1, "signals_not_written": 1}
