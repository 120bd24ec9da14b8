"""A fuzz target for joining lines: what a person may paste.

    python tests/fuzz/fuzz_line.py -max_total_time=30

Needs the `fuzz` extra (atheris). Arguments are libFuzzer's. The first byte chooses how deep the
rest goes: any text; a good line with bytes changed, its checksum right; a body of any bytes with a
right checksum. Only LineError may be raised, with one line, and what is read has that one text.
"""

import hashlib
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["wgpy"]):
    from tests.support.tokens import HEADER, NETWORK, PEER, compact, enrol_payload
    from wgpy.identity.jose import b64decode, b64encode
    from wgpy.ip import parse_address
    from wgpy.mesh.line import (
        PREFIX,
        Coordinator,
        Endpoint,
        JoinLine,
        LineError,
        format_line,
        parse_line,
    )

GOOD = JoinLine(
    NETWORK,
    "mesh",
    (
        Coordinator(
            PEER,
            (Endpoint("gate.example", 51820), Endpoint("192.0.2.1", 51820)),
            (parse_address("10.9.0.1"), parse_address("fd09::1")),
        ),
    ),
    compact(HEADER, enrol_payload()),
)
BODY = b64decode(format_line(GOOD).removeprefix(PREFIX))[3:-4]


def sealed(body: bytes) -> str:
    whole = b"\x01" + (3 + len(body) + 4).to_bytes(2, "big") + body
    return PREFIX + b64encode(whole + hashlib.sha256(b"wgpy joining line" + whole).digest()[:4])


def judge(text: str) -> None:
    try:
        found = parse_line(text)
    except LineError as error:
        if "\n" in str(error):
            raise AssertionError("a reason is not one line") from error
        return
    if format_line(found) != "".join(text.split()):
        raise AssertionError("a second text of one line was read")


def test_one_input(data: bytes) -> None:
    if not data:
        return
    rest = data[1:]
    match data[0] % 3:
        case 0:
            judge(rest.decode("utf-8", "replace"))
        case 1:
            body = bytearray(BODY)
            for place, value in zip(rest[::2], rest[1::2], strict=False):
                body[place * 2 % len(body)] ^= value
            judge(sealed(bytes(body)))
        case 2:
            judge(sealed(rest[:60_000]))


def main() -> None:
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
