"""Signals through a directory that both sides can write to: a share, or the same machine.

    DIRECTORY/TO-FROM-TIME.signal      353 bytes; TO and FROM are 16 hexadecimal digits of a hash of
                                       the key, TIME is 16 of nanoseconds, so that names sort

Who a file is from says its seal, not its name. A file is written whole or not at all, read once and
removed, and ignored and removed when it is older than a signal may be. What else stands in the
directory is left alone. signal_watch.py calls `poll` when something has changed.
"""

import contextlib
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from wgpy.keys import PublicKey
from wgpy.nat.signal_message import LIFE, MESSAGE_LENGTH
from wgpy.protocol.hashes import hash_

SUFFIX: Final = ".signal"
_TAG_DIGITS: Final = 16
# Read at a time: more than honest peers leave between two looks. The rest comes with the next one.
MAX_READ: Final = 64
# Entries of the directory that are looked at; a flood of files costs no more than this: 10 ms.
MAX_ENTRIES: Final = 16384
# Of ours for one peer that wait: one that is away finds the latest, and they are no use after 60 s.
MAX_WAITING: Final = 16


class FileSignal:
    """One node's side. `wall` is the clock that the files' times are of, in seconds since 1970."""

    def __init__(
        self, directory: Path, ours: PublicKey, wall: Callable[[], float] = time.time
    ) -> None:
        self.directory = directory
        self.counters: Counter[str] = Counter()
        self._ours = tag(ours)
        self._wall = wall
        self._callback: Callable[[bytes], None] | None = None
        # Entries that were seen the last time, others' included.
        self.entries = 0
        # What has a name of ours, is no file, and cannot be removed: it takes nobody's turn again.
        self._stuck: set[str] = set()

    def send(self, peer: PublicKey, data: bytes) -> None:
        """Leave a signal for a peer. Where that is impossible, it is lost and counted."""
        to = f"{tag(peer)}-{self._ours}-"
        try:
            self._clean(to)
            self._write(f"{to}{time.time_ns():0{_TAG_DIGITS}x}{SUFFIX}", data)
        except OSError:
            self.counters["not_written"] += 1
        else:
            self.counters["written"] += 1

    def listen(self, callback: Callable[[bytes], None]) -> None:
        """Call this with each signal that `poll` finds."""
        self._callback = callback

    def close(self) -> None:
        """Nothing is handed over any more."""
        self._callback = None

    def poll(self) -> int:
        """Take what has come for us, the oldest first; returns how many were handed over."""
        if self._callback is None:
            return 0
        found = []
        try:
            there = set(self._names(f"{self._ours}-"))
        except OSError:
            self.counters["not_readable"] += 1
            return 0
        self._stuck &= there
        names = sorted(there - self._stuck)[:MAX_READ]
        for name in names:
            data = self._take(name)
            if data is not None:
                found.append(data)
        for data in found:
            if self._callback is not None:
                self._callback(data)
        return len(found)

    def _names(self, prefix: str) -> Iterator[str]:
        with os.scandir(self.directory) as entries:
            for self.entries, entry in enumerate(entries, start=1):
                if self.entries > MAX_ENTRIES:
                    self.counters["directory_full"] += 1
                    return
                if entry.name.startswith(prefix) and entry.name.endswith(SUFFIX):
                    yield entry.name

    def _take(self, name: str) -> bytes | None:
        """The content of a file, which is removed; None if it is nothing for us."""
        path = self.directory / name
        try:
            # Whoever writes here could leave a pipe or a link.
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self.counters["not_readable"] += 1
            self._remove(name)
            return None
        try:
            status = os.fstat(fd)
            regular = stat.S_ISREG(status.st_mode) and status.st_size == MESSAGE_LENGTH
            data = os.read(fd, MESSAGE_LENGTH + 1) if regular else b""
        except OSError:
            data, regular = b"", False
        finally:
            os.close(fd)
        self._remove(name)
        if not regular or len(data) != MESSAGE_LENGTH:
            self.counters["malformed"] += 1
            return None
        if abs(self._wall() - status.st_mtime) > LIFE:
            self.counters["stale"] += 1
            return None
        self.counters["read"] += 1
        return data

    def _remove(self, name: str) -> None:
        try:
            (self.directory / name).unlink(missing_ok=True)
        except OSError:
            # A directory, or another's file in a sticky directory.
            self._stuck.add(name)

    def _clean(self, prefix: str) -> None:
        """Of what waits for this peer the latest stay."""
        waiting = sorted(self._names(prefix))
        for name in waiting[: max(0, len(waiting) - MAX_WAITING + 1)]:
            with contextlib.suppress(FileNotFoundError):  # the peer was faster
                (self.directory / name).unlink()

    def _write(self, name: str, data: bytes) -> None:
        # The name with a dot is nobody's to read. Nothing secret is in it: it is sealed.
        temporary = self.directory / f".{name}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(temporary, flags, 0o644)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
        os.replace(temporary, self.directory / name)


def tag(key: PublicKey) -> str:
    """16 hexadecimal digits that stand for a key in a file's name."""
    return hash_(bytes(key)).hex()[:_TAG_DIGITS]
