"""`wgpy mesh routes`: what is asked of the agent, and what is shown."""

import json
from typing import Any

import pytest

from wgpy.cli import main, mesh_routes, style
from wgpy.cli.errors import CommandError
from wgpy.cli.mesh_routes import change_for
from wgpy.mesh import ask

FOUND: dict[str, Any] = {
    "accept": ["10.1.0.0/16", "router.mesh"],
    "taken": [{"prefix": "10.1.0.0/16", "node": "router.mesh"}],
    "exit": "gate.mesh",
    "exit_versions": [4],
    "guarded": True,
    "offers": [
        {"node": "gate.mesh", "prefixes": ["0.0.0.0/0"]},
        {"node": "router.mesh", "prefixes": ["10.1.0.0/16", "10.2.0.0/16"]},
    ],
    "offered": ["10.3.0.0/16"],
    "asked": ["10.3.0.0/16", "10.4.0.0/16"],
    "masquerade": True,
    "said": ["10.2.0.0/16 of \x1b[2Jrouter.mesh is not taken"],
    "problem": "",
}


@pytest.mark.parametrize(
    ("action", "words", "change"),
    [
        ("accept", ["10.5.1.2/16", "Desk"], {"accept": [*FOUND["accept"], "10.5.0.0/16", "desk"]}),
        ("accept", ["10.1.0.0/16"], {"accept": FOUND["accept"]}),
        ("drop", ["10.1.0.0/16"], {"accept": ["router.mesh"]}),
        ("drop", ["all"], {"accept": []}),
        ("exit", ["Gate"], {"exit": "gate"}),
        ("exit", ["off"], {"exit": None}),
        ("offer", ["10.3.0.0/16"], {"offer": ["10.3.0.0/16"], "masquerade": True}),
        ("offer", ["exit"], {"offer": ["0.0.0.0/0", "::/0"], "masquerade": True}),
        ("offer", ["off"], {"offer": [], "masquerade": True}),
    ],
)
def test_what_changes(action: str, words: list[str], change: dict[str, Any]) -> None:
    assert change_for(action, words, FOUND, masquerade=True) == change


@pytest.mark.parametrize(
    ("action", "words", "reason"),
    [
        ("accept", [], "needs a word more"),
        ("accept", ["0.0.0.0/0"], "is an exit"),
        ("accept", ["10.0.0.0/99"], "prefix length over 32"),
        ("accept", [f"10.{x}.0.0/16" for x in range(256)], "more than 256"),
        ("drop", ["10.9.9.0/24"], "is not accepted here; what is: 10.1.0.0/16, router.mesh"),
        ("exit", ["a", "b"], "one exit at a time"),
        ("exit", ["10.1.0.0/16"], "an exit is a node"),
        ("offer", ["desk"], "is no prefix"),
        ("offer", [f"10.{x}.0.0/16" for x in range(17)], "16 prefixes at the most"),
    ],
)
def test_what_makes_no_sense_is_said(action: str, words: list[str], reason: str) -> None:
    with pytest.raises(CommandError, match=reason):
        change_for(action, words, FOUND)


def test_what_people_see() -> None:
    assert "\x1b[2J" not in mesh_routes.text(FOUND)
    assert style.COLOUR.sub("", mesh_routes.text(FOUND)).splitlines() == [
        "offered by others",
        "  taken  0.0.0.0/0                gate.mesh  (an exit)",
        "  taken  10.1.0.0/16              router.mesh",
        "  -----  10.2.0.0/16              router.mesh",
        "accepted here: 10.1.0.0/16, router.mesh",
        "exit: gate.mesh, IPv4",
        "offered here: 10.3.0.0/16 (masqueraded)",
        "! an operator has yet to approve 10.4.0.0/16",
        f"! {style.printable(FOUND['said'][0])}",
    ]


def test_an_agent_that_knows_nothing_and_one_that_is_blocked() -> None:
    lines = mesh_routes.text({"exit": None, "guarded": True, "problem": "no link"}).splitlines()
    plain = [style.COLOUR.sub("", x) for x in lines]
    assert plain[1:4] == [
        "  nothing",
        "accepted here: nothing",
        "exit: none; its guard is still in force",
    ]
    assert plain[-1] == "! no link"
    blocked = mesh_routes.text({"exit": "gate.mesh", "exit_versions": []})
    assert "everything is blocked" in blocked


def test_the_agent_is_asked_and_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def answer(interface: str, question: dict[str, Any]) -> dict[str, Any]:
        asked.append((interface, question))
        return {"routes": FOUND}

    monkeypatch.setattr(ask, "ask_agent", answer)
    assert main(["mesh", "routes", "--interface", "m0", "--json", "exit", "off"]) == 0
    assert json.loads(capsys.readouterr().out) == FOUND
    assert asked == [("m0", {"ask": "routes"}), ("m0", {"ask": "routes", "exit": None})]
    assert main(["mesh", "routes", "--interface", "m0", "--masquerade"]) == 1
    assert "is for `wgpy mesh routes offer`" in capsys.readouterr().err
