"""Both data paths, driven with the same events: every output byte, event and counter is the same.

The portable engine is the model. What is drawn is what a peer, a stranger, the kernel and the
control plane can do: packets of every kind into the TUN, with vnet headers that fit and that do
not, sealed messages and trains of them with good and bad contents, key pairs that come and go, and
time that passes. How many datagrams go in one send may differ. UDP in large packets, which the
portable engine lacks, is compared at the end, by an independent segmenter.
"""

import errno
import hashlib
import struct
from dataclasses import replace

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.memory_path import THERE, MemoryPath, join
from tests.support.native_path import NativeMemoryPath, needs_native
from tests.support.packets import (
    ACK,
    CWR,
    DONT_FRAGMENT,
    FIN,
    GSO_ECN,
    ICMP,
    NEEDS_CSUM,
    PSH,
    UDP,
    V4,
    V6,
    Segment,
    checksum,
    ip_packet,
    pseudo_header,
)
from wgpy.datapath.contract import (
    AllowedIpOperation,
    Budget,
    DataPathError,
    Endpoint,
    FilterRule,
    NewKeyPair,
    Slot,
)
from wgpy.datapath.endpoint import source_of, to_route
from wgpy.datapath.vias import Relay
from wgpy.ip import parse_prefix
from wgpy.protocol.constants import REJECT_AFTER_MESSAGES, REKEY_AFTER_MESSAGES

pytestmark = needs_native

ADDRESSES4 = [bytes((10, 0, 0, last)) for last in (0, 1, 2, 3, 255)] + [bytes(4), b"\xe0\0\0\1"]
ADDRESSES6 = [bytes.fromhex("fd" + "00" * 14 + last) for last in ("01", "02", "03")] + [
    bytes(16),
    bytes.fromhex("ff02" + "00" * 13 + "01"),
]
# Datagrams in one packet for the TUN: the kernel refuses more (UDP_MAX_SEGMENTS).
MAX_UDP_MERGED = 64
PREFIXES = [
    parse_prefix(text)
    for text in (
        *("0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/30", "10.0.0.1", "10.0.0.2", "10.0.0.3"),
        *("::/0", "fd00::/8", "fd00::1", "fd00::2/127", "fd00::3"),
    )
]
ENDPOINTS = [
    Endpoint("192.0.2.1", 1111),
    Endpoint("192.0.2.2", 2222, source=bytes((192, 0, 2, 9)), ifindex=3),
    Endpoint("2001:db8::1", 3333),
    Endpoint("fe80::1", 4444, scope=2, source=bytes.fromhex("fe80" + "00" * 13 + "09"), ifindex=2),
]
MAC1_KEY = bytes(range(32))
RULES = [
    FilterRule(1, 148, mac1_offset=116),
    FilterRule(2, 92, mac1_offset=60, index_offset=8),
    FilterRule(3, 64, index_offset=4),
    FilterRule(0x20, 40, exact=False),
    FilterRule(0x11, 60, exact=False, mac1_offset=-32, index_offset=8, longest=64),
]
# Types that are dear to answer; what is left over of a bound shows in what comes next.
SMALL = Budget(8, 5.0, 4.0, 10.0, 4, 2.0, 3)
DEAR = [
    FilterRule(0x10, 60, exact=False, mac1_offset=-32, longest=100, budget=SMALL),
    FilterRule(0x12, 80, mac1_offset=40, budget=SMALL._replace(queue=3, source_burst=1)),
]
# Probes of paths, and a type of any length.
PATHS = [bytes([number]) * 8 for number in range(3)]
PROBES = [FilterRule(0x13, 20, False, path_offset=4, longest=64)]
COOKIE = bytes.fromhex("2112a442")
WIDER = FilterRule(0x10, 60, mac1_offset=-32, budget=Budget())
SECRETS = [b"", bytes(range(32)), bytes(range(1, 33))]

# Channels, of which some are bound; and by other sockets and relays, as long as there are any.
CHANNELS = [0x4000, 0x4001, 0x4FFF]
places = st.sampled_from(ENDPOINTS)
vias = st.integers(1, 8)
endpoints = st.one_of(
    places,
    places,
    st.builds(lambda place, via: replace(place, via=via), places, vias),
    st.builds(
        lambda via, channel: Endpoint("192.0.2.77", 77, via=via, channel=channel),
        vias,
        st.sampled_from(CHANNELS),
    ),
)
# What a socket says that a datagram comes from.
sources = st.one_of(
    places, st.builds(lambda p, via: replace(p, via=via), places, st.integers(0, 3))
)
payloads = st.one_of(
    st.binary(max_size=40),
    st.integers(0, 3000).map(lambda size: bytes(i & 0xFF for i in range(size))),
)


