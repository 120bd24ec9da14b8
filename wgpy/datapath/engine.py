"""The portable data path without its system calls: packets and times in, packets and events out.

This is the reference for what a data path does, and the model that any other is tested against.
A shell (portable.py, or a test's fake network) reads into buffers, hands them to `outbound` and
`inbound`, and provides the four abstract methods. The control plane's side is in control.py.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from errno import EAGAIN

from wgpy.datapath.coalesce import Coalescer
from wgpy.datapath.contract import Via
from wgpy.datapath.control import ControlSide
from wgpy.datapath.demux import is_channel, is_stun
from wgpy.datapath.endpoint import Route
from wgpy.datapath.gate import Gate
from wgpy.datapath.hold import Hold
from wgpy.datapath.icmp import unreachable
from wgpy.datapath.packet import destination, length_and_source
from wgpy.datapath.road import Pending, Road
from wgpy.datapath.segment import OffloadError, finish_checksum, segments
from wgpy.datapath.session import HEADER, Session, padding
from wgpy.datapath.vias import CHANNEL_HEADER, CHANNEL_HEADER_LENGTH, Relay
from wgpy.datapath.vnet import FLAG_NEEDS_CSUM, GSO_NONE, VNET_HEADER, VNET_HEADER_LENGTH
from wgpy.protocol.constants import (
    KEEPALIVE_LENGTH,
    MAX_STAGED_PACKETS,
    REJECT_AFTER_MESSAGES,
    TRANSPORT_HEADER_LENGTH,
    TRANSPORT_OVERHEAD,
    TYPE_TRANSPORT,
)

# Room for a UDP payload of 65,507 bytes, or a TUN read of 65,535 after its vnet header, with
# header, padding and tag; and for a train of sealed datagrams with the next one being written.
BUFFER_LENGTH = 1 << 18
# Where a message begins in a buffer. A ChannelData header goes into the last 4 bytes before it;
# 16 of them leave the packet where ciphers are fastest.
MESSAGE_OFFSET = 16
# Where a packet begins in a buffer: its message header goes before it.
PACKET_OFFSET = MESSAGE_OFFSET + TRANSPORT_HEADER_LENGTH
VNET_OFFSET = PACKET_OFFSET - VNET_HEADER_LENGTH
# Linux takes 64 segments in one UDP_SEGMENT send (UDP_MAX_SEGMENTS before 6.9), and one UDP
# payload's worth of bytes.
MAX_TRAIN_SEGMENTS = 64
MAX_TRAIN_LENGTH = 65_507
# Answers to packets that no peer can take: one each 10 ms on average, as many as 50 at once.
UNREACHABLE_RATE = 100.0
UNREACHABLE_BURST = 50.0


class Engine(ControlSide):
    """The packet's way, in both directions."""

    def _prepare(self) -> None:
        self._out = memoryview(bytearray(BUFFER_LENGTH))
        self._coalescer = Coalescer(self._deliver, merge=self._vnet_header)
        self._unreachable_tokens = UNREACHABLE_BURST
        self._unreachable_when = 0.0

    # --- What a shell provides, beside `_transmit_control` and `_ring` of the control side ---

    @abstractmethod
    def _transmit(self, data: memoryview, segment: int, route: Route) -> int | None:
        """Send datagrams of `segment` bytes each, the last may be shorter. Returns an errno."""

    @abstractmethod
    def _deliver(self, buffers: Sequence[memoryview | bytes | bytearray]) -> None:
        """Write one packet, its vnet header first, to the TUN."""

    # --- TUN to UDP ---

    def outbound(self, buffer: memoryview, length: int, now: float) -> None:
        """Take the packet at PACKET_OFFSET, with its vnet header in the bytes before it."""
        packet = buffer[PACKET_OFFSET : PACKET_OFFSET + length]
        target = destination(packet)
        if target is None:
            self._count("not_ip")
            return
        owner = self._allowed.lookup(target)
        road = self._roads[owner] if owner is not None else None
        if road is None or (road.route is None and not road.pinned):
            self._count("no_peer" if road is None else "no_endpoint")
            self._answer_unreachable(packet, now)
            return
        if road.resting:
            self._wake(road)
        if road.hold is not None:
            self._keep(road, road.hold, buffer[VNET_OFFSET:PACKET_OFFSET], packet, now)
        else:
            self._send_on(road, buffer, length, now)

    def _keep(
        self, road: Road, hold: Hold, vnet: memoryview, packet: memoryview, now: float
    ) -> None:
        """Keep a packet of a peer that moved; it goes with the others if it is time."""
        has_room = self._holds.keep(hold, vnet, packet)
        session = road.keys.current
        if session is None or not session.can_seal(now):
            self._raise(road, Pending.HANDSHAKE_NEEDED)
        if not has_room:
            self._count("hold_full")
        if not has_room or now >= hold.deadline:
            self._let_go(road, now)

    def _send_kept(self, road: Road, kept: list[bytes], now: float) -> None:
        if not kept:
            return
        if road.route is None and not road.pinned:
            self._count("hold_dropped", len(kept))
            return
        buffer = memoryview(bytearray(BUFFER_LENGTH))
        for read in kept:
            buffer[VNET_OFFSET : VNET_OFFSET + len(read)] = read
            self._send_on(road, buffer, len(read) - VNET_HEADER_LENGTH, now)

    def _send_on(self, road: Road, buffer: memoryview, length: int, now: float) -> None:
        """Send the packet at PACKET_OFFSET to a peer, or stage it."""
        packet = buffer[PACKET_OFFSET : PACKET_OFFSET + length]
        flags, gso, _length, _size, start, offset = VNET_HEADER.unpack_from(buffer, VNET_OFFSET)
        try:
            if gso != GSO_NONE:
                self._send_large(road, packet, bytes(buffer[VNET_OFFSET:PACKET_OFFSET]), now)
                return
            if flags & FLAG_NEEDS_CSUM:
                finish_checksum(packet, start, offset)
        except OffloadError:
            self._count("bad_offload")
            return
        session = road.keys.current
        if session is None or road.route is None or not session.can_seal(now):
            self._stage(road, packet)
            return
        self._send_packet(road, session, buffer, length, now)

    def _seal(self, session: Session, buffer: memoryview, start: int, length: int) -> int:
        """Pad and seal the packet whose message starts at `start`; the message's length."""
        pad = padding(length, self._mtu)
        if pad:
            end = start + TRANSPORT_HEADER_LENGTH + length
            buffer[end : end + pad] = bytes(pad)
        return session.seal(buffer, start, length + pad)

    def _send_packet(
        self, road: Road, session: Session, buffer: memoryview, length: int, now: float
    ) -> None:
        """Seal and send the packet at PACKET_OFFSET."""
        size = self._seal(session, buffer, MESSAGE_OFFSET, length)
        self._put(road, buffer, size)
        road.mark_sent(now)
        road.mark_data_sent(now)
        self._check_age(road, session, now)

    def _put(self, road: Road, buffer: memoryview, size: int) -> None:
        """Send the message at MESSAGE_OFFSET."""
        start, end = MESSAGE_OFFSET, MESSAGE_OFFSET + size
        assert road.route is not None
        if road.route.channel:
            start -= CHANNEL_HEADER_LENGTH
            CHANNEL_HEADER.pack_into(buffer, start, road.route.channel, size)
        self._put_train(road, buffer[start:end], end - start, 1)

    def _put_train(self, road: Road, data: memoryview, segment: int, count: int) -> None:
        """Send so many datagrams of `segment` bytes each, the last may be shorter."""
        route = road.route
        assert route is not None
        wire = self._vias.wire(route) if route.channel else route
        error = self._transmit(data, segment, wire)
        if error is None:
            header = CHANNEL_HEADER_LENGTH if route.channel else 0
            road.activity.tx_bytes += len(data) - count * header
        elif error == EAGAIN and self._vias.is_carried(route):
            self._count("carrier_full", count)
        else:
            self._count("send_error", count)

    def _check_age(self, road: Road, session: Session, now: float) -> None:
        if session.wants_rekey(now):
            session.notify_send_after = float("inf")
            self._raise(road, Pending.REKEY_SEND)

    def _send_large(self, road: Road, packet: memoryview, vnet: bytes, now: float) -> None:
        """Split what TCP segmentation left to us, and send it in trains of equal datagrams."""
        pieces = segments(packet, vnet)
        session = road.keys.current
        if session is None or road.route is None or not session.can_seal(now):
            for header, payload in pieces:
                self._stage(road, header + bytes(payload))
            return
        for data, segment, count in self._trains(road, session, pieces):
            self._put_train(road, data, segment, count)
            road.mark_sent(now)
            road.mark_data_sent(now)
            self._check_age(road, session, now)

    def _trains(
        self, road: Road, session: Session, pieces: Iterator[tuple[bytearray, memoryview]]
    ) -> Iterator[tuple[memoryview, int, int]]:
        """Seal the pieces; the bytes of each train, its segment, and how many datagrams it is."""
        out, route = self._out, road.route
        assert route is not None
        channel = route.channel
        head = CHANNEL_HEADER_LENGTH if channel else 0
        most = 1 if self._vias.is_carried(route) else MAX_TRAIN_SEGMENTS
        end = count = segment = 0
        for header, payload in pieces:
            if session.counter >= REJECT_AFTER_MESSAGES:
                # The key's last message went a moment ago: the rest waits for the next key.
                self._stage(road, header + bytes(payload))
                continue
            begin = end + head + TRANSPORT_HEADER_LENGTH
            middle = begin + len(header)
            length = len(header) + len(payload)
            # The one copy on the way out: the kernel's large packet has no room for our headers.
            out[begin:middle] = header
            out[middle : begin + length] = payload
            size = self._seal(session, out, end + head, length)
            if channel:
                CHANNEL_HEADER.pack_into(out, end, channel, size)
                size += head
            if count and end + size > MAX_TRAIN_LENGTH:
                yield out[:end], segment, count
                out[:size] = out[end : end + size]
                end = count = 0
            segment = segment if count else size
            end += size
            count += 1
            if count == most or size < segment:
                yield out[:end], segment, count
                end = count = 0
        if count:
            yield out[:end], segment, count

    def _stage(self, road: Road, packet: memoryview | bytes | bytearray) -> None:
        """Keep a packet until there is a key; the oldest makes room."""
        if len(road.staged) == MAX_STAGED_PACKETS:
            self._count("staged_overflow")
        road.staged.append(bytes(packet))
        road.activity.staged = len(road.staged)
        self._raise(road, Pending.HANDSHAKE_NEEDED)

    def _flush_staged(self, road: Road, now: float) -> None:
        """Send what waited, now that there is a key."""
        if road.hold is not None:
            return
        session = road.keys.current
        out = self._out
        while road.staged and road.route is not None:
            if session is None or not session.can_seal(now):
                self._raise(road, Pending.HANDSHAKE_NEEDED)
                break
            packet = road.staged.popleft()
            out[PACKET_OFFSET : PACKET_OFFSET + len(packet)] = packet
            self._send_packet(road, session, out, len(packet), now)
        road.activity.staged = len(road.staged)

    def _send_empty(self, road: Road, now: float) -> None:
        """Send a keepalive: a transport message with nothing inside."""
        session = road.keys.current
        if session is None or not session.can_seal(now):
            self._raise(road, Pending.HANDSHAKE_NEEDED)
            return
        if road.route is None:
            self._count("no_endpoint")
            return
        self._put(road, self._out, session.seal(self._out, MESSAGE_OFFSET, 0))
        road.mark_sent(now)
        self._check_age(road, session, now)

    def _answer_unreachable(self, packet: memoryview, now: float) -> None:
        tokens = self._unreachable_tokens + (now - self._unreachable_when) * UNREACHABLE_RATE
        self._unreachable_when = now
        self._unreachable_tokens = min(tokens, UNREACHABLE_BURST)
        if self._unreachable_tokens < 1:
            self._count("unreachable_limited")
            return
        answer = unreachable(packet)
        if answer is not None:
            self._unreachable_tokens -= 1
            self._deliver([bytes(VNET_HEADER_LENGTH), answer])

    # --- UDP to TUN ---

    def inbound(
        self, buffer: memoryview, length: int, segment: int, route: Route, now: float
    ) -> None:
        """Take `length` bytes that came from one place: datagrams of `segment` bytes each, the
        last may be shorter."""
        if not length:
            self._count("too_short")
            return
        self._expire_gates(now)
        for start in range(0, length, segment or length):
            end = min(start + segment, length) if segment else length
            if self._is_opened(buffer, start, end, route, now):
                continue
            if is_channel(buffer[start]):
                self._channel_data(self._vias.relay_at(route), buffer, start, end, now)
            elif is_stun(buffer, start, end):
                self._stun_datagram(bytes(buffer[start:end]), route, now)
            else:
                self._control_datagram(bytes(buffer[start:end]), route, now)
        self._coalescer.flush()

    def inbound_carried(self, buffer: memoryview, length: int, via: Via, now: float) -> None:
        """Take the `length` bytes of one message that came by a relay's carrier."""
        self._expire_gates(now)
        self._channel_data(self._vias.relays[via], buffer, 0, length, now)
        self._coalescer.flush()

    def _channel_data(
        self, relay: Relay | None, buffer: memoryview, start: int, end: int, now: float
    ) -> None:
        """Take what a relay has sent (RFC 8656 section 12.4); over UDP there may be padding."""
        if relay is None:
            self._count("unknown_relay")
            return
        begin = start + CHANNEL_HEADER_LENGTH
        if begin > end:
            self._count("bad_channel_data")
            return
        number, length = CHANNEL_HEADER.unpack_from(buffer, start)
        if begin + length > end:
            self._count("bad_channel_data")
            return
        route = relay.channels.get(number)
        if route is None:
            self._count("unknown_channel")
            return
        end = begin + length
        # What is neither is of a type that no filter has, ChannelData and STUN as well.
        if not self._is_opened(buffer, begin, end, route, now):
            self._control_datagram(bytes(buffer[begin:end]), route, now)

    def _is_opened(
        self, buffer: memoryview, start: int, end: int, route: Route, now: float
    ) -> bool:
        """Whether this is a transport message; then it was opened."""
        if end - start < TRANSPORT_OVERHEAD:
            return False
        kind, index, counter = HEADER.unpack_from(buffer, start)
        if kind != TYPE_TRANSPORT:
            return False
        self._open(buffer, start, end, index, counter, route, now)
        return True

    def _open(
        self,
        buffer: memoryview,
        start: int,
        end: int,
        index: int,
        counter: int,
        route: Route,
        now: float,
    ) -> None:
        entry = self._indices.get(index)
        if entry is None:
            self._count("unknown_index")
            return
        road, session = entry
        if now >= session.reject_after or counter >= REJECT_AFTER_MESSAGES:
            self._count("expired_key")
            return
        plain = session.open(buffer, start, end, counter)
        if plain is None:
            self._count("bad_tag")
            return
        if not session.window.accept(counter):
            self._count("replayed")
            return
        if road.resting:
            self._wake(road)
        gate = road.gate if road.gate is not None and road.gate.session is session else None
        if gate is not None:
            gate.route = route
        elif route is not road.route:
            if route != road.route:
                self._came_from(road, route)
            else:
                # From now on known by its identity.
                road.route = route
        road.mark_received(now, end - start)
        if gate is not None:
            self._confirm_gated(road, gate, now)
        elif session is road.keys.next:
            self._confirm(road, session, now)
        if now >= session.notify_receive_after:
            session.notify_receive_after = float("inf")
            self._raise(road, Pending.REKEY_RECEIVE)
        if end - start == KEEPALIVE_LENGTH:
            return
        road.mark_data_received(now)
        inner = length_and_source(plain)
        if inner is None:
            self._count("bad_inner")
            return
        size, source = inner
        if gate is not None:
            self._hold(gate, plain[:size])
            return
        if self._allowed.lookup(source) != road.handle:
            self._count("wrong_source")
            return
        self._coalescer.add(buffer, start + TRANSPORT_HEADER_LENGTH, size)

    def _confirm_gated(self, road: Road, gate: Gate, now: float) -> None:
        """The initiator used the key; whether it may is being decided."""
        if not gate.confirmed:
            self._gates.begin(road.handle, gate, now)
            self._raise(road, Pending.GATE_CONFIRMED)

    def _hold(self, gate: Gate, packet: memoryview) -> None:
        refusal = self._gates.hold(gate, packet)
        if refusal is not None:
            self._count(refusal)

    def _let_in(self, road: Road, packets: Iterable[memoryview]) -> None:
        # Nothing is being sent here now, and GATE_BYTES fit.
        buffer, start = self._out, PACKET_OFFSET
        for packet in packets:
            inner = length_and_source(packet)
            if inner is None or self._allowed.lookup(inner[1]) != road.handle:
                self._count("wrong_source")
                continue
            buffer[start : start + len(packet)] = packet
            self._coalescer.add(buffer, start, len(packet))
            start += len(packet) + VNET_HEADER_LENGTH
        self._coalescer.flush()

    def _confirm(self, road: Road, session: Session, now: float) -> None:
        """The initiator used the key we answered with: now we may use it too."""
        self._retire(road.keys.confirm(session))
        road.has_new_key()
        self._raise(road, Pending.KEY_CONFIRMED)
        # What is gathered for the TUN lies in another buffer than what is sent here.
        self._flush_staged(road, now)
