"""Two devices in one process, with memory for a network: what a handshake costs them, all in all.

    python -m bench.devices [--seconds N] [--json FILE]
    python -m bench.devices --kind plain --times N

Everything is as in the daemon, and on both sides: the data path with its filter, the device, the
handshake, the authority with certificates in files, the ledger on disk, the keepalive that confirms
the keys. Only sockets and event loop are left out, which are the same for every kind of handshake.
The kinds take turns, handshake by handshake and in an order that changes, and the same is done
before each, for its cost depends on what ran before it. Each ratio is taken within a round:

- `plain` is WireGuard's own handshake;
- `renewed` is one with certificates on both sides whose verdict is known: a renewal of keys;
- `mutual` is one in which both sides verify the other's certificate, a leaf of the usual size.

`responder` is the other half of the promise: newcomers, each with a key and a certificate of its
own, that one device admits. Counted is the time of the responder alone, by the clock of the wall,
disk included, from the first message of each to its session. Its budgets are lifted.

The second form does so many handshakes of one kind and nothing else, for a program that counts
instructions: the difference between two numbers of them has no beginning and no noise.
"""

import argparse
import importlib
import itertools
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from cryptography import x509

from bench.handshake import spread
from bench.machine import describe
from tests.support.certificates import DAY, KEY, NETWORK, NOW, Authority, Peer, names
from tests.support.fake_network import FakeSockets
from wgpy.datapath.choose import has_native
from wgpy.datapath.contract import Event, HandshakeNeeded
from wgpy.datapath.endpoint import Route
from wgpy.device.device import Device
from wgpy.device.trust import Trust
from wgpy.device.uapi import Address, AllowedIpChange, DeviceChange, PeerChange
from wgpy.identity import der
from wgpy.identity.admissions import Admissions as Ledger
from wgpy.identity.leaf import _extensions, _shared
from wgpy.identity.profile import Rights
from wgpy.identity.settings import Anchor, AuthoritySettings, Expectation, IdentitySettings
from wgpy.identity.x509der import certificates_in
from wgpy.ip import parse_prefix
from wgpy.keys import PrivateKey, PublicKey
from wgpy.protocol.credential_bounds import Budget
from wgpy.protocol.credential_intake import UNDER_LOAD_DEPTH

# Goals: a renewal and a mutual handshake over a plain one, and newcomers a second.
RENEWED, MUTUAL, PER_SECOND = 1.1, 2.0, 500
PORT = 51820
# Handshakes of each kind in one round: some 10 ms each.
ROUND = 20
# Rounds between two measures of newcomers, which take as long as ten.
ROUNDS = 10
# What the service drains in one go.
BATCH = 32
# Newcomers that come at once: one more, and a device under load would ask for cookies.
AT_ONCE = UNDER_LOAD_DEPTH
# Between two handshakes of a peer: an initiator may begin one each 5 s.
STEP = 6.0
# In one turn.
NEWCOMERS = 4 * AT_ONCE

ROOT = Authority(not_before=NOW - DAY, not_after=NOW + 3650 * DAY)


def leaf(key: PublicKey, name: str, address: str, serial: int = 1) -> bytes:
    """A certificate in PEM."""
    return Peer(
        parent=ROOT,
        key=key,
        names=names(name, address),
        rights=Rights(NETWORK, serial, ("laptops",), ()),
        not_after=NOW + 3000 * DAY,
        serial=0x10_0000 + serial,
    ).pem()


def shared(certificate: bytes) -> tuple[bytes, ...]:
    """The extensions of a certificate in DER that other peers have too: all but the names."""
    signed = x509.load_der_x509_certificate(certificate).tbs_certificate_bytes
    _, (fields,) = der.split(signed)
    _, parts = der.split(fields)
    return _extensions(parts[-1])[0]


SHARED = shared(certificates_in(leaf(KEY, "another.mesh", "10.7.0.99"))[0])


def _open() -> Any:
    """A data path in memory, native where there is one. These classes of the tests are looked up:
    they are no contract.DataPath to a type checker."""
    if not has_native():
        return importlib.import_module("tests.support.memory_path").MemoryPath()
    made = importlib.import_module("tests.support.native_path").NativeMemoryPath()
    made.set_sockets = lambda v4, v6: None
    return made


