"""A TURN server on a fake clock, and the wire to it: honest, or told to misbehave.

    world = World()
    world.client.start(world.now)
    world.run(1)
    assert world.events == [Allocated(...)]

The server does what RFC 8656 asks for, over datagrams, with one user. `world.server.script` may
answer in its place: it is given each message and returns what to send back, or `HONEST`.
"""

import hashlib
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from wgpy.nat.place import Place, Send
from wgpy.nat.stun import Class, Message, Method, pack, parse
from wgpy.nat.turn import State, TurnClient
from wgpy.nat.turn_credentials import Credentials, Source, fixed
from wgpy.nat.turn_events import Event

SERVER: Final = Place("192.0.2.1", 3478)
CLIENT: Final = Place("198.51.100.7", 51820)
RELAYED: Final = "203.0.113.9"
PEER: Final = Place("203.0.113.77", 40000)
REALM: Final = "example.org"
ALICE: Final = Credentials("alice", "a secret")
FIXED: Final = fixed(ALICE)
START: Final = 1000.0
ONE_WAY: Final = 0.030

# What a script returns to let the server do what is right.
HONEST: Final = object()
# A message, bytes as they are, several, nothing, or HONEST.
Script = Callable[[Message], Any]


@dataclass(slots=True)
class Allocation:
    """What the server keeps for a client."""

    user: str
    expires: float
    transaction: bytes
    relayed: tuple[str, int]
    permissions: dict[str, float] = field(default_factory=dict)
    channels: dict[int, tuple[tuple[str, int], float]] = field(default_factory=dict)


