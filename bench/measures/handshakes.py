"""Complete handshakes a second, both sides in one process, by wgpy's own protocol library.

The other implementations are programs: they have nothing to call in a process. What compares
with them is the time to the first packet (cold.py). Here the measure is the bare X25519
operations of a handshake, timed in turns with it.
"""

from collections.abc import Mapping
from typing import cast

from bench.contenders import Contender
from bench.handshake import GOAL, measure
from bench.measures.measure import Figure, Measure
from bench.session import Session

SECONDS = 1.0


def take(contender: Contender, session: Session) -> dict[str, float]:
    """One second of handshakes and bare operations in turns."""
    del contender, session  # the library is the same for each data path
    result = measure(SECONDS)
    return {
        "rate": float(cast("int", result["handshakes_per_second"])),
        "cost": cast("Mapping[str, float]", result["ratio"])["median"],
    }


MEASURE = Measure(
    name="handshakes",
    what="whole handshakes in one process, against the X25519 operations that they need "
    "(six exchanges, two key generations)",
    figures={
        "rate": Figure("complete handshakes", "1/s", higher_is_better=True),
        "cost": Figure("cost over bare X25519", "times", limit=GOAL),
    },
    take=take,
    ours_only=True,
    seconds=1.2,
    section="Handshakes and commands",
)
