"""The daemons of the demo: start one, wait for its socket, find and end those that are left."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from wgpy.demo.control import answers
from wgpy.demo.machines import MARK, DemoError, Machine
from wgpy.demo.namespace import inside

# A daemon is there in a tenth of a second; this is a machine that swaps.
START_TIMEOUT: Final = 8.0
# From SIGTERM to SIGKILL.
GRACE: Final = 2.0
_POLL: Final = 0.01

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running daemon, its program's name, and the file that its output goes to."""

    machine: Machine
    name: str
    child: subprocess.Popen[bytes]
    output: IO[bytes]

    def last_line(self) -> str:
        """The last thing that it said."""
        self.output.seek(0)
        lines = self.output.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "(it said nothing)"

    def close(self) -> None:
        """Forget a daemon that has ended, or that stays: its output is read no more."""
        self.child.poll()
        self.output.close()


def command(implementation: str | None) -> list[str]:
    """The words that start a daemon, but for the interface; wgpyd unless another is named.

    Raises DemoError if there is no such program.
    """
    if implementation is None:
        beside = Path(sys.executable).with_name("wgpyd")
        found = str(beside) if beside.exists() else shutil.which("wgpyd")
    else:
        found = shutil.which(implementation)
    if found is None:
        raise DemoError(
            f"{implementation or 'wgpyd'} is not on the PATH; install it, or name another "
            "program with --implementation"
        )
    return [found, "-f"]


def start(machine: Machine, words: Sequence[str], *, outlive: bool) -> Daemon:
    """Start a machine's daemon in its namespace. Ends when this process does, unless `outlive`."""
    output = tempfile.TemporaryFile()  # noqa: SIM115  closed with the Daemon that holds it
    with inside(machine.namespace):
        child = subprocess.Popen(
            [*words, machine.interface],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={"LOG_LEVEL": "error", **os.environ, MARK: machine.name},
            # Ctrl-C is for the demo, which then ends its daemons in order.
            start_new_session=True,
            preexec_fn=None if outlive else _end_with_parent,
        )
    return Daemon(machine, Path(words[0]).name, child, output)


def _end_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def await_socket(daemon: Daemon) -> None:
    """Wait until a daemon answers on its socket. Raises DemoError if it ends or is too slow."""
    name = daemon.name
    deadline = time.monotonic() + START_TIMEOUT
    while not (answers(daemon.machine)):
        code = daemon.child.poll()
        if code is not None:
            raise DemoError(
                f"{name} of {daemon.machine.interface} ended with {code}: {daemon.last_line()}; "
                "`wgpy doctor` may say why"
            )
        if time.monotonic() > deadline:
            raise DemoError(
                f"{name} did not open {daemon.machine.socket} in {START_TIMEOUT:g} s: "
                f"{daemon.last_line()}"
            )
        time.sleep(_POLL)


def running() -> list[int]:
    """The process ids of every daemon that a demo of this machine started."""
    mark = f"{MARK}=".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        # A process may end meanwhile, and a kernel thread has no environment.
        with contextlib.suppress(OSError):
            if entry.stat().st_uid != 0:
                continue  # only root runs the demo; anybody may set a variable
            words = (entry / "environ").read_bytes().split(b"\0")
            if any(word.startswith(mark) for word in words):
                found.append(int(entry.name))
    return found


def end_all() -> int:
    """End every daemon of the demo, politely and then not; returns how many there were."""
    pids = running()
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in running():
            with contextlib.suppress(ProcessLookupError):  # it ended by itself just now
                os.kill(pid, number)
        deadline = time.monotonic() + GRACE
        while running() and time.monotonic() < deadline:
            time.sleep(_POLL)
    return len(pids)
