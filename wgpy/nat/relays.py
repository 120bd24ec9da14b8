"""Our relays: one allocation at each TURN server that the operator names, and channels to peers.

    want, add       a peer is to be reached through our relays at these places
    tick, due, receive, take     Sends, and what happened: Reached, Released, ...

Each server is reached by the best of its ways that works (turn_ladder.py): UDP by the tunnel's own
socket, TCP and TLS by a stream whose datagrams the data path gets by a carrier.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from wgpy.device.paths import TurnSettings, TurnUri
from wgpy.device.roads import Roads
from wgpy.device.ways import WayError
from wgpy.keys import PublicKey
from wgpy.nat.errands import Office
from wgpy.nat.place import Place, Send
from wgpy.nat.relay import Closed, Reached, Relay, Released, Stray
from wgpy.nat.turn_credentials import (
    Credentials,
    CredentialsError,
    Source,
    fixed,
    rest_source,
)

# Servers that are used at once: one more than is needed, for when one is away.
MAX_RELAYS: Final = 2
# Places of one peer that channels are bound to: its own relays, or the addresses it is seen at.
MAX_PLACES: Final = 4

Event = Send | Reached | Released | Closed | Stray
Prepared = list[tuple[TurnSettings, Source]]


class Relays:
    """The relays of one interface."""

    def __init__(self, roads: Roads, office: Office, random: Callable[[int], bytes]) -> None:
        self._counts: Counter[str] = Counter()
        self._roads = roads
        self._office = office
        self._random = random
        self._relays: list[Relay] = []
        self._wanted: dict[PublicKey, dict[Place, None]] = {}
        self._is_on = False
        self._out: list[Event] = []

    # --- Settings ---

    def prepare(self, settings: Iterable[TurnSettings], secrets: Mapping[str, bytes]) -> Prepared:
        """The credentials that the settings name. Raises WayError."""
        return [(each, _source(each, secrets, self._office.wall)) for each in settings]

    def configure(self, prepared: Prepared, now: float) -> None:
        """These servers from now on; those that stay are not disturbed."""
        former = {relay.settings: relay for relay in self._relays}
        self._relays = []
        for settings, source in prepared[:MAX_RELAYS]:
            relay = former.pop(settings, None)
            if relay is None:
                relay = Relay(settings, source, self._roads, self._office, self._random)
                if self._is_on:
                    relay.start(now)
            else:
                relay.renew(source, now)
            self._relays.append(relay)
        for relay in former.values():
            relay.stop(now)
            self._collect(relay)
        self._follow(now)

    def start(self, now: float) -> None:
        """The tunnel's sockets are there, or are others: allocations belong to a socket."""
        self.stop(now)
        self._is_on = True
        for relay in self._relays:
            relay.start(now)

    def stop(self, now: float) -> None:
        """Nothing is lent any more."""
        self._is_on = False
        for relay in self._relays:
            relay.stop(now)
            self._collect(relay)

    def network_changed(self, now: float) -> None:
        """What failed before may work now, and what worked may not."""
        for relay in self._relays:
            relay.network_changed(now)

    def doubt(self, via: int, now: float) -> None:
        """A path through this relay is silent."""
        for relay in self._relays:
            if relay.via == via:
                relay.check(now)
                self._collect(relay)

    # --- Peers ---

    def want(
        self, owner: PublicKey, places: Sequence[Place], used: Place | None, now: float
    ) -> None:
        """A peer is to be reached at these places from now on. Of earlier ones the latest stay
        while there is room, and `used` in any case: packets go there."""
        wanted = dict.fromkeys(places[:MAX_PLACES])
        former = [each for each in self._wanted.get(owner, {}) if each not in wanted]
        former.sort(key=lambda each: each == used)
        kept = former[-max(MAX_PLACES - len(wanted), int(used in former)) :]
        # The first is the first to go.
        self._wanted[owner] = dict.fromkeys([*kept, *wanted])
        self._follow(now)

    def add(self, owner: PublicKey, place: Place, now: float) -> None:
        """It sent from there: so there it is to be reached as well."""
        places = self._wanted.setdefault(owner, {})
        if place not in places:
            while len(places) >= MAX_PLACES:
                del places[next(iter(places))]
            places[place] = None
            self._follow(now)

    def forget(self, owner: PublicKey) -> None:
        """Nobody wants this peer any more."""
        if self._wanted.pop(owner, None) is not None:
            self._follow(self._office.now())

    def _follow(self, now: float) -> None:
        wanted = {place for places in self._wanted.values() for place in places}
        for relay in self._relays:
            relay.bind(wanted, now)
            self._collect(relay)
            # Whoever wants a place that others wanted before finds its channel there.
            for place, reached in relay.bound.items():
                self._reached(place, reached)

    def _reached(self, place: Place, reached: Place) -> None:
        for owner, places in self._wanted.items():
            if place in places:
                self._out.append(Reached(reached, owner))

    # --- What is there ---

    @property
    def relayed(self) -> tuple[Place, ...]:
        """Addresses that are lent to us."""
        return tuple(each.relayed for each in self._relays if each.relayed is not None)

    @property
    def sources(self) -> tuple[Place, ...]:
        """Servers whose STUN is to come up."""
        return tuple(place for relay in self._relays for place in relay.sources)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is to be expected soon."""
        return all(relay.is_settled for relay in self._relays)

    @property
    def counters(self) -> Counter[str]:
        """What the clients counted, under `turn_`."""
        found: Counter[str] = Counter()
        for relay in self._relays:
            found.update({f"turn_{name}": n for name, n in relay.counted().items()})
        return found

    def uri_of(self, via: int) -> TurnUri | None:
        """The way to a relay's server, by what the data path calls the relay."""
        return next((x.uri for x in self._relays if x.via == via), None)

    # --- Time, and what comes ---

    def receive(self, data: bytes, source: Place, now: float) -> bool:
        """A STUN message came; whether it is from one of the servers."""
        for relay in self._relays:
            if relay.receive(data, source, now):
                self._collect(relay)
                return True
        return False

    def tick(self, now: float) -> None:
        """Do what is due."""
        for relay in self._relays:
            relay.tick(now)
            self._collect(relay)

    def due(self) -> float | None:
        """When `tick` has something to do."""
        moments = [relay.due() for relay in self._relays]
        return min((each for each in moments if each is not None), default=None)

    def take(self) -> list[Event]:
        """What is to be sent, and what happened."""
        taken, self._out = self._out, []
        return taken

    def _collect(self, relay: Relay) -> None:
        for item in relay.take():
            if isinstance(item, Reached):
                self._reached(Place(item.place.host, item.place.port), item.place)
            else:
                self._out.append(item)


def _source(
    settings: TurnSettings, secrets: Mapping[str, bytes], wall: Callable[[], float]
) -> Source:
    try:
        if settings.secret_file is not None:
            return rest_source(secrets[settings.secret_file].strip(), settings.username, wall)
        password = ""
        if settings.password_file is not None:
            password = secrets[settings.password_file].decode().strip()
        return fixed(Credentials(settings.username, password))
    except (CredentialsError, UnicodeDecodeError) as error:
        where = settings.secret_file or settings.password_file or "[[nat.turn]]"
        raise WayError(f"{where}: {error}") from None
