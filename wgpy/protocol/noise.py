"""noiseprotocol as WireGuard needs it: a backend of our own, and handshakes that start cheaply.

The library drives the pattern IKpsk2: which token comes when, what is mixed, what is sealed. This
module supplies the functions under it and prepares what is the same for every handshake:

- BLAKE2s, HMAC and HKDF are hashlib's; the library's own go through OpenSSL at several times the
  cost, because one hash of a handshake is a block or two.
- Private keys are cryptography's key objects, made once for each key. The static-static secret is
  made once for each peer (whitepaper 5.4.2) and handed to the token `ss`.
- The name and each prologue are hashed once. The pattern is parsed once.
- A cipher is made when it is used: of the eight keys of a handshake, three seal anything.
- What the last message seals is not hashed: nobody asks for the hash after it, and the payload of
  a handshake with credentials has 1,108 bytes.

Every Diffie-Hellman result of 32 zero bytes is refused, in each of the four, in both roles.
"""

import functools
import hashlib
import hmac
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from noise.backends.noise_backend import NoiseBackend
from noise.constants import Empty
from noise.exceptions import NoiseValueError
from noise.functions.cipher import Cipher
from noise.functions.dh import DH
from noise.functions.hash import Hash
from noise.functions.keypair import KeyPair
from noise.noise_protocol import NoiseProtocol
from noise.state import CipherState, HandshakeState, SymmetricState

from wgpy.protocol.constants import CONSTRUCTION, IDENTIFIER, KEY_LENGTH
from wgpy.protocol.hashes import BLOCK_LENGTH, HASH_LENGTH, hash_, hkdf, hmac_blake2s

_ZEROS: Final = bytes(KEY_LENGTH)


def _library_hmac(key: bytes, data: bytes, algorithm: object) -> bytes:
    return hmac_blake2s(key, data)


def _library_hkdf(
    chaining_key: bytes, material: bytes, outputs: int, hmac_hash_fn: object
) -> tuple[bytes, ...]:
    return hkdf(chaining_key, material, outputs)


# --- Keys and Diffie-Hellman ---


def exchange(private: X25519PrivateKey | None, public: X25519PublicKey) -> bytes:
    """X25519, 32 bytes. Raises NoiseValueError for a result of zeros (RFC 7748 section 6.1), and
    where the private key was wiped."""
    if private is None:
        raise NoiseValueError("the private key was wiped")
    try:
        shared = private.exchange(public)
    except ValueError:
        raise NoiseValueError("the other public key is of low order") from None
    # cryptography refuses zeros by itself today; that is not left to its version.
    if hmac.compare_digest(shared, _ZEROS):
        raise NoiseValueError("the other public key is of low order")
    return shared


class KeyPair25519(KeyPair):  # type: ignore[misc]
    """The library's key pair: key objects of cryptography, and the public key's 32 bytes."""

    @classmethod
    def from_private_bytes(cls, private_bytes: bytes) -> "KeyPair25519":
        """From 32 bytes. Raises ValueError."""
        private = X25519PrivateKey.from_private_bytes(private_bytes)
        public = private.public_key()
        return cls(private, public, public.public_bytes_raw())

    @classmethod
    def from_public_bytes(cls, public_bytes: bytes) -> "KeyPair25519":
        """From 32 bytes. Raises ValueError."""
        return cls(None, X25519PublicKey.from_public_bytes(public_bytes), public_bytes)


class KnownPublic:
    """The public key of a peer, our key pair that it is used with, and their shared secret.

    Raises NoiseValueError for a key of low order.
    """

    __slots__ = ("key", "own", "static_static")

    def __init__(self, own: KeyPair25519, public_bytes: bytes) -> None:
        self.key = X25519PublicKey.from_public_bytes(public_bytes)
        self.own = own
        self.static_static = exchange(own.private, self.key)


class X25519(DH):  # type: ignore[misc]
    """The four exchanges. Ephemeral keys are given to a handshake, so none are made here."""

    klass = KeyPair25519
    dhlen = KEY_LENGTH

    def generate_keypair(self) -> KeyPair25519:
        """Refused: randomness is an argument in wgpy.protocol."""
        raise NoiseValueError("an ephemeral key is missing")

    def dh(
        self, private_key: X25519PrivateKey | None, public_key: X25519PublicKey | KnownPublic
    ) -> bytes:
        """32 bytes that are not all zeros, or NoiseValueError."""
        if isinstance(public_key, KnownPublic):
            if private_key is not None and private_key is public_key.own.private:
                return public_key.static_static
            public_key = public_key.key
        return exchange(private_key, public_key)


class Blake2s(Hash):  # type: ignore[misc]
    """BLAKE2s with 32 bytes of output."""

    fn = hashlib.blake2s
    hashlen = HASH_LENGTH
    blocklen = BLOCK_LENGTH

    def hash(self, data: bytes) -> bytes:
        """HASH() of the Noise specification."""
        return hash_(data)


def _nonce(counter: int) -> bytes:
    return bytes(4) + counter.to_bytes(8, "little")


