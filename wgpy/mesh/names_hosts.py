"""Names in /etc/hosts: a marked block of our own, every other byte left as it is.

The block ends the file. If the last line before it had no end, the opening mark says so, and taking
the block away takes that line's end away again. The file is replaced whole; owner, group, mode and
extended attributes stay, and a symbolic link goes on naming it. Where the file is a mount of its
own, as in containers, it cannot be replaced, and is written in place from where it differs on.
"""

import contextlib
import errno
import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from wgpy.ip import address_text

HOSTS: Final = Path("/etc/hosts")
# glibc reads the file from its beginning for each name that it looks up: 20,000 lines, 10,000
# nodes of two addresses each, take it 2 ms.
MAX_LINES: Final = 20_000
# What a file that somebody else fills may have beside them.
MAX_BYTES: Final = 8 << 20
# Another program may replace the file at the same moment: its change is read, and kept.
_TRIES: Final = 5
_JOINED: Final = b" (the line before had no end)"
_BEGIN: Final = re.compile(rb"# BEGIN wgpy [^\s:]+(?=:)")


class HostsError(Exception):
    """The file cannot be read or changed: one line."""


def lines_for(names: Mapping[str, tuple[bytes, ...]]) -> tuple[list[bytes], int]:
    """The lines of the block, by name, and how many more there would be than it may have."""
    lines = [
        f"{address_text(address)}\t{name}\n".encode()
        for name, addresses in sorted(names.items())
        for address in addresses
    ]
    return lines[:MAX_LINES], max(0, len(lines) - MAX_LINES)


def with_block(text: bytes, interface: str, domain: str, lines: list[bytes]) -> bytes:
    """The file with the interface's block at its end, instead of one that it has.

    Raises HostsError for a block without an end.
    """
    text = without_block(text, interface)
    joined = b"" if not text or text.endswith(b"\n") else _JOINED
    begin, end = _marks(interface)
    about = f": names of {domain}, kept by wgpy; not for editing\n".encode()
    return b"".join([text, b"\n" if joined else b"", begin, joined, about, *lines, end, b"\n"])


def without_block(text: bytes, interface: str) -> bytes:
    """The file as it was before. Raises HostsError for a block without an end."""
    begin, end = _marks(interface)
    kept: list[bytes] = []
    inside = joined = False
    for line in text.splitlines(keepends=True):
        if not inside and line.startswith((begin + b":", begin + _JOINED)):
            inside, joined = True, line.startswith(begin + _JOINED)
        elif inside and line.rstrip(b"\r\n") == end:
            inside = False
        elif not inside:
            if joined and (other := _BEGIN.match(line)):
                # The next block is now the one that the line's end was added for.
                line = other[0] + _JOINED + line[other.end() :]
            kept.append(line)
            joined = False
    if inside:
        raise HostsError(
            f"the block of {interface} has lost its last line, `{end.decode()}`; remove by hand "
            "what is left of it"
        )
    if joined and kept:
        kept[-1] = kept[-1].removesuffix(b"\n")
    return b"".join(kept)


def _marks(interface: str) -> tuple[bytes, bytes]:
    return f"# BEGIN wgpy {interface}".encode(), f"# END wgpy {interface}".encode()


def change(change_text: Callable[[bytes], bytes], path: Path, lock: Path) -> bool:
    """Change the file; whether anything was to be changed. `lock` keeps two of ours apart.

    Raises HostsError.
    """
    try:
        with _locked(lock):
            for _ in range(_TRIES):
                done = _change_once(change_text, path)
                if done is not None:
                    return done
    except HostsError as error:
        raise HostsError(f"{path}: {error}") from None
    except OSError as error:
        raise HostsError(f"{path} cannot be changed: {error.strerror or error}") from None
    raise HostsError(f"{path} is being changed all the time by another program")


def _change_once(change_text: Callable[[bytes], bytes], path: Path) -> bool | None:
    """None if somebody else changed it meanwhile."""
    # Where a link points to is what is replaced.
    target = os.path.realpath(path)
    before, was = _read(target)
    after = change_text(before)
    if after == before:
        return False
    if was is None:
        was_mode, owner = 0o644, (0, 0)
    else:
        was_mode, owner = stat.S_IMODE(was.st_mode), (was.st_uid, was.st_gid)
    directory, name = os.path.split(target)
    fd, temporary = tempfile.mkstemp(prefix=f".{name}.wgpy.", suffix=".tmp", dir=directory)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(after)
            made = os.fstat(file.fileno())
            # A service may have no right to give files away, and need none.
            if owner != (made.st_uid, made.st_gid):
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), was_mode)
            if was is not None:
                _copy_attributes(target, file.fileno())
            file.flush()
            os.fsync(file.fileno())
        if _read(target)[0] != before:
            return None
        try:
            os.replace(temporary, target)
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EXDEV):
                raise
            _write_in_place(target, before, after)
    finally:
        # It has its final name already, if all went well.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    _sync_directory(directory)
    return True


def _read(target: str) -> tuple[bytes, os.stat_result | None]:
    try:
        with open(target, "rb") as file:
            text = file.read(MAX_BYTES + 1)
            if len(text) > MAX_BYTES:
                raise HostsError(f"it has more than {MAX_BYTES >> 20} MiB, and is left as it is")
            return text, os.fstat(file.fileno())
    except FileNotFoundError:
        return b"", None


def _copy_attributes(target: str, fd: int) -> None:
    """Extended attributes, a security context among them, where the filesystem has any."""
    for name in os.listxattr(target):
        # Some are the kernel's own, which nobody may set.
        with contextlib.suppress(OSError):
            os.setxattr(fd, name, os.getxattr(target, name))


def _write_in_place(target: str, before: bytes, after: bytes) -> None:
    """One write, from the first byte that differs: the lines of others before it stay."""
    shorter = min(len(before), len(after))
    same = next((at for at in range(shorter) if before[at] != after[at]), shorter)
    with open(target, "r+b", buffering=0) as file:
        file.seek(same)
        file.write(after[same:])
        file.truncate(len(after))
        os.fsync(file.fileno())


def _sync_directory(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
