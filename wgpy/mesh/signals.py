"""Sealed signals between the daemon and the coordinator: files on one side, messages on the other.

The daemon leaves a file for each peer that it wants to meet, and reads those that are for us
(nat/signal_file.py has their names). The agent takes the ones away that are for others, and leaves
what comes from them. Whoever carries a signal can neither read nor change it.
"""

import contextlib
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from wgpy.keys import PublicKey
from wgpy.mesh.place import Place
from wgpy.nat.signal_file import SUFFIX, FileSignal, tag
from wgpy.nat.signal_message import LIFE, MESSAGE_LENGTH

# Taken at one look: more than a daemon leaves for a whole minute of meeting everybody it may.
MAX_TAKEN: Final = 256
# From others, in a second and at once: the coordinator lets 20 through from each, of many. A file
# each is written, and the daemon has its own bounds behind.
RATE: Final = 200.0
BURST: Final = 400.0


class Signal(NamedTuple):
    """A signal of 353 bytes for a node."""

    to: PublicKey
    data: bytes


class Signals:
    """The directory of signals of the node with the key `own`. `clock` never goes back, `wall` is
    that of the files. What cannot be read or written is lost and counted."""

    def __init__(
        self,
        place: Place,
        own: PublicKey,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.directory = place.signals
        self.counters: Counter[str] = Counter()
        self._own = own
        self._own_tag = tag(own)
        self._clock = clock
        self._wall = wall
        self._tags: dict[str, PublicKey] = {}
        self._room = BURST
        self._at = clock()

    def set_nodes(self, keys: Iterable[PublicKey]) -> None:
        """Those whom signals may be for, and may come from."""
        self._tags = {tag(key): key for key in keys}

    def take(self) -> list[Signal]:
        """What the daemon has for others, the oldest first; the files are gone after this."""
        try:
            names = [x for x in os.listdir(self.directory) if x.endswith(SUFFIX)]
        except OSError:
            self.counters["signals_not_readable"] += 1
            return []
        found = []
        # By the time in them: names begin with the hash of whom they are for.
        for name in sorted(names, key=lambda x: x.rpartition("-")[2])[:MAX_TAKEN]:
            to, _, rest = name.partition("-")
            if to == self._own_tag or not rest.startswith(f"{self._own_tag}-"):
                continue
            data = self._read(name)
            key = self._tags.get(to)
            if data is None:
                self.counters["signals_lost"] += 1
            elif key is None:
                self.counters["signals_of_nobody"] += 1
            else:
                found.append(Signal(key, data))
        return found

    def _read(self, name: str) -> bytes | None:
        path = self.directory / name
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            status = os.fstat(fd)
            data = os.read(fd, MESSAGE_LENGTH + 1) if stat.S_ISREG(status.st_mode) else b""
        except OSError:
            return None
        finally:
            os.close(fd)
            with contextlib.suppress(OSError):  # it is gone already, which is what was wanted
                path.unlink()
        is_old = abs(self._wall() - status.st_mtime) > LIFE
        return None if is_old or len(data) != MESSAGE_LENGTH else data

    def deliver(self, sender: PublicKey, data: bytes) -> None:
        """Leave for our daemon what a node has sent."""
        now = self._clock()
        self._room = min(BURST, self._room + (now - self._at) * RATE)
        self._at = now
        if self._tags.get(tag(sender)) != sender:
            self.counters["signals_from_nobody"] += 1
        elif self._room < 1:
            self.counters["signals_too_many"] += 1
        elif len(data) != MESSAGE_LENGTH:
            self.counters["signals_malformed"] += 1
        else:
            self._room -= 1
            box = FileSignal(self.directory, sender, self._wall)
            box.send(self._own, data)
            self.counters.update({f"signals_{x}": n for x, n in box.counters.items()})
