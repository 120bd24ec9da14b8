"""What the device keeps of one peer, and the tables to find it by."""

import math
from typing import TYPE_CHECKING, NamedTuple

from wgpy.datapath.contract import Endpoint, Handle
from wgpy.identity.claims import Claims
from wgpy.identity.settings import Expectation
from wgpy.keys import PresharedKey, PublicKey
from wgpy.protocol.credential_payload import Offer
from wgpy.protocol.peer import Peer

if TYPE_CHECKING:
    from wgpy.identity.token import Enrolment


class Shown(NamedTuple):
    """What a peer offered, what that claimed, and what `Trust.state` was then."""

    offer: Offer
    claims: Claims
    state: object

    def still_holds(self, offer: Offer | None, state: object, wall: float) -> bool:
        """Whether the same offer claims the same now. One that is early is judged anew."""
        claims = self.claims
        return (
            self.state is state
            and state is not None
            and (self.offer is offer or self.offer == offer)
            and claims.not_before <= wall < claims.not_after
        )


class PeerEntry:
    """One peer of the interface: the protocol's side, the data path's handle, and what is shown."""

    __slots__ = (
        "admitted",
        "claims",
        "denied",
        "endpoint",
        "endpoint_name",
        "ends_at",
        "enrolment",
        "expectation",
        "given",
        "handle",
        "in_session",
        "key",
        "last_handshake_ns",
        "look_at",
        "managed",
        "nat",
        "protocol",
        "response_index",
        "shown",
        "unanswered",
        "waiting",
    )

    def __init__(self, key: PublicKey, handle: Handle, protocol: Peer) -> None:
        self.key = key
        self.handle = handle
        self.protocol = protocol
        # It came in by its credential: it is in no configuration, and no request edits it.
        self.admitted = False
        # What a configured peer must prove by a credential; None for an ordinary peer.
        self.expectation: Expectation | None = None
        # What its live session rests on, and when that ends on the device's clock: claims, or for a
        # peer in quarantine what it may become.
        self.claims: Claims | None = None
        self.enrolment: Enrolment | None = None
        self.ends_at = math.inf
        # What it proved that with, for the next time that it shows the same.
        self.shown: Shown | None = None
        # Our index of a handshake whose claims take effect once it is confirmed.
        self.waiting: int | None = None
        # A deny list has its key: not even the configuration lets it in.
        self.denied = False
        # The operator wants its way to be found; and whether somebody does so.
        self.nat = False
        self.managed = False
        self.endpoint: Endpoint | None = None
        # Where the operator said that it is.
        self.given: Endpoint | None = None
        self.endpoint_name: tuple[str, int] | None = None
        # A session began, and its keys were not dropped since.
        self.in_session = False
        # Nanoseconds since the epoch; 0 for never.
        self.last_handshake_ns = 0
        # When the timers are looked at next, on the device's clock.
        self.look_at: float | None = None
        # Our index in the last response we sent: a cookie reply to it names it.
        self.response_index: int | None = None
        # Initiations sent to this endpoint since something authentic came back.
        self.unanswered = 0

    def set_psk(self, psk: PresharedKey) -> None:
        """Take a copy, or none for zeros, and wipe the former one: that was our copy."""
        former = self.protocol.remote.psk
        self.protocol.set_psk(None if psk.is_zero() else PresharedKey(bytes(psk)))
        if former is not None:
            former.wipe()

    @property
    def by_credential(self) -> bool:
        """Whether it shakes hands by types 0x10 and 0x11, and by no others."""
        return self.admitted or self.expectation is not None

    @property
    def is_shown(self) -> bool:
        """Whether it is a peer to anybody: one that was admitted, and not only answered."""
        return not self.admitted or self.claims is not None or self.enrolment is not None


class PeerTable:
    """The peers by public key, by the data path's handle and by the index of a handshake."""

    def __init__(self) -> None:
        self.by_key: dict[PublicKey, PeerEntry] = {}
        self.by_handle: dict[Handle, PeerEntry] = {}
        self.by_index: dict[int, PeerEntry] = {}

    def __len__(self) -> int:
        return len(self.by_key)

    def add(self, entry: PeerEntry) -> None:
        """Take in a peer that is in none of the tables."""
        self.by_key[entry.key] = entry
        self.by_handle[entry.handle] = entry

    def answered(self, entry: PeerEntry, index: int) -> None:
        """We answered a peer with this index: a cookie reply to that will name it."""
        if entry.response_index is not None:
            self.by_index.pop(entry.response_index, None)
        entry.response_index = index
        self.by_index[index] = entry

    def remove(self, entry: PeerEntry) -> None:
        """Take a peer out of every table."""
        del self.by_key[entry.key]
        del self.by_handle[entry.handle]
        for index in (*entry.protocol.begun, entry.response_index):
            if index is not None:
                self.by_index.pop(index, None)
