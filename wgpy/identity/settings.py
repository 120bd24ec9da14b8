"""What an operator says about credentials: whom an interface trusts, and what it presents."""

from dataclasses import dataclass
from typing import Final

from wgpy.ip import Prefix

# Where a coordinator answers those who enrol, inside the tunnel: TCP.
ENROL_PORT: Final = 7100


@dataclass(frozen=True, slots=True)
class Limits:
    """What an issuer may sign for. Empty means nothing, never everything."""

    # DNS suffixes without a leading dot: `mesh` permits `laptop.mesh`.
    names: tuple[str, ...] = ()
    networks: tuple[Prefix, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Anchor:
    """A file with one self-signed CA certificate (PEM). `limits` are stated for a CA that has no
    name constraints of its own, and then take their place; None otherwise.
    """

    path: str
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    """An issuer of tokens: its keys (a JWKS file) and what they may sign for."""

    jwks: str
    limits: Limits


@dataclass(frozen=True, slots=True)
class AuthoritySettings:
    """The `[authority]` of an interface: who may come in without being in the configuration."""

    network: bytes  # 16 bytes
    accept: tuple[Prefix, ...]
    anchors: tuple[Anchor, ...] = ()
    intermediates: tuple[str, ...] = ()
    # Files, or directories whose files are all read; both are watched.
    revocations: tuple[str, ...] = ()
    issuers: tuple[TokenIssuer, ...] = ()
    require_groups: tuple[str, ...] = ()
    # A stale CRL refuses instead of warning.
    strict: bool = False
    # A file with the PSK of every peer that is admitted; none means zeros.
    preshared_key_file: str | None = None
    # Pairs of anchors (SHA-256 of SPKI, hexadecimal) between which a name may move: (old, new).
    rotations: tuple[tuple[str, str], ...] = ()
    # Who shows a token to enrol, and names nobody, is let into quarantine: it reaches this TCP port
    # of our tunnel's address and nothing else. Only coordinators say so.
    enrol: bool = False
    enrol_port: int = ENROL_PORT


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """The `[identity]` of an interface: the credential that it presents. One of the two is set."""

    certificate: str | None = None
    # At most one is ever carried; see docs/protocol.md.
    intermediate: str | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a configured peer must prove: `credential = true` and what goes with it."""

    # The dNSName its credential must carry.
    name: str | None
    # The key in the configuration suffices: an empty answer is accepted.
    key_suffices: bool = False
