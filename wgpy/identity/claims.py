"""What a verified credential says of its bearer, and why a credential is refused."""

from dataclasses import dataclass
from enum import Enum

from wgpy.ip import Prefix
from wgpy.keys import PublicKey


class Kind(Enum):
    """What carries the claims."""

    CERTIFICATE = "certificate"
    TOKEN = "token"
    # A token that only lets its bearer ask for a certificate: it has no claims, and nobody is a
    # peer by it.
    ENROLMENT = "enrolment"


@dataclass(frozen=True, slots=True)
class Claims:
    """One peer's name, addresses and rights, as its issuer signed them and we verified them.

    Times are seconds of the wall clock since 1970. `addresses` are whole addresses (/32, /128) and
    are the peer's allowed IPs; `prefixes` are what it may route, installed only by local choice.
    """

    kind: Kind
    key: PublicKey
    name: str
    network: bytes  # 16 bytes
    addresses: tuple[Prefix, ...]
    groups: frozenset[str]
    prefixes: tuple[Prefix, ...]
    # Rises with each credential issued to the name: who is the name now.
    generation: int
    not_before: float
    not_after: float
    # SHA-256 of the SubjectPublicKeyInfo of the key that signed it: names of issuers may collide.
    issuer: bytes
    # The certificate's serial number in hexadecimal, or the token's jti; "" for a token without.
    serial: str
    # The same of every intermediate above it, from the leaf upwards: (issuer, serial).
    chain: tuple[tuple[bytes, str], ...] = ()


class CredentialError(Exception):
    """A credential is not accepted. `reason` is one word for a counter and a log line."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
