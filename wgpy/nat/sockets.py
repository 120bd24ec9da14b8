"""Further UDP sockets of ours, and what the pathfinders, the data path and the office call them.

A socket that a pathfinder wants is read here first: it may be one of hundreds, and most are of no
use a second later. The one that a path is proved by goes to the data path when it is used. For the
pathfinder it keeps its number, which is below zero; what the data path calls it is above.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from wgpy.datapath.contract import DataPathError
from wgpy.keys import PublicKey
from wgpy.nat.errands import Office, Socket
from wgpy.nat.orders import Opened
from wgpy.nat.place import Place, Send
from wgpy.nat.stun_client import Answer, Schedule, StunClient

# Two birthdays at once, of 256 each, and those of usual rounds.
MAX_SOCKETS: Final = 600
# More than so many are not worth asking a server from: nobody tells their addresses.
MAX_ASKED: Final = 16
# From when they are open to when nobody waits for a server's answer any more; `Meeting` waits 1 s.
ASK_SECONDS: Final = 0.9
# Sent at 0, 0.25 and 0.75 s: one or two may be lost.
_SCHEDULE: Final = Schedule(first=0.25, sends=3, last=0.15)


@dataclass(eq=False, slots=True)
class _Open:
    owner: PublicKey
    version: int
    # None once it is the data path's.
    socket: Socket | None
    port: int
    via: int = 0


@dataclass(eq=False, slots=True)
class _Batch:
    """Sockets that were wanted together, while their public addresses are asked for."""

    owner: PublicKey
    numbers: tuple[int, ...]
    until: float
    asked: dict[bytes, int] = field(default_factory=dict)
    seen: dict[int, tuple[str, int]] = field(default_factory=dict)


class Sockets:
    """The further sockets of one interface. `received(owner, data, place)` hears what comes in by
    them, and `ready(owner, opened)` that those which were wanted are there.

    `adopt(fd)` gives a socket to the data path and returns what that calls it, or raises
    DataPathError if it has as many as may be; `dismiss` takes it back for good.
    """

    def __init__(
        self,
        office: Office,
        random: Callable[[int], bytes],
        *,
        received: Callable[[PublicKey, bytes, Place], None],
        ready: Callable[[PublicKey, list[Opened]], None],
        adopt: Callable[[int], int],
        dismiss: Callable[[int], None],
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._office = office
        self._received = received
        self._ready = ready
        self._adopt = adopt
        self._dismiss = dismiss
        self._stun = StunClient(random)
        self._open: dict[int, _Open] = {}
        self._by_via: dict[int, int] = {}
        self._batches: list[_Batch] = []
        self._last = 0

    # --- What a pathfinder wants ---

    def want(
        self, owner: PublicKey, count: int, version: int, server: Place | None, now: float
    ) -> None:
        """Open so many sockets of this IP version, and ask the server from each."""
        numbers = []
        for _ in range(count):
            number = self._make(owner, version)
            if number is None:
                break
            numbers.append(number)
        batch = _Batch(owner, tuple(numbers), now + ASK_SECONDS)
        if server is not None and len(numbers) <= MAX_ASKED:
            for number in numbers:
                place = Place(server.host, server.port, number)
                transaction = self._stun.ask(place, now, schedule=_SCHEDULE)
                if transaction is not None:
                    batch.asked[transaction] = number
        self._batches.append(batch)
        self.tick(now)

    def _make(self, owner: PublicKey, version: int) -> int | None:
        if len(self._open) >= MAX_SOCKETS:
            self.counters["sockets_full"] += 1
            return None
        self._last -= 1
        number = self._last
        made = self._office.open_socket(
            version, lambda data, place: self._came(number, data, place)
        )
        if made is None:
            self.counters["sockets_refused"] += 1
            return None
        self._open[number] = _Open(owner, version, made, made.port)
        self.counters["sockets_opened"] += 1
        return number

    def drop(self, numbers: tuple[int, ...]) -> None:
        """These are of no more use."""
        for number in numbers:
            found = self._open.pop(number, None)
            if found is None:
                continue
            if found.socket is not None:
                found.socket.close()
            else:
                self._by_via.pop(found.via, None)
                self._dismiss(found.via)

    def drop_of(self, owner: PublicKey) -> None:
        """This peer is gone."""
        self._batches = [each for each in self._batches if each.owner != owner]
        self.drop(tuple(n for n, each in self._open.items() if each.owner == owner))

    def close(self) -> None:
        """All of them are of no more use."""
        self._batches.clear()
        self.drop(tuple(self._open))

    # --- Names of places ---

    def outward(self, place: Place, *, use: bool = False) -> Place | None:
        """What the data path calls a place of a pathfinder's; with `use`, the socket goes there
        now. None if the place is not the data path's."""
        if place.via >= 0:
            return place
        found = self._open.get(place.via)
        if found is None:
            return None
        if found.socket is not None:
            if not use:
                return None
            fd, found.socket = found.socket.detach(), None
            try:
                via = self._adopt(fd)
            except DataPathError:
                self.counters["sockets_not_adopted"] += 1
                del self._open[place.via]
                return None
            found.via = via
            self._by_via[via] = place.via
        return place._replace(via=found.via)

    def inward(self, place: Place) -> Place:
        """What the pathfinders call a place of the data path's."""
        return place._replace(via=self._by_via.get(place.via, place.via))

    def send(self, order: Send) -> bool:
        """Send by a socket that is read here; whether it is one."""
        found = self._open.get(order.to.via)
        if found is None or found.socket is None:
            return False
        found.socket.send(order.data, order.to, order.ttl, order.whole)
        return True

    # --- Servers' answers ---

    def _came(self, number: int, data: bytes, source: Place) -> None:
        found = self._open.get(number)
        if found is None:
            return
        place = source._replace(via=number)
        if any(number in batch.asked.values() for batch in self._batches) and data[:1] < b"\x04":
            now = self._office.now()
            self._stun.receive(data, place, now)
            self.tick(now)
            return
        self._received(found.owner, data, place)

    def tick(self, now: float) -> None:
        """Ask again, and tell whose time is over."""
        self._stun.tick(now)
        for item in self._stun.take():
            if isinstance(item, Send):
                self.send(item)
                continue
            for batch in self._batches:
                number = batch.asked.pop(item.transaction, None)
                if number is not None and isinstance(item, Answer):
                    batch.seen[number] = item.mapped
        over = [each for each in self._batches if not each.asked or now >= each.until]
        self._batches = [each for each in self._batches if each not in over]
        for batch in over:
            self._ready(
                batch.owner,
                [
                    Opened(number, self._open[number].port, batch.seen.get(number))
                    for number in batch.numbers
                    if number in self._open
                ],
            )

    def due(self) -> float | None:
        """When `tick` has something to do."""
        moments = [each.until for each in self._batches]
        asking = self._stun.due()
        return min([*moments, *([] if asking is None else [asking])], default=None)
