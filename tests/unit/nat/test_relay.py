"""When a TURN server is tried, and again: names that are not known, and allocations that end."""

import os
from collections.abc import Callable
from typing import Any, cast

import pytest

from wgpy.datapath.contract import Endpoint
from wgpy.device.paths import Transport, TurnSettings, TurnUri
from wgpy.nat.place import Place, Send
from wgpy.nat.relay import AGAIN, Closed, Reached, Relay, Released, Stray
from wgpy.nat.stun import Class, Message, Method, pack, parse
from wgpy.nat.turn_credentials import Credentials, fixed

SERVER = Place("192.0.2.1", 3478)
SETTINGS = TurnSettings((TurnUri("turn.example", 3478, Transport.UDP),), "u", "password", None)
RELAYED = ("192.0.2.1", 50000)
PEER = Place("198.51.100.7", 4000)


class Roads:
    """The data path's part: handles that are never used twice."""

    def __init__(self) -> None:
        self.channels: dict[int, Endpoint | None] = {}
        self.last = 0

    def add_relay(self, server: Endpoint, carrier: int | None) -> int:
        del server, carrier
        self.last += 1
        return self.last

    def set_channel(self, relay: int, number: int, peer: Endpoint | None) -> None:
        del relay
        self.channels[number] = peer

    def remove_via(self, via: int) -> None:
        del via


class World:
    """A resolver and a server that wants no credentials."""

    def __init__(self) -> None:
        self.time = 100.0
        self.names: dict[str, list[Place]] = {"turn.example": [SERVER]}
        self.asked: list[float] = []
        self.said: list[str] = []
        self.roads = Roads()
        # What the server does with a Refresh: its error, 0 for none; and the Allocates it got.
        self.refuses = 0
        self.allocations: list[float] = []
        self.events: list[Reached | Released | Closed | Stray] = []
        source = fixed(Credentials("u", "p"))
        self.relay = Relay(SETTINGS, source, cast("Any", self.roads), cast("Any", self), os.urandom)

    # --- What the relay has of an office ---

    def now(self) -> float:
        return self.time

    def find(self, name: str, port: int, found: Callable[[list[Place]], None]) -> None:
        del port
        self.asked.append(self.time)
        found(self.names.get(name, []))

    def log(self, text: str, *, problem: bool = False) -> None:
        del problem
        self.said.append(text)

    # --- Time, and the server ---

    def run(self, seconds: float) -> None:
        end = self.time + seconds
        self._deliver()
        # After whatever happened, as the agent does.
        self.relay.tick(self.time)
        self._deliver()
        while (due := self.relay.due()) is not None and due <= end:
            self.time = max(self.time, due)
            self.relay.tick(self.time)
            self._deliver()
        self.time = end

    def _deliver(self) -> None:
        while items := self.relay.take():
            for item in items:
                if isinstance(item, Send):
                    self._serve(item)
                else:
                    self.events.append(item)

    def _serve(self, sent: Send) -> None:
        question = parse(sent.data)
        attributes: dict[str, Any] = {"LIFETIME": 600}
        kind = Class.RESPONSE
        if question.method is Method.ALLOCATE:
            self.allocations.append(self.time)
            attributes |= {"XOR-RELAYED-ADDRESS": RELAYED, "XOR-MAPPED-ADDRESS": RELAYED}
        elif question.method is Method.REFRESH and self.refuses:
            kind, attributes = Class.ERROR, {"ERROR-CODE": (self.refuses, "")}
        reply = pack(Message(question.method, kind, question.transaction, attributes))
        self.relay.receive(reply, SERVER, self.time)


def test_a_name_that_is_not_known_is_asked_for_again() -> None:
    world = World()
    world.names = {}
    world.relay.start(world.time)
    world.run(30.0)
    assert [when - 100.0 for when in world.asked] == pytest.approx([0, 1, 3, 7, 15])
    assert world.relay.is_settled
    world.names = {"turn.example": [SERVER]}
    world.run(20.0)
    assert world.relay.relayed == Place(*RELAYED)


def test_an_allocation_is_not_certain_until_the_server_answers_from_another_network() -> None:
    world = World()
    world.relay.start(world.time)
    world.run(5.0)
    assert world.relay.is_settled
    for refuses, allocations in ((0, 1), (437, 2)):
        world.refuses = refuses
        world.time += 60
        world.relay.network_changed(world.time)
        assert not world.relay.is_settled
        world.run(0.5)
        assert world.relay.is_settled
        assert len(world.allocations) == allocations


def test_an_allocation_that_lasted_is_missed_at_once() -> None:
    world = World()
    world.relay.start(world.time)
    world.run(10.0)
    assert len(world.allocations) == 1
    world.refuses = 437
    world.relay.network_changed(world.time)
    world.run(0.0)
    assert len(world.allocations) == 2
    # One that is gone again at once is not.
    world.relay.network_changed(world.time)
    world.run(AGAIN - 0.1)
    assert len(world.allocations) == 2
    world.run(0.2)
    assert len(world.allocations) == 3


def test_a_relay_that_is_doubted_says_whether_it_lives() -> None:
    world = World()
    world.relay.start(world.time)
    world.relay.bind([PEER], world.time)
    world.run(10.0)
    world.relay.check(world.time)
    world.run(0.0)
    assert world.relay.via == 1
    world.refuses = 437
    world.run(5.0)
    world.relay.check(world.time)
    world.run(0.0)
    assert world.events[-2:] == [Closed(1), Reached(PEER._replace(via=2, channel=0x4000))]


def test_a_channel_that_nobody_wants_is_released() -> None:
    world = World()
    world.relay.start(world.time)
    world.relay.bind([PEER], world.time)
    world.run(1.0)
    (reached,) = world.events
    assert isinstance(reached, Reached)
    world.relay.bind([], world.time)
    world.run(0.0)
    assert world.events[-1] == Released(reached.place)
    assert world.roads.channels == {reached.place.channel: None}


def test_what_lives_is_counted_as_well() -> None:
    world = World()
    world.relay.start(world.time)
    world.run(1.0)
    assert world.relay.counted()["allocated"] == 1
    world.relay.stop(world.time)
    world.run(5.0)
    assert world.relay.counted()["allocated"] == 1