@st.composite
def segments(draw: st.DrawFn, *, longest: int = 6000) -> Segment:
    pair = draw(st.sampled_from([V4, V6, (V4[1], V4[0])]))
    size = draw(st.sampled_from([0, 1, 500, 1368, 2736, longest]))
    return Segment(
        payload=draw(st.binary(min_size=1, max_size=4)) * (size // 2) if size else b"",
        source=pair[0],
        target=pair[1],
        sequence=draw(st.sampled_from([0, 2**32 - 700, 77777])),
        flags=draw(st.sampled_from([ACK, ACK | PSH, ACK | FIN, ACK | CWR | PSH])),
        options=draw(st.sampled_from([b"", bytes.fromhex("0101080a0000000100000002")])),
        ident=draw(st.sampled_from([0, 65535])),
        spoil=draw(st.sampled_from([0, 0, 0, 1])),
    )


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    """What may be inside of a tunnel, or is not fit to be."""
    if draw(st.booleans()):
        return bytes(draw(segments(longest=1400)))
    if draw(st.integers(0, 5)) == 0:
        return draw(st.binary(max_size=80))
    v6 = draw(st.booleans())
    some = st.sampled_from(ADDRESSES6 if v6 else ADDRESSES4)
    return ip_packet(
        draw(st.sampled_from([UDP, ICMP, 58, 253, *((0, 43, 44, 60) if v6 else ())])),
        draw(payloads),
        source=draw(some),
        target=draw(some),
        fragment=draw(st.sampled_from([DONT_FRAGMENT, 0, 0x2000, 7])),
        options=draw(st.sampled_from([b"", b"", bytes(4)])) if not v6 else b"",
    )


@st.composite
def reads(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A packet of the TUN and its vnet header."""
    kind = draw(st.integers(0, 3))
    if kind == 0:
        segment = draw(segments())
        size = draw(st.sampled_from([1, 500, 1368, 65535] if len(segment.payload) < 50 else [1368]))
        vnet = bytearray(segment.vnet(size))
        if draw(st.booleans()):
            vnet[1] |= GSO_ECN
        return bytes(segment), bytes(vnet)
    packet = draw(packets())
    if kind == 1:
        start, offset = draw(st.integers(0, 60)), draw(st.sampled_from([6, 16, 60000]))
        return packet, struct.pack("=BBHHHH", NEEDS_CSUM, 0, 0, 0, start, offset)
    if kind == 2:
        fields = [draw(st.sampled_from([0, 1, 2, 4, 16, 20, 40, 60, 500])) for _ in range(4)]
        gso = draw(st.sampled_from([0, 1, 3, 4, 0x81, 0x84, 7]))
        return packet, struct.pack("=BBHHHH", draw(st.integers(0, 1)), gso, *fields)
    return packet, bytes(10)


@st.composite
def small_reads(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Packets of one length to all that there may be, which become trains where they lie."""
    target = draw(st.sampled_from(ADDRESSES4[1:4]))
    return ip_packet(UDP, bytes(draw(st.sampled_from([20, 20, 20, 4]))), target=target), bytes(10)


def mac(key: bytes, data: bytes) -> bytes:
    return hashlib.blake2s(data, key=key, digest_size=16).digest()


class Key:
    """The peer's end of a key pair: what seals for the engines."""

    def __init__(self, seed: int, index: int) -> None:
        self.send, self.receive, self.index = bytes([seed]) * 32, bytes([seed + 1]) * 32, index
        self.counter = 0

    def seal(self, packet: bytes, counter: int) -> bytes:
        head = struct.pack("<IIQ", 4, self.index, counter)
        nonce = bytes(4) + counter.to_bytes(8, "little")
        return head + ChaCha20Poly1305(self.receive).encrypt(nonce, packet, None)


class Both(RuleBasedStateMachine):
    """The two engines, and the peers' ends."""

    @initialize(
        vnet=st.booleans(),
        mtu=st.sampled_from([1420, 1280, 100]),
        # Whether one of the peers is behind a relay, and that behind a carrier.
        relayed=st.sampled_from([None, False, True]),
    )
    def start(self, vnet: bool, mtu: int, relayed: bool | None) -> None:
        self.portable = MemoryPath(vnet_header=vnet, mtu=mtu)
        self.native = NativeMemoryPath(vnet_header=vnet, mtu=mtu)
        self.vnet = vnet
        self.both = (self.portable, self.native)
        self.peers: list[int] = []
        self.keys: list[Key] = []
        self.seed = 0
        for path in self.both:
            path.set_up(True)
            path.set_filter(RULES + DEAR + PROBES, MAC1_KEY)
            path.set_path_ids(PATHS[:1])
            path.set_stun_sources([(ENDPOINTS[0].address, ENDPOINTS[0].port)])
        # Two peers to begin with, or the rules would seldom meet one that can be talked to.
        for number, prefixes in enumerate((PREFIXES[4:5] + PREFIXES[8:9], PREFIXES[:1])):
            self.add_peer()
            peer = self.peers[-1]
            adds = [AllowedIpOperation("add", peer, prefix) for prefix in prefixes]
            self.call("set_allowed_ips", adds)
            self.call("set_endpoint", peer, ENDPOINTS[number])
            self.give_key(peer, Slot.CURRENT, kick=False, life=180.0, rekey=120.0)
        self.call("add_socket", -1)
        relay = self.call("add_relay", ENDPOINTS[2], -1 if relayed else None)
        for number, place in zip(CHANNELS, ENDPOINTS, strict=False):
            self.call("set_channel", relay, number, place)
        if relayed is not None:
            place = Endpoint("192.0.2.77", 77, via=relay, channel=CHANNELS[0])
            self.call("set_endpoint", self.peers[1], place)

    def call(self, name: str, *arguments: object, **named: object) -> object:
        """Ask both, and hear the same answer."""
        answers = [getattr(path, name)(*arguments, **named) for path in self.both]
        assert answers[0] == answers[1], name
        return answers[0]

    def try_both(self, name: str, *arguments: object) -> None:
        """Ask both, and hear the same answer or the same refusal."""
        said = []
        for path in self.both:
            try:
                said.append(getattr(path, name)(*arguments))
            except DataPathError as error:
                said.append(str(error))
        assert said[0] == said[1], name

    # --- The control plane ---

    @rule()
    def add_peer(self) -> None:
        if len(self.peers) < 4:
            self.peers.append(self.call("add_peer"))

    @precondition(lambda self: self.peers)
    @rule(data=st.data(), much=st.integers(0, 5))
    def change_peer(self, data: st.DataObject, much: int) -> None:
        peer = data.draw(st.sampled_from(self.peers))
        if much == 0:
            self.call("remove_peer", peer)
            self.peers.remove(peer)
        else:
            name = ("drop_keys", "drop_staged", "send_keepalive", "rest", "clear_source")[much - 1]
            self.call(name, peer)

    @precondition(lambda self: self.peers)
    @rule(data=st.data(), hold=st.sampled_from([0.0, 0.0, 0.005, 5.0, 5.1, -1.0]))
    def set_endpoint(self, data: st.DataObject, hold: float) -> None:
        peer = data.draw(st.sampled_from(self.peers))
        self.try_both("set_endpoint", peer, data.draw(st.one_of(st.none(), endpoints)), hold)

    @precondition(lambda self: self.peers)
    @rule(
        data=st.data(),
        reads=st.lists(st.one_of(reads(), small_reads()), max_size=5),
        key=st.sampled_from([None, None, Slot.CURRENT, Slot.NEXT]),
        end=st.sampled_from(["let_go", "late", "drained", ""]),
    )
    def move(
        self,
        data: st.DataObject,
        reads: list[tuple[bytes, bytes]],
        key: Slot | None,
        end: str,
    ) -> None:
        """A peer goes elsewhere, packets come meanwhile, perhaps a key, and they are let go."""
        peer = data.draw(st.sampled_from(self.peers))
        self.call("set_endpoint", peer, data.draw(places), 0.05)
        for read in reads:
            self.write(read)
        if key is not None:
            self.give_key(peer, key, kick=True)
        if end == "let_go":
            self.call("let_go", peer)
        elif end:
            self.wait(0.05)
            if end == "late":
                self.write(data.draw(small_reads()))
            else:
                self.call("drain", 1)

    @precondition(lambda self: self.peers)
    @rule(data=st.data())
    def set_allowed_ips(self, data: st.DataObject) -> None:
        changes = data.draw(
            st.lists(
                st.builds(
                    lambda kind, peer, prefix: AllowedIpOperation(
                        kind, peer, None if kind == "replace" else prefix
                    ),
                    st.sampled_from(["add", "add", "add", "remove", "replace"]),
                    st.sampled_from(self.peers),
                    st.sampled_from(PREFIXES),
                ),
                max_size=6,
            )
        )
        self.call("set_allowed_ips", changes)

    @precondition(lambda self: self.peers)
    @rule(data=st.data(), kick=st.booleans(), slot=st.sampled_from(Slot))
    def install(self, data: st.DataObject, kick: bool, slot: Slot) -> None:
        peer = data.draw(st.sampled_from(self.peers))
        life, rekey = data.draw(st.sampled_from([(180.0, 120.0), (30.0, 5.0), (1e9, float("inf"))]))
        self.give_key(peer, slot, kick=kick, life=life, rekey=rekey)

    def give_key(
        self,
        peer: int,
        slot: Slot,
        *,
        kick: bool = False,
        gated: bool = False,
        life: float = 180.0,
        rekey: float = 120.0,
    ) -> None:
        index = self.portable.reserve_index()
        assert self.native.reserve_this(index) == index
        self.seed = (self.seed + 2) % 250
        key = Key(self.seed, index)
        now = self.portable.now
        for path in self.both:
            pair = NewKeyPair(
                *(bytearray(key.send), bytearray(key.receive), index, 0x1234 + index),
                *(now, now + life, now + rekey, now + rekey * 1.5),
            )
            path.install(peer, slot, pair, kick=kick, gated=gated)
            assert pair.send_key == pair.receive_key == bytes(32)
        self.keys = [*self.keys[-5:], key]

    @precondition(lambda self: self.peers)
    @rule(data=st.data())
    def install_gated(self, data: st.DataObject) -> None:
        self.give_key(data.draw(st.sampled_from(self.peers)), Slot.NEXT, gated=True)

    @precondition(lambda self: self.peers)
    @rule(data=st.data(), admitted=st.sampled_from([True, True, False]))
    def decide(self, data: st.DataObject, admitted: bool) -> None:
        peer = data.draw(st.sampled_from(self.peers))
        self.call("release" if admitted else "refuse", peer)

    @precondition(lambda self: self.peers)
    @rule(
        data=st.data(),
        inner=st.lists(packets(), max_size=4),
        times=st.sampled_from([1, 1, 40]),
        where=sources,
        fate=st.sampled_from(["release", "release", "refuse", "late", ""]),
    )
    def admit(
        self, data: st.DataObject, inner: list[bytes], times: int, where: Endpoint, fate: str
    ) -> None:
        """A peer comes in through the gate, and the decision on it."""
        peer = data.draw(st.sampled_from(self.peers))
        self.give_key(peer, Slot.NEXT, gated=True)
        key = self.keys[-1]
        for packet in [b"", *inner * times]:
            self.call(
                "take", key.seal(packet + bytes(-len(packet) % 16), key.counter), to_route(where)
            )
            key.counter += 1
        if fate == "late":
            self.wait(5.0)
        if fate:
            self.call("refuse" if fate == "refuse" else "release", peer)

    @precondition(lambda self: self.peers)
    @rule(data=st.data(), age=st.sampled_from([REKEY_AFTER_MESSAGES, REJECT_AFTER_MESSAGES - 3]))
    def grow_old(self, data: st.DataObject, age: int) -> None:
        peer = data.draw(st.sampled_from(self.peers))
        session = self.portable._roads[peer].keys.current
        if session is not None:
            session.counter = max(session.counter, age)
            self.native._inner.set_send_counter(peer, age)

    @rule(
        data=st.data(),
        to=st.one_of(st.none(), endpoints),
        body=st.binary(max_size=50),
        ttl=st.sampled_from([0, 0, 3, 255]),
        whole=st.booleans(),
    )
    def send(
        self, data: st.DataObject, to: Endpoint | None, body: bytes, ttl: int, whole: bool
    ) -> None:
        peer = data.draw(st.sampled_from([None, *self.peers]))
        self.call("send", body, to=to, peer=peer, ttl=ttl, whole=whole)

    @precondition(lambda self: self.peers)
    @rule(data=st.data(), applied=st.booleans())
    def set_roaming(self, data: st.DataObject, applied: bool) -> None:
        self.call("set_roaming", data.draw(st.sampled_from(self.peers)), applied)

    @rule()
    def add_socket(self) -> None:
        if len(self.portable._vias.sockets) < 3:
            self.call("add_socket", -1)

    @rule(via=st.integers(0, 8))
    def remove_via(self, via: int) -> None:
        self.call("remove_via", via)

    @rule(server=sources, carrier=st.sampled_from([None, None, -1]))
    def add_relay(self, server: Endpoint, carrier: int | None) -> None:
        if len(self.portable._vias.relays) < 4:
            self.try_both("add_relay", server, carrier)

    @rule(
        relay=vias,
        number=st.sampled_from([*CHANNELS, *CHANNELS, 0x3FFF, 0x5000, 70_000]),
        peer=st.one_of(st.none(), places, places),
    )
    def set_channel(self, relay: int, number: int, peer: Endpoint | None) -> None:
        self.try_both("set_channel", relay, number, peer)

    def some_channel(
        self, data: st.DataObject, *, carried: bool = False
    ) -> tuple[Relay | None, int]:
        """A channel that is bound, if there is one; of a relay with a carrier only if asked for."""
        relays = [r for r in self.portable._vias.relays.values() if carried or not r.carried]
        bound = [(relay, number) for relay in relays for number in relay.channels]
        return data.draw(st.sampled_from(bound)) if bound else (None, 0)

    @precondition(lambda self: self.peers)
    @rule(data=st.data())
    def use_channel(self, data: st.DataObject) -> None:
        """A peer is on a channel that there is, which what is drawn at random seldom hits."""
        relay, number = self.some_channel(data, carried=True)
        if relay is not None:
            peer = data.draw(st.sampled_from(self.peers))
            place = Endpoint("192.0.2.77", 77, via=relay.via, channel=number)
            self.call("set_endpoint", peer, place)

    @rule(
        data=st.data(),
        inside=st.one_of(
            st.lists(packets(), min_size=1, max_size=3),
            segments().map(lambda whole: [bytes(piece) for piece in whole.split(1368)]),
        ),
        other=st.one_of(st.none(), st.binary(max_size=60)),
        long=st.sampled_from([0, 0, 0, 1, -1, 4]),
        padding=st.sampled_from([0, 0, 3]),
        train=st.booleans(),
    )
    def relayed(
        self,
        data: st.DataObject,
        inside: list[bytes],
        other: bytes | None,
        long: int,
        padding: int,
        train: bool,
    ) -> None:
        """ChannelData, and what resembles it, from relays' servers and from others."""
        relays = list(self.portable._vias.relays.values())
        relay = data.draw(st.sampled_from(relays)) if relays else None
        where = to_route(data.draw(sources))
        if relay is not None and not relay.carried and data.draw(st.integers(0, 3)):
            where = relay.server
        bound = list(relay.channels) if relay is not None else []
        number = data.draw(st.sampled_from(bound or CHANNELS))
        messages = [other] if other is not None else []
        if other is None and self.keys:
            key = data.draw(st.sampled_from(self.keys))
            for packet in inside:
                messages.append(key.seal(packet + bytes(-len(packet) % 16), key.counter))
                key.counter += 1
        datagrams = [
            struct.pack(">HH", number, max(0, len(message) + long)) + message + bytes(padding)
            for message in messages
        ]
        if relay is not None and relay.carried:
            for datagram in datagrams:
                self.call("take_carried", datagram, relay.via)
        elif train and datagrams:
            # As UDP_GRO gives them: equal ones, and a shorter one at the end.
            size = len(datagrams[0])
            some = [datagram for datagram in datagrams if len(datagram) == size]
            self.call("take", b"".join(some), where, segment=size)
        else:
            for datagram in datagrams:
                self.call("take", datagram, where)

    @rule(places=st.lists(endpoints, max_size=3))
    def set_stun_sources(self, places: list[Endpoint]) -> None:
        self.call("set_stun_sources", [(place.address, place.port) for place in places])

    @rule(ids=st.lists(st.sampled_from(PATHS), max_size=3))
    def set_path_ids(self, ids: list[bytes]) -> None:
        self.call("set_path_ids", ids)

    @precondition(lambda self: self.peers)
    @rule(data=st.data())
    def heard(self, data: st.DataObject) -> None:
        self.call("heard", data.draw(st.sampled_from(self.peers)), 92, self.portable.now)

    @rule(seconds=st.sampled_from([0.001, 0.01, 1.0, 4.0, 20.0, 100.0]))
    def wait(self, seconds: float) -> None:
        now = self.portable.now + seconds
        for path in self.both:
            path.now = now

    @rule(mtu=st.sampled_from([0, 100, 1280, 1420, 9000, 65475, 65476]))
    def set_mtu(self, mtu: int) -> None:
        self.try_both("set_mtu", mtu)

    @rule(up=st.booleans())
    def set_up(self, up: bool) -> None:
        self.call("set_up", up)

    @rule(error=st.sampled_from([None, None, None, errno.ENETUNREACH, errno.EAGAIN]))
    def socket_answers(self, error: int | None) -> None:
        for path in self.both:
            path.error = error

    @rule(limit=st.integers(0, 3))
    def drain(self, limit: int) -> None:
        self.call("drain", limit)
        self.call("queue_depth")

    # --- Packets ---

    @rule(read=reads(), times=st.sampled_from([1, 1, 130]))
    def write_often(self, read: tuple[bytes, bytes], times: int) -> None:
        for _ in range(times if len(read[0]) < 100 else 1):
            self.write(read)

    @rule(read=reads())
    def write(self, read: tuple[bytes, bytes]) -> None:
        packet, vnet = read
        self.call("write", packet, vnet if self.vnet else bytes(10))

    @rule(batch=st.lists(st.one_of(reads(), small_reads()), min_size=2, max_size=20))
    def write_batch(self, batch: list[tuple[bytes, bytes]]) -> None:
        """The native engine has several at once, for peers here and there, behind a relay or not:
        what lies beside one another in its buffer stays apart."""
        reads = [(packet, vnet if self.vnet else bytes(10)) for packet, vnet in batch]
        for packet, vnet in reads:
            self.portable.write(packet, vnet)
        self.native.write_batch(reads)

    @precondition(lambda self: self.keys)
    @rule(
        data=st.data(),
        inner=st.one_of(
            st.lists(packets(), min_size=1, max_size=4),
            # Packets that follow one another, so that there is something to merge.
            segments().map(lambda whole: [bytes(piece) for piece in whole.split(1368)]),
        ),
        spoil=st.sampled_from(["", "", "", "tag", "counter", "late", "train"]),
        where=sources,
    )
    def arrive(self, data: st.DataObject, inner: list[bytes], spoil: str, where: Endpoint) -> None:
        key = data.draw(st.sampled_from(self.keys))
        messages = []
        for packet in inner:
            counter = key.counter
            if spoil == "late":
                counter = max(0, counter - data.draw(st.sampled_from([1, 64, 8127, 8128, 8129])))
            elif spoil == "counter":
                counter = data.draw(st.sampled_from([REJECT_AFTER_MESSAGES, 2**40, 2**64 - 1]))
            message = key.seal(packet + bytes(-len(packet) % 16), counter)
            if counter < REJECT_AFTER_MESSAGES:
                key.counter = max(key.counter, counter) + data.draw(
                    st.sampled_from([1, 1, 1, 63, 9000])
                )
            if spoil == "tag":
                message = message[:-1] + bytes([message[-1] ^ 1])
            messages.append(message)
        if spoil == "train":
            # As UDP_GRO gives them: equal ones, and a shorter one at the end.
            size = len(messages[0])
            train = []
            for message in messages:
                if len(message) > size or (train and len(train[-1]) < size):
                    break
                train.append(message)
            self.call("take", b"".join(train), to_route(where), segment=size)
            return
        for message in messages:
            self.call("take", message, to_route(where))

    @precondition(lambda self: self.keys)
    @rule(data=st.data(), where=sources)
    def keepalive(self, data: st.DataObject, where: Endpoint) -> None:
        key = data.draw(st.sampled_from(self.keys))
        self.call("take", key.seal(b"", key.counter), to_route(where))
        key.counter += 1

    @rule(data=st.data(), kind=st.sampled_from([0, 1, 2, 3, 4, 0x20, 2**31]), where=sources)
    def control(self, data: st.DataObject, kind: int, where: Endpoint) -> None:
        size = data.draw(st.sampled_from([0, 3, 4, 20, 31, 32, 40, 64, 92, 148, 149]))
        index = data.draw(st.sampled_from([key.index for key in self.keys] or [9]))
        body = bytearray(struct.pack("<III", kind, index, index) + bytes(200))[:size]
        at = {1: 116, 2: 60}.get(kind)
        if at is not None and size >= at + 16 and data.draw(st.booleans()):
            body[at : at + 16] = mac(MAC1_KEY, bytes(body[:at]))
        self.call("take", bytes(body), to_route(where))

    @rule(
        body=st.sampled_from([b"", bytes(4), bytes(12), bytes(600)]),
        first=st.sampled_from([0, 1, 1, 1, 3, 4]),
        cookie=st.sampled_from([COOKIE, COOKIE, COOKIE, bytes(4)]),
        extra=st.sampled_from([b"", b"", b"", b"\0"]),
        times=st.sampled_from([1, 1, 130]),
        train=st.booleans(),
        where=sources,
    )
    def stun(
        self,
        body: bytes,
        first: int,
        cookie: bytes,
        extra: bytes,
        times: int,
        train: bool,
        where: Endpoint,
    ) -> None:
        """STUN, and what resembles it, from where it may come and from elsewhere."""
        message = bytes((first, 1)) + len(body).to_bytes(2, "big") + cookie + bytes(12) + body
        message += extra
        if train:
            self.call("take", message * min(times, 64), to_route(where), segment=len(message))
            return
        for _ in range(times):
            self.call("take", message, to_route(where))

    @rule(
        path=st.sampled_from([*PATHS, b"\0" * 7 + b"\1"]),
        size=st.sampled_from([19, 20, 64, 65]),
        where=sources,
    )
    def probe(self, path: bytes, size: int, where: Endpoint) -> None:
        self.call("take", (b"\x13\0\0\0" + path + bytes(60))[:size], to_route(where))

    @rule(
        rules=st.sampled_from(
            [RULES + DEAR + PROBES, RULES, [*RULES, WIDER], RULES + DEAR[:1] + PROBES]
        ),
    )
    def set_filter(self, rules: list[FilterRule]) -> None:
        self.call("set_filter", rules, MAC1_KEY)

    @rule(current=st.sampled_from(SECRETS), previous=st.sampled_from(SECRETS))
    def set_cookie_secret(self, current: bytes, previous: bytes) -> None:
        self.call("set_cookie_secret", current, previous)

    @rule(
        data=st.data(),
        kind=st.sampled_from([0x10, 0x10, 0x10, 0x11, 0x12]),
        size=st.sampled_from([59, 60, 64, 80, 100, 101]),
        times=st.sampled_from([1, 3, 20]),
        good=st.sampled_from([True, True, True, False]),
        secret=st.sampled_from([b"", SECRETS[1], SECRETS[2]]),
        spread=st.booleans(),
        relayed=st.booleans(),
    )
    def flood(
        self,
        data: st.DataObject,
        kind: int,
        size: int,
        times: int,
        good: bool,
        secret: bytes,
        spread: bool,
        relayed: bool,
    ) -> None:
        """Datagrams that are dear to answer, with and without a cookie, from one place or many, or
        through a relay."""
        relay, number = self.some_channel(data) if relayed else (None, 0)
        where = data.draw(sources)
        index = data.draw(st.sampled_from([key.index for key in self.keys] or [9]))
        at = 40 if kind == 0x12 else size - 32
        for number in range(times):
            place = replace(where, port=where.port + number) if spread else where
            if spread and number % 2 and ":" not in where.address:
                place = replace(place, address=f"192.0.2.{number}")
            body = (struct.pack("<III", kind, number, index) + bytes(100))[:at]
            body += mac(MAC1_KEY if good else bytes(32), body)
            if relay is not None:
                place = Endpoint("192.0.2.77", 77, via=relay.via, channel=number)
            body += mac(mac(secret, source_of(place)[1]), body) if secret else bytes(16)
            datagram = (body + bytes(100))[:size]
            if relay is None:
                self.call("take", datagram, to_route(place))
            else:
                self.call("take", struct.pack(">HH", number, size) + datagram, relay.server)
        self.call("queue_depth", kind)

    # --- What must be the same at any time ---

    @invariant()
    def nothing_differs(self) -> None:
        if not hasattr(self, "both"):
            return
        assert self.portable._gates.held_bytes == self.native._inner.held_bytes()
        assert self.portable._holds.kept_bytes == self.native._inner.kept_bytes()
        for name in ("sent", "delivered", "manners"):
            ours, theirs = (getattr(path, name) for path in self.both)
            assert ours == theirs, name
            ours.clear()
            theirs.clear()
        self.call("counters")
        for peer in self.peers:
            self.call("activity", peer)
            self.call("allowed_ips", peer)

    def teardown(self) -> None:
        if hasattr(self, "both"):
            self.call("drain", 10_000)


TestBoth = Both.TestCase
TestBoth.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)


def udp_parts(packet: bytes, size: int) -> list[bytes]:
    """The datagrams that a large one stands for, field by field."""
    v6 = packet[0] >> 4 == 6
    (fragment,) = (0,) if v6 else struct.unpack_from("!H", packet, 6)
    at = 40 if v6 else 20
    source, target = (packet[8:24], packet[24:40]) if v6 else (packet[12:16], packet[16:20])
    ports, payload = packet[at : at + 4], packet[at + 8 :]
    parts = []
    for number, begin in enumerate(range(0, len(payload), size)):
        piece = payload[begin : begin + size]
        head = ports + struct.pack("!H", 8 + len(piece))
        sums = checksum(pseudo_header(source, target, UDP, 8 + len(piece)), head, b"\0\0", piece)
        body = head + struct.pack("!H", sums or 0xFFFF) + piece
        ident = 0 if v6 else (struct.unpack_from("!H", packet, 4)[0] + number) % 2**16
        parts.append(
            ip_packet(UDP, body, source=source, target=target, ident=ident, fragment=fragment)
        )
    return parts


@settings(max_examples=60, deadline=None)
@given(
    size=st.sampled_from([1, 2, 511, 1372]),
    count=st.integers(1, 200),
    tail=st.integers(0, 1),
    v6=st.booleans(),
    fragment=st.sampled_from([0, DONT_FRAGMENT]),
    ident=st.integers(0, 0xFFFF),
    fill=st.binary(min_size=1, max_size=3),
)
def test_large_udp_goes_out_as_datagrams_and_comes_in_as_them(
    size: int, count: int, tail: int, v6: bool, fragment: int, ident: int, fill: bytes
) -> None:
    """Through two native engines with UDP offloads, and a portable one beside the second."""
    here, there, plain = (
        NativeMemoryPath(udp=True),
        NativeMemoryPath(udp=True),
        MemoryPath(),
    )
    join(here, there)
    plain_peer = plain.peer("10.0.0.1", "fd00::1", at=THERE)
    # What the sealed datagrams, with headers, padding and tags, fill is one receive.
    count = min(count, 65_507 // (size + 95))
    payload = (fill * (size * count))[: size * count - tail * (size - 1)]
    if not payload:
        return
    source, target = V6 if v6 else V4
    large = ip_packet(
        UDP,
        struct.pack("!HHHH", 5, 6, 8 + len(payload), 0) + payload,
        source=source,
        target=target,
        ident=ident,
        fragment=fragment,
    )
    at = 40 if v6 else 20
    here.write(large, struct.pack("=BBHHHH", NEEDS_CSUM, 5, at + 8, size, at, 6))
    wanted = udp_parts(large, size)
    there.take_batch([(b"".join(d for d, _ in here.sent), len(here.sent[0][0]), to_route(THERE))])
    got = []
    for frame in there.delivered:
        _flags, kind, _header, step, _start, _offset = struct.unpack_from("=BBHHHH", frame)
        got += [frame[10:]] if kind == 0 else udp_parts(frame[10:], step)
    assert [drop_ident(p) for p in got] == [drop_ident(p) for p in wanted]
    # Those with a whole datagram before them were merged, as far as the kernel takes them as one.
    assert len(there.delivered) == -(-len(wanted) // MAX_UDP_MERGED)
    assert plain_peer == 1


def drop_ident(packet: bytes) -> bytes:
    """An IPv4 packet that must not be fragmented needs no identification (RFC 6864 4.1)."""
    if packet[0] >> 4 == 6 or not packet[6] & 0x40:
        return packet
    return packet[:4] + b"\0\0" + packet[6:10] + b"\0\0" + packet[12:]


@settings(max_examples=300, deadline=None)
@given(
    kinds=st.lists(st.sampled_from([0, 43, 44, 60, 58, 253]), min_size=1, max_size=7),
    body=st.binary(min_size=0, max_size=24),
    cut=st.integers(0, 60),
)
def test_both_answer_the_same_unreachable_packets(kinds: list[int], body: bytes, cut: int) -> None:
    """Chains of IPv6 extension headers, cut anywhere: what may be answered with an ICMP error."""
    chain = b"".join(
        bytes((following, 0, 0, len(body) & 7)) + bytes(4) for following in [*kinds[1:], 58]
    )
    packet = ip_packet(kinds[0], (chain + body)[: cut or None], source=V6[0], target=V6[1])
    answers = []
    for path in (MemoryPath(), NativeMemoryPath()):
        path.write(packet)
        answers.append((path.delivered, path.counters()))
    assert answers[0] == answers[1]
