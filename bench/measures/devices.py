"""Handshakes of whole devices in memory, by kind, and newcomers that one device admits."""

from collections.abc import Mapping
from typing import cast

from bench.contenders import Contender
from bench.devices import MUTUAL, NEWCOMERS, RENEWED, measure
from bench.measures.measure import Figure, Measure
from bench.session import Session

SECONDS = 2.0


def take(contender: Contender, session: Session) -> dict[str, float]:
    """Plain, renewed and mutual handshakes and newcomers in turns."""
    del contender, session  # both ends are in this process
    result = measure(SECONDS)

    def median(name: str) -> float:
        return cast("Mapping[str, float]", result[name])["median"]

    return {
        "plain": median("plain_us"),
        "renewed": median("renewed_over_plain"),
        "mutual": median("mutual_over_plain"),
        "admitted": median("admitted_per_second"),
    }


MEASURE = Measure(
    name="devices",
    what="whole handshakes of two devices in memory, data path, authority and ledger included: "
    "plain; with certificates whose verdict is known; with certificates that both sides verify; "
    f"and {NEWCOMERS} newcomers with certificates of their own that one device admits, its own "
    "time only, disk included",
    figures={
        "plain": Figure("a plain handshake of two devices", "us"),
        "renewed": Figure("a renewal by certificates over it", "times", limit=RENEWED),
        "mutual": Figure("one with both certificates verified over it", "times", limit=MUTUAL),
        "admitted": Figure("newcomers admitted by one device", "1/s", higher_is_better=True),
    },
    take=take,
    ours_only=True,
    seconds=3.0,
    section="Handshakes and commands",
)
