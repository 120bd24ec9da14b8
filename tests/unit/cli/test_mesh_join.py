"""What `wgpy mesh join` says while the agent joins, and what it returns; on a fake clock."""

from collections.abc import Iterable
from typing import Any

import pytest

from wgpy.cli.errors import CommandError
from wgpy.cli.mesh_join import JOINED, NOT_JOINED, PENDING, read_line, watch


class Look:
    """An agent whose answers come one after the other, and a clock that goes on by sleeping."""

    def __init__(self, answers: Iterable[dict[str, Any] | None]) -> None:
        self.answers = list(answers)
        self.said: list[str] = []
        self.now = 0.0

    def ask(self) -> dict[str, Any] | None:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def watch(self, seconds: float = 60.0) -> int | None:
        return watch("mesh0", seconds, self.ask, self.said.append, lambda: self.now, self.sleep)


def status(state: str, **more: Any) -> dict[str, Any]:
    return {"state": state, "reason": "", "problem": "", "ended": False, **more}


IN = status(
    "connected",
    name="laptop.mesh",
    addresses=["10.7.0.2", "fd07::2"],
    nodes=[{"name": "gate.mesh"}],
    directory_revision=3,
)


def test_who_is_in_is_welcomed() -> None:
    look = Look([None, status("joining"), status("alone"), IN])
    assert look.watch() == JOINED
    assert look.said == ["This machine is laptop.mesh, 10.7.0.2, fd07::2; 1 other node."]


def test_it_is_in_when_it_knows_who_else_is() -> None:
    look = Look([{**IN, "directory_revision": 0, "nodes": []}, IN])
    assert look.watch() == JOINED
    assert "1 other node" in look.said[0]


def test_an_operator_is_waited_for_elsewhere() -> None:
    look = Look([status("joining"), status("pending")])
    assert look.watch() == PENDING
    assert "approve" in look.said[0]


def test_what_is_for_ever_is_said_once() -> None:
    look = Look([status("joining", ended=True, reason="this invitation is spent")])
    assert look.watch() is None
    assert look.said == ["wgpy: this invitation is spent"]


def test_time_is_up() -> None:
    look = Look([status("joining", reason="it does not answer")])
    assert look.watch(10.0) == NOT_JOINED
    assert look.said[0] == "Not yet: it does not answer"
    assert "goes on in the background" in look.said[-1]
    assert len(look.said) == 2


def test_an_agent_that_does_not_run_is_told_of() -> None:
    with pytest.raises(CommandError, match="`wgpy mesh run mesh0` says why"):
        Look([None]).watch()


@pytest.mark.parametrize("text", ["", "hello", "wgpy-join:AAAA", "wgpy1:abc"])
def test_what_is_no_line_is_one_sentence(text: str) -> None:
    with pytest.raises(CommandError) as caught:
        read_line(text)
    assert "\n" not in str(caught.value)
