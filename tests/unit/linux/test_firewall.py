"""The commands for nft: what is dropped, which marks travel, and that old tables give way."""

import json
from typing import Any

import pytest

from wgpy.linux import firewall, nft


def _rules(commands: list[dict[str, Any]], chain: str) -> list[list[dict[str, Any]]]:
    rules = [command["add"]["rule"] for command in commands if "rule" in command.get("add", {})]
    return [rule["expr"] for rule in rules if rule["chain"] == chain]


def test_a_table_of_that_name_is_replaced_in_the_same_transaction() -> None:
    commands = firewall.add_commands(4, "wg0", [], 51820)
    table = {"table": {"family": "ip", "name": "wgpy-wg0"}}
    assert commands[:3] == [{"add": table}, {"delete": table}, {"add": table}]


@pytest.mark.parametrize(
    ("version", "family", "addresses"),
    [(4, "ip", ["10.0.0.1", "10.1.0.1"]), (6, "ip6", ["fd00::1"])],
)
def test_each_address_is_guarded(version: int, family: str, addresses: list[str]) -> None:
    rules = _rules(firewall.add_commands(version, "wg0", addresses, 7), "preraw")
    assert len(rules) == len(addresses)
    for rule, address in zip(rules, addresses, strict=True):
        not_from_link, to_address, not_from_here, verdict = rule
        assert not_from_link["match"] == {
            "op": "!=",
            "left": {"meta": {"key": "iifname"}},
            "right": "wg0",
        }
        assert to_address["match"]["left"]["payload"] == {"protocol": family, "field": "daddr"}
        assert to_address["match"]["right"] == address
        assert not_from_here["match"]["op"] == "!="
        assert not_from_here["match"]["right"] == "local"
        assert verdict == {"drop": None}


def test_the_mark_is_saved_on_the_way_out_and_restored_on_the_way_in() -> None:
    commands = firewall.add_commands(4, "wg0", [], 51821)
    ((_, marked, save),) = _rules(commands, "postmangle")
    assert marked["match"]["right"] == 51821
    assert save["mangle"] == {
        "key": {"ct": {"key": "mark"}},
        "value": {"meta": {"key": "mark"}},
    }
    ((_, restore),) = _rules(commands, "premangle")
    assert restore["mangle"] == {
        "key": {"meta": {"key": "mark"}},
        "value": {"ct": {"key": "mark"}},
    }


def test_chains_hook_where_wg_quick_hooks_them() -> None:
    commands = firewall.add_commands(6, "wg0", [], 1)
    chains = [command["add"]["chain"] for command in commands if "chain" in command.get("add", {})]
    assert [(chain["name"], chain["hook"], chain["prio"]) for chain in chains] == [
        ("preraw", "prerouting", -300),
        ("premangle", "prerouting", -150),
        ("postmangle", "postrouting", -150),
    ]


def test_names_that_nft_would_have_to_quote_stay_data() -> None:
    commands = firewall.add_commands(4, "a=b+c.d", ["10.0.0.1"], 1)
    assert json.loads(json.dumps(commands)) == commands
    assert commands[0]["add"]["table"]["name"] == "wgpy-a=b+c.d"


def test_without_nft_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert not nft.have_nft()
    with pytest.raises(nft.FirewallError, match="install nftables"):
        nft.apply([])


def test_reading_a_sysctl() -> None:
    assert firewall.read_sysctl("kernel.ostype") == "Linux"
    assert firewall.read_sysctl("kernel.no_such_thing") is None
