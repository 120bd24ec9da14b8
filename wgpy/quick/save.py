"""`wgpy save`, and SaveConfig: write what the interface has now over its .conf file."""

import dataclasses
from pathlib import Path

from wgpy.config.model import Config, EndpointSpec, InterfaceAddress
from wgpy.config.write import conf_text, from_state, left_out
from wgpy.device import client
from wgpy.device.uapi import DeviceState
from wgpy.keys import write_secret
from wgpy.linux.netlink import LinkAddress, Netlink
from wgpy.quick.journal import RUN_DIRECTORY, Journal, interface_lock, read_journal
from wgpy.quick.runner import say, say_step
from wgpy.quick.steps import QuickError

# fe80::/10, which the kernel gives to links by itself.
_LINK_LOCAL = (0xFE, 0x80)


def save(
    interface: str, path: Path, config: Config, *, run_directory: Path = RUN_DIRECTORY
) -> None:
    """Write the interface's keys, peers and addresses, and the rest of `config`, to `path`.

    Raises QuickError, UapiError, NetlinkError and OSError; the file is then as it was.
    """
    with interface_lock(run_directory, interface):
        save_locked(interface, path, config, run_directory=run_directory)


def save_locked(
    interface: str, path: Path, config: Config, *, run_directory: Path = RUN_DIRECTORY
) -> None:
    """As `save`, for who holds the interface's lock."""
    # The file that a symbolic link names is written, and the link stays.
    path = path.resolve()
    if path.suffix != ".conf":
        raise QuickError(f"{path}: only .conf files are saved, and this one would lose its form")
    with Netlink() as net:
        link = net.link(interface)
        if link is None:
            raise QuickError(f"{interface} is not up")
        state = client.get(interface)
        journal = read_journal(run_directory, interface)
        saved = merge(config, state, net.addresses(link), link.mtu, journal)
    lost = left_out(saved)
    if lost is not None:
        say(f"[!] {lost}")
    say_step(f"wgpy showconf {interface} > {path}")
    write_secret(path, conf_text(saved, quick=True).encode("utf-8", "surrogateescape"))


def merge(
    config: Config,
    state: DeviceState,
    addresses: list[LinkAddress],
    mtu: int,
    journal: Journal | None,
) -> Config:
    """The configuration to save: keys and peers as they are in `state`, addresses and MTU as the
    link has them, everything else as the file says.

    A firewall mark that `up` chose is left out, so that the next `up` is free to choose; an
    endpoint that was given by name stays a name where the daemon remembers it.
    """
    live = from_state(state)
    chosen = journal.chosen_marks() if journal else []
    interface = dataclasses.replace(
        config.interface,
        private_key=live.interface.private_key,
        listen_port=live.interface.listen_port,
        fwmark=None if state.fwmark in chosen else live.interface.fwmark,
        addresses=tuple(
            InterfaceAddress(*address)
            for address in _in_order(config, addresses)
            if InterfaceAddress(*address) in config.interface.addresses
            or not _is_link_local(address)
        ),
        mtu=mtu if config.interface.mtu is not None else None,
    )
    names = {peer.public_key: peer.endpoint_name for peer in state.peers if peer.endpoint_name}
    peers = tuple(
        dataclasses.replace(peer, endpoint=EndpointSpec(*names[peer.public_key]))
        if peer.public_key in names
        else peer
        for peer in live.peers
    )
    return dataclasses.replace(
        config,
        interface=interface,
        peers=peers,
        authority=live.authority,
        identity=live.identity,
        nat=live.nat,
    )


def _in_order(config: Config, addresses: list[LinkAddress]) -> list[LinkAddress]:
    """The link's addresses, those of the file first and in its order."""
    known = [tuple(address) for address in config.interface.addresses]
    return sorted(
        addresses, key=lambda address: known.index(address) if address in known else len(known)
    )


def _is_link_local(address: LinkAddress) -> bool:
    raw, _ = address
    return len(raw) == 16 and (raw[0], raw[1] & 0xC0) == _LINK_LOCAL
