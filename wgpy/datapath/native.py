"""The native data path: the contract over the Rust crate, whose worker moves the packets.

The packets never meet Python: a thread without the interpreter's lock serves the TUN and the
sockets, and `fileno()` is an eventfd that it rings. `contract.DataPath` documents every method.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from wgpy import _native
from wgpy.datapath import contract
from wgpy.datapath.contract import (
    GATED_NEXT_ONLY,
    AllowedIpOperation,
    Datagram,
    DataPathError,
    Endpoint,
    Event,
    FilterRule,
    Handle,
    NewKeyPair,
    Roamed,
    Slot,
    Via,
)
from wgpy.datapath.demux import check_stun_sources
from wgpy.datapath.endpoint import address_bytes, check_ttl
from wgpy.datapath.filter import check_path_ids, check_rules, check_secrets
from wgpy.datapath.hold import check_hold
from wgpy.datapath.vias import check_channel
from wgpy.ip import Prefix, address_text, parse_address
from wgpy.protocol.activity import Activity

# The offloads that the environment may switch off: WGPY_OFFLOADS=all, none, or those to leave on,
# with commas between.
OFFLOADS_VARIABLE = "WGPY_OFFLOADS"
OFFLOADS = ("tun_tso", "tun_uso", "tun_tcp_merge", "tun_udp_merge", "udp_segment")

_OPERATIONS = {"add": 0, "remove": 1, "replace": 2}

_Packed = tuple[bytes, int, int, bytes | None, int, int, int]


def unwanted_offloads(text: str) -> list[str]:
    """What a value of WGPY_OFFLOADS switches off. Raises DataPathError."""
    if text in ("", "all"):
        return []
    wanted = [] if text == "none" else [name.strip() for name in text.split(",")]
    for name in wanted:
        if name not in OFFLOADS:
            raise DataPathError(
                f"{OFFLOADS_VARIABLE}: {name!r} is no offload; write all, none, or some of "
                f"{', '.join(OFFLOADS)}"
            )
    return [name for name in OFFLOADS if name not in wanted]


def pack(endpoint: Endpoint) -> _Packed:
    """An endpoint as the native module takes it."""
    address = address_bytes(endpoint.address)
    here = (endpoint.source, endpoint.ifindex, endpoint.via, endpoint.channel)
    return address, endpoint.port, endpoint.scope, *here


def unpack(packed: _Packed) -> Endpoint:
    """An endpoint as the native module gives it."""
    address, port, scope, source, ifindex, via, channel = packed
    return Endpoint(address_text(address), port, scope, source, ifindex, via, channel)


def to_event(name: str, *fields: Any) -> Event:
    """An event as the native module gives it: its class's name and its fields."""
    if name == "Datagram":
        data, packed, when = fields
        return Datagram(data, unpack(packed), when)
    if name == "Roamed":
        peer, packed = fields
        return Roamed(peer, unpack(packed))
    event: Event = getattr(contract, name)(*fields)
    return event


