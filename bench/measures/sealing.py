"""One end alone: packets into a tunnel whose far end stands still, so that the near end has all
processors for itself."""

import contextlib
import dataclasses
import functools
import os
import signal
from collections.abc import Iterator

from bench import search, trial
from bench.contenders import Contender
from bench.lab import MTU, Road, pid_of, road_through, tunnel_of
from bench.measures.measure import Figure, Measure, Sample
from bench.measures.udp import LONG_SECONDS, RATES, SECONDS, SENDERS
from bench.plan import Rank
from bench.search import Trial
from bench.session import Session
from tests.support.programs import Interface
from tests.support.tunnel import Tunnel

SIZES = (64, MTU)
# Packets that tell how many bytes the near end counts for one: implementations pad differently,
# and some count what they are given and not what they send.
_SAMPLE_RATE = 1000
_SAMPLE_SECONDS = 0.2


def take(contender: Contender, session: Session, size: int, sender: str) -> Sample:
    """The highest rate that the near end seals and sends, while the far end is stopped.

    It stops after a handshake: the near end may send for 180 s (whitepaper, section 6.2), and its
    attempts at a new handshake in vain are a packet in five seconds.
    """
    with tunnel_of(contender) as (net, tunnel):
        road = road_through(net, tunnel)
        each = bytes_for_one(road, tunnel, size)

        def count() -> float:
            return sent_bytes(tunnel) / each

        def run(seconds: float, rate: float) -> Trial:
            return trial.sealed(road, rate, size, seconds, count, sender == "segment")

        with standing_still(tunnel.right):
            found = search.throughput(
                functools.partial(run, SECONDS),
                functools.partial(run, LONG_SECONDS),
                RATES[sender],
                session.start(contender, f"sealing-{sender}", size),
            )
    rate = found.best.rate if found.best else 0.0
    session.remember(contender, f"sealing-{sender}", size, rate)
    figures = {"rate": rate / 1e3, "short": float(found.short)}
    return Sample(figures, [dataclasses.asdict(each) for each in found.trials])


@contextlib.contextmanager
def standing_still(interface: Interface) -> Iterator[None]:
    """A daemon that does nothing meanwhile."""
    os.kill(pid_of(interface), signal.SIGSTOP)
    try:
        yield
    finally:
        # A stopped process would not hear that it is to end.
        os.kill(pid_of(interface), signal.SIGCONT)


def sent_bytes(tunnel: Tunnel) -> int:
    """The bytes that the near end says it sent."""
    return tunnel.left_sees()[2]


def bytes_for_one(road: Road, tunnel: Tunnel, size: int) -> int:
    """How many bytes the near end counts for a packet of a size."""
    before = sent_bytes(tunnel)
    few = trial.paced(road, _SAMPLE_RATE, size, _SAMPLE_SECONDS)
    if not few.arrived:
        raise trial.TrialError("not a packet came through the tunnel")
    # Rounded: a keepalive may be among them.
    return round((sent_bytes(tunnel) - before) / few.sent)


def _measure(size: int, sender: str) -> Measure:
    return Measure(
        name=f"sealing-{sender}-{size}",
        what=f"highest rate of IP packets of {size} bytes that one end seals and sends without "
        f"loss by its own counters, {sender} sender, while the other end is stopped and takes "
        "nothing",
        figures={
            "rate": Figure(f"one end sealing, {size} bytes", "1000/s", higher_is_better=True),
            "short": Figure(f"the sender was the limit, {size} bytes", "1 = yes", compared=False),
        },
        take=functools.partial(take, size=size, sender=sender),
        group="sealing",
        section=f"One end alone, {sender} sender",
        x=size,
        extra=True,
        rank=Rank.SPARE,
        seconds=5.0,
        missing=trial.missing,
    )


MEASURES = tuple(_measure(size, sender) for sender in SENDERS for size in SIZES)
