"""The whole check against NATs and servers in memory: every kind, and servers that lie."""

import json
from collections.abc import Callable, Sequence

import pytest

from tests.support.stun_world import INSIDE, OUTSIDE, SQUARE, Nat, Ports, Rule, World
from wgpy.nat.behaviour import Allocation, Behaviour
from wgpy.nat.lifetime import LADDER, Bracket
from wgpy.nat.netcheck import LIFETIME_SOCKETS, Netcheck
from wgpy.nat.netcheck_family import SOCKETS, FamilyCheck, Socket, Target
from wgpy.nat.netcheck_report import PortMapping, Reach, Report, Status
from wgpy.nat.place import Place, Send
from wgpy.nat.stun import Class, Message, Method, pack, parse

A1, A2, B1, B2 = SQUARE
THIRD = Place("198.51.100.1", 3478)
TARGET = Target("stun.example.com", A1)
INDEPENDENT, ADDRESS, BOTH = Rule
BEHAVIOUR = {
    INDEPENDENT: Behaviour.ENDPOINT_INDEPENDENT,
    ADDRESS: Behaviour.ADDRESS_DEPENDENT,
    BOTH: Behaviour.ADDRESS_AND_PORT_DEPENDENT,
}


def sockets(world: World, count: int = SOCKETS) -> list[Socket]:
    return [Socket(via, world.local(via)[:2]) for via in range(1, count + 1)]


def check(
    nat: Nat | None = None,
    *,
    targets: Sequence[Target] = (TARGET,),
    serve: Callable[[World], object] = lambda world: world.serve(SQUARE),
    seconds: float = 20.0,
) -> tuple[Report, World]:
    """Let a check run until it is over, over IPv4, and return what it found."""
    world = World(nat)
    serve(world)
    made = Netcheck(targets, {4: sockets(world)}, world.now, world.random)
    world.run(made, seconds)
    assert made.done
    assert made.due() is None
    return made.report(), world


# --- Every kind of NAT ---


@pytest.mark.parametrize("hairpin", [False, True])
@pytest.mark.parametrize("ports", Ports)
@pytest.mark.parametrize("filtering", Rule)
@pytest.mark.parametrize("mapping", Rule)
def test_every_kind_of_nat_is_told(
    mapping: Rule, filtering: Rule, ports: Ports, hairpin: bool
) -> None:
    if mapping is not INDEPENDENT and ports is Ports.KEPT:
        # Two mappings of one socket cannot both have its port: such a NAT is not there.
        ports = Ports.RANDOM
    report, _ = check(Nat(mapping, filtering, ports, hairpin=hairpin))
    found = report.v4
    assert report.udp
    assert found.status is Status.ANSWERED
    assert found.local == (INSIDE, 40_007)
    assert found.seen is not None
    assert found.seen[0] == OUTSIDE
    assert found.is_translated
    assert found.mapping is BEHAVIOUR[mapping]
    assert found.filtering is BEHAVIOUR[filtering]
    assert found.keeps_ports is (ports is Ports.KEPT)
    assert found.allocation.value == ports.value
    assert (found.step == 1) == (ports is Ports.SEQUENTIAL)
    # A mapping that another destination has nothing of cannot be hit by what comes back.
    if mapping is INDEPENDENT or filtering is INDEPENDENT:
        assert found.hairpin is hairpin


def test_there_is_no_nat() -> None:
    report, _ = check(None)
    assert report.v4.seen == report.v4.local == (OUTSIDE, 40_007)
    assert report.v4.is_translated is False
    assert report.v4.mapping is Behaviour.NONE
    assert report.v4.filtering is Behaviour.ENDPOINT_INDEPENDENT
    assert report.v4.reach is Reach.OPEN
    assert report.v4.hairpin is None


def test_udp_does_not_get_out() -> None:
    report, world = check(Nat(blocked=True))
    assert not report.udp
    assert report.v4.status is Status.SILENT
    assert report.v4.reach is Reach.UNKNOWN
    assert [x.problem for x in report.servers] == ["no answer"]
    assert len(world.sent) == 4, "four requests, and nothing more"
    assert world.now - world.sent[0][0] == 20.0


