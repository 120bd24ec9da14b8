"""A fuzz target for the JSON forms of a mesh: what a coordinator tells, and what it is told.

    python tests/fuzz/fuzz_mesh.py -max_total_time=30

Needs the `fuzz` extra (atheris). Arguments are libFuzzer's. The first byte chooses the form, the
second the member that the rest, as JSON, takes the place of; or the rest is the whole form. Only
RecordError may be raised, and what is accepted is written again as it was.
"""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["wgpy"]):
    from tests.unit.mesh.test_records import FORMS
    from wgpy.identity.jose import JsonError, load_object
    from wgpy.mesh.fields import RecordError


def test_one_input(data: bytes) -> None:
    if len(data) < 3:
        return
    record, write, read = FORMS[data[0] % len(FORMS)]
    try:
        value = load_object(b'{"value":%b}' % data[2:])["value"]
    except JsonError:
        return
    whole = write(record)
    members = sorted(whole)
    form = value
    if data[1] < 0xF0:
        form = {**whole, members[data[1] % len(members)]: value}
    try:
        found = read(form)
    except RecordError as error:
        if "\n" in str(error):
            raise AssertionError("a reason is not one line") from error
        return
    if write(found) != form:
        raise AssertionError(f"accepted: {form}")


def main() -> None:
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
