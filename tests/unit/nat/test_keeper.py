"""When the mapping's lifetime is measured, over which socket, and for which network."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from tests.support.stun_world import SQUARE, Nat, Ports, Rule, World
from wgpy.nat.keeper import MAX_NETWORKS, SETTLED_SECONDS, Keeper
from wgpy.nat.lifetime import DAY, USUAL_INTERVAL
from wgpy.nat.place import Place, Send

HOME, WORK = ("192.168.1.1 from 192.168.1.5 by 2",), ("10.0.0.1 from 10.0.0.7 by 2",)
SIDE = 7


class Side:
    """The side socket, in a world: what the keeper sends is taken from here."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.opened: list[int] = []
        self.is_open = False
        self.is_refused = False
        self.keeper = Keeper(cast("Any", self), world.random)
        self.server: Place | None = SQUARE[0]
        self._came: Callable[[bytes, Place], None] = lambda data, place: None
        self._out: list[Send] = []

    # --- What the keeper has of an office ---

    def now(self) -> float:
        return self.world.now

    def open_socket(self, version: int, received: Callable[[bytes, Place], None]) -> "Side | None":
        assert not self.is_open
        self.opened.append(version)
        if self.is_refused:
            return None
        self.is_open, self._came = True, received
        return self

    def send(self, data: bytes, to: Place, ttl: int, whole: bool) -> None:
        assert self.is_open
        self._out.append(Send(data, to._replace(via=SIDE), ttl, whole))

    def close(self) -> None:
        self.is_open = False

    # --- What the world drives ---

    def receive(self, data: bytes, source: Place, now: float) -> None:
        del now
        if self.is_open:
            self._came(data, source._replace(via=0))

    def tick(self, now: float) -> None:
        self.keeper.tick(self.server, now)

    def due(self) -> float | None:
        return self.keeper.due(self.server, self.world.now)

    def take(self) -> list[Send]:
        taken, self._out = self._out, []
        return taken


def behind(nat: Nat) -> Side:
    world = World(nat)
    world.serve(SQUARE)
    side = Side(world)
    side.keeper.network(HOME, world.now)
    return side


@pytest.mark.parametrize(("life", "interval"), [(22.0, 15.0), (200.0, 87.5), (9.0, 5.0)])
def test_the_interval_follows_what_the_router_remembers(life: float, interval: float) -> None:
    side = behind(Nat(life=life))
    assert side.keeper.interval == USUAL_INTERVAL
    side.world.run(side, SETTLED_SECONDS - 1)
    assert side.opened == []
    side.world.run(side, 900.0)
    assert side.keeper.interval == interval
    assert side.opened == [4]
    assert not side.is_open


def test_it_is_measured_once_a_day() -> None:
    side = behind(Nat(life=22.0))
    side.world.run(side, 900.0)
    sent = len(side.world.sent)
    side.world.run(side, DAY - 1000.0)
    assert len(side.world.sent) == sent
    assert isinstance(side.world.nat, Nat)
    side.world.nat.life = 50.0
    side.world.run(side, 1500.0)
    assert side.opened == [4, 4]
    assert side.keeper.interval == USUAL_INTERVAL
    assert side.keeper.counters["lifetime_searches"] == 2


def test_each_network_has_its_own() -> None:
    side = behind(Nat(life=9.0))
    side.world.run(side, 900.0)
    assert side.keeper.interval == 5.0
    side.keeper.network(WORK, side.world.now)
    assert side.keeper.interval == USUAL_INTERVAL
    # It is left in the midst of a search, whose silence would mean nothing.
    side.world.run(side, SETTLED_SECONDS + 20.0)
    assert side.is_open
    side.keeper.network(HOME, side.world.now)
    assert not side.is_open
    assert side.keeper.interval == 5.0
    assert side.keeper.counters["lifetime_broken_off"] == 1
    side.world.run(side, 900.0)
    assert side.opened == [4, 4]


def test_more_networks_than_are_remembered() -> None:
    side = behind(Nat(life=9.0))
    side.world.run(side, 900.0)
    for number in range(MAX_NETWORKS):
        side.keeper.network((f"10.0.{number}.1",), side.world.now)
    side.keeper.network(HOME, side.world.now)
    assert side.keeper.interval == USUAL_INTERVAL


def test_without_a_nat_nothing_is_measured() -> None:
    side = behind(Nat(mapping=Rule.ADDRESS, ports=Ports.RANDOM))
    side.server = None
    side.world.run(side, 2 * DAY)
    assert side.opened == []
    assert side.due() is None


def test_without_a_socket_it_is_tried_again_later() -> None:
    side = behind(Nat(life=22.0))
    side.is_refused = True
    side.world.run(side, SETTLED_SECONDS * 3.5)
    assert len(side.opened) == 3
    side.is_refused = False
    side.world.run(side, 900.0)
    assert side.keeper.interval == 15.0


def test_what_is_stopped_is_silent() -> None:
    side = behind(Nat(life=22.0))
    side.world.run(side, SETTLED_SECONDS + 5.0)
    assert side.is_open
    side.keeper.stop()
    assert not side.is_open
    sent = len(side.world.sent)
    side.world.run(side, DAY)
    assert len(side.world.sent) == sent
