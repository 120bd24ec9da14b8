"""Daemons among people who forge, replay, flood and lie: all is counted, and the tunnel stays.

                 gate (public)      server (STUN, TURN)      mallory      victim
      internet ────┴───────────────────┴─────────────────────────┴────────────┴──── office ── bob

The gate has no router in front of it, so that everything that is sent there gets there.
"""

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import wait_until
from tests.support.managed import BOTH
from tests.support.natlab import Host, Lab, Nat, Router
from tests.support.natlab.hostile import Forger, Tap
from tests.support.natlab.site import Site, way
from tests.support.natlab.station import Station
from tests.support.programs import WGPY, Implementation
from wgpy.device.paths import PathKind
from wgpy.keys import PrivateKey, PublicKey
from wgpy.nat.budget import DESTINATION_SECONDS, PER_DESTINATION
from wgpy.nat.candidates import Candidate, Kind
from wgpy.nat.facts import NatFacts
from wgpy.nat.rendezvous import Answered, Rendezvous
from wgpy.nat.sealed import PathKeys, path_keys
from wgpy.nat.signal_file import FileSignal, tag
from wgpy.nat.signal_message import MESSAGE_LENGTH, SignalKind, SignalMessage
from wgpy.nat.stun import Class, Message, Method, pack
from wgpy.protocol.constants import TYPE_PROBE, TYPE_PROBE_REPLY
from wgpy.protocol.handshake import Local, Remote

pytestmark = [
    pytest.mark.root,
    pytest.mark.tool("ip"),
    pytest.mark.tool("nft"),
    pytest.mark.tool("ping"),
    pytest.mark.tool("wg"),
    pytest.mark.tool("wgpyd"),
    pytest.mark.tool("turnserver"),
    pytest.mark.tool("openssl"),
    pytest.mark.usefixtures("clean_machine"),
]

