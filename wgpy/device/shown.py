"""What is shown of a device and of its peers."""

import wgpy
from wgpy.datapath.contract import DataPath
from wgpy.device.address import to_address
from wgpy.device.admissions import CredentialSettings
from wgpy.device.handshaker import Handshaker
from wgpy.device.peer import PeerEntry, PeerTable
from wgpy.device.uapi import ClaimsSummary, DeviceState, PeerState
from wgpy.device.ways import WaySettings
from wgpy.firewall.rules import Settings as FirewallSettings
from wgpy.keys import PresharedKey, PublicKey


def peer_state(
    entry: PeerEntry, datapath: DataPath, claims: ClaimsSummary | None, ways: WaySettings
) -> PeerState:
    """A peer's part of the answer to a `get=1` request."""
    activity = datapath.activity(entry.handle)
    endpoint = entry.endpoint
    state = PeerState(
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
    ways.show_peer(entry, state)
    return state


def device_state(
    handshaker: Handshaker,
    datapath: DataPath,
    peers: PeerTable,
    credentials: CredentialSettings,
    ways: WaySettings,
    *,
    only: PublicKey | None = None,
    port: int,
    mark: int,
    firewall: FirewallSettings,
) -> DeviceState:
    """The answer to a `get=1` request, with all peers or `only` one."""
    shown = list(peers.by_key.values())
    if only is not None:
        shown = [peers.by_key[only]] if only in peers.by_key else []
    local = handshaker.local
    counters = datapath.counters()
    for name, value in handshaker.counters.items():
        counters[name] = counters.get(name, 0) + value
    state = DeviceState(
        private_key=handshaker.private,
        own_public_key=local.public if local is not None else None,
        listen_port=port,
        fwmark=mark,
        peers=[
            peer_state(entry, datapath, credentials.describe(entry.key), ways)
            for entry in shown
            if entry.is_shown
        ],
        wgpy_version=wgpy.__version__,
        datapath=datapath.name,
        counters=dict(sorted(counters.items())),
        offloads=datapath.offloads(),
        firewall=firewall,
    )
    credentials.show(state)
    ways.show(state)
    return state
