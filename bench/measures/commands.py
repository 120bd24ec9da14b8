"""How fast a command starts: the whole life of `genkey`."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from bench.contenders import Contender
from bench.measures.measure import Figure, Measure
from tests.support.requirements import program

# The promise of `wgpy genkey`, in milliseconds.
LIMIT = 100.0
# The median of so many runs is one sample: a single start is at the mercy of the scheduler.
RUNS = 3


def timed(run: Callable[[], object]) -> float:
    """The median time of some runs, in milliseconds."""
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        run()
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


def take(contender: Contender) -> dict[str, float]:
    """Some runs, each from fork to exit; for wgpy those of a Python that does nothing as well."""
    sample = {"genkey": timed(lambda: _run([program(contender.tool), "genkey"], 45))}
    if contender.is_ours:
        sample["python"] = timed(lambda: _run([sys.executable, "-c", "pass"], 0))
    return sample


def _run(command: Sequence[str], printed: int) -> None:
    done = subprocess.run(command, capture_output=True, timeout=10, check=True)
    if len(done.stdout) != printed:
        raise RuntimeError(f"{command[0]} printed {len(done.stdout)} bytes, not {printed}")


MEASURE = Measure(
    name="genkey",
    what=f"`genkey` from start to exit, median of {RUNS}; `wgpy` for wgpy, `wg` (a C program) "
    "for the others; a bare `python -c pass` is the floor of what Python can do",
    figures={
        "genkey": Figure("genkey", "ms", limit=LIMIT),
        "python": Figure("a bare Python", "ms"),
    },
    take=take,
    group="commands",
)
