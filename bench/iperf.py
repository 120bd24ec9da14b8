"""One TCP measurement by iperf3 between two namespaces."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.support.netns import Namespace, wait_until

PORT = 5201
# What iperf3 needs beyond the time of the measurement: to connect, and to exchange results.
_MARGIN = 20.0


@dataclass(frozen=True, slots=True)
class Transfer:
    """Payload bytes that arrived, and in how many seconds."""

    size: int
    seconds: float

    @property
    def gigabits_per_second(self) -> float:
        """The goodput."""
        return self.size * 8 / self.seconds / 1e9


def transfer(
    source: Namespace, target: Namespace, address: str, seconds: float, flows: int = 1
) -> Transfer:
    """Send by TCP for so long over `flows` connections. Raises AssertionError when it fails."""
    with serve(target, seconds):
        done = source.run(
            *("iperf3", "-c", address, "-p", str(PORT), "-t", f"{seconds:g}"),
            *("-P", str(flows), "--json"),
            timeout=seconds + _MARGIN,
        )
    return parse(json.loads(done.stdout))


@contextlib.contextmanager
def serve(target: Namespace, seconds: float) -> Iterator[None]:
    """A server for one measurement of so many seconds."""
    server = target.popen("iperf3", "-s", "-1", "-p", str(PORT), life=seconds + _MARGIN)
    try:
        wait_until(lambda: _listens(target), "iperf3 to listen")
        yield
    finally:
        server.stop()


def parse(report: dict[str, Any]) -> Transfer:
    """What arrived, by the report of the client. Raises ValueError with iperf3's reason."""
    if "error" in report:
        raise ValueError(f"iperf3: {report['error']}")
    received = report["end"]["sum_received"]
    return Transfer(int(received["bytes"]), float(received["seconds"]))


def _listens(namespace: Namespace) -> bool:
    # Not by connecting: the server takes one client and ends.
    return bool(namespace.run("ss", "-Hltn", f"sport = :{PORT}").stdout.strip())
