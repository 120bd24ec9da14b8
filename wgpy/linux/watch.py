"""Following files that others replace: inotify(7), of which Python has no calls."""

import ctypes
import os
from collections.abc import Iterable

# Written to the end, renamed into or out of the place, removed, or the directory itself gone.
_IN_CLOSE_WRITE = 0x8
_IN_MOVED_FROM = 0x40
_IN_MOVED_TO = 0x80
_IN_DELETE = 0x200
_IN_DELETE_SELF = 0x400
_IN_MOVE_SELF = 0x800
_MASK = (
    _IN_CLOSE_WRITE | _IN_MOVED_FROM | _IN_MOVED_TO | _IN_DELETE | _IN_DELETE_SELF | _IN_MOVE_SELF
)
# One read takes several hundred events; what they say is not looked at.
_READ_SIZE = 1 << 16


class Watch:
    """Readable at `fd` after something changed in a watched directory, or beside a watched file.

    A file is watched by its directory: whoever replaces a file renames a new one over it, and the
    old inode hears nothing. So a neighbour's change wakes us too; the caller compares and goes on.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._watched: dict[str, int] = {}

    def follow(self, paths: Iterable[str]) -> None:
        """Watch these files and directories, and nothing else. What is not there is watched by its
        directory until it comes; where that is missing too, OSError is raised."""
        wanted = {path if os.path.isdir(path) else os.path.dirname(path) or "." for path in paths}
        # Added anew each time: a directory that was removed and made again is another one.
        added: dict[str, int] = {}
        for directory in wanted:
            number = self._libc.inotify_add_watch(self.fd, os.fsencode(directory), _MASK)
            if number < 0:
                raise OSError(ctypes.get_errno(), "inotify_add_watch", directory)
            added[directory] = number
        for number in set(self._watched.values()) - set(added.values()):
            # Refused when the kernel has dropped it already, with its directory.
            self._libc.inotify_rm_watch(self.fd, number)
        self._watched = added

    def acknowledge(self) -> None:
        """Take note of every change so far."""
        try:
            while os.read(self.fd, _READ_SIZE):
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)
