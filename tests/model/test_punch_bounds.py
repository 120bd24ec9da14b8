"""Whatever happens to two pathfinders: bounds hold, packets go to proved places, and once the world
is whole again the two find each other.

What happens is a list of events: the network breaks and heals, NATs forget, machines move and
sleep, relays die, peers lie, strangers send what they recorded. The fake node asserts by itself
that no packet goes to a place that has not answered.
"""

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.fake_houses import KINDS, facts_of, houses, make_nat
from tests.support.fake_nat import Host
from tests.support.fake_node import PORT, PROBE
from wgpy.nat.candidates import MAX_CANDIDATES, Candidate, Kind
from wgpy.nat.facts import UNKNOWN
from wgpy.nat.orders import Carrier
from wgpy.nat.place import Place

EVENTS = (
    "wait",
    "wait",
    "traffic",
    "cut",
    "heal",
    "lossy",
    "reboot",
    "move",
    "sleep",
    "relay dies",
    "relay lives",
    "signals stop",
    "signals go",
    "network changed",
    "tell again",
    "tell nothing",
    "lie",
    "replay",
    "stray",
    "forge",
    "no sockets",
    "socket gone",
)
happenings = st.lists(
    st.tuples(st.sampled_from(EVENTS), st.integers(0, 1), st.floats(0.001, 12)), max_size=25
)
LIES = [
    Candidate(Kind.REFLEXIVE, f"192.0.2.{number}", 80 + number) for number in range(MAX_CANDIDATES)
]
ATTACKER = "192.0.2.200"


