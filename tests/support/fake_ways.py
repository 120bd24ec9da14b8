"""Somebody who finds no ways, and writes down what a device tells him."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from wgpy.datapath.contract import Datagram, Endpoint
from wgpy.device.paths import NatSettings, NatState, PathKind, PathState
from wgpy.device.roads import Roads
from wgpy.device.uapi import Address
from wgpy.device.ways import WayError
from wgpy.keys import PublicKey

STATE = NatState(
    candidates=(
        ("host", Address("192.168.1.20", 51820)),
        ("reflexive", Address("203.0.113.7", 62001)),
    ),
    mapping="endpoint independent",
    portmap="PCP",
)
OFFER = "wgpy-offer-1:c2VhbGVk"


@dataclass
class FakeWays:
    """Both sides of what finds ways: `said` is what the operator said, `seen` what happened."""

    roads: Roads
    said: list[tuple[object, ...]] = field(default_factory=list)
    seen: list[tuple[object, ...]] = field(default_factory=list)
    settings: NatSettings | None = None
    refusal: Exception | None = None
    offers: dict[PublicKey, str] = field(default_factory=dict)
    paths: dict[PublicKey, PathState] = field(default_factory=dict)
    when: float | None = None
    # What it does when it is told that a peer roamed, that there are sockets, and that a peer is
    # wanted.
    on_roamed: Callable[[PublicKey, Endpoint], object] | None = None
    on_bound: Callable[[int], object] | None = None
    on_wanted: Callable[[PublicKey], object] | None = None

    def __post_init__(self) -> None:
        self.roads.listen(self)

    # --- Ways ---

    def configure(self, settings: NatSettings | None) -> Callable[[], None]:
        if self.refusal is not None:
            raise self.refusal

        def commit() -> None:
            self.settings = settings
            self.said.append(("configure", settings))

        return commit

    def manage(self, key: PublicKey, managed: bool) -> None:
        self.said.append(("manage", key, managed))

    def hint(self, key: PublicKey, place: Endpoint) -> None:
        self.said.append(("hint", key, place))

    def offer(self, key: PublicKey) -> None:
        self.said.append(("offer", key))
        self.offers[key] = OFFER

    def offered(self, key: PublicKey) -> str | None:
        return self.offers.get(key)

    def answer(self, key: PublicKey, text: str) -> Callable[[], None]:
        if not text.startswith("wgpy-offer-1:"):
            raise WayError("this is no offer of wgpy")
        return lambda: self.said.append(("answer", key, text))

    def describe(self, key: PublicKey) -> PathState | None:
        return self.paths.get(key, PathState(PathKind.NONE, reason="nothing is tried"))

    def state(self) -> NatState:
        return STATE

    def removed(self, key: PublicKey) -> None:
        self.said.append(("removed", key))

    def close(self) -> None:
        self.said.append(("close",))

    def counters(self) -> Mapping[str, int]:
        return {"probes": 7}

    # --- Lookout ---

    def received(self, datagram: Datagram) -> None:
        self.seen.append(("received", datagram.data))

    def roamed(self, key: PublicKey, source: Endpoint) -> None:
        self.seen.append(("roamed", key, source))
        if self.on_roamed is not None:
            self.on_roamed(key, source)

    def wanted(self, key: PublicKey) -> None:
        self.seen.append(("wanted", key))
        if self.on_wanted is not None:
            self.on_wanted(key)

    def began(self, key: PublicKey) -> None:
        self.seen.append(("began", key))

    def ended(self, key: PublicKey) -> None:
        self.seen.append(("ended", key))

    def bound(self, port: int) -> None:
        self.seen.append(("bound", port))
        if self.on_bound is not None:
            self.on_bound(port)

    def changed(self) -> None:
        self.seen.append(("changed",))

    def slept(self) -> None:
        self.seen.append(("slept",))

    def own_key_changed(self) -> None:
        self.seen.append(("own_key_changed",))

    def work(self, now: float) -> None:
        self.seen.append(("work", now))
        self.when = None

    def next_at(self) -> float | None:
        return self.when

    # --- What a test does ---

    def take(self) -> list[tuple[object, ...]]:
        """What happened since the last call."""
        seen, self.seen = self.seen, []
        return seen
