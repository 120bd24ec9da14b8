"""Throughput with one peer, and with 10,000 of them that own 100,000 allowed IPs, in one sample."""

import statistics

from bench.contenders import Contender
from bench.iperf import transfer
from bench.lab import crowd_text, road_through, tunnel_of
from bench.measures.measure import Figure, Measure
from bench.plan import Rank
from bench.session import Session
from tests.support.programs import Interface

PEERS = 10_000
PREFIXES = 10
SECONDS = 2.0
# setconf of so many peers: a slow one is told by its own measure (peers-10000).
_SETCONF_TIMEOUT = 120.0


def take(contender: Contender, session: Session) -> dict[str, float]:
    """Transfers through two tunnels in turns: one, crowded, crowded, one.

    What drifts while they run is in both to the same extent.
    """
    with tunnel_of(contender) as (net, tunnel):
        for end in (tunnel.right, tunnel.left):
            _add_crowd(end)
        crowd = road_through(net, tunnel)
        crowd.left.ping(crowd.address)
        with session.road(contender) as one:
            speeds = [
                transfer(road.left, road.right, road.address, SECONDS).gigabits_per_second
                for road in (one, crowd, crowd, one)
            ]
    alone = statistics.mean((speeds[0], speeds[3]))
    crowded = statistics.mean(speeds[1:3])
    return {"alone": alone, "crowded": crowded, "share": crowded / alone}


def _add_crowd(interface: Interface) -> None:
    # The one peer that answers stands first and last in nobody's order: it is one of 10,000.
    config = f"{interface.config}\n{crowd_text(PEERS - 1, PREFIXES)}"
    command = ("wg", "setconf", interface.name, "/dev/stdin")
    interface.namespace.run(*command, stdin=config, timeout=_SETCONF_TIMEOUT)


MEASURE = Measure(
    name="crowd",
    what=f"one TCP flow through a tunnel with one peer, and one through a tunnel whose ends have "
    f"{PEERS:,} peers with {PREFIXES} allowed IPs each, half of IPv4 and half of IPv6; "
    f"{SECONDS:g} s each, in the order one, crowd, crowd, one; the traffic is that of one peer",
    figures={
        "alone": Figure("TCP, 1 peer", "Gbit/s", higher_is_better=True),
        "crowded": Figure(f"TCP, {PEERS:,} peers", "Gbit/s", higher_is_better=True),
        "share": Figure("the latter over the former", "times", higher_is_better=True),
    },
    take=take,
    section="Many peers",
    rank=Rank.FIRST_TWO,
    seconds=4 * SECONDS + 4.0,
)
