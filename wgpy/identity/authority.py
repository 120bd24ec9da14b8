"""The one question that a device asks of credentials: may this static key come in, and as whom?

`examine` answers it and changes nothing. `confirm` lets the answer take effect, when the peer has
proved that it completed the handshake. `ended` says which live sessions have lost what let them in.

Times are seconds of the wall clock since 1970. Whoever asks takes care that they do not go back
while sessions live: the greatest of the wall clock, and of where it stood plus what the boot clock
has counted since, ends a session whichever of the two says so.
"""

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from wgpy.identity import checks
from wgpy.identity.admissions import Admissions, Confirmation, Rotations
from wgpy.identity.claims import Claims, CredentialError, Kind
from wgpy.identity.ledger import LedgerError
from wgpy.identity.material import Material, load_material
from wgpy.identity.profile import within
from wgpy.identity.settings import AuthoritySettings
from wgpy.identity.watch import Stamp, stamp
from wgpy.ip import Prefix
from wgpy.keys import PublicKey

# Credentials whose signatures were verified, each about 1 KiB: more than one interface has peers,
# so that a rekey costs no signature. Only what an issuer signed gets in.
MAX_VERDICTS: Final = 16_384


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an interface has beside its admitted peers, and what they can never take."""

    # The interface's own addresses, and those of other interfaces that are not to be shadowed.
    own: tuple[Prefix, ...] = ()
    # Peers of the configuration, with their allowed IPs.
    configured: Mapping[PublicKey, Sequence[Prefix]] = field(default_factory=dict)
    # The prefixes of the networks that this machine is attached to by other links.
    links: tuple[Prefix, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """A live session that has to end now, and why."""

    claims: Claims
    error: CredentialError


@dataclass(frozen=True, slots=True)
class Routes:
    """A peer's routed prefixes: which could be installed by local choice, and which never."""

    possible: tuple[Prefix, ...]
    withheld: tuple[tuple[Prefix, str], ...]


@dataclass(slots=True)
class _Verdict:
    claims: Claims
    # (surroundings, ledger) when ledger and addresses were last found right; see `_revision`.
    revision: tuple[int, int] | None = None


class Authority:
    """Who may come in to one interface. Not for two threads at once."""

    def __init__(
        self,
        settings: AuthoritySettings,
        ledger: Admissions,
        load: Callable[[AuthoritySettings, Admissions], Material] = load_material,
    ) -> None:
        """Read the files that the settings name. Raises CredentialError."""
        self.settings = settings
        self._ledger = ledger
        self._load = load
        self._surroundings = Surroundings()
        self._own = checks.PrefixTable()
        self._configured = checks.PrefixTable()
        self._rotations: Rotations = frozenset(
            (bytes.fromhex(old), bytes.fromhex(new)) for old, new in settings.rotations
        )
        self._verdicts: OrderedDict[tuple[bytes, bytes], _Verdict] = OrderedDict()
        # They rise when `set_surroundings` and `reload` have changed what counts.
        self._around_revision = self._read_revision = 0
        # Live sessions that had nothing against them at the last look, by the id of their claims.
        self._stays: dict[int, Claims] = {}
        self._stays_revision = (-1, -1, -1)
        # By reason. Reasons are words of the code, so there is a fixed number of counters.
        self.refused: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self._stamps = self._look()
        self._material = self._read()
        # Of the trust that the verdicts were made with.
        self._trusted = self._stamps[0]

    # --- What is around ---

    def set_surroundings(self, surroundings: Surroundings) -> None:
        """Say what admitted peers can never take. Live sessions are looked at by `ended`."""
        self._surroundings = surroundings
        self._own = checks.PrefixTable(surroundings.own)
        self._configured = checks.PrefixTable(
            prefix for prefixes in surroundings.configured.values() for prefix in prefixes
        )
        self._around_revision += 1

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
            raise CredentialError("ledger", f"the ledger fails: {error}") from None
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
        with self._counting():
            verdict = self._verdict(key, kind, body, intermediate, wall)
            claims = verdict.claims
            self._check_standing(claims, wall)
            revision = (self._around_revision, self._ledger.revision)
            if verdict.revision != revision:
                self._check_place(claims)
                self._ledger.check(claims, wall, self._rotations, reserve=self._reserves(claims))
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
        with self._counting():
            self._check_standing(claims, wall)
            self._check_place(claims)
            done = self._ledger.confirm(
                claims, wall, self._rotations, reserve=self._reserves(claims)
            )
        self.counts["confirmed"] += 1
        return done

    def check_configured(self, key: PublicKey) -> None:
        """Raise CredentialError for a configured key that is denied; it needs no credential."""
        with self._counting():
            self._material.check_key(key)

    @contextmanager
    def _counting(self) -> Iterator[None]:
        """Count what is refused. Who cannot be looked up is not let in."""
        try:
            yield
        except LedgerError as error:
            self.refused["ledger"] += 1
            raise CredentialError("ledger", f"the ledger fails: {error}") from None
        except CredentialError as error:
            self.refused[error.reason] += 1
            raise

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

    def _check_standing(self, claims: Claims, wall: float) -> None:
        """What can end a session at any time: its end, its issuer, its revocation."""
        checks.check_times(claims.not_before, claims.not_after, wall)
        if claims.network != self.settings.network:
            raise CredentialError("wrong-network", "it is for another network")
        self._material.check(claims, wall)

    def _check_place(self, claims: Claims) -> None:
        """Whether a key that is not configured may have these addresses, by its groups too."""
        if claims.key in self._surroundings.configured:
            return
        for group in self.settings.require_groups:
            if group not in claims.groups:
                raise CredentialError("group-required", f"it is not in the group {group}")
        if not claims.addresses:
            raise CredentialError("no-address", "it gives no address")
        for address in claims.addresses:
            if not within(address, self.settings.accept):
                raise CredentialError("not-accepted", f"{address} is in no `accept` network")
            if (own := self._own.overlapping(address)) is not None:
                raise CredentialError("own-address", f"{address} meets our own {own}")
            if (taken := self._configured.overlapping(address)) is not None:
                raise CredentialError(
                    "configured-address", f"{address} meets {taken} of a configured peer"
                )

    def _reserves(self, claims: Claims) -> bool:
        """Not for a configured peer: it has the addresses of the configuration."""
        return claims.key not in self._surroundings.configured

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
                self._check_place(claims)
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
        """Which of a peer's routed prefixes could be installed, if somebody here chooses to.

        A prefix that meets an `accept` network could answer for every name that is away, so none
        does; nor what is ours, a configured peer's, or a network that this machine is attached to.
        """
        possible, withheld = [], []
        accept = checks.PrefixTable(self.settings.accept)
        links = checks.PrefixTable(self._surroundings.links)
        for prefix in claims.prefixes:
            for word, table in (
                ("an accept network", accept),
                ("our own address", self._own),
                ("a configured peer's", self._configured),
                ("a local link's", links),
            ):
                if (other := table.overlapping(prefix)) is not None:
                    withheld.append((prefix, f"it meets {word} {other}"))
                    break
            else:
                possible.append(prefix)
        return Routes(tuple(possible), tuple(withheld))


def _digest(
    key: PublicKey, kind: Kind, body: bytes, intermediate: bytes | None
) -> tuple[bytes, bytes]:
    """What a verdict is remembered by: the key, and one hash of all that came with it."""
    lengths = f"{kind.value} {len(body)} {-1 if intermediate is None else len(intermediate)} "
    return bytes(key), hashlib.sha256(lengths.encode() + body + (intermediate or b"")).digest()
