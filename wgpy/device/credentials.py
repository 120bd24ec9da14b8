"""What an interface does about credentials, as the device's settings ask for it (`Admissions`)."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from wgpy.device.admitter import Admitter
from wgpy.device.handshaker import Handshaker
from wgpy.device.peer import PeerTable
from wgpy.device.sessions import Sessions
from wgpy.device.trust import Trust
from wgpy.device.uapi import ClaimsSummary
from wgpy.identity.settings import AuthoritySettings, Expectation, IdentitySettings
from wgpy.keys import PublicKey

_NEVER: Final = float("inf")


class Credentials:
    """Trust, sessions and handshakes of one device, together."""

    def __init__(
        self,
        peers: PeerTable,
        trust: Trust,
        sessions: Sessions,
        admitter: Admitter,
        handshaker: Handshaker,
        followed: Callable[[list[str]], None] | None = None,
    ) -> None:
        """`followed` is told the files whose change `Device.files_changed` is to be told of."""
        self._peers = peers
        self._trust = trust
        self._sessions = sessions
        self._admitter = admitter
        self._handshaker = handshaker
        self._followed = followed

    def configure(
        self,
        authority: AuthoritySettings | None,
        identity: IdentitySettings | None,
        own: PublicKey | None,
    ) -> Callable[[], None]:
        """Read and check everything that these settings name; see Admissions."""
        commit = self._trust.prepare(authority, identity, own)

        def put_into_force() -> None:
            commit()
            self._handshaker.trust_changed()
            self._sessions.trust_changed()
            if self._followed is not None:
                self._followed(self._trust.paths())

        return put_into_force

    def peer_expectation(self, key: PublicKey, expectation: Expectation | None) -> None:
        """What a configured peer proved until now is not what it has to prove."""
        entry = self._peers.by_key.get(key)
        if entry is not None:
            entry.claims, entry.ends_at = None, _NEVER

    def peers_changed(self) -> None:
        """Configured peers come before who was admitted."""
        self._sessions.trust_changed()

    def removed(self, key: PublicKey) -> None:
        """An admitted peer has left the device."""
        self._sessions.removed(key)

    def describe(self, key: PublicKey) -> ClaimsSummary | None:
        """What the credential of a peer says, or our own for our own key."""
        entry = self._peers.by_key.get(key)
        if entry is not None:
            return None if entry.claims is None else ClaimsSummary.of(entry.claims)
        own = self._trust.own
        if own is None or own.key != key:
            return None
        groups = tuple(sorted(own.groups))
        return ClaimsSummary(own.kind, own.name, groups, own.serial, None, int(own.not_after))

    def counters(self) -> Mapping[str, int]:
        """What was admitted, refused and dropped, by name."""
        return Counter(self._admitter.counters()) + Counter(self._sessions.counters())
