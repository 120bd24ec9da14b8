"""Sessions that rest on a credential: what takes effect when one begins, and when one has to end.

Beginning: the ledger, then the firewall, then allowed IPs, and then the caller opens the gate.
Ending: keys and allowed IPs first, then the firewall, which forgets tracked connections as well.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

from wgpy.datapath.contract import AllowedIpOperation, DataPath
from wgpy.device.peer import PeerEntry, PeerTable
from wgpy.device.trust import Trust
from wgpy.firewall.verdict import Member
from wgpy.identity.claims import Claims, CredentialError
from wgpy.ip import Prefix, address_text
from wgpy.keys import PublicKey
from wgpy.linux.nft import FirewallError

_log = logging.getLogger(__name__)

# The wall clock may be set at any time, and nobody tells us: live sessions are looked at this
# often, in seconds, which costs a look at the time for each.
LOOK_EVERY: Final = 60.0


class Gate(Protocol):
    """The firewall, as far as it concerns peers that came in by a credential."""

    def change(self, add: Iterable[Member] = (), remove: Iterable[str] = ()) -> None:
        """Add and remove members in one transaction. Raises FirewallError."""


class Sessions:
    """What rests on credentials in one device. `drop` removes a peer, `drop_keys` ends the session
    of one that stays. `clock` counts suspended time."""

    def __init__(
        self,
        datapath: DataPath,
        peers: PeerTable,
        trust: Trust,
        *,
        clock: Callable[[], float],
        drop: Callable[[PeerEntry], None],
        drop_keys: Callable[[PeerEntry], None],
        gate: Gate | None = None,
    ) -> None:
        self._datapath = datapath
        self._peers = peers
        self._trust = trust
        self._clock = clock
        self._drop = drop
        self._drop_keys = drop_keys
        self._gate = gate
        self._own: tuple[Prefix, ...] = ()
        self._links: tuple[Prefix, ...] = ()
        # Who leaves the firewall when all have ended; None while nobody collects them.
        self._leaving: list[str] | None = None
        # When `look` may find something, on the device's clock; None while there is no session.
        self.next_look: float | None = None
        self._counters: Counter[str] = Counter()

    # --- Beginning ---

    def know(self, member: Member) -> None:
        """Let the firewall know a peer that is none by its claims. Raises FirewallError."""
        if self._gate is not None:
            self._gate.change(add=[member])

    def commit(
        self, batch: Sequence[tuple[PeerEntry, Claims]], now: float
    ) -> dict[PublicKey, CredentialError]:
        """Let claims take effect, and return whose could not, and why. The gates are still shut."""
        wall = self._trust.wall()
        done, failed = self._confirm(batch, wall)
        try:
            if self._gate is not None:
                self._gate.change(add=[_member(claims) for entry, claims in done if entry.admitted])
        except FirewallError as error:
            _log.error("nobody is let in: %s", error)
            for entry, _claims in done:
                failed[entry.key] = CredentialError("firewall", str(error))
            return failed
        operations: list[AllowedIpOperation] = []
        for entry, claims in done:
            if entry.admitted:
                operations.append(AllowedIpOperation("replace", entry.handle))
                operations += [
                    AllowedIpOperation("add", entry.handle, address) for address in claims.addresses
                ]
        self._datapath.set_allowed_ips(operations)
        for entry, claims in done:
            self._began(entry, claims, now, wall)
        return failed

    def _confirm(
        self, batch: Sequence[tuple[PeerEntry, Claims]], wall: float
    ) -> tuple[list[tuple[PeerEntry, Claims]], dict[PublicKey, CredentialError]]:
        """Write the claims to the ledger, all at once: whose took effect, and why not others."""
        authority = self._trust.authority
        if authority is None:
            gone = CredentialError("no-authority", "nobody here judges credentials any more")
            return [], {entry.key: gone for entry, _claims in batch}
        results = authority.confirm_all([claims for _entry, claims in batch], wall)
        done, failed = [], {}
        # A name may become one key and then another within one batch.
        former = {
            (result.claims.name, result.former_key)
            for result in results
            if not isinstance(result, CredentialError) and result.former_key is not None
        }
        for (entry, claims), result in zip(batch, results, strict=True):
            if isinstance(result, CredentialError):
                failed[entry.key] = result
            elif (claims.name, claims.key) in former:
                failed[entry.key] = _superseded()
            else:
                done.append((entry, claims))
        for name, key in former:
            self._supersede(name, key)
        return done, failed

    def _supersede(self, name: str, former_key: PublicKey) -> None:
        """Another key has the name now: what the former one has by that name ends."""
        _log.warning("%s has another key now, and not %s", name, former_key.base64())
        former = self._peers.by_key.get(former_key)
        if former is not None and former.claims is not None and former.claims.name == name:
            self.end(former, _superseded())

    def _began(self, entry: PeerEntry, claims: Claims, now: float, wall: float) -> None:
        if entry.claims is None:
            addresses = ", ".join(address_text(each.address) for each in claims.addresses)
            until = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(claims.not_after))
            place = addresses if entry.admitted else "a configured peer"
            _log.info("%s came in: %s, until %s", claims.name, place, until)
            self._counters["credential_admitted"] += 1
        if entry.enrolment is not None:
            self._counters["credential_enrolled"] += 1
        entry.claims, entry.enrolment = claims, None
        # Whichever clock says so first: the wall clock may be set back.
        entry.ends_at = now + max(0.0, claims.not_after - wall)
        self.next_look = min(entry.ends_at, self.next_look or now + LOOK_EVERY)

    # --- Ending ---

    def end(self, entry: PeerEntry, error: CredentialError) -> None:
        """End a session, and remove a peer that was let in by it alone."""
        name = entry.key.base64() if entry.claims is None else entry.claims.name
        _log.info("the session of %s ends: %s (%s)", name, error, error.reason)
        self._counters[f"credential_ended_{error.reason}"] += 1
        if entry.admitted:
            self._drop(entry)
        else:
            entry.claims = None
            self._drop_keys(entry)

    def removed(self, key: PublicKey) -> None:
        """A peer that came in by its credential has left the device: its keys and allowed IPs."""
        if self._leaving is None:
            self._leave([key.base64()])
        else:
            self._leaving.append(key.base64())

    def _leave(self, keys: Sequence[str]) -> None:
        try:
            if self._gate is not None and keys:
                self._gate.change(remove=keys)
        except FirewallError as error:
            # Its sets are made anew at the next change; without keys nothing of it comes in.
            _log.error("the firewall still knows a peer that has gone: %s", error)

    def look(self, now: float) -> None:
        """End what has to end: over, revoked, no longer trusted, denied, or in the way."""
        live = {entry.claims.key: entry for entry in self._with_claims() if entry.claims}
        authority, wall = self._trust.authority, self._trust.wall()
        ending: list[tuple[PeerEntry, CredentialError]] = []
        for key, entry in list(live.items()):
            if entry.ends_at <= now:
                ending.append((live.pop(key), CredentialError("expired", "its credential is over")))
            elif authority is None:
                ending.append(
                    (live.pop(key), CredentialError("no-authority", "nothing is trusted here"))
                )
        claims = [entry.claims for entry in live.values() if entry.claims is not None]
        if authority is not None:
            ending += [(live.pop(x.claims.key), x.error) for x in authority.ended(claims, wall)]
        self._end_all(ending)
        self.next_look = min((entry.ends_at for entry in live.values()), default=None)
        if authority is not None and self.next_look is not None:
            stale = authority.next_deadline(claims, wall)
            soonest = now + LOOK_EVERY if stale is None else now + min(LOOK_EVERY, stale - wall)
            # Never at once again: what is over by a clock that went back is found a second later.
            self.next_look = max(now + 1.0, min(self.next_look, soonest))

    def _end_all(self, ending: Iterable[tuple[PeerEntry, CredentialError]]) -> None:
        """End several sessions, which leave the firewall in one transaction."""
        leaving: list[str] = []
        self._leaving = leaving
        try:
            for entry, error in ending:
                self.end(entry, error)
        finally:
            self._leaving = None
            self._leave(leaving)

    def _with_claims(self) -> list[PeerEntry]:
        return [entry for entry in self._peers.by_key.values() if entry.claims is not None]

    # --- What is around ---

    def set_addresses(self, own: tuple[Prefix, ...], links: tuple[Prefix, ...]) -> None:
        """The machine's own addresses, and the networks that its links are attached to."""
        if (own, links) != (self._own, self._links):
            self._own, self._links = own, links
            self.trust_changed()

    def trust_changed(self) -> None:
        """What is trusted, the configured peers or our own addresses changed: who may stay?"""
        if self._trust.authority is not None:
            configured = {
                entry.key: self._datapath.allowed_ips(entry.handle)
                for entry in self._peers.by_key.values()
                if not entry.admitted
            }
            self._trust.set_surroundings(self._own, configured, self._links)
        self._deny()
        self.look(self._clock())

    def _deny(self) -> None:
        """A deny list holds for configured peers too."""
        entries = [entry for entry in self._peers.by_key.values() if not entry.admitted]
        denied = self._trust.denied([entry.key for entry in entries])
        for entry in entries:
            if entry.key in denied and not entry.denied:
                _log.warning("the configured peer %s is denied", entry.key.base64())
                self._drop_keys(entry)
            entry.denied = entry.key in denied

    def counters(self) -> Mapping[str, int]:
        """What was let in, and what ended, by reason."""
        return self._counters


def _superseded() -> CredentialError:
    return CredentialError("superseded", "another key has its name now")


def _member(claims: Claims) -> Member:
    return Member(claims.key.base64(), claims.name, claims.groups, claims.addresses)
