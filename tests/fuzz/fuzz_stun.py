"""A fuzz target for STUN: the codec, the client that asks, and the server that answers.

    python tests/fuzz/fuzz_stun.py -max_total_time=30

Needs the `fuzz` extra (atheris). Arguments are libFuzzer's. The first byte chooses how deep the
rest goes: raw bytes; any attributes in a message that is right around them; such a message as the
answer to a request of ours; an honest one with bytes changed; or a request to a server.

Nothing but ParseError is raised; what is read can be written and read again; an answer is never
longer than it may be; and whatever came, the honest answer still counts.
"""

import struct
import sys

import atheris

with atheris.instrument_imports(include=["wgpy", "aioice.stun"]):
    from aioice import stun as aioice

    from wgpy.nat.place import Place, Send
    from wgpy.nat.stun import (
        COOKIE,
        Class,
        Message,
        Method,
        ParseError,
        is_stun,
        mapped_address,
        pack,
        parse,
    )
    from wgpy.nat.stun_client import Answer, StunClient
    from wgpy.nat.stun_server import SHORT_V4, Responder

TRANSACTION = bytes(range(12))
SERVER, WE = Place("192.0.2.1", 3478), Place("203.0.113.5", 40000)
BOUND = tuple(Place(f"192.0.2.{n}", port) for n in (1, 2) for port in (3478, 3479))
# What `pack` makes itself.
CHECKS = ("FINGERPRINT", "MESSAGE-INTEGRITY", "MESSAGE-INTEGRITY-SHA256")
HONEST = pack(
    Message(
        Method.BINDING,
        Class.RESPONSE,
        TRANSACTION,
        {"XOR-MAPPED-ADDRESS": WE[:2], "OTHER-ADDRESS": BOUND[3][:2]},
    )
)


def read(data: bytes) -> None:
    """Parse, and write again what can be written."""
    is_stun(data)
    for classic in (False, True):
        try:
            found = parse(data, classic=classic)
        except ParseError:
            continue
        mapped_address(found)
        found.is_authentic(b"key")
        found.is_authentic(b"key", sha256=True)
        attributes = {name: value for name, value in found.attributes.items() if name not in CHECKS}
        again = parse(
            pack(Message(found.method, found.kind, found.transaction, attributes)), classic=classic
        )
        if {**again.attributes, "FINGERPRINT": 0} != {**attributes, "FINGERPRINT": 0}:
            raise AssertionError(f"{attributes} came back as {again.attributes}")


def built(data: bytes, kind: int, *, fingerprint: bool) -> bytes:
    """A message whose attributes are those of `data`: type 2, length 1, value."""
    body = b""
    while len(data) >= 3:
        number, length = struct.unpack_from("!HB", data)
        value = data[3 : 3 + length]
        data = data[3 + length :]
        body += struct.pack("!HH", number, len(value)) + value + bytes(-len(value) % 4)
    message = struct.pack("!HH", kind, len(body)) + COOKIE + TRANSACTION + body
    if not fingerprint:
        return message
    message += struct.pack("!HHI", 0x8028, 4, aioice.message_fingerprint(message))
    return aioice.set_body_length(message, len(message) - 20)


def answered(data: bytes) -> None:
    """An answer with the right id reaches a client from the right place, then the honest one."""
    client = StunClient(lambda length: TRANSACTION[:length])
    client.ask(SERVER, 0.0)
    client.take()
    took = client.receive(data, SERVER, 0.1)
    for item in client.take():
        if isinstance(item, Send):
            raise AssertionError("an answer made us send")
    if took == client.receive(HONEST, SERVER, 0.2):
        raise AssertionError("the honest answer does not count, or a second one does")
    if not took and not any(isinstance(x, Answer) for x in client.take()):
        raise AssertionError("the honest answer gave nothing")


def mutated(changes: bytes) -> bytes:
    """An honest answer: each pair of bytes is a position and what to mix in there."""
    result = bytearray(HONEST)
    for position, value in zip(changes[::2], changes[1::2], strict=False):
        result[position % len(result)] ^= value
    return bytes(result)


def asked(data: bytes) -> None:
    """A request reaches servers: one that answers with no more than it got, and the other."""
    for any_client in (False, True):
        server = Responder(BOUND, any_client=any_client)
        server.receive(data, WE, BOUND[0], 0.0)
        server.tick(300.0)
        replies = server.take()
        limit = max(len(data), SHORT_V4 * any_client)
        if len(replies) > 1 or any(x.to != WE or len(x.data) > limit for x in replies):
            raise AssertionError(f"{replies} for {data!r}")
        if server.counters.total() - server.counters["waited"] != 1:
            raise AssertionError(f"counted {server.counters}")


def test_one_input(data: bytes) -> None:
    if not data:
        return
    rest = data[1:]
    match data[0] % 6:
        case 0:
            read(rest)
            asked(rest)
        case 1:
            read(built(rest, 0x0101, fingerprint=bool(data[0] & 8)))
        case 2:
            answered(built(rest, 0x0101 if data[0] & 16 else 0x0111, fingerprint=True))
        case 3:
            answered(mutated(rest))
        case _:
            asked(built(rest, 0x0001, fingerprint=bool(data[0] & 8)))


def main() -> None:
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
