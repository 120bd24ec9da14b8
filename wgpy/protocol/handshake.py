"""The handshake Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s, both roles (whitepaper 5.4).

    initiator                                     responder
    initiate(remote)          ── initiation ──►   read_initiation(local)   whose static key is it?
                                                  .authenticate(remote)    ss, timestamp
    .finish(response)         ◄── response  ──    .respond()
      TransportKeys                                 TransportKeys

Everything that does not authenticate raises HandshakeError, and nothing else. `Begun` and `Read`
are what both handshakes share, this one and that with credentials (credential_handshake.py).
"""

import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from noise.exceptions import NoiseMaxNonceError, NoiseValueError

from wgpy.keys import PresharedKey, PrivateKey, PublicKey
from wgpy.protocol import noise
from wgpy.protocol.constants import (
    CREDENTIAL_PROLOGUE,
    KEY_LENGTH,
    TIMESTAMP_LENGTH,
    TYPE_INITIATION,
    TYPE_RESPONSE,
)
from wgpy.protocol.cookie import mac1_key
from wgpy.protocol.credential_payload import Asked, ResponsePayload
from wgpy.protocol.messages import Initiation, Response

_INITIATION_HEAD = struct.Struct("<II")
_RESPONSE_HEAD = struct.Struct("<III")
_NO_PSK = bytes(KEY_LENGTH)


class HandshakeError(Exception):
    """A handshake message that is not what it must be. `reason` names a counter."""

    def __init__(self, text: str, reason: str = "unauthenticated") -> None:
        super().__init__(text)
        self.reason = reason


# What the library and its backend raise for bytes that are not what they must be.
_REFUSALS = (InvalidTag, NoiseValueError, NoiseMaxNonceError, ValueError)


def _refused(what: str, error: Exception) -> HandshakeError:
    # The library's own text could quote what it was given; the kind of error is enough.
    return HandshakeError(f"{what}: {type(error).__name__}")


@dataclass(frozen=True, slots=True, eq=False)
class TransportKeys:
    """The two keys of a session, 32 bytes each, for their owner to consume and wipe."""

    send: bytearray
    receive: bytearray

    def __repr__(self) -> str:
        return "TransportKeys(hidden)"

    def wipe(self) -> None:
        """Overwrite both with zeros."""
        self.send[:] = bytes(len(self.send))
        self.receive[:] = bytes(len(self.receive))


class Local:
    """Our side: the interface's key pair and what follows from it. The private key goes into a key
    object; the one given stays its owner's. Raises ValueError for zeros, which mean no key."""

    __slots__ = ("credential_hash", "initial_hash", "key_pair", "mac1_key", "public")

    def __init__(self, private: PrivateKey) -> None:
        if private.is_zero():
            raise ValueError("the interface has no private key")
        self.key_pair = noise.KeyPair25519.from_private_bytes(bytes(private))
        self.public = PublicKey(self.key_pair.public_bytes)
        self.mac1_key = mac1_key(self.public)
        self.initial_hash = noise.initial_hash(bytes(self.public))
        self.credential_hash = noise.initial_hash(bytes(self.public), CREDENTIAL_PROLOGUE)

    def wipe(self) -> None:
        """Let the key object go, which OpenSSL wipes as it frees it.

        Whatever still holds this Local raises HandshakeError from then on.
        """
        self.key_pair.private = None


