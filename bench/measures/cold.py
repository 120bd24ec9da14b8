"""Time to the first packet: a whole handshake between two daemons, and one echo over it."""

import statistics

from bench.contenders import Contender
from bench.measures.measure import Figure, Measure
from bench.session import Session
from wgpy.demo.echo import ping

STARTS = 10
# A lost first packet is retried after five seconds; such a start is left out by its timeout.
_TIMEOUT = 2.0


def take(contender: Contender, session: Session) -> dict[str, float]:
    """The median of some cold starts: all sessions forgotten on both sides, then one echo."""
    times = []
    with session.tunnel(contender) as (net, tunnel):
        there = tunnel.right.address
        for _ in range(STARTS):
            tunnel.right.restart_sessions()
            tunnel.left.restart_sessions()
            (time,) = net.left.inside(lambda: ping(there, 1, timeout=_TIMEOUT)).times
            if time is not None:
                times.append(time * 1e3)
    return {"first": statistics.median(times)}


MEASURE = Measure(
    name="cold",
    what=f"first echo after both sides forgot their sessions, median of {STARTS}; the handshake "
    "of two daemons, with their timers and sockets",
    figures={"first": Figure("time to first packet", "ms")},
    take=take,
    section="Latency",
)
