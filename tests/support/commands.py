"""Commands and background programs of a test: bounded in time, and failing in one line."""

import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

# One command of a test: pings and ip(8) take milliseconds, 20 s is a machine that stands still.
RUN_TIMEOUT = 20.0
# A program in the background: longer than any one test, shorter than a forgotten process.
LIFE = 300.0
# From SIGTERM to SIGKILL.
GRACE = 3.0


class CommandError(AssertionError):
    """A command in a namespace failed: one line, with the last line that it printed."""


def wait_until(
    done: Callable[[], object], what: str, timeout: float = 10.0, every: float = 0.02
) -> None:
    """Call `done` until it is true; AssertionError naming `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s in vain for {what}")
        time.sleep(every)


def memory_file(name: str) -> IO[bytes]:
    """A file without a place, gone when its last descriptor is closed."""
    descriptor = os.memfd_create(os.path.basename(name), os.MFD_CLOEXEC)
    return os.fdopen(descriptor, "r+b", buffering=0)


def contents(file: IO[bytes]) -> str:
    """What a memory file holds, wherever its writers are in it."""
    return Path(f"/proc/self/fd/{file.fileno()}").read_text(errors="replace")


def last_line(text: str) -> str:
    """The last line that says something: where programs put what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "(it printed nothing)"


def run(
    argv: list[str],
    shown: tuple[str, ...],
    timeout: float,
    check: bool,
    stdin: str | None,
    env: Mapping[str, str] | None,
) -> subprocess.CompletedProcess[str]:
    """Run `argv` and return it with its output; a CommandError calls it by `shown`.

    With `check` a failure is a CommandError. `env` is added to the environment.
    """
    # Files and not pipes: a daemon that the command leaves behind may hold them open.
    with memory_file("stdout") as out, memory_file("stderr") as err:
        try:
            code = subprocess.run(
                argv,
                input=(stdin or "").encode(),
                stdout=out,
                stderr=err,
                timeout=timeout,
                env={**os.environ, **(env or {})},
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            raise CommandError(f"`{shlex.join(shown)}` did not end in {timeout:g} s") from None
        done = subprocess.CompletedProcess(argv, code, contents(out), contents(err))
    if check and code != 0:
        said = last_line(done.stderr or done.stdout)
        raise CommandError(f"`{shlex.join(shown)}` exited with {code}: {said}")
    return done


class Process:
    """A program in the background, killed when its life is over or its owner dies.

    Its output goes to a file, so that it never blocks on a full pipe; `output()` reads it.
    """

    def __init__(self, child: subprocess.Popen[bytes], log: IO[bytes], life: float) -> None:
        self.child = child
        self._log = log
        self._timer = threading.Timer(life, child.kill)
        self._timer.daemon = True
        self._timer.start()

    @property
    def pid(self) -> int:
        """The program's own process: nothing stands between."""
        return self.child.pid

    def output(self) -> str:
        """Everything that it wrote so far, standard error included."""
        return contents(self._log)

    def running(self) -> bool:
        """Whether it still runs."""
        return self.child.poll() is None

    def wait(self, timeout: float = RUN_TIMEOUT) -> int:
        """Its exit code; CommandError if it does not end in `timeout` seconds."""
        try:
            return self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            name = shlex.join(map(str, self.child.args))  # type: ignore[arg-type]
            raise CommandError(f"`{name}` did not end in {timeout:g} s") from None

    def pause(self) -> None:
        """Let it do nothing until `resume`; every thread of it has stopped when this returns."""
        self.child.send_signal(signal.SIGSTOP)
        wait_until(self._is_stopped, "all threads to stop", every=0.001)

    def resume(self) -> None:
        """Let it go on, if it was paused."""
        self.child.send_signal(signal.SIGCONT)

    def _is_stopped(self) -> bool:
        tasks = Path(f"/proc/{self.pid}/task").glob("*/stat")
        try:
            # proc(5): the state stands behind the name, which is in parentheses.
            return all(task.read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)
        except (FileNotFoundError, ProcessLookupError):
            # A thread that ended meanwhile, so not all had stopped.
            return False

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> int:
        """Signal it, kill it after a grace, and return its exit code."""
        self._timer.cancel()
        if self.running():
            self.child.send_signal(with_signal)
            try:
                self.child.wait(GRACE)
            except subprocess.TimeoutExpired:
                self.child.kill()
        return self.child.wait()

    def close(self) -> None:
        """Stop it and drop its output."""
        self.stop()
        self._log.close()
