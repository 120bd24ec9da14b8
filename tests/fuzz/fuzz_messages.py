"""A fuzz target for everything that reads handshake datagrams from a stranger.

    python tests/fuzz/fuzz_messages.py -max_total_time=30

Needs the `fuzz` extra (atheris). Arguments are libFuzzer's. The first byte chooses how deep the
rest goes: the parsers on raw bytes, or, with a right type and mac1, the handshake and the cookies,
as they are or as an honest message with bytes changed. Only ParseError and HandshakeError may be
raised; and whatever was thrown at it, an honest handshake must work in the end.
"""

import sys

import atheris

with atheris.instrument_imports(include=["wgpy"]):
    from wgpy.keys import PrivateKey
    from wgpy.protocol import messages
    from wgpy.protocol.cookie import CookieChecker
    from wgpy.protocol.handshake import HandshakeError, Local, read_initiation
    from wgpy.protocol.messages import ParseError
    from wgpy.protocol.peer import Peer

ALICE, BOB = PrivateKey(bytes(range(32))), PrivateKey(bytes(range(32, 64)))
ALICE_LOCAL, BOB_LOCAL = Local(ALICE), Local(BOB)
WALL_NS = 1_700_000_000 * 10**9
PARSERS = (
    messages.message_type,
    messages.parse_initiation,
    messages.parse_response,
    messages.parse_cookie_reply,
)


def new_peer(local: Local, other: Local) -> Peer:
    return Peer(local, other.public, None, lambda: 0.0)


def mutated(honest: bytes, changes: bytes) -> bytes:
    """Each pair of bytes is a position and what to mix in there, behind the type."""
    result = bytearray(honest)
    for position, value in zip(changes[::2], changes[1::2], strict=False):
        result[4 + position % (len(result) - 4)] ^= value
    return bytes(result)


def parse(data: bytes) -> None:
    for parser in PARSERS:
        try:
            parser(data)
        except ParseError:
            continue
    checker = CookieChecker(BOB_LOCAL.public, bytes)
    checker.check_mac1(data)
    checker.check_mac2(data, b"source", 0.0)


def initiation(alice: Peer, bob: Peer, changes: bytes) -> None:
    """A changed initiation reaches Bob."""
    honest = alice.initiation(index=1, ephemeral=b"e" * 32, wall_ns=WALL_NS, now=0.0)
    data = mutated(honest, changes)
    try:
        responder = read_initiation(BOB_LOCAL, messages.parse_initiation(data))
        bob.accept_initiation(responder, 0.0)
        bob.response(responder, index=2, ephemeral=b"f" * 32, now=0.0)
    except HandshakeError:
        return
    if data[8:116] != honest[8:116]:
        raise AssertionError("a changed initiation was accepted")


def response(alice: Peer, bob: Peer, changes: bytes) -> None:
    """A changed response reaches Alice, and then the honest one."""
    first = alice.initiation(index=1, ephemeral=b"e" * 32, wall_ns=WALL_NS, now=0.0)
    responder = read_initiation(BOB_LOCAL, messages.parse_initiation(first))
    bob.accept_initiation(responder, 0.0)
    honest, _ = bob.response(responder, index=2, ephemeral=b"f" * 32, now=0.0)
    data = mutated(honest, changes)
    try:
        alice.consume_response(messages.parse_response(data), 0.0)
    except HandshakeError:
        alice.consume_response(messages.parse_response(honest), 0.0)
        return
    if data[8:60] != honest[8:60]:
        raise AssertionError("a changed response was accepted")


def cookie(alice: Peer, bob: Peer, changes: bytes) -> None:
    """A changed cookie reply reaches Alice."""
    first = alice.initiation(index=1, ephemeral=b"e" * 32, wall_ns=WALL_NS, now=0.0)
    checker = CookieChecker(BOB_LOCAL.public, lambda length: b"r" * length)
    honest = checker.reply(first, b"source", 0.0)
    data = mutated(honest, changes)
    accepted = alice.consume_cookie(messages.parse_cookie_reply(data), 0.0)
    if accepted != (data[8:] == honest[8:]):
        raise AssertionError("a changed cookie reply was accepted, or an honest one refused")


def honest_handshake(alice: Peer, bob: Peer) -> None:
    first = alice.initiation(index=3, ephemeral=b"g" * 32, wall_ns=WALL_NS + 10**9, now=9.0)
    responder = read_initiation(BOB_LOCAL, messages.parse_initiation(first))
    bob.accept_initiation(responder, 9.0)
    answer, theirs = bob.response(responder, index=4, ephemeral=b"h" * 32, now=9.0)
    ours, _ = alice.consume_response(messages.parse_response(answer), 9.0)
    if ours.send != theirs.receive or ours.receive != theirs.send:
        raise AssertionError("two honest sides derived different keys")


def test_one_input(data: bytes) -> None:
    parse(data)
    if not data:
        return
    alice, bob = new_peer(ALICE_LOCAL, BOB_LOCAL), new_peer(BOB_LOCAL, ALICE_LOCAL)
    (initiation, response, cookie)[data[0] % 3](alice, bob, data[1:])
    honest_handshake(alice, bob)


def main() -> None:
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
