"""How long a command takes, from its start to its exit."""

import statistics
import subprocess
import threading
import time

# The median of so many runs is one sample: a single start is at the mercy of the scheduler.
RUNS = 3
# The commands that are measured take seconds at the most; then the machine stands still.
_TIMEOUT = 120.0


class CommandError(Exception):
    """A command failed: one line."""


def run(*command: str) -> tuple[float, str]:
    """Run a command; its time in seconds and what it printed. Raises CommandError.

    It waits in the kernel: subprocess's own timeouts poll, up to 50 ms apart.
    """
    started = time.perf_counter()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:
        watchdog = threading.Timer(_TIMEOUT, child.kill)
        watchdog.start()
        try:
            printed, _ = child.communicate()
        finally:
            watchdog.cancel()
    lasted = time.perf_counter() - started
    if child.returncode != 0:
        said = (printed.strip().splitlines() or ["nothing"])[-1]
        raise CommandError(f"{' '.join(command)} exited with {child.returncode}: {said}")
    return lasted, printed


def typical(*command: str) -> float:
    """The median time of RUNS runs, in milliseconds. Raises CommandError."""
    return statistics.median(run(*command)[0] for _ in range(RUNS)) * 1e3
