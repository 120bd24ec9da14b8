"""The tunnel of a node, as the agent brings it about: daemon, link, addresses, routes.

All of it is blocking, and says what is to be, not what is to be done: whatever a crash or a person
left there, the next call makes it right. The daemon lives on when the agent ends.
"""

import contextlib
import errno
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from wgpy.config.model import Config, EndpointSpec
from wgpy.config.sync import endpoint_address
from wgpy.device import client
from wgpy.device.uapi import Address, DeviceChange, DeviceState, UapiError
from wgpy.ip import Prefix
from wgpy.keys import PublicKey
from wgpy.linux.netlink import Link, LinkAddress, Netlink, NetlinkError
from wgpy.linux.routes import (
    MAIN_TABLE,
    Route,
    add_route,
    default_route_mtu,
    delete_route,
    ipv6_is_off,
    path_mtu,
    prefixes_through,
)
from wgpy.mesh.apply import difference
from wgpy.mesh.line import Endpoint
from wgpy.mesh.place import Place
from wgpy.quick import daemon
from wgpy.quick.plan import Snapshot, tunnel_mtu
from wgpy.quick.steps import QuickError, StartDaemon

# RFC 8200: no link of IPv6 has less, and the mesh has IPv6.
_LEAST_MTU: Final = 1280
_LINK_LOCAL: Final = b"\xfe\x80"