@pytest.mark.parametrize(
    ("mapping", "filtering", "ports", "reach"),
    [
        (INDEPENDENT, INDEPENDENT, Ports.KEPT, Reach.OPEN),
        (INDEPENDENT, ADDRESS, Ports.RANDOM, Reach.EASY),
        (INDEPENDENT, BOTH, Ports.RANDOM, Reach.USUAL),
        (BOTH, BOTH, Ports.SEQUENTIAL, Reach.GUESSABLE),
        (BOTH, BOTH, Ports.RANDOM, Reach.HARD),
        (ADDRESS, INDEPENDENT, Ports.RANDOM, Reach.HARD),
    ],
)
def test_who_reaches_us(mapping: Rule, filtering: Rule, ports: Ports, reach: Reach) -> None:
    assert check(Nat(mapping, filtering, ports))[0].v4.reach is reach


# --- What the servers are ---


def test_one_address_with_two_ports_tells_less() -> None:
    def serve(world: World) -> None:
        world.serve((A1, A2))

    report, _ = check(Nat(), serve=serve)
    assert report.v4.mapping is Behaviour.PORT_INDEPENDENT
    assert report.v4.filtering is Behaviour.ADDRESS_AND_PORT_DEPENDENT
    report, _ = check(Nat(filtering=ADDRESS), serve=serve)
    assert report.v4.filtering is Behaviour.PORT_INDEPENDENT
    report, _ = check(Nat(mapping=BOTH, ports=Ports.RANDOM), serve=serve)
    assert report.v4.mapping is Behaviour.ADDRESS_AND_PORT_DEPENDENT


def test_two_addresses_with_one_port_tell_less() -> None:
    def serve(world: World) -> None:
        world.serve((A1, B1))

    report, _ = check(Nat(mapping=ADDRESS, ports=Ports.RANDOM), serve=serve)
    assert report.v4.mapping is Behaviour.DEPENDENT
    assert report.v4.filtering is Behaviour.DEPENDENT
    report, _ = check(Nat(filtering=INDEPENDENT), serve=serve)
    assert report.v4.mapping is Behaviour.ENDPOINT_INDEPENDENT
    assert report.v4.filtering is Behaviour.ENDPOINT_INDEPENDENT


def test_two_plain_servers_tell_the_mapping() -> None:
    def serve(world: World) -> None:
        world.serve((A1,))
        world.serve((THIRD,))

    report, _ = check(Nat(), serve=serve, targets=(TARGET, Target("third", THIRD)))
    assert report.v4.mapping is Behaviour.ENDPOINT_INDEPENDENT
    assert report.v4.filtering is Behaviour.UNKNOWN
    assert report.v4.reach is Reach.USUAL


def test_one_plain_server_tells_little() -> None:
    report, _ = check(Nat(), serve=lambda world: world.serve((A1,)))
    assert report.v4.mapping is Behaviour.UNKNOWN
    assert report.v4.filtering is Behaviour.UNKNOWN
    assert report.v4.reach is Reach.UNKNOWN
    assert report.v4.allocation is Allocation.KEPT


def test_the_one_that_can_tell_most_is_asked() -> None:
    """The plain one is nearer; it is not asked for more."""

    def serve(world: World) -> None:
        world.serve((THIRD,))
        world.serve(SQUARE)
        world.further = {A1.host: 0.1, B1.host: 0.1}

    targets = (Target("third", THIRD), TARGET)
    report, world = check(Nat(), serve=serve, targets=targets)
    assert report.v4.filtering is Behaviour.ADDRESS_AND_PORT_DEPENDENT
    assert sum(sent.to[:2] == THIRD[:2] for _, sent in world.sent) == 1
    assert [x.name for x in report.servers] == ["third", "stun.example.com"]
    assert [x.round_trip for x in report.servers] == [pytest.approx(0.02), pytest.approx(0.12)]
    assert report.preferred == report.servers[0]


