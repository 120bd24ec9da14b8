"""The measures: each takes one sample of one contender, a few figures at a time."""

from bench.measures import (
    aead,
    cold,
    commands,
    credentials,
    crowd,
    devices,
    flood,
    handshakes,
    peers,
    rtt,
    sealing,
    tcp,
    udp,
)
from bench.measures.measure import Measure

MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        *tcp.MEASURES,
        rtt.MEASURE,
        cold.MEASURE,
        handshakes.MEASURE,
        credentials.MEASURE,
        devices.MEASURE,
        flood.MEASURE,
        *peers.MEASURES,
        crowd.MEASURE,
        commands.MEASURE,
        aead.MEASURE,
        *udp.MEASURES,
        *sealing.MEASURES,
    )
}
