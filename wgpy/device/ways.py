"""What an interface was told about ways through NATs, and who finds them.

The device keeps the settings, refuses what cannot be, and shows them. Whoever finds ways fills
`Ways`; a device without one refuses every setting instead of passing over it. What he does with a
device, and what he is told of it, is in roads.py.
"""

import errno
from collections.abc import Callable, Mapping
from typing import Protocol

from wgpy.datapath.contract import Endpoint
from wgpy.device.paths import NatSettings, NatState, PathState
from wgpy.device.peer import PeerEntry, PeerTable
from wgpy.device.roads import Roads
from wgpy.device.uapi import Cleared, DeviceChange, DeviceState, PeerState, UapiError
from wgpy.keys import PublicKey


class WayError(Exception):
    """Settings, or the text of another side's offer, that cannot be used: one line that says why,
    without any secret."""


class Ways(Protocol):
    """Finds the ways to managed peers. A key that it does not know is none of its peers."""

    def configure(self, settings: NatSettings | None) -> Callable[[], None]:
        """Read and check everything that these settings name.

        Changes nothing. Returns what puts it all into force, which cannot fail; it is called at
        once, or never. The same settings again disturb no path. None turns everything off; each
        managed peer is told of by `manage` before. Raises WayError and OSError.
        """

    def manage(self, key: PublicKey, managed: bool) -> None:
        """Find the way to this peer from now on, or do so no longer: then leave it where it is.

        It is called only while settings are in force, and once for each change.
        """

    def hint(self, key: PublicKey, place: Endpoint) -> None:
        """The operator says that a managed peer may be there: one more candidate, which has been
        proved by nothing. It is told again whenever the operator says it."""

    def offer(self, key: PublicKey) -> None:
        """Make a fresh offer for a managed peer, which a person carries to the other side."""

    def offered(self, key: PublicKey) -> str | None:
        """That offer, of printable ASCII without spaces: None while it is being made, and when it
        is too old to be used."""

    def answer(self, key: PublicKey, text: str) -> Callable[[], None]:
        """Read the other side's offer, as a person gave it for this managed peer.

        Changes nothing. Returns what goes on with it, which cannot fail; it is called at once, or
        never. Raises WayError: it is no offer, not of this peer, not for us, or too old.
        """

    def describe(self, key: PublicKey) -> PathState | None:
        """The way to a managed peer now."""

    def state(self) -> NatState:
        """What is known of the way out of this machine."""

    def removed(self, key: PublicKey) -> None:
        """A managed peer has left the device: nothing of it may remain elsewhere."""

    def close(self) -> None:
        """The device ends, and its sockets next."""

    def counters(self) -> Mapping[str, int]:
        """What was sent, found, refused and dropped, by name; shown with `nat_` before it."""


