"""The names of STUN servers, by a resolver that is away for a while."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from wgpy.nat.names import RETRY, ServerNames
from wgpy.nat.place import Place

ONE, TWO = ("one.example", 3478), ("two.example", 3479)
V4, V6, OTHER = Place("192.0.2.1", 3478), Place("2001:db8::1", 3478), Place("192.0.2.9", 3478)


class Resolver:
    """Answers at once, with what `knows` has."""

    def __init__(self) -> None:
        self.time = 100.0
        self.knows: dict[str, list[Place]] = {}
        self.asked: list[tuple[float, str]] = []
        self.told: list[list[Place]] = []
        self.names = ServerNames(cast("Any", self), self.told.append)

    def now(self) -> float:
        return self.time

    def find(self, name: str, port: int, found: Callable[[list[Place]], None]) -> None:
        del port
        self.asked.append((self.time, name))
        found(self.knows.get(name, []))

    def run(self, seconds: float) -> None:
        end = self.time + seconds
        while (due := self.names.due()) is not None and due <= end:
            self.time = max(self.time, due)
            self.names.tick(self.time)
        self.time = end


def test_of_each_server_one_address_of_each_family() -> None:
    resolver = Resolver()
    resolver.knows = {"one.example": [V4, OTHER, V6], "two.example": [OTHER]}
    resolver.names.configure([ONE, TWO])
    assert resolver.told == [[V4, V6], [V4, V6, OTHER]]
    assert resolver.names.due() is None


def test_what_is_not_known_is_asked_for_again() -> None:
    resolver = Resolver()
    resolver.knows = {"one.example": [V4]}
    resolver.names.configure([ONE, TWO])
    resolver.run(200.0)
    times = [when - 100.0 for when, name in resolver.asked if name == "two.example"]
    assert times[:5] == pytest.approx([0.0, *(sum(RETRY[: n + 1]) for n in range(4))])
    assert [name for _, name in resolver.asked].count("one.example") == 1
    resolver.knows["two.example"] = [OTHER]
    resolver.run(60.0)
    assert resolver.told[-1] == [V4, OTHER]
    assert resolver.names.due() is None


def test_in_another_network_a_name_may_lead_elsewhere() -> None:
    resolver = Resolver()
    resolver.knows = {"one.example": [V4]}
    resolver.names.configure([ONE])
    resolver.names.ask()
    assert resolver.told == [[V4]]
    resolver.knows["one.example"] = [OTHER]
    resolver.names.ask()
    assert resolver.told == [[V4], [OTHER]]
    # A resolver that is away takes nothing back.
    resolver.knows.clear()
    resolver.names.ask()
    assert resolver.told == [[V4], [OTHER]]


def test_an_answer_that_comes_too_late_is_of_no_use() -> None:
    resolver = Resolver()
    late: list[Callable[[list[Place]], None]] = []
    resolver.find = lambda name, port, found: late.append(found)  # type: ignore[method-assign]
    resolver.names.configure([ONE])
    resolver.names.configure([])
    late[0]([V4])
    assert resolver.told == []
