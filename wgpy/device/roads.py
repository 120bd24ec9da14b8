"""The roads to managed peers: where whoever finds ways tells a device what to do.

    roads = device.roads
    roads.listen(lookout)                    from now on it is told what happens
    roads.use(key, endpoint, hold=0.05)      packets to the peer go there now
    roads.send(data, endpoint, ttl=4)        a datagram of his own, by the tunnel's sockets

A peer is managed if its way is to be found (`nat = true`). It does not roam: an authentic packet
from elsewhere is told of, and moves nothing. Until `use`, it is nowhere.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final, Protocol

from wgpy.datapath.contract import Datagram, DataPath, Endpoint, FilterRule, Via
from wgpy.device.peer import PeerEntry, PeerTable
from wgpy.keys import PublicKey
from wgpy.protocol.activity import Activity
from wgpy.protocol.constants import (
    PATH_ID_OFFSET,
    PROBE_MAX_LENGTH,
    PROBE_MIN_LENGTH,
    PROBE_REPLY_LENGTH,
    TYPE_COOKIE_REPLY,
    TYPE_CREDENTIAL_INITIATION,
    TYPE_CREDENTIAL_RESPONSE,
    TYPE_INITIATION,
    TYPE_PROBE,
    TYPE_PROBE_REPLY,
    TYPE_RESPONSE,
)
from wgpy.protocol.handshake import Remote
from wgpy.protocol.messages import message_type

# Let through while ways are looked for: what names a path that a peer was told of.
_RULES: Final = (
    FilterRule(
        TYPE_PROBE,
        PROBE_MIN_LENGTH,
        exact=False,
        longest=PROBE_MAX_LENGTH,
        path_offset=PATH_ID_OFFSET,
    ),
    FilterRule(TYPE_PROBE_REPLY, PROBE_REPLY_LENGTH, path_offset=PATH_ID_OFFSET),
)

# The Handshaker's; whatever else passes the filter is the lookout's.
_HANDSHAKE_TYPES: Final = frozenset(
    (
        TYPE_INITIATION,
        TYPE_RESPONSE,
        TYPE_COOKIE_REPLY,
        TYPE_CREDENTIAL_INITIATION,
        TYPE_CREDENTIAL_RESPONSE,
    )
)


class Lookout(Protocol):
    """Is told what happens on the roads, in the order in which it happens.

    Each call returns at once, raises nothing, and may call the roads. Keys are of managed peers.
    """

    def received(self, datagram: Datagram) -> None:
        """A datagram that passed the filter and is no handshake: STUN, 0x12 or 0x13."""

    def roamed(self, key: PublicKey, source: Endpoint) -> None:
        """An authentic packet or handshake came from a place where the peer is not; of a
        handshake, before it is answered. The peer has moved only if `use` is called."""

    def wanted(self, key: PublicKey) -> None:
        """A handshake is wanted, and the peer is nowhere, or does not answer where it is. Called at
        each try: every 5 s."""

    def began(self, key: PublicKey) -> None:
        """A session began, or was renewed: both sides have its keys."""

    def ended(self, key: PublicKey) -> None:
        """There is no session any more: its keys were dropped."""

    def bound(self, port: int) -> None:
        """The tunnel's sockets are others now, on this port, or have another mark (`roads.mark`);
        0: there are none, the link is down."""

    def changed(self) -> None:
        """Routes or addresses of the machine changed."""

    def slept(self) -> None:
        """The machine slept; every session has ended."""

    def own_key_changed(self) -> None:
        """Our key is another, or gone: every shared secret is another, every session has ended."""

    def work(self, now: float) -> None:
        """It is time for what `next_at` said."""

    def next_at(self) -> float | None:
        """When to call `work`, in seconds on the device's clock; None for not at all. It is asked
        after each of these calls."""


class Roads:
    """The managed peers of one device.

    `initiate` sends an initiation to where a peer is, or to another place where it may be, and says
    whether it could; `shake_hands` begins a handshake as traffic does, unless one is under way;
    `rules_changed` is called when `rules` are others.
    """

    def __init__(
        self,
        datapath: DataPath,
        peers: PeerTable,
        initiate: Callable[[PeerEntry, Endpoint | None], bool],
        shake_hands: Callable[[PeerEntry], None],
        rules_changed: Callable[[], None],
    ) -> None:
        self._datapath = datapath
        self._peers = peers
        self._initiate = initiate
        self._shake_hands = shake_hands
        self._rules_changed = rules_changed
        self._lookout: Lookout | None = None
        # Our static key; None while we have none.
        self.own_public: PublicKey | None = None
        self._is_open = False
        # Each relay, and the socket that leads to its server.
        self._relays: dict[Via, Via] = {}
        # Of the tunnel's sockets; 0 while there are none.
        self.port = 0
        # Every packet of ours has it, or the tunnel would carry itself; 0 for none.
        self.mark = 0

    # --- For whoever finds ways ---

    def listen(self, lookout: Lookout) -> None:
        """Tell this one what happens; there is one at a time."""
        self._lookout = lookout

    def use(self, key: PublicKey, endpoint: Endpoint | None, hold: float = 0.0) -> bool:
        """A managed peer is there now, or nowhere. False if there is no such peer.

        With `hold`, in seconds, 5 at the most, packets to it wait until `let_go` or a full queue:
        those on the former way arrive first (DataPath.set_endpoint). A handshake under way is tried
        by the new way too, at once: its last initiation may have gone nowhere. Who was nowhere in a
        session gets an empty packet: it may not know yet that the keys are good.
        """
        entry = self._managed(key)
        if entry is None:
            return False
        self._datapath.set_endpoint(entry.handle, endpoint, hold)
        former, entry.endpoint = entry.endpoint, endpoint
        if endpoint is None or endpoint == former or not self.port:
            return True
        if entry.protocol.timers.handshake_under_way:
            self._initiate_again(entry, former, endpoint)
        elif former is None and entry.in_session:
            self._datapath.send_keepalive(entry.handle)
        return True

    def _initiate_again(self, entry: PeerEntry, former: Endpoint | None, to: Endpoint) -> None:
        """Of two initiations within 20 ms a responder takes one, and that may be the former: it is
        to be good still. With a credential only one can be, and what went by a relay arrives."""
        if former is None:
            self._initiate(entry, None)
        elif not (entry.by_credential and former.channel):
            self._initiate(entry, to)

    def let_go(self, key: PublicKey) -> None:
        """Send what waits for the end of `hold`."""
        entry = self._managed(key)
        if entry is not None:
            self._datapath.let_go(entry.handle)

    def send(self, data: bytes, to: Endpoint, *, ttl: int = 0, whole: bool = False) -> int | None:
        """Send a datagram that belongs to no session. Returns an errno, or None.

        `ttl` is its hop limit, 0 for the usual one; `whole`: it may not be fragmented.
        """
        return self._datapath.send(data, to=to, ttl=ttl, whole=whole)

    def set_path_ids(self, ids: Iterable[bytes]) -> None:
        """The identifiers that probes may name, 8 bytes each (DataPath.set_path_ids)."""
        self._datapath.set_path_ids(ids)

    def set_stun_sources(self, places: Iterable[tuple[str, int]]) -> None:
        """Where STUN may come from (DataPath.set_stun_sources)."""
        self._datapath.set_stun_sources(places)

    def shake_hands(self, key: PublicKey) -> None:
        """Begin a handshake with a managed peer where it is, unless one is under way or younger
        than 5 s, or the link is down."""
        entry = self._managed(key)
        if entry is not None and self.port:
            self._shake_hands(entry)

    def call(self, key: PublicKey, to: Endpoint) -> bool:
        """Send a managed peer a fresh initiation there, wherever it is. False if it cannot be.

        For peers that know no probes: an answer proves the place, and is told by `roamed` and then
        `began`. Each takes a Diffie-Hellman of ours, and two of the peer, which consumes one in
        20 ms and no more. Ten may wait for an answer, until 5 s after the last; of those that are
        answered the last one counts.
        """
        entry = self._managed(key)
        return entry is not None and self.port != 0 and self._initiate(entry, to)

    def remote(self, key: PublicKey) -> Remote | None:
        """The static keys of both sides, to derive others from their secret; None without such a
        peer, or a key of ours."""
        entry = self._managed(key)
        return entry.protocol.remote if entry is not None and self.own_public is not None else None

    def add_socket(self, fd: int) -> Via:
        """Serve another UDP socket (DataPath.add_socket). Raises DataPathError."""
        return self._datapath.add_socket(fd)

    def add_relay(self, server: Endpoint, carrier: int | None = None) -> Via:
        """Serve peers through a TURN server (DataPath.add_relay). Raises DataPathError."""
        relay = self._datapath.add_relay(server, carrier)
        self._relays[relay] = 0 if carrier is not None else server.via
        return relay

    def set_channel(self, relay: Via, number: int, peer: Endpoint | None) -> None:
        """A channel of a relay leads to this address and port, or nowhere; who was reached by it
        otherwise is nowhere. Raises DataPathError."""
        self._datapath.set_channel(relay, number, peer)
        place = None if peer is None else (peer.address, peer.port)
        for entry in self._peers.by_key.values():
            at = entry.endpoint
            if at is None or (at.via, at.channel) != (relay, number):
                continue
            if (at.address, at.port) != place:
                entry.endpoint = None

    def remove_via(self, via: Via) -> None:
        """Give a socket or a relay up, and with a socket the relays that it leads to; who was
        reached by it is nowhere (DataPath.remove_via)."""
        if via == 0:
            return
        self._datapath.remove_via(via)
        gone = {via, *(relay for relay, socket in self._relays.items() if socket == via)}
        for relay in gone:
            self._relays.pop(relay, None)
        for entry in self._peers.by_key.values():
            if entry.endpoint is not None and entry.endpoint.via in gone:
                entry.endpoint = None

    def endpoint(self, key: PublicKey) -> Endpoint | None:
        """Where a managed peer is."""
        entry = self._managed(key)
        return None if entry is None else entry.endpoint

    def in_session(self, key: PublicKey) -> bool:
        """Whether there is a session with a managed peer."""
        entry = self._managed(key)
        return entry is not None and entry.in_session

    def activity(self, key: PublicKey) -> Activity | None:
        """The traffic with a managed peer so far."""
        entry = self._managed(key)
        return None if entry is None else self._datapath.activity(entry.handle)

    def _managed(self, key: PublicKey) -> PeerEntry | None:
        entry = self._peers.by_key.get(key)
        return entry if entry is not None and entry.managed else None

    # --- What the device calls ---

    def rules(self) -> tuple[FilterRule, ...]:
        """What may come up beside handshakes."""
        return _RULES if self._is_open else ()

    def open(self, is_open: bool) -> None:
        """Ways are looked for from now on, or no longer."""
        if is_open != self._is_open:
            self._is_open = is_open
            self._rules_changed()
            if not is_open:
                self._datapath.set_path_ids(())
                self._datapath.set_stun_sources(())

    def manage(self, entry: PeerEntry, managed: bool) -> None:
        """A peer is managed from now on, or no longer.

        It stays where it is; but who is nowhere then, or where only a way leads that somebody else
        made, goes to where the operator said that it is.
        """
        entry.managed = managed
        self._datapath.set_roaming(entry.handle, not managed)
        strays = entry.endpoint is None or entry.endpoint.via != 0
        if not managed and strays and entry.given is not None:
            entry.endpoint = entry.given
            self._datapath.set_endpoint(entry.handle, entry.given)

    def takes(self, datagram: Datagram) -> bool:
        """Whether a datagram is no handshake; then the lookout has it now."""
        if self._lookout is None or message_type(datagram.data) in _HANDSHAKE_TYPES:
            return False
        self._lookout.received(datagram)
        return True

    def roamed(self, entry: PeerEntry, source: Endpoint) -> bool:
        """An authentic packet came from elsewhere. True: that is not for the device to follow."""
        if not entry.managed:
            return False
        # That it came to another address of ours is no news of the peer.
        if self._lookout is not None and _place(source) != _place(entry.endpoint):
            self._lookout.roamed(entry.key, source)
        return True

    def wanted(self, entry: PeerEntry) -> None:
        """A handshake with a peer is wanted that is nowhere, or does not answer."""
        if entry.managed and self._lookout is not None:
            self._lookout.wanted(entry.key)

    def began(self, entry: PeerEntry) -> None:
        """A session of any peer began."""
        entry.in_session = True
        if entry.managed and self._lookout is not None:
            self._lookout.began(entry.key)

    def ended(self, entry: PeerEntry) -> None:
        """The keys of any peer were dropped."""
        had, entry.in_session = entry.in_session, False
        if had and entry.managed and self._lookout is not None:
            self._lookout.ended(entry.key)

    def bound(self, port: int) -> None:
        """The sockets are others now; 0: there are none."""
        self.port = port
        if self._lookout is not None:
            self._lookout.bound(port)

    def marked(self, mark: int) -> None:
        """The sockets have this firewall mark now."""
        self.mark = mark
        if self.port:
            self.bound(self.port)

    def changed(self) -> None:
        """Routes or addresses changed."""
        if self._lookout is not None:
            self._lookout.changed()

    def slept(self) -> None:
        """The machine slept."""
        if self._lookout is not None:
            self._lookout.slept()

    def own_key_changed(self, own: PublicKey | None) -> None:
        """Our key is another, or gone."""
        self.own_public = own
        if self._lookout is not None:
            self._lookout.own_key_changed()

    def work(self, now: float) -> None:
        """Let the lookout work if it wanted to be called by now."""
        if self._lookout is not None:
            when = self._lookout.next_at()
            if when is not None and when <= now:
                self._lookout.work(now)

    def next_at(self) -> float | None:
        """When `work` has something to do."""
        return None if self._lookout is None else self._lookout.next_at()


def _place(endpoint: Endpoint | None) -> Endpoint | None:
    """Where a peer is, whichever address of ours it is reached from."""
    return None if endpoint is None else replace(endpoint, source=None, ifindex=0)