class Life:
    """A pair, and what can happen to it."""

    def __init__(self, pair):
        self.pair = pair
        self.world = pair.world
        self.attacker = Host(self.world, ATTACKER)
        self.attacker.bind(7, lambda packet: None)
        self.moves = 0
        self.honest = [node.finder._meeting._content for node in pair.nodes]

    def happen(self, what, which, seconds):
        node = self.pair.nodes[which]
        getattr(self, "do_" + what.replace(" ", "_"))(node, which, seconds)
        self.world.run(seconds)
        for each in self.pair.nodes:
            self.check(each)

    def do_wait(self, node, which, seconds):
        pass

    def do_traffic(self, node, which, seconds):
        end = self.world.now + seconds

        def one():
            if self.world.now < end:
                node.send_packet(1)
                self.world.after(0.05, one)

        one()

    def do_cut(self, node, which, seconds):
        publics = [self.public(each) for each in self.pair.nodes]
        self.world.cut.add(frozenset(publics))

    def do_heal(self, node, which, seconds):
        self.world.cut.clear()
        self.world.loss = 0.0

    def do_lossy(self, node, which, seconds):
        self.world.loss = 0.3

    def do_reboot(self, node, which, seconds):
        self.nat(node).reboot()

    def do_move(self, node, which, seconds):
        self.moves += 1
        kind = KINDS[self.moves % len(KINDS)]
        nat = make_nat(self.world, kind, f"203.0.113.{100 + self.moves}")
        facts = facts_of(nat, birthday=node.facts.birthday)
        node.move(Host(self.world, f"10.9.{self.moves}.2", nat), facts)

    def do_sleep(self, node, which, seconds):
        node.pause(True)
        self.world.run(seconds * 20)
        node.pause(False)
        node.finder.network_changed(self.world.now)
        node.settle()
        node.start()

    def do_relay_dies(self, node, which, seconds):
        self.pair.relay.alive = False

    def do_relay_lives(self, node, which, seconds):
        self.pair.relay.alive = True

    def do_signals_stop(self, node, which, seconds):
        self.pair.post.loss = 1.0

    def do_signals_go(self, node, which, seconds):
        self.pair.post.loss = 0.0

    def do_network_changed(self, node, which, seconds):
        node.finder.network_changed(self.world.now)
        node.settle()

    def do_tell_again(self, node, which, seconds):
        node.start()

    def do_tell_nothing(self, node, which, seconds):
        node.finder.local([], UNKNOWN, self.world.now)
        node.settle()

    def do_lie(self, node, which, seconds):
        """From now on this side claims to be at ten places of others."""
        honest = self.honest[which]
        node.finder._meeting._content = lambda told: replace(honest(told), candidates=tuple(LIES))

    def do_replay(self, node, which, seconds):
        for _, send in self.pair.nodes[1 - which].sent[-30:]:
            self.attacker.send(7, (self.public(node), PORT), send.data)

    def do_stray(self, node, which, seconds):
        """Genuine probes of the other side come from many places, as only one on the path could
        make them."""
        other = self.pair.nodes[1 - which]
        for number in range(60):
            sent = other.finder._prober.ask(Place("192.0.2.9", 9), self.world.now, None)
            if sent is not None:
                node.arrive(sent.data, Place(f"198.51.100.{number % 50}", 100 + number))

    def do_forge(self, node, which, seconds):
        for path_id in node.path_ids[:4]:
            data = bytes([PROBE, 0, 0, 0]) + path_id + self.world.random.randbytes(84)
            node.arrive(data, Place(ATTACKER, 7))
        node.finder.heard(Place(ATTACKER, 7), self.world.now)
        node.finder.signal(self.world.random.randbytes(353), self.world.now)
        node.settle()

    def do_no_sockets(self, node, which, seconds):
        node.fails_to_open = not node.fails_to_open

    def do_socket_gone(self, node, which, seconds):
        if node.used is not None and node.used.via in node.opened:
            via = node.used.via
            node.host.unbind(node.opened.pop(via))
            node.finder.gone(via, self.world.now)
            node.settle()

    def nat(self, node):
        return node.host.gateway

    def public(self, node):
        return self.nat(node).public

    def check(self, node):
        """The bounds, from the books of what was sent to whom before it had answered."""
        birthday = node.facts.birthday
        per_place, per_second = (10, 50) if not birthday else (256 + 10, 50 + 204)
        assert most_in(node.books.probes, 1.0) <= per_second
        assert most_in(node.books.answers, 1.0) <= 100
        for books, bound in ((node.books.probes, per_place), (node.books.answers, 10)):
            for place in {place for _, place in books}:
                assert most_in([each for each in books if each[1] == place], 5.0) <= bound
        assert len(node.opened) <= (258 if birthday else 3)
        assert len(node.path_ids) <= 16
        assert len(node.finder._ways.paths) <= 40
        if node.used is not None:
            assert node.used in node.answered_from

    def mend(self):
        """Everything is as it was, and both sides know where they are."""
        self.world.cut.clear()
        self.world.loss = self.pair.post.loss = 0.0
        self.pair.relay.alive = True
        for node, honest in zip(self.pair.nodes, self.honest, strict=True):
            node.finder._meeting._content = honest
            node.fails_to_open = False
            node.finder.network_changed(self.world.now)
            node.settle()
            node.start()


def most_in(sent, seconds):
    """The most that was sent in any such time."""
    times, most, first = [when for when, _ in sent], 0, 0
    for last, when in enumerate(times):
        while when - times[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def live(first, second, seed, steps, **more):
    life = Life(houses(first, second, seed, **more))
    life.pair.start()
    for step in steps:
        life.happen(*step)
    life.mend()
    world = life.world
    world.run(40, until=lambda: all(x.carrier is not Carrier.NONE for x in life.pair.nodes))
    assert all(node.carrier is not Carrier.NONE for node in life.pair.nodes)


relaxed = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
kinds = st.sampled_from(["full", "addr", "port", "sym", "symseq", "naive", "blocked"])


@relaxed
@given(kinds, kinds, st.integers(0, 1000), happenings)
def test_bounds_hold_and_peers_meet_again(first, second, seed, steps):
    live(first, second, seed, steps)


@settings(relaxed, max_examples=12)
@given(st.sampled_from(["sym", "symaddr"]), st.integers(0, 1000), happenings)
def test_bounds_of_the_birthday_method(kind, seed, steps):
    live("port", kind, seed, steps, birthday=True)
