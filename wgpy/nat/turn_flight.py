"""Requests to a TURN server that wait for their answers, and when they are sent again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from wgpy.nat.stun import Method
from wgpy.nat.stun_client import Schedule
from wgpy.nat.turn_auth import Challenge, Key
from wgpy.nat.turn_peers import Entry

# RFC 8489, section 6.2.1: at 0, 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s, given up after 39.5. Those who
# cannot wait have other relays; a server that is only slow is not left for it.
DATAGRAMS: Final = Schedule(first=0.5, sends=7, last=8.0)
# In a stream nothing is sent again. Section 6.2.2 has 39.5 s as well, for who has nothing better to
# do; ten are more than TCP needs after two losses, and then a new connection is worth more.
STREAM: Final = Schedule(first=10.0, sends=1, last=10.0)
# The others wait their turn: 64 peers are bound within four or five round trips, and no server
# takes so few datagrams for a flood.
MAX_IN_FLIGHT: Final = 16


@dataclass(slots=True)
class Request:
    """One transaction. `retries` counts those before it that a challenge ended; `key` is what the
    answer must be signed with, None for a request that was not signed."""

    method: Method
    attributes: Mapping[str, Any]
    transaction: bytes
    data: bytes
    began: float
    entry: Entry | None = None
    key: Key | None = None
    challenge: Challenge | None = None
    retries: int = 0
    sends: int = 0
    due: float = 0.0
    # An answer came that was not signed as it must be.
    is_doubtful: bool = False


@dataclass(slots=True)
class Flight:
    """All that wait, by transaction."""

    schedule: Schedule
    _requests: dict[bytes, Request] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: Request, now: float) -> None:
        """Send it: the caller does, and `tick` says when again."""
        self._requests[request.transaction] = request
        self._sent(request, now)

    def get(self, transaction: bytes) -> Request | None:
        """The request of a transaction."""
        return self._requests.get(transaction)

    def has(self, method: Method) -> bool:
        """Whether a request of this method waits."""
        return any(x.method is method for x in self._requests.values())

    def hasten(self, method: Method, now: float) -> None:
        """Send those of this method again now, which counts: silence shows the sooner."""
        for request in self._requests.values():
            if request.method is method and request.sends < self.schedule.sends:
                request.due = min(request.due, now)

    def end(self, request: Request) -> None:
        """It needs no answer any more."""
        del self._requests[request.transaction]

    def clear(self) -> None:
        """None does."""
        self._requests.clear()

    def tick(self, now: float) -> tuple[list[Request], list[Request]]:
        """Those to be sent again, and those that were given up."""
        again, over = [], []
        for request in list(self._requests.values()):
            if request.due > now:
                continue
            if request.sends < self.schedule.sends:
                self._sent(request, now)
                again.append(request)
            else:
                self.end(request)
                over.append(request)
        return again, over

    def due(self) -> float | None:
        """When `tick` has something to do."""
        return min((x.due for x in self._requests.values()), default=None)

    def _sent(self, request: Request, now: float) -> None:
        is_last = request.sends + 1 == self.schedule.sends
        wait = self.schedule.last if is_last else self.schedule.first * 2**request.sends
        request.sends += 1
        request.due = now + wait