class End:
    """A device at an address; `directory` is where its files are, None for one without any."""

    def __init__(self, address: str, directory: Path | None = None, name: str = "") -> None:
        self.path = _open()
        self._start = self.path.now
        self.private = PrivateKey.generate()
        self.key = self.private.public()
        self.route = Route((address, PORT))
        self.trust = None
        if directory is not None:
            self.trust = Trust(lambda: Ledger(directory / f"{name}.ledger"), self.wall_ns)
        self.device = Device(
            self.path,
            lambda port, mark: FakeSockets(port or PORT),
            clock=lambda: self.path.now,
            wall_ns=self.wall_ns,
            random=os.urandom,
            trust=self.trust,
        )
        self.device.apply(DeviceChange(private_key=self.private, listen_port=PORT))
        self.device.set_up(True)
        self._lift()

    def _lift(self) -> None:
        """No budget keeps anybody waiting."""
        admissions = self.device._admissions
        if admissions is not None:
            intake = admissions.admitter._intake
            intake.handshakes = Budget(10**9)
            intake.signatures = Budget(10**9)

    def wall_ns(self) -> int:
        return int((NOW + self.path.now - self._start) * 1e9)

    def certify(self, directory: Path, name: str, inner: str) -> None:
        """Give it a certificate and an authority, in files."""
        (directory / "root.pem").write_bytes(ROOT.pem())
        (directory / f"{name}.pem").write_bytes(leaf(self.key, name, inner))
        settings = AuthoritySettings(
            NETWORK,
            (parse_prefix("10.7.0.0/16"),),
            anchors=(Anchor(str(directory / "root.pem")),),
        )
        identity = IdentitySettings(certificate=str(directory / f"{name}.pem"))
        self.device.apply(DeviceChange(authority=settings, identity=identity))

    def forget(self) -> None:
        """Make the next credential one that it has never seen, of a CA whose others it has."""
        assert self.trust is not None
        assert self.trust.authority is not None
        self.trust.authority._verdicts.clear()
        for entry in self.device._peers.by_key.values():
            entry.shown = entry.protocol.remote.asked = entry.protocol.remote.answered = None
        _shared.cache_clear()
        _shared(SHARED)

    def befriend(self, other: "End", prefix: str, expectation: Expectation | None = None) -> None:
        """Configure a peer."""
        change = PeerChange(
            other.key,
            endpoint=Address(str(other.route.address[0]), PORT),
            allowed_ips=[AllowedIpChange(parse_prefix(prefix))],
            expectation=expectation,
        )
        self.device.apply(DeviceChange(peers=[change]))

    def act(self, events: list[Event]) -> None:
        """As the service does with what it drained."""
        self.device.process(events)
        self.device.wake()

    def hear(self, sender: "End") -> int:
        """Take in what another sent; how many datagrams."""
        datagrams = list(sender.path.sent)
        sender.path.sent.clear()
        for data, _route in datagrams:
            self.path.take(data, sender.route)
        while events := self.path.drain(BATCH):
            self.act(events)
        return len(datagrams)

    def handshakes(self) -> dict[PublicKey, tuple[int, int]]:
        """When the last one with each peer was."""
        return {peer.public_key: peer.last_handshake for peer in self.device.state().peers}


@dataclass
class Couple:
    """Two ends that shake hands, the first one beginning."""

    one: End
    other: End

    def shake(self) -> None:
        """A whole handshake, to its confirmation."""
        for end in (self.one, self.other):
            end.path.now += STEP
        self.one.act([HandshakeNeeded(1)])
        while self.other.hear(self.one) + self.one.hear(self.other):
            pass

    def check(self) -> None:
        """Raise AssertionError if the last one came to nothing."""
        for end, peer in ((self.one, self.other), (self.other, self.one)):
            if end.handshakes().get(peer.key) != divmod(end.wall_ns(), 10**9):
                raise AssertionError(f"no session: {end.device.state().counters}")


def plain() -> Couple:
    """Two configured peers."""
    one, other = End("192.0.2.1"), End("192.0.2.2")
    one.befriend(other, "10.7.0.2/32")
    other.befriend(one, "10.7.0.1/32")
    return Couple(one, other)


def certified(directory: Path) -> Couple:
    """Two peers with certificates: the second one was never told of the first."""
    directory.mkdir()
    one, other = End("192.0.2.1", directory, "one"), End("192.0.2.2", directory, "other")
    one.certify(directory, "one.mesh", "10.7.0.1")
    other.certify(directory, "other.mesh", "10.7.0.2")
    one.befriend(other, "10.7.0.2/32", Expectation("other.mesh"))
    made = Couple(one, other)
    made.shake()
    made.check()
    return made


class Couples:
    """One couple for each kind of handshake."""

    def __init__(self, directory: Path) -> None:
        self.kinds = {
            "plain": plain(),
            "renewed": certified(directory / "renewed"),
            "mutual": certified(directory / "mutual"),
        }
        self._random = Random(1)

    def forget(self) -> None:
        """Done before each handshake, of whichever kind."""
        mutual = self.kinds["mutual"]
        mutual.one.forget()
        mutual.other.forget()

    def round(self) -> dict[str, float]:
        """Microseconds of processor time for one handshake of each kind."""
        spent = dict.fromkeys(self.kinds, 0.0)
        for _ in range(ROUND):
            for kind in self._random.sample(list(self.kinds), len(self.kinds)):
                self.forget()
                start = time.thread_time()
                self.kinds[kind].shake()
                spent[kind] += time.thread_time() - start
        for couple in self.kinds.values():
            couple.check()
        return {kind: total / ROUND * 1e6 for kind, total in spent.items()}


