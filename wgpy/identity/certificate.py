"""Whether a certificate is accepted: our own checks, the standard verifier, then our extension.

The standard verifier (cryptography.x509.verification) is made for the web. It takes any kind of
leaf key, empty and wildcard names, a leaf that outlives its CA, and knows nothing of our extension.
So the order is:

1. the leaf alone, against the profile: no signature is computed for what could never pass;
2. the whole chain's times and name constraints, for a reason of its own each;
3. the standard verifier, with the one anchor and the one intermediate that the leaf names;
4. network, groups and prefixes, at every level a subset of the level above; absent grants nothing.

Every refusal is a CredentialError whose `reason` is one word; docs/certificates.md lists them.
"""

import datetime
import functools
import itertools
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.x509.verification import (
    ClientVerifier,
    PolicyBuilder,
    Store,
    VerificationError,
)

from wgpy.identity.anchors import (
    MAX_ANCHORS,
    MAX_BETWEEN,
    Anchors,
    CertificateAuthority,
    read_authority,
)
from wgpy.identity.claims import Claims, CredentialError, Kind
from wgpy.identity.leaf import Leaf, read_leaf
from wgpy.identity.profile import Rights, under, within
from wgpy.identity.x509der import FAILURES, time_text
from wgpy.ip import Prefix
from wgpy.keys import PublicKey

# How far the clocks of an issuer and a verifier may be apart: a certificate that is valid so soon
# is verified as of its first second. At its end there is no such grace.
EARLY_SECONDS: Final = 300
_MINUTE: Final = 60


@dataclass(frozen=True, slots=True)
class Certificates:
    """The same question asked of one set of anchors, and whether an old answer still holds."""

    anchors: Anchors

    def verify(
        self, leaf: bytes, intermediate: bytes | None, wall: float, key: PublicKey
    ) -> Claims:
        """As the function `verify`."""
        return verify(leaf, intermediate, self.anchors, wall, key)

    def trusts(self, claims: Claims) -> bool:
        """Whether the CA at the top of what was verified once is an anchor here, and may still
        give such a name, addresses, groups and prefixes: its limits may have changed.
        """
        top = claims.chain[-1][0] if claims.chain else claims.issuer
        for anchor in self.anchors.anchors:
            if anchor.spki == top:
                try:
                    _check_names(claims.name, claims.addresses, anchor)
                    _check_level(
                        Rights(
                            claims.network, claims.generation, tuple(claims.groups), claims.prefixes
                        ),
                        anchor,
                        self.anchors.network,
                        claims.groups,
                    )
                except CredentialError:
                    continue
                return True
        return False


def verify(
    leaf: bytes, intermediate: bytes | None, anchors: Anchors, wall: float, key: PublicKey
) -> Claims:
    """What a certificate claims, if it is good at the time `wall` for the static key `key`.

    `leaf` and `intermediate` are DER; the intermediate is needed where `anchors` does not know it.
    Revocation, generations and what this interface accepts are asked elsewhere. Raises
    CredentialError and nothing else.
    """
    found = read_leaf(leaf)
    if found.key != key:
        raise CredentialError("key-mismatch", "it was issued for another key than the handshake's")
    moment = _moment(found, wall)
    carried = read_authority(intermediate) if intermediate is not None else None
    refusal = None
    for chain in anchors.chains(found.issuer_id, found.issuer, carried):
        try:
            return _verify_chain(found, chain, anchors.network, moment)
        except CredentialError as error:
            # Two certificates of one CA may stand side by side while one replaces the other.
            refusal = refusal or error
    raise refusal or _no_chain(found, anchors, carried)


def _moment(leaf: Leaf, wall: float) -> float:
    """The time as of which the chain is verified."""
    if leaf.not_after < leaf.not_before:
        raise CredentialError("validity", "it ends before it begins")
    if wall > leaf.not_after:
        raise CredentialError("expired", f"it expired at {time_text(leaf.not_after)}")
    if wall < leaf.not_before - EARLY_SECONDS:
        raise CredentialError(
            "not-yet-valid", f"it is not valid before {time_text(leaf.not_before)}"
        )
    return max(wall, leaf.not_before)


def _no_chain(
    leaf: Leaf, anchors: Anchors, carried: CertificateAuthority | None
) -> CredentialError:
    """Why there is no way up: an unknown CA, or one that is too far below an anchor."""
    for found in (*anchors.intermediates, *([carried] if carried is not None else [])):
        if leaf.issuer_id in (found.key_id, found.spki):
            if any(found.parent_id in (x.key_id, x.spki) for x in anchors.intermediates):
                return CredentialError(
                    "chain-length", f"more than {MAX_BETWEEN} intermediate is above it"
                )
            return CredentialError("unknown-issuer", "the root of its CA is no trust anchor here")
    return CredentialError("unknown-issuer", "its CA is not known here")


