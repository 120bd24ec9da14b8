"""Fuzz certificates, our extensions, CRLs and deny lists: only CredentialError comes out.

    python tests/fuzz/fuzz_certificate.py -max_total_time=30

Needs the `fuzz` extra (atheris). Arguments are libFuzzer's. The first byte chooses what is read.
Certificates are made of a good one whose bytes are changed where the input says, for random bytes
would hardly ever be DER.
"""

import sys
from dataclasses import replace
from pathlib import Path

import atheris
from cryptography import x509

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["wgpy"]):
    from tests.support.certificates import KEY, NOW, ROOT, Peer, anchors, crl, signing_key
    from tests.support.leaf_by_library import read_by_library
    from wgpy.identity.anchors import read_authority
    from wgpy.identity.certificate import verify
    from wgpy.identity.claims import CredentialError
    from wgpy.identity.crl import decode_denials, encode_denials, read_crl
    from wgpy.identity.denylist import read_deny_list
    from wgpy.identity.describe import describe
    from wgpy.identity.leaf import read_leaf
    from wgpy.identity.profile import decode_rights, encode_rights
    from wgpy.identity.x509der import parsing

LEAF = Peer().der()
WORDY = replace(
    Peer(),
    subject="laptop",
    names_critical=False,
    extra=((x509.SubjectKeyIdentifier(bytes(20)), False), (x509.OCSPNoCheck(), False)),
).der()
CA = ROOT.der()
MIDDLE = replace(
    ROOT, name="middle", key=signing_key(1), parent=ROOT, basic=x509.BasicConstraints(True, 0)
)
BELOW = Peer(parent=MIDDLE).der()
BETWEEN = MIDDLE.der()
LIST = crl(0x1234, pem=False)
TRUST = anchors(ROOT)
KNOWN = tuple(TRUST.known())
CLAIMS = verify(LEAF, None, TRUST, NOW, KEY)
MAX_CHANGES = 8


def test_one_input(data: bytes) -> None:
    """Read one thing."""
    if not data:
        return
    kind, data = data[0] % 9, data[1:]
    try:
        read(kind, data)
    except CredentialError as error:
        if not error.reason or not str(error).isprintable():
            raise AssertionError("a refusal is not one printable line with a reason") from error


def read(kind: int, data: bytes) -> None:
    """One of the parsers; what is accepted must be what was written."""
    if kind == 0:
        verify(BELOW, changed(BETWEEN, data), TRUST, NOW, KEY)
    elif kind == 1:
        leaf(changed(LEAF, data))
    elif kind == 2:
        read_authority(changed(CA, data))
    elif kind == 3:
        describe(changed(LEAF if len(data) % 2 else CA, data))
    elif kind == 4:
        if encode_rights(decode_rights(data)) != data:
            raise AssertionError("an extension has two encodings")
    elif kind == 5:
        denied = decode_denials(data)
        if decode_denials(encode_denials(denied)) != denied:
            raise AssertionError("what was written is not what was read")
    elif kind == 6:
        list(read_crl(changed(LIST, data) if len(data) % 2 else data, KNOWN))
    elif kind == 7:
        read_deny_list(data)
    else:
        of_its_own(changed(WORDY if len(data) % 2 else LEAF, data))


def of_its_own(der: bytes) -> None:
    """What our own reader accepts, the library reads in the same way."""
    found = read_leaf(der)
    if _readable(der) and found != read_by_library(der, found.issuer):
        raise AssertionError("our reader and the library read something else")


def _readable(der: bytes) -> bool:
    """Whether the issuer is a name: to us it is what has to be that of a CA, byte by byte."""
    try:
        with parsing():
            return x509.load_der_x509_certificate(der).issuer is not None
    except CredentialError:
        return False


def leaf(der: bytes) -> None:
    """A leaf: what is accepted must be what its CA signed."""
    claims = verify(der, None, TRUST, NOW, KEY)
    if claims != CLAIMS:
        raise AssertionError("a certificate that its CA did not sign was accepted")


def changed(whole: bytes, data: bytes) -> bytes:
    """A good one with some bytes replaced, inserted or removed: four bytes of input for each."""
    found = bytearray(whole)
    for start in range(0, min(len(data) - 3, 4 * MAX_CHANGES), 4):
        place = int.from_bytes(data[start : start + 2], "big") % (len(found) + 1)
        how, value = data[start + 2], data[start + 3]
        if how % 4 == 0:
            found[place:place] = bytes([value])
        elif how % 4 == 1:
            del found[place : place + value % 16]
        elif place < len(found):
            found[place] = value
    return bytes(found)


def main() -> None:
    """Run until libFuzzer's arguments say that it is enough."""
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
