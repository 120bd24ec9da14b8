"""Whom an interface trusts and what it presents, in force: files, ledger and clock together.

The authority decides; this keeps it and our own credential up to date, and knows what time it is.
Its modules are loaded with the first settings: they have 8 MB, which plain WireGuard never needs.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from wgpy.identity.claims import Claims, CredentialError, Kind
from wgpy.identity.settings import AuthoritySettings, IdentitySettings
from wgpy.ip import Prefix
from wgpy.keys import KeyFormatError, PresharedKey, PublicKey, read_key_text
from wgpy.protocol.credential_payload import (
    Offer,
    OfferKind,
    ResponsePayload,
    prepared,
    prepared_answer,
)

if TYPE_CHECKING:
    from wgpy.identity.admissions import Admissions as Ledger
    from wgpy.identity.authority import Authority
    from wgpy.identity.own import OwnCredential
    from wgpy.identity.place import Surroundings
    from wgpy.identity.token import Enrolment

_log = logging.getLogger(__name__)

_NEVER: Final = float("inf")

# Members of enumerations take long to find.
_TOKEN: Final = Kind.TOKEN
_CERTIFICATE: Final = Kind.CERTIFICATE
_TOKEN_OFFERED: Final = OfferKind.TOKEN

# 2026-01-01: a clock that shows less was never set. No credential is judged by such a time.
EARLIEST: Final = 1_767_225_600.0


@dataclass(frozen=True, slots=True)
class _InForce:
    """One consistent set of what was read."""

    authority: "Authority | None" = None
    own: "OwnCredential | None" = None
    identity: IdentitySettings | None = None
    # That of every peer which is not configured; None for zeros.
    psk: PresharedKey | None = None
    key: PublicKey | None = None
    # `own` as a handshake carries it, and as it answers one.
    offer: Offer | None = None
    answer: ResponsePayload | None = None
    # When both are over, and the time before which no clock is believed.
    over_at: float = _NEVER
    earliest: float = EARLIEST
    # The one that we are in; None where nobody has told us.
    network: bytes | None = None

    def presenting(self, own: "OwnCredential | None") -> "_InForce":
        """The same with another credential of ours."""
        offer = _offer(own)
        network = None if own is None else own.network
        if self.authority is not None:
            network = self.authority.settings.network
        return replace(
            self,
            own=own,
            offer=offer,
            answer=None if own is None or offer is None else _answer(own.network, offer),
            over_at=_NEVER if own is None else own.not_after,
            earliest=EARLIEST if own is None else max(EARLIEST, own.not_before),
            network=network,
        )


class Trust:
    """What was read for one interface. `open_ledger` opens its ledger and raises LedgerError.

    `stamp_ns` gives nanoseconds since the epoch, never less than an earlier run used.
    """

    def __init__(self, open_ledger: "Callable[[], Ledger]", stamp_ns: Callable[[], int]) -> None:
        self._open_ledger = open_ledger
        self._ledger: Ledger | None = None
        self._stamp_ns = stamp_ns
        self._now = _InForce()
        self._around: Surroundings | None = None
        self._remarks: tuple[str, ...] = ()
        self._told = ""
        # Our own credential that was told of as over.
        self._over: OwnCredential | None = None

    # --- Settings and files ---

    def prepare(
        self,
        authority: AuthoritySettings | None,
        identity: IdentitySettings | None,
        key: PublicKey | None,
    ) -> Callable[[], None]:
        """Read what the settings name, for our static key. Returns what puts it into force.

        Raises CredentialError and OSError, and has changed nothing.
        """
        judge = None if authority is None else self._judge(authority)
        own = None if identity is None or key is None else _load(identity, key)
        if authority is not None and own is not None and own.network != authority.network:
            raise CredentialError(
                "wrong-network",
                f"{own} is of the network {own.network.hex()}, and [authority] of "
                f"{authority.network.hex()}",
            )
        _check_can_enrol(authority, identity, own)
        psk = None if authority is None else _read_psk(authority.preshared_key_file)
        following = _InForce(judge, None, identity, psk, key).presenting(own)

        def put_into_force() -> None:
            former = self._now
            self._now = following
            if former.psk is not None:
                former.psk.wipe()
            self._surround()
            self._remark()

        return put_into_force

    def _judge(self, settings: AuthoritySettings) -> "Authority":
        from wgpy.identity.authority import Authority
        from wgpy.identity.ledger import LedgerError

        if self._ledger is None:
            try:
                self._ledger = self._open_ledger()
            except LedgerError as error:
                raise CredentialError("ledger", f"the ledger cannot be used: {error}") from None
        return Authority(settings, self._ledger)

    def paths(self) -> list[str]:
        """Every file and directory whose change matters."""
        found: list[str] = []
        if self.authority is not None:
            settings = self.authority.settings
            found += [anchor.path for anchor in settings.anchors]
            found += settings.intermediates + settings.revocations
            found += [issuer.jwks for issuer in settings.issuers]
        identity = self._now.identity
        if identity is not None:
            named = (identity.certificate, identity.intermediate, identity.token)
            found += [path for path in named if path is not None]
        return found

    def reload(self) -> tuple[bool, bool]:
        """Read again what has changed on disk: whether that was what we trust, and whether it was
        our own credential. What cannot be read is logged, and what was read before stays."""
        trusted = presented = False
        now = self._now
        if now.authority is not None and now.authority.changed():
            try:
                now.authority.reload()
                trusted = True
            except CredentialError as error:
                _log.error("what was trusted before stays in force: %s", error)
            self._remark()
        identity, key = now.identity, now.key
        if now.own is None or identity is None or key is None or not now.own.changed(identity):
            return trusted, presented
        try:
            own = _load(identity, key)
            self._check_network(own)
            self._now = now.presenting(own)
            presented = True
        except CredentialError as error:
            self._tell_once(f"the credential presented before stays: {error}")
        return trusted, presented

    def _tell_once(self, text: str) -> None:
        """A broken file is looked at whenever something beside it changes."""
        if text != self._told:
            _log.error("%s", text)
        self._told = text

    def _check_network(self, own: "OwnCredential") -> None:
        if self.network is not None and own.network != self.network:
            raise CredentialError("wrong-network", f"{own} is of another network now")

    def _remark(self) -> None:
        """Say what an operator should know of the files, once each."""
        remarks = () if self.authority is None else self.authority.remarks(self.wall())
        for remark in remarks:
            if remark not in self._remarks:
                _log.warning("%s", remark)
        self._remarks = remarks

    def close(self) -> None:
        """Close the ledger, and wipe what is secret."""
        if self._now.psk is not None:
            self._now.psk.wipe()
        self._now = _InForce()
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    # --- What is in force ---

    @property
    def authority(self) -> "Authority | None":
        """Who judges the credentials of others."""
        return self._now.authority

    @property
    def own(self) -> "OwnCredential | None":
        """What we present."""
        return self._now.own

    @property
    def network(self) -> bytes | None:
        """The network that we are in; None where nobody has told us."""
        return self._now.network

    @property
    def name(self) -> str | None:
        """The name by which we are asked for; None without one, also while we enrol ourselves."""
        own = self._now.own
        return None if own is None or own.enrols else own.name

    @property
    def enrols(self) -> bool:
        """Whether others may enrol here."""
        return self.authority is not None and self.authority.settings.enrol

    @property
    def psk(self) -> PresharedKey | None:
        """The pre-shared key of peers that are not configured: ours to wipe, so not to be kept."""
        return self._now.psk

    def wall(self, stamp_ns: int | None = None) -> float:
        """Seconds since the epoch: not before an earlier run, nor before our own credential.

        `stamp_ns` is the time of the clock, where it is known.
        """
        wall = (self._stamp_ns() if stamp_ns is None else stamp_ns) / 1e9
        earliest = self._now.earliest
        return wall if wall > earliest else earliest

    def offer(self, wall: float | None = None) -> Offer | None:
        """Our credential as a handshake carries it; None without one that is still good."""
        now = self._now
        if (self.wall() if wall is None else wall) < now.over_at:
            return now.offer
        self._tell_over(now.own)
        return None

    def answer(self, wall: float) -> ResponsePayload | None:
        """The same as it answers a handshake."""
        now = self._now
        if wall < now.over_at:
            return now.answer
        self._tell_over(now.own)
        return None

    def _tell_over(self, own: "OwnCredential | None") -> None:
        if own is not None and self._over is not own:
            _log.error("our own credential, %s, is over: no peer accepts it", own)
        self._over = own

    def counters(self) -> Mapping[str, int]:
        """How often a bound was met, or the ledger failed, since the settings were read."""
        counts = {} if self.authority is None else self.authority.counts
        shown = {"verdicts-evicted", "ledger-failures"}
        return {f"credential_{name}": n for name, n in counts.items() if name in shown}

    # --- Questions ---

    def set_surroundings(
        self,
        own: tuple[Prefix, ...],
        configured: Mapping[PublicKey, Sequence[Prefix]],
        links: tuple[Prefix, ...],
    ) -> None:
        """Say what admitted peers can never take: our addresses, those of configured peers, and
        the networks of our links."""
        from wgpy.identity.place import Surroundings

        self._around = Surroundings(own, configured, links)
        self._surround()

    def _surround(self) -> None:
        if self.authority is not None and self._around is not None:
            self.authority.set_surroundings(self._around)

    def knows(self, key: PublicKey, offer: Offer) -> bool:
        """Whether `examine` costs no signature."""
        authority = self._now.authority
        return authority is None or authority.knows(
            key, _kind(offer), offer.body, offer.intermediate
        )

    @property
    def state(self) -> object:
        """The same object while `examine` answers as before, but for the time; None if never."""
        authority = self._now.authority
        return None if authority is None else authority.state

    def examine(
        self, key: PublicKey, offer: Offer, wanted: str | None, wall: float | None = None
    ) -> Claims:
        """Who a peer is by what it offers. Raises CredentialError."""
        authority = self._now.authority
        if authority is None:
            raise CredentialError("no-authority", "nobody here can judge a credential")
        wall = self.wall() if wall is None else wall
        return authority.examine(key, _kind(offer), offer.body, offer.intermediate, wall, wanted)

    def examine_enrolment(self, key: PublicKey, offer: Offer) -> "Enrolment":
        """What a peer that is nobody yet may become. Raises CredentialError."""
        authority = self._now.authority
        if authority is None or not authority.settings.enrol:
            raise CredentialError("no-enrolment", "nobody enrols here")
        return authority.examine_enrolment(key, offer.body, self.wall())

    def denied(self, keys: Sequence[PublicKey]) -> set[PublicKey]:
        """Those of these keys that a deny list names: not even the configuration lets them in."""
        found: set[PublicKey] = set()
        if self.authority is not None:
            for key in keys:
                try:
                    self.authority.check_configured(key)
                except CredentialError:
                    found.add(key)
        return found


def _check_can_enrol(
    authority: AuthoritySettings | None,
    identity: IdentitySettings | None,
    own: "OwnCredential | None",
) -> None:
    """Who names nobody wants to enrol: so a coordinator has a name, that others ask for."""
    if authority is None or not authority.enrol:
        return
    if identity is None or (own is not None and own.enrols):
        raise CredentialError("enrolment", "others enrol only where we have a credential ourselves")


def _load(identity: IdentitySettings, key: PublicKey) -> "OwnCredential":
    from wgpy.identity.own import OwnCredential

    return OwnCredential.load(identity, key)


def _offer(own: "OwnCredential | None") -> Offer | None:
    if own is None:
        return None
    kind = OfferKind.CERTIFICATE if own.kind is Kind.CERTIFICATE else OfferKind.TOKEN
    offer = Offer(kind, own.body, own.intermediate)
    try:
        return prepared(offer)
    except ValueError:
        # It does not fit, which is told whenever it should be sent.
        return offer


def _answer(network: bytes, offer: Offer) -> ResponsePayload:
    answer = ResponsePayload(network, offer)
    try:
        return prepared_answer(answer)
    except ValueError:
        return answer


def _kind(offer: Offer) -> Kind:
    return _TOKEN if offer.kind is _TOKEN_OFFERED else _CERTIFICATE


def _read_psk(path: str | None) -> PresharedKey | None:
    if path is None:
        return None
    try:
        psk = PresharedKey.from_base64(read_key_text(path))
    except KeyFormatError as error:
        raise CredentialError("preshared-key", f"{path}: {error}") from None
    return None if psk.is_zero() else psk
