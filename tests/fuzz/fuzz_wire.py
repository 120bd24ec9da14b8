"""A fuzz target for what nodes and coordinators say to each other, and for a request's headers.

    python tests/fuzz/fuzz_wire.py -max_total_time=30

Needs the `fuzz` extra (atheris). Arguments are libFuzzer's. The first byte chooses the message, the
second the member that the rest, as JSON, takes the place of; or the rest is the whole message, or
the value of a header. Only WireError and AuthError may be raised, and what is accepted is written
again as it was.
"""

import json
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["wgpy"]):
    from tests.unit.mesh.test_auth import headers
    from tests.unit.mesh.test_wire import MESSAGES
    from wgpy.identity.jose import JsonError, load_object
    from wgpy.mesh import auth, wire

NAMES = (auth.KEY, auth.TIME, auth.NONCE, auth.MAC)


def judge(kind: type[object], raw: bytes, form: object) -> None:
    try:
        found = wire.decode(kind, raw)
    except wire.WireError as error:
        if "\n" in str(error):
            raise AssertionError("a reason is not one line") from error
        return
    if wire.to_json(found) != form:
        raise AssertionError(f"accepted: {raw!r}")


def test_one_input(data: bytes) -> None:
    if len(data) < 3:
        return
    message, rest = MESSAGES[data[0] % len(MESSAGES)], data[2:]
    if data[1] == 0xFF:
        try:
            auth.read_proof({**headers(), NAMES[data[0] % 4]: rest.decode("utf-8", "replace")})
        except auth.AuthError as error:
            if error.reason != "headers":
                raise
        return
    try:
        value = load_object(b'{"value":%b}' % rest)["value"]
    except JsonError:
        for kinds in (wire.PUSHED, wire.SENT):
            try:
                wire.decode_event(kinds, rest)
            except wire.WireError:
                continue
        return
    whole = wire.to_json(message)
    form = value
    if whole and data[1] < 0xF0:
        form = {**whole, sorted(whole)[data[1] % len(whole)]: value}
    try:
        raw = json.dumps(form).encode()
    except UnicodeEncodeError:
        return
    judge(type(message), raw, form)


def main() -> None:
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
