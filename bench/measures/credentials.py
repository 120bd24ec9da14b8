"""Handshakes with credentials a second, both sides in one process, against plain ones."""

from collections.abc import Mapping
from typing import cast

from bench.contenders import Contender
from bench.credential import GOAL, measure
from bench.measures.measure import Figure, Measure
from bench.session import Session

SECONDS = 1.0


def take(contender: Contender, session: Session) -> dict[str, float]:
    """One second of renewals, plain handshakes and forgeries in turns."""
    del contender, session  # the library is the same for each data path
    result = measure(SECONDS)

    def median(name: str) -> float:
        return cast("Mapping[str, float]", result[name])["median"]

    return {
        "rate": float(cast("int", result["renewals_per_second"])),
        "cost": median("ratio"),
        "claimed": median("claimed_key_us"),
        "opens": median("opens_us"),
    }


MEASURE = Measure(
    name="credentials",
    what="handshakes with a certificate on both sides whose verdict is known, in one process, "
    "against plain ones; and what a stranger's datagram costs the responder",
    figures={
        "rate": Figure("handshakes with known credentials", "1/s", higher_is_better=True),
        "cost": Figure("cost over a plain handshake", "times", limit=GOAL),
        "claimed": Figure("a claimed key refused", "us"),
        "opens": Figure("a stranger's payload opened", "us"),
    },
    take=take,
    ours_only=True,
    seconds=1.5,
    section="Handshakes and commands",
)