class Remote:
    """A peer's key and pre-shared key, as seen from one Local. `psk` may be set at any time.

    `asked` and `answered` are the payloads of its last messages with credentials, as bytes and as
    what they mean, and `asking` is what we asked it last: a renewal of keys brings the same again.
    """

    __slots__ = (
        "_known",
        "_public_key",
        "answered",
        "asked",
        "asking",
        "local",
        "mac1_key",
        "psk",
    )

    def __init__(self, local: Local, public_key: PublicKey, psk: PresharedKey | None) -> None:
        self.local = local
        self.psk = psk
        self.mac1_key = mac1_key(public_key)
        self._public_key = public_key
        # Made when first needed: an exchange for each of 10,000 peers would delay the start.
        self._known: noise.KeyPair25519 | None = None
        self.asked: tuple[bytes, Asked] | None = None
        self.answered: tuple[bytes, ResponsePayload] | None = None
        self.asking: tuple[bytes, Asked] | None = None

    @property
    def public_key(self) -> PublicKey:
        """The peer's static public key."""
        return self._public_key

    def key_pair(self) -> noise.KeyPair25519:
        """The public key with the cached static-static secret. HandshakeError if that is zero."""
        if self._known is None:
            raw = bytes(self._public_key)
            try:
                known = noise.KnownPublic(self.local.key_pair, raw)
            except _REFUSALS as error:
                raise _refused("the peer's public key cannot be used", error) from None
            self._known = noise.KeyPair25519(None, known, raw)
        return self._known

    def static_static(self) -> bytes:
        """The secret that both static keys share, 32 bytes: for keys that are derived from it.

        Raises HandshakeError.
        """
        secret: bytes = self.key_pair().public.static_static
        return secret

    def psk_bytes(self) -> bytes:
        """The pre-shared key, or 32 zero bytes, which stand for none (whitepaper 5.2)."""
        return _NO_PSK if self.psk is None else bytes(self.psk)


class Begun:
    """A handshake that we began, of either kind. `message` is what was sent, without its macs."""

    __slots__ = ("_ephemeral", "_finished", "_remote", "_snapshot", "message", "sender")

    def __init__(
        self,
        remote: Remote,
        head: bytes,
        sender: int,
        payload: bytes,
        ephemeral: bytes,
        initial_hash: bytes,
    ) -> None:
        """Write message 1 behind `head`. Raises HandshakeError for a peer's key of low order."""
        handshake = noise.Handshake(
            initiator=True, static=remote.local.key_pair, handshake_hash=initial_hash
        )
        self._ephemeral = noise.KeyPair25519.from_private_bytes(ephemeral)
        handshake.rs = remote.key_pair()
        handshake.e = self._ephemeral
        message = bytearray(head)
        try:
            handshake.write_message(payload, message)
        except _REFUSALS as error:
            raise _refused("the peer's public key cannot be used", error) from None
        self.message = bytes(message)
        self.sender = sender
        self._remote = remote
        self._snapshot = handshake.snapshot()
        self._finished = False

    def _read_answer(self, receiver: int, sealed: bytes) -> tuple[bytes, TransportKeys]:
        """Message 2 from its ephemeral key on: its payload and the session's keys.

        Raises HandshakeError, after which the right answer is still accepted: a forged one must
        not end a handshake in progress.
        """
        if self._finished or receiver != self.sender:
            raise HandshakeError("a response to no handshake of ours")
        remote = self._remote
        handshake = noise.Handshake.resume(
            self._snapshot, static=remote.local.key_pair, ephemeral=self._ephemeral
        )
        handshake.rs = remote.key_pair()
        handshake.set_psk(remote.psk_bytes())
        payload = bytearray()
        try:
            first, second = handshake.read_message(sealed, payload)
        except _REFUSALS as error:
            raise _refused("a response does not authenticate", error) from None
        return bytes(payload), TransportKeys(send=bytearray(first.k), receive=bytearray(second.k))


class Initiator(Begun):
    """A handshake that we began. `message` is the initiation without its macs, 116 bytes."""

    __slots__ = ()

    def finish(self, response: Response) -> TransportKeys:
        """Read the response (whitepaper 5.4.3). Raises HandshakeError, after which the right
        response is still accepted."""
        payload, keys = self._read_answer(
            response.receiver, response.ephemeral + response.sealed_empty
        )
        if payload:
            raise HandshakeError("a response carries a payload")
        self._finished = True
        return keys


def initiate(remote: Remote, *, sender: int, timestamp: bytes, ephemeral: bytes) -> Initiator:
    """Begin a handshake (whitepaper 5.4.2) with our index, a TAI64N stamp of 12 bytes and a fresh
    private key of 32 random bytes. Raises HandshakeError if the peer's key is of low order."""
    if len(timestamp) != TIMESTAMP_LENGTH:
        raise ValueError(f"a timestamp is {TIMESTAMP_LENGTH} bytes; this has {len(timestamp)}")
    head = _INITIATION_HEAD.pack(TYPE_INITIATION, sender)
    initial_hash = noise.initial_hash(bytes(remote.public_key))
    return Initiator(remote, head, sender, timestamp, ephemeral, initial_hash)


