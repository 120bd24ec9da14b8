"""Network namespaces for tests, joined by veth links, that clean up after themselves.

    with pair() as net:
        net.left.run("ping", "-c1", net.right.v4)

The topology that `pair` builds, with the loopback of both sides up:

      namespace left                                        namespace right
    ┌──────────────────────┐                              ┌──────────────────────┐
    │ lo    127.0.0.1, ::1 │                              │ lo    127.0.0.1, ::1 │
    │ veth0 10.91.0.1/24   │                              │ veth0 10.91.0.2/24   │
    │       fd91::1/64     ├──────────── veth ────────────┤       fd91::2/64     │
    └──────────────────────┘                              └──────────────────────┘

Nothing leaves the two namespaces. A namespace's name says which process owns it, so that
what a crashed run left behind can be told from what is in use (`remove_leftovers`).
"""

import contextlib
import ctypes
import errno
import fcntl
import itertools
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tests.support.commands import (
    GRACE,
    LIFE,
    RUN_TIMEOUT,
    CommandError,
    Process,
    memory_file,
    run,
    wait_until,
)

# What tests of namespaces need beside them can be had from here.
__all__ = [
    "UAPI_DIRECTORY",
    "CommandError",
    "Namespace",
    "Pair",
    "Process",
    "ip",
    "join",
    "link_name",
    "pair",
    "remove_leftovers",
    "remove_own_files",
    "wait_until",
]

PREFIX = "wgpyt"
LINK_PREFIX = "wgt"
UAPI_DIRECTORY = Path("/var/run/wireguard")
RUN_DIRECTORY = Path("/run/wgpy")
STATE_DIRECTORY = Path("/var/lib/wgpy")

# setns(2): the kind of namespace that we enter.  ioctl and sub-command of linux/ethtool.h.
CLONE_NEWNET = 0x40000000
SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM = 0x17

# A link's name in those of its files: `wgt12x3.sock`, `quick@wgt12x3.lock`.
_OWNED = re.compile(rf"(?:[a-z]+@)?{LINK_PREFIX}(\d+)x\d+\..+")

Result = TypeVar("Result")

_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count()
_links = itertools.count()


