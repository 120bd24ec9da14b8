"""What the standard verifier takes and refuses by itself: the reason why we check first, and how.

A release of the library that changes its mind is noticed here, and costs nothing but this test.
"""

import datetime
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from tests.support.certificates import DAY, KEY, NOW, ROOT, Authority, Peer, names, signing_key
from wgpy.identity.profile import PEER_PURPOSE
from wgpy.keys import PublicKey

PEER = Peer()
MIDDLE = Authority(name="an intermediate", key=signing_key(1), parent=ROOT)
BARE = replace(ROOT, constraints=None)
LATE = replace(PEER, not_after=ROOT.not_after + 90 * DAY)


def stock(leaf: Peer, *trusted: Authority) -> None:
    """Verify with the library's defaults and nothing of ours."""
    verifier = (
        PolicyBuilder()
        .store(Store([x.certificate() for x in trusted or (ROOT,)]))
        .time(datetime.datetime.fromtimestamp(NOW, datetime.UTC))
        .build_client_verifier()
    )
    verifier.verify(leaf.certificate(), [])


TAKEN = {
    "a good leaf": (PEER, ROOT),
    "an ECDSA key": (replace(PEER, key=signing_key(5).public_key()), ROOT),
    "a key of zeros": (replace(PEER, key=PublicKey(bytes(32))), ROOT),
    "a key with bit 255 set": (
        replace(PEER, key=PublicKey(bytes(KEY)[:31] + bytes([bytes(KEY)[31] | 0x80]))),
        ROOT,
    ),
    "no purpose": (replace(PEER, purposes=None), ROOT),
    "no key usage": (replace(PEER, usage=None), ROOT),
    "a wildcard": (replace(PEER, names=names("*.mesh", "10.7.0.2")), ROOT),
    "two names": (replace(PEER, names=names("a.mesh", "b.mesh", "10.7.0.2")), ROOT),
    "a leaf that outlives its CA": (LATE, ROOT),
    "a CA without constraints": (replace(PEER, parent=BARE), BARE),
    "an intermediate as anchor": (replace(PEER, parent=MIDDLE), MIDDLE),
}


@pytest.mark.parametrize("row", TAKEN)
def test_the_standard_verifier_takes(row: str) -> None:
    leaf, root = TAKEN[row]
    stock(leaf, root)


ANY = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
REFUSED = {
    "our purpose alone": replace(PEER, purposes=(PEER_PURPOSE,)),
    "any purpose": replace(PEER, purposes=(ANY,)),
    "a critical purpose": replace(PEER, purposes_critical=True),
    "our extension as critical": replace(PEER, rights_critical=True),
    "no authority key id": replace(PEER, has_authority=False),
    "names that are critical beside a subject": replace(PEER, subject="laptop"),
    "a root without key usage": replace(PEER, parent=replace(ROOT, usage=None)),
    "a name outside the constraints": replace(PEER, names=names("laptop.other")),
    "an unknown critical extension": replace(
        PEER,
        extra=((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"), True),),
    ),
}


@pytest.mark.parametrize("row", REFUSED)
def test_the_standard_verifier_refuses(row: str) -> None:
    leaf = REFUSED[row]
    with pytest.raises(VerificationError):
        stock(leaf, leaf.parent)
