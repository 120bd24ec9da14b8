"""TLS to a TURN server: whom to trust, and what is checked (RFC 8656, section 6.2.1; RFC 7443).

Either the certificate's chain and name are checked, against the machine's trust store or a file, or
the server's key is pinned by a hash. A pin says exactly which key it is: chain, name and dates add
nothing to it, so a server of one's own needs no certification authority.
"""

import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# RFC 7443: so that a firewall, or another server on port 443, can tell what it is.
ALPN: Final = "stun.turn"


class TrustError(Exception):
    """A file of certificates that cannot be used, or a server whose key is not the pinned one; one
    line."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to trust. `ca_file` has certificates in PEM, None is the machine's store. `pins` are
    SHA-256 hashes of subject public key infos (RFC 7469), 32 bytes each, any of which will do."""

    ca_file: Path | None = None
    pins: frozenset[bytes] = frozenset()


def make_context(trust: Trust) -> ssl.SSLContext:
    """What connections are made with. Raises TrustError for a file that has no certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([ALPN])
    if trust.pins:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif trust.ca_file is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        try:
            context.load_verify_locations(trust.ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise TrustError(
                f"{trust.ca_file}: no certificates: {error.strerror or error}"
            ) from None
    return context


def check_pin(trust: Trust, certificate: bytes | None) -> None:
    """Check a server's certificate (DER) against the pins, if there are any. Raises TrustError."""
    if not trust.pins:
        return
    if certificate is None or key_hash(certificate) not in trust.pins:
        raise TrustError("the server's key is not the pinned one")


def key_hash(certificate: bytes) -> bytes:
    """SHA-256 of the subject public key info of a certificate in DER. Raises TrustError.

    OpenSSL has read the certificate as a whole before it comes here; this only finds the place (RFC
    5280, section 4.1), for which a library would take eight megabytes.
    """
    # Certificate, and in it TBSCertificate: of both only the contents.
    place, _ = _element(certificate, 0)
    place, end = _element(certificate, place)
    # Version 1 has no version; serial number, signature, issuer, validity and subject follow.
    for _ in range(6 if certificate[place : place + 1] == b"\xa0" else 5):
        _, place = _element(certificate, place)
    _, after = _element(certificate, place)
    if after > end:
        raise TrustError("the server's certificate cannot be read")
    return hashlib.sha256(certificate[place:after]).digest()


def _element(der: bytes, place: int) -> tuple[int, int]:
    """Where the contents of the DER element at `place` begin, and where they end. Raises
    TrustError."""
    head = der[place : place + 2]
    if len(head) == 2 and head[1] < 0x80:
        start, length = place + 2, head[1]
    else:
        count = head[1] & 0x7F if len(head) == 2 else 0
        start = place + 2 + count
        length = int.from_bytes(der[place + 2 : start], "big")
    if len(head) < 2 or start + length > len(der):
        raise TrustError("the server's certificate cannot be read")
    return start, start + length