def test_of_those_that_can_tell_as_much_the_nearer_is_asked() -> None:
    def serve(world: World) -> None:
        world.serve((THIRD, THIRD._replace(port=3479)))
        world.serve((A1, A2))
        world.further = {A1.host: 0.1}

    _, world = check(Nat(), serve=serve, targets=(TARGET, Target("third", THIRD)))
    assert sum(sent.to[:2] == A1[:2] for _, sent in world.sent) == 1


def test_a_server_that_is_away_holds_nothing_up() -> None:
    report, world = check(Nat(), targets=(Target("third", THIRD), TARGET))
    assert report.v4.mapping is Behaviour.ENDPOINT_INDEPENDENT
    away, there = report.servers
    assert (away.round_trip, away.problem) == (None, "no answer")
    assert there.round_trip == pytest.approx(0.02)
    assert report.preferred == there
    # The others' answers were enough after two seconds.
    first = next(when for when, sent in world.sent if sent.to[:2] == B2[:2])
    assert first - world.sent[0][0] == pytest.approx(2.0)


def test_a_server_that_answers_late_still_counts() -> None:
    """None has answered when the others would have been enough."""
    world = World(Nat())
    made = Netcheck((TARGET,), {4: sockets(world)}, world.now, world.random)
    world.run(made, 3.0)
    assert not made.done
    world.serve(SQUARE)
    world.run(made, 10.0)
    assert made.done
    assert made.report().v4.mapping is Behaviour.ENDPOINT_INDEPENDENT
    assert made.report().servers[0].round_trip == pytest.approx(3.52)


def test_a_filter_is_not_claimed_where_the_other_address_is_down() -> None:
    """Nothing comes from there to anybody."""

    def serve(world: World) -> None:
        world.serve(SQUARE)
        world.lose = lambda data, to: B1.host in (to.host, _origin(data))

    report, _ = check(Nat(filtering=ADDRESS), serve=serve)
    assert report.v4.filtering is Behaviour.PORT_INDEPENDENT
    assert report.v4.mapping is Behaviour.PORT_INDEPENDENT


def _origin(data: bytes) -> str | None:
    """Where an answer says that it comes from."""
    found: tuple[str, int] | None = parse(data).attributes.get("RESPONSE-ORIGIN")
    return found and found[0]


def test_losses_change_nothing() -> None:
    """Every third datagram is lost, in both directions."""
    for seed in range(5):
        world = World(Nat(filtering=ADDRESS))
        world.serve(SQUARE)
        count = iter(range(seed, 10**6))
        world.lose = lambda data, to, count=count: next(count) % 3 == 0
        made = Netcheck((TARGET,), {4: sockets(world)}, world.now, world.random)
        world.run(made, 30.0)
        assert made.done
        assert made.report().v4.mapping is Behaviour.ENDPOINT_INDEPENDENT
        assert made.report().v4.filtering is Behaviour.ADDRESS_DEPENDENT


# --- What servers and strangers may say ---


@pytest.mark.parametrize(
    ("server", "other"),
    [
        # A server outside names networks that only we can reach.
        ("8.8.8.8", ("192.168.1.1", 53)),
        ("8.8.8.8", ("100.64.0.1", 53)),
        ("2001:4860::8", ("fd00::1", 53)),
        # Our own machine, no machine, many machines, another version of IP, no port, itself.
        ("192.0.2.1", ("127.0.0.1", 53)),
        ("192.0.2.1", ("0.0.0.0", 53)),
        ("192.0.2.1", ("224.0.0.251", 5353)),
        ("192.0.2.1", ("169.254.169.254", 80)),
        ("192.0.2.1", ("2001:db8::1", 53)),
        ("2001:db8::1", ("fe80::1", 53)),
        ("192.0.2.1", ("192.0.2.2", 0)),
        ("192.0.2.1", ("192.0.2.1", 3478)),
    ],
)
def test_nothing_is_sent_to_where_a_server_may_not_name(
    server: str, other: tuple[str, int]
) -> None:
    place = Place(server, 3478)
    here = [Socket(via, ("10.0.0.2", 4000 + via)) for via in range(1, SOCKETS + 1)]
    made = FamilyCheck([Target("liar", place)], here, 0.0, lambda length: bytes(length))
    answer_all(made, other)
    assert made.done


