"""The seam between control and data: what every data path does, and the events it reports.

Python decides, the data path moves packets, as with a kernel module. The control plane opens and
configures the TUN and the UDP sockets; the data path serves them, and does exactly this: look up
allowed IPs, seal or open transport messages in place, keep counters and the replay window, follow
authenticated roaming, batch system calls. Every other datagram that passes its filter, and every
change of state that the protocol must hear of, goes up as an event behind one file descriptor.

Times are seconds on CLOCK_BOOTTIME; 0.0 means never. A handle names a peer and is never reused
within one data path.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple, Protocol

from wgpy.ip import Prefix
from wgpy.protocol.activity import Activity
from wgpy.protocol.constants import (
    PEERS_PER_SECOND,
    SOURCE_AT_ONCE,
    SOURCE_PER_SECOND,
    STRANGERS_AT_ONCE,
    STRANGERS_PER_SECOND,
)

Handle = int
# One of our sockets, or a relay: 0 is the pair of `set_sockets`, other numbers are never reused
# within one data path.
Via = int

# Why `install` refuses: an initiator has the credential in its hands before it has the keys.
GATED_NEXT_ONLY = "only the key pair of a responder can be gated; install it as the next one"


class DataPathError(Exception):
    """The data path cannot do what was asked; the text says what and why."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a peer is, and from which address of ours it is answered (sticky sources).

    `address` is numeric; `scope` is the interface index of a link-local IPv6 address. `source` is
    the address of ours that the peer's last authenticated packet hit (4 or 16 bytes) or None to
    let the routing table choose, and `ifindex` the interface it came in by, 0 if unknown.

    `via` is the socket that leads there, or the relay; then `channel` is the TURN channel, address
    and port are the peer's as `set_channel` has them, and there is no source.
    """

    address: str
    port: int
    scope: int = 0
    source: bytes | None = None
    ifindex: int = 0
    via: Via = 0
    channel: int = 0


class Slot(Enum):
    """Where a new key pair goes (whitepaper 6.3; the kernel's add_new_keypair)."""

    # Both sides have it: use it at once. The former current one becomes previous.
    CURRENT = "current"
    # We answered an initiation: wait for the first packet sealed with it before sealing with it.
    NEXT = "next"


@dataclass(slots=True)
class NewKeyPair:
    """A key pair to install. Its two keys (32 bytes each) are consumed: wiped once taken over.

    `local_index` was reserved and is from now on owned by the key pair. At `reject_after` it is
    neither sealed nor opened with any more. The first packet sealed after `notify_send_after`
    raises RekeySend, the first opened after `notify_receive_after` raises RekeyReceive, once each;
    infinity for never.
    """

    send_key: bytearray
    receive_key: bytearray
    local_index: int
    remote_index: int
    created: float
    reject_after: float
    notify_send_after: float
    notify_receive_after: float

    def __repr__(self) -> str:
        return f"NewKeyPair(local={self.local_index:#010x}, remote={self.remote_index:#010x})"


class Budget(NamedTuple):
    """How many datagrams of a type that is dear to answer may reach Python, whoever sends them.

    They wait in a queue of their own. A datagram is *proven* if behind its mac1 stands the mac2 of
    a cookie made with a secret of `set_cookie_secret`: it came from where it says. Of the others,
    those whose address and port are a peer's endpoint have a rate of their own, and three quarters
    of the queue; the rest have half of it. A bucket of the rest that ran dry gives nothing until it
    is full: so the control plane is woken for a burst of them at a time. What is over a bound is
    dropped and counted as `shed_queue`, `shed_rate` (proven), `shed_unproven` or `shed_source`.
    """

    # Those that wait. At `proven_rate` it is a quarter of a second's work.
    queue: int = 128
    # A second; at once, as many as the queue takes. Each costs a Diffie-Hellman or two, 0.2 to
    # 0.4 ms: this is a fifth of one processor.
    proven_rate: float = 500.0
    # A second. In a flood from made-up addresses peers still renew their keys.
    peer_rate: float = float(PEERS_PER_SECOND)
    # A second, and at once of either. Under load each costs a cookie reply, 0.1 ms of Python.
    unproven_rate: float = float(STRANGERS_PER_SECOND)
    unproven_burst: int = STRANGERS_AT_ONCE
    # For one IPv4 address, one /64 of IPv6, or one channel of a relay, a second and at once, apart
    # for each of the three.
    # Twice what the control plane allows: who is over its bound there is asked for a cookie, and so
    # gets in although another writes its address on datagrams.
    source_rate: float = 2.0 * SOURCE_PER_SECOND
    source_burst: int = 2 * SOURCE_AT_ONCE


class FilterRule(NamedTuple):
    """One type of control datagram that may reach Python.

    `length` is exact, or with `exact` false the least, and `longest` the greatest, unless None. At
    `mac1_offset` stands a mac1 of 16 bytes under the filter's key, unless None; a negative offset
    counts from the end. At `index_offset` stands one of our reserved indices, unless None, and at
    `path_offset` one of the identifiers of `set_path_ids`, 8 bytes. Whatever fits no rule is
    dropped and counted. A `budget` needs a mac1, and room for a mac2 behind it.

    The lowest byte of a `type` is none of 0x40 to 0x4f, with which ChannelData begins (RFC 8656).
    """

    type: int
    length: int
    exact: bool = True
    mac1_offset: int | None = None
    index_offset: int | None = None
    longest: int | None = None
    budget: Budget | None = None
    path_offset: int | None = None


class AllowedIpOperation(NamedTuple):
    """One step of an atomic batch. `replace` takes every prefix of the peer from it first; its
    `prefix` is None. An added prefix moves to its new owner."""

    operation: Literal["add", "remove", "replace"]
    peer: Handle
    prefix: Prefix | None = None


# --- Events ---


@dataclass(frozen=True, slots=True)
class Datagram:
    """A control datagram that passed the filter, with the time it was read."""

    data: bytes
    endpoint: Endpoint
    when: float


@dataclass(frozen=True, slots=True)
class HandshakeNeeded:
    """A packet waits for this peer, and no key pair can seal it."""

    peer: Handle


@dataclass(frozen=True, slots=True)
class Active:
    """The first packet, in or out, since the control plane said `rest`."""

    peer: Handle


@dataclass(frozen=True, slots=True)
class KeyConfirmed:
    """The first packet of the next key pair was opened: it is the current one now.

    Of a gated key pair: the current one stays, and packets are held until `release` or `refuse`.
    """

    peer: Handle
    local_index: int


@dataclass(frozen=True, slots=True)
class RekeySend:
    """A packet was sealed with a key older than its `notify_send_after`, or sealed too often."""

    peer: Handle


@dataclass(frozen=True, slots=True)
class RekeyReceive:
    """A packet was opened with a key older than its `notify_receive_after`."""

    peer: Handle


@dataclass(frozen=True, slots=True)
class Roamed:
    """An authenticated packet came from another address, or to another one of ours.

    Where roaming is not applied (`set_roaming`): it came from there, and the peer was not moved.
    """

    peer: Handle
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class TunLost:
    """The TUN is gone (errno EBADFD after its link was deleted)."""

    errno: int


@dataclass(frozen=True, slots=True)
class SocketError:
    """A UDP socket cannot be served any more."""

    fd: int
    errno: int


@dataclass(frozen=True, slots=True)
class Offload:
    """An offload was switched off in service, and why."""

    name: str
    on: bool
    errno: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The data path failed inside and holds no keys any more; peers must shake hands afresh."""

    text: str


Event = (
    Datagram
    | HandshakeNeeded
    | Active
    | KeyConfirmed
    | RekeySend
    | RekeyReceive
    | Roamed
    | TunLost
    | SocketError
    | Offload
    | Failed
)


class DataPath(Protocol):
    """The contract. One object serves one interface; there is no state outside of it."""

    @property
    def name(self) -> str:
        """`portable` or `native`."""

    def fileno(self) -> int:
        """Readable whenever `drain` has something to do."""

    def drain(self, limit: int) -> list[Event]:
        """At most `limit` datagrams and every pending peer event, oldest datagram first.

        STUN comes after the other datagrams, then types with a budget; STUN and each of these
        types have a quarter of `limit` at the least.
        """

    def queue_depth(self, kind: int | None = None) -> int:
        """Control datagrams that wait to be drained: what "under load" means.

        Those of a type with a budget are in none but its own queue, which `kind` asks for. STUN
        is not among them.
        """

    def close(self) -> None:
        """Stop, wipe every key and close the sockets. The TUN stays its owner's to close."""

    def set_sockets(self, v4: int | None, v6: int | None) -> None:
        """Serve these sockets (their descriptors are owned from now on) and close the old ones."""

    def add_socket(self, fd: int) -> Via:
        """Serve another UDP socket, bound and opened like those of the pair, of either family.

        Its descriptor is owned from now on, whatever comes of it. There are at most 64. It stays
        until `remove_via` or `close`, and is read while the link is up. Raises DataPathError.
        """

    def add_relay(self, server: Endpoint, carrier: int | None = None) -> Via:
        """Serve peers through a TURN server, with which an allocation exists (RFC 8656).

        Their datagrams are ChannelData (section 12.4) to and from the server's address and port, by
        the socket that `server.via` names. With a `carrier` they are messages on this descriptor:
        a connected AF_UNIX socket of datagrams, one ChannelData each without padding, whose other
        end sees to the rest. It is owned from now on, whatever comes of it, and what it has no room
        for is dropped and counted (`carrier_full`).

        There are at most 16, no two with one server by one socket. STUN from the server, by this
        socket, may come up. What is inside of ChannelData is a WireGuard message or of a type that
        the filter has, and nothing else. Raises DataPathError.
        """

    def set_channel(self, relay: Via, number: int, peer: Endpoint | None) -> None:
        """What comes on a channel of 0x4000 to 0x4FFF is from the peer with this address and port.

        None unbinds it. Of its `Endpoint` a peer through a relay is known by, and told with, these
        two, `via` and `channel`. Who had another peer's endpoint on the channel has none any more.
        Raises DataPathError.
        """

    def remove_via(self, via: Via) -> None:
        """Forget a socket or a relay that was added, and close its descriptor; with a socket go
        the relays that it leads to. Unknown ones are ignored.

        When it returns nothing is sent by it any more. Peers whose endpoint was reached by it have
        none, until a packet of theirs or `set_endpoint` says where they are; so has an endpoint
        that names it later, or a channel that is not bound. What it received and nobody read is
        lost.
        """

    def set_mtu(self, mtu: int) -> None:
        """Padding ends at the MTU. Raises DataPathError over MAX_INNER_LENGTH."""

    def set_up(self, up: bool) -> None:
        """Follow the link. Down: drop what is staged, read neither TUN nor sockets."""

    def set_filter(self, rules: Sequence[FilterRule], mac1_key: bytes) -> None:
        """What may reach Python. `mac1_key` is the keyed BLAKE2s key, 32 bytes.

        A type that had a budget before keeps its queue, and what it used up. Raises DataPathError
        for a rule that cannot be.
        """

    def set_cookie_secret(self, current: bytes, previous: bytes = b"") -> None:
        """The secrets that cookies are made with, 32 bytes or empty for none (whitepaper 5.4.7).

        A cookie is keyed BLAKE2s of 16 bytes over the sender's address (4 or 16 bytes) and port
        (2 bytes, big-endian), or through a relay over its handle (4 bytes, big-endian) and the
        channel (2 bytes, big-endian): `endpoint.source_of`. Call it when the secret turns, before
        the cookie reply is sent. Whether a cookie is still fresh is for the control plane to say.
        Raises DataPathError.
        """

    def set_stun_sources(self, places: Iterable[tuple[str, int]]) -> None:
        """The numeric addresses and the ports that STUN may come from, at most 64; relays' servers
        may as well, and none else.

        STUN is what begins with a byte below 4, has the magic cookie 0x2112A442 at byte 4, and is
        as long as its length field says with its header of 20 bytes (RFC 8489 section 5). It comes
        up as `Datagram` from a queue of its own of 128. From elsewhere it is dropped and counted
        (`unknown_stun`), and so is what the queue does not hold (`stun_queue_full`). A WireGuard
        message is never taken for it: no index of ours is the cookie, and the length field of one
        that begins with a WireGuard type would be zero. Raises DataPathError.
        """

    def set_path_ids(self, ids: Iterable[bytes]) -> None:
        """The identifiers of paths that peers were told, 8 bytes each, at most 65,536.

        A datagram whose rule has a `path_offset`, and which has no such identifier there, is
        dropped and counted (`unknown_path`). Raises DataPathError.
        """

    def add_peer(self) -> Handle:
        """A new peer, with no address, endpoint or key."""

    def remove_peer(self, peer: Handle) -> None:
        """When it returns no packet of it is in flight, and its keys are wiped."""

    def set_allowed_ips(self, changes: Iterable[AllowedIpOperation]) -> None:
        """One atomic batch."""

    def allowed_ips(self, peer: Handle) -> list[Prefix]:
        """The prefixes that the peer owns now, sorted."""

    def set_endpoint(self, peer: Handle, endpoint: Endpoint | None, hold: float = 0.0) -> None:
        """Where the peer is; roaming replaces it, unless `set_roaming` says otherwise.

        With `hold`, at most 5 s, what the TUN has for the peer waits, so that it does not overtake
        what is under way on a slower path. Then it is sent, in order and before anything newer: by
        `let_go`, by the next call without `hold`, when a packet of the peer or `drain` comes after
        that time (no timer watches for it), or when it is 4,096 TUN reads or 8 MiB, or 64 MiB of
        all peers, which is counted (`hold_full`). What waits for a key meanwhile is sent before it.
        Handshakes, keepalives and `send` do not wait. What is kept is lost, and counted
        (`hold_dropped`), by `remove_peer`, with the link, and when the peer is nowhere as it is let
        go, and not looked for (`set_roaming`). Raises DataPathError.
        """

    def let_go(self, peer: Handle) -> None:
        """Send what `set_endpoint` made wait, and let nothing wait any more."""

    def set_roaming(self, peer: Handle, applied: bool) -> None:
        """Whether the peer is where its last authenticated packet came from (whitepaper 2.1).

        It is so for a new peer. Where it is not, a packet from elsewhere, or the release of a gated
        pair that was used from there, raises Roamed with that place and moves nothing; once for
        each place that follows another one, or `set_endpoint`. Between two calls of `drain` only
        the latest place is kept. A packet from the same place to another address of ours is
        followed all the same: which of ours answers is no question of where the peer is. Packets
        for such a peer that is nowhere wait as for a key (HandshakeNeeded), for it is being looked
        for; what waits is sent when it is found.
        """

    def clear_source(self, peer: Handle | None) -> None:
        """Forget the sticky source of one peer, or of all: routes or addresses changed."""

    def reserve_index(self) -> int:
        """A random u32 that no handshake and no key pair holds."""

    def free_index(self, index: int) -> None:
        """Give a reserved index back; unknown ones are ignored."""

    def install(
        self, peer: Handle, slot: Slot, pair: NewKeyPair, *, kick: bool, gated: bool = False
    ) -> None:
        """Install a key pair. With `kick`, and for CURRENT only: send what is staged at once, or
        else a keepalive, which confirms the key to the responder.

        A `gated` pair, for NEXT only, stands beside the others and replaces none but an earlier
        gated one of the peer, which is refused. It opens packets: they are authenticated, enter the
        replay window and `activity`, and raise Active and, once, KeyConfirmed as any do, for they
        prove that the holder of the key is there. Then they are held: at most 32 packets and
        65,536 bytes of a peer, 8 MiB of all, for 5 s after the first; what is beyond is dropped and
        counted (`gate_full`, `gate_memory`). None reaches the TUN, none moves the endpoint, and
        nothing is sealed with the pair. Raises DataPathError, with the keys wiped, for CURRENT.
        """

    def release(self, peer: Handle) -> bool:
        """Make the gated pair an ordinary one. False if there is none (any more).

        If a packet was opened with it, it becomes current as by KeyConfirmed, the former one
        previous; the peer is where that pair's last packet came from (Roamed); what is held goes to
        the TUN in order, as far as the allowed IPs let it now; what is staged is sent. Else it
        becomes the next one.
        """

    def refuse(self, peer: Handle) -> None:
        """Wipe the gated pair and what is held, and free its index; every other pair stays.

        The data path does so by itself (`gate_expired`) at the first datagram or call of `drain` or
        `release` that is 5 s after the pair's first packet. Packets lost so, or by `drop_keys`,
        `remove_peer` or a link that goes down, count as `gate_dropped`.
        """

    def drop_keys(self, peer: Handle) -> None:
        """Wipe the peer's key pairs and free their indices."""

    def send_keepalive(self, peer: Handle) -> None:
        """Send a keepalive; with no valid key, HandshakeNeeded."""

    def drop_staged(self, peer: Handle) -> None:
        """Drop and count what waits for a handshake."""

    def send(
        self,
        data: bytes,
        *,
        to: Endpoint | None = None,
        peer: Handle | None = None,
        ttl: int = 0,
        whole: bool = False,
    ) -> int | None:
        """Send a control datagram, to a peer's endpoint unless `to` says otherwise.

        With `peer` it is counted to it as authenticated, and not as data. `ttl` is its time to
        live, or hop limit, up to 255; 0 for the usual one. With `whole` it may not be fragmented,
        here or on the way, whatever is known of the path's MTU (IP_PMTUDISC_PROBE). Through a relay
        both concern the way to its server, and mean nothing to a carrier. Returns an
        errno, or None when the socket took it: EDESTADDRREQ when there is no endpoint, or no such
        way to it, EMSGSIZE when it has to be `whole` and the link is too narrow. Raises
        DataPathError.
        """

    def heard(self, peer: Handle, size: int, when: float) -> None:
        """A control datagram of `size` bytes from the peer proved authentic."""

    def activity(self, peer: Handle) -> Activity:
        """What happened on the peer's road so far."""

    def rest(self, peer: Handle) -> None:
        """Nothing is pending: the peer's next packet raises Active."""

    def counters(self) -> dict[str, int]:
        """What was dropped, by reason, and how often each thing with a bound met it."""

    def offloads(self) -> dict[str, bool]:
        """Each offload by name, and whether it is in use."""
