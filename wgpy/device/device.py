"""One WireGuard interface: its peers, its key, its sockets, and what it does when.

Everything here is a plain call that returns at once. `service.py` runs it in an event loop; tests
run it on a fake clock over a fake network. Times are seconds on the clock it was given.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from wgpy.datapath.contract import AllowedIpOperation, DataPath, Endpoint, Event
from wgpy.device.address import next_endpoint, to_endpoint
from wgpy.device.admissions import CredentialSettings
from wgpy.device.credentials import Credentials, Hooks
from wgpy.device.guard import Guard
from wgpy.device.handshaker import Handshaker
from wgpy.device.keylog import KeyLog
from wgpy.device.peer import PeerEntry, PeerTable
from wgpy.device.pulse import Pulse
from wgpy.device.quarantine import LIFE
from wgpy.device.refusals import check_change
from wgpy.device.roads import Roads
from wgpy.device.shown import device_state
from wgpy.device.trust import Trust
from wgpy.device.uapi import (
    Address,
    Cleared,
    DeviceChange,
    DeviceState,
    PeerChange,
    UapiError,
)
from wgpy.device.ways import Ways, WaySettings
from wgpy.firewall.rules import Settings as FirewallSettings
from wgpy.firewall.wall import Wall
from wgpy.identity.derived import quarantine_range
from wgpy.identity.settings import AuthoritySettings, Expectation
from wgpy.ip import Prefix
from wgpy.keys import PresharedKey, PrivateKey, PublicKey
from wgpy.protocol.constants import MAX_JITTER
from wgpy.protocol.handshake import Local
from wgpy.protocol.peer import Peer


class Sockets(Protocol):
    """A bound pair of UDP sockets: descriptors, or None for a family that the machine lacks."""

    v4: int | None
    v6: int | None
    port: int

    def set_mark(self, mark: int) -> None:
        """Set the firewall mark, 0 for none."""


class Device:
    """The interface. `bind(port, mark)` opens the sockets and raises OSError if it cannot.

    `wall_ns` gives nanoseconds since the epoch, and `stamp_ns` those that go into initiations.
    `ask_name(key, name, port)` asks for the addresses of an endpoint that does not answer;
    `resolved` takes the answer. With `trust`, peers can be admitted by their credentials, and
    `follow(paths)` is told whose change to report by `files_changed`. `guard` is the firewall.
    `ways(roads)` makes who finds ways through NATs. `quarantine_life` is how many seconds a peer
    has to enrol.
    """

    def __init__(
        self,
        datapath: DataPath,
        bind: Callable[[int, int], Sockets],
        *,
        clock: Callable[[], float],
        wall_ns: Callable[[], int],
        stamp_ns: Callable[[], int] | None = None,
        random: Callable[[int], bytes] = os.urandom,
        ask_name: Callable[[PublicKey, str, int], None] | None = None,
        keylog: KeyLog | None = None,
        guard: Guard | None = None,
        trust: Trust | None = None,
        follow: Callable[[list[str]], None] = lambda paths: None,
        ways: Callable[[Roads], Ways] | None = None,
        quarantine_life: float = LIFE,
    ) -> None:
        self._guard = guard
        self._datapath = datapath
        self._bind = bind
        self._clock = clock
        self._random = random
        self._peers = PeerTable()
        calls = (self._initiate, self._shake_hands, self._trust_changed)
        self.roads = Roads(datapath, self._peers, *calls)
        self._admissions: Credentials | None = None
        if trust is not None:
            self._admissions = Credentials(
                datapath,
                self._peers,
                trust,
                Hooks(self._add, self._remove, self._drop_keys, self._trust_changed, follow),
                clock=clock,
                stamp_ns=stamp_ns or wall_ns,
                random=random,
                gate=None if guard is None else guard.firewall,
                quarantine_life=quarantine_life,
            )
        self._handshaker = Handshaker(
            datapath,
            self._peers,
            wall_ns=wall_ns,
            stamp_ns=stamp_ns or wall_ns,
            random=random,
            moved=self._moved,
            roads=self.roads,
            keylog=keylog,
            admitter=None if self._admissions is None else self._admissions.admitter,
        )
        self._credentials = CredentialSettings(self._admissions)
        self._ways = WaySettings(ways, self._peers, self.roads)
        # Before there is a key, peers belong to a random one.
        self._no_key = Local(PrivateKey(random(32)))
        self._sockets: Sockets | None = None
        self._port = 0
        self._mark = 0
        # The link may be up and we down: the port was taken. Another port brings us up then.
        self._link_up = False
        self._up = False
        self._pulse = Pulse(
            datapath,
            self._peers,
            self._handshaker,
            self._admissions,
            self.roads,
            is_up=lambda: self._up,
            clock=clock,
            wall_ns=wall_ns,
            ask_name=ask_name,
        )

    # --- The link ---

    def set_up(self, up: bool) -> None:
        """The link went up or down. Raises OSError if the sockets cannot be bound."""
        self._link_up = up
        if up == self._up:
            return
        if up:
            self._open_sockets(self._port)
            self._up = True
            self._datapath.set_up(True)
            for entry in self._peers.by_key.values():
                if entry.protocol.timers.persistent_keepalive:
                    self._datapath.send_keepalive(entry.handle)
            self.roads.bound(self._port)
            return
        self._up = False
        self._datapath.set_up(False)
        self.forget_keys()
        self._pulse.stop()
        self._sockets = None
        self._datapath.set_sockets(None, None)
        self.roads.bound(0)

    def set_mtu(self, mtu: int) -> None:
        """The link's MTU changed. Raises DataPathError if it cannot be carried."""
        self._datapath.set_mtu(mtu)

    def routes_changed(self) -> None:
        """Routes or addresses of the machine changed: no source address is certain any more."""
        self._datapath.clear_source(None)
        self.roads.changed()

    def slept(self) -> None:
        """The machine slept: no session is worth anything, and no place is certain."""
        self.forget_keys()
        self.roads.slept()

    def forget_keys(self) -> None:
        """Drop every key pair and handshake: the link went down, or the machine slept."""
        self._pulse.forget_keys()

    def close(self) -> None:
        """Go down for good and wipe what is secret."""
        self._ways.close()
        self.set_up(False)
        self._handshaker.set_private_key(None)
        self._datapath.close()
        if self._admissions is not None:
            self._admissions.close()

    def _open_sockets(self, port: int) -> None:
        sockets = self._bind(port, self._mark)
        self._datapath.set_sockets(sockets.v4, sockets.v6)
        self._sockets = sockets
        self._port = sockets.port

    def set_addresses(self, own: tuple[Prefix, ...], links: tuple[Prefix, ...]) -> None:
        """The machine's addresses, and the networks that it is attached to: no admitted peer ever
        has them."""
        if self._admissions is not None:
            self._admissions.set_addresses(own, links)

    def files_changed(self) -> None:
        """Files that say what is trusted, revoked or presented may have changed."""
        for entry in [] if self._admissions is None else self._admissions.files_changed():
            if self._up and self._datapath.activity(entry.handle).rx_bytes:
                self._shake_hands(entry)

    # --- Events and timers ---

    def process(self, events: Iterable[Event]) -> None:
        """Act on what the data path reports."""
        self._pulse.process(events)

    def wake(self) -> float | None:
        """Run the timers that are due. Returns when to be woken next, None for not at all."""
        return self._pulse.wake()

    def _drop_keys(self, entry: PeerEntry) -> None:
        self._pulse.drop_keys(entry)

    def _trust_changed(self) -> None:
        self._handshaker.trust_changed()

    def _moved(self, entry: PeerEntry, endpoint: Endpoint) -> None:
        entry.endpoint = endpoint
        self._datapath.set_endpoint(entry.handle, endpoint)

    def resolved(self, key: PublicKey, addresses: list[Address]) -> None:
        """The addresses of an endpoint's name, best first, for a peer that did not answer."""
        entry = self._peers.by_key.get(key)
        if entry is None or not addresses:
            return
        endpoints = [to_endpoint(address) for address in addresses]
        if entry.managed:
            for endpoint in endpoints:
                self._ways.hint(entry, endpoint)
            return
        if not entry.protocol.timers.handshake_under_way:
            return
        following = next_endpoint(entry.endpoint, endpoints, entry.unanswered)
        if following is None:
            return
        self._moved(entry, following)
        entry.unanswered = 0
        self._handshaker.initiate(entry, self._clock())

    # --- Configuration ---

    def apply(self, change: DeviceChange) -> None:
        """Carry out a `set=1` request. Raises UapiError, and has then changed nothing, unless it
        is that the firewall cannot follow the peers."""
        check_change(change, self._peers)
        self._credentials.check_peers(change)
        put_ways_into_force = self._ways.prepare_settings(change)
        talk = self._ways.prepare_talk(change)
        put_into_force = self._prepare_credentials(change)
        former = self._set_rules(change)
        try:
            self._set_sockets(change)
        except UapiError:
            if former is not None and self._guard is not None:
                self._guard.start(*former)
            raise
        if change.private_key is not None:
            self._set_private_key(change.private_key)
        put_into_force()
        self._settle_wall()
        put_ways_into_force()
        if change.replace_peers:
            # Who was admitted stays, unless it is configured now: then the configuration counts.
            named = {peer.public_key for peer in change.peers}
            for entry in list(self._peers.by_key.values()):
                if not entry.admitted or entry.key in named:
                    self._remove(entry)
        for peer in change.peers:
            self._apply_peer(peer)
        self._credentials.peers_changed(change)
        talk()
        if self._guard is not None and (self._guard.active or change.firewall is not None):
            self._guard.follow(
                (entry.key, self._datapath.allowed_ips(entry.handle))
                for entry in self._peers.by_key.values()
                if not entry.admitted
            )

    def _set_rules(self, change: DeviceChange) -> tuple[FirewallSettings, Wall | None] | None:
        """Put the rules, and the wall around those who enrol, in force before any peer comes;
        returns those of before."""
        wall = _wall(self._credentials.following(change))
        guard = self._guard
        if guard is None:
            if wall is not None or (change.firewall is not None and change.firewall.rules):
                raise UapiError(errno.EOPNOTSUPP, "this device has no firewall")
            return None
        former = guard.settings, guard.wall
        wanted = guard.settings if change.firewall is None else change.firewall
        if guard.wall is not None:
            # Who is in quarantine stays walled in until it is out of it.
            wall = _both(guard.wall, wall)
        if (wanted, wall) == former:
            return None
        guard.start(wanted, wall)
        return former

    def _settle_wall(self) -> None:
        """Nobody is left whom the former wall was around. One that cannot be taken down stays, and
        is in nobody's way."""
        wall = _wall(self._credentials.authority)
        if self._guard is not None and self._guard.wall != wall:
            with contextlib.suppress(UapiError):
                self._guard.start(self._guard.settings, wall)

    def _prepare_credentials(self, change: DeviceChange) -> Callable[[], None]:
        private, local = change.private_key, self._handshaker.local
        if private is None or private == self._handshaker.private:
            own = None if local is None else local.public
            return self._credentials.prepare(change, own, own_changes=False)
        own = None if private.is_zero() else private.public()
        return self._credentials.prepare(change, own, own_changes=True)

    def _set_sockets(self, change: DeviceChange) -> None:
        """The mark first, so that new sockets never send without it; taken back with the port."""
        former = self._mark
        if change.fwmark is not None and change.fwmark != former:
            self._set_mark(change.fwmark)
        try:
            if change.listen_port is not None:
                self._set_port(change.listen_port)
        except UapiError:
            if self._mark != former:
                self._set_mark(former)
            raise

    def _set_mark(self, mark: int) -> None:
        if self._sockets is not None:
            try:
                self._sockets.set_mark(mark)
            except OSError as error:
                raise UapiError(error.errno or errno.EIO, "the firewall mark is refused") from None
        self._mark = mark
        self._datapath.clear_source(None)
        self.roads.marked(mark)

    def _set_port(self, port: int) -> None:
        former = self._port
        try:
            if self._up and (port == 0 or port != former):
                self._open_sockets(port)
                self.roads.bound(self._port)
            elif not self._up:
                self._port = port
                self.set_up(self._link_up)
        except OSError as error:
            self._port = former
            raise UapiError(error.errno or errno.EIO, f"UDP port {port} cannot be bound") from None

    def _set_private_key(self, private: PrivateKey) -> None:
        if self._handshaker.private == private:
            return
        new = None if private.is_zero() else PrivateKey(bytes(private))
        self._handshaker.set_private_key(new)
        local = self._handshaker.local
        if local is not None:
            own = self._peers.by_key.get(local.public)
            if own is not None:
                self._remove(own)
        for entry in self._peers.by_key.values():
            self._drop_keys(entry)
            entry.protocol.rebind(local or self._no_key)
        self.roads.own_key_changed(None if local is None else local.public)

    def _remove(self, entry: PeerEntry) -> None:
        self._handshaker.forget(entry)
        if self._admissions is not None:
            self._admissions.admitter.leaves(entry)
        entry.set_psk(PresharedKey(bytes(32)))
        self._peers.remove(entry)
        self._datapath.remove_peer(entry.handle)
        self._ways.removed(entry)
        if entry.expectation is not None:
            self._credentials.expect(entry.key, None)
        if entry.admitted:
            self._credentials.removed(entry.key)

    def _apply_peer(self, change: PeerChange) -> None:
        local = self._handshaker.local
        if local is not None and change.public_key == local.public:
            return  # A peer that is ourselves is ignored in silence, as everywhere.
        entry = self._peers.by_key.get(change.public_key)
        if entry is not None and not entry.is_shown:
            # It was answered, and is nobody's peer yet: a replay must not be in anybody's way.
            self._remove(entry)
            entry = None
        if change.remove:
            if entry is not None:
                self._remove(entry)
            return
        if entry is None:
            if change.update_only:
                return
            entry = self._add(change.public_key, None)
        self._update(entry, change)

    def _add(self, key: PublicKey, psk: PresharedKey | None) -> PeerEntry:
        local = self._handshaker.local or self._no_key
        entry = PeerEntry(key, self._datapath.add_peer(), Peer(local, key, psk, self._jitter))
        stamp = None if self._admissions is None else self._admissions.admitter.greatest_stamp(key)
        if stamp is not None:
            entry.protocol.raise_stamp(stamp)
        self._peers.add(entry)
        self._datapath.rest(entry.handle)
        return entry

    def _update(self, entry: PeerEntry, change: PeerChange) -> None:
        if change.expectation is not None:
            self._set_expectation(entry, change.expectation)
        if change.preshared_key is not None:
            entry.set_psk(change.preshared_key)
        if change.nat is not None:
            self._ways.set_nat(entry, change.nat)
        if change.endpoint is not None:
            self._set_endpoint(entry, to_endpoint(change.endpoint))
        if change.endpoint_name is not None:
            entry.endpoint_name = change.endpoint_name
        handle = entry.handle
        operations: list[AllowedIpOperation] = []
        if change.replace_allowed_ips:
            operations.append(AllowedIpOperation("replace", handle))
        for prefix, remove in change.allowed_ips:
            operations.append(AllowedIpOperation("remove" if remove else "add", handle, prefix))
        if operations:
            self._datapath.set_allowed_ips(operations)
        if change.persistent_keepalive is not None:
            timers = entry.protocol.timers
            turned_on = change.persistent_keepalive > 0 and not timers.persistent_keepalive
            timers.persistent_keepalive = change.persistent_keepalive
            if turned_on and self._up:
                self._datapath.send_keepalive(handle)
        self._pulse.look(entry, self._clock())

    def _set_endpoint(self, entry: PeerEntry, endpoint: Endpoint) -> None:
        """The operator says where a peer is; where one is managed, that is one place to try."""
        entry.given, entry.endpoint_name = endpoint, None
        if entry.managed:
            self._ways.hint(entry, endpoint)
        else:
            self._moved(entry, endpoint)

    def _initiate(self, entry: PeerEntry, to: Endpoint | None) -> bool:
        sent = self._handshaker.initiate(entry, self._clock(), to)
        self._pulse.look(entry, self._clock())
        return sent

    def _shake_hands(self, entry: PeerEntry) -> None:
        self._pulse.shake_hands(entry, self._clock())

    def _set_expectation(self, entry: PeerEntry, wanted: Expectation | Cleared) -> None:
        expectation = None if isinstance(wanted, Cleared) else wanted
        if expectation == entry.expectation:
            return
        # A session of the other kind must not go on: a key shakes hands in one way only.
        self._drop_keys(entry)
        entry.expectation = expectation
        self._credentials.expect(entry.key, expectation)

    def _jitter(self) -> float:
        return int.from_bytes(self._random(4), "big") / 2**32 * MAX_JITTER

    # --- What is shown ---

    def state(self, only: PublicKey | None = None) -> DeviceState:
        """The answer to a `get=1` request, with all peers, or `only` one if it is there."""
        firewall = FirewallSettings() if self._guard is None else self._guard.settings
        parts = (self._handshaker, self._datapath, self._peers, self._credentials, self._ways)
        return device_state(*parts, only=only, port=self._port, mark=self._mark, firewall=firewall)


def _both(former: Wall, following: Wall | None) -> Wall:
    """One wall around those who are in quarantine, and those who will be."""
    if following is None:
        return former
    if following.range == former.range:
        return following
    return replace(following, former=former.range)


def _wall(authority: AuthoritySettings | None) -> Wall | None:
    """What stands around those who enrol; None where nobody may."""
    if authority is None or not authority.enrol:
        return None
    return Wall(quarantine_range(authority.network), authority.enrol_port)
