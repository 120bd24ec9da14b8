"""Quarantine: where a peer is that showed a token to enrol, and is nobody yet.

It has one address, which follows from its key, and reaches one TCP port of ours, which the wall of
the firewall sees to. It is there until its certificate comes, or for 60 s from confirmation; then
its key may ask again, until the token is over. Whether a token is spent is settled by the
coordinator that it can talk to from here.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from wgpy.datapath.contract import AllowedIpOperation, DataPath
from wgpy.device.peer import PeerEntry, PeerTable
from wgpy.device.sessions import LOOK_EVERY, Sessions
from wgpy.device.trust import Trust
from wgpy.firewall.verdict import Member
from wgpy.identity.claims import CredentialError
from wgpy.identity.derived import quarantine_address
from wgpy.keys import PublicKey
from wgpy.linux.nft import FirewallError

if TYPE_CHECKING:
    from wgpy.identity.token import Enrolment

_log = logging.getLogger(__name__)

# Seconds from confirmation: some round trips and the signature of a certificate, with a slow
# machine and a bad line. Who waits for an operator's approval comes again each time.
LIFE: Final = 60.0
# Peers at once that show the same token: a bearer's token may be anywhere, and takes no more room
# than that.
MAX_PER_TOKEN: Final = 4
# And with whatever token.
MAX_PEERS: Final = 256


class Quarantine:
    """Who is in quarantine on one device. `drop` removes a peer; `life` is in seconds."""

    def __init__(
        self,
        datapath: DataPath,
        peers: PeerTable,
        trust: Trust,
        sessions: Sessions,
        *,
        drop: Callable[[PeerEntry], None],
        life: float = LIFE,
    ) -> None:
        self._datapath = datapath
        self._peers = peers
        self._trust = trust
        self._sessions = sessions
        self._drop = drop
        self._life = life
        self._entries: dict[PublicKey, PeerEntry] = {}
        # When `look` may find something, on the device's clock; None while nobody is here.
        self.next_look: float | None = None
        self._counters: Counter[str] = Counter()

    def live(self) -> list[PeerEntry]:
        """Who is in quarantine now."""
        for key, entry in list(self._entries.items()):
            if entry.enrolment is None or self._peers.by_key.get(key) is not entry:
                # It was let in by a certificate, or somebody removed it.
                del self._entries[key]
        return list(self._entries.values())

    def fault(self, key: PublicKey, enrolment: "Enrolment | None") -> str | None:
        """Why there is no room for one more, by name; None for who is here already. Before its
        token was looked at, `enrolment` is None."""
        others = [entry.enrolment for entry in self.live() if entry.key != key]
        if len(others) >= MAX_PEERS:
            return "quarantine_full"
        if enrolment is None:
            return None
        token = (enrolment.issuer, enrolment.jti)
        same = sum(1 for other in others if other and (other.issuer, other.jti) == token)
        return "quarantine_token_full" if same >= MAX_PER_TOKEN else None

    # --- Beginning ---

    def commit(
        self, batch: Sequence[tuple[PeerEntry, "Enrolment"]], now: float
    ) -> dict[PublicKey, CredentialError]:
        """Put peers that confirmed in quarantine, and return whom not, and why. The gates are still
        shut."""
        failed: dict[PublicKey, CredentialError] = {}
        for entry, enrolment in batch:
            try:
                self._enter(entry, enrolment, now)
            except CredentialError as error:
                failed[entry.key] = error
        return failed

    def _enter(self, entry: PeerEntry, enrolment: "Enrolment", now: float) -> None:
        """One at a time: they are few, and each counts for the next. Raises CredentialError."""
        authority, wall = self._trust.authority, self._trust.wall()
        if authority is None:
            raise CredentialError("no-authority", "nobody here judges credentials any more")
        authority.check_enrolment(enrolment, entry.key, wall)
        full = self.fault(entry.key, enrolment)
        if full is not None:
            raise CredentialError(full, "too many enrol at once")
        address = quarantine_address(enrolment.network, entry.key)
        try:
            # No rule speaks of it, for it has no name: it is in there to be forgotten with its
            # connections. Who had a place by a certificate loses it.
            self._sessions.know(
                Member(entry.key.base64(), "", frozenset(), (address,), judged=False)
            )
        except FirewallError as error:
            _log.error("nobody enrols: %s", error)
            raise CredentialError("firewall", str(error)) from None
        self._datapath.set_allowed_ips(
            [
                AllowedIpOperation("replace", entry.handle),
                AllowedIpOperation("add", entry.handle, address),
            ]
        )
        entry.claims, entry.enrolment = None, enrolment
        entry.ends_at = now + min(self._life, max(0.0, enrolment.not_after - wall))
        self._entries[entry.key] = entry
        self.next_look = min(entry.ends_at, now + LOOK_EVERY, self.next_look or entry.ends_at)
        self._counters["credential_quarantined"] += 1
        _log.info("%s is in quarantine, to enrol with the token %s", entry.key, enrolment.jti)

    # --- Ending ---

    def look(self, now: float) -> None:
        """End what has to end: after its time, denied, or no longer permitted here."""
        authority, wall = self._trust.authority, self._trust.wall()
        for entry in self.live():
            error = None
            if entry.ends_at <= now:
                error = CredentialError("over", "its time is over")
            elif authority is None or entry.enrolment is None:
                error = CredentialError("no-authority", "nothing is trusted here")
            else:
                try:
                    authority.check_enrolment(entry.enrolment, entry.key, wall)
                except CredentialError as refused:
                    error = refused
            if error is not None:
                self._end(entry, error)
        self.next_look = min(
            (min(entry.ends_at, now + LOOK_EVERY) for entry in self.live()), default=None
        )

    def _end(self, entry: PeerEntry, error: CredentialError) -> None:
        self._counters[f"credential_quarantine_ended_{error.reason}"] += 1
        _log.info("the quarantine of %s ends: %s (%s)", entry.key, error, error.reason)
        if entry.waiting is None:
            self._drop(entry)
            return
        # Its certificate was accepted, and it has yet to confirm: that handshake goes on. Without
        # addresses nothing passes by the keys of before.
        entry.enrolment = None
        self._datapath.set_allowed_ips([AllowedIpOperation("replace", entry.handle)])
        self._sessions.removed(entry.key)

    def counters(self) -> Mapping[str, int]:
        """Who was let into quarantine, and how it ended."""
        return self._counters
