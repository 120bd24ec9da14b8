"""Who asks: the four headers that each request and each opening of a WebSocket carries.

    Wgpy-Key     the node's static public key, 44 characters of base64
    Wgpy-Time    whole seconds of the coordinator's wall clock, since 1970
    Wgpy-Nonce   16 random bytes, base64url
    Wgpy-Mac     HMAC-SHA256 under K, base64url, over
                 "wgpy api v1", METHOD, PATH?QUERY, hex(SHA-256(BODY)), TIME, NONCE
                 with a line feed between two of them

    K = keyed BLAKE2s-256(static-static secret, "wgpy api v1" || node's key || coordinator's key)

The source address of a tunnel is no proof of who speaks: any user of the node, and whoever it
forwards for, has it. K is known to two static keys and to nobody else. Pure: the clock and the
random bytes are arguments. Every refusal is an AuthError.
"""

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from wgpy.identity.jose import JsonError, b64decode, b64encode
from wgpy.keys import KeyFormatError, PublicKey

KEY: Final = "Wgpy-Key"
TIME: Final = "Wgpy-Time"
NONCE: Final = "Wgpy-Nonce"
MAC: Final = "Wgpy-Mac"

NONCE_LENGTH: Final = 16
# How far a request's time may be from the clock: a slow line and a busy machine, not a wrong clock,
# for a node asks what time the coordinator has.
WINDOW: Final = 60.0
# A time that is 60 s ahead is good for 120 s, and so long is its nonce remembered.
REMEMBER: Final = 2 * WINDOW
# 8 requests a second, all of the time; a node has need of one in some seconds.
MAX_NONCES_OF_KEY: Final = 1_024
# Some 20 megabytes; 5,000 nodes that all do something at once have 13 each.
MAX_NONCES: Final = 65_536

_LABEL: Final = b"wgpy api v1"
_MAC_LENGTH: Final = 32
_MAX_DIGITS: Final = 12


class AuthError(Exception):
    """A request is not its sender's: `reason` is a word, and the text a sentence for a person."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Proof:
    """What the four headers say: nothing of it is verified."""

    key: PublicKey
    time: int
    nonce: bytes
    mac: bytes


def api_key(secret: bytes, node: PublicKey, coordinator: PublicKey) -> bytes:
    """The key K of a node and a coordinator, from the secret that their static keys share."""
    data = _LABEL + bytes(node) + bytes(coordinator)
    return hashlib.blake2s(data, key=secret, digest_size=32).digest()


def mac(key: bytes, method: str, target: str, body: bytes, time: int, nonce: bytes) -> bytes:
    """The 32 bytes of a request's MAC; `target` is its path and query as they are sent."""
    digest = hashlib.sha256(body).hexdigest()
    said = "\n".join((method, target, digest, str(time), b64encode(nonce)))
    return hmac.digest(key, _LABEL + b"\n" + said.encode(), "sha256")


def sign(
    key: bytes,
    node: PublicKey,
    method: str,
    target: str,
    body: bytes = b"",
    *,
    now: float,
    nonce: bytes,
) -> dict[str, str]:
    """The four headers of a request. `now` is the coordinator's clock, `nonce` 16 random bytes."""
    time = int(now)
    return {
        KEY: node.base64(),
        TIME: str(time),
        NONCE: b64encode(nonce),
        MAC: b64encode(mac(key, method, target, body, time, nonce)),
    }


def read_proof(headers: Mapping[str, str]) -> Proof:
    """The four headers, each in its one spelling. Raises AuthError with the reason `headers`."""
    try:
        time = headers[TIME]
        if not (time.isascii() and time.isdigit() and len(time) <= _MAX_DIGITS):
            raise ValueError
        proof = Proof(
            PublicKey.from_base64(headers[KEY]),
            int(time),
            b64decode(headers[NONCE]),
            b64decode(headers[MAC]),
        )
        if len(proof.nonce) != NONCE_LENGTH or len(proof.mac) != _MAC_LENGTH:
            raise ValueError
        if str(proof.time) != time:
            raise ValueError
    except (KeyError, ValueError, KeyFormatError, JsonError):
        raise AuthError(
            "headers", f"the request lacks {KEY}, {TIME}, {NONCE} and {MAC} as they have to be"
        ) from None
    return proof


class Nonces:
    """The nonces that were used in the last 120 s, by key; bounded, and what has no room is
    refused."""

    def __init__(self, of_key: int = MAX_NONCES_OF_KEY, in_all: int = MAX_NONCES) -> None:
        self._of_key = of_key
        self._in_all = in_all
        # The oldest use first, and among it how many each key has.
        self._used: OrderedDict[tuple[PublicKey, bytes], float] = OrderedDict()
        self._counts: dict[PublicKey, int] = {}

    def __len__(self) -> int:
        return len(self._used)

    def use(self, key: PublicKey, nonce: bytes, now: float) -> None:
        """Take a nonce that authenticated. Raises AuthError: `replayed`, `too-many`."""
        self._forget(now)
        if (key, nonce) in self._used:
            raise AuthError("replayed", "this very request was made before")
        if self._counts.get(key, 0) >= self._of_key or len(self._used) >= self._in_all:
            raise AuthError("too-many", "too many requests in two minutes: ask again later")
        self._used[key, nonce] = now
        self._counts[key] = self._counts.get(key, 0) + 1

    def _forget(self, now: float) -> None:
        while self._used:
            (key, nonce), at = next(iter(self._used.items()))
            # `now` is a clock that never goes back.
            if now - at <= REMEMBER:
                return
            del self._used[key, nonce]
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]


def verify(
    proof: Proof,
    key: bytes,
    method: str,
    target: str,
    body: bytes,
    *,
    wall: float,
    now: float,
    nonces: Nonces,
) -> None:
    """Accept a request once. `wall` is the clock of its time, `now` one that never goes back.

    Raises AuthError: `mac`, `time`, `replayed`, `too-many`. What does not authenticate takes no
    room among the nonces.
    """
    said = mac(key, method, target, body, proof.time, proof.nonce)
    if not hmac.compare_digest(said, proof.mac):
        raise AuthError("mac", "the request was not made by the key that it names")
    if abs(proof.time - wall) > WINDOW:
        raise AuthError("time", "the request's time is over a minute from the coordinator's")
    nonces.use(proof.key, proof.nonce, now)
