"""Single-flow TCP throughput between two namespaces, and what it costs both daemons."""

from bench.contenders import Contender
from bench.iperf import transfer
from bench.lab import pid_of, tunnel_of
from bench.measures.measure import Figure, Measure
from bench.procstat import cpu_seconds

# Long enough for TCP to find its rate, and for 10 ms steps of processor time to be one percent.
SECONDS = 3.0


def take(contender: Contender) -> dict[str, float]:
    """One transfer through a fresh tunnel."""
    with tunnel_of(contender) as (net, tunnel):
        pids = (pid_of(tunnel.left), pid_of(tunnel.right))
        before = sum(map(cpu_seconds, pids))
        done = transfer(net.left, net.right, tunnel.right.address, SECONDS)
        used = sum(map(cpu_seconds, pids)) - before
    return {"throughput": done.gigabits_per_second, "cpu": used / (done.size / 1e9)}


MEASURE = Measure(
    name="tcp",
    what=f"one TCP flow for {SECONDS:g} s, both ends on this machine, MTU 1420 inside",
    figures={
        "throughput": Figure("TCP, one flow", "Gbit/s", higher_is_better=True),
        "cpu": Figure("CPU of both daemons", "s/GB"),
    },
    take=take,
)
