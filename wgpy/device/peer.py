"""What the device keeps of one peer, and the tables to find it by."""

from wgpy.datapath.contract import Endpoint, Handle
from wgpy.identity.settings import Expectation
from wgpy.keys import PublicKey
from wgpy.protocol.peer import Peer


class PeerEntry:
    """One peer of the interface: the protocol's side, the data path's handle, and what is shown."""

    __slots__ = (
        "admitted",
        "endpoint",
        "endpoint_name",
        "expectation",
        "handle",
        "key",
        "last_handshake_ns",
        "look_at",
        "protocol",
        "response_index",
        "unanswered",
    )

    def __init__(self, key: PublicKey, handle: Handle, protocol: Peer) -> None:
        self.key = key
        self.handle = handle
        self.protocol = protocol
        # It came in by its credential: it is in no configuration, and no request edits it.
        self.admitted = False
        # What a configured peer must prove by a credential; None for an ordinary peer.
        self.expectation: Expectation | None = None
        self.endpoint: Endpoint | None = None
        self.endpoint_name: tuple[str, int] | None = None
        # Nanoseconds since the epoch; 0 for never.
        self.last_handshake_ns = 0
        # When the timers are looked at next, on the device's clock.
        self.look_at: float | None = None
        # Our index in the last response we sent: a cookie reply to it names it.
        self.response_index: int | None = None
        # Initiations sent to this endpoint since something authentic came back.
        self.unanswered = 0


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

    def remove(self, entry: PeerEntry) -> None:
        """Take a peer out of every table."""
        del self.by_key[entry.key]
        del self.by_handle[entry.handle]
        for index in (entry.protocol.initiation_index, entry.response_index):
            if index is not None:
                self.by_index.pop(index, None)
