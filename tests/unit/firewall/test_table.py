"""Which members a firewall knows after nft has failed; tests/system/ has the kernel's part."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from wgpy.firewall import table
from wgpy.firewall.rules import Action, Rule, Settings, parse_selector
from wgpy.firewall.table import Firewall
from wgpy.firewall.verdict import Member
from wgpy.ip import parse_prefix
from wgpy.linux.nft import FirewallError

STAFF = Rule(Action.ALLOW, (parse_selector("group:staff"),), (parse_selector("this"),), (), None)
ADA = Member("ada-key", "ada.mesh", frozenset({"staff"}), (parse_prefix("10.0.0.1/32"),))
BOB = Member("bob-key", "bob.mesh", frozenset(), (parse_prefix("10.0.0.2/32"),))


class Nft:
    """What nft was asked for; it refuses while `fails`."""

    def __init__(self) -> None:
        self.last = ""
        self.fails = False

    def apply(self, commands: Sequence[object], timeout: float) -> None:
        if self.fails:
            raise FirewallError("no nft today")
        self.last = json.dumps(commands)


@pytest.fixture
def nft(monkeypatch: pytest.MonkeyPatch) -> Nft:
    made = Nft()
    monkeypatch.setattr(table.nft, "apply", made.apply)
    monkeypatch.setattr(table, "forget", lambda prefixes: 0)
    return made


@pytest.fixture
def firewall(nft: Nft) -> Firewall:
    made = Firewall("wg0")
    made.start(Settings((STAFF,)))
    made.change(add=[ADA])
    return made


def test_a_member_whose_change_fails_stays_what_it_was(nft: Nft, firewall: Firewall) -> None:
    """Out of the sets, the rules would not speak of it, and it could go anywhere."""
    nft.fails = True
    with pytest.raises(FirewallError):
        firewall.change(add=[replace(ADA, groups=frozenset())])
    assert firewall.members == [ADA]
    nft.fails = False
    firewall.change(add=[BOB])
    assert "10.0.0.1" in nft.last, "the table was made anew, with both"
    assert "10.0.0.2" in nft.last


def test_a_newcomer_whose_change_fails_is_out_and_so_is_who_left(
    nft: Nft, firewall: Firewall
) -> None:
    nft.fails = True
    with pytest.raises(FirewallError):
        firewall.change(add=[BOB], remove=[ADA.key])
    assert firewall.members == []
    nft.fails = False
    firewall.change(add=[BOB])
    assert "10.0.0.1" not in nft.last


def test_who_is_no_member_costs_nothing(nft: Nft, firewall: Firewall) -> None:
    nft.last = ""
    firewall.change(add=[ADA], remove=["nobody"])
    assert nft.last == ""
    assert firewall.members == [ADA]