class ChaChaPoly(Cipher):  # type: ignore[misc]
    """ChaCha20-Poly1305 with a nonce of 4 zero bytes and a little-endian u64 (Noise 12.3)."""

    klass = ChaCha20Poly1305

    def initialize(self, key: bytes) -> None:
        """Nothing: most keys of a handshake are replaced before they seal anything."""

    def encrypt(self, k: bytes, n: int, ad: bytes, plaintext: bytes) -> bytes:
        """Ciphertext and 16-byte tag."""
        return ChaCha20Poly1305(k).encrypt(_nonce(n), plaintext, ad)

    def decrypt(self, k: bytes, n: int, ad: bytes, ciphertext: bytes) -> bytes:
        """The plaintext. Raises InvalidTag."""
        return ChaCha20Poly1305(k).decrypt(_nonce(n), ciphertext, ad)


class Backend(NoiseBackend):  # type: ignore[misc]
    """What noiseprotocol asks of a backend, for WireGuard's one construction."""

    def __init__(self) -> None:
        super().__init__()
        self.diffie_hellmans = {"25519": X25519}
        self.ciphers = {"ChaChaPoly": ChaChaPoly}
        self.hashes = {"BLAKE2s": Blake2s}
        self.keypairs = {"25519": KeyPair25519}
        self.hmac = _library_hmac
        self.hkdf = _library_hkdf


# --- Handshakes ---

_TEMPLATE: Final = NoiseProtocol(protocol_name=CONSTRUCTION, backend=Backend())
_CHAIN: Final = hash_(CONSTRUCTION)
# Message 1 is e, es, s, ss; message 2 is e, ee, se, psk (Noise 7.5 and 9.4).
_FIRST, _SECOND = _TEMPLATE.pattern.tokens
# A responder must know whose static key it read before it can do `ss`: it reads e, es, s, stops,
# and goes on when the peer was found.
_FIRST_PARTS: Final = (_FIRST[:-1], _FIRST[-1:])


@functools.cache
def _named(prologue: bytes) -> bytes:
    """The handshake hash of the name and a prologue: ours are two."""
    return hash_(_CHAIN + prologue)


def initial_hash(responder_public: bytes, prologue: bytes = IDENTIFIER) -> bytes:
    """The handshake hash before message 1: the name, the prologue, the responder's key (5.4.2)."""
    return hash_(_named(prologue) + responder_public)


class _Protocol(NoiseProtocol):  # type: ignore[misc]
    """The library's context of one handshake, without parsing the name again."""

    def __init__(self) -> None:
        self.__dict__.update(_TEMPLATE.__dict__)


class _Symmetric(SymmetricState):  # type: ignore[misc]
    """The library's symmetric state, which can stop between two tokens of a message."""

    in_parts = False
    is_last = False

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        """As in the library, but for the hash of what is sealed last."""
        ciphertext: bytes = self.cipher_state.encrypt_with_ad(self.h, plaintext)
        if not self.is_last:
            self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        """The same; and where a message was cut after a token, no payload follows."""
        if self.in_parts and not ciphertext:
            return b""
        plaintext: bytes = self.cipher_state.decrypt_with_ad(self.h, ciphertext)
        if not self.is_last:
            self.mix_hash(ciphertext)
        return plaintext


class Handshake(HandshakeState):  # type: ignore[misc]
    """One handshake. `write_message` and `read_message` are the library's own."""

    def __init__(
        self,
        *,
        initiator: bool,
        static: KeyPair25519,
        handshake_hash: bytes,
        chaining_key: bytes = _CHAIN,
    ) -> None:
        super().__init__()
        protocol = _Protocol()
        symmetric = _Symmetric()
        symmetric.noise_protocol = protocol
        symmetric.h = handshake_hash
        symmetric.ck = chaining_key
        symmetric.cipher_state = CipherState(protocol)
        protocol.cipher_state_handshake = symmetric.cipher_state
        protocol.handshake_state = self
        protocol.symmetric_state = symmetric
        self.noise_protocol = protocol
        self.symmetric_state = symmetric
        self.initiator = initiator
        self.s = static
        self.e = self.rs = self.re = Empty()
        self.message_patterns = [_FIRST, _SECOND]

    def set_psk(self, psk: bytes) -> None:
        """The 32-byte secret that the token `psk` mixes into message 2; zeros mean none."""
        self.noise_protocol.psks = [psk]

    def read_first_part(self, data: bytes) -> None:
        """As responder: message 1 up to and including the initiator's static key, now `rs`."""
        self.message_patterns = [*_FIRST_PARTS, _SECOND]
        self.symmetric_state.in_parts = True
        self.read_message(data, bytearray())
        self.symmetric_state.in_parts = False

    def is_last(self) -> None:
        """Called before the last message, whose payload is all that it seals."""
        self.symmetric_state.is_last = True

    def snapshot(self) -> tuple[bytes, bytes]:
        """Hash and chaining key, from which message 2 can be read, more than once if need be."""
        return self.symmetric_state.h, self.symmetric_state.ck

    @classmethod
    def resume(
        cls, snapshot: tuple[bytes, bytes], *, static: KeyPair25519, ephemeral: KeyPair25519
    ) -> "Handshake":
        """An initiator's handshake as it was after message 1."""
        handshake_hash, chaining_key = snapshot
        handshake = cls(
            initiator=True,
            static=static,
            handshake_hash=handshake_hash,
            chaining_key=chaining_key,
        )
        handshake.e = ephemeral
        handshake.message_patterns = [_SECOND]
        handshake.is_last()
        return handshake
