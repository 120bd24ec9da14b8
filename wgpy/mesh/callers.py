"""Who speaks from an address of the tunnel: asked of the daemon that holds the sessions.

The data path gives nobody another's address, so an address and a key go together as long as the
daemon says so. That is one of two proofs: the request's MAC (auth.py) is the other.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Lock
from typing import Final, Protocol

from wgpy.device import client
from wgpy.device.uapi import SOCKET_DIRECTORY, PeerState, UapiError
from wgpy.identity.claims import Kind
from wgpy.ip import Prefix
from wgpy.keys import PublicKey
from wgpy.mesh.records import NodeRecord

# Seconds for which an answer is good. Who was removed is refused by the store's word, at once.
KEEP: Final = 5.0
# Of the largest network, with as many that enrol.
MAX_KEPT: Final = 16_384
# Without a handshake for so long a session is over: 180 s (whitepaper 6.1, Reject-After-Time) and
# what the handshake that should have been takes.
SESSION: Final = 200.0


class CallersError(Exception):
    """The daemon does not say who speaks; one line."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who speaks. `jti` is that of the token to enrol of one in quarantine, and `name` what that
    asks for, "" for any; a member has no jti. `node` is what the network knows of a member."""

    key: PublicKey
    jti: str | None = None
    name: str = ""
    node: NodeRecord | None = None


class Callers(Protocol):
    """Tells who speaks. Blocking; any thread may call. Methods raise CallersError."""

    def of(self, key: PublicKey, address: bytes) -> Caller | None:
        """Who has this key and speaks from this address; None if nobody does."""

    def live(self) -> frozenset[PublicKey]:
        """The keys that have a session."""


class DaemonCallers:
    """As the daemon of an interface says, which is asked at most every 5 s for each caller.

    `own` is the interface's own key, and `addresses` its own: a coordinator is a node as well.
    """

    def __init__(
        self,
        interface: str,
        own: PublicKey,
        addresses: Iterable[bytes],
        *,
        directory: str = SOCKET_DIRECTORY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interface = interface
        self._own = own
        self._addresses = frozenset(addresses)
        self._directory = directory
        self._clock = clock
        self._lock = Lock()
        self._kept: OrderedDict[tuple[PublicKey, bytes], tuple[Caller, float]] = OrderedDict()
        # Each peer's last handshake as the daemon tells it, and when we saw that it was another.
        self._handshakes: dict[PublicKey, tuple[tuple[int, int], float]] = {}

    def of(self, key: PublicKey, address: bytes) -> Caller | None:
        """Who has this key and speaks from this address; None if nobody does."""
        if address in self._addresses:
            return Caller(key) if key == self._own else None
        now = self._clock()
        with self._lock:
            kept = self._kept.get((key, address))
        if kept is not None and now < kept[1]:
            return kept[0]
        found = next((x for x in self._ask(key) if x.public_key == key), None)
        caller = None if found is None else _caller(found, address)
        with self._lock:
            self._kept.pop((key, address), None)
            # Who is nobody now may be somebody in a moment.
            if caller is not None:
                self._kept[key, address] = (caller, now + KEEP)
                if len(self._kept) > MAX_KEPT:
                    self._kept.popitem(last=False)
        return caller

    def live(self) -> frozenset[PublicKey]:
        """The keys that have a session, our own among them.

        A session is alive while its handshakes follow one another. When one was is told by the
        daemon's wall clock, which may be set; so what counts is when we saw it change.
        """
        now = self._clock()
        seen: dict[PublicKey, tuple[tuple[int, int], float]] = {}
        for peer in self._ask(None):
            if peer.claims is None or peer.last_handshake == (0, 0):
                continue
            before = self._handshakes.get(peer.public_key)
            fresh = before is None or before[0] != peer.last_handshake
            seen[peer.public_key] = (peer.last_handshake, now if fresh or not before else before[1])
        self._handshakes = seen
        return frozenset({self._own, *(x for x, (_, at) in seen.items() if now - at <= SESSION)})

    def _ask(self, key: PublicKey | None) -> list[PeerState]:
        try:
            return client.get(self._interface, self._directory, peer=key).peers
        except UapiError as error:
            raise CallersError(str(error)) from None


def _caller(peer: PeerState, address: bytes) -> Caller | None:
    if peer.claims is None or Prefix(address, 8 * len(address)) not in peer.allowed_ips:
        return None
    if peer.claims.kind is Kind.ENROLMENT:
        return Caller(peer.public_key, peer.claims.serial, peer.claims.name)
    return Caller(peer.public_key)
