"""A fuzz target for the handshake with credentials: its messages and its payloads.

    python tests/fuzz/fuzz_credential.py -max_total_time=30

Needs the `fuzz` extra (atheris). Arguments are libFuzzer's. The first byte chooses how deep the
rest goes: the parsers on raw bytes; a payload with the right head; the same, sealed by an honest
key and sent through every check; or an honest message with bytes changed. Only ParseError and
HandshakeError may be raised, and from the checks nothing; and whatever was thrown at them, an
honest handshake must work in the end.
"""

import contextlib
import struct
import sys

import atheris

with atheris.instrument_imports(include=["wgpy"]):
    from wgpy.keys import PrivateKey
    from wgpy.protocol import credential, credential_payload
    from wgpy.protocol.constants import CREDENTIAL_PROLOGUE
    from wgpy.protocol.cookie import CookieChecker
    from wgpy.protocol.credential_handshake import read
    from wgpy.protocol.credential_intake import Intake, Ours, Standing
    from wgpy.protocol.credential_payload import Offer, OfferKind
    from wgpy.protocol.handshake import Begun, HandshakeError, Local, Remote
    from wgpy.protocol.messages import ParseError
    from wgpy.protocol.noise import initial_hash
    from wgpy.protocol.peer import Peer
    from wgpy.protocol.tai64n import stamp

ALICE, BOB = Local(PrivateKey(b"a" * 32)), Local(PrivateKey(b"b" * 32))
TO_BOB, TO_ALICE = Remote(ALICE, BOB.public, None), Remote(BOB, ALICE.public, None)
CHECKER = CookieChecker(BOB.public, bytes)
NETWORK = bytes(range(16))
WALL_NS = 1_700_000_000 * 10**9
HEAD = stamp(WALL_NS) + b"\1" + NETWORK
LEAF = Offer(OfferKind.CERTIFICATE, b"leaf")
ANSWER = credential_payload.ResponsePayload(NETWORK, LEAF)
KNOWN = {each.value for each in credential_payload.FieldType}


def random(length: int) -> bytes:
    return b"e" * length


def new_intake() -> Intake[str, str]:
    intake: Intake[str, str] = Intake(lambda key: Standing(TO_ALICE), lambda key, offer: True)
    intake.set_ours(Ours(BOB, CHECKER, NETWORK, "bob.mesh"))
    return intake


def new_peer(local: Local, other: Local) -> Peer:
    return Peer(local, other.public, None, lambda: 0.0)


def begin(alice: Peer, seconds: int = 0) -> bytes:
    return alice.credential_initiation(
        index=1,
        network=NETWORK,
        wanted="bob.mesh",
        offer=LEAF,
        random=random,
        wall_ns=WALL_NS + seconds * 10**9,
        now=0.0,
    )


def mutated(honest: bytes, changes: bytes) -> bytes:
    """Each three bytes are a position and what to mix in there, behind the type."""
    result = bytearray(honest)
    for number in range(0, len(changes) - 2, 3):
        position = int.from_bytes(changes[number : number + 2], "little")
        result[4 + position % (len(result) - 4)] ^= changes[number + 2]
    return bytes(result)


def parse(alice: Peer, intake: Intake[str, str], data: bytes) -> None:
    """Raw bytes reach each parser, and the checks, with a mac1 that is right."""
    for parser in (
        credential.parse_credential_initiation,
        credential.parse_credential_response,
        credential_payload.parse_initiation_payload,
        credential_payload.parse_response_payload,
    ):
        with contextlib.suppress(ParseError):
            parser(data)
    arrive(intake, alice.cookie.add_macs(data, 0.0))


def payload(alice: Peer, intake: Intake[str, str], fields: bytes) -> None:
    """What parses packs again into the same bytes, but for fields that nobody knows."""
    with contextlib.suppress(ParseError):
        credential_payload.parse_response_payload(b"\1" + NETWORK + fields)
    data = (HEAD + fields)[:1064].ljust(1064, b"\0")
    try:
        parsed = credential_payload.parse_initiation_payload(data)
    except ParseError:
        return
    if field_types(data) <= KNOWN and credential_payload.pack_initiation_payload(parsed) != data:
        raise AssertionError("one payload has two spellings")


