"""Long-term credentials on TURN's requests and answers (RFC 8489, section 9.2).

A server answers the first request with 401 and a *challenge*: its realm, a nonce, and from the
newer ones the algorithms that it knows, with which the password is hashed. Requests from then on
are signed, and so must their answers be. A nonce that begins with "obMatJos2" says by its flags
what else the challenge must hold, so that nobody on the way can take the better algorithms out.
"""

import base64
import binascii
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from wgpy.nat.stun import Class, Message, Method, ParseError, pack
from wgpy.nat.turn_credentials import MAX_PASSWORD, MAX_USERNAME, Credentials, hmac_key, opaque

# RFC 8489, sections 14.9 and 14.10: fewer than 128 characters, at most 763 bytes.
MAX_TEXT: Final = 763
# Section 9.2: what a nonce with flags begins with, then 4 characters of Base64; bits from the left.
NONCE_COOKIE: Final = b"obMatJos2"
HAS_ALGORITHMS: Final = 1 << 23
HAS_ANONYMITY: Final = 1 << 22
# Section 18.5.
ALGORITHMS: Final = {1: "md5", 2: "sha256"}

_ALGORITHM = struct.Struct("!HH")


@dataclass(frozen=True, slots=True)
class Challenge:
    """How a server wants requests to be signed. `algorithms` is its PASSWORD-ALGORITHMS as it came,
    or nothing; `algorithm` that of them which we use; `anonymous`: it takes a hash of the name."""

    realm: str
    nonce: bytes
    algorithms: bytes = b""
    algorithm: int = 1
    anonymous: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """What a request was signed with, and its answer must be: MESSAGE-INTEGRITY-SHA256 with
    `sha256`, else MESSAGE-INTEGRITY."""

    key: bytes = field(repr=False)
    sha256: bool = False

    def signed(self, message: Message) -> bool:
        """Whether the message is signed with it."""
        return message.is_authentic(self.key, sha256=self.sha256)


def read_challenge(message: Message, previous: Challenge | None = None) -> Challenge:
    """The challenge in a 401 or 438. A 438 may leave out the realm, which is then the `previous`.

    Raises ParseError, whose reason is `no_challenge` if there is none, `bid_down` if something was
    taken out of it, and `no_algorithm` if we know none of its algorithms.
    """
    nonce = message.attributes.get("NONCE", b"")
    realm = message.attributes.get("REALM") or (previous.realm if previous else "")
    if not nonce or not realm:
        raise ParseError("a challenge without realm or nonce", "no_challenge")
    if len(nonce) > MAX_TEXT or len(realm.encode()) > MAX_TEXT:
        raise ParseError("a realm or nonce longer than 763 bytes", "no_challenge")
    flags = nonce_flags(nonce)
    algorithms = message.attributes.get("PASSWORD-ALGORITHMS", b"")
    if flags & HAS_ALGORITHMS and not algorithms:
        raise ParseError("a nonce of algorithms that are not there", "bid_down")
    algorithm = _first_known(algorithms) if algorithms else 1
    challenge = Challenge(realm, nonce, algorithms, algorithm, bool(flags & HAS_ANONYMITY))
    # So that no later use of it can fail.
    _realm(challenge)
    return challenge


def nonce_flags(nonce: bytes) -> int:
    """The 24 bits of security features in a nonce; 0 for one that has none."""
    if not nonce.startswith(NONCE_COOKIE):
        return 0
    text = nonce[len(NONCE_COOKIE) :][:4]
    try:
        return int.from_bytes(base64.b64decode(text, validate=True), "big") if len(text) == 4 else 0
    except binascii.Error:
        return 0


def _first_known(algorithms: bytes) -> int:
    """The first of PASSWORD-ALGORITHMS that we know: each is a number, the length of its
    parameters, and these. Raises ParseError."""
    place = 0
    while place + _ALGORITHM.size <= len(algorithms):
        number, length = _ALGORITHM.unpack_from(algorithms, place)
        # Neither of ours has parameters.
        if number in ALGORITHMS and length == 0:
            return int(number)
        place += _ALGORITHM.size + length + -length % 4
    raise ParseError("no password algorithm that we know", "no_algorithm")


def make_key(credentials: Credentials, challenge: Challenge) -> Key:
    """What requests are signed with."""
    realm = _realm(challenge)
    username = opaque("user name", credentials.username, MAX_USERNAME)
    password = opaque("password", credentials.password, MAX_PASSWORD)
    algorithm = ALGORITHMS[challenge.algorithm]
    return Key(hmac_key(username, realm, password, algorithm), bool(challenge.algorithms))


def _realm(challenge: Challenge) -> bytes:
    """The realm as it goes into hashes, without quotes and zeros at the end (section 9.2.2). Raises
    ParseError for what is no text."""
    try:
        return opaque("realm", challenge.realm.rstrip("\0").strip('"'), MAX_TEXT)
    except ValueError as error:
        raise ParseError(str(error), "no_challenge") from None


def sign(
    method: Method,
    transaction: bytes,
    attributes: Mapping[str, Any],
    credentials: Credentials,
    challenge: Challenge,
) -> tuple[bytes, Key]:
    """A signed request, and the key that its answer must be signed with."""
    key = make_key(credentials, challenge)
    username = opaque("user name", credentials.username, MAX_USERNAME)
    named: dict[str, Any] = dict(attributes)
    if challenge.anonymous:
        # Section 14.4: of the name and the realm as the key has them.
        named["USERHASH"] = sha256(username + b":" + _realm(challenge)).digest()
    else:
        named["USERNAME"] = username.decode()
    named["REALM"] = challenge.realm
    named["NONCE"] = challenge.nonce
    if challenge.algorithms:
        named["PASSWORD-ALGORITHMS"] = challenge.algorithms
        named["PASSWORD-ALGORITHM"] = _ALGORITHM.pack(challenge.algorithm, 0)
    message = Message(method, Class.REQUEST, transaction, named)
    return pack(message, key.key, sha256=key.sha256), key
