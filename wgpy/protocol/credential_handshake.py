"""The handshake with credentials: the same Noise pattern, another prologue, and payloads.

    initiator                                        responder
    initiate(remote, payload)  ── 0x10 ──►   read(local)            es: whose static key is it?
                                             .authenticate(remote)  ss, timestamp
                                             .asked()               what it asks for and offers
    .finish(response)          ◄── 0x11 ──   .respond(payload)
      TransportKeys, payload                   TransportKeys

Between the steps of the responder the caller decides whether the next one is worth its cost
(credential_intake.py). What does not authenticate raises HandshakeError; an authentic payload that
is malformed raises ParseError; nothing else is raised for what came from the network.

Each function that builds a datagram draws its ephemeral key itself, from the `random` it is given.
The prologue enters the hash and not the chaining key, so messages of types 1 and 0x10 under one
ephemeral key would be sealed under the same keys with the same nonces: no caller ever holds one.
"""

import struct
from collections.abc import Callable

from wgpy.protocol import noise
from wgpy.protocol.constants import (
    CREDENTIAL_PROLOGUE,
    KEY_LENGTH,
    TIMESTAMP_LENGTH,
    TYPE_CREDENTIAL_INITIATION,
    TYPE_CREDENTIAL_RESPONSE,
)
from wgpy.protocol.credential import CredentialInitiation, CredentialResponse
from wgpy.protocol.credential_payload import (
    Asked,
    InitiationPayload,
    ResponsePayload,
    pack_initiation_payload,
    pack_response_payload,
    parse_asked,
    parse_response_payload,
)
from wgpy.protocol.handshake import Begun, HandshakeError, Local, Read, Remote, TransportKeys
from wgpy.protocol.messages import ParseError

_INITIATION_HEAD = struct.Struct("<II")

Random = Callable[[int], bytes]


class CredentialInitiator(Begun):
    """A handshake that we began. `message` is the 0x10 without its macs, 1,168 bytes."""

    __slots__ = ()

    def finish(self, response: CredentialResponse) -> tuple[TransportKeys, ResponsePayload | None]:
        """Read the 0x11: the session's keys, and what the responder offers, unverified.

        Raises HandshakeError, after which the right response is still accepted. Raises ParseError
        for an authentic one that is malformed, which ends the handshake. The keys are not for use
        before the caller has examined the offer; None in its place is enough only where the
        responder's key alone was expected.
        """
        payload, keys = self._read_answer(
            response.receiver, response.ephemeral + response.sealed_payload
        )
        self._finished = True
        remote = self._remote
        if remote.answered is not None and remote.answered[0] == payload:
            return keys, remote.answered[1]
        try:
            answer = parse_response_payload(payload)
        except ParseError:
            keys.wipe()
            raise
        remote.answered = None if answer is None else (payload, answer)
        return keys, answer


def initiate(
    remote: Remote, *, sender: int, payload: InitiationPayload, random: Random
) -> CredentialInitiator:
    """Begin a handshake with our index and what we ask for and offer.

    `random(n)` returns n unpredictable bytes and is asked for 32 once. Raises HandshakeError if the
    peer's key is of low order, and ValueError for a payload that cannot be sent.
    """
    asking = remote.asking
    if asking is None or payload[1:] != asking[1]:
        packed = pack_initiation_payload(payload)
        remote.asking = packed[TIMESTAMP_LENGTH:], Asked(*payload[1:])
    else:
        packed = payload.timestamp + asking[0]
    head = _INITIATION_HEAD.pack(TYPE_CREDENTIAL_INITIATION, sender)
    initial_hash = noise.initial_hash(bytes(remote.public_key), CREDENTIAL_PROLOGUE)
    return CredentialInitiator(remote, head, sender, packed, random(KEY_LENGTH), initial_hash)


class CredentialResponder(Read):
    """A 0x10 that we read as far as its sender's static key. `sender` is their index.

    That key is what the message claims, and nobody's until `authenticate`.
    """

    __slots__ = ("_payload",)

    def authenticate(self, remote: Remote) -> bytes:
        """Prove that the sender holds its static key; returns its timestamp, 12 bytes. Once only.

        Raises HandshakeError, after which this object is of no more use.
        """
        self._payload = self._open(remote)
        return self._payload[:TIMESTAMP_LENGTH]

    def asked(self) -> Asked:
        """What the sender asks for and offers, unverified. Raises ParseError, and HandshakeError
        before `authenticate`."""
        remote = self._remote
        if remote is None:
            raise HandshakeError("an initiation is read after it was authenticated")
        payload = self._payload
        # All have one length, so what ends like the last one is the last one.
        if remote.asked is None or not payload.endswith(remote.asked[0]):
            said = payload[TIMESTAMP_LENGTH:]
            remote.asked = said, parse_asked(said)
        return remote.asked[1]

    def respond(
        self, *, sender: int, payload: ResponsePayload | None, random: Random
    ) -> tuple[bytes, TransportKeys]:
        """The 0x11 without its macs, 60 to 1,168 bytes, and the session's keys. Once only.

        Takes our index, what we offer, and `random` as `initiate` does. Raises HandshakeError, and
        ValueError for a payload that cannot be sent.
        """
        packed = pack_response_payload(payload)
        return self._answer(TYPE_CREDENTIAL_RESPONSE, sender, random(KEY_LENGTH), packed)


def read(local: Local, message: CredentialInitiation) -> CredentialResponder:
    """Read a 0x10 as far as the initiator's static key, one exchange. Raises HandshakeError."""
    keys = message.ephemeral + message.sealed_static
    return CredentialResponder(
        local, local.credential_hash, message.sender, keys, message.sealed_payload
    )
