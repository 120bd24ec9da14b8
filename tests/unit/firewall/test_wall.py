"""The wall in the table: with rules and without, and what of it costs a run of nft."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.firewall.test_table import ADA, BOB, STAFF, Nft
from wgpy.firewall import table
from wgpy.firewall.rules import Settings
from wgpy.firewall.table import Firewall
from wgpy.firewall.verdict import Member
from wgpy.firewall.wall import Wall
from wgpy.ip import parse_prefix
from wgpy.linux.nft import FirewallError

WALL = Wall(parse_prefix("fd12:3456:789a::/48"), 7100)
GUEST = Member("guest", "", frozenset(), (parse_prefix("fd12:3456:789a::7"),), judged=False)


class CountingNft(Nft):
    """And how often."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0
        self.forgotten: list[str] = []

    def apply(self, commands: Sequence[object], timeout: float) -> None:
        self.runs += 1
        super().apply(commands, timeout)

    def rules(self) -> list[tuple[str, list[dict[str, Any]]]]:
        """Each rule of the table that was last made: its chain, and what it says."""
        found = [x["add"]["rule"] for x in json.loads(self.last) if "rule" in x.get("add", {})]
        return [(x["chain"], x["expr"]) for x in found]


@pytest.fixture
def nft(monkeypatch: pytest.MonkeyPatch) -> CountingNft:
    made = CountingNft()
    monkeypatch.setattr(table.nft, "apply", made.apply)
    monkeypatch.setattr(table.nft, "delete_table", lambda *_: made.apply([], 0))
    monkeypatch.setattr(table, "forget", lambda prefixes: made.forgotten.extend(map(str, prefixes)))
    return made


def test_it_stands_without_rules_and_then_nobody_is_judged(nft: CountingNft) -> None:
    firewall = Firewall("wg0")
    firewall.start(Settings(), wall=WALL)
    assert (firewall.active, firewall.judges, firewall.wall) == (True, False, WALL)
    assert '"set"' not in nft.last
    assert "judge" not in nft.last
    # Who comes and goes costs no run of nft; who goes is forgotten by connection tracking.
    runs = nft.runs
    firewall.change(add=[ADA, GUEST])
    firewall.change(remove=[GUEST.key])
    assert nft.runs == runs
    assert nft.forgotten == ["fd12:3456:789a::7/128"]
    # It is there again when somebody removed it.
    firewall.restore()
    assert nft.runs == runs + 1
    assert "from-quarantine" in nft.last


def test_it_comes_before_every_rule(nft: CountingNft) -> None:
    firewall = Firewall("wg0")
    firewall.start(Settings((STAFF,)), wall=WALL)
    for hook, ways in (("input", 1), ("output", 1), ("forward", 2)):
        first = [str(expr) for chain, expr in nft.rules() if chain == hook]
        assert all("fd12:3456:789a::" in expr for expr in first[:ways])
        assert not any("fd12:3456:789a::" in expr for expr in first[ways:])
    # A guest stands in no set, whatever the rules say of others.
    firewall.change(add=[ADA])
    runs = nft.runs
    firewall.change(add=[GUEST])
    assert nft.runs == runs


def test_rules_and_wall_come_and_go_apart(nft: CountingNft) -> None:
    firewall = Firewall("wg0")
    firewall.start(Settings((STAFF,)))
    assert "quarantine" not in nft.last
    firewall.change(add=[BOB])
    firewall.start(Settings((STAFF,)), wall=WALL)
    assert "quarantine" in nft.last
    assert "10.0.0.2" in nft.last, "members stay"
    firewall.start(Settings(), wall=WALL)
    assert "judge" not in nft.last
    firewall.start(Settings((STAFF,)), wall=WALL)
    assert "10.0.0.2" in nft.last, "and are judged again by rules that come back"
    firewall.start(Settings())
    assert (firewall.active, firewall.wall) == (False, None)
    assert nft.last == "[]", "the table is gone"


def test_a_wall_that_cannot_stand_is_none(nft: CountingNft) -> None:
    firewall = Firewall("wg0")
    nft.fails = True
    with pytest.raises(FirewallError):
        firewall.start(Settings(), wall=WALL)
    assert (firewall.active, firewall.wall) == (False, None)


def test_nothing_passes_where_they_lived_before(nft: CountingNft) -> None:
    former = parse_prefix("fd99:3456:789a::/48")
    Firewall("wg0").start(Settings(), wall=replace(WALL, former=former))
    about = [(chain, expr) for chain, expr in nft.rules() if "fd99:" in str(expr)]
    assert [chain for chain, _ in about] == ["input", "output", "forward", "forward"]
    assert all(expr[-1] == {"drop": None} for _, expr in about)


def test_each_way_ends_in_a_drop(nft: CountingNft) -> None:
    Firewall("wg0").start(Settings(), wall=WALL)
    for chain in ("from-quarantine", "to-quarantine"):
        expressions = [expr for name, expr in nft.rules() if name == chain]
        assert expressions[-1] == [{"counter": None}, {"drop": None}]
        accepting = [expr for expr in expressions if {"accept": None} in expr]
        assert len(accepting) == 1
        assert "'protocol': 'tcp'" in str(accepting)
        assert "7100" in str(accepting)
    assert [x for name, x in nft.rules() if name == "forward" and {"accept": None} in x] == []
