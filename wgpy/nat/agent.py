"""Finds the ways to the managed peers of one device: what `[nat]` and `nat = true` bring about.

    device ── Lookout ──►  Agent  ── Roads ──►  device
                             │
          gather.py  charges.py  relays.py  sockets.py      and an Office, which has the sockets

A peer costs nothing until somebody wants it: the first packet to it, or its own signal. Then its
pathfinder is told where we may be found, meets the other side, and proves paths; the best becomes
the peer's endpoint, and is watched. When its session has ended, all of that is forgotten again.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from wgpy.datapath.contract import Datagram, Endpoint
from wgpy.device.paths import NatSettings, NatState, PathState
from wgpy.device.roads import Roads
from wgpy.device.uapi import Address
from wgpy.device.ways import WayError
from wgpy.keys import PublicKey
from wgpy.nat.behaviour import Behaviour
from wgpy.nat.candidates import Candidate, Kind, Refused
from wgpy.nat.charge import Hands, Standing, to_endpoint, to_place
from wgpy.nat.charges import Charges
from wgpy.nat.errands import Machine, Office
from wgpy.nat.gather import Gatherer
from wgpy.nat.keeper import Keeper
from wgpy.nat.mtu_follower import MtuFollower
from wgpy.nat.names import ServerNames
from wgpy.nat.orders import Observed, Opened, WantSockets
from wgpy.nat.place import Place, Send
from wgpy.nat.relay import Closed, Reached, Released, Stray
from wgpy.nat.relays import Relays
from wgpy.nat.sockets import Sockets
from wgpy.nat.stun import is_binding
from wgpy.nat.witness import Witnesses
from wgpy.protocol.constants import TYPE_PROBE, TYPE_PROBE_REPLY
from wgpy.protocol.messages import ParseError, message_type

# Routes and addresses change in bursts when a link comes up: they are looked at once.
SETTLE: Final = 0.1


class Agent:
    """`Ways` and `Lookout` of one device. `random` gives random bytes."""

    def __init__(self, roads: Roads, office: Office, random: Callable[[int], bytes]) -> None:
        self._roads = roads
        self._office = office
        self._settings: NatSettings | None = None
        self._machine = Machine((), (), (), 1500, 0, tunnel_v6=True)
        self._look_at: float | None = None
        self._gatherer = Gatherer(random)
        self._relays = Relays(roads, office, random)
        self._witnesses = Witnesses()
        self._sockets = Sockets(
            office,
            random,
            received=self._by_socket,
            ready=self._sockets_ready,
            adopt=roads.add_socket,
            dismiss=roads.remove_via,
        )
        self._mtu = MtuFollower(office.set_mtu)
        self._charges = Charges(roads, office, random, self._make_hands())
        self._keeper = Keeper(office, random)
        self._names = ServerNames(office, self._found)
        self._sources: frozenset[tuple[str, int]] = frozenset()
        self._mapped: tuple[tuple[Place, ...], str] = ((), "")

    def _make_hands(self) -> Hands:
        return Hands(
            send=self._send,
            outward=lambda place: self._sockets.outward(place, use=True),
            post=self._office.post,
            want_sockets=self._want_sockets,
            drop_sockets=self._sockets.drop,
            path_ids=lambda key, ids: self._charges.set_path_ids(key, ids),
            remote=self._remote,
            doubt_relay=lambda via: self._relays.doubt(via, self._office.now()),
            observed=self._observed,
            mtu=lambda key, mtu: self._mtu.path(key, mtu),
            log=self._office.log,
        )

    # --- Ways: what the operator says ---

    def configure(self, settings: NatSettings | None) -> Callable[[], None]:
        """See Ways. What the settings name is read now."""
        secrets = {} if settings is None else self._office.secrets(settings)
        relays = self._relays.prepare(() if settings is None else settings.turn, secrets)

        def put_into_force() -> None:
            now = self._office.now()
            former, self._settings = self._settings, settings
            self._relays.configure(relays, now)
            if settings is None:
                self._turn_off(now)
            elif settings != former:
                self._turn_on(settings, now)

        return put_into_force

    def _turn_on(self, settings: NatSettings, now: float) -> None:
        self._office.set_signal(settings.signal)
        self._gatherer.birthday = settings.birthday
        self._names.configure(settings.stun)
        self._roads.listen(self)
        self._look_at_machine()
        self.bound(self._roads.port)

    def _turn_off(self, now: float) -> None:
        for charge in list(self._charges):
            self._charges.remove(charge.key, now)
        self._relays.stop(now)
        self._sockets.close()
        self._office.set_signal(None)
        self._office.map_port(0, False)
        self._names.configure(())
        self._keeper.stop()
        self._gatherer.set_servers(())
        self._gatherer.bound(0, now)
        self._settle(now)
        self._mtu.stop()

    def manage(self, key: PublicKey, managed: bool) -> None:
        """See Ways."""
        if managed:
            self._charges.add(key)
            if self._roads.in_session(key):
                self.began(key)
            return
        self._charges.remove(key, self._office.now())
        self._relays.forget(key)
        self._sockets.drop_of(key)
        self._mtu.path(key, 0)

    def removed(self, key: PublicKey) -> None:
        """See Ways."""
        self.manage(key, False)

    def hint(self, key: PublicKey, place: Endpoint) -> None:
        """See Ways."""
        charge = self._charges.get(key)
        if charge is not None:
            charge.hint(to_place(place))

    def close(self) -> None:
        """See Ways."""
        if self._settings is not None:
            self._settings = None
            self._turn_off(self._office.now())

    # --- Ways: offers that people carry ---

    def offer(self, key: PublicKey) -> None:
        """See Ways."""
        charge = self._charges.get(key)
        if charge is None:
            return
        now = self._office.now()
        if charge.finder is not None:
            self._charges.let_down(charge, now)
        charge.talk()
        self._charges.begin(charge, now)
        self._settle(now)

    def offered(self, key: PublicKey) -> str | None:
        """See Ways."""
        charge = self._charges.get(key)
        return None if charge is None else charge.offered(self._office.now())

    def answer(self, key: PublicKey, text: str) -> Callable[[], None]:
        """See Ways."""
        charge = self._charges.get(key)
        if charge is None:
            raise WayError("there is no such peer with `nat = true`")
        data = charge.read(text)

        def go_on() -> None:
            now = self._office.now()
            charge.talk()
            self._charges.begin(charge, now)
            charge.signal(data, now)
            self._charges.run(charge, now)
            self._settle(now)

        return go_on

    # --- Ways: what is shown ---

    def describe(self, key: PublicKey) -> PathState | None:
        """See Ways."""
        charge = self._charges.get(key)
        return None if charge is None else charge.describe(self._relays.uri_of)

    def state(self) -> NatState:
        """See Ways."""
        mapping = self._gatherer.facts.mapping
        return NatState(
            tuple(
                (each.kind.name.lower(), Address(each.host, each.port))
                for each in self._gatherer.candidates
            ),
            mapping="" if mapping is Behaviour.UNKNOWN else mapping.value,
            portmap=self._mapped[1],
            keepalive=self._keeper.interval,
        )

    def counters(self) -> Mapping[str, int]:
        """See Ways."""
        found: Counter[str] = Counter()
        parts = (
            self._charges,
            self._charges.budget,
            self._gatherer,
            self._sockets,
            self._relays,
            self._keeper,
        )
        for part in parts:
            found.update(part.counters)
        found.update(self._office.counters())
        for charge in self._charges:
            if charge.finder is not None:
                found.update(charge.finder.counters)
        return found

    # --- Lookout: what happens on the roads ---

    def received(self, datagram: Datagram) -> None:
        """See Lookout."""
        place = self._sockets.inward(to_place(datagram.endpoint))
        now = self._office.now()
        self._take_in(datagram.data, place, now)
        self._settle(now)

    def roamed(self, key: PublicKey, source: Endpoint) -> None:
        """See Lookout."""
        charge, now = self._charges.get(key), self._office.now()
        if charge is None:
            return
        self._charges.begin(charge, now)
        charge.heard(self._sockets.inward(to_place(source)), now)
        self._charges.run(charge, now)
        self._settle(now)

    def wanted(self, key: PublicKey) -> None:
        """See Lookout."""
        charge, now = self._charges.get(key), self._office.now()
        if charge is not None:
            self._charges.begin(charge, now)
            charge.want(now)
            self._charges.run(charge, now)
            self._settle(now)

    def began(self, key: PublicKey) -> None:
        """See Lookout."""
        charge, now = self._charges.get(key), self._office.now()
        if charge is not None:
            self._charges.begin(charge, now)
            charge.active(now)
            self._charges.run(charge, now)

    def ended(self, key: PublicKey) -> None:
        """See Lookout."""
        charge, now = self._charges.get(key), self._office.now()
        if charge is not None and charge.finder is not None and not charge.is_talking:
            self._charges.let_down(charge, now)
            self._relays.forget(key)
            self._roads.use(key, None)
            self._settle(now)

    def bound(self, port: int) -> None:
        """See Lookout."""
        if self._settings is None:
            return
        now = self._office.now()
        self._office.map_port(port, port > 0 and self._settings.portmap)
        self._gatherer.bound(port, now)
        if port:
            self._relays.start(now)
        else:
            self._relays.stop(now)
        self._charges.network_changed(now)
        self._settle(now)

    def changed(self) -> None:
        """See Lookout."""
        if self._settings is not None and self._look_at is None:
            self._look_at = self._office.now() + SETTLE

    def slept(self) -> None:
        """See Lookout."""
        if self._settings is not None:
            self._renew(self._office.now())

    def own_key_changed(self) -> None:
        """See Lookout."""
        now = self._office.now()
        for charge in list(self._charges):
            if charge.finder is not None:
                self._charges.let_down(charge, now)
                self._roads.use(charge.key, None)
        if self._settings is not None:
            self._office.set_signal(self._settings.signal)
            self._office.map_port(self._roads.port, self._settings.portmap and self._roads.port > 0)
        self._settle(now)

    def work(self, now: float) -> None:
        """See Lookout."""
        if self._look_at is not None and now >= self._look_at:
            self._look_at = None
            former = self._machine
            self._look_at_machine()
            if self._machine.moved_since(former):
                self._renew(now)
            self._settle(now)
        self._charges.work(now)
        self._settle(now)

    def next_at(self) -> float | None:
        """See Lookout."""
        parts = (self._gatherer, self._relays, self._sockets, self._names)
        moments = [self._look_at, self._charges.next_at(), *(part.due() for part in parts)]
        moments.append(self._keeper.due(self._gatherer.translator, self._office.now()))
        return min((each for each in moments if each is not None), default=None)

    # --- The office's news ---

    def signalled(self, sender: PublicKey, data: bytes) -> None:
        """A signal came that says that it is from this peer."""
        charge, now = self._charges.get(sender), self._office.now()
        if charge is None:
            self._charges.counters["signal_of_nobody"] += 1
            return
        self._charges.begin(charge, now)
        charge.signal(data, now)
        self._charges.run(charge, now)
        self._settle(now)

    def mapped(self, places: tuple[Place, ...], service: str) -> None:
        """The router forwards these to us, or nothing any more."""
        self._mapped = (places, service)
        self._gatherer.set_mapped(places)
        self._settle(self._office.now())

    def _found(self, servers: list[Place]) -> None:
        """STUN servers' names are known."""
        now = self._office.now()
        self._gatherer.set_servers(servers)
        self._gatherer.again(now)
        self._settle(now)

    # --- The machine ---

    def _look_at_machine(self) -> None:
        self._machine = machine = self._office.machine()
        refused = Refused(machine.tunnels, frozenset(machine.hosts))
        self._gatherer.set_hosts(machine.hosts, refused)
        self._keeper.network(machine.ways_out, self._office.now())
        self._mtu.link(machine.tunnel_mtu, v6=machine.tunnel_v6)

    def _renew(self, now: float) -> None:
        """The network is another one, or was away: nothing that was learned is certain."""
        self._gatherer.forget(now)
        self._names.ask()
        # Silence that a sleep made says nothing of the NAT.
        self._keeper.stop()
        self._keeper.network(self._machine.ways_out, now)
        self._relays.network_changed(now)
        self._witnesses.forget()
        self._gatherer.set_witnessed(())
        self._charges.network_changed(now)
        self._settle(now)

    # --- What comes in, and what goes out ---

    def _take_in(self, data: bytes, place: Place, now: float) -> None:
        try:
            kind = message_type(data)
        except ParseError:
            return
        if kind in (TYPE_PROBE, TYPE_PROBE_REPLY):
            self._charges.probe(data, place, now)
        elif is_binding(data) or not self._relays.receive(data, place, now):
            # One server is often both, and TURN clients never ask for a binding.
            self._gatherer.receive(data, place, now)

    def _by_socket(self, owner: PublicKey, data: bytes, place: Place) -> None:
        """A datagram came by a further socket, past the data path's filter."""
        charge, now = self._charges.owner(data), self._office.now()
        if charge is not None and charge.key == owner:
            self._take_in(data, place, now)
            self._settle(now)

    def _send(self, order: Send) -> None:
        # Who gets a reply may send packets of the tunnel next, which are for the data path to read.
        place = self._sockets.outward(order.to, use=order.data[0] == TYPE_PROBE_REPLY)
        if self._sockets.send(order):
            return
        if place is not None:
            self._roads.send(order.data, to_endpoint(place), ttl=order.ttl, whole=order.whole)

    def _want_sockets(self, key: PublicKey, order: WantSockets, now: float) -> None:
        server = self._gatherer.server_of(order.family)
        self._sockets.want(key, order.number, order.family, server, now)

    def _sockets_ready(self, key: PublicKey, opened: list[Opened]) -> None:
        charge, now = self._charges.get(key), self._office.now()
        if charge is None or charge.finder is None:
            self._sockets.drop(tuple(each.via for each in opened))
            return
        charge.sockets(opened, now)
        self._charges.run(charge, now)

    def _remote(self, key: PublicKey, candidates: tuple[Candidate, ...], now: float) -> None:
        """Where the peer says that it is: what a relay of ours should lead to is its relay, or,
        where it has none, what servers see of it."""
        for wanted in (Kind.RELAYED, Kind.REFLEXIVE):
            places = [Place(x.host, x.port) for x in candidates if x.kind is wanted]
            if places:
                charge = self._charges.get(key)
                used = None if charge is None else charge.destination
                self._relays.want(key, places, used, now)
                return

    def _observed(self, key: PublicKey, order: Observed) -> None:
        if order.via == 0:
            now = self._office.now()
            self._witnesses.seen(key, (order.host, order.port), now)
            self._gatherer.set_witnessed(self._witnesses.agreed(frozenset(), now))

    def _settle(self, now: float) -> None:
        """Let the parts work, and carry news from one to the other, until there is none."""
        self._sockets.tick(now)
        self._names.tick(now)
        self._keeper.tick(self._gatherer.translator, now)
        self._gatherer.keepalive = self._keeper.interval
        self._gatherer.tick(now)
        self._relays.tick(now)
        self._follow_sources()
        for order in self._gatherer.take():
            self._send(order)
        for item in self._relays.take():
            if isinstance(item, Send):
                self._send(item)
            elif isinstance(item, Reached):
                charge = None if item.owner is None else self._charges.get(item.owner)
                if charge is not None and charge.finder is not None:
                    charge.finder.relay(item.place, now)
                    self._charges.run(charge, now)
            elif isinstance(item, Released):
                self._charges.released(item.place, now)
            elif isinstance(item, Closed):
                self._charges.gone(item.via, now)
            elif isinstance(item, Stray):
                self._stray(item, now)
        self._gatherer.set_relayed(self._relays.relayed)
        self._follow(now)

    def _follow_sources(self) -> None:
        """Tell the data path whose STUN may come up, before anything is sent there."""
        places = (*self._gatherer.sources, *self._relays.sources)
        sources = frozenset((place.host, place.port) for place in places)
        if sources != self._sources:
            self._sources = sources
            self._roads.set_stun_sources(sources)

    def _stray(self, item: Stray, now: float) -> None:
        """A peer without a channel sent to our relay: it needs one, if it is one of ours."""
        charge = self._charges.owner(item.data)
        if charge is not None and item.data[:1] == bytes([TYPE_PROBE]):
            self._relays.add(charge.key, item.place, now)

    def _follow(self, now: float) -> None:
        """Tell the pathfinders what is new of us."""
        was_settled = self._charges.is_settled
        # Servers that are silent are not waited for where there is a relay to begin with.
        is_settled = self._relays.is_settled and (
            self._gatherer.is_settled or bool(self._relays.relayed)
        )
        self._charges.is_settled = is_settled
        settings = self._settings
        standing = Standing(
            self._gatherer.candidates,
            self._gatherer.facts,
            self._gatherer.refused,
            self._machine.link_mtu,
            relay_only=settings is not None and settings.relay_only,
            keepalive=self._gatherer.keepalive,
        )
        if standing != self._charges.standing or (is_settled and not was_settled):
            self._charges.standing = standing
            self._charges.tell(now)
