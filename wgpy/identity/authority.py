"""The one question that a device asks of credentials: may this static key come in, and as whom?

`examine` answers it and changes nothing. `confirm` lets the answer take effect, when the peer has
proved that it completed the handshake. `ended` says which live sessions have lost what let them in.

Times are seconds of the wall clock since 1970. Whoever asks takes care that they do not go back
while sessions live: the greatest of the wall clock, and of where it stood plus what the boot clock
has counted since, ends a session whichever of the two says so.
"""

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from wgpy.identity import checks, token
from wgpy.identity.admissions import Admissions, Confirmation, Rotations
from wgpy.identity.claims import Claims, CredentialError, Kind
from wgpy.identity.derived import quarantine_address, quarantine_range
from wgpy.identity.ledger import LedgerError
from wgpy.identity.material import Material, load_material
from wgpy.identity.place import Place, PrefixTable, Routes, Surroundings
from wgpy.identity.settings import AuthoritySettings
from wgpy.identity.token import Enrolment
from wgpy.identity.watch import Stamp, stamp
from wgpy.keys import PublicKey

# Credentials whose signatures were verified, each about 1 KiB: more than one interface has peers,
# so that a rekey costs no signature. Only what an issuer signed gets in.
MAX_VERDICTS: Final = 16_384


_Digest = tuple[bytes, bool, bytes, bytes]


@dataclass(frozen=True, slots=True)
class Ended:
    """A live session that has to end now, and why."""

    claims: Claims
    error: CredentialError


@dataclass(slots=True)
class _Verdict:
    claims: Claims
    # (surroundings, ledger) when ledger and addresses were last found right; see `_revision`.
    revision: tuple[int, int] | None = None
    # That of what was read, when issuer and revocations were; None just after it was verified.
    read: int | None = None


class _Counting:
    """A context that counts what is refused in it. Who cannot be looked up is not let in."""

    __slots__ = ("_refused",)

    def __init__(self, refused: Counter[str]) -> None:
        self._refused = refused

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, LedgerError):
            self._refused["ledger"] += 1
            raise _ledger_failure(error) from None
        if isinstance(error, CredentialError):
            self._refused[error.reason] += 1