def answer_all(made: FamilyCheck, other: tuple[str, int]) -> None:
    """Answer every request as one server would, and see that no other place is sent to."""
    now = 0.0
    numbers = iter(range(10**6))
    made._random = made.client._random = lambda length: next(numbers).to_bytes(length, "big")
    while not made.done:
        for sent in made.take():
            server = made._targets[0].place
            assert sent.to[:2] == server[:2]
            attributes = {"XOR-MAPPED-ADDRESS": ("10.0.0.2", 4000 + sent.to.via)}
            attributes["OTHER-ADDRESS"] = other
            reply = Message(
                Method.BINDING, Class.RESPONSE, parse(sent.data).transaction, attributes
            )
            made.receive(pack(reply), sent.to, now)
        now = made.due() or now
        made.tick(now)


def test_a_server_outside_cannot_have_us_send_inside_by_the_address_that_it_saw() -> None:
    place = Place("8.8.8.8", 3478)
    here = [Socket(via, ("10.0.0.2", 4000 + via)) for via in range(1, SOCKETS + 1)]
    numbers = iter(range(10**6))
    made = FamilyCheck(
        [Target("liar", place)], here, 0.0, lambda length: next(numbers).to_bytes(length, "big")
    )
    now = 0.0
    while not made.done:
        for sent in made.take():
            assert sent.to.host == "8.8.8.8"
            seen = {"XOR-MAPPED-ADDRESS": ("192.168.1.1", 53)}
            reply = Message(Method.BINDING, Class.RESPONSE, parse(sent.data).transaction, seen)
            made.receive(pack(reply), sent.to, now)
        now = made.due() or now
        made.tick(now)
    assert made.result().hairpin is None


def test_a_server_that_refuses_shows_no_filter() -> None:
    world = World(Nat())
    responder = world.serve(SQUARE)
    world.serve((A1, A2))._partners[A1] = {6: B2}
    del responder
    made = Netcheck((TARGET,), {4: sockets(world)}, world.now, world.random)
    world.run(made, 20.0)
    # The port was refused, so nothing is known of it; the address was asked for in vain.
    assert made.report().v4.filtering is Behaviour.DEPENDENT


def test_strangers_change_nothing() -> None:
    world = World(Nat())
    world.serve(SQUARE)
    made = Netcheck((TARGET,), {4: sockets(world)}, world.now, world.random)
    made.receive(b"junk", A1._replace(via=1), world.now)
    made.receive(b"junk", Place("2001:db8::1", 1, via=1), world.now)
    forged = Message(
        Method.BINDING, Class.RESPONSE, bytes(12), {"XOR-MAPPED-ADDRESS": ("192.0.2.66", 6)}
    )
    made.receive(pack(forged), A1._replace(via=1), world.now)
    world.run(made, 20.0)
    report = made.report()
    assert report.v4.seen == (OUTSIDE, 40_007)
    assert report.counters["malformed"] == 1
    assert report.counters["unknown_transaction"] == 1


# --- Both versions of IP, and the lifetime ---


def test_ipv6_is_looked_at_beside_ipv4() -> None:
    world = World(None)
    v6 = (Place("2001:db8::1", 3478), Place("2001:db8::1", 3479))
    world.serve(SQUARE)
    world.serve(v6)
    for via in range(21, 26):
        world.ports[via] = 50_000 + via
    sockets_v6 = [Socket(via, ("2001:db8:5::1", 50_000 + via)) for via in range(21, 26)]
    both = {4: sockets(world), 6: sockets_v6}
    targets = (TARGET, Target("stun.example.com", v6[0]), Target("six", v6[1]))
    made = Netcheck(targets, both, world.now, world.random)
    world.run(made, 20.0)
    report = made.report()
    assert report.v4.status is report.v6.status is Status.ANSWERED
    # The world's only address outside is one of IPv4, so it looks like a translation.
    assert report.v6.seen == (OUTSIDE, 50_021)
    assert [x.address for x in report.servers] == [str(x.place) for x in targets]


