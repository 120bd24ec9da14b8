"""What two static keys seal outside of a session: keys from their secret, and a box for each label.

The secret is that of `ss` in the handshake, which only the two know. From it comes one key for each
label and direction (docs/protocol.md), so that what one side sent can never be shown to it as the
other's, and a probe is never taken for a signal. Nonces are 24 random bytes.
"""

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag

from wgpy.keys import PublicKey
from wgpy.protocol import xchacha
from wgpy.protocol.handshake import Remote
from wgpy.protocol.hashes import keyed_hash
from wgpy.protocol.messages import ParseError

LABEL_PROBE: Final = b"wgpy v1 path probe"
LABEL_SIGNAL: Final = b"wgpy v1 signal"
NONCE_LENGTH: Final = xchacha.NONCE_LENGTH


class Box:
    """Seals for the other side and opens what it sealed, under one label."""

    __slots__ = ("_receive", "_send")

    def __init__(self, secret: bytes, label: bytes, ours: PublicKey, theirs: PublicKey) -> None:
        self._send = keyed_hash(secret, label + bytes(ours) + bytes(theirs))
        self._receive = keyed_hash(secret, label + bytes(theirs) + bytes(ours))

    def __repr__(self) -> str:
        return "Box(hidden)"

    def seal(self, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
        """Ciphertext and a tag of 16 bytes. A nonce has 24 bytes and is used once."""
        return xchacha.seal(self._send, nonce, plaintext, associated)

    def open(self, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
        """What the other side sealed. Raises ParseError with the reason `unauthenticated`."""
        try:
            return xchacha.unseal(self._receive, nonce, sealed, associated)
        except InvalidTag:
            raise ParseError("it does not authenticate", "unauthenticated") from None


@dataclass(frozen=True, slots=True)
class PathKeys:
    """What one peer's pathfinder has of secrets: no private key, and never the shared one."""

    ours: PublicKey
    theirs: PublicKey
    probe: Box
    signal: Box


def path_keys(remote: Remote) -> PathKeys:
    """The keys between us and a peer. Raises HandshakeError for a peer's key of low order."""
    secret, ours, theirs = remote.static_static(), remote.local.public, remote.public_key
    return PathKeys(
        ours,
        theirs,
        Box(secret, LABEL_PROBE, ours, theirs),
        Box(secret, LABEL_SIGNAL, ours, theirs),
    )