def field_types(data: bytes) -> set[int]:
    position, found = len(HEAD), set()
    while position < len(data) and data[position]:
        found.add(data[position])
        position += 3 + int.from_bytes(data[position + 1 : position + 3], "little")
    return found


def sealed(alice: Peer, intake: Intake[str, str], fields: bytes) -> None:
    """An honest key seals anything, and so does an honest responder."""
    data = (HEAD + fields)[:1064].ljust(1064, b"\0")
    first = initial_hash(bytes(BOB.public), CREDENTIAL_PROLOGUE)
    begun = Begun(TO_BOB, struct.pack("<II", 0x10, 1), 1, data, b"e" * 32, first)
    arrive(intake, alice.cookie.add_macs(begun.message, 0.0))
    responder = read(BOB, credential.parse_credential_initiation(begin(alice)))
    responder.authenticate(TO_ALICE)
    answer, _ = responder._answer(0x11, 2, b"f" * 32, (b"\1" + NETWORK + fields)[:1108])
    with contextlib.suppress(ParseError):
        alice.consume_credential_response(credential.parse_credential_response(answer + bytes(32)))


def initiation(alice: Peer, intake: Intake[str, str], changes: bytes) -> None:
    """A changed initiation goes through every check."""
    honest = begin(alice)
    data = alice.cookie.add_macs(mutated(honest[:-32], changes), 0.0)
    if arrive(intake, data) and data[8:1168] != honest[8:1168]:
        raise AssertionError("a changed initiation was accepted")


def response(alice: Peer, intake: Intake[str, str], changes: bytes) -> None:
    """A changed response reaches Alice, and then the honest one."""
    responder = read(BOB, credential.parse_credential_initiation(begin(alice)))
    responder.authenticate(TO_ALICE)
    honest, _ = new_peer(BOB, ALICE).credential_response(
        responder, index=2, payload=ANSWER, random=random, now=0.0
    )
    data = mutated(honest, changes)
    try:
        alice.consume_credential_response(credential.parse_credential_response(data))
    except HandshakeError:
        alice.consume_credential_response(credential.parse_credential_response(honest))
        return
    if data[8:-32] != honest[8:-32]:
        raise AssertionError("a changed response was accepted")


def arrive(intake: Intake[str, str], data: bytes) -> bool:
    intake.arrive(data, b"\xc0\0\2\1", b"\xc0\0\2\1\0\7", "origin", under_load=False, now=0.0)
    return intake.take(0.0, WALL_NS) is not None


def honest_handshake(alice: Peer, intake: Intake[str, str]) -> None:
    """From elsewhere: what was sent in Alice's name may have been refused where it came from."""
    data = begin(alice, seconds=1)
    intake.arrive(data, b"\xc0\0\2\2", b"\xc0\0\2\2\0\7", "origin", under_load=False, now=9.0)
    presented = intake.take(9.0, WALL_NS + 10**9)
    if presented is None:
        raise AssertionError("an honest initiation was refused")
    answer, theirs = presented.responder.respond(sender=4, payload=ANSWER, random=random)
    message = credential.parse_credential_response(answer + bytes(32))
    ours, _, _ = alice.consume_credential_response(message)
    if ours.send != theirs.receive or ours.receive != theirs.send:
        raise AssertionError("two honest sides derived different keys")


def test_one_input(data: bytes) -> None:
    if not data:
        return
    alice, intake = new_peer(ALICE, BOB), new_intake()
    modes = (parse, payload, payload, sealed, initiation, response)
    mode = modes[data[0] % len(modes)]
    mode(alice, intake, data[1:])
    if mode is not payload:
        honest_handshake(alice, intake)


def main() -> None:
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
