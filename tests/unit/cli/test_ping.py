"""`wgpy ping`: whom a word means, and what is said of answers. Echoes are in tests/system."""

import pytest

from wgpy.cli import main, ping, status, style
from wgpy.cli.errors import CommandError
from wgpy.cli.status_view import Node, View
from wgpy.device.paths import PathKind, PathState, TurnUri
from wgpy.device.uapi import Address

IDLE = PathState(PathKind.NONE)
A = Node("a.mesh", "keyA=", ("100.64.0.1/32", "fd00::1/128", "192.168.7.0/24"), IDLE)
B = Node("b.mesh", "keyB=", ("100.64.0.2", "fd00::2"), IDLE)
PLAIN = Node("", "keyC=", ("10.0.0.0/24",), IDLE)
VIEWS = [
    View("wg0", None, (A, B), {"name": "own.mesh"}),
    View("wg1", None, (PLAIN,)),
]


@pytest.mark.parametrize(
    ("word", "interface", "node", "address"),
    [
        ("a", "wg0", A, "100.64.0.1"),
        ("A.mesh.", "wg0", A, "100.64.0.1"),
        ("keyB=", "wg0", B, "100.64.0.2"),
        ("fd00::2", "wg0", B, "fd00::2"),
        ("192.168.7.9", "wg0", A, "192.168.7.9"),
        ("10.0.0.77", "wg1", PLAIN, "10.0.0.77"),
    ],
)
def test_whom_a_word_means(word: str, interface: str, node: Node, address: str) -> None:
    assert ping.find(VIEWS, word) == (interface, node)
    assert ping.address_of(node, word, None) == address


def test_the_version_of_ip() -> None:
    assert ping.address_of(A, "a", 6) == "fd00::1"
    with pytest.raises(CommandError, match="keyC= has no IPv6 address of its own"):
        ping.address_of(PLAIN, "keyC=", 6)


@pytest.mark.parametrize("word", ["c", "a.b", "", "10.0.1.1", "10.0.0.0/24", "keyD=", "mesh"])
def test_nobody(word: str) -> None:
    with pytest.raises(CommandError, match="there is no node"):
        ping.find(VIEWS, word)


def test_ourselves_and_several() -> None:
    with pytest.raises(CommandError, match=r"own\.mesh is this machine"):
        ping.find(VIEWS, "own.mesh")
    twice = [*VIEWS, View("wg2", None, (Node("a.other", "keyX=", (), IDLE),))]
    with pytest.raises(CommandError, match=r"a is a\.mesh on wg0, a\.other on wg2"):
        ping.find(twice, "a")


def test_an_interface_that_does_not_answer_is_told_of() -> None:
    with pytest.raises(CommandError, match="lists them; run it as root"):
        ping.find([View("wg0", None, (), None, "run it as root")], "a")


def test_what_an_answer_came_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WG_COLOR_MODE", "never")
    direct = PathState(PathKind.DIRECT, Address("192.0.2.1", 5), round_trip=9.0)
    relay = PathState(PathKind.RELAY, relay=TurnUri("turn.example.org", 3478), reason="no way")
    texts = [ping.answer_text("a.mesh", "100.64.0.1", 3, 0.02345, x) for x in (direct, relay)]
    assert [style.finish(x) for x in texts] == [
        "a.mesh (100.64.0.1): 3, 23.4 ms, direct 192.0.2.1:5",
        "a.mesh (100.64.0.1): 3, 23.4 ms, relay turn.example.org:3478 (no way)",
    ]


def test_sums() -> None:
    tally = ping.Tally(4, [0.01, 0.03], 1)
    assert tally.text("a.mesh").splitlines() == [
        "--- a.mesh ---",
        "4 sent, 2 answered, 50% lost, 1 by a direct path",
        "round trip least / mean / most: 10.0 / 20.0 / 30.0 ms",
    ]
    assert tally.as_json()["mean"] == pytest.approx(0.02)
    assert ping.Tally().as_json()["most"] is None
    assert "0 sent, 0 answered, 0% lost" in ping.Tally().text("a")


def test_failures_exit_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status, "collect", lambda interface: VIEWS)
    assert main(["ping", "nobody"]) == 2
    assert capsys.readouterr().err.startswith("wgpy: there is no node nobody")


@pytest.mark.parametrize("count", ["0", "x", "65536"])
def test_counts(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ping", "-c", count, "a"]) == 1
    assert "a number from 1 to 65535" in capsys.readouterr().err
