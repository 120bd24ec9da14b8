"""TCP throughput between two namespaces with some flows, and what it costs both daemons."""

import functools
import statistics

from bench.contenders import Contender
from bench.iperf import transfer
from bench.measures.measure import Figure, Measure
from bench.procstat import memory
from bench.session import Session

# Long enough for TCP to find its rate, and for 10 ms steps of processor time to be one percent.
SECONDS = 4.0
FLOWS = (1, 4, 16)


def take(contender: Contender, session: Session, flows: int) -> dict[str, float]:
    """One transfer; that of one flow is the first that its tunnel carries."""
    with session.road(contender) as road:
        before = road.cpu_seconds()
        done = transfer(road.left, road.right, road.address, SECONDS, flows)
        used = road.cpu_seconds() - before
        held = [memory(pid).rss for pid in road.pids]
    sample = {"throughput": done.gigabits_per_second}
    if road.pids:
        sample["cpu"] = used / (done.size / 1e9)
        sample["rss"] = statistics.mean(held) / 1e6
    return sample


def _measure(flows: int) -> Measure:
    title = "1 flow" if flows == 1 else f"{flows} flows"
    return Measure(
        name=f"tcp-{flows}",
        what=f"{title} of TCP by iperf3 for {SECONDS:g} s, both ends on this machine, MTU 1420 "
        "inside; the processor time is that of both daemons, user and system, the memory that of "
        "one after this and what its tunnel carried before in the round",
        figures={
            "throughput": Figure(f"TCP, {title}", "Gbit/s", higher_is_better=True),
            "cpu": Figure(f"CPU of both daemons, {title}", "s/GB"),
            "rss": Figure(f"resident memory of a daemon after traffic, {title}", "MB"),
        },
        take=functools.partial(take, flows=flows),
        group="tcp",
        bare=True,
        seconds=SECONDS + 0.7,
        section="TCP",
        x=flows,
    )


MEASURES = tuple(_measure(flows) for flows in FLOWS)
