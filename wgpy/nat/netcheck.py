"""What stands between this machine and the servers: both versions of IP, and how long a NAT
remembers. Without a socket; netcheck_run.py has them.

A socket is known by its handle: `Place.via` of what is sent and of what came.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from wgpy.nat.lifetime import LADDER, Bracket, bracket
from wgpy.nat.lifetime_look import Look
from wgpy.nat.netcheck_family import SOCKETS, FamilyCheck, Socket, Target
from wgpy.nat.netcheck_report import Family, Report, Server, Status
from wgpy.nat.place import Place, Send

# For a measurement of the lifetime: one for each idle time, all at once.
LIFETIME_SOCKETS: Final = len(LADDER)


class Netcheck:
    """The whole check. `sockets` are by version of IP: SOCKETS of each that there is a route for,
    and LIFETIME_SOCKETS more of one of them if the lifetime is to be measured.

    `done` says whether it is over.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        sockets: Mapping[int, Sequence[Socket]],
        now: float,
        random: Callable[[int], bytes],
        *,
        lifetime: bool = False,
    ) -> None:
        self._targets = targets
        self._random = random
        self._checks: dict[int, FamilyCheck] = {}
        self._spare: dict[int, Sequence[Socket]] = {}
        self._wants_lifetime = lifetime
        self._looks: list[Look] | None = None
        self._by_via: dict[int, Look] = {}
        for version, ours in sockets.items():
            asked = [x for x in targets if x.place.is_v6 == (version == 6)]
            if asked and len(ours) >= SOCKETS:
                self._checks[version] = FamilyCheck(asked, ours[:SOCKETS], now, random)
                self._spare[version] = ours[SOCKETS:]

    @property
    def done(self) -> bool:
        """Whether everything was seen."""
        if not all(check.done for check in self._checks.values()):
            return False
        return all(look.verdict is not None for look in self._looks or ())

    def receive(self, data: bytes, source: Place, now: float) -> None:
        """Take a datagram that came to the socket `source.via`. Nothing is raised."""
        look = self._by_via.get(source.via)
        if look is not None:
            look.receive(data, source, now)
        else:
            check = self._checks.get(6 if source.is_v6 else 4)
            if check is not None:
                check.receive(data, source, now)
        self._go_on(now)

    def tick(self, now: float) -> None:
        """Do what is due."""
        for part in self._parts():
            part.tick(now)
        self._go_on(now)

    def due(self) -> float | None:
        """When `tick` has something to do; None if it is over."""
        times = (part.due() for part in self._parts())
        return min((x for x in times if x is not None), default=None)

    def take(self) -> list[Send]:
        """What is to be sent."""
        return [send for part in self._parts() for send in part.take()]

    def _parts(self) -> list[FamilyCheck | Look]:
        return [*self._checks.values(), *(self._looks or ())]

    def _go_on(self, now: float) -> None:
        """Measure the lifetime once the rest is over: then nothing else asks the server."""
        if self._looks is not None:
            # Who has forgotten after so long need not be asked about longer.
            dead = bracket({x.idle: x.verdict for x in self._looks if x.verdict}).dead
            self._looks = [x for x in self._looks if dead is None or x.idle <= dead]
            return
        if not self._wants_lifetime:
            return
        if not all(check.done for check in self._checks.values()):
            return
        self._looks = []
        for version, check in sorted(self._checks.items()):
            spare = self._spare[version]
            if check.best is None or len(spare) < LIFETIME_SOCKETS:
                continue
            for idle, socket in zip(LADDER, spare, strict=False):
                place = check.best._replace(via=socket.via)
                look = Look(place, idle, now, self._random)
                self._looks.append(look)
                self._by_via[socket.via] = look
            return

    # --- What was found ---

    def report(self) -> Report:
        """What is known by now: of the network's services nothing, which netcheck_run.py adds."""
        return Report(
            v4=self._family(4),
            v6=self._family(6),
            servers=tuple(self._servers()),
            lifetime=self._lifetime(),
            counters=self._counters(),
        )

    def _family(self, version: int) -> Family:
        check = self._checks.get(version)
        if check is not None:
            return check.result()
        asked = any(x.place.is_v6 == (version == 6) for x in self._targets)
        return Family(Status.NO_ROUTE if asked else Status.NOT_ASKED)

    def _servers(self) -> list[Server]:
        found = {x.address: x for check in self._checks.values() for x in check.servers()}
        return [
            found.get(str(x.place), Server(x.name, str(x.place), None, Status.NO_ROUTE.value))
            for x in self._targets
        ]

    def _lifetime(self) -> Bracket | None:
        if self._looks is None:
            return None
        return bracket({x.idle: x.verdict for x in self._looks if x.verdict is not None})

    def _counters(self) -> Counter[str]:
        counted: Counter[str] = Counter()
        for part in self._parts():
            counted.update(part.client.counters)
        return counted