class TunnelError(Exception):
    """The tunnel cannot be made as it should be: one line."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the link is to have: whole addresses, and the prefixes that are routed to it."""

    addresses: tuple[Prefix, ...]
    routes: tuple[Prefix, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """What `Tunnel.bring` did: the daemon's state before it, whether the daemon had to be started,
    whether it was told anything, and what could not be had, one line each."""

    state: DeviceState
    started: bool
    changed: bool
    remarks: tuple[str, ...] = ()


class Tunnel:
    """The tunnel of one interface. `resolve` looks a host name up. Methods raise TunnelError."""

    def __init__(self, place: Place, resolve: Callable[[str, int], Address] | None = None) -> None:
        self._place = place
        self._name = place.interface
        self._resolve = resolve or look_up
        # The routes that we made: those of others stay.
        self._routes: set[Prefix] = set()

    def bring(self, config: Config, shape: Shape, port: int = 0) -> Done:
        """Make daemon and link as they are to be. The addresses come before the peers, so that no
        packet goes out from another one. `port` is the UDP port that a new daemon has, where it is
        free and the configuration asks for none."""
        try:
            started = self._ensure_daemon()
            with Netlink() as net:
                remarks = self._ensure_link(net, shape, config)
            if started and port and config.interface.listen_port is None:
                self._ask_for_port(port)
            return self._configure(config, started, remarks)
        except (QuickError, NetlinkError, UapiError) as error:
            raise TunnelError(str(error)) from None
        except OSError as error:
            raise TunnelError(f"{self._name}: {error.strerror or error}") from None

    def _ensure_daemon(self) -> bool:
        self._place.make_signals()
        if self.is_there() and self._name in client.list_interfaces():
            return False
        program = daemon.find_program()
        daemon.start(StartDaemon(self._name, program, str(self._place.signals)))
        self._routes.clear()
        return True

    def _ask_for_port(self, port: int) -> None:
        try:
            client.apply(self._name, DeviceChange(listen_port=port))
        except UapiError as error:
            # Another has it by now: any other port does as well.
            if error.code != errno.EADDRINUSE:
                raise

    def is_there(self) -> bool:
        """Whether there is a link: it goes with its daemon, however that ends. Costs one call."""
        try:
            socket.if_nametoindex(self._name)
        except OSError:
            return False
        return True

    def _ensure_link(self, net: Netlink, shape: Shape, config: Config) -> tuple[str, ...]:
        link = net.link(self._name)
        if link is None:
            raise TunnelError(f"the daemon runs, but there is no link {self._name}")
        wanted = {(x.address, x.length) for x in shape.addresses}
        if ipv6_is_off() and any(len(address) == 16 for address, _ in wanted):
            raise TunnelError("IPv6 is off here (net.ipv6.conf.all.disable_ipv6): turn it on")
        present = set(net.addresses(link))
        for address in sorted(wanted - present):
            net.add_address(link, address)
        if not link.up:
            net.set_link(link, mtu=max(_LEAST_MTU, self._mtu(net, config)), up=True)
        for address in sorted(present - wanted):
            if self._is_ours(address):
                net.delete_address(link, address)
        return self._ensure_routes(net, link, set(shape.routes))

    def _is_ours(self, address: LinkAddress) -> bool:
        """Whole addresses are of ours, of this run or an earlier one; the kernel's own stay."""
        raw, length = address
        return raw[:2] != _LINK_LOCAL and length == 8 * len(raw)

    def _ensure_routes(self, net: Netlink, link: Link, wanted: set[Prefix]) -> tuple[str, ...]:
        remarks = []
        for prefix in sorted(wanted - prefixes_through(net, link)):
            try:
                add_route(net, link, Route(prefix, MAIN_TABLE))
            except NetlinkError as error:
                # Another interface has that network: it is said, and the rest goes on.
                if error.code != errno.EEXIST:
                    raise
                remarks.append(str(error))
        for prefix in self._routes - wanted:
            delete_route(net, link, Route(prefix, MAIN_TABLE))
        self._routes = wanted
        return tuple(remarks)

    def _mtu(self, net: Netlink, config: Config) -> int:
        """At first; what the ways to others have is found out by the daemon."""
        hosts = [x.endpoint.host for x in config.peers if x.endpoint is not None]
        found = [path_mtu(net, host) for host in hosts if _is_numeric(host)]
        return tunnel_mtu(
            Snapshot(
                endpoint_mtus=tuple(x for x in found if x is not None),
                default_mtu=default_route_mtu(net),
            )
        )

    def _configure(self, config: Config, started: bool, remarks: tuple[str, ...]) -> Done:
        state = client.get(self._name)
        try:
            change = difference(config, state, self._look_up)
        except TunnelError as error:
            # No resolver, as behind an exit that is away: all that needs no name goes on, and who
            # has one is where it was.
            remarks = (*remarks, str(error))
            config = without_names(config, state, self._place.places())
            change = difference(config, state, self._look_up)
        if change is not None:
            client.apply(self._name, change)
        return Done(state, started, change is not None, remarks)

    def _look_up(self, endpoint: EndpointSpec) -> Address:
        found = endpoint_address(endpoint)
        return found if found is not None else self._resolve(endpoint.host, endpoint.port)

    def state(self) -> DeviceState:
        """What the daemon has now."""
        try:
            return client.get(self._name)
        except UapiError as error:
            raise TunnelError(str(error)) from None

    def take_down(self) -> None:
        """End the daemon, and with it its link, addresses and routes; nothing if there is none."""
        try:
            with Netlink() as net:
                daemon.stop(net, StartDaemon(self._name, ""), None)
        except (QuickError, NetlinkError) as error:
            raise TunnelError(str(error)) from None


def look_up(host: str, port: int) -> Address:
    """The first address of a host name. Raises TunnelError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise TunnelError(f"{host}: {error.strerror or error}") from None
    return Address(str(found[0][4][0]), port)


def without_names(
    config: Config, state: DeviceState, places: Mapping[PublicKey, Endpoint]
) -> Config:
    """The same, where peers whose endpoint is a name have the one that the daemon knows, or else
    are where they were found before."""
    known = {peer.public_key for peer in state.peers if peer.endpoint is not None}
    peers = []
    for peer in config.peers:
        if peer.endpoint is not None and not _is_numeric(peer.endpoint.host):
            place = None if peer.public_key in known else places.get(peer.public_key)
            endpoint = None if place is None else EndpointSpec(*place)
            peers.append(replace(peer, endpoint=endpoint))
        else:
            peers.append(peer)
    return replace(config, peers=tuple(peers))


def _is_numeric(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return endpoint_address(EndpointSpec(host, 1)) is not None
    return False
