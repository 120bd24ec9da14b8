"""The Noise backend against published vectors, and handshakes against noiseprotocol's own."""

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from noise.backends.default import noise_backend
from noise.connection import Keypair, NoiseConnection
from noise.exceptions import NoiseValueError

from tests.support.vectors import load, raw
from wgpy.keys import PresharedKey, PrivateKey
from wgpy.protocol import noise
from wgpy.protocol.constants import CONSTRUCTION, IDENTIFIER
from wgpy.protocol.handshake import Local, Remote, initiate, read_initiation
from wgpy.protocol.messages import parse_initiation, parse_response

X25519 = load("x25519")


def test_x25519_vector():
    vector = X25519["exchange"]
    alice = noise.KeyPair25519.from_private_bytes(raw(vector["alice_private"]))
    bob = noise.KeyPair25519.from_public_bytes(raw(vector["bob_public"]))
    assert alice.public_bytes.hex() == vector["alice_public"]
    assert noise.X25519().dh(alice.private, bob.public).hex() == vector["shared"]


@pytest.mark.parametrize("point", X25519["low_order"])
def test_low_order_points_are_refused(point):
    key = X25519PublicKey.from_public_bytes(raw(point))
    private = X25519PrivateKey.from_private_bytes(bytes(range(32)))
    with pytest.raises(NoiseValueError):
        noise.exchange(private, key)
    own = noise.KeyPair25519.from_private_bytes(bytes(range(32)))
    with pytest.raises(NoiseValueError):
        noise.KnownPublic(own, raw(point))


def test_a_zero_result_is_refused_even_if_the_library_returns_it():
    class Careless:
        def exchange(self, public):
            return bytes(32)

    with pytest.raises(NoiseValueError, match="low order"):
        noise.exchange(Careless(), None)


def test_a_missing_ephemeral_is_never_generated():
    with pytest.raises(NoiseValueError, match="ephemeral"):
        noise.X25519().generate_keypair()


# --- Against noiseprotocol as it comes: its own backend, its own way to start ---


def library(*, initiator, private, remote=None, psk=bytes(32), backend=noise_backend):
    connection = NoiseConnection.from_name(CONSTRUCTION, backend=backend)
    connection.set_psks(psk=psk)
    connection.set_prologue(IDENTIFIER)
    connection.set_keypair_from_private_bytes(Keypair.STATIC, bytes(private))
    if initiator:
        connection.set_as_initiator()
        connection.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, bytes(remote))
    else:
        connection.set_as_responder()
    connection.start_handshake()
    return connection


@pytest.fixture(params=[False, True], ids=["no psk", "psk"])
def psk(request):
    return PresharedKey(bytes(range(100, 132))) if request.param else None


ALICE = PrivateKey(bytes(range(32)))
BOB = PrivateKey(bytes(range(32, 64)))
STAMP = bytes(range(12))
NO_MACS = bytes(32)


def test_initiator_against_the_library(psk):
    remote = Remote(Local(ALICE), BOB.public(), psk)
    theirs = library(initiator=False, private=BOB, psk=remote.psk_bytes())
    ours = initiate(remote, sender=7, timestamp=STAMP, ephemeral=b"e" * 32)
    assert theirs.read_message(ours.message[8:]) == STAMP
    answer = b"\2\0\0\0" + bytes([9, 0, 0, 0, 7, 0, 0, 0]) + theirs.write_message()
    keys = ours.finish(parse_response(answer + NO_MACS))
    assert keys.send == theirs.noise_protocol.cipher_state_decrypt.k
    assert keys.receive == theirs.noise_protocol.cipher_state_encrypt.k


def test_responder_against_the_library(psk):
    local = Local(BOB)
    remote = Remote(local, ALICE.public(), psk)
    theirs = library(initiator=True, private=ALICE, remote=BOB.public(), psk=remote.psk_bytes())
    first = b"\1\0\0\0\7\0\0\0" + theirs.write_message(STAMP)
    responder = read_initiation(local, parse_initiation(first + NO_MACS))
    assert responder.static == ALICE.public()
    assert responder.authenticate(remote) == STAMP
    answer, keys = responder.respond(sender=9, ephemeral=b"f" * 32)
    assert theirs.read_message(answer[12:]) == b""
    assert keys.send == theirs.noise_protocol.cipher_state_decrypt.k
    assert keys.receive == theirs.noise_protocol.cipher_state_encrypt.k


def test_the_prepared_state_is_the_one_that_the_library_makes():
    backend = noise.Backend()
    theirs = library(initiator=True, private=ALICE, remote=BOB.public(), backend=backend)
    symmetric = theirs.noise_protocol.symmetric_state
    ours = noise.Handshake(
        initiator=True,
        static=noise.KeyPair25519.from_private_bytes(bytes(ALICE)),
        handshake_hash=noise.initial_hash(bytes(BOB.public())),
    )
    assert ours.snapshot() == (symmetric.h, symmetric.ck)
    patterns = theirs.noise_protocol.handshake_state.message_patterns
    assert ours.message_patterns == patterns


def responder():
    handshake = noise.Handshake(
        initiator=False,
        static=noise.KeyPair25519.from_private_bytes(bytes(BOB)),
        handshake_hash=noise.initial_hash(bytes(BOB.public())),
    )
    handshake.set_psk(bytes(32))
    return handshake


def test_a_message_without_its_payload_is_refused():
    remote = Remote(Local(ALICE), BOB.public(), None)
    body = initiate(remote, sender=1, timestamp=STAMP, ephemeral=b"e" * 32).message[8:]
    handshake = responder()
    with pytest.raises((InvalidTag, ValueError)):
        handshake.read_message(body[:80], bytearray())
    # Only the cut after the static key has no payload, and what follows it has one again.
    handshake = responder()
    handshake.read_first_part(body[:80])
    handshake.rs = Remote(Local(BOB), ALICE.public(), None).key_pair()
    with pytest.raises((InvalidTag, ValueError)):
        handshake.read_message(b"", bytearray())


def test_handshakes_leave_the_shared_pattern_as_it_was():
    remote = Remote(Local(ALICE), BOB.public(), None)
    messages = {
        initiate(remote, sender=1, timestamp=STAMP, ephemeral=b"e" * 32).message for _ in range(3)
    }
    assert len(messages) == 1