def _start_time(pid: int) -> str | None:
    """The process's start in clock ticks (proc(5), stat field 22), or None if there is none.

    Raises OSError where that cannot be known: one that lives is not to be taken for a dead one.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return stat.rpartition(")")[2].split()[19]


def link_name() -> str:
    """A name for an interface, used by no other test: UAPI sockets share one directory."""
    return f"{LINK_PREFIX}{os.getpid()}x{next(_links)}"


class Namespace:
    """One network namespace with its loopback up; a context manager.

    `v4`, `v6` and `link` are the addresses (no prefix length) and name of the veth end that
    `pair` or `join` put into it; empty before.
    """

    def __init__(self, role: str = "ns") -> None:
        pid = os.getpid()
        self.name = f"{PREFIX}-{pid}-{_start_time(pid)}-{next(_numbers)}-{role}"
        self.v4 = ""
        self.v6 = ""
        self.link = ""
        self._processes: list[Process] = []
        ip("netns", "add", self.name)
        try:
            self.ip("link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def argv(self, *command: str) -> list[str]:
        """The command line that runs `command` inside; it dies with the thread that starts it."""
        return [
            *("ip", "netns", "exec", self.name),
            *("setpriv", "--pdeathsig", "KILL", "--"),
            *command,
        ]

    def run(
        self,
        *command: str,
        timeout: float = RUN_TIMEOUT,
        check: bool = True,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside and return it with its output; CommandError, one line, if it fails.

        `check=False` returns failures too. `env` is added to the environment.
        """
        return run(self.argv(*command), command, timeout, check, stdin, env)

    def ip(self, *arguments: str) -> str:
        """ip(8) on this namespace; returns what it printed."""
        return ip("-n", self.name, *arguments)

    def popen(
        self,
        *command: str,
        life: float = LIFE,
        env: Mapping[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> Process:
        """Start a program inside; it ends with the namespace, after `life` seconds at most."""
        log = memory_file(command[0])
        child = subprocess.Popen(
            self.argv(*command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            pass_fds=pass_fds,
            start_new_session=True,
        )
        process = Process(child, log, life)
        self._processes.append(process)
        return process

    def inside(self, call: Callable[[], Result]) -> Result:
        """Return `call()`, made in a thread of its own that has entered the namespace.

        A socket that it opens belongs to this namespace for ever, whoever uses it.
        """
        results: list[Result] = []
        errors: list[BaseException] = []

        def enter_and_call() -> None:
            try:
                descriptor = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns", self.name)
                finally:
                    os.close(descriptor)
                results.append(call())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=enter_and_call)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def socket(
        self, family: socket.AddressFamily, kind: socket.SocketKind, protocol: int = 0
    ) -> socket.socket:
        """A socket of this namespace, for use from anywhere; the caller closes it."""
        return self.inside(lambda: socket.socket(family, kind, protocol))

    def disable_offloads(self, link: str) -> None:
        """Let the kernel finish each frame (checksum, segmentation) before `link` takes it.

        Without this a capture holds frames of 64 KB and checksums that are not filled in. The
        loopback has no such switch.
        """
        value = ctypes.create_string_buffer(struct.pack("=II", ETHTOOL_STXCSUM, 0))
        request = struct.pack("16sP16x", link.encode(), ctypes.addressof(value))
        with self.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            try:
                fcntl.ioctl(control, SIOCETHTOOL, request)
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise

    def pids(self) -> list[int]:
        """The processes whose network namespace this is, daemons included."""
        return _pids(self.name)

    def add_address(self, link: str, *addresses: str) -> None:
        """Give `link` addresses with prefix lengths; IPv6 ones are usable at once (nodad)."""
        for address in addresses:
            extra = ("nodad",) if ":" in address else ()
            self.ip("address", "add", address, "dev", link, *extra)

    def ping(self, address: str, count: int = 1, *, size: int = 56, wait: int = 5) -> None:
        """ping(8) until `count` are answered, with `size` payload bytes each.

        CommandError if they are not in `wait` seconds. The first may have to wait for a
        handshake, and ten more are sent each second meanwhile.
        """
        options = ("-n", "-c", str(count), "-i", "0.1", "-s", str(size), "-w", str(wait))
        self.run("ping", *options, address, timeout=wait + 10)

    def can_ping(self, address: str, wait: int = 1) -> bool:
        """Whether one ping is answered within `wait` seconds."""
        options = ("-n", "-c", "1", "-w", str(wait))
        return self.run("ping", *options, address, check=False).returncode == 0

    def close(self) -> None:
        """End every process inside and delete the namespace, and with it every link in it."""
        for process in reversed(self._processes):
            process.close()
        self._processes.clear()
        _delete(self.name)


def ip(*arguments: str) -> str:
    """ip(8); returns what it printed, CommandError if it fails."""
    command = ("ip", *arguments)
    return run(list(command), command, RUN_TIMEOUT, True, None, None).stdout


def _pids(name: str) -> list[int]:
    done = subprocess.run(
        ["ip", "netns", "pids", name], capture_output=True, text=True, check=False
    )
    return [int(word) for word in done.stdout.split()]


def _delete(name: str) -> None:
    """Kill what still runs in the namespace (it may have become a daemon), then delete it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        pids = _pids(name)
        for pid in pids:
            # It may end by itself between the list and the signal.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + GRACE
        while pids and _pids(name) and time.monotonic() < deadline:
            time.sleep(0.02)
    if Path("/run/netns", name).exists():
        ip("netns", "delete", name)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two namespaces joined by a veth (the module's drawing)."""

    left: Namespace
    right: Namespace

    def set_mtu(self, mtu: int) -> None:
        """Set the MTU of both ends of the veth; at most 65,535."""
        for end in (self.left, self.right):
            end.ip("link", "set", end.link, "mtu", str(mtu))


def join(left: Namespace, right: Namespace, *, number: int = 0, mtu: int = 1500) -> None:
    """Join two namespaces by a veth named veth{number} on both sides, 10.{91+number}.0.{1,2}.

    Sets `link`, `v4` and `v6` of both where they are empty.
    """
    link = f"veth{number}"
    left.ip("link", "add", link, "type", "veth", "peer", "name", link, "netns", right.name)
    for host, end in enumerate((left, right), start=1):
        end.ip("link", "set", link, "mtu", str(mtu), "up")
        end.add_address(link, f"10.{91 + number}.0.{host}/24", f"fd{91 + number}::{host}/64")
        if not end.link:
            end.link, end.v4, end.v6 = (
                link,
                f"10.{91 + number}.0.{host}",
                f"fd{91 + number}::{host}",
            )


@contextlib.contextmanager
def pair(*, mtu: int = 1500) -> Iterator[Pair]:
    """Two namespaces joined by a veth, as the module's drawing shows; gone at the end."""
    with Namespace("left") as left, Namespace("right") as right:
        join(left, right, mtu=mtu)
        yield Pair(left, right)


def remove_leftovers() -> list[str]:
    """Remove the namespaces, sockets and locks of test runs that are dead; returns their names."""
    removed = []
    for path in sorted(Path("/run/netns").glob(f"{PREFIX}-*")):
        _, pid, started, *_ = path.name.split("-")
        if _start_time(int(pid)) != started:
            _delete(path.name)
            removed.append(path.name)
    return removed + _remove_files(lambda pid: _start_time(pid) is None)


def remove_own_files() -> None:
    """Remove what daemons leave behind that ended as they should: their lock files stay."""
    _remove_files(lambda pid: pid == os.getpid())


def _remove_files(chosen: Callable[[int], bool]) -> list[str]:
    """Remove sockets, locks, journals and clocks of links that a process named by `link_name`."""
    removed = []
    for directory in (UAPI_DIRECTORY, RUN_DIRECTORY, STATE_DIRECTORY):
        for path in sorted(directory.glob(f"*{LINK_PREFIX}*")):
            owner = _OWNED.fullmatch(path.name)
            if owner and chosen(int(owner[1])):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
                removed.append(path.name)
    return removed