class Control:
    """What the data path shares with its twin in memory, which tests drive: the calls that the
    native object answers by itself."""

    def __init__(self, inner: Any, random: Callable[[int], bytes]) -> None:
        self._inner = inner
        self._random = random

    def drain(self, limit: int) -> list[Event]:
        return [to_event(*event) for event in self._inner.drain(limit)]

    def queue_depth(self, kind: int | None = None) -> int:
        depth: int = self._inner.queue_depth(kind)
        return depth

    def set_mtu(self, mtu: int) -> None:
        try:
            self._inner.set_mtu(max(mtu, 0))
        except ValueError as error:
            raise DataPathError(str(error)) from None

    def set_up(self, up: bool) -> None:
        self._inner.set_up(up)

    def set_filter(self, rules: Sequence[FilterRule], mac1_key: bytes) -> None:
        check_rules(rules)
        budgets = any(rule.budget is not None for rule in rules)
        seed = self._random(16) if budgets else bytes(16)
        self._inner.set_filter([tuple(rule) for rule in rules], mac1_key, seed)

    def set_cookie_secret(self, current: bytes, previous: bytes = b"") -> None:
        self._inner.set_cookie_secrets(check_secrets(current, previous))

    def set_stun_sources(self, places: Iterable[tuple[str, int]]) -> None:
        found = check_stun_sources(places)
        self._inner.set_stun_sources([(parse_address(host), port) for host, port in found])

    def set_path_ids(self, ids: Iterable[bytes]) -> None:
        self._inner.set_path_ids(list(check_path_ids(ids)))

    def add_peer(self) -> Handle:
        peer: Handle = self._inner.add_peer()
        return peer

    def remove_peer(self, peer: Handle) -> None:
        self._inner.remove_peer(peer)

    def set_allowed_ips(self, changes: Iterable[AllowedIpOperation]) -> None:
        self._inner.set_allowed_ips(
            [
                (_OPERATIONS[kind], peer, *((None, 0) if prefix is None else prefix))
                for kind, peer, prefix in changes
            ]
        )

    def allowed_ips(self, peer: Handle) -> list[Prefix]:
        return [Prefix(*prefix) for prefix in self._inner.allowed_ips(peer)]

    def set_endpoint(self, peer: Handle, endpoint: Endpoint | None, hold: float = 0.0) -> None:
        check_hold(hold)
        self._inner.set_endpoint(peer, None if endpoint is None else pack(endpoint), hold)

    def let_go(self, peer: Handle) -> None:
        self._inner.let_go(peer)

    def add_socket(self, fd: int) -> Via:
        try:
            via: Via = self._inner.add_socket(fd)
        except ValueError as error:
            raise DataPathError(str(error)) from None
        return via

    def add_relay(self, server: Endpoint, carrier: int | None = None) -> Via:
        try:
            packed = pack(server)
        except ValueError as error:
            if carrier is not None:
                os.close(carrier)
            raise DataPathError(str(error)) from None
        try:
            via: Via = self._inner.add_relay(packed, carrier)
        except ValueError as error:
            raise DataPathError(str(error)) from None
        return via

    def set_channel(self, relay: Via, number: int, peer: Endpoint | None) -> None:
        check_channel(number)
        try:
            place = None if peer is None else (parse_address(peer.address), peer.port)
            self._inner.set_channel(relay, number, place)
        except ValueError as error:
            raise DataPathError(str(error)) from None

    def remove_via(self, via: Via) -> None:
        self._inner.remove_via(via)

    def set_roaming(self, peer: Handle, applied: bool) -> None:
        self._inner.set_roaming(peer, applied)

    def clear_source(self, peer: Handle | None) -> None:
        self._inner.clear_source(peer)

    def free_index(self, index: int) -> None:
        self._inner.free_index(index)

    def install(
        self, peer: Handle, slot: Slot, pair: NewKeyPair, *, kick: bool, gated: bool = False
    ) -> None:
        try:
            if gated and slot is not Slot.NEXT:
                raise DataPathError(GATED_NEXT_ONLY)
            self._inner.install(
                peer,
                slot is Slot.NEXT,
                (pair.send_key, pair.receive_key),
                (pair.local_index, pair.remote_index),
                (pair.reject_after, pair.notify_send_after, pair.notify_receive_after),
                kick,
                gated,
            )
        finally:
            for key in (pair.send_key, pair.receive_key):
                key[:] = bytes(len(key))

    def release(self, peer: Handle) -> bool:
        released: bool = self._inner.release(peer)
        return released

    def refuse(self, peer: Handle) -> None:
        self._inner.refuse(peer)

    def drop_keys(self, peer: Handle) -> None:
        self._inner.drop_keys(peer)

    def send_keepalive(self, peer: Handle) -> None:
        self._inner.send_keepalive(peer)

    def drop_staged(self, peer: Handle) -> None:
        self._inner.drop_staged(peer)

    def send(
        self,
        data: bytes,
        *,
        to: Endpoint | None = None,
        peer: Handle | None = None,
        ttl: int = 0,
        whole: bool = False,
    ) -> int | None:
        check_ttl(ttl)
        packed = None if to is None else pack(to)
        error: int | None = self._inner.send(data, packed, peer, ttl, whole)
        return error

    def heard(self, peer: Handle, size: int, when: float) -> None:
        self._inner.heard(peer, size, when)

    def activity(self, peer: Handle) -> Activity:
        return Activity(*self._inner.activity(peer))

    def rest(self, peer: Handle) -> None:
        self._inner.rest(peer)

    def counters(self) -> dict[str, int]:
        counters: dict[str, int] = self._inner.counters()
        return counters

    def offloads(self) -> dict[str, bool]:
        return dict(self._inner.offloads())


class Native(Control):
    """`contract.DataPath` by the native module. The TUN's descriptor stays its owner's.

    Its clock is CLOCK_BOOTTIME. The worker starts when the link is first up, so that a daemon may
    fork, and give up privileges, before.
    """

    name = "native"

    def __init__(self, tun: int, *, vnet_header: bool, mtu: int) -> None:
        off = unwanted_offloads(os.environ.get(OFFLOADS_VARIABLE, ""))
        try:
            super().__init__(_native.DataPath(tun, vnet_header, mtu, off), os.urandom)
        except ValueError as error:
            raise DataPathError(str(error)) from None

    def fileno(self) -> int:
        fd: int = self._inner.fileno()
        return fd

    def close(self) -> None:
        self._inner.close()

    def set_sockets(self, v4: int | None, v6: int | None) -> None:
        self._inner.set_sockets(v4, v6)

    def reserve_index(self) -> int:
        index: int = self._inner.reserve_index()
        return index
