"""The shell around signal_file.py: looks into the directory when something has changed in it.

inotify tells at once what a process on this machine wrote, and nothing of what came over a network
file system, so the directory is looked at every second as well.
"""

import asyncio
from typing import Final

from wgpy.linux.watch import Watch
from wgpy.nat.signal_file import FileSignal

LOOK_SECONDS: Final = 1.0
# From one look to the next, whatever happens in the directory: the first of several changes is
# looked at at once. A large directory takes milliseconds, which others could make us spend.
LEAST_GAP: Final = 0.02
LARGE: Final = 1024
LARGE_GAP: Final = 0.2


class SignalWatch:
    """Polls a FileSignal from the running event loop until `close`. Raises OSError if there is no
    such directory."""

    def __init__(self, signal: FileSignal) -> None:
        self._signal = signal
        self._loop = asyncio.get_running_loop()
        self._watch = Watch()
        try:
            self._watch.follow([str(signal.directory)])
        except OSError:
            self._watch.close()
            raise
        self._loop.add_reader(self._watch.fd, self._changed)
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)
        self._next: asyncio.TimerHandle | None = None
        self._not_before = 0.0
        self._loop.call_soon(self._poll)

    def close(self) -> None:
        """Stop. What waits in the directory stays there."""
        self._timer.cancel()
        if self._next is not None:
            self._next.cancel()
        self._loop.remove_reader(self._watch.fd)
        self._watch.close()
        self._signal.close()

    def _changed(self) -> None:
        self._watch.acknowledge()
        if self._next is None:
            self._next = self._loop.call_at(self._not_before, self._poll)

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)
        self._poll()

    def _poll(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self._signal.poll()
        gap = LARGE_GAP if self._signal.entries > LARGE else LEAST_GAP
        self._not_before = self._loop.time() + gap
