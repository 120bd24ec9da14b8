"""The report of the coordinator's measure: its numbers, and its verdicts."""

from typing import Any

from bench.mesh import table, verdicts


def results(**changed: Any) -> dict[str, Any]:
    """A run with 1,000 agents that reaches every goal."""
    found = {
        "agents": 1_000,
        "joined": 30.0,
        "join_cpu": 12.5,
        "idle_cpu": 0.012,
        "memory": 120_000_000,
        "pushes": [0.1, 0.2, 0.5],
        "push_cpu": 0.03,
        "counters": {},
    }
    return {"found": [{**found, **changed}]}


def test_the_table_has_a_line_for_each_run() -> None:
    text = table(results())
    assert "| 1,000 | 80 | 30.0 | 1.20 | 120 | 200 (longest 500) | 30 |" in text
    assert "NOT reached" not in text


def test_each_goal_can_be_missed() -> None:
    for changed in (
        {"join_cpu": 21.0},
        {"idle_cpu": 0.06},
        {"memory": 301_000_000},
        {"pushes": [0.1, 1.1]},
    ):
        said = verdicts(results(**changed))
        assert len([x for x in said if x.endswith("NOT reached")]) == 1, changed


def test_a_run_without_a_thousand_says_nothing_of_goals() -> None:
    assert verdicts(results(agents=999)) == ["no run had 1,000 agents, which the goals are about"]
