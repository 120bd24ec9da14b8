"""The steps of routes: which, in which order, and how one set of them becomes another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.ip import Prefix, parse_address, parse_prefix
from wgpy.linux.firewall import SRC_VALID_MARK
from wgpy.linux.routes import MAIN_TABLE, Rule
from wgpy.mesh.routes_choice import Decision
from wgpy.mesh.routes_plan import Sharing, Snapshot, difference, plan, replaces
from wgpy.quick.steps import (
    AddRoute,
    AddRule,
    AddTable,
    AddUnreachable,
    GuardExit,
    Masquerade,
    QuickError,
    SetMark,
    SetSysctl,
    Step,
)

MACHINE = Snapshot(
    addresses=(parse_address("10.9.0.1"), parse_address("fd09::1")),
    rules=(Rule(4, 0, 255), Rule(4, 32766, 254), Rule(6, 0, 255), Rule(6, 32766, 254)),
)
SUBNETS = Decision(taken=((parse_prefix("10.1.0.0/16"), "a"), (parse_prefix("10.2.0.0/16"), "b")))
LOCAL = (parse_prefix("192.168.1.0/24"),)
EXIT = Decision(exit="gate", versions=(4, 6), past=LOCAL)
EXIT4 = Decision(exit="gate", versions=(4,), past=LOCAL)
NONE = Sharing()


def planned(decision: Decision, machine: Snapshot = MACHINE, sharing: Sharing = NONE) -> list[Step]:
    return plan("wg0", decision, sharing, machine)


def after(*decisions: Decision) -> tuple[Step, ...]:
    """What is in force after each of these was carried out."""
    steps: list[Step] = []
    for decision in decisions:
        wanted = planned(decision, _with(steps))
        undo, take = difference(steps, wanted)
        steps = [x for x in steps if x not in undo]
        for step in take:
            steps = [x for x in steps if not replaces(step, x)] + [step]
        assert sorted(map(repr, steps)) == sorted(map(repr, wanted))
    return tuple(steps)


def _with(steps: list[Step]) -> Snapshot:
    rules = tuple(x.rule() for x in steps if isinstance(x, AddRule))
    tables = frozenset(x.table for x in steps if isinstance(x, AddUnreachable))
    return Snapshot(
        addresses=MACHINE.addresses,
        steps=tuple(steps),
        mark=next((x.mark for x in steps if isinstance(x, SetMark)), 0),
        tables_in_use=tables,
        rules=MACHINE.rules + rules,
        src_valid_mark="1" if steps else "0",
    )


def test_nothing_chosen_is_nothing_done() -> None:
    assert planned(Decision()) == []


def test_subnets_are_in_a_table_that_comes_after_the_main_one() -> None:
    assert planned(SUBNETS) == [
        SetMark("wg0", 51820),
        SetSysctl(SRC_VALID_MARK, "1", "0", "0"),
        AddTable("wg0", 4, ("10.9.0.1",), 51820),
        AddUnreachable("10.1.0.0/16", 51820),
        AddUnreachable("10.2.0.0/16", 51820),
        AddRoute("wg0", "10.1.0.0/16", 51820),
        AddRoute("wg0", "10.2.0.0/16", 51820),
        AddRule(4, 32764, MAIN_TABLE, None, True),
        AddRule(4, 32765, 51820, 51820, False),
    ]


def test_an_exit_begins_with_its_guard_and_closes_both_versions() -> None:
    for decision in (EXIT, EXIT4, Decision(exit="gate")):
        steps = planned(decision)
        assert isinstance(steps[0], SetMark)
        assert steps[1] == GuardExit("wg0", 51820, tuple(map(str, decision.past)))
        closed = [x.prefix for x in steps if isinstance(x, AddUnreachable)]
        assert closed == ["0.0.0.0/0", "::/0"]
        opened = [x.prefix for x in steps if isinstance(x, AddRoute)]
        assert opened == ["0.0.0.0/0", "::/0"][: len(decision.versions)]
        assert {x.version for x in steps if isinstance(x, AddRule)} == {4, 6}
        # Rules come last: no packet takes a half-made way.
        assert all(isinstance(x, AddRule) for x in steps[-4:])


def test_without_ipv6_there_is_nothing_of_it() -> None:
    machine = Snapshot(addresses=MACHINE.addresses, rules=MACHINE.rules[:2], ipv6_off=True)
    text = " ".join(map(str, planned(EXIT, machine)))
    assert "-6" not in text
    assert "ip6" not in text
    assert "0.0.0.0/0" in text


def test_a_mark_that_the_daemon_has_is_the_table() -> None:
    machine = Snapshot(addresses=MACHINE.addresses, rules=MACHINE.rules, mark=77)
    assert planned(SUBNETS, machine)[0] == SetMark("wg0", 77)


def test_no_room_before_the_rules_of_others_is_said() -> None:
    machine = Snapshot(addresses=(), rules=(Rule(4, 0, 255), Rule(4, 2, 254)))
    with pytest.raises(QuickError, match="leaves no room"):
        planned(SUBNETS, machine)


def test_what_is_in_force_is_left_as_it_is() -> None:
    steps = after(SUBNETS)
    assert difference(steps, planned(SUBNETS, _with(list(steps)))) == ([], [])


def test_an_exit_that_goes_lets_go_of_its_guard_last() -> None:
    steps = after(EXIT)
    undo, take = difference(steps, [])
    assert take == []
    assert [type(x) for x in undo[:4]] == [AddRule] * 4
    assert [type(x) for x in undo[-2:]] == [GuardExit, SetMark]


def test_another_local_network_changes_the_guard_without_a_gap() -> None:
    steps = after(SUBNETS, EXIT)
    moved = Decision(exit="gate", versions=(4, 6), past=(parse_prefix("10.0.0.0/8"),))
    undo, take = difference(steps, planned(moved, _with(list(steps))))
    assert undo == []
    assert take == [GuardExit("wg0", 51820, ("10.0.0.0/8",))]


def test_an_exit_without_ipv6_keeps_it_closed() -> None:
    steps = after(EXIT)
    undo, take = difference(steps, planned(EXIT4, _with(list(steps))))
    assert (undo, take) == ([AddRoute("wg0", "::/0", 51820)], [])


def test_masquerading_is_apart() -> None:
    sharing = Sharing((parse_prefix("10.9.0.0/16"),), (parse_prefix("10.1.0.0/16"),))
    step = Masquerade("wg0", ("10.9.0.0/16",), ("10.1.0.0/16",))
    assert planned(Decision(), MACHINE, sharing) == [step]
    assert planned(SUBNETS, MACHINE, sharing)[-1] == step
    both = Masquerade("wg0", ("10.9.0.0/16", "fd09::/48"), ("10.1.0.0/16", "::/0"))
    assert [tuple(map(str, x)) for x in both.pairs()] == [
        ("10.9.0.0/16", "10.1.0.0/16"),
        ("fd09::/48", "::/0"),
    ]


def _subnets(chosen: list[Prefix]) -> tuple[tuple[Prefix, str], ...]:
    return tuple((x, "router") for x in sorted(set(chosen)))


decisions = st.builds(
    Decision,
    taken=st.lists(
        st.sampled_from([parse_prefix(x) for x in ("10.1.0.0/16", "10.2.0.0/16", "fd01::/48")])
    ).map(_subnets),
    exit=st.sampled_from([None, "gate"]),
    versions=st.sampled_from([(), (4,), (6,), (4, 6)]),
    past=st.sampled_from([(), LOCAL]),
)


@given(st.lists(decisions, min_size=1, max_size=6))
def test_any_decision_follows_any_other(chosen: list[Decision]) -> None:
    """The steps in force become those of the last decision, whatever there was; and while an exit
    is chosen before and after, its guard is never undone."""
    steps = after(*chosen)
    again = planned(chosen[-1], _with(list(steps)))
    assert sorted(map(repr, steps)) == sorted(map(repr, again))
    if len(chosen) > 1 and chosen[-2].exit and chosen[-1].exit:
        before = after(*chosen[:-1])
        undo, _ = difference(before, planned(chosen[-1], _with(list(before))))
        assert not any(isinstance(x, GuardExit) for x in undo)
    rules = [(x.version, x.priority) for x in steps if isinstance(x, AddRule)]
    assert len(rules) == len(set(rules))
    for version in (4, 6):
        pair = sorted(
            (x.priority, x.table) for x in steps if isinstance(x, AddRule) and x.version == version
        )
        assert [table for _, table in pair] in ([], [MAIN_TABLE, 51820])
