"""Named network namespaces, as ip-netns(8) knows them: make, enter, remove.

A namespace is a file in /run/netns that a namespace is mounted on. Needs CAP_SYS_ADMIN.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

DIRECTORY: Final = Path("/run/netns")

# linux/sched.h, linux/mount.h
_CLONE_NEWNET: Final = 0x40000000
_MS_BIND: Final = 0x1000
_MS_REC: Final = 0x4000
_MS_SHARED: Final = 1 << 20
_MNT_DETACH: Final = 2

_OWN: Final = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)


def exists(name: str) -> bool:
    """Whether a namespace, or what is left of one, has this name."""
    return (DIRECTORY / name).exists()


def create(name: str) -> None:
    """Make a namespace; the caller stays where it is. Raises OSError."""
    _share_directory()
    path = DIRECTORY / name
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
    try:
        with _returning_home():
            _check(_libc.unshare(_CLONE_NEWNET), "unshare")
            _mount(_OWN, path, _MS_BIND)
    except BaseException:
        remove(name)
        raise


def remove(name: str) -> None:
    """Remove a namespace, if there is one. Raises OSError.

    It and its links go when the last process has left it.
    """
    path = DIRECTORY / name
    # A file that nothing is mounted on (a creation that failed) gives EINVAL, which is as good.
    _libc.umount2(os.fsencode(path), _MNT_DETACH)
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """Put the calling thread into a namespace, and back at the end. Raises OSError.

    Sockets that are made inside stay inside; so do processes that are started there.
    """
    target = os.open(DIRECTORY / name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with _returning_home():
            _check(_libc.setns(target, _CLONE_NEWNET), "setns")
            yield
    finally:
        os.close(target)


@contextlib.contextmanager
def _returning_home() -> Iterator[None]:
    home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        _check(_libc.setns(home, _CLONE_NEWNET), "setns")
        os.close(home)


def _share_directory() -> None:
    """Make /run/netns a shared mount, so that other mount namespaces see what is made in it.

    ip-netns(8) does the same; a directory becomes a mount by being mounted on itself.
    """
    DIRECTORY.mkdir(mode=0o755, exist_ok=True)
    try:
        _mount("", DIRECTORY, _MS_SHARED | _MS_REC)
    except OSError:
        _mount(str(DIRECTORY), DIRECTORY, _MS_BIND | _MS_REC)
        _mount("", DIRECTORY, _MS_SHARED | _MS_REC)


def _mount(source: str, target: Path, flags: int) -> None:
    code = _libc.mount(source.encode(), os.fsencode(target), b"none", flags, None)
    _check(code, f"mount {target}")


def _check(code: int, what: str) -> None:
    if code != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
