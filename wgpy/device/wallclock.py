"""The wall clock of initiations, which never goes back behind what an earlier run used.

A peer refuses an initiation whose timestamp is not above the last one (whitepaper 5.4.2). A machine
without a battery for its clock starts in the past, and would be refused until its clock was set:
so the time last used is kept on disk, and is the floor of the next run.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

_log = logging.getLogger(__name__)

STATE_DIRECTORY = Path("/var/lib/wgpy")

# What is on disk is this far ahead of the time in use, so that a crash loses nothing; it is written
# when a stamp needs it, which handshakes do every two minutes for a busy peer.
AHEAD_NS = 10 * 10**9
# While we are ahead of the wall clock the margin is smaller: it is what the next crash adds, and
# peers refuse a stamp of a credential handshake that is 300 s ahead.
_MORE_AHEAD_NS = 10**9
# So much is what crashes leave, or a clock that was set back a little: we go at half speed until
# the wall clock has caught up. More is a clock that is wrong, and stands nowhere near the truth.
_CATCH_UP_NS = 300 * 10**9
# Less than this is the margin above, or a clock that was set a little.
_WORTH_A_WARNING_NS = 60 * 10**9


class WallClock:
    """Nanoseconds since the epoch for timestamps; call it. Times are kept in `path`."""

    def __init__(
        self,
        path: Path,
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        boot_ns: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    ) -> None:
        self._path = path
        self._wall_ns = wall_ns
        self._boot_ns = boot_ns
        self._floor = self._read()
        self._started = boot_ns()
        self._on_disk = self._floor
        self._waits = self._floor <= wall_ns() + _CATCH_UP_NS
        if self._floor > wall_ns() + _WORTH_A_WARNING_NS:
            _log.warning("the clock is behind the last run: timestamps go on from there")

    def _read(self) -> int:
        try:
            text = self._path.read_text("ascii")
        except FileNotFoundError:
            return 0
        except (OSError, UnicodeError) as error:
            _log.warning("%s cannot be read: %s", self._path, error)
            return 0
        return int(text) if text.strip().isdigit() else 0

    def __call__(self) -> int:
        """The time for a stamp that is made now."""
        passed = self._boot_ns() - self._started
        if self._waits:
            passed //= 2
        wall = self._wall_ns()
        now = max(wall, self._floor + passed if self._floor else 0)
        if now >= self._on_disk:
            self._save(now + (AHEAD_NS if now == wall else _MORE_AHEAD_NS))
        return now

    def close(self) -> None:
        """Leave the time last used behind, without the margin."""
        if self._on_disk > self._floor:
            self._save(self() + 1)

    def _save(self, now: int) -> None:
        self._on_disk = now
        temporary = self._path.with_suffix(".new")
        try:
            temporary.write_text(str(now), "ascii")
            os.replace(temporary, self._path)
        except OSError as error:
            # A read-only or full disk costs the floor of the next start, nothing now.
            _log.warning("%s cannot be written: %s", self._path, error.strerror)


def make_state_directory() -> None:
    """Make STATE_DIRECTORY, for root alone. Where that fails the clock says so when it saves."""
    with contextlib.suppress(OSError):
        STATE_DIRECTORY.mkdir(mode=0o700, parents=True, exist_ok=True)
