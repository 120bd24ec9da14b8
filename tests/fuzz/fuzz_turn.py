"""Fuzz what a TURN server says, over datagrams and in a stream: nothing is raised, bounds hold.

    python tests/fuzz/fuzz_turn.py -max_total_time=30

Needs the `fuzz` extra (atheris). Arguments are libFuzzer's. The first byte chooses what is fuzzed:
the stream's framing, or the client. For the client the rest is a list of answers, each of a byte
that says how it is made and a byte for its length: the right one with some bytes changed,
attributes as they stand there and then rightly signed, or nothing but those bytes.
"""

import hmac
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["wgpy"]):
    from tests.support.turn_server import HONEST, PEER, World
    from wgpy.nat.channel_data import MAX_FRAME, Deframer, ParseError, parse_channel_data
    from wgpy.nat.stun import Message, pack
    from wgpy.nat.turn import State

FINGERPRINT_XOR = 0x5354554E
# Seconds between what the client's owner does.
PAUSES = (0.1, 1.0, 30.0, 300.0)
# What an hour may send at the most, with a server that refuses everything.
MAX_SENT = 2000


def test_one_input(data: bytes) -> None:
    """One stream, or one life of a client."""
    if not data:
        return
    kind, data = data[0], data[1:]
    if kind % 4 == 0:
        stream(data)
    else:
        life(kind, data)


def stream(data: bytes) -> None:
    """However a stream is cut, the same messages come out of it."""
    whole, ended = read(Deframer(), [data])
    size = 1 + len(data) % 7
    pieces, ended_too = read(Deframer(), [data[i : i + size] for i in range(0, len(data), size)])
    if ended != ended_too or (not ended and whole != pieces):
        raise AssertionError("a stream means something else when it is cut")
    try:
        parse_channel_data(data)
    except ParseError:
        return


def read(deframer: Deframer, parts: list[bytes]) -> tuple[list[Any], bool]:
    """The messages of a stream, and whether it ended at one that is none."""
    found: list[Any] = []
    for part in parts:
        try:
            found += deframer.feed(part)
        except ParseError:
            return found, True
        if len(deframer) > MAX_FRAME:
            raise AssertionError("the buffer has no bound")
    return found, False


def life(kind: int, data: bytes) -> None:
    """A client with a server that answers what the input says."""
    world = World(stream=bool(kind & 4), family=6 if kind & 8 else 4)
    answers = Answers(data)
    world.server.script = lambda message: answers.answer(world, message)
    world.client.bind(PEER, world.now)
    world.client.permit("203.0.113.5", world.now)
    world.begin(0.1)
    while answers.left():
        what, body = answers.take()
        if what & 1:
            world.arrive(body)
        if what & 2:
            world.client.check(world.now)
        if what & 4 and world.client.state is State.PAUSED:
            world.client.start(world.now)
        world.run(PAUSES[what >> 6])
    if len(world.sent) > MAX_SENT:
        raise AssertionError(f"{len(world.sent)} messages were sent")
    if (world.client.relayed is not None) != (world.client.state is State.ALLOCATED):
        raise AssertionError("there is a relayed address and no allocation")
    world.client.close(world.now)
    world.run(3)
    if world.client.state is not State.CLOSED or world.client.due() is not None:
        raise AssertionError("it does not end")


class Answers:
    """What is left of the input."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def left(self) -> bool:
        return bool(self._data)

    def take(self) -> tuple[int, bytes]:
        """The next answer: how it is made, and of what."""
        if len(self._data) < 2:
            self._data = b""
            return 0, b""
        how, length = self._data[:2]
        body, self._data = self._data[2 : 2 + length], self._data[2 + length :]
        return how, body

    def answer(self, world: World, message: Message) -> Any:
        """What the server says to a message."""
        if not self._data:
            return HONEST
        how, body = self.take()
        if how % 4 == 0:
            return HONEST
        if how % 4 == 1:
            right = world.server.honest(message)
            key = world.server.key(message)
            if isinstance(right, Message):
                right = pack(right, None if key is None else key[0])
            return changed(right or b"", body)
        if how % 4 == 2:
            return signed(world, message, 0x0100 if how & 4 else 0x0110, body)
        return [body, world.server.honest(message)]


def signed(world: World, message: Message, kind: int, attributes: bytes) -> bytes:
    """An answer of any attributes, with the signature that it must have."""
    attributes = attributes[: len(attributes) // 4 * 4]
    key = world.server.key(message)
    head = struct.pack(
        "!HH4s12s", message.method | kind, 0, b"\x21\x12\xa4\x42", message.transaction
    )
    data = head + attributes
    if key is not None:
        data = sized(data, 24)
        data += bytes.fromhex("00080014") + hmac.digest(key[0], data, "sha1")
    data = sized(data, 8)
    return data + struct.pack("!HHI", 0x8028, 4, zlib.crc32(data) ^ FINGERPRINT_XOR)


def sized(data: bytes, more: int) -> bytes:
    """The message with the length that it has when `more` bytes follow."""
    return data[:2] + struct.pack("!H", len(data) - 20 + more) + data[4:]


def changed(whole: bytes, data: bytes) -> bytes:
    """A right answer with some bytes replaced: two bytes of input for each."""
    found = bytearray(whole)
    for place, value in zip(data[::2], data[1::2], strict=False):
        if found:
            found[place % len(found)] = value
    return bytes(found)


def main() -> None:
    """Run until libFuzzer's arguments say that it is enough."""
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