class Responder:
    """A device, and newcomers that come to it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self.end = End("192.0.2.1", directory, "gate")
        self.end.certify(directory, "gate.mesh", "10.7.0.1")
        self.numbers = itertools.count(1)

    def newcomer(self) -> End:
        """A device that knows the responder and has a certificate."""
        number = next(self.numbers)
        inner = f"10.7.{number >> 8}.{number & 255}"
        made = End(f"198.18.{number >> 8}.{number & 255}", self.directory, f"n{number}")
        made.path.now = self.end.path.now
        made.certify(self.directory, f"n{number}.mesh", inner)
        made.befriend(self.end, "10.7.0.0/16", Expectation("gate.mesh"))
        return made

    def admit(self, count: int) -> tuple[float, float]:
        """Seconds of the wall clock, and of the processor, in which so many came in."""
        knocking = [self.newcomer() for _ in range(count)]
        wall = spent = 0.0
        for start in range(0, count, AT_ONCE):
            batch = knocking[start : start + AT_ONCE]
            self.end.path.now += 1.0
            for end in batch:
                end.path.now = self.end.path.now
                end.act([HandshakeNeeded(1)])
            for _ in range(2):
                arrived = [(data, end.route) for end in batch for data, _ in end.path.sent]
                for end in batch:
                    end.path.sent.clear()
                begin, begun = time.perf_counter(), time.thread_time()
                for data, route in arrived:
                    self.end.path.take(data, route)
                while events := self.end.path.drain(BATCH):
                    self.end.act(events)
                wall += time.perf_counter() - begin
                spent += time.thread_time() - begun
                self._answer(batch)
        admitted = {peer.public_key for peer in self.end.device.state().peers if peer.admitted}
        if not {end.key for end in knocking} <= admitted:
            raise AssertionError(f"not all came in: {self.end.device.state().counters}")
        return wall, spent

    def _answer(self, batch: list[End]) -> None:
        by_place = {end.route.address[0]: end for end in batch}
        for data, route in self.end.path.sent:
            by_place[route.address[0]].path.take(data, self.end.route)
        self.end.path.sent.clear()
        for end in batch:
            end.act(end.path.drain(BATCH))


def measure(seconds: float) -> dict[str, object]:
    """Everything in turns for so long."""
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        couples = Couples(directory)
        responder = Responder(directory / "responder")
        rounds: list[dict[str, float]] = []
        walls: list[float] = []
        spent: list[float] = []
        couples.round()
        end = time.monotonic() + seconds
        while time.monotonic() < end or len(walls) < 2:
            rounds += [couples.round() for _ in range(ROUNDS)]
            wall, processor = responder.admit(NEWCOMERS)
            walls.append(NEWCOMERS / wall)
            spent.append(NEWCOMERS / processor)
    return {
        **{f"{kind}_us": spread([x[kind] for x in rounds]) for kind in couples.kinds},
        **{
            f"{kind}_over_plain": spread([x[kind] / x["plain"] for x in rounds])
            for kind in ("renewed", "mutual")
        },
        "admitted_per_second": spread(walls),
        "admitted_per_processor_second": spread(spent),
        "rounds": len(rounds),
        "raw": {
            **{f"{kind}_us": [round(x[kind], 1) for x in rounds] for kind in couples.kinds},
            "admitted_per_second": [round(x, 1) for x in walls],
            "admitted_per_processor_second": [round(x, 1) for x in spent],
        },
    }


def repeat(kind: str, times: int) -> None:
    """So many handshakes of one kind."""
    with tempfile.TemporaryDirectory() as place:
        couples = Couples(Path(place))
        for _ in range(times):
            couples.forget()
            couples.kinds[kind].shake()
        couples.kinds[kind].check()


def main() -> int:
    parser = argparse.ArgumentParser(description="what handshakes cost two devices")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to measure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result here")
    parser.add_argument("--kind", choices=("plain", "renewed", "mutual"), help="only this one")
    parser.add_argument("--times", type=int, default=100, help="so many of that kind")
    arguments = parser.parse_args()
    if arguments.kind is not None:
        repeat(arguments.kind, arguments.times)
        return 0
    result = measure(arguments.seconds)
    for name, row in result.items():
        if isinstance(row, dict) and "median" in row:
            print(f"{name:30} median {row['median']:>9} middle half {row['p25']} to {row['p75']}")
    print(f"goals: {RENEWED} and {MUTUAL} times plain, {PER_SECOND} admitted a second")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": describe(), **result}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
