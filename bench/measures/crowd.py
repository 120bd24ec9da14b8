"""Throughput with one peer, and with 10,000 of them that own 100,000 allowed IPs, in one sample."""

from bench.contenders import Contender
from bench.iperf import transfer
from bench.lab import crowd_text, road_through, tunnel_of
from bench.measures.measure import Figure, Measure
from tests.support.programs import Interface

PEERS = 10_000
PREFIXES = 10
SECONDS = 3.0
# setconf of so many peers: a slow one is told by its own measure (peers-10000).
_SETCONF_TIMEOUT = 120.0


def take(contender: Contender) -> dict[str, float]:
    """A transfer, the crowd moving in at both ends, and the same transfer again."""
    with tunnel_of(contender) as (net, tunnel):
        road = road_through(net, tunnel)
        alone = transfer(road.left, road.right, road.address, SECONDS).gigabits_per_second
        for end in (tunnel.right, tunnel.left):
            _add_crowd(end)
        road.left.ping(road.address)
        crowded = transfer(road.left, road.right, road.address, SECONDS).gigabits_per_second
    return {"alone": alone, "crowded": crowded, "share": crowded / alone}


def _add_crowd(interface: Interface) -> None:
    # The one peer that answers stands first and last in nobody's order: it is one of 10,000.
    config = f"{interface.config}\n{crowd_text(PEERS - 1, PREFIXES)}"
    command = ("wg", "setconf", interface.name, "/dev/stdin")
    interface.namespace.run(*command, stdin=config, timeout=_SETCONF_TIMEOUT)


MEASURE = Measure(
    name="crowd",
    what=f"one TCP flow for {SECONDS:g} s with one peer, and again after both ends were given "
    f"{PEERS:,} peers with {PREFIXES} allowed IPs each, half of IPv4 and half of IPv6; the traffic "
    "is that of one peer",
    figures={
        "alone": Figure("TCP, 1 peer", "Gbit/s", higher_is_better=True),
        "crowded": Figure(f"TCP, {PEERS:,} peers", "Gbit/s", higher_is_better=True),
        "share": Figure("the latter over the former", "times", higher_is_better=True),
    },
    take=take,
    section="Many peers",
)