class WaySettings:
    """The settings of one interface, its managed peers, and its Ways.

    `make(roads)` makes those with the first settings: a device without any loads nothing of them.
    """

    def __init__(
        self, make: Callable[[Roads], Ways] | None, peers: PeerTable, roads: Roads
    ) -> None:
        self._make = make
        self._ways: Ways | None = None
        self._peers = peers
        self._roads = roads
        self.settings: NatSettings | None = None

    # --- Requests ---

    def prepare_settings(self, change: DeviceChange) -> Callable[[], None]:
        """What puts the settings of a request into force, before its peers.

        Naming the same settings again reads their files again. Raises UapiError, and has changed
        nothing.
        """
        wanted = None if isinstance(change.nat, Cleared) else change.nat
        if self._ways is None and self._make is not None and wanted is not None:
            self._ways = self._make(self._roads)
        if self._make is None:
            if wanted is not None:
                raise _unable("[nat]")
            if any(peer.nat or peer.offer or peer.answer is not None for peer in change.peers):
                raise _unable("`nat = true` of a peer")
        if self._ways is None or change.nat is None or wanted is self.settings is None:
            return _nothing
        commit = _checked(lambda ways: ways.configure(wanted), self._ways)

        def put_into_force() -> None:
            if wanted is None:
                self.settings = None
                self._follow_all()
                commit()
                self._roads.open(False)
            else:
                self._roads.open(True)
                commit()
                self.settings = wanted
                self._follow_all()

        return put_into_force

    def prepare_talk(self, change: DeviceChange) -> Callable[[], None]:
        """What makes the offers that a request asks for, and takes the answers in it, once its
        peers are in force. Raises UapiError, and has changed nothing."""
        ways = self._ways
        talking = [peer for peer in change.peers if peer.offer or peer.answer is not None]
        answers = []
        for peer in talking:
            if ways is None or not self._is_managed(peer.public_key):
                name = peer.public_key.base64()
                raise UapiError(errno.EINVAL, f"{name} is no peer with `nat = true`")
            if peer.answer is not None:
                answers.append(_checked(_reader(peer.public_key, peer.answer), ways))

        def put_into_force() -> None:
            for commit in answers:
                commit()
            for peer in talking:
                if ways is not None and peer.offer and self._is_managed(peer.public_key):
                    ways.offer(peer.public_key)

        return put_into_force

    # --- Managed peers ---

    def set_nat(self, entry: PeerEntry, wanted: bool) -> None:
        """The operator says whether the way to a peer is to be found."""
        entry.nat = wanted
        self._follow(entry)

    def _follow_all(self) -> None:
        for entry in self._peers.by_key.values():
            if entry.nat:
                self._follow(entry)

    def _follow(self, entry: PeerEntry) -> None:
        """A peer is managed if the operator wants it, and while there are settings to do it by."""
        managed = entry.nat and self.settings is not None
        if self._ways is None or managed == entry.managed:
            return
        self._roads.manage(entry, managed)
        self._ways.manage(entry.key, managed)
        if managed and entry.given is not None:
            self._ways.hint(entry.key, entry.given)

    def hint(self, entry: PeerEntry, place: Endpoint) -> None:
        """The operator, or a name of his, says where a managed peer may be."""
        if self._ways is not None:
            self._ways.hint(entry.key, place)

    def removed(self, entry: PeerEntry) -> None:
        """A peer has left the device."""
        if self._ways is not None and entry.managed:
            self._ways.removed(entry.key)

    def _is_managed(self, key: PublicKey) -> bool:
        entry = self._peers.by_key.get(key)
        return entry is not None and entry.managed

    def close(self) -> None:
        """The device ends."""
        if self._ways is not None:
            self._ways.close()

    # --- What is shown ---

    def show(self, state: DeviceState) -> None:
        """Add the settings, what is known of the way out, and the counters to what is shown."""
        state.nat = self.settings
        if self._ways is not None:
            if self.settings is not None:
                state.nat_state = self._ways.state()
            counters = self._ways.counters()
            state.counters.update({f"nat_{name}": count for name, count in counters.items()})
            state.counters = dict(sorted(state.counters.items()))

    def show_peer(self, entry: PeerEntry, state: PeerState) -> None:
        """Add the way to a managed peer, and the offer that waits for it, to what is shown."""
        state.nat = entry.nat
        if self._ways is not None and entry.managed:
            state.path = self._ways.describe(entry.key)
            state.offer = self._ways.offered(entry.key)


def _reader(key: PublicKey, text: str) -> Callable[[Ways], Callable[[], None]]:
    return lambda ways: ways.answer(key, text)


def _checked(prepare: Callable[[Ways], Callable[[], None]], ways: Ways) -> Callable[[], None]:
    try:
        return prepare(ways)
    except WayError as error:
        raise UapiError(errno.EINVAL, str(error)) from None
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise UapiError(error.errno or errno.EIO, reason) from None


def _nothing() -> None:
    """No setting was named, and none is in force."""


def _unable(what: str) -> UapiError:
    return UapiError(
        errno.EOPNOTSUPP, f"this daemon has no part that finds ways through NATs: take out {what}"
    )
