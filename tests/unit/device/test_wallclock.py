"""Timestamps never go back, whatever the machine's clock does between two runs."""

from pathlib import Path

from wgpy.device.wallclock import AHEAD_NS, WallClock

SECOND = 10**9
DAY = 86_400 * SECOND


class Clocks:
    def __init__(self, wall: int) -> None:
        self.wall = wall
        self.boot = 5 * SECOND

    def make(self, path: Path) -> WallClock:
        return WallClock(path, wall_ns=lambda: self.wall, boot_ns=lambda: self.boot)


def test_a_right_clock_is_used_as_it_is(tmp_path: Path) -> None:
    clocks = Clocks(1000 * DAY)
    clock = clocks.make(tmp_path / "wg0.clock")
    assert clock() == 1000 * DAY
    clocks.wall += SECOND
    assert clock() == 1000 * DAY + SECOND


def test_a_clock_that_starts_in_the_past_goes_on_from_the_last_run(tmp_path: Path) -> None:
    path = tmp_path / "wg0.clock"
    last = Clocks(1000 * DAY).make(path)()
    after = Clocks(3 * DAY)
    clock = after.make(path)
    first = clock()
    assert first > last
    after.boot += 7 * SECOND
    assert clock() == first + 7 * SECOND
    # Once the clock is set right, it is used again.
    after.wall = 1001 * DAY
    assert clock() == 1001 * DAY


def test_a_crash_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "wg0.clock"
    clocks = Clocks(1000 * DAY)
    clock = clocks.make(path)
    clock()
    clocks.wall += AHEAD_NS - 1
    last = clock()
    assert Clocks(0).make(path)() > last


def test_after_a_crash_the_wall_clock_catches_up(tmp_path: Path) -> None:
    path = tmp_path / "wg0.clock"
    clocks = Clocks(1000 * DAY)
    clocks.make(path)()
    clock, before = clocks.make(path), 0
    for _ in range(2 * AHEAD_NS // SECOND + 1):
        now = clock()
        assert now > before
        before = now
        clocks.wall += SECOND
        clocks.boot += SECOND
    assert clock() == clocks.wall


def test_a_hundred_crashes_are_not_a_hundred_times_ahead(tmp_path: Path) -> None:
    """Peers refuse credentials with a stamp that is far ahead, and ours would be over early."""
    path = tmp_path / "wg0.clock"
    clocks = Clocks(1000 * DAY)
    last = 0
    for _ in range(100):
        clock = clocks.make(path)
        for _ in range(3):
            now = clock()
            assert now > last
            last = now
            clocks.wall += SECOND
            clocks.boot += SECOND
    assert last < clocks.wall + AHEAD_NS + 2 * SECOND


def test_after_a_clean_end_nothing_is_ahead(tmp_path: Path) -> None:
    path = tmp_path / "wg0.clock"
    clocks = Clocks(1000 * DAY)
    for _ in range(5):
        clock = clocks.make(path)
        assert clock() - clocks.wall < SECOND
        clock.close()


def test_a_spoilt_file_is_no_floor(tmp_path: Path) -> None:
    path = tmp_path / "wg0.clock"
    path.write_text("yesterday")
    assert Clocks(1000 * DAY).make(path)() == 1000 * DAY


def test_a_disk_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    clock = Clocks(1000 * DAY).make(tmp_path / "missing" / "wg0.clock")
    assert clock() == 1000 * DAY
