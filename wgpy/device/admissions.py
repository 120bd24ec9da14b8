"""What an interface was told about credentials, and who acts on it.

The device keeps the settings, refuses what cannot be, and shows them. Whoever admits peers fills
`Admissions`; a device without one refuses every setting instead of passing over it.
"""

import errno
from collections.abc import Callable, Mapping
from typing import Protocol

from wgpy.device.uapi import ClaimsSummary, Cleared, DeviceChange, DeviceState, UapiError
from wgpy.identity.claims import CredentialError
from wgpy.identity.settings import AuthoritySettings, Expectation, IdentitySettings
from wgpy.keys import PublicKey


class Admissions(Protocol):
    """Admits peers by their credentials, and presents ours."""

    def configure(
        self,
        authority: AuthoritySettings | None,
        identity: IdentitySettings | None,
        own: PublicKey | None,
    ) -> Callable[[], None]:
        """Read and check everything that these settings name, for the static key `own`.

        Changes nothing. Returns what puts it all into force, which cannot fail; it is called at
        once, or never. None and None turn everything off: who was admitted must go. Raises
        CredentialError and OSError.
        """

    def peer_expectation(self, key: PublicKey, expectation: Expectation | None) -> None:
        """A configured peer must prove this from now on; None: it is an ordinary peer, or gone."""

    def peers_changed(self) -> None:
        """Configured peers, or their allowed IPs, may have changed: they come before who was
        admitted, who must go if an address of theirs is a configured peer's now."""

    def removed(self, key: PublicKey) -> None:
        """An admitted peer has left the device: nothing of it may remain elsewhere."""

    def describe(self, key: PublicKey) -> ClaimsSummary | None:
        """What the credential of a peer, or our own for our own key, says; None without one."""

    def counters(self) -> Mapping[str, int]:
        """What was admitted, refused and dropped, by name."""


class CredentialSettings:
    """The settings of one interface, and its Admissions if it has any."""

    def __init__(self, admissions: Admissions | None) -> None:
        self._admissions = admissions
        self.authority: AuthoritySettings | None = None
        self.identity: IdentitySettings | None = None

    def check_peers(self, change: DeviceChange) -> None:
        """Raises UapiError (EOPNOTSUPP) if a peer must prove what nobody here can check."""
        if self._admissions is None and any(
            isinstance(peer.expectation, Expectation) for peer in change.peers
        ):
            raise _unable("`credential = true` of a peer")

    def following(self, change: DeviceChange) -> AuthoritySettings | None:
        """The authority after a request."""
        if change.authority is None:
            return self.authority
        return None if isinstance(change.authority, Cleared) else change.authority

    def prepare(
        self, change: DeviceChange, own: PublicKey | None, *, own_changes: bool
    ) -> Callable[[], None]:
        """What puts the settings of a request into force; `own` is our key after it.

        Naming the same settings again reads their files again. A new key of ours is checked
        against the credential that we present. Raises UapiError, and has changed nothing.
        """
        authority, identity = self.following(change), self.identity
        if change.identity is not None:
            identity = None if isinstance(change.identity, Cleared) else change.identity
        before, after = (self.authority, self.identity), (authority, identity)
        told = change.authority is not None or change.identity is not None or own_changes
        if before == after == (None, None) or not told:
            return _nothing
        if self._admissions is None:
            raise _unable("[authority]" if authority is not None else "[identity]")
        try:
            commit = self._admissions.configure(authority, identity, own)
        except CredentialError as error:
            raise UapiError(errno.EINVAL, str(error)) from None
        except OSError as error:
            reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            raise UapiError(error.errno or errno.EIO, reason) from None

        def put_into_force() -> None:
            commit()
            self.authority, self.identity = authority, identity

        return put_into_force

    def expect(self, key: PublicKey, expectation: Expectation | None) -> None:
        """Say what a configured peer must prove."""
        if self._admissions is not None:
            self._admissions.peer_expectation(key, expectation)

    def peers_changed(self, change: DeviceChange) -> None:
        """Say that a request was carried out, if it was about peers."""
        if self._admissions is not None and (change.peers or change.replace_peers):
            self._admissions.peers_changed()

    def removed(self, key: PublicKey) -> None:
        """Say that an admitted peer is gone."""
        if self._admissions is not None:
            self._admissions.removed(key)

    def describe(self, key: PublicKey) -> ClaimsSummary | None:
        """What a credential says, our own for our own key."""
        return None if self._admissions is None else self._admissions.describe(key)

    def show(self, state: DeviceState) -> None:
        """Add the settings, our own credential and the counters to what is shown."""
        state.authority, state.identity = self.authority, self.identity
        if self.identity is not None and state.own_public_key is not None:
            state.claims = self.describe(state.own_public_key)
        if self._admissions is not None:
            state.counters.update(self._admissions.counters())
            state.counters = dict(sorted(state.counters.items()))


def _nothing() -> None:
    """No setting was named, and none is in force."""


def _unable(what: str) -> UapiError:
    return UapiError(
        errno.EOPNOTSUPP, f"this daemon has no part that judges credentials: take out {what}"
    )
