"""Giving up what a daemon does not need: capabilities, new privileges, core dumps, writing files;
and an end together with whoever started it.

capabilities(7), prctl(2), landlock(7). Python has no calls for these, so they go through libc.
"""

import ctypes
import os
import resource
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

CAP_NET_BIND_SERVICE = 10
CAP_NET_BROADCAST = 11
CAP_NET_ADMIN = 12

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4

_CAPABILITY_VERSION_3 = 0x20080522

# The same numbers on every architecture (asm-generic/unistd.h).
_SYS_LANDLOCK_CREATE_RULESET = 444
_SYS_LANDLOCK_ADD_RULE = 445
_SYS_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
_LANDLOCK_RULE_PATH_BENEATH = 1

# Landlock's first version: execute, write, read, list, and every way to make or remove a file.
_ACCESS_WRITE_FILE = 1 << 1
_ACCESS_CHANGES = _ACCESS_WRITE_FILE | sum(1 << bit for bit in range(4, 13))

# wgpyd asks for these alone (docs/architecture.md, Processes): to configure sockets and follow the
# link, to bind any port at any time, and to hear of a link in another namespace.
DAEMON_CAPABILITIES = frozenset((CAP_NET_ADMIN, CAP_NET_BIND_SERVICE, CAP_NET_BROADCAST))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    """syscall(2), each number as wide as a register."""
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return int(_libc().syscall(ctypes.c_long(number), *wide))


def _check(result: int, what: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), what)
    return result


def ended_with_parent(number: int) -> Callable[[], None]:
    """For `preexec_fn`: the program gets this signal when the thread that starts it ends."""
    # Found before the fork: after it there is no time to load anything.
    prctl = _libc().prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)

    return ask


def no_core_dumps() -> None:
    """No core file and no attaching debugger of another user: keys stay in memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _check(_libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "PR_SET_DUMPABLE")


def keep_capabilities(keep: Iterable[int] = DAEMON_CAPABILITIES) -> None:
    """Drop every capability but these, for good. Raises OSError."""
    libc = _libc()
    wanted = set(keep)
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    effective = _effective()
    for capability in range(last + 1):
        # The bounding set can be narrowed only with CAP_SETPCAP; without it, it is of no use
        # either, for no_new_privs keeps files from granting anything.
        if capability not in wanted and effective >> 8 & 1:
            _check(libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0), "PR_CAPBSET_DROP")
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    mask = sum(1 << capability for capability in wanted) & effective
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = struct.pack("=6I", low, low, 0, high, high, 0)
    _check(libc.capset(header, data), "capset")


def _effective() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    raise OSError("/proc/self/status has no CapEff line")


def forbid_writing(except_in: Iterable[Path]) -> bool:
    """Let this process change files in these directories only. False where Landlock is missing.

    Call it after `keep_capabilities`, and with no other thread running. Descriptors that are open
    already go on working. Raises OSError.
    """
    version = _syscall(_SYS_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_CREATE_RULESET_VERSION)
    if version < 1:
        return False
    attribute = struct.pack("=Q", _ACCESS_CHANGES)
    ruleset = _check(
        _syscall(_SYS_LANDLOCK_CREATE_RULESET, attribute, len(attribute), 0),
        "landlock_create_ruleset",
    )
    try:
        for directory in except_in:
            fd = os.open(directory, os.O_PATH | os.O_CLOEXEC)
            try:
                rule = struct.pack("=Qi", _ACCESS_CHANGES, fd)
                kind = _LANDLOCK_RULE_PATH_BENEATH
                _check(
                    _syscall(_SYS_LANDLOCK_ADD_RULE, ruleset, kind, rule, 0), "landlock_add_rule"
                )
            finally:
                os.close(fd)
        _check(_syscall(_SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    finally:
        os.close(ruleset)
    return True
