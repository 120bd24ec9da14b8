"""What is shown of a peer."""

from wgpy.datapath.contract import DataPath
from wgpy.device.address import to_address
from wgpy.device.peer import PeerEntry
from wgpy.device.uapi import ClaimsSummary, PeerState
from wgpy.keys import PresharedKey


def peer_state(entry: PeerEntry, datapath: DataPath, claims: ClaimsSummary | None) -> PeerState:
    """A peer's part of the answer to a `get=1` request."""
    activity = datapath.activity(entry.handle)
    endpoint = entry.endpoint
    return PeerState(
        public_key=entry.key,
        preshared_key=entry.protocol.remote.psk or PresharedKey(bytes(32)),
        endpoint=None if endpoint is None else to_address(endpoint),
        endpoint_name=entry.endpoint_name,
        last_handshake=divmod(entry.last_handshake_ns, 10**9),
        tx_bytes=activity.tx_bytes,
        rx_bytes=activity.rx_bytes,
        persistent_keepalive=entry.protocol.timers.persistent_keepalive,
        allowed_ips=datapath.allowed_ips(entry.handle),
        admitted=entry.admitted,
        expectation=entry.expectation,
        claims=claims,
    )
