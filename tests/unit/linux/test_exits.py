"""The tables of an exit, as commands: what is let past, once each, and what is masqueraded."""

import ipaddress
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from wgpy.ip import Prefix, parse_prefix
from wgpy.linux.exits import guard_commands, guard_name, masquerade_commands, without_covered

prefixes = st.builds(
    lambda number, length: parse_prefix(f"{ipaddress.IPv4Address(number)}/{length}"),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)


@given(st.lists(prefixes, max_size=12))
def test_no_prefix_is_within_another_and_none_is_lost(given_: list[Prefix]) -> None:
    kept = [ipaddress.ip_network(str(x)) for x in without_covered(given_)]
    for number, one in enumerate(kept):
        assert not any(one.overlaps(other) for other in kept[number + 1 :])
    for prefix in given_:
        wanted = ipaddress.IPv4Network(str(prefix))
        assert any(wanted.subnet_of(x) for x in kept)  # type: ignore[arg-type]


def _sets(commands: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {
        x["add"]["set"]["name"]: x["add"]["set"]["elem"]
        for x in commands
        if "set" in x.get("add", {})
    }


def test_the_guard_refuses_last_and_in_both_hooks() -> None:
    commands = guard_commands("wg0", 51820, [parse_prefix("192.168.1.0/24")])
    # The table is made anew in the same transaction.
    table = {"table": {"family": "inet", "name": guard_name("wg0")}}
    assert commands[:3] == [{"add": table}, {"delete": table}, {"add": table}]
    rules = [x["add"]["rule"] for x in commands if "rule" in x.get("add", {})]
    for hook in ("output", "forward"):
        ours = [x["expr"] for x in rules if x["chain"] == hook]
        refused = [x for x in ours if any("reject" in part for part in x)]
        assert refused == [ours[-1]]
        assert all({"accept": None} in x for x in ours[:-1])
        assert "51820" in json.dumps(ours)
    sets = _sets(commands)
    assert {"prefix": {"addr": "192.168.1.0", "len": 24}} in sets["local4"]
    assert "255.255.255.255" in sets["local4"]
    assert {"prefix": {"addr": "fe80::", "len": 10}} in sets["local6"]


def test_what_is_told_cannot_be_wider_than_it_is() -> None:
    sets = _sets(
        guard_commands("wg0", 1, [parse_prefix("10.0.0.0/8"), parse_prefix("10.1.0.0/16")])
    )
    told = [
        x for x in sets["local4"] if isinstance(x, dict) and x["prefix"]["addr"].startswith("10.")
    ]
    assert told == [{"prefix": {"addr": "10.0.0.0", "len": 8}}]


def test_masquerading_names_both_ends_and_never_the_tunnel() -> None:
    mesh = parse_prefix("10.9.0.0/16")
    commands = masquerade_commands(
        "wg0", [(mesh, parse_prefix("10.1.0.0/16")), (mesh, parse_prefix("0.0.0.0/0"))]
    )
    rules = [x["add"]["rule"]["expr"] for x in commands if "rule" in x.get("add", {})]
    assert [x[-1] for x in rules] == [{"masquerade": None}] * 2
    assert [len(x) for x in rules] == [4, 3]
    for rule in rules:
        assert rule[0]["match"]["op"] == "!="
        assert rule[0]["match"]["right"] == "wg0"
        assert rule[1]["match"]["right"] == {"prefix": {"addr": "10.9.0.0", "len": 16}}
