"""Ranges without overlaps: the longest prefix owns an address, as a naive model has it."""

from hypothesis import given
from hypothesis import strategies as st

from wgpy.firewall.compile import _ports, build, changes
from wgpy.firewall.rules import Action, Rule, parse_selector, parse_service
from wgpy.firewall.sets import Names, carve, contents, overlap
from wgpy.firewall.verdict import Member, owner
from wgpy.ip import Prefix, mask, parse_address, parse_prefix

# The last byte of an address is enough to have everything in everything.
prefixes = st.builds(
    lambda byte, length: Prefix(mask(bytes([10, 0, 0, byte]), length), length),
    st.integers(0, 255),
    st.integers(24, 32),
)


@given(st.dictionaries(prefixes, st.sampled_from(["a", "b", "c"]), max_size=8))
def test_each_address_is_in_the_range_of_its_owner(owned: dict[Prefix, str]) -> None:
    ranges = carve(owned.items())
    members = [
        Member(key, key, frozenset({key}), tuple(p for p, k in owned.items() if k == key))
        for key in ("a", "b", "c")
    ]
    rules = [
        Rule(Action.ALLOW, (parse_selector(f"group:{key}"),), (parse_selector("any"),))
        for key in ("a", "b", "c")
    ]
    held = contents(Names(rules), members)
    for byte in range(256):
        address = bytes([10, 0, 0, byte])
        holders = [p for p, parts in ranges.items() if any(x <= address <= y for x, y in parts)]
        assert len(holders) <= 1
        mine = owner(members, address)
        for key in ("a", "b", "c"):
            parts = held.get(f"group-{key}-4", set()) | held.get(f"group-{key}-4-nets", set())
            inside = any(x <= address <= y for x, y in parts)
            assert inside == (mine is not None and mine.key == key)


def test_ip_versions_do_not_meet() -> None:
    four, six = parse_prefix("0.0.0.0/0"), parse_prefix("::/0")
    assert not overlap(four, six)
    ranges = carve([(four, "a"), (six, "b")])
    assert ranges[four] == [(bytes(4), b"\xff" * 4)]
    assert ranges[six] == [(bytes(16), b"\xff" * 16)]


def test_peers_that_are_no_members_are_cut_out_and_stand_nowhere() -> None:
    wide = Member("w", "w", frozenset(), (parse_prefix("10.0.0.0/30"),))
    plain = Member("p", "p", frozenset(), (parse_prefix("10.0.0.2/32"),), judged=False)
    held = contents(Names(()), (wide, plain))
    ends = [("10.0.0.0", "10.0.0.1"), ("10.0.0.3", "10.0.0.3")]
    assert held == {
        "members-4-nets": {(parse_address(first), parse_address(last)) for first, last in ends}
    }


def test_only_what_changed_is_sent_and_removals_come_first() -> None:
    one, two = parse_address("10.0.0.1"), parse_address("10.0.0.2")
    commands = changes(
        "wg0", {"x": {(one, one)}}, {"x": {(one, one), (two, two)}, "y": {(one, two)}}
    )
    where = {"family": "inet", "table": "wgpy-wg0"}
    assert commands == [
        {"add": {"element": {**where, "name": "x", "elem": ["10.0.0.2"]}}},
        {"add": {"element": {**where, "name": "y", "elem": [{"range": ["10.0.0.1", "10.0.0.2"]}]}}},
    ]
    moved = changes("wg0", {"y": {(one, one)}}, {"x": {(one, one)}})
    assert [next(iter(command)) for command in moved] == ["delete", "add"]


def test_ports_that_meet_are_joined() -> None:
    words = ("80/tcp", "20-30/tcp", "25-28/tcp", "31/tcp", "29-40/tcp")
    assert _ports(list(map(parse_service, words))) == [{"range": [20, 40]}, 80]


def test_a_table_takes_the_place_of_one_that_was_left_behind() -> None:
    rules = [Rule(Action.ALLOW, (parse_selector("any"),), (parse_selector("this"),))]
    commands = build("wg0", "wg0", rules, Names(rules), {})
    head = {"table": {"family": "inet", "name": "wgpy-wg0"}}
    assert commands[:3] == [{"add": head}, {"delete": head}, {"add": head}]


def test_many_words_become_a_sum_and_no_product() -> None:
    groups = tuple(parse_selector(f"group:g{number}") for number in range(16))
    rules = [Rule(Action.ALLOW, groups, groups)] * 64
    commands = build("wg0", "wg0", rules, Names(rules), {})
    # 4 sets each for 16 groups at either end, on the way from peer to peer: 128 a rule and some.
    assert sum("rule" in command.get("add", {}) for command in commands) < 64 * 140
