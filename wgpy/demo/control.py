"""What the demo tells each daemon, and asks of it, over the userspace API."""

from dataclasses import dataclass

from wgpy.demo.machines import Machine
from wgpy.device import client
from wgpy.device.uapi import (
    Address,
    AllowedIpChange,
    DeviceChange,
    DeviceState,
    PeerChange,
    UapiError,
)
from wgpy.ip import parse_prefix
from wgpy.keys import PrivateKey, PublicKey


@dataclass(frozen=True, slots=True)
class Status:
    """One daemon's view: when the last handshake was (seconds since the epoch, 0 = never),
    bytes on the wire to and from the peer, and the data path, if the daemon names one."""

    last_handshake: float
    sent: int
    received: int
    datapath: str | None


def change_for(
    machine: Machine, private: PrivateKey, peer: Machine, peer_key: PublicKey
) -> DeviceChange:
    """The whole configuration of a machine: its key and port, and its one peer."""
    inside = [parse_prefix(f"{peer.inner_v4}/32"), parse_prefix(f"{peer.inner_v6}/128")]
    return DeviceChange(
        private_key=private,
        listen_port=machine.port,
        replace_peers=True,
        peers=[
            PeerChange(
                peer_key,
                endpoint=Address(peer.outer, peer.port),
                replace_allowed_ips=True,
                allowed_ips=[AllowedIpChange(prefix) for prefix in inside],
            )
        ],
    )


def configure(machine: Machine, private: PrivateKey, peer: Machine, peer_key: PublicKey) -> None:
    """Give a machine its whole configuration. Raises UapiError."""
    client.apply(machine.interface, change_for(machine, private, peer, peer_key))


def status(machine: Machine) -> Status:
    """What a machine's daemon says of its peer. Raises UapiError."""
    return read_status(client.get(machine.interface))


def answers(machine: Machine) -> bool:
    """Whether a machine's daemon answers."""
    try:
        client.get(machine.interface)
    except UapiError:
        return False
    return True


def read_status(state: DeviceState) -> Status:
    """The part of a daemon's state that the demo shows; zeros where there is no peer yet."""
    if not state.peers:
        return Status(0.0, 0, 0, state.datapath)
    peer = state.peers[0]
    seconds, nanoseconds = peer.last_handshake
    return Status(seconds + nanoseconds / 1e9, peer.tx_bytes, peer.rx_bytes, state.datapath)
