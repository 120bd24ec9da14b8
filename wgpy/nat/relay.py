"""One TURN server: which way to it is used, the allocation there, and its channels.

REST ── start ──► names ──► ladder: UDP, TCP, TLS ── allocated ──► used ── lost ──► again
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from wgpy.datapath.contract import DataPathError
from wgpy.device.paths import Transport, TurnSettings, TurnUri
from wgpy.device.roads import Roads
from wgpy.keys import PublicKey
from wgpy.nat.charge import to_endpoint
from wgpy.nat.errands import Office, Stream
from wgpy.nat.place import Place, Send
from wgpy.nat.turn import TurnClient
from wgpy.nat.turn_auth import Challenge
from wgpy.nat.turn_credentials import Source
from wgpy.nat.turn_events import WORDS, Allocated, Arrived, Bound, Lost, PermissionRefused, Reason
from wgpy.nat.turn_events import Event as TurnEvent
from wgpy.nat.turn_ladder import Act, Ladder

# When every way has failed, in seconds; each failure after the other doubles it.
AGAIN: Final = 1.0
MAX_AGAIN: Final = 60.0
# Beyond this the ways whose names are known do not wait for the others.
NAME_SECONDS: Final = 1.0


class Reached(NamedTuple):
    """A channel leads to a place of the peer's: `place` names relay and channel. The owner is who
    wants it, None where that is not known here."""

    place: Place
    owner: PublicKey | None = None


class Released(NamedTuple):
    """A channel that was Reached leads nowhere any more: nobody wanted it."""

    place: Place


class Closed(NamedTuple):
    """What the data path called this relay leads nowhere any more."""

    via: int


class Stray(NamedTuple):
    """A datagram came to our relay from an address that has a permission but no channel."""

    place: Place
    data: bytes


class _Way:
    """One way to the server, from when it is tried until it is closed."""

    __slots__ = ("client", "stream", "transport", "via")

    def __init__(
        self, transport: Transport, client: TurnClient, via: int, stream: Stream | None
    ) -> None:
        self.transport = transport
        self.client = client
        self.via = via
        self.stream = stream


class Relay:
    """The server of one `[[nat.turn]]`."""

    def __init__(
        self,
        settings: TurnSettings,
        source: Source,
        roads: Roads,
        office: Office,
        random: Callable[[int], bytes],
    ) -> None:
        self.settings = settings
        self.source = source
        self.counters: Counter[str] = Counter()
        # Place of a peer -> the same with relay and channel.
        self.bound: dict[Place, Place] = {}
        self._roads = roads
        self._office = office
        self._random = random
        self._uris: dict[Transport, TurnUri] = {}
        for uri in settings.uris:
            self._uris.setdefault(uri.transport, uri)
        self._places: dict[Transport, Place] = {}
        # Whose names are being looked up.
        self._asked: set[Transport] = set()
        self._ladder: Ladder | None = None
        self._ways: dict[Transport, _Way] = {}
        self._used: _Way | None = None
        self._closing: list[TurnClient] = []
        self._last: Transport | None = None
        self._remembered: Challenge | None = None
        # What people were told of a way that does not work.
        self._said: dict[Transport, str] = {}
        self._wanted: set[Place] = set()
        self._failures = 0
        self._again: float | None = None
        self._tried = float("-inf")
        self._is_on = False
        self._out: list[Send | Reached | Released | Closed | Stray] = []

    # --- Coming and going ---

    def start(self, now: float) -> None:
        """Lend us an address."""
        self._is_on, self._failures = True, 0
        self._ask_names(now)

    def _ask_names(self, now: float) -> None:
        self._asked = set(self._uris)
        self._again = now + NAME_SECONDS
        for transport, uri in self._uris.items():
            self._office.find(uri.host, uri.port, self._namer(transport))

    def _namer(self, transport: Transport) -> Callable[[list[Place]], None]:
        def found(places: list[Place]) -> None:
            if places:
                # The first, as the resolver orders them.
                self._places[transport] = places[0]
            self._asked.discard(transport)
            if not self._asked and self._is_on and self._ladder is None:
                self._begin(self._office.now())

        return found

    def _begin(self, now: float) -> None:
        """Try the ways whose addresses are known."""
        self._again = None
        self._tried = now
        if self._places:
            self._ladder = Ladder(tuple(self._places), now, self._last)
        elif self._asked:
            self._again = now + NAME_SECONDS
        else:
            self._rest(now)

    def _rest(self, now: float) -> None:
        """Nothing led to the server. From when it was tried last: an allocation that lasted for a
        while is missed at once."""
        wait = min(AGAIN * 2.0 ** min(self._failures, 10), MAX_AGAIN)
        self._failures += 1
        self._again = max(now, self._tried + wait)

    def stop(self, now: float) -> None:
        """Give it back."""
        self._is_on, self._ladder, self._again = False, None, None
        for way in list(self._ways.values()):
            self._close(way, now)

    def renew(self, source: Source, now: float) -> None:
        """The credentials were read again: a server that refused the former ones may take them."""
        self.source = source
        if self._is_on and self._used is None and self._again is not None:
            self._failures, self._again = 0, now

    def network_changed(self, now: float) -> None:
        """Everything may be otherwise now."""
        if not self._is_on:
            return
        self._failures, self._last = 0, None
        self._ask_names(now)
        for way in self._ways.values():
            way.client.network_changed(now)
            self._drain(way, now)

    def check(self, now: float) -> None:
        """Ask whether the server still relays for us."""
        if self._used is not None:
            self._used.client.check(now)
            self._drain(self._used, now)

    # --- What is there ---

    @property
    def via(self) -> int | None:
        """What the data path calls it."""
        return None if self._used is None else self._used.via

    @property
    def uri(self) -> TurnUri | None:
        """The way in use."""
        return None if self._used is None else self._uris[self._used.transport]

    @property
    def relayed(self) -> Place | None:
        """What is lent to us."""
        return None if self._used is None else self._used.client.relayed

    @property
    def sources(self) -> tuple[Place, ...]:
        """Where STUN may come from by the tunnel's socket."""
        place = self._places.get(Transport.UDP)
        return () if place is None else (place,)

    @property
    def is_settled(self) -> bool:
        """Whether there is an allocation in the network where we are, or none is to be expected
        soon: who tells of one that is about to be lost has to tell of another."""
        is_there = self._used is not None and self._used.client.is_certain
        return not self._is_on or is_there or self._failures > 0

    def counted(self) -> Counter[str]:
        """What its clients counted, those of now and those of before."""
        found = Counter(self.counters)
        for way in self._ways.values():
            found.update(way.client.counters)
        return found

    # --- Channels ---

    def bind(self, wanted: Iterable[Place], now: float) -> None:
        """Channels to these places, and no others."""
        former, self._wanted = self._wanted, set(wanted)
        way = self._used
        if way is None:
            return
        for place in former - self._wanted:
            way.client.release(place)
            reached = self.bound.pop(place, None)
            if reached is not None:
                self._roads.set_channel(way.via, reached.channel, None)
                self._out.append(Released(reached))
        for place in self._wanted - former:
            way.client.bind(place, now)
        self._drain(way, now)

    # --- Time, and what comes ---

    def receive(self, data: bytes, source: Place, now: float) -> bool:
        """A STUN message by the tunnel's socket; whether it is the server's."""
        way = self._ways.get(Transport.UDP)
        if way is None or source != way.client.server:
            return False
        if way.client.receive(data, source, now) and self._ladder is not None:
            self._ladder.answered(Transport.UDP, now)
        self._drain(way, now)
        return True

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self._again is not None and now >= self._again:
            self._again = None
            if self._ladder is None and (self._places or self._asked):
                self._begin(now)
            elif self._ladder is None:
                self._ask_names(now)
        for way in list(self._ways.values()):
            if way.stream is None:
                way.client.tick(now)
                self._drain(way, now)
        for client in list(self._closing):
            client.tick(now)
            self._flush(client)
        self._climb(now)

    def due(self) -> float | None:
        """When `tick` has something to do."""
        moments = [self._again, None if self._ladder is None else self._ladder.due()]
        moments += [way.client.due() for way in self._ways.values() if way.stream is None]
        moments += [client.due() for client in self._closing]
        return min((each for each in moments if each is not None), default=None)

    def take(self) -> list[Send | Reached | Released | Closed | Stray]:
        """What is to be sent, and what happened."""
        taken, self._out = self._out, []
        return taken

    # --- The ladder ---

    def _climb(self, now: float) -> None:
        ladder = self._ladder
        while ladder is not None and (steps := ladder.tick(now)):
            for step in steps:
                if step.act is Act.START:
                    self._open(step.transport, now)
                elif step.act is Act.USE:
                    self._use(step.transport, now)
                elif step.transport in self._ways:
                    self._close(self._ways[step.transport], now)
        if ladder is not None and ladder.is_over and self._is_on:
            self._ladder = None
            self._rest(now)

    def _open(self, transport: Transport, now: float) -> None:
        place, uri = self._places[transport], self._uris[transport]
        client = TurnClient(
            place,
            lambda when: self.source(when),
            self._random,
            stream=transport is not Transport.UDP,
            remembered=self._remembered,
        )
        stream, carrier = None, None
        if transport is not Transport.UDP:
            stream = self._office.open_stream(
                place, uri, self.settings.ca_file, client, lambda event: self._told(way, event)
            )
            carrier = stream.take_carrier()
        try:
            via = self._roads.add_relay(to_endpoint(place), carrier)
        except DataPathError as error:
            # Two [[nat.turn]] with one server, or the data path has as many as may be.
            self._office.log(f"the relay at {place}: {error}", problem=True)
            via = 0
        way = _Way(transport, client, via, stream)
        self._ways[transport] = way
        if not via:
            self._fail(way, now)
            return
        if stream is None:
            client.start(now)
            self._drain(way, now)

    def _use(self, transport: Transport, now: float) -> None:
        self._used = way = self._ways[transport]
        self._last, self._failures = transport, 0
        self.bound.clear()
        for place in self._wanted:
            way.client.bind(place, now)
        self._drain(way, now)

    def _fail(self, way: _Way, now: float) -> None:
        self._close(way, now)
        if self._ladder is not None:
            self._ladder.failed(way.transport, now)

    def _close(self, way: _Way, now: float) -> None:
        self._ways.pop(way.transport, None)
        self.counters.update(way.client.counters)
        way.client.counters.clear()
        self._remembered = way.client.challenge
        if way.stream is not None:
            way.stream.close()
        else:
            way.client.close(now)
            self._closing.append(way.client)
            self._flush(way.client)
        if way is self._used:
            self._used = None
            self.bound.clear()
        if way.via:
            self._roads.remove_via(way.via)
            self._out.append(Closed(way.via))

    def _flush(self, client: TurnClient) -> None:
        """Send what a client that is being closed still says."""
        self._out += [item for item in client.take() if isinstance(item, Send)]
        if client.due() is None:
            self._closing.remove(client)

    # --- What the clients say ---

    def _drain(self, way: _Way, now: float) -> None:
        if way.stream is not None:
            way.stream.pump()
            return
        for item in way.client.take():
            if isinstance(item, Send):
                self._out.append(item)
            else:
                self._on(way, item, now)

    def _told(self, way: _Way, event: TurnEvent) -> None:
        """A stream's client says something, from a call of the loop's."""
        now = self._office.now()
        self._on(way, event, now)
        self._climb(now)
        self._office.relays_changed()

    def _on(self, way: _Way, event: TurnEvent, now: float) -> None:
        if self._ways.get(way.transport) is not way:
            return
        if isinstance(event, Allocated):
            self._said.pop(way.transport, None)
            if self._ladder is not None:
                self._ladder.ready(way.transport, now)
        elif isinstance(event, Bound):
            self._roads.set_channel(way.via, event.channel, to_endpoint(event.peer))
            reached = event.peer._replace(via=way.via, channel=event.channel)
            if way is self._used:
                self.bound[event.peer] = reached
                self._out.append(Reached(reached))
        elif isinstance(event, Arrived):
            self._out.append(Stray(event.peer, event.data))
        elif isinstance(event, Lost):
            self._complain(way, event.reason)
            self._fail(way, now)
        elif isinstance(event, PermissionRefused):
            self._office.log(
                f"the relay at {way.client.server} does not pass on to {event.peer.host}: error "
                f"{event.code}",
                problem=True,
            )

    def _complain(self, way: _Way, reason: Reason) -> None:
        """Say once what is the matter with a way, and again when that is something else."""
        why = WORDS[reason]
        if reason is Reason.DISCONNECTED and way.stream is not None and way.stream.trouble:
            why = way.stream.trouble
        if self._said.get(way.transport) == why:
            return
        self._said[way.transport] = why
        by = way.transport.value.upper()
        self._office.log(f"the relay at {way.client.server}, by {by}: {why}", problem=True)