class Authority:
    """Who may come in to one interface. Not for two threads at once."""

    def __init__(
        self,
        settings: AuthoritySettings,
        ledger: Admissions,
        load: Callable[[AuthoritySettings, Admissions], Material] = load_material,
    ) -> None:
        """Read the files that the settings name. Raises CredentialError."""
        _check_quarantine(settings)
        self.settings = settings
        self._ledger = ledger
        self._load = load
        self._place = Place(settings, Surroundings())
        self._rotations: Rotations = frozenset(
            (bytes.fromhex(old), bytes.fromhex(new)) for old, new in settings.rotations
        )
        self._verdicts: OrderedDict[_Digest, _Verdict] = OrderedDict()
        # They rise when `set_surroundings` and `reload` have changed what counts.
        self._around_revision = self._read_revision = 0
        # The same object while `examine` answers as before, but for the time; None if never: a list
        # that refuses by being out of date does so by the time.
        self.state = None if settings.strict else object()
        # Live sessions that had nothing against them at the last look, by the id of their claims.
        self._stays: dict[int, Claims] = {}
        self._stays_revision = (-1, -1, -1)
        # By reason. Reasons are words of the code, so there is a fixed number of counters.
        self.refused: Counter[str] = Counter()
        self._counting = _Counting(self.refused)
        self.counts: Counter[str] = Counter()
        self._stamps = self._look()
        self._material = self._read()
        # Of the trust that the verdicts were made with.
        self._trusted = self._stamps[0]

    # --- What is around ---

    def set_surroundings(self, surroundings: Surroundings) -> None:
        """Say what admitted peers can never take. Live sessions are looked at by `ended`."""
        self._place = Place(self.settings, surroundings)
        self._around_revision += 1
        self._changed_now()

    def _changed_now(self) -> None:
        self.state = None if self.settings.strict else object()

    # --- Files ---

    def changed(self) -> bool:
        """Whether a file was written since it was read; costs a `stat` of each."""
        return self._stamps != self._look()

    def reload(self) -> None:
        """Read every file again. Raises CredentialError, and then what was read before stays."""
        # Before the files are read, and kept when that fails: a broken file is told of once.
        self._stamps = self._look()
        self._material = self._read()
        self._read_revision += 1
        self._changed_now()
        self.counts["reloads"] += 1
        if self._stamps[0] != self._trusted:
            # Revocation is looked at every time, so it leaves verdicts as they are.
            self._trusted = self._stamps[0]
            self._verdicts.clear()

    def _look(self) -> tuple[Stamp, Stamp]:
        """The state of the files that say who is trusted, and of those that take it back."""
        settings = self.settings
        trust = (
            *(anchor.path for anchor in settings.anchors),
            *settings.intermediates,
            *(issuer.jwks for issuer in settings.issuers),
        )
        return stamp(trust), stamp(settings.revocations)

    def _read(self) -> Material:
        try:
            return self._load(self.settings, self._ledger)
        except LedgerError as error:
            raise _ledger_failure(error) from None
        except OSError as error:
            raise CredentialError("unreadable", f"{error.filename}: {error.strerror}") from None

    # --- Who comes in ---

    def knows(
        self, key: PublicKey, kind: Kind, body: bytes, intermediate: bytes | None = None
    ) -> bool:
        """Whether `examine` would cost no signature."""
        return _digest(key, kind, body, intermediate) in self._verdicts

    def examine(
        self,
        key: PublicKey,
        kind: Kind,
        body: bytes,
        intermediate: bytes | None,
        wall: float,
        wanted_name: str | None = None,
    ) -> Claims:
        """Who the holder of a static key is by its credential. Changes nothing.

        `body` is a certificate (DER) or a token; `wanted_name` is whom we asked for. The addresses
        are within `accept` and free, unless the key is of a configured peer, which has those of the
        configuration. Raises CredentialError.
        """
        self.counts["examined"] += 1
        with self._counting:
            verdict = self._verdict(key, kind, body, intermediate, wall)
            claims = verdict.claims
            if verdict.read == self._read_revision and not self.settings.strict:
                # Nothing but the time can have changed, as for a session that goes on.
                checks.check_times(claims.not_before, claims.not_after, wall)
            else:
                self._check_standing(claims, wall, just_verified=verdict.read is None)
                verdict.read = self._read_revision
            revision = (self._around_revision, self._ledger.revision)
            if verdict.revision != revision:
                self._place.check(claims)
                reserve = self._place.decides(claims)
                known = self._ledger.in_force(claims, reserve=reserve)
                if known is None:
                    self._ledger.check(claims, wall, self._rotations, reserve=reserve)
                else:
                    # One object for the same claims, which is told sooner than an equal one.
                    claims = verdict.claims = known
                verdict.revision = revision
            if wanted_name is not None and claims.name != wanted_name:
                raise CredentialError(
                    "wrong-name", f"it is {claims.name}, and not whom we asked for"
                )
        return claims

    def confirm(self, claims: Claims, wall: float) -> Confirmation:
        """Let claims that were examined take effect: on disk when this returns.

        Everything that may have changed since is looked at again. Raises CredentialError when
        another peer was faster, or when the disk does not take it.
        """
        (done,) = self.confirm_all([claims], wall)
        if isinstance(done, CredentialError):
            raise done
        return done

    def confirm_all(
        self, wanted: Sequence[Claims], wall: float
    ) -> list[Confirmation | CredentialError]:
        """The same for all that wait at one moment: the disk is waited for once. Raises nothing."""
        results: dict[int, Confirmation | CredentialError] = {}
        for number, claims in enumerate(wanted):
            try:
                self._check_standing(claims, wall)
                self._place.check(claims)
            except CredentialError as error:
                results[number] = error
        rest = [number for number in range(len(wanted)) if number not in results]
        try:
            done = self._ledger.confirm_all(
                [(wanted[x], self._place.decides(wanted[x])) for x in rest], wall, self._rotations
            )
            results.update(zip(rest, done, strict=True))
            self._changed_now()
        except LedgerError as error:
            results.update({x: _ledger_failure(error) for x in rest})
        for result in results.values():
            if isinstance(result, CredentialError):
                self.refused[result.reason] += 1
            else:
                self.counts["confirmed"] += 1
        return [results[number] for number in range(len(wanted))]

    # --- Who enrols ---

    def examine_enrolment(self, key: PublicKey, text: bytes, wall: float) -> Enrolment:
        """What a token to enrol permits a static key. Changes nothing. Raises CredentialError.

        It is spent by `spend`, together with what the key is given for it.
        """
        with self._counting:
            self._check_may_enrol(key)
            found = token.verify_enrolment(
                text, self._material.issuers, self.settings.network, wall, key
            )
            self._ledger.check_unspent(found.issuer, found.jti, key)
        return found

    def check_enrolment(self, enrolment: Enrolment, key: PublicKey, wall: float) -> None:
        """Whether a key that enrols may still do so. Raises CredentialError."""
        if not self.settings.enrol:
            raise CredentialError("no-enrolment", "nobody enrols here any more")
        self._check_may_enrol(key)
        checks.check_times(enrolment.not_before, enrolment.not_after, wall)
        if enrolment.network != self.settings.network:
            raise CredentialError("wrong-network", "it is for another network")
        self._material.check_enrolment(enrolment)

    def _check_may_enrol(self, key: PublicKey) -> None:
        self._material.check_key(key)
        self._place.check_free(quarantine_address(self.settings.network, key))

    def spend(self, enrolment: Enrolment, key: PublicKey, wall: float) -> bool:
        """Spend a token to enrol: on disk when this returns. False for a key that asks again.

        Raises CredentialError when another key was faster.
        """
        with self._counting:
            checks.check_times(enrolment.not_before, enrolment.not_after, wall)
            return self._ledger.spend(
                enrolment.issuer, enrolment.jti, key, enrolment.not_after, wall
            )

    # --- Who is denied ---

    def check_configured(self, key: PublicKey) -> None:
        """Raise CredentialError for a configured key that is denied; it needs no credential."""
        with self._counting:
            self._material.check_key(key)

    def _verdict(
        self, key: PublicKey, kind: Kind, body: bytes, intermediate: bytes | None, wall: float
    ) -> _Verdict:
        """The claims of a credential whose signatures are right, now or when they were verified."""
        digest = _digest(key, kind, body, intermediate)
        verdict = self._verdicts.get(digest)
        if verdict is not None:
            self.counts["cached"] += 1
            self._verdicts.move_to_end(digest)
            return verdict
        claims = self._material.verify(key, kind, body, intermediate, self.settings.network, wall)
        verdict = self._verdicts[digest] = _Verdict(claims)
        if len(self._verdicts) > MAX_VERDICTS:
            self._verdicts.popitem(last=False)
            self.counts["verdicts-evicted"] += 1
        return verdict

    def _check_standing(self, claims: Claims, wall: float, *, just_verified: bool = False) -> None:
        """What can end a session at any time: its end, its issuer, its revocation."""
        checks.check_times(claims.not_before, claims.not_after, wall)
        if claims.network != self.settings.network:
            raise CredentialError("wrong-network", "it is for another network")
        self._material.check(claims, wall, just_verified=just_verified)

    # --- Who stays ---

    def ended(self, live: Iterable[Claims], wall: float) -> list[Ended]:
        """The sessions that have to end now: over, revoked, no longer trusted, in the way, or
        another key has their name. Who was asked for before costs only a look at the time,
        as long as nothing else has changed.
        """
        found = []
        # The time alone cannot make a CRL refuse, but for one that refuses by being stale.
        revision = (self._around_revision, self._ledger.takeovers, self._read_revision)
        stays = self._stays if revision == self._stays_revision and not self.settings.strict else {}
        self._stays, self._stays_revision = {}, revision
        for claims in live:
            try:
                if stays.get(id(claims)) is claims:
                    checks.check_times(claims.not_before, claims.not_after, wall)
                    self._stays[id(claims)] = claims
                    continue
                self._check_standing(claims, wall)
                self._place.check(claims)
                self._ledger.check_current(claims, wall)
                self._stays[id(claims)] = claims
            except CredentialError as error:
                self.counts[f"ended-{error.reason}"] += 1
                found.append(Ended(claims, error))
            except LedgerError:
                # A disk that fails lets nobody in, and throws nobody out.
                self.counts["ledger-failures"] += 1
        return found

    def remarks(self, wall: float) -> tuple[str, ...]:
        """What an operator should know of the files, one line each: a CRL that is out of date."""
        return (*self._material.revocations.remarks, *self._material.revocations.stale(wall))

    def next_deadline(self, live: Iterable[Claims], wall: float) -> float | None:
        """The wall time at which `ended` may next say something new by time alone; None for never.

        It is in the past for what has ended already.
        """
        ends = [claims.not_after for claims in live]
        if not ends:
            return None
        stale = self._material.stale_at(wall)
        return min(ends if stale is None else [*ends, stale])

    def routes(self, claims: Claims) -> Routes:
        """Which of a peer's routed prefixes could be installed, if somebody here chooses to."""
        return self._place.routes(claims)


def _ledger_failure(error: LedgerError) -> CredentialError:
    return CredentialError("ledger", f"the ledger fails: {error}")


def _check_quarantine(settings: AuthoritySettings) -> None:
    """Raise CredentialError where those who enrol could take the place of those who are in."""
    if not settings.enrol:
        return
    if not settings.issuers:
        raise CredentialError("enrolment", "nobody could enrol: there is no issuer of tokens")
    found = quarantine_range(settings.network)
    if (accepted := PrefixTable(settings.accept).overlapping(found)) is not None:
        raise CredentialError(
            "enrolment", f"{accepted} is accepted, and meets {found}, where those are who enrol"
        )


def _digest(key: PublicKey, kind: Kind, body: bytes, intermediate: bytes | None) -> _Digest:
    """What a verdict is remembered by: the key, and hashes of all that came with it."""
    # BLAKE2s, for SHA-256 comes through OpenSSL here, which takes longer to find it than to use it.
    blake2s = hashlib.blake2s
    beside = b"" if intermediate is None else blake2s(intermediate).digest()
    return bytes(key), kind is Kind.TOKEN, blake2s(body).digest(), beside
