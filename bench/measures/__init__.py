"""The measures: each takes one sample of one contender, a few figures at a time."""

from bench.measures import cold, commands, handshakes, peers, rtt, tcp
from bench.measures.measure import Measure

MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        tcp.MEASURE,
        rtt.MEASURE,
        cold.MEASURE,
        handshakes.MEASURE,
        *peers.MEASURES,
        commands.MEASURE,
    )
}