class Read:
    """Message 1 of either kind, read as far as its sender's static key. `sender` is their index."""

    __slots__ = ("_handshake", "_local", "_remote", "_sealed", "sender", "static")

    def __init__(
        self, local: Local, initial_hash: bytes, sender: int, keys: bytes, sealed: bytes
    ) -> None:
        """`keys` are the ephemeral and the sealed static key, 80 bytes; `sealed` is the payload.

        Raises HandshakeError.
        """
        handshake = noise.Handshake(
            initiator=False, static=local.key_pair, handshake_hash=initial_hash
        )
        # The library wants a pre-shared key from the start; whose it is shows after message 1.
        handshake.set_psk(_NO_PSK)
        try:
            handshake.read_first_part(keys)
        except _REFUSALS as error:
            raise _refused("an initiation does not authenticate", error) from None
        self.sender = sender
        self.static = PublicKey(handshake.rs.public_bytes)
        self._local = local
        self._sealed = sealed
        self._handshake: noise.Handshake | None = handshake
        self._remote: Remote | None = None

    def _open(self, remote: Remote) -> bytes:
        """Prove that the sender holds its static key; returns what it sealed. Once only.

        Raises HandshakeError, after which this object is of no more use.
        """
        handshake = self._handshake
        if handshake is None or self._remote is not None:
            raise HandshakeError("an initiation is authenticated once")
        if remote.public_key != self.static or remote.local is not self._local:
            self._handshake = None
            raise HandshakeError("an initiation of another peer")
        payload = bytearray()
        try:
            handshake.rs = remote.key_pair()
            handshake.read_message(self._sealed, payload)
        except HandshakeError:
            self._handshake = None
            raise
        except _REFUSALS as error:
            self._handshake = None
            raise _refused("an initiation does not authenticate", error) from None
        self._remote = remote
        return bytes(payload)

    def _answer(
        self, type_number: int, sender: int, ephemeral: bytes, payload: bytes
    ) -> tuple[bytes, TransportKeys]:
        """Message 2 without its macs, and the session's keys. Once only, after `_open`.

        Raises HandshakeError.
        """
        handshake, remote = self._handshake, self._remote
        if handshake is None or remote is None:
            raise HandshakeError("an initiation is answered once, after it was authenticated")
        self._handshake = None
        handshake.is_last()
        handshake.e = noise.KeyPair25519.from_private_bytes(ephemeral)
        handshake.set_psk(remote.psk_bytes())
        message = bytearray(_RESPONSE_HEAD.pack(type_number, sender, self.sender))
        try:
            first, second = handshake.write_message(payload, message)
        except _REFUSALS as error:
            raise _refused("an initiation cannot be answered", error) from None
        return bytes(message), TransportKeys(send=bytearray(second.k), receive=bytearray(first.k))


class Responder(Read):
    """An initiation that we read as far as its sender's static key. `sender` is their index."""

    __slots__ = ()

    def authenticate(self, remote: Remote) -> bytes:
        """Prove that the sender holds its static key; returns its timestamp, 12 bytes. Once only.

        Raises HandshakeError, after which this object is of no more use.
        """
        return self._open(remote)

    def respond(self, *, sender: int, ephemeral: bytes) -> tuple[bytes, TransportKeys]:
        """The response without its macs, 60 bytes, and the session's keys (whitepaper 5.4.3).

        Takes our index and a fresh private key of 32 random bytes. Once only, and only after
        `authenticate`. Raises HandshakeError.
        """
        return self._answer(TYPE_RESPONSE, sender, ephemeral, b"")


def read_initiation(local: Local, message: Initiation) -> Responder:
    """Read an initiation as far as the initiator's static key. Raises HandshakeError.

    The caller looks the key up among its peers and goes on with `authenticate`.
    """
    keys = message.ephemeral + message.sealed_static
    return Responder(local, local.initial_hash, message.sender, keys, message.sealed_timestamp)