def _verify_chain(
    leaf: Leaf, chain: tuple[CertificateAuthority, ...], network: bytes, moment: float
) -> Claims:
    """The claims, if the leaf and every CA of the chain are in order."""
    _check_times(leaf, chain, moment)
    _check_constraints(leaf, chain)
    _check_signatures(leaf, chain, moment)
    _check_rights(leaf, chain, network)
    return Claims(
        kind=Kind.CERTIFICATE,
        key=leaf.key,
        name=leaf.name,
        network=leaf.rights.network,
        addresses=leaf.addresses,
        groups=frozenset(leaf.rights.groups),
        prefixes=leaf.rights.prefixes,
        generation=leaf.rights.generation,
        not_before=leaf.not_before,
        not_after=leaf.not_after,
        issuer=chain[0].spki,
        serial=leaf.serial,
        chain=tuple((above.spki, below.serial) for below, above in itertools.pairwise(chain)),
    )


def _check_times(leaf: Leaf, chain: tuple[CertificateAuthority, ...], moment: float) -> None:
    for authority in chain:
        if not authority.not_before <= moment <= authority.not_after:
            raise CredentialError("ca-expired", "a CA above it is expired, or not yet valid")
        if leaf.not_before < authority.not_before or leaf.not_after > authority.not_after:
            raise CredentialError("outlives-ca", "it is valid when a CA above it is not")


def _check_constraints(leaf: Leaf, chain: tuple[CertificateAuthority, ...]) -> None:
    for authority in chain:
        _check_names(leaf.name, leaf.addresses, authority)


def _check_names(name: str, addresses: tuple[Prefix, ...], authority: CertificateAuthority) -> None:
    limits = authority.limits
    if not authority.constraints.permits_name(name) or (
        limits is not None and not under(name, limits.names)
    ):
        raise CredentialError("constraints", "its name is not one that its CA may give")
    for address in addresses:
        if not authority.constraints.permits_address(address) or (
            limits is not None and not within(address, limits.networks)
        ):
            raise CredentialError("constraints", "an address is not one that its CA may give")


def _check_signatures(leaf: Leaf, chain: tuple[CertificateAuthority, ...], moment: float) -> None:
    """Ask the standard verifier, which must come to the very chain that we looked at."""
    # Every CA is valid for as long as the leaf is, and the leaf now: as it was when this minute
    # began, if it had begun itself. So those who come within a minute share a verifier.
    minute = int(moment) // _MINUTE * _MINUTE
    verifier = _verifier(chain[-1].der, minute if minute >= leaf.not_before else int(moment))
    try:
        found = verifier.verify(leaf.certificate, [x.certificate for x in chain[:-1]])
    except FAILURES:
        raise CredentialError("malformed", "the certificate cannot be read") from None
    except VerificationError as error:
        # What it says may quote the certificate; the signature is what is left to be wrong.
        if "signature" in str(error):
            raise CredentialError("signature", "a signature in its chain is wrong") from None
        raise CredentialError("chain", "the standard verifier refuses its chain") from None
    if found.chain != [leaf.certificate, *[x.certificate for x in chain]]:
        raise CredentialError("chain", "the standard verifier found another chain")


@functools.lru_cache(2 * MAX_ANCHORS)
def _verifier(anchor: bytes, seconds: int) -> ClientVerifier:
    """For one anchor and one moment."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return _policy(anchor).time(moment).build_client_verifier()


@functools.lru_cache(MAX_ANCHORS)
def _policy(anchor: bytes) -> PolicyBuilder:
    """One anchor, and what else is the same at all times."""
    store = Store([x509.load_der_x509_certificate(anchor)])
    return PolicyBuilder().store(store).max_chain_depth(MAX_BETWEEN)


def _check_rights(leaf: Leaf, chain: tuple[CertificateAuthority, ...], network: bytes) -> None:
    """Each level is a subset of the one above."""
    below = leaf.rights
    for authority in chain:
        below = _check_level(below, authority, network, frozenset(leaf.rights.groups))
    if leaf.rights.network != network:
        raise CredentialError("network", "it is for another network")


def _check_level(
    below: Rights, authority: CertificateAuthority, network: bytes, groups: frozenset[str]
) -> Rights:
    """What `authority` may grant, if it grants all that is below it.

    An anchor with stated limits may lack our extension, and has no prefixes then. Limits bind the
    leaf, whose `groups` these are, and not what stands between.
    """
    limits, above = authority.limits, authority.rights
    if above is None:
        if limits is None:
            raise CredentialError("ca-no-rights", "a CA above it may grant nothing")
        above = Rights(network, 0, below.groups)
    if below.network != above.network:
        raise CredentialError("network", "its network is not that of its CA")
    if not set(below.groups).issubset(above.groups):
        raise CredentialError("groups", "it has a group that its CA may not give")
    if not all(within(prefix, above.prefixes) for prefix in below.prefixes):
        raise CredentialError("prefixes", "it has a prefix that its CA may not give")
    if limits is not None and not groups.issubset(limits.groups):
        raise CredentialError("groups", "it has a group outside the limits of its CA")
    return above
