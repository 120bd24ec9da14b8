"""The samples of bench/moves.py: each takes a lab of its own, and says what it saw."""

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.iperf import serve
from tests.support.coturn import Coturn
from tests.support.managed import CLOSE, OPEN, Managed, managed
from tests.support.natlab import Host, Lab, Line, Nat, Router
from tests.support.natlab.cells import DELAY, HOPS
from tests.support.natlab.station import Station
from tests.support.numbered import Numbered
from wgpy.device.paths import PathKind

LINE = Line(delay=DELAY / 2, hops=HOPS)
# Whoever is not back after so long is said to be so late.
LIMIT = 20.0
# How long a router takes that reboots.
DARK = 10.0
# Goals, in seconds: the tunnel is back so soon after the network; and a way that died while nobody
# said so is replaced.
BACK = 3.0
REPLACED = 5.0
# Between two changes: sessions, mappings and STUN are to have come to rest.
REST = 3.0
# An echo is asked for in each of these.
EVERY = 0.02
# Of a run of iperf3: how long, and when the direct way becomes possible.
SECONDS = 14.0
OPENS = 4.0
# Around the moment of the change: what was under way, and what the new way makes of it.
BEFORE, AFTER = 0.5, 2.5
RATES = {"20 Mbit/s": ("-b", "20M"), "as fast as it can": ()}
FLOW_COUNT = 10_000
FLOW_SECONDS = 20.0
CHECKED, UNCHECKED = FLOWS = ("paths are checked", "no paths, no checks")
_STAMP = struct.Struct("!d")
_ECHO_PORT = 7007


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample: what it is of, and its figures."""

    name: str
    figures: dict[str, Any]


@contextlib.contextmanager
def _houses(
    directory: Path, *, relay: bool = True, nat: Nat = Nat.PORT
) -> Iterator[tuple[Lab, Managed]]:
    """Alice at home, bob in the office, and two ways to LTE; `nat` is that of the first two."""
    routers = [Router(name, nat, line=LINE) for name in ("home", "office")]
    routers += [Router("lte", Nat.PORT, line=LINE), Router("cgn", Nat.SYM, line=LINE)]
    hosts = [Host("alice", "home"), Host("bob", "office"), Host("server", addresses=2, line=LINE)]
    with Lab(routers, hosts) as lab:
        server = lab.hosts["server"]
        with Coturn(server.namespace, server.addresses(), directory) as turn:
            stun = [f"{address}:3478" for address in turn.addresses]
            with managed(lab, directory, stun=stun, turn=[turn] if relay else [], life=600) as pair:
                yield lab, pair


# --- Back after a change ---


class Echoes:
    """Asks for an echo every 20 ms, from one station to another, while the block lasts."""

    def __init__(self, asking: Station, answering: Station) -> None:
        self._ending = threading.Event()
        self._answering = answering.host.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._answering.bind((answering.inner, _ECHO_PORT))
        self._asking = asking.host.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._asking.connect((answering.inner, _ECHO_PORT))
        for each in (self._answering, self._asking):
            each.settimeout(0.2)
        # When each was asked for that was answered, and when that was.
        self.answered: list[tuple[float, float]] = []
        self._threads = [
            threading.Thread(target=each) for each in (self._ask, self._answer, self._collect)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()
        self._asking.close()
        self._answering.close()

    def _ask(self) -> None:
        while not self._ending.wait(EVERY):
            self._asking.send(_STAMP.pack(time.monotonic()))

    def _answer(self) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(TimeoutError):
                data, source = self._answering.recvfrom(64)
                self._answering.sendto(data, source)

    def _collect(self) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(TimeoutError):
                (asked,) = _STAMP.unpack(self._asking.recv(64))
                self.answered.append((asked, time.monotonic()))

    def back(self, since: float) -> float:
        """When the first one was answered that was asked for after `since`."""
        while time.monotonic() - since < LIMIT:
            if self.answered and self.answered[-1][0] > since:
                return next(answered for asked, answered in self.answered if asked > since)
            time.sleep(EVERY)
        return since + LIMIT


def back(directory: Path, backwards: bool) -> Iterator[Sample]:
    """Seconds from when a network is there again until an echo is answered by the tunnel."""
    del backwards
    with _houses(directory) as (lab, pair):
        host, home = lab.hosts["alice"], lab.routers["home"]

        def dark() -> None:
            home.cut()
            time.sleep(DARK)
            home.reboot()
            home.heal()

        changes: tuple[tuple[str, Callable[[], object], PathKind, float], ...] = (
            ("Wi-Fi to LTE", lambda: host.move("lte"), PathKind.DIRECT, BACK),
            ("LTE to Wi-Fi", lambda: host.move("home"), PathKind.DIRECT, BACK),
            ("Wi-Fi to LTE with random ports", lambda: host.move("cgn"), PathKind.RELAY, BACK),
            ("from there to Wi-Fi", lambda: host.move("home"), PathKind.DIRECT, BACK),
            ("the router reboots, 10 s dark", dark, PathKind.DIRECT, BACK),
            ("the router forgets all in an instant", home.reboot, PathKind.DIRECT, REPLACED),
            ("it has another address as well", home.renumber, PathKind.DIRECT, REPLACED),
        )
        pair.wake()
        pair.until(PathKind.DIRECT)
        with Echoes(pair.alice, pair.bob) as echoes:
            for name, change, kind, goal in changes:
                time.sleep(REST)
                began = time.monotonic()
                change()
                there = time.monotonic()
                answered = echoes.back(there if change is dark else began)
                figures = {
                    "seconds": max(0.0, answered - there),
                    "with_change": answered - began,
                    "goal": goal,
                }
                yield Sample(f"back: {name}", figures)
                pair.until(kind, timeout=60)


# --- From the relay to the direct way, under TCP ---


def upgrade(directory: Path, backwards: bool) -> Iterator[Sample]:
    """Retransmits of iperf3 while the way becomes direct, and where it stays what it is."""
    for rate, options in RATES.items():
        figures: dict[str, Any] = {}
        kinds = ("upgrade", "relay", "direct")
        found: dict[str, list[dict[str, float]]] = {}
        moments: list[float] = []
        for kind in reversed(kinds) if backwards else kinds:
            with _houses(_own(directory)) as (lab, pair):
                found[kind] = _transfer(lab, pair, kind, options, moments)
        (moment,) = moments
        for kind in kinds:
            figures[kind] = sum(
                each["retransmits"]
                for each in found[kind]
                if each["end"] > moment - BEFORE and each["start"] < moment + AFTER
            )
            figures[f"{kind}_whole"] = sum(each["retransmits"] for each in found[kind])
            figures[f"{kind}_intervals"] = found[kind]
        figures["moment"] = moment
        yield Sample(f"upgrade, {rate}", figures)


def _own(directory: Path) -> Path:
    """A new directory in this one, for one lab's files."""
    path = directory / f"lab{len(list(directory.iterdir()))}"
    path.mkdir()
    return path


