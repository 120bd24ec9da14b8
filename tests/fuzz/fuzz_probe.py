"""A fuzz target for path probes and signals: their parsers, and a pathfinder that is fed with them.

    python tests/fuzz/fuzz_probe.py -max_total_time=30

Needs the `fuzz` extra (atheris). Arguments are libFuzzer's. The first byte chooses how deep the
rest goes: the parsers on raw bytes; contents that an honest key seals; datagrams and signals with
bytes changed, at a pathfinder that looks for its peer; a text that was pasted. Only ParseError, and
BlobError for texts, may be raised, and by a pathfinder nothing; and whatever was thrown at it, it
must find its peer in the end.
"""

import contextlib
import random
import sys

import atheris

with atheris.instrument_imports(include=["wgpy"]):
    from wgpy.keys import PrivateKey
    from wgpy.nat import blob, probe, signal_message
    from wgpy.nat.budget import Budget
    from wgpy.nat.candidates import Candidate, Kind
    from wgpy.nat.facts import UNKNOWN
    from wgpy.nat.orders import Ask, Carrier, DropSockets, PathIds, WantSockets
    from wgpy.nat.pathfinder import Pathfinder
    from wgpy.nat.place import Place, Send
    from wgpy.nat.sealed import path_keys
    from wgpy.protocol.handshake import Local, Remote
    from wgpy.protocol.messages import ParseError

ALICE, BOB = Local(PrivateKey(b"a" * 32)), Local(PrivateKey(b"b" * 32))
ALICES = path_keys(Remote(ALICE, BOB.public, None))
BOBS = path_keys(Remote(BOB, ALICE.public, None))
HOMES = (Place("192.0.2.1", 51820), Place("192.0.2.2", 51820))
ELSEWHERE = (HOMES[0], HOMES[1], Place("198.51.100.9", 1), Place("127.0.0.1", 1))
NONCE = b"n" * 24
ID = b"pathpath"
SEQUENCE = 1_790_000_000_000


class Two:
    """Two pathfinders with public addresses, and nothing between them."""

    def __init__(self) -> None:
        self.now = 100.0
        generator = random.Random(1).randbytes
        self.finders = [Pathfinder(keys, generator, Budget(), SEQUENCE) for keys in (ALICES, BOBS)]
        self.ids: list[tuple[bytes, ...]] = [(), ()]
        # What each has sent last: an honest datagram and an honest signal to change.
        self.datagrams = [b"", b""]
        self.signals = [b"", b""]
        for finder, home in zip(self.finders, HOMES, strict=True):
            finder.local([Candidate(Kind.HOST, home.host, home.port)], UNKNOWN, self.now)

    def turn(self, seconds: float) -> None:
        """One step of both; everything arrives at once."""
        self.now += seconds
        for number, finder in enumerate(self.finders):
            finder.tick(self.now)
            orders = finder.take()
            if len(orders) > 200:
                raise AssertionError("more orders than the bounds allow")
            for order in orders:
                self.do(number, order)

    def do(self, number: int, order: object) -> None:
        other = self.finders[1 - number]
        if isinstance(order, Send):
            self.datagrams[number] = order.data
            # What goes elsewhere is lost.
            if (order.to.host, order.to.port) == HOMES[1 - number][:2]:
                other.receive(order.data, HOMES[number], self.now)
        elif isinstance(order, Ask):
            self.signals[number] = order.data
            other.signal(order.data, self.now)
        elif isinstance(order, PathIds):
            self.ids[number] = order.ids
        elif isinstance(order, WantSockets):
            self.finders[number].sockets((), self.now)
        elif isinstance(order, DropSockets):
            raise AssertionError("sockets that there never were")

    def must_meet(self) -> None:
        """Within a minute they have found each other."""
        for _ in range(600):
            if all(each.status().carrier is Carrier.DIRECT for each in self.finders):
                break
            self.turn(0.1)
        else:
            raise AssertionError("two honest sides did not meet")
        for number, finder in enumerate(self.finders):
            if finder.status().place != HOMES[1 - number]:
                raise AssertionError("a path to somebody else was proved")


