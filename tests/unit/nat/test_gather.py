"""Where we may be found, from made-up servers on a made-up clock."""

import itertools
import os

import pytest

from wgpy.ip import parse_prefix
from wgpy.nat.behaviour import Behaviour
from wgpy.nat.candidates import Candidate, Kind, Refused
from wgpy.nat.gather import RETRY, Gatherer, behaviour
from wgpy.nat.lifetime import USUAL_INTERVAL
from wgpy.nat.place import Place, Send
from wgpy.nat.stun import Class, Message, Method, pack, parse
from wgpy.nat.stun_client import Answer

PORT = 51820
ONE, TWO, THREE = (Place(f"198.51.100.{n}", 3478) for n in (1, 2, 3))
PUBLIC = ("203.0.113.7", 40000)


def answer(server: Place, mapped: tuple[str, int]) -> Answer:
    return Answer(bytes(12), server, mapped, None, 0.02, 1)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([], (Behaviour.UNKNOWN, 0)),
        ([(ONE, 40000)], (Behaviour.UNKNOWN, 0)),
        ([(ONE, 40000), (TWO, 40000)], (Behaviour.ENDPOINT_INDEPENDENT, 0)),
        # Two ports of one address say nothing of other addresses.
        ([(ONE, 40000), (ONE._replace(port=3479), 40000)], (Behaviour.UNKNOWN, 0)),
        ([(ONE, 40000), (TWO, 40001)], (Behaviour.ADDRESS_AND_PORT_DEPENDENT, 1)),
        ([(ONE, 40000), (TWO, 39998), (THREE, 39996)], (Behaviour.ADDRESS_AND_PORT_DEPENDENT, -2)),
        # Somebody else took one in between.
        ([(ONE, 40000), (TWO, 40002), (THREE, 40003)], (Behaviour.ADDRESS_AND_PORT_DEPENDENT, 1)),
        ([(ONE, 40000), (TWO, 61234), (THREE, 1044)], (Behaviour.ADDRESS_AND_PORT_DEPENDENT, 0)),
        ([(ONE, 40000), (TWO, 40001), (THREE, 39999)], (Behaviour.ADDRESS_AND_PORT_DEPENDENT, 0)),
        (
            [(ONE, 40000), (ONE._replace(port=3479), 40000), (TWO, 52000)],
            (Behaviour.ADDRESS_DEPENDENT, 0),
        ),
    ],
)
def test_the_mapping_is_read_from_what_servers_see(
    seen: list[tuple[Place, int]], expected: tuple[Behaviour, int]
) -> None:
    assert behaviour([answer(server, (PUBLIC[0], port)) for server, port in seen]) == expected


class Road:
    """A gatherer and servers that answer, each with what `sees` has for it."""

    def __init__(self, sees: dict[Place, tuple[str, int]]) -> None:
        self.sees = sees
        self.now = 100.0
        self.asked: list[tuple[float, Place]] = []
        self.gatherer = Gatherer(os.urandom)
        self.gatherer.set_servers([ONE, TWO])

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            self.gatherer.tick(self.now)
            while sends := self.gatherer.take():
                for send in sends:
                    self.serve(send)
            due = self.gatherer.due()
            if due is None or due > end:
                break
            self.now = max(self.now, due)
        self.now = end

    def serve(self, send: Send) -> None:
        self.asked.append((self.now, send.to))
        if send.to in self.sees:
            question = parse(send.data)
            attributes = {"XOR-MAPPED-ADDRESS": self.sees[send.to]}
            reply = Message(Method.BINDING, Class.RESPONSE, question.transaction, attributes)
            self.gatherer.receive(pack(reply), send.to, self.now)


def test_hosts_and_what_servers_see_are_candidates() -> None:
    road = Road({ONE: PUBLIC, TWO: PUBLIC})
    refused = Refused((parse_prefix("10.7.0.0/16"),))
    road.gatherer.set_hosts(["192.168.1.5", "10.7.0.1", "127.0.0.1"], refused)
    road.gatherer.bound(PORT, road.now)
    assert not road.gatherer.is_settled
    road.run(1.0)
    assert set(road.gatherer.candidates) == {
        Candidate(Kind.HOST, "192.168.1.5", PORT),
        Candidate(Kind.REFLEXIVE, *PUBLIC),
    }
    assert road.gatherer.facts.mapping is Behaviour.ENDPOINT_INDEPENDENT
    assert road.gatherer.is_settled


def test_the_mapping_is_used_again_before_it_dies() -> None:
    """By one server, where all have seen the same."""
    road = Road({ONE: PUBLIC, TWO: PUBLIC})
    road.gatherer.bound(PORT, road.now)
    road.run(3 * USUAL_INTERVAL + 1)
    assert [place for _, place in road.asked] == [ONE, TWO] + [TWO] * 3
    assert road.gatherer.counters["stun_rounds"] == 1
    assert road.gatherer.counters["stun_looks"] == 3


def test_one_server_of_each_family_keeps_the_mapping() -> None:
    six, seven = Place("2001:db8::1", 3478), Place("2001:db8::2", 3478)
    there = ("2001:db8:1::5", 51820)
    road = Road({ONE: PUBLIC, TWO: PUBLIC, six: there, seven: there})
    road.gatherer.set_servers([ONE, TWO, six, seven])
    road.gatherer.bound(PORT, road.now)
    road.run(USUAL_INTERVAL + 1)
    assert [place for _, place in road.asked] == [ONE, TWO, six, seven, TWO, seven]


