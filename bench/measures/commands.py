"""How fast a command starts: the whole life of `genkey`."""

import subprocess
import time

from bench.contenders import Contender
from bench.measures.measure import Figure, Measure
from tests.support.requirements import program

# The promise of `wgpy genkey`, in milliseconds.
LIMIT = 100.0


def take(contender: Contender) -> dict[str, float]:
    """One run, from fork to exit."""
    command = [program(contender.tool), "genkey"]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, timeout=10, check=True)
    lasted = time.perf_counter() - started
    if len(done.stdout) != 45:
        raise RuntimeError(f"{contender.tool} genkey printed no key")
    return {"genkey": lasted * 1e3}


MEASURE = Measure(
    name="genkey",
    what="`genkey` from start to exit; `wgpy` for wgpy, `wg` (a C program) for the others",
    figures={"genkey": Figure("genkey", "ms", limit=LIMIT)},
    take=take,
    group="commands",
)