class FakeServer:
    """The server. `heard` are the requests that it got, with when."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.users = {ALICE.username: ALICE.password}
        self.realm = REALM
        self.nonce = b"nonce-0"
        self.nonces = 0
        self.max_lifetime = 3600
        self.channel_lifetime = 600.0
        self.permission_lifetime = 300.0
        # PASSWORD-ALGORITHMS, and whether it takes USERHASH; the nonce must say so as well.
        self.algorithms = b""
        self.is_open = False
        self.allocation: Allocation | None = None
        self.script: Script | None = None
        self.is_dead = False
        self.heard: list[tuple[float, Message]] = []
        self.port = 50000

    def count(self, method: Method) -> int:
        """How many requests of a method came."""
        return sum(x.method is method for _, x in self.heard)

    def restart(self) -> None:
        """Forget everything."""
        self.allocation = None
        self.new_nonce()

    def new_nonce(self) -> None:
        """The old one is stale from now on."""
        self.nonces += 1
        self.nonce = b"%s-%d" % (self.nonce.partition(b"-")[0], self.nonces)

    def take(self, data: bytes) -> list[bytes]:
        """What is sent back."""
        if self.is_dead:
            return []
        message = parse(data)
        self.heard.append((self._now(), message))
        answer = HONEST if self.script is None else self.script(message)
        if answer is HONEST:
            answer = self.honest(message)
        answers = answer if isinstance(answer, list) else [answer]
        key = self.key(message)
        return [
            x
            if isinstance(x, bytes)
            else pack(x, *([key[0]] if key else []), sha256=bool(key and key[1]))
            for x in answers
            if x is not None
        ]

    # --- Signatures ---

    def key(self, message: Message) -> tuple[bytes, bool] | None:
        """What a request that names a known user should be signed with."""
        name = message.attributes.get("USERNAME")
        for user in self.users:
            named = hashlib.sha256(f"{user}:{self.realm}".encode()).digest()
            if message.attributes.get("USERHASH") == named:
                name = user
        if name not in self.users:
            return None
        algorithm = message.attributes.get("PASSWORD-ALGORITHM", b"\0\1\0\0")
        text = f"{name}:{self.realm}:{self.users[name]}".encode()
        kind = {b"\0\1\0\0": "md5", b"\0\2\0\0": "sha256"}[algorithm]
        return hashlib.new(kind, text).digest(), "PASSWORD-ALGORITHMS" in message.attributes

    def challenge(self, message: Message, code: int) -> bytes:
        """401 or 438."""
        attributes: dict[str, Any] = {"ERROR-CODE": (code, "")}
        attributes |= {"REALM": self.realm, "NONCE": self.nonce}
        if self.algorithms:
            attributes["PASSWORD-ALGORITHMS"] = self.algorithms
        return pack(Message(message.method, Class.ERROR, message.transaction, attributes))

    def error(self, message: Message, code: int, **more: Any) -> Message:
        """Any other error, which will be signed."""
        attributes = {
            "ERROR-CODE": (code, "why"),
            **{k.replace("_", "-"): v for k, v in more.items()},
        }
        return Message(message.method, Class.ERROR, message.transaction, attributes)

    def success(self, message: Message, attributes: dict[str, Any]) -> Message:
        """An answer, which will be signed."""
        return Message(message.method, Class.RESPONSE, message.transaction, attributes)

    # --- What RFC 8656 asks for ---

    def honest(self, message: Message) -> Message | bytes | None:
        """The right answer."""
        if not self.is_open:
            key = self.key(message)
            if key is None or not message.is_authentic(key[0], sha256=key[1]):
                return self.challenge(message, 401)
            if message.attributes["NONCE"] != self.nonce:
                return self.challenge(message, 438)
            if message.attributes.get("PASSWORD-ALGORITHMS", b"") != self.algorithms:
                return self.error(message, 400)
        now = self._now()
        if self.allocation is not None and self.allocation.expires <= now:
            self.allocation = None
        if message.method is Method.ALLOCATE:
            return self._allocate(message, now)
        if self.allocation is None:
            return self.error(message, 437)
        if message.attributes.get("USERNAME", self.allocation.user) != self.allocation.user:
            return pack(self.error(message, 441))
        if message.method is Method.REFRESH:
            return self._refresh(message, now)
        return self._peer(message, self.allocation, now)

    def _allocate(self, message: Message, now: float) -> Message | bytes:
        if self.allocation is not None and self.allocation.transaction != message.transaction:
            return pack(self.error(message, 437))
        lifetime = min(message.attributes["LIFETIME"], self.max_lifetime)
        if self.allocation is None:
            self.port += 1
            self.allocation = Allocation(
                message.attributes.get("USERNAME", ALICE.username),
                now + lifetime,
                message.transaction,
                (RELAYED, self.port),
            )
        return self.success(
            message,
            {
                "XOR-RELAYED-ADDRESS": self.allocation.relayed,
                "XOR-MAPPED-ADDRESS": (CLIENT.host, CLIENT.port),
                "LIFETIME": lifetime,
            },
        )

    def _refresh(self, message: Message, now: float) -> Message:
        assert self.allocation is not None
        lifetime = min(message.attributes["LIFETIME"], self.max_lifetime)
        self.allocation.expires = now + lifetime
        if lifetime == 0:
            self.allocation = None
        return self.success(message, {"LIFETIME": lifetime})

    def _peer(self, message: Message, allocation: Allocation, now: float) -> Message:
        peer = message.attributes["XOR-PEER-ADDRESS"]
        if message.method is Method.CHANNEL_BIND:
            number = message.attributes["CHANNEL-NUMBER"]
            for other, (bound, until) in allocation.channels.items():
                if until > now and (other == number) != (bound == peer):
                    return self.error(message, 400)
            allocation.channels[number] = peer, now + self.channel_lifetime
        allocation.permissions[peer[0]] = now + self.permission_lifetime
        return self.success(message, {})

    def carries(self, channel: int) -> tuple[str, int] | None:
        """Where ChannelData with this number would go now."""
        now, allocation = self._now(), self.allocation
        if allocation is None or allocation.expires <= now or channel not in allocation.channels:
            return None
        peer, until = allocation.channels[channel]
        is_permitted = allocation.permissions.get(peer[0], 0.0) > now
        return peer if until > now and is_permitted else None

    def data(self, peer: tuple[str, int], data: bytes) -> bytes:
        """A Data indication."""
        attributes = {"XOR-PEER-ADDRESS": peer, "DATA": data}
        return pack(Message(Method.DATA, Class.INDICATION, bytes(12), attributes))


class World:
    """A client, a server, the wire and the clock. `events` gathers what the client told."""

    def __init__(self, source: Source = FIXED, *, seed: int = 1, **options: Any) -> None:
        self.now = START
        self.random = random.Random(seed)
        self.server = FakeServer(lambda: self.now)
        self.client = TurnClient(SERVER, source, self.random.randbytes, **options)
        self.events: list[Event] = []
        self.sent: list[tuple[float, bytes]] = []
        self.one_way = ONE_WAY
        self.is_cut = False
        self._wire: list[tuple[float, int, bool, bytes]] = []
        self._order = 0

    def said(self, kind: type[Event]) -> list[Any]:
        """The events of one kind."""
        return [x for x in self.events if isinstance(x, kind)]

    def begin(self, seconds: float = 1.0) -> None:
        """Start, and let some time pass."""
        self.client.start(self.now)
        self.run(seconds)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        self._settle()
        while True:
            due = self.client.due()
            moments = [x for x in (due, self._wire[0][0] if self._wire else None) if x is not None]
            moment = max(self.now, min(moments, default=float("inf")))
            if moment > end:
                break
            is_stuck = moment == self.now and not self._wire
            self.now = moment
            if self._wire and self._wire[0][0] <= self.now:
                _, _, is_ours, data = heapq.heappop(self._wire)
                if is_ours:
                    for answer in self.server.take(data):
                        self._transmit(answer, is_ours=False)
                else:
                    self.client.receive(data, SERVER, self.now)
            else:
                self.client.tick(self.now)
                assert not (is_stuck and self.client.due() == due), "the client is due for ever"
            self._settle()
        self.now = end

    def arrive(self, data: bytes, source: Place = SERVER) -> bool:
        """Something comes to the client at once."""
        taken = self.client.receive(data, source, self.now)
        self._settle()
        return taken

    def _settle(self) -> None:
        for item in self.client.take():
            if isinstance(item, Send):
                assert item.to == SERVER
                self.sent.append((self.now, item.data))
                self._transmit(item.data, is_ours=True)
            else:
                self.events.append(item)

    def _transmit(self, data: bytes, *, is_ours: bool) -> None:
        if not self.is_cut:
            self._order += 1
            heapq.heappush(self._wire, (self.now + self.one_way, self._order, is_ours, data))


def allocated(world: World) -> bool:
    """Whether both sides think that there is an allocation."""
    return world.client.state is State.ALLOCATED and world.server.allocation is not None