STUN_PORT = 3478
# How often each forgery is sent: more than chance, and less than the data path's queue holds.
FORGERIES = 50


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    routers = [Router("office", Nat.PORT), Router("home", Nat.SYM)]
    hosts = [
        *(Host(name, addresses=1 + (name == "server")) for name in ("server", "gate")),
        *(Host(name) for name in ("mallory", "victim")),
        Host("bob", "office"),
        Host("alice", "home"),
    ]
    with Lab(routers, hosts) as lab, Site(lab, tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture
def datapath() -> Implementation:
    """Of the gate and bob, where a test does not name it."""
    return WGPY


@pytest.fixture
def pair(site: Site, datapath: Implementation) -> Iterator[tuple[Station, Station]]:
    """The gate and bob, with a direct way."""
    with site.up("gate", "bob", ours=datapath) as (gate, bob):
        site.introduce(gate, bob)
        gate.host.namespace.ping(bob.inner, wait=20)
        site.wait_for(gate, bob, PathKind.DIRECT)
        yield gate, bob


def unharmed(gate: Station, bob: Station) -> None:
    """The daemon lives, and the tunnel is where it was."""
    assert gate.process.running()
    assert way(gate, bob).kind is PathKind.DIRECT
    gate.host.namespace.ping(bob.inner, 3)
    bob.host.namespace.ping(gate.inner, 3)


def counted(station: Station, name: str, least: int) -> None:
    """Wait until a counter has come so far."""
    wait_until(lambda: station.counter(name) >= least, f"{least} of {name}")


def mapped_to(address: str, transaction: bytes) -> bytes:
    """A STUN answer that says that we are seen there."""
    told = {"XOR-MAPPED-ADDRESS": (address, 4444)}
    return pack(Message(Method.BINDING, Class.RESPONSE, transaction, told))


# --- STUN ---


@BOTH
def test_forged_stun_answers_change_nothing(site: Site, pair: tuple[Station, Station]) -> None:
    gate, bob = pair
    mallory, server = site.lab.hosts["mallory"], site.server
    target = (gate.host.v4, gate.port)
    before = gate.state().nat_state
    with Tap(gate.host.namespace, "wlan0") as tap, Forger(mallory.namespace) as forger:
        for _ in range(FORGERIES):
            answer = mapped_to(mallory.v4, os.urandom(12))
            # From where answers come, but to nothing that was asked.
            forger.send((server.v4, STUN_PORT), target, answer)
            # From elsewhere: the data path keeps it.
            forger.send((mallory.v4, STUN_PORT), target, answer)
        counted(gate, "nat_unknown_transaction", FORGERIES)
        counted(gate, "unknown_stun", FORGERIES)
        assert gate.state().nat_state == before
        unharmed(gate, bob)
        assert tap.to(mallory.v4) == []


def test_an_answer_from_another_server_than_was_asked(
    site: Site, pair: tuple[Station, Station]
) -> None:
    """Mallory sees the question, and answers it before the server, from the wrong place."""
    gate, bob = pair
    first, second = site.coturn.addresses
    with Tap(gate.host.namespace, "wlan0") as tap, Forger(site.server.namespace) as forger:
        site.coturn.pause()
        try:

            def asked() -> list[bytes]:
                return [x.payload[8:20] for x in tap.to(first) if x.payload[:2] == b"\0\1"]

            # The mapping is used again after 20 s, and a question is repeated.
            wait_until(asked, "a question", timeout=45)
            for transaction in asked():
                told = mapped_to(site.lab.hosts["mallory"].v4, transaction)
                forger.send((second, STUN_PORT), (gate.host.v4, gate.port), told)
            counted(gate, "nat_wrong_source", 1)
        finally:
            site.coturn.resume()
    state = gate.state().nat_state
    assert state is not None
    assert site.lab.hosts["mallory"].v4 not in {address.host for _, address in state.candidates}
    site.wait_for(gate, bob, PathKind.DIRECT)
    unharmed(gate, bob)


# --- Probes ---


def probes(tap: Tap, address: str) -> list[bytes]:
    """The probes and replies that were sent to an address."""
    kinds = (TYPE_PROBE, TYPE_PROBE_REPLY)
    return [x.payload for x in tap.to(address) if x.payload[:4] in map(little, kinds)]


def little(number: int) -> bytes:
    return number.to_bytes(4, "little")


@BOTH
def test_probes_replayed_and_forged_of_every_length(site: Site, datapath: Implementation) -> None:
    mallory = site.lab.hosts["mallory"]
    with (
        site.up("gate", "bob", ours=datapath) as (gate, bob),
        Tap(gate.host.namespace, "wlan0") as tap,
    ):
        site.introduce(gate, bob)
        gate.host.namespace.ping(bob.inner, wait=20)
        site.wait_for(gate, bob, PathKind.DIRECT)
        place = way(gate, bob).place
        assert place is not None
        seen = probes(tap, gate.host.v4)
        assert {each[0] for each in seen} == {TYPE_PROBE, TYPE_PROBE_REPLY}
        target = (gate.host.v4, gate.port)
        # The ids by which the gate is called, as anybody on the way sees them.
        ids = sorted({each[4:12] for each in seen})
        with Forger(mallory.namespace) as forger:
            for source in ((mallory.v4, 4444), (place.host, place.port)):
                for each in seen:
                    forger.send(source, target, each)
                lengths = itertools.chain(range(260), range(260, 1473, 101))
                for length in lengths:
                    for kind in (TYPE_PROBE, TYPE_PROBE_REPLY):
                        head = little(kind) + ids[length % len(ids)]
                        forger.send(source, target, (head + os.urandom(1472))[:length])
                    # Their queue in the data path is bounded: what comes faster is dropped there.
                    time.sleep(0.001)
        counted(gate, "nat_probe_replayed", 1)
        counted(gate, "nat_probe_unauthenticated", 1)
        unharmed(gate, bob)
        assert way(gate, bob).place == place
        # Not one answer, and not one question.
        assert tap.to(mallory.v4) == []


# --- A peer that lies of where it is ---


class Liar:
    """Bob's keys in a test's hands: it signs whatever it is told."""

    def __init__(self, site: Site, gate: Station, bob: Station) -> None:
        local = Local(PrivateKey.from_base64(bob.keys.private))
        self.theirs = PublicKey.from_base64(gate.keys.public)
        keys: PathKeys = path_keys(Remote(local, self.theirs, None))
        self.heard: list[bytes] = []
        self.post = FileSignal(site.signals, local.public)
        self.post.listen(self.heard.append)
        self.meeting = Rendezvous(keys, os.urandom, time.time_ns() // 10**6)

    def meet(self, candidates: list[Candidate]) -> None:
        """Offer these, and let the gate begin a round towards them."""
        ids = tuple(os.urandom(8) for _ in range(4))
        facts = NatFacts()
        offer = SignalMessage(
            SignalKind.OFFER, 0, facts=facts, path_ids=ids, candidates=tuple(candidates)
        )
        answers: list[Answered] = []
        again = 0.0

        def answered() -> bool:
            nonlocal again
            # The gate answers no offer that crosses one of its own.
            if time.monotonic() >= again:
                self.post.send(self.theirs, self.meeting.offer(offer, time.monotonic()))
                again = time.monotonic() + 1.5
            self.post.poll()
            found = [self.meeting.receive(x, time.monotonic()) for x in self.heard]
            self.heard.clear()
            answers.extend(x for x in found if isinstance(x, Answered))
            return bool(answers)

        wait_until(answered, "the gate to answer", timeout=20, every=0.01)
        self.post.send(self.theirs, self.meeting.punch(answers[0].message, 0.0))


def test_nothing_is_sent_to_what_a_peer_may_not_be(site: Site) -> None:
    """Loopback, multicast, broadcast, our own addresses, and somebody who has done nothing."""
    victim = site.lab.hosts["victim"].v4
    with site.up("gate", "bob") as (gate, bob):
        site.introduce(gate, bob)
        bob.process.stop()
        own = gate.host.v4
        lies = ["127.0.0.1", "224.0.0.251", "255.255.255.255", "169.254.1.1", own, gate.inner]
        told = [Candidate(Kind.HOST, host, 53) for host in lies]
        told += [Candidate(Kind.REFLEXIVE, victim, port) for port in (53, 123, 161)]
        liar = Liar(site, gate, bob)
        space = gate.host.namespace
        with Tap(space, "wlan0") as tap, Tap(space, "lo") as loopback:
            before = time.monotonic()
            for _ in range(3):
                liar.meet(told)
                time.sleep(2.5)
            seconds = time.monotonic() - before
            sent = tap.to(victim)
        for reason in ("loopback", "multicast", "reserved", "link_local", "own_address"):
            assert gate.counter(f"nat_candidate_{reason}") >= 1, reason
        assert gate.counter("nat_candidate_own_network") >= 1
        for host in lies:
            assert tap.to(host) == [] or host == own, host
            assert loopback.to(host) == [], host
        assert [x for x in tap.to(own) if x.source[0] == own] == []
        # Somebody who does not answer gets a bounded number of small packets, and that is all.
        assert sent
        windows = int(seconds / DESTINATION_SECONDS) + 1
        for port in (53, 123, 161):
            to_port = [x for x in sent if x.target[1] == port]
            assert len(to_port) <= PER_DESTINATION * windows
        assert {len(x.payload) for x in sent} == {96}
        assert gate.process.running()


# --- The directory of signals ---


def fill(directory: Path, gate: Station, count: int) -> None:
    """Junk of every sort, and `count` files, half of them in the gate's name."""
    ours = tag(PublicKey.from_base64(gate.keys.public))
    for number in range(50):
        start = directory / f"{ours}-0-{number:04}"
        start.with_suffix(f".d{number}.signal").mkdir()
        start.with_suffix(".l.signal").symlink_to("/etc/passwd")
        os.mkfifo(start.with_suffix(".p.signal"))
        start.with_suffix(".e.signal").touch()
        start.with_suffix(".b.signal").write_bytes(os.urandom(100_000))
    for number in range(count):
        name = f"{ours if number % 2 else tag(PublicKey(bytes(32)))}-1-{number:06}.signal"
        (directory / name).write_bytes(os.urandom(MESSAGE_LENGTH))


def test_a_directory_full_of_junk(site: Site, pair: tuple[Station, Station]) -> None:
    gate, bob = pair
    fill(site.signals, gate, 10_000)
    try:
        # What is not of a signal's length, and what is no file.
        counted(gate, "nat_signal_file_malformed", 100)
        counted(gate, "nat_signal_file_not_readable", 50)
        # Of the right length, and of nobody.
        wait_until(lambda: gate.counter("nat_signal_file_no_signal") >= 4000, "the flood", 60)
        unharmed(gate, bob)
        # Two more meet in the midst of it.
        with site.up("alice", "mallory") as (one, other):
            site.introduce(one, other)
            one.host.namespace.ping(other.inner, wait=40)
            site.wait_for(one, other, PathKind.DIRECT)
    finally:
        for path in site.signals.iterdir():
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
    unharmed(gate, bob)
