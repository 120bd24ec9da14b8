"""One look at how long a NAT remembers a silent socket: does it still after so many seconds?

    ask ── answer          the NAT has a mapping
    3 s later              routers such as Linux's keep one longer that was used both ways for 2 s
    ask for the answer in T seconds, and be silent
    the answer comes       it lives for T seconds
    it does not, twice     it does not

A server that does not know ANSWER-AFTER (stun_server.py) answers at once. Then we ask again after
T seconds: another mapping says that the first was forgotten. The same one says little: a NAT that
keeps the port of the socket gives it the same one again.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final

from wgpy.nat.place import Place, Send
from wgpy.nat.stun_client import Answer, Failure, Reason, Schedule, StunClient

# Linux's connection tracking takes a flow for a stream once it was used both ways for 2 s.
WARM: Final = 3.0
# How much later than asked for the answer may come: a server's timer, and the way.
GRACE: Final = 5.0
# It is earlier than asked for by so much: then it was not kept waiting at all.
EARLY: Final = 2.0
# One lost packet looks like a lost mapping; two in a row do not happen by chance on a usable path.
TRIES: Final = 2


class Verdict(Enum):
    """What one look gave."""

    ALIVE = "alive"
    DEAD = "dead"
    # The same mapping, which may have been made anew.
    SAME = "same"
    UNKNOWN = "unknown"


class _Step(Enum):
    WARMING = 1
    WARM = 2
    SILENT = 3
    # For a server that answers at once: silent, and then asking again.
    RESTING = 4
    ASKING_AGAIN = 5
    DONE = 6


class Look:
    """Looks at one idle time over one socket, which nobody else uses: `server.via`.

    `verdict` is None until it is over.
    """

    def __init__(
        self, server: Place, idle: int, now: float, random: Callable[[int], bytes]
    ) -> None:
        self.idle = idle
        self.verdict: Verdict | None = None
        self.client = StunClient(random)
        self._server = server
        self._step = _Step.WARMING
        self._tries = 0
        self._mapped: tuple[str, int] | None = None
        self._out: list[Send] = []
        self._wake: float | None = None
        self._asked = now
        self._begin(now)

    def receive(self, data: bytes, source: Place, now: float) -> bool:
        """Take a datagram; whether it was for this look."""
        took = self.client.receive(data, source, now)
        self._work(now)
        return took

    def tick(self, now: float) -> None:
        """Do what is due."""
        self.client.tick(now)
        if self._wake is not None and self._wake <= now:
            self._wake = None
            if self._step is _Step.WARM:
                self._fall_silent(now)
            elif self._step is _Step.RESTING:
                self._step = _Step.ASKING_AGAIN
                self.client.ask(self._server, now)
        self._work(now)

    def due(self) -> float | None:
        """When `tick` has something to do."""
        times = [x for x in (self._wake, self.client.due()) if x is not None]
        return min(times, default=None)

    def take(self) -> list[Send]:
        """What is to be sent."""
        taken, self._out = self._out, []
        return taken

    def _begin(self, now: float) -> None:
        self._tries += 1
        self._step = _Step.WARMING
        self.client.ask(self._server, now)
        self._work(now)

    def _fall_silent(self, now: float) -> None:
        """Ask for the answer in `idle` seconds. Sent once: a second one would end the silence."""
        self._step = _Step.SILENT
        self._asked = now
        schedule = Schedule(first=0.0, sends=1, last=self.idle + GRACE)
        self.client.ask(self._server, now, {"ANSWER-AFTER": self.idle}, schedule=schedule)

    def _work(self, now: float) -> None:
        for item in self.client.take():
            if isinstance(item, Send):
                self._out.append(item)
            elif isinstance(item, Answer):
                self._answered(item, now)
            else:
                self._failed(item, now)

    def _answered(self, answer: Answer, now: float) -> None:
        if self._step is _Step.WARMING:
            self._step = _Step.WARM
            self._mapped = answer.mapped
            self._wake = now + WARM
        elif self._step is _Step.SILENT:
            if now >= self._asked + self.idle - EARLY:
                self._end(Verdict.ALIVE)
            else:
                self._step = _Step.RESTING
                self._mapped = answer.mapped
                self._wake = now + self.idle
        elif self._step is _Step.ASKING_AGAIN:
            is_same = answer.mapped == self._mapped
            self._end(Verdict.SAME if is_same else Verdict.DEAD)

    def _failed(self, failure: Failure, now: float) -> None:
        if self._step is not _Step.SILENT or failure.reason is not Reason.TIMEOUT:
            # The server does not answer, or not so: that says nothing of the NAT.
            self._end(Verdict.UNKNOWN)
        elif self._tries < TRIES:
            self._begin(now)
        else:
            self._end(Verdict.DEAD)

    def _end(self, verdict: Verdict) -> None:
        self._step = _Step.DONE
        self.verdict = verdict
