"""`wgpy mesh map`: matrices that fit on a screen, lists beyond, and nothing that moves a cursor."""

import itertools
import json
import re

import pytest

from wgpy.cli import main, mesh_map
from wgpy.mesh import ask

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def answer(count: int, *, rtt: float | None = 12.4) -> dict[str, object]:
    """A full mesh of so many, in which every third pair has a relay."""
    keys = [f"key{number}" for number in range(count)]
    return {
        "nodes": [
            {
                "name": f"n{number:02}.mesh",
                "key": key,
                "coordinator": number == 0,
                "connected": number != 1,
            }
            for number, key in enumerate(keys)
        ],
        "paths": [
            {
                "from": a,
                "to": b,
                "kind": "relay" if number % 3 == 0 else "direct",
                "via": "192.0.2.1:3478",
                "rtt_ms": rtt,
                "loss": 0.0,
            }
            for number, (a, b) in enumerate(itertools.permutations(keys, 2))
        ],
    }


def shown(count: int, width: int = 80, *, rtt: float | None = 12.4) -> list[str]:
    text = mesh_map.text(mesh_map.read(answer(count, rtt=rtt)), width)
    return COLOUR.sub("", text).splitlines()


def test_three_nodes_with_their_round_trips() -> None:
    assert shown(3) == [
        "           1     2     3",
        "1 n00*     -  R 12  D 12",
        "2 n01   D 12     -  R 12",
        "3 n02   D 12  D 12     -",
        "",
        "From a row to a column: D direct, R by a relay, ? looked for, . none now (they",
        "are made when they are wanted); a number is the round trip in ms.",
        "* coordinates.",
        "1 is not connected to a coordinator: n01.",
        "",
        "3 nodes, 6 ordered pairs: 4 direct, 2 by a relay, 0 looked for.",
    ]


@pytest.mark.parametrize("count", range(2, mesh_map.MAX_MATRIX + 1))
def test_a_matrix_fits_and_its_columns_stand_under_their_numbers(count: int) -> None:
    lines = shown(count)
    heads = lines[: 2 if count > 20 else 1]
    rows = lines[len(heads) : len(heads) + count]
    assert max(map(len, [*heads, *rows])) <= 80
    for number, row in enumerate(rows):
        # Its own column has the dash, under the last digit of its number.
        place = row.rindex("-")
        assert heads[-1][place] == str((number + 1) % 10)
        if len(heads) == 2 and number >= 9:
            assert heads[0][place] == str((number + 1) // 10)
    assert rows[-1].split()[1] == f"n{count - 1:02}"


def test_more_nodes_are_a_list_that_names_what_is_not_direct() -> None:
    lines = shown(40)
    assert lines[0].startswith("n00  26 direct; 13 by relay: n01, n04, n07, n10, n13 and 8 more")
    assert lines[1].endswith("; not connected to a coordinator")
    assert len(lines) == 42
    assert lines[-1] == "40 nodes, 1560 ordered pairs: 1040 direct, 520 by a relay, 0 looked for."


def test_long_names_are_cut_and_not_the_matrix() -> None:
    found = answer(24)
    for node in found["nodes"]:  # type: ignore[attr-defined]
        node["name"] = "a-very-long-name-of-a-laptop-" + node["name"]
    lines = COLOUR.sub("", mesh_map.text(mesh_map.read(found), 80)).splitlines()
    assert max(map(len, lines[:26])) <= 80
    assert "…" in lines[2]


def test_names_of_several_domains_stay_whole() -> None:
    assert mesh_map.short_names(["a.mesh", "b.mesh"]) == ["a", "b"]
    assert mesh_map.short_names(["a.mesh", "b.other"]) == ["a.mesh", "b.other"]


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"nodes": 5, "paths": "x"},
        {"nodes": [1, None, {"name": 7}], "paths": [{"from": [], "to": {}}]},
        {"nodes": [{"name": "a\x1b[2J\n", "key": "k"}], "paths": [{"from": "k", "to": "gone"}]},
        {
            "nodes": [{"name": "a", "key": "k"}, {"name": "b", "key": "l"}],
            "paths": [{"from": "k", "to": "l", "kind": 5, "rtt_ms": True, "loss": "much"}],
        },
    ],
)
def test_what_is_odd_is_shown_without_harm(odd: dict[str, object]) -> None:
    found = mesh_map.read(odd)
    text = COLOUR.sub("", mesh_map.text(found, 80))
    assert all(x.isprintable() or x == "\n" for x in text)
    json.dumps(mesh_map.as_json(found))


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = []

    def fake(interface: str, question: dict[str, str]) -> dict[str, object]:
        asked.append((interface, question))
        return answer(2)

    monkeypatch.setattr(ask, "ask_agent", fake)
    monkeypatch.setattr(ask, "only_interface", lambda: "wg7")
    assert main(["mesh", "map", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert asked == [("wg7", {"ask": "map"})]
    assert printed["paths"][0] == {
        "from": "n00.mesh",
        "to": "n01.mesh",
        "kind": "relay",
        "via": "192.0.2.1:3478",
        "roundTrip": 0.0124,
        "loss": 0.0,
    }


def test_no_agent_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ask, "only_interface", lambda: "no-such-if")
    assert main(["mesh", "map"]) == 1
    assert "wgpy: the mesh of no-such-if does not run here" in capsys.readouterr().err
