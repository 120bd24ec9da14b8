"""One trial: so many UDP packets from one namespace to another, by our own generator and sink.

The tool is built by cargo from bench/traffic the first time that it is needed.
"""

import functools
import itertools
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.lab import Road
from bench.search import GRACE, Trial
from tests.support import cargo
from tests.support.netns import wait_until

CRATE = Path(__file__).parent / "traffic"
BINARY = cargo.binary(CRATE)
PORT = 7000
# The silence after which nothing more is on its way. What comes later than that has failed the
# trial already, however little of it there is (GRACE).
_QUIET = 0.1
# How long the sink waits for the first packet, and a trial lasts beyond its own time at the most.
_WAIT = 2.0
_MARGIN = 20.0

_runs = itertools.count(1)


class TrialError(Exception):
    """A trial could not be made: one line."""


@functools.cache
def missing() -> str | None:
    """Why no trial can be made here, or None; builds the tool."""
    reason = cargo.build(CRATE)
    return None if reason is None else f"the generator is not built: {reason}"


def paced(
    road: Road, rate: float, size: int, seconds: float, *, segment: bool = False, flows: int = 1
) -> Trial:
    """Packets of `size` bytes, IP header included, at `rate` a second. Raises TrialError."""
    plan = ("--rate", f"{rate:.3f}", "--seconds", f"{seconds:g}")
    # As many as the generator makes of it; a slow one sends fewer, and silence ends the trial.
    count = max(1, int(float(plan[1]) * seconds + 0.5))
    return _trial(road, rate, plan, count, size, seconds, segment, flows)


def burst(road: Road, count: int, size: int, *, segment: bool = False) -> Trial:
    """So many packets as fast as they go. Raises TrialError."""
    return _trial(road, count, ("--burst", str(count)), count, size, 0.0, segment, 1)


def _trial(
    road: Road,
    wanted: float,
    plan: tuple[str, ...],
    count: int,
    size: int,
    seconds: float,
    segment: bool,
    flows: int,
) -> Trial:
    if (reason := missing()) is not None:
        raise TrialError(reason)
    # A number of its own: a packet that comes late out of a queue is not booked to the next run.
    run = str(next(_runs))
    place = f"{road.address}:{PORT}"
    sink = road.right.popen(
        *(str(BINARY), "sink", "--at", place, "--run", run),
        *("--wait", f"{seconds + _WAIT:g}", "--least", f"{seconds:g}", "--quiet", f"{_QUIET:g}"),
        *("--count", str(count)),
        life=seconds + _MARGIN,
    )
    try:
        wait_until(lambda: "\n" in sink.output(), "the sink to listen", every=0.005)
        options = ("--flows", str(flows), "--run", run)
        sender = _generate(road, plan, size, seconds, segment, *options)
        sink.wait(seconds + _MARGIN)
        told = sink.output()
    finally:
        sink.close()
    return read(wanted, sender, told)


def _generate(
    road: Road, plan: tuple[str, ...], size: int, seconds: float, segment: bool, *options: str
) -> str:
    """Run the generator; its report."""
    place = f"{road.address}:{PORT}"
    done = road.left.run(
        *(str(BINARY), "generate", "--to", place, *plan, "--size", str(size), *options),
        *(("--segment",) if segment else ()),
        timeout=seconds + _MARGIN,
    )
    return done.stdout


def sealed(
    road: Road, rate: float, size: int, seconds: float, counter: Callable[[], float], segment: bool
) -> Trial:
    """Packets into a tunnel of which only `counter` tells how many came through its near end.

    Raises TrialError. There are no latencies.
    """
    if (reason := missing()) is not None:
        raise TrialError(reason)
    before = counter()
    plan = ("--rate", f"{rate:.3f}", "--seconds", f"{seconds:g}")
    sender: Mapping[str, Any] = json.loads(_generate(road, plan, size, seconds, segment))
    # What is later than this does not count, as in every other trial.
    time.sleep(seconds * GRACE)
    sent, took = int(sender["sent"]), int(sender["elapsed_ns"]) / 1e9
    # Keepalives and handshakes are counted too: a few in a trial.
    return Trial(rate, sent, min(sent, round(counter() - before)), took)


def read(wanted: float, sender: str, sink: str) -> Trial:
    """The trial of which the two reports tell. Raises TrialError."""
    try:
        sent: Mapping[str, Any] = json.loads(sender)
        arrived: Mapping[str, Any] = json.loads(sink.strip().splitlines()[-1])
        return Trial(
            wanted=wanted,
            sent=int(sent["sent"]),
            arrived=int(arrived["unique"]),
            seconds=int(sent["elapsed_ns"]) / 1e9,
            span=int(arrived["elapsed_ns"]) / 1e9,
            p50=int(arrived["latency_p50_ns"]) / 1e6,
            p99=int(arrived["latency_p99_ns"]) / 1e6,
            longest=int(arrived["latency_max_ns"]) / 1e6,
            more={
                **{name: int(sent[name]) for name in ("refused", "calls", "urgent")},
                **{
                    name: int(arrived[name])
                    for name in ("duplicates", "reordered", "strangers", "buffer_drops")
                },
            },
        )
    except (ValueError, KeyError, IndexError, TypeError):
        said = (sink.strip() or sender.strip() or "nothing").splitlines()[-1]
        raise TrialError(f"the generator or the sink failed, saying: {said}") from None
