"""Which way to a TURN server is tried when, and which is used: UDP, then TCP, then TLS.

UDP is tried first, for it carries datagrams as they are. If it is not answered within a quarter of
a second, or fails, TCP and TLS begin, both at once: where UDP is blocked one cannot say which of
them passes. The first that has an allocation is used at once, so that the tunnel runs; a better one
that is ready soon after takes its place.

    way   round trips until data can flow
    UDP   2    Allocate, 401; Allocate and ChannelBind, signed
    TCP   3    and one for the connection
    TLS   4    and one for TLS 1.3; two for TLS 1.2, which is what coturn 4.6 speaks

So at 30 ms one way, where only TLS 1.2 passes, data flows 0.25 + 5 * 0.06 = 0.55 s after the
start. A way that was needed on this network before is remembered by who uses this (`last`): it
begins at once, beside UDP.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import Final

from wgpy.device.paths import Transport

# From best to worst.
ORDER: Final = (Transport.UDP, Transport.TCP, Transport.TLS)
# From the first way to the others, in seconds: what RFC 8305 waits between addresses, and four
# round trips of 60 ms.
STEP: Final = 0.25
# More for a way that was answered: it passes, and needs a round trip or two.
ANSWERED: Final = 1.0
# How long better ways are waited for once there is one to use: the third request over UDP comes
# after 1.5 s, should two have been lost.
SETTLE: Final = 2.0


class Act(Enum):
    """What is to be done with a way."""

    START = "start"
    # Data goes by it from now on.
    USE = "use"
    # It is not needed: close it.
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do."""

    act: Act
    transport: Transport


class _Rung(Enum):
    WAITING = "waiting"
    TRYING = "trying"
    READY = "ready"
    OVER = "over"


class Ladder:
    """One attempt to reach one server, over the ways that it offers. `used` is the best that is
    ready. When that fails later, a new ladder begins."""

    def __init__(
        self, offered: Collection[Transport], now: float, last: Transport | None = None
    ) -> None:
        self.used: Transport | None = None
        self._rungs = {x: _Rung.WAITING for x in ORDER if x in offered}
        self._starts = {x: now + STEP * (i > 0) for i, x in enumerate(self._rungs)}
        if last in self._starts:
            self._starts[last] = now
        self._settled: float | None = None
        self._steps: list[Step] = []

    @property
    def is_over(self) -> bool:
        """Whether every way failed."""
        return all(rung is _Rung.OVER for rung in self._rungs.values())

    def answered(self, transport: Transport, now: float) -> None:
        """The server said something by this way, so it is not blocked: the rest is held back."""
        if self._rungs.get(transport) is _Rung.TRYING:
            for other, start in self._starts.items():
                if self._rungs[other] is _Rung.WAITING and ORDER.index(other) > ORDER.index(
                    transport
                ):
                    self._starts[other] = max(start, now + ANSWERED)

    def failed(self, transport: Transport, now: float) -> None:
        """This way leads nowhere: the others begin at once."""
        if self._rungs.get(transport) not in (_Rung.TRYING, _Rung.READY):
            return
        self._rungs[transport] = _Rung.OVER
        if self.used is transport:
            self.used = self._settled = None
        for other, start in self._starts.items():
            self._starts[other] = min(start, now)

    def ready(self, transport: Transport, now: float) -> None:
        """There is an allocation by this way."""
        if self._rungs.get(transport) is not _Rung.TRYING:
            return
        self._rungs[transport] = _Rung.READY
        if self.used is None or ORDER.index(transport) < ORDER.index(self.used):
            self.used = transport
            self._steps.append(Step(Act.USE, transport))
        if self._settled is None:
            self._settled = now + SETTLE
        self._stop([x for x in self._rungs if ORDER.index(x) > ORDER.index(self.used)])

    def tick(self, now: float) -> list[Step]:
        """What is to be done now, in this order."""
        for transport, rung in self._rungs.items():
            if rung is _Rung.WAITING and now >= self._starts[transport]:
                self._rungs[transport] = _Rung.TRYING
                self._steps.append(Step(Act.START, transport))
        if self._settled is not None and now >= self._settled and self.used is not None:
            self._settled = None
            self._stop([x for x in self._rungs if x is not self.used])
        steps, self._steps = self._steps, []
        return steps

    def due(self) -> float | None:
        """When `tick` has something to do, if nothing comes before; what `ready` and `failed` bring
        about is due at once."""
        if self._steps:
            return 0.0
        moments = [self._starts[x] for x, rung in self._rungs.items() if rung is _Rung.WAITING]
        if self._settled is not None:
            moments.append(self._settled)
        return min(moments, default=None)

    def _stop(self, transports: list[Transport]) -> None:
        for transport in transports:
            if self._rungs[transport] in (_Rung.TRYING, _Rung.READY):
                self._steps.append(Step(Act.STOP, transport))
            self._rungs[transport] = _Rung.OVER
