"""The managed peers of the agent: who is looked for, when, and whose a datagram is.

A peer is *begun* when somebody wants it. It then waits for what is to be told of us, at most until
`PATIENCE` after the network came, has a pathfinder, and is run whenever that is due. `let_down`
ends it again.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from wgpy.device.roads import Roads
from wgpy.keys import PublicKey
from wgpy.nat.budget import Budget
from wgpy.nat.charge import Charge, Hands, Standing
from wgpy.nat.errands import Office
from wgpy.nat.orders import Options
from wgpy.nat.pathfinder import Pathfinder
from wgpy.nat.place import Place
from wgpy.nat.sealed import path_keys
from wgpy.protocol.constants import PATH_ID_LENGTH, PATH_ID_OFFSET
from wgpy.protocol.handshake import HandshakeError

# What is told to others before servers and relays have answered is half the truth, and an offer
# with the other half follows it. Two round trips to a server take less than this, mostly, and where
# UDP is blocked, so do three by TCP after the quarter of a second of turn_ladder.py.
PATIENCE: Final = 0.6


class Charges:
    """Every managed peer. `standing` is the agent's to set, by `tell`."""

    def __init__(
        self, roads: Roads, office: Office, random: Callable[[int], bytes], hands: Hands
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.budget = Budget()
        self.standing = Standing()
        # Whether more is to be known soon of where we may be found.
        self.is_settled = True
        self._roads = roads
        self._office = office
        self._random = random
        self._hands = hands
        self._all: dict[PublicKey, Charge] = {}
        self._by_id: dict[bytes, PublicKey] = {}
        self._ids: dict[PublicKey, tuple[bytes, ...]] = {}
        # When each is due: the least on top; an entry that is not the noted one is passed over.
        self._agenda: list[tuple[float, int, PublicKey]] = []
        self._noted: dict[PublicKey, float] = {}
        self._entries = 0
        # Those who wait until it is known where we may be found; nobody does so after this moment.
        self._waiting: dict[PublicKey, None] = {}
        self._patience_ends = float("-inf")

    def __iter__(self) -> Iterator[Charge]:
        return iter(self._all.values())

    def get(self, key: PublicKey) -> Charge | None:
        """The charge of a managed peer."""
        return self._all.get(key)

    # --- Coming and going ---

    def add(self, key: PublicKey) -> None:
        """A peer is managed from now on."""
        self._all[key] = Charge(key, self._roads, self._hands, self.budget)

    def remove(self, key: PublicKey, now: float) -> None:
        """It is so no longer."""
        charge = self._all.pop(key, None)
        if charge is not None:
            self.let_down(charge, now)
            self._noted.pop(key, None)

    def begin(self, charge: Charge, now: float) -> None:
        """Somebody wants this peer. Nothing happens if it is being looked for already."""
        if charge.finder is not None:
            return
        remote = self._roads.remote(charge.key)
        if remote is None:
            return
        try:
            keys = path_keys(remote)
        except HandshakeError:
            self.counters["low_order_key"] += 1
            return
        standing = self.standing
        options = Options(
            relay_only=standing.relay_only,
            patient=charge.is_talking,
            keepalive=standing.keepalive,
        )
        sequence = int(self._office.wall() * 1000)
        charge.finder = Pathfinder(keys, self._random, self.budget, sequence, options)
        self.counters["begun"] += 1
        if self.is_settled or now >= self._patience_ends:
            self._tell(charge, now)
        else:
            self._waiting[charge.key] = None

    def let_down(self, charge: Charge, now: float) -> None:
        """Nobody wants it any more. Where the peer is stays as it is."""
        charge.stop(now)
        self._waiting.pop(charge.key, None)
        self.set_path_ids(charge.key, ())

    # --- What is told to them ---

    def tell(self, now: float) -> None:
        """What stands changed, or there is nothing more to wait for."""
        if self.is_settled:
            self._stop_waiting(now)
        for charge in list(self._all.values()):
            if charge.finder is not None and charge.key not in self._waiting:
                self._tell(charge, now)

    def _stop_waiting(self, now: float) -> None:
        waiting, self._waiting = list(self._waiting), {}
        for key in waiting:
            charge = self._all.get(key)
            if charge is not None:
                self._tell(charge, now)

    def _tell(self, charge: Charge, now: float) -> None:
        charge.local(self.standing, now)
        self.run(charge, now)

    def network_changed(self, now: float) -> None:
        """Addresses, routes or our port are others, or the machine slept; `tell` follows."""
        for charge in list(self._all.values()):
            if charge.finder is not None:
                charge.finder.network_changed(now)
                self.run(charge, now)
                self._waiting[charge.key] = None
        self._patience_ends = now + PATIENCE

    def gone(self, via: int, now: float) -> None:
        """A relay is no longer there."""
        for charge in list(self._all.values()):
            if charge.finder is not None:
                charge.finder.gone(via, now)
                self.run(charge, now)

    def released(self, place: Place, now: float) -> None:
        """A channel of a relay leads nowhere any more."""
        for charge in list(self._all.values()):
            if charge.finder is not None:
                charge.finder.released(place, now)
                self.run(charge, now)

    # --- What comes for them ---

    def set_path_ids(self, key: PublicKey, ids: tuple[bytes, ...]) -> None:
        """Probes with these ids are this peer's, and no others."""
        for each in self._ids.pop(key, ()):
            self._by_id.pop(each, None)
        if ids:
            self._ids[key] = ids
            self._by_id.update(dict.fromkeys(ids, key))
        self._roads.set_path_ids(self._by_id)

    def owner(self, data: bytes) -> Charge | None:
        """Whose a probe is."""
        path_id = data[PATH_ID_OFFSET : PATH_ID_OFFSET + PATH_ID_LENGTH]
        key = self._by_id.get(path_id)
        return None if key is None else self._all.get(key)

    def probe(self, data: bytes, source: Place, now: float) -> None:
        """A datagram of type 0x12 or 0x13 came from there."""
        charge = self.owner(data)
        if charge is None or charge.finder is None:
            self.counters["probe_of_nobody"] += 1
            return
        charge.finder.receive(data, source, now)
        self.run(charge, now)

    # --- Time ---

    def run(self, charge: Charge, now: float) -> None:
        """Do what is due for one, and note when that is next."""
        charge.run(now)
        when = charge.due()
        if when is None or charge.key not in self._all:
            self._noted.pop(charge.key, None)
            return
        if self._noted.get(charge.key) != when:
            self._noted[charge.key] = when
            self._entries += 1
            heapq.heappush(self._agenda, (when, self._entries, charge.key))

    def work(self, now: float) -> None:
        """Do what is due."""
        if self._waiting and now >= self._patience_ends:
            self._stop_waiting(now)
        due: list[PublicKey] = []
        while (when := self._top()) is not None and when <= now:
            due.append(heapq.heappop(self._agenda)[2])
            del self._noted[due[-1]]
        # Each once: whoever is due again at once has the next turn of the loop.
        for key in due:
            charge = self._all.get(key)
            if charge is not None:
                self.run(charge, now)

    def next_at(self) -> float | None:
        """When `work` has something to do."""
        moments = (self._patience_ends if self._waiting else None, self._top())
        return min((each for each in moments if each is not None), default=None)

    def _top(self) -> float | None:
        while self._agenda and self._noted.get(self._agenda[0][2]) != self._agenda[0][0]:
            heapq.heappop(self._agenda)
        return self._agenda[0][0] if self._agenda else None