@pytest.mark.parametrize(
    "sees",
    [
        {ONE: (PUBLIC[0], 40001), TWO: (PUBLIC[0], 40001)},
        # It has seen nothing else, and is away.
        {ONE: PUBLIC},
    ],
    ids=["elsewhere", "silent"],
)
def test_where_that_one_sees_another_or_nothing_all_are_asked(
    sees: dict[Place, tuple[str, int]],
) -> None:
    road = Road({ONE: PUBLIC, TWO: PUBLIC})
    road.gatherer.bound(PORT, road.now)
    road.run(1.0)
    road.sees = sees
    road.run(USUAL_INTERVAL + 10)
    assert road.gatherer.candidates == (Candidate(Kind.REFLEXIVE, *sees[ONE]),)
    assert road.gatherer.counters["stun_rounds"] == 2
    assert road.gatherer.counters["stun_looks"] == 1


@pytest.mark.parametrize("ports", [(40001, 40002), (40001,)], ids=["depends", "one server"])
def test_all_are_asked_where_that_tells_more(ports: tuple[int, ...]) -> None:
    servers = [ONE, TWO][: len(ports)]
    road = Road({x: (PUBLIC[0], port) for x, port in zip(servers, ports, strict=True)})
    road.gatherer.set_servers(servers)
    road.gatherer.bound(PORT, road.now)
    road.run(2 * USUAL_INTERVAL + 1)
    assert [place for _, place in road.asked] == servers * 3


def test_who_wants_all_to_be_asked_meanwhile_gets_that() -> None:
    road = Road({ONE: PUBLIC, TWO: PUBLIC})
    road.gatherer.bound(PORT, road.now)
    road.run(1.0)
    road.sees = {}
    while len(road.asked) < 3:
        road.run(0.1)
    # The look is under way.
    road.gatherer.again(road.now)
    road.run(0.1)
    road.sees = {ONE: PUBLIC, TWO: PUBLIC}
    road.run(1.0)
    assert road.gatherer.counters["stun_looks"] == 1
    assert road.gatherer.counters["stun_rounds"] == 2


def test_silent_servers_are_asked_less_and_less_often() -> None:
    road = Road({})
    road.gatherer.bound(PORT, road.now)
    road.run(300.0)
    rounds = [when for when, place in road.asked if place == ONE][::4]
    pauses = [after - before - 5.0 for before, after in itertools.pairwise(rounds)]
    assert pauses[: len(RETRY)] == pytest.approx(RETRY[: len(pauses)])
    assert road.gatherer.is_settled
    assert road.gatherer.counters["stun_silent"] >= 4


def test_another_network_forgets_what_was_seen() -> None:
    road = Road({ONE: PUBLIC, TWO: PUBLIC})
    road.gatherer.bound(PORT, road.now)
    road.run(5.0)
    road.sees = {ONE: ("192.0.2.9", 5), TWO: ("192.0.2.9", 5)}
    road.gatherer.forget(road.now)
    assert road.gatherer.candidates == ()
    road.run(1.0)
    assert road.gatherer.candidates == (Candidate(Kind.REFLEXIVE, "192.0.2.9", 5),)


def test_the_other_address_of_a_server_is_asked_as_well() -> None:
    """RFC 5780: so that one server with two addresses shows the mapping."""
    road = Road({ONE: PUBLIC})
    road.gatherer.set_servers([ONE])

    def with_other(send: Send) -> None:
        if send.to != ONE:
            road.asked.append((road.now, send.to))
            return
        question = parse(send.data)
        attributes = {"XOR-MAPPED-ADDRESS": PUBLIC, "OTHER-ADDRESS": (TWO.host, 3479)}
        reply = Message(Method.BINDING, Class.RESPONSE, question.transaction, attributes)
        road.gatherer.receive(pack(reply), ONE, road.now)

    road.serve = with_other  # type: ignore[method-assign]
    road.gatherer.bound(PORT, road.now)
    road.run(0.1)
    assert Place(TWO.host, 3479) in [place for _, place in road.asked]
    assert Place(TWO.host, 3479) in road.gatherer.sources


def test_what_was_asked_in_the_former_network_holds_nothing_up() -> None:
    road = Road({})
    road.gatherer.bound(PORT, road.now)
    road.run(0.1)
    road.sees = {ONE: PUBLIC, TWO: PUBLIC}
    road.gatherer.forget(road.now)
    road.run(0.01)
    assert road.gatherer.candidates == (Candidate(Kind.REFLEXIVE, *PUBLIC),)


def test_who_sees_us_where_we_are_is_no_translator() -> None:
    road = Road({ONE: PUBLIC, TWO: PUBLIC})
    road.gatherer.bound(PORT, road.now)
    assert road.gatherer.translator is None
    road.run(1.0)
    assert road.gatherer.translator == ONE
    road.gatherer.set_hosts([PUBLIC[0]], Refused())
    assert road.gatherer.translator is None


def test_servers_of_ipv6_that_are_out_of_reach_are_not_waited_for() -> None:
    road = Road({ONE: PUBLIC, TWO: PUBLIC})
    road.gatherer.set_servers([ONE, TWO, Place("2001:db8::1", 3478)])
    road.gatherer.bound(PORT, road.now)
    road.run(0.1)
    assert road.gatherer.facts.mapping is Behaviour.ENDPOINT_INDEPENDENT


def test_a_server_that_is_away_is_waited_for_until_it_is_asked_again() -> None:
    road = Road({ONE: ("203.0.113.7", 40001), TWO: ("203.0.113.7", 40002)})
    road.gatherer.set_servers([ONE, TWO, THREE])
    road.gatherer.bound(PORT, road.now)
    road.run(0.4)
    assert road.gatherer.facts.mapping is Behaviour.UNKNOWN
    road.run(0.2)
    assert road.gatherer.facts.is_sequential
