"""A fuzz target for everything of port mapping that reads what a router wrote.

    python tests/fuzz/fuzz_portmap.py -max_total_time=30

Needs the `fuzz` extra (atheris). Arguments are libFuzzer's. The parsers are given the raw bytes,
and may raise ParseError only. Where the first byte says so, a PortMap lives with a router that
answers with the bytes, or with honest answers that they change, at times that they choose: nothing
may be raised, no address be held at which nobody can reach us, and an honest router be found in the
end.
"""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["wgpy"]):
    from tests.support.fake_gateway import GATEWAY, OWN, PORT, Life, Router
    from wgpy.nat import natpmp, pcp
    from wgpy.nat.mapping import SERVER_PORT, why_unusable
    from wgpy.nat.place import Place
    from wgpy.nat.upnp import parse_answer, parse_outcome
    from wgpy.protocol.messages import ParseError

NONCE = b"abcdefghijkl"
READERS = (
    pcp.parse_response,
    natpmp.parse_response,
    pcp.PcpClient(OWN, PORT, NONCE).read,
    natpmp.NatPmpClient(PORT).read,
    lambda data: parse_answer(data, GATEWAY),
    lambda data: parse_answer(b"HTTP/1.1 200 OK\r\nLOCATION: http://192.168.1.1" + data, GATEWAY),
    parse_outcome,
)
# What an honest answer begins with, so that what follows is read at all.
HEADS = (b"", b"\x02\x81\0", b"\x02\x80\0\0", b"\0\x80\0\0", b"\0\x81\0\0", b"HTTP/1.1 200 OK\r\n")


def parse(data: bytes) -> None:
    for read in READERS:
        try:
            read(data)
        except ParseError:
            continue


def changed(honest: bytes, changes: bytes) -> bytes:
    """An honest answer in which each pair of bytes names a position and what to mix in there."""
    result = bytearray(honest)
    for position, value in zip(changes[::2], changes[1::2], strict=False):
        result[position % len(result)] ^= value
    return bytes(result)


def live(data: bytes) -> None:
    life = Life(Router({"PCP", "NAT-PMP", "UPnP"}))
    life.loss = lambda send: True
    step = max(len(data) // 8, 4)
    for at in range(0, len(data), step):
        piece = data[at : at + step]
        source = Place(GATEWAY, SERVER_PORT if piece[0] & 1 else 1900)
        asked = life.sent[-1][1]
        honest = [answer for answer, _ in life.router.hear(asked)]
        if piece[0] & 2 and honest:
            life.deliver(changed(honest[0], piece[1:]), source)
        else:
            life.deliver(HEADS[(piece[0] >> 2 & 7) % len(HEADS)] + piece[1:], source)
        life.map.heard(piece[1:], Place(GATEWAY, SERVER_PORT), life.now)
        mapping = life.map.mapping
        if mapping is not None and why_unusable(mapping.external.host, mapping.external.port):
            raise AssertionError(f"{mapping.external} is of no use")
        life.run((piece[0] >> 5) * 0.3)
    life.loss = lambda send: False
    # A lie about a mapping may hold until its renewal, which is half a day away at the most.
    for _ in range(30):
        mapping = life.map.mapping
        if mapping is not None and life.router.forwards(mapping.external.port) == (OWN, PORT):
            return
        life.run(2_000)
    raise AssertionError("an honest router is not found any more")


def test_one_input(data: bytes) -> None:
    parse(data)
    if data[:1] >= b"\x80":
        live(data[1:])


def main() -> None:
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
