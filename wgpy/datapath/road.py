"""What the data path keeps of one peer."""

from collections import deque
from enum import IntFlag

from wgpy.datapath.contract import Handle
from wgpy.datapath.endpoint import Route
from wgpy.datapath.gate import Gate
from wgpy.datapath.hold import Hold
from wgpy.datapath.session import Session
from wgpy.protocol.activity import Activity
from wgpy.protocol.constants import MAX_STAGED_PACKETS
from wgpy.protocol.keypair import KeyPairs


class Pending(IntFlag):
    """Events of a peer that wait to be drained: bits, so that they need no queue."""

    HANDSHAKE_NEEDED = 1
    ACTIVE = 2
    KEY_CONFIRMED = 4
    REKEY_SEND = 8
    REKEY_RECEIVE = 16
    ROAMED = 32
    GATE_CONFIRMED = 64
    ELSEWHERE = 128


# Answered when a new pair seals: a handshake asked for before it would be one too many.
_ANSWERED = Pending.HANDSHAKE_NEEDED | Pending.REKEY_SEND | Pending.REKEY_RECEIVE


class Road:
    """One peer: where it is, its key pairs, what it did, and what waits for a handshake."""

    __slots__ = (
        "activity",
        "elsewhere",
        "gate",
        "handle",
        "hold",
        "keys",
        "pending",
        "pinned",
        "resting",
        "route",
        "staged",
    )

    def __init__(self, handle: Handle) -> None:
        self.handle = handle
        self.route: Route | None = None
        self.keys: KeyPairs[Session] = KeyPairs()
        # A key pair that is not one of them yet.
        self.gate: Gate | None = None
        self.activity = Activity()
        self.staged: deque[bytes] = deque(maxlen=MAX_STAGED_PACKETS)
        # What waits because the peer moved.
        self.hold: Hold | None = None
        self.pending = 0
        self.resting = False
        # Its route does not follow its packets; where they came from is only told, and this is
        # what was told last.
        self.pinned = False
        self.elsewhere: Route | None = None

    def stays(self, route: Route) -> bool:
        """Whether an authentic packet from there moves nothing."""
        return self.pinned and not route.leads_to(self.route)

    def has_new_key(self) -> None:
        """A new pair seals from now on."""
        self.pending &= ~_ANSWERED

    def mark_sent(self, now: float) -> None:
        """Something authenticated went out."""
        activity = self.activity
        activity.last_sent = now
        activity.first_data_received_unanswered = 0.0

    def mark_received(self, now: float, size: int) -> None:
        """Something authenticated of `size` bytes came in."""
        activity = self.activity
        activity.last_received = now
        activity.first_data_sent_unanswered = 0.0
        activity.rx_bytes += size

    def mark_data_sent(self, now: float) -> None:
        """The authenticated packet was data, not a keepalive."""
        activity = self.activity
        activity.last_data_sent = now
        if not activity.first_data_sent_unanswered:
            activity.first_data_sent_unanswered = now

    def mark_data_received(self, now: float) -> None:
        """The authenticated packet was data, not a keepalive."""
        activity = self.activity
        activity.last_data_received = now
        if not activity.first_data_received_unanswered:
            activity.first_data_received_unanswered = now