def mutated(honest: bytes, changes: bytes) -> bytes:
    """Each three bytes are a position and what to mix in there."""
    result = bytearray(honest)
    for at in range(0, len(changes) - 2, 3):
        if result:
            position = int.from_bytes(changes[at : at + 2], "little")
            result[position % len(result)] ^= changes[at + 2]
    return bytes(result)


def parse(data: bytes) -> None:
    for parser in (probe.parse_probe, probe.parse_reply):
        with contextlib.suppress(ParseError):
            parser(data, BOBS.probe)
    with contextlib.suppress(ParseError):
        probe.path_id(data)
    with contextlib.suppress(ParseError):
        signal_message.parse_signal(data, BOBS.signal)


def sealed(data: bytes) -> None:
    """What an honest key seals is refused, or packs again into the very same bytes."""
    for kind, parser, packer in (
        (0x12, probe.parse_probe, probe.pack_probe),
        (0x13, probe.parse_reply, probe.pack_reply),
    ):
        content = data.ljust(44, b"\0")[: 44 if kind == 0x13 else 400]
        head = bytes([kind, 0, 0, 0]) + ID
        datagram = head + NONCE + ALICES.probe.seal(NONCE, content, head)
        with contextlib.suppress(ParseError):
            if packer(parser(datagram, BOBS.probe), ALICES.probe, ID, NONCE) != datagram:
                raise AssertionError("one datagram has two spellings")
    content = data.ljust(280, b"\0")[:280]
    head = b"\1" + bytes(ALICE.public)
    message = head + NONCE + ALICES.signal.seal(NONCE, content, head)
    with contextlib.suppress(ParseError):
        read = signal_message.parse_signal(message, BOBS.signal)
        if signal_message.pack_signal(read, ALICES.signal, ALICE.public, NONCE) != message:
            raise AssertionError("one signal has two spellings")


def pasted(data: bytes) -> None:
    text = data.decode("latin-1")
    for each in (text, blob.PREFIX + text, blob.PREFIX + text.ljust(476, "A")[:476]):
        with contextlib.suppress(blob.BlobError):
            if blob.pack_blob(blob.parse_blob(each)) != "".join(each.split()):
                raise AssertionError("one signal has two texts")


def life(data: bytes) -> None:
    """Each chunk of ten bytes is something that happens to Bob while he looks for Alice."""
    two = Two()
    for at in range(0, min(len(data), 400) - 9, 10):
        what, where, changes = data[at], data[at + 1], data[at + 2 : at + 10]
        source = ELSEWHERE[where % len(ELSEWHERE)]
        bob = two.finders[1]
        if what % 4 == 0:
            two.turn(what / 256)
        elif what % 4 == 1:
            bob.receive(mutated(two.datagrams[0], changes[:6]), source, two.now)
        elif what % 4 == 2:
            bob.signal(mutated(two.signals[0], changes[:6]), two.now)
        else:
            ids = two.ids[1] or (ID,)
            head = bytes([0x12 + where % 2, 0, 0, 0]) + ids[what % len(ids)]
            content = (b"\1" + changes + bytes([what] * 8)).ljust(44, b"\0")
            datagram = head + NONCE + ALICES.probe.seal(NONCE, content, head)
            bob.receive(datagram, source, two.now)
    # Whoever holds Alice's key, as this fuzzer does, can use up the counters that she will use.
    for finder in two.finders:
        finder.network_changed(two.now)
    for finder, home in zip(two.finders, HOMES, strict=True):
        finder.local([Candidate(Kind.HOST, home.host, home.port)], UNKNOWN, two.now)
    two.must_meet()


def test_one_input(data: bytes) -> None:
    if data:
        (parse, sealed, pasted, life)[data[0] % 4](data[1:])


def main() -> None:
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
