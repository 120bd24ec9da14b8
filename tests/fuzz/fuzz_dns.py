"""A fuzz target for questions of DNS, from this machine and from other nodes.

    python tests/fuzz/fuzz_dns.py -max_total_time=30

Needs the `fuzz` extra (atheris). Arguments are libFuzzer's. The first byte chooses what comes: any
bytes; a header of one question and any bytes; a good question with bytes changed. Only DnsError
may be raised, and an answer is one, to that question, of no more bytes than it may have.
"""

import sys
from collections import Counter
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["wgpy", "dns"]):
    import dns.message

    from wgpy.ip import parse_address, parse_prefix
    from wgpy.mesh.dns import UDP_LIMIT, DnsError, Zone, absolute, answer

ZONE = Zone(
    absolute("mesh"),
    {absolute("laptop.mesh"): (parse_address("10.9.0.2"), parse_address("fd09::2"))},
    (parse_prefix("10.9.0.0/16"), parse_prefix("fd09::/48")),
    absolute("laptop.mesh"),
    7,
)
GOOD = tuple(
    dns.message.make_query(name, kind, use_edns=0, payload=payload, id=4660).to_wire()
    for name, kind, payload in (
        ("laptop.mesh", "A", 4096),
        ("2.0.9.10.in-addr.arpa", "PTR", 512),
        ("example.com", "ANY", 1232),
    )
)


def judge(query: bytes, tcp: bool) -> None:
    try:
        reply = answer(ZONE, query, tcp=tcp, counters=Counter())
    except DnsError as error:
        if "\n" in str(error):
            raise AssertionError("a reason is not one line") from error
        return
    if reply[:2] != query[:2] or not reply[2] & 0x80:
        raise AssertionError("that answers another question")
    if not tcp and len(reply) > UDP_LIMIT:
        raise AssertionError("an answer is longer than a datagram may be")


def test_one_input(data: bytes) -> None:
    if not data:
        return
    rest, tcp = data[1:], bool(data[0] & 128)
    match data[0] % 3:
        case 0:
            judge(rest, tcp)
        case 1:
            judge(b"\x12\x34\x01\x00\0\1\0\0\0\0\0\1" + rest, tcp)
        case 2:
            wire = bytearray(GOOD[data[0] // 3 % len(GOOD)])
            for place, value in zip(rest[::2], rest[1::2], strict=False):
                wire[place % len(wire)] ^= value
            judge(bytes(wire), tcp)


def main() -> None:
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