def test_what_there_is_no_route_for() -> None:
    world = World(None)
    world.serve(SQUARE)
    targets = (TARGET, Target("six", Place("2001:db8::1", 3478)))
    made = Netcheck(targets, {4: sockets(world)}, world.now, world.random)
    world.run(made, 20.0)
    report = made.report()
    assert report.v6.status is Status.NO_ROUTE
    assert report.servers[1].problem == "no route"
    assert Netcheck((TARGET,), {}, 0.0, bytes).report().v6.status is Status.NOT_ASKED
    assert Netcheck((TARGET,), {}, 0.0, bytes).done


@pytest.mark.parametrize(
    ("life", "known", "seconds"),
    [
        (35.0, Bracket(30, 45), 110.0),
        (5.0, Bracket(0, 10), 40.0),
        (500.0, Bracket(180, None), 190.0),
        (150.0, Bracket(120, 180), 385.0),
    ],
)
def test_the_lifetime_is_measured_on_sockets_of_its_own(
    life: float, known: Bracket, seconds: float
) -> None:
    world = World(Nat(life=life))
    world.serve(SQUARE)
    ours = sockets(world, SOCKETS + LIFETIME_SOCKETS)
    made = Netcheck((TARGET,), {4: ours}, world.now, world.random, lifetime=True)
    assert made.report().lifetime is None
    world.run(made, 10.0)
    assert not made.done
    world.run(made, seconds - 10.0)
    assert made.done
    assert made.report().lifetime == known
    late = [sent.to.via for when, sent in world.sent if when > world.sent[0][0] + 2.6]
    assert set(late) == {x.via for x in ours[SOCKETS:]}
    assert len(LADDER) == LIFETIME_SOCKETS


# --- As JSON ---


def test_everything_is_in_the_json() -> None:
    report, _ = check(Nat(filtering=ADDRESS))
    full = Report(
        report.v4,
        report.v6,
        report.servers,
        Bracket(60, 90),
        (PortMapping("NAT-PMP", "10.0.0.1"),),
        is_portal=False,
        counters={"sent": 3},
    )
    found = json.loads(json.dumps(full.as_json()))
    assert found["udp"] is True
    assert found["ipv4"] == {
        "status": "answered",
        "local": "10.0.0.2:40007",
        "seen": "203.0.113.9:40007",
        "nat": True,
        "mapping": "endpoint independent",
        "filtering": "address dependent",
        "keeps_ports": True,
        "allocation": "kept",
        "step": None,
        "hairpin": False,
        "reach": "easy",
    }
    assert found["ipv6"]["status"] == "no server has such an address"
    assert found["ipv6"]["nat"] is None
    assert found["servers"] == [
        {
            "name": "stun.example.com",
            "address": "192.0.2.1:3478",
            "round_trip": pytest.approx(0.02),
            "problem": None,
        }
    ]
    assert found["preferred"] == "stun.example.com"
    assert found["lifetime"] == {"survived": 60, "lost": 90, "keepalive": 27.5}
    assert found["port_mapping"] == [
        {"protocol": "NAT-PMP", "gateway": "10.0.0.1", "outside": None}
    ]
    assert (found["tcp"], found["captive_portal"]) == (None, False)
    assert found["counters"] == {"sent": 3}


def test_what_is_sent_is_bounded() -> None:
    """Whatever is lost: a server hears so many requests at the most, and nobody else any."""
    world = World(Nat())
    world.serve(SQUARE)
    world.lose = lambda data, to: to.host == OUTSIDE and parse(data).kind is Class.RESPONSE
    made = Netcheck((TARGET,), {4: sockets(world)}, world.now, world.random)
    world.run(made, 60.0)
    assert len(world.sent) == 4
    _, world = check(Nat())
    assert len(world.sent) <= 1 + 3 + 4 + 2 * 3 + 2 * 3
    assert all(isinstance(sent, Send) for _, sent in world.sent)
