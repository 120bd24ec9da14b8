"""A fuzz target for a node's directory: what coordinators tell page by page, and what is on a disk.

    python tests/fuzz/fuzz_directory.py -max_total_time=30

Needs the `fuzz` extra (atheris). Arguments are libFuzzer's. The first byte chooses: the text of a
directory, or a good one with bytes of it changed. Nothing may be raised, and whoever is known after
it has a certificate that says the same.
"""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["wgpy.mesh", "wgpy.identity"]):
    from tests.support.certificates import NOW, ROOT, anchors, crl
    from tests.support.views import Someone, page
    from wgpy.mesh.directory import Directory

ANCHORS = anchors(ROOT)
OWN = Someone(0)


def good() -> bytes:
    """A directory as it is put down."""
    found = Directory(OWN.key, ANCHORS)
    nodes = [Someone(number).view(number) for number in range(4)]
    found.apply(page(*nodes, revision=4, crl=(crl(pem=False),)), NOW)
    return found.text()


GOOD = good()


def test_one_input(data: bytes) -> None:
    if len(data) < 4:
        return
    text = data[1:]
    if data[0] & 1:
        changed = bytearray(GOOD)
        for at in range(1, len(data) - 3, 3):
            changed[int.from_bytes(data[at : at + 2], "big") % len(changed)] = data[at + 2]
        text = bytes(changed)
    found = Directory(OWN.key, ANCHORS)
    found.load(text, NOW)
    for key, node in found.nodes.items():
        if (node.claims.key, node.claims.name) != (key, node.name):
            raise AssertionError(f"{node.name} is believed")
    again = Directory(OWN.key, ANCHORS)
    if found.is_whole and not again.load(found.text(), NOW):
        raise AssertionError("what was written cannot be read")


def main() -> None:
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
