"""Whether files have changed since they were read: what a cheap look at them says."""

import os
from collections.abc import Iterable

from wgpy.keys import StrPath

# A file's path, and when and as what it was last written; None where it is not there.
Stamp = tuple[tuple[str, tuple[int, int, int, int] | None], ...]


def stamp(paths: Iterable[StrPath]) -> Stamp:
    """The state of files, and of directories with the files in them. Raises nothing.

    Two stamps are equal if nothing was written in between: a file that is replaced has another
    inode, one that is written in place another time of change, which nobody can set back.
    """
    found = []
    for path in paths:
        found.append((os.fspath(path), _state(path)))
        try:
            names = sorted(os.listdir(path))
        except OSError:
            # A file, or nothing at all: its own state says it.
            continue
        found += [(inside, _state(inside)) for inside in (os.path.join(path, x) for x in names)]
    return tuple(found)


def _state(path: StrPath) -> tuple[int, int, int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