def _transfer(
    lab: Lab, pair: Managed, kind: str, options: tuple[str, ...], moments: list[float]
) -> list[dict[str, float]]:
    """iperf3 from alice to bob; its intervals. When the way became direct is put into `moments`."""
    routers = [lab.routers[name] for name in ("home", "office")]
    if kind != "direct":
        for router in routers:
            router.node.nft(CLOSE)
    pair.wake()
    pair.until(PathKind.DIRECT if kind == "direct" else PathKind.RELAY)
    output: list[str] = []
    with serve(pair.bob.host.namespace, SECONDS):

        def run() -> None:
            command = ("iperf3", "-c", pair.bob.inner, "-t", f"{SECONDS:g}", "-i", "0.5", "--json")
            space = pair.alice.host.namespace
            output.append(space.run(*command, *options, timeout=SECONDS + 20).stdout)

        client = threading.Thread(target=run)
        began = time.monotonic()
        client.start()
        if kind == "upgrade":
            time.sleep(OPENS)
            for router in routers:
                router.node.nft(OPEN)
            pair.until(PathKind.DIRECT, timeout=SECONDS)
            moments.append(time.monotonic() - began)
        client.join()
    (text,) = output
    wanted = ("start", "end", "retransmits", "bytes")
    return [{x: each["sum"][x] for x in wanted} for each in json.loads(text)["intervals"]]


# --- Ten thousand flows, and checks of the path ---


def flows(directory: Path, backwards: bool) -> Iterator[Sample]:
    """Datagrams of 10,000 flows: what is lost where paths are checked, and where none are."""
    for name in reversed(FLOWS) if backwards else FLOWS:
        with _houses(_own(directory), relay=False, nat=Nat.FULL) as (lab, pair):
            if name == UNCHECKED:
                pair.at = {
                    station.number: f"{lab.routers[router].wan_ip}:{pair.other(station).port}"
                    for station, router in ((pair.alice, "office"), (pair.bob, "home"))
                }
                for station in (pair.alice, pair.bob):
                    pair.sync(station, nat="")
            pair.wake()
            if name == CHECKED:
                pair.until(PathKind.DIRECT)
            before = _probes(pair)
            with Numbered(pair.alice, pair.bob, flows=FLOW_COUNT) as numbered:
                time.sleep(FLOW_SECONDS)
            figures = {
                "sent": numbered.sent,
                "lost": numbered.lost,
                "repeated": numbered.repeated,
                "probes": _probes(pair) - before,
            }
            yield Sample(f"flows: {name}", figures)


def _probes(pair: Managed) -> int:
    return sum(each.counter("nat_probes_sent") for each in (pair.alice, pair.bob))
