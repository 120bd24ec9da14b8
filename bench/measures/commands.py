"""How fast a command starts: the whole life of `genkey`."""

import sys

from bench.command import RUNS, typical
from bench.contenders import Contender
from bench.measures.measure import Figure, Measure
from bench.session import Session
from tests.support.requirements import program

# The promise of `wgpy genkey`, in milliseconds.
LIMIT = 100.0


def take(contender: Contender, session: Session) -> dict[str, float]:
    """Some runs, each from fork to exit; for wgpy those of a Python that does nothing as well."""
    del session
    sample = {"genkey": typical(program(contender.tool), "genkey")}
    if contender.is_ours:
        sample["python"] = typical(sys.executable, "-c", "pass")
    return sample


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
    seconds=0.2,
    section="Handshakes and commands",
)
