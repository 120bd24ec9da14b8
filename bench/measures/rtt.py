"""The round trip through an idle tunnel."""

import re

from bench.contenders import Contender
from bench.measures.measure import Figure, Measure
from bench.session import Session
from bench.stats import percentile

COUNT = 300
INTERVAL = 0.01
_TIME = re.compile(r"time=([0-9.]+) ms")


def parse(output: str) -> list[float]:
    """Every round trip that ping(8) printed, in milliseconds."""
    return [float(time) for time in _TIME.findall(output)]


def take(contender: Contender, session: Session) -> dict[str, float]:
    """So many echoes through a tunnel that does nothing else."""
    with session.road(contender) as road:
        options = ("-n", "-i", f"{INTERVAL:g}", "-c", str(COUNT))
        times = parse(road.left.run("ping", *options, road.address, timeout=30).stdout)
    return {"p50": percentile(times, 0.50), "p99": percentile(times, 0.99)}


MEASURE = Measure(
    name="rtt",
    what=f"{COUNT} echoes, one each {INTERVAL * 1e3:g} ms, by ping(8)",
    figures={
        "p50": Figure("idle round trip, p50", "ms"),
        "p99": Figure("idle round trip, p99", "ms"),
    },
    take=take,
    bare=True,
    seconds=3.2,
    section="Latency",
)
