"""Credentials for a TURN server: a name and a password, or a pair that is good until a time.

Time-limited credentials are made from a secret that the server shares with whoever hands them out
(`use-auth-secret` of coturn; draft-uberti-behave-turn-rest): the user name is when they expire, in
seconds of Unix time, a colon and a name; the password is Base64 of HMAC-SHA1 over the user name.
"""

import base64
import hashlib
import hmac
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

# RFC 8489, section 14.3: a user name is shorter than 509 bytes. The realm's bound is in characters
# there (fewer than 128); a password has none, and needs no more than a name.
MAX_USERNAME: Final = 508
MAX_PASSWORD: Final = 508
# A day, as those who hand such credentials out usually do: longer than most allocations live.
REST_LIFETIME: Final = 86_400.0


class CredentialsError(ValueError):
    """A user name or password that cannot be one; a line that does not repeat it."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password. `expires`: when they do, in seconds of the clock that the client
    is given (CLOCK_BOOTTIME), or None. Raises CredentialsError."""

    username: str
    password: str = field(repr=False)
    expires: float | None = None

    def __post_init__(self) -> None:
        opaque("user name", self.username, MAX_USERNAME)
        opaque("password", self.password, MAX_PASSWORD)

    def good(self, now: float) -> bool:
        """Whether they have not expired."""
        return self.expires is None or now < self.expires

    def same_as(self, other: "Credentials | None") -> bool:
        """Whether a server that refused one would refuse the other."""
        return other is not None and (self.username, self.password) == (
            other.username,
            other.password,
        )


# What gives credentials when some are needed, at a time of the client's clock. None: there are none
# now, they come later.
Source = Callable[[float], Credentials | None]


def fixed(credentials: Credentials) -> Source:
    """A source that has one pair and no other."""
    return lambda now: credentials if credentials.good(now) else None


def rest(
    secret: bytes, name: str, *, wall: float, now: float, lifetime: float = REST_LIFETIME
) -> Credentials:
    """Credentials from a shared secret, good for `lifetime` seconds from now.

    `wall` is the Unix time, which the user name tells the server; `now` the client's clock. `name`
    is what the server's log shows, and may be empty. Raises CredentialsError.
    """
    expiry = int(wall + lifetime)
    username = f"{expiry}:{name}" if name else str(expiry)
    password = base64.b64encode(hmac.digest(secret, username.encode(), "sha1")).decode("ascii")
    return Credentials(username, password, now + (expiry - wall))


def rest_source(
    secret: bytes, name: str, wall: Callable[[], float], lifetime: float = REST_LIFETIME
) -> Source:
    """A source that makes fresh ones whenever it is asked. `wall` tells the Unix time."""
    return lambda now: rest(secret, name, wall=wall(), now=now, lifetime=lifetime)


def handed_out(username: str, password: str, *, wall: float, now: float) -> Credentials:
    """Time-limited credentials that somebody else made, with the expiry that their name says.

    Raises CredentialsError for those and for a name that does not begin with a number.
    """
    expiry = username.partition(":")[0]
    # Ten digits are enough until the year 2286.
    if not (expiry.isascii() and expiry.isdigit() and len(expiry) <= 10):
        raise CredentialsError("the user name does not begin with the time when it expires")
    return Credentials(username, password, now + (int(expiry) - wall))


def opaque(what: str, text: str, limit: int) -> bytes:
    """UTF-8 of a text as OpaqueString of RFC 8265 has it, as far as passwords need it: composed
    (NFC), every kind of space the ordinary one, nothing that cannot be seen.

    Raises CredentialsError for what is empty, longer than `limit` bytes, or has control characters.
    """
    plain = "".join(" " if unicodedata.category(c) == "Zs" else c for c in text)
    composed = unicodedata.normalize("NFC", plain)
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cn", "Co", "Cs") for c in composed):
        raise CredentialsError(f"the {what} has characters that are no letters, marks or signs")
    found = composed.encode()
    if not 0 < len(found) <= limit:
        raise CredentialsError(f"the {what} has {len(found)} bytes, and not 1 to {limit}")
    return found


def hmac_key(username: bytes, realm: bytes, password: bytes, algorithm: str = "md5") -> bytes:
    """The key of MESSAGE-INTEGRITY: 16 bytes with md5, 32 with sha256 (RFC 8489, sections 9.2.2
    and 18.5.1). MD5 is what the protocol says; nothing rests on it that TLS or a better algorithm
    would not have to carry anyway."""
    return hashlib.new(
        algorithm, b":".join((username, realm, password)), usedforsecurity=False
    ).digest()
