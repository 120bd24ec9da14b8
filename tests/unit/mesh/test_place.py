"""The files of a node: whole, for root alone, and refused in one way if they are not as written."""

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.certificates import NOW, ROOT, Authority, Peer, signing_key
from tests.support.stores import SETTINGS, key
from wgpy.ip import parse_prefix
from wgpy.keys import PrivateKey
from wgpy.mesh.line import Coordinator, Endpoint
from wgpy.mesh.place import Membership, Place, PlaceError, interfaces, membership_to_json

FULL = Membership(
    interface="mesh0",
    network=SETTINGS.id,
    domain="mesh",
    name="laptop.mesh",
    coordinator=True,
    line="wgpy-join:abc",
    wanted="laptop",
    contacts=(
        Coordinator(
            key(1),
            (Endpoint("192.0.2.1", 51820), Endpoint("2001:db8::1", 1), Endpoint("a.example", 9)),
            (bytes([10, 7, 0, 1]), b"\xfd" + bytes(14) + b"\1"),
        ),
    ),
    port=51820,
    accept=("10.1.0.0/16", "router.mesh"),
    exit="gate.mesh",
    offers=(parse_prefix("192.168.0.0/24"),),
    masquerade=True,
    ended="it was removed",
)
JOINING = Membership("mesh0", SETTINGS.id, "mesh", line="wgpy-join:abc")


def place(tmp_path: Path) -> Place:
    return Place("mesh0", tmp_path / "state", tmp_path / "run")


def test_a_node_is_kept(tmp_path: Path) -> None:
    made, private = place(tmp_path), PrivateKey.generate()
    assert not made.exists()
    made.make(private, FULL)
    assert made.exists()
    assert (made.key(), made.membership()) == (private, FULL)
    assert list(interfaces(tmp_path / "state")) == ["mesh0"]
    assert not FULL.joining
    assert JOINING.joining
    assert stat.S_IMODE(made.directory.stat().st_mode) == 0o700
    for path in made.directory.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_papers_are_kept(tmp_path: Path) -> None:
    made = place(tmp_path)
    made.make(PrivateKey.generate(), JOINING)
    root, leaf = ROOT.der(), Peer().der()
    other = Authority(name="another root", key=signing_key(7)).der()
    between = Authority(name="between", key=signing_key(8), parent=ROOT).der()
    made.set_papers(leaf, [between], [root, other])
    assert made.papers() == (leaf, (between,), (root, other))
    assert [x.name for x in made.anchors()] == ["ca.pem", "ca-2.pem"]
    made.set_papers(leaf, [], [root])
    assert made.papers() == (leaf, (), (root,))
    assert not made.intermediates.exists()


def test_what_is_the_same_is_not_written_again(tmp_path: Path) -> None:
    """The daemon watches these files."""
    made = place(tmp_path)
    made.make(PrivateKey.generate(), JOINING)
    root, leaf, later = ROOT.der(), Peer().der(), Peer(not_after=NOW + 100).der()
    made.set_papers(leaf, [], [root])
    before = made.certificate.stat().st_mtime_ns
    made.set_papers(leaf, [], [root])
    assert made.certificate.stat().st_mtime_ns == before
    made.set_papers(later, [], [root])
    assert made.papers() == (later, (), (root,))


def test_a_node_without_papers_says_so(tmp_path: Path) -> None:
    made = place(tmp_path)
    with pytest.raises(PlaceError, match="is in no mesh"):
        made.membership()
    made.make(PrivateKey.generate(), JOINING)
    with pytest.raises(PlaceError, match="lost"):
        made.papers()
    (made.directory / "node.key").unlink()
    with pytest.raises(PlaceError, match="has no key"):
        made.key()


def test_nothing_is_left_of_a_node(tmp_path: Path) -> None:
    made = place(tmp_path)
    made.make(PrivateKey.generate(), FULL)
    made.make_signals()
    made.remove()
    assert not made.exists()
    assert not made.directory.exists()
    assert not made.signals.exists()
    made.remove()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "\x00", "[" * 10_000, json.dumps({**membership_to_json(FULL), "more": 1})],
)
def test_a_broken_file_is_one_line(tmp_path: Path, text: str) -> None:
    made = place(tmp_path)
    made.make(PrivateKey.generate(), FULL)
    (made.directory / "mesh.json").write_text(text)
    with pytest.raises(PlaceError) as caught:
        made.membership()
    assert "\n" not in str(caught.value)


def test_it_is_of_its_own_interface(tmp_path: Path) -> None:
    made = place(tmp_path)
    made.make(PrivateKey.generate(), replace(FULL, interface="other"))
    with pytest.raises(PlaceError, match="of the interface other"):
        made.membership()


def test_where_nodes_were_is_a_help_and_no_more(tmp_path: Path) -> None:
    made = place(tmp_path)
    made.make(PrivateKey.generate(), JOINING)
    assert made.places() == {}
    known = {key(1): Endpoint("192.0.2.1", 51820), key(2): Endpoint("2001:db8::2", 1)}
    made.set_places(known)
    assert made.places() == known
    nowhere = json.dumps({key(1).base64(): "nowhere"})
    for text in ("", "[]", '{"a": 1}', "[" * 10_000, nowhere):
        (made.directory / "places.json").write_text(text)
        assert made.places() == {}
