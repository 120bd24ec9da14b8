"""Why a request is refused before anything of it is done."""

import errno
from typing import Final

from wgpy.device.address import to_endpoint
from wgpy.device.peer import PeerTable
from wgpy.device.uapi import DeviceChange, UapiError
from wgpy.keys import PublicKey

# The kernel's MAX_PEERS_PER_DEVICE is 2^20; here a peer costs some 3 KB, so this is 200 MB.
MAX_PEERS: Final = 1 << 16


def check_change(change: DeviceChange, peers: PeerTable) -> None:
    """Raises UapiError for a `set=1` request that the peers do not allow."""
    _check_room(change, peers)
    _check_admitted(change, peers)
    for peer in change.peers:
        if peer.endpoint is not None:
            to_endpoint(peer.endpoint)


def _check_room(change: DeviceChange, peers: PeerTable) -> None:
    if len(peers) + len(change.peers) <= MAX_PEERS:
        return
    present = peers.by_key.items()
    keys = {key for key, entry in present if entry.admitted or not change.replace_peers}
    keys.update(peer.public_key for peer in change.peers if not peer.remove)
    if len(keys) > MAX_PEERS:
        raise UapiError(errno.ENOSPC, f"an interface has at most {MAX_PEERS} peers")


def _check_admitted(change: DeviceChange, peers: PeerTable) -> None:
    """A request may remove a peer that came in by its credential, and may not edit it.

    A request that replaces the peers is a whole configuration, and may name it as one of its own.
    """
    gone: set[PublicKey] = set()
    for peer in change.peers:
        entry = peers.by_key.get(peer.public_key)
        if entry is None or not entry.admitted or not entry.is_shown or entry.key in gone:
            continue
        if peer.remove:
            gone.add(entry.key)
        elif peer.update_only or not change.replace_peers:
            raise UapiError(
                errno.EPERM,
                f"{entry.key.base64()} came in by its credential: it can be removed, not changed",
            )
