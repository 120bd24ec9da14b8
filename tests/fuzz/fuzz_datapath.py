"""A fuzz target for the data path: the TUN's side, the socket's side, and what lies between.

    python tests/fuzz/fuzz_datapath.py -max_total_time=30

Needs the `fuzz` extra (atheris). Arguments are libFuzzer's. The first byte chooses the road: raw
datagrams into the socket, what a relay and STUN servers send, packets with a vnet header into the
TUN, inner packets sealed by an honest peer, or packets for the kernel, merged and cut again.
Nothing may be raised; and whatever was thrown at it, an honest packet must arrive in the end.
"""

import struct
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["wgpy"]):
    from tests.support.memory_path import ELSEWHERE, Joined, MemoryPath, join
    from tests.support.packets import Segment, ip_packet, kernel_receives
    from wgpy.datapath.coalesce import Coalescer
    from wgpy.datapath.contract import Budget, Datagram, Endpoint, FilterRule
    from wgpy.datapath.endpoint import to_route
    from wgpy.datapath.engine import MESSAGE_OFFSET, PACKET_OFFSET
    from wgpy.datapath.icmp import unreachable

HONEST = ip_packet(17, b"an honest packet")
FILTER = (
    FilterRule(1, 148, mac1_offset=116),
    FilterRule(2, 92, mac1_offset=60, index_offset=8),
    FilterRule(3, 64, index_offset=4),
    FilterRule(0x10, 40, False, -32, longest=1200, budget=Budget(queue=8)),
    FilterRule(0x12, 20, False, longest=1200, path_offset=4),
)
SERVER = Endpoint("198.51.100.1", 3478)
CHANNEL = 0x4000
VNET_LENGTH = 10


def pieces(data: bytes) -> list[bytes]:
    """Strings of random lengths: two bytes say how long each is."""
    found = []
    while len(data) > 2 and len(found) < 32:
        length = min(int.from_bytes(data[:2], "big") % 2048, len(data) - 2)
        found.append(data[2 : 2 + length])
        data = data[2 + length :]
    return found


def from_socket(here: MemoryPath, there: MemoryPath, _peers: Joined, data: bytes) -> None:
    """Datagrams and trains of a stranger, the honest one's changed among them."""
    here.write(HONEST)
    honest, _ = here.sent.pop()
    for piece in pieces(data):
        there.take(piece, ELSEWHERE)
        there.take(piece, ELSEWHERE, 1 + piece[0] if piece else 0)
        changed = bytearray(honest)
        for place, value in zip(piece[::2], piece[1::2], strict=False):
            changed[place % len(changed)] ^= value
        if bytes(changed) != honest:
            there.take(bytes(changed), ELSEWHERE)
    if there.delivered:
        raise AssertionError("a stranger's packet was delivered")


def from_relay(here: MemoryPath, there: MemoryPath, _peers: Joined, data: bytes) -> None:
    """Whatever a relay could send, as it is and framed, and honest messages that were changed."""
    relay, carrier = there.add_relay(SERVER), there.add_relay(SERVER, -1)
    for one in (relay, carrier):
        there.set_channel(one, CHANNEL, Endpoint("192.0.2.77", 77))
    there.set_path_ids([bytes(8)])
    here.write(HONEST)
    honest, _ = here.sent.pop()
    for piece in pieces(data):
        changed = bytearray(struct.pack(">HH", CHANNEL, len(honest)) + honest)
        for place, value in zip(piece[::2], piece[1::2], strict=False):
            changed[place % len(changed)] ^= value
        framed = [piece, struct.pack(">HH", CHANNEL, len(piece)) + piece]
        if bytes(changed[4 : 4 + len(honest)]) != honest:
            framed.append(bytes(changed))
        for datagram in framed:
            there.take(datagram, to_route(SERVER))
            there.take(datagram, to_route(SERVER), 1 + piece[0] if piece else 0)
            there.take_carried(datagram, carrier)
    if there.delivered:
        raise AssertionError("what nobody sealed was delivered")
    for event in there.drain(100_000):
        if not isinstance(event, Datagram):
            continue
        kind = int.from_bytes(event.data[:4], "little")
        is_stun = event.data[4:8] == bytes.fromhex("2112a442") and event.endpoint == SERVER
        if kind not in (1, 2, 3, 0x10, 0x12) and not is_stun:
            raise AssertionError("a datagram that no rule has came up")


def from_tun(here: MemoryPath, there: MemoryPath, _peers: Joined, data: bytes) -> None:
    """Whatever the kernel could hand over, to a peer that has a key and to nobody."""
    for piece in pieces(data):
        vnet, packet = piece[:VNET_LENGTH].ljust(VNET_LENGTH, b"\0"), piece[VNET_LENGTH:]
        here.write(packet, vnet)
        routed = bytearray(packet)
        routed[:1], routed[16:20] = b"\x45", HONEST[16:20]
        here.write(bytes(routed), vnet)
        large = Segment(payload=packet)
        here.write(bytes(large), vnet)
        unreachable(memoryview(packet))
    for datagram, _ in here.sent:
        if len(datagram) % 16 and len(datagram) < here._mtu:
            raise AssertionError("a datagram is not padded")
        there.take(datagram)
    there.delivered.clear()


def inside(here: MemoryPath, there: MemoryPath, peers: Joined, data: bytes) -> None:
    """Inner packets that a peer with a key makes up."""
    session = here._roads[peers.here].keys.current
    assert session is not None
    for piece in pieces(data):
        here.tun[PACKET_OFFSET : PACKET_OFFSET + len(piece)] = piece
        size = here._seal(session, here.tun, MESSAGE_OFFSET, len(piece))
        there.take(bytes(here.tun[MESSAGE_OFFSET : MESSAGE_OFFSET + size]))
    for frame in there.delivered:
        source = frame[10 + 12 : 10 + 16] if frame[10] >> 4 == 4 else frame[10 + 8 : 10 + 24]
        if there._allowed.lookup(source) != peers.there:
            raise AssertionError("a packet with another's source was delivered")
    there.delivered.clear()


def merged(_here: MemoryPath, _there: MemoryPath, _peers: Joined, data: bytes) -> None:
    """A flow with changes and strangers in it: what the kernel makes of it is what came in."""
    packets = []
    sequence = 0
    for number, piece in enumerate(pieces(data)):
        payload = piece[: 2 + (piece[0] % 4 if piece else 0)]
        packet = bytearray(bytes(Segment(payload=payload, sequence=sequence, ident=number)))
        sequence += len(payload)
        for place, value in zip(piece[8:16:2], piece[9:16:2], strict=False):
            # Not the length and the identification: the first is checked before, the second is
            # free where fragmentation is forbidden.
            if place % len(packet) not in (2, 3, 4, 5):
                packet[place % len(packet)] ^= value
        packets.append(bytes(packet))
    frames: list[bytes] = []
    coalescer = Coalescer(lambda buffers: frames.append(b"".join(buffers)), merge=True)
    buffer = memoryview(bytearray(b"".join(bytes(16) + packet for packet in packets)))
    at = 0
    for packet in packets:
        coalescer.add(buffer, at + 16, len(packet))
        at += 16 + len(packet)
    coalescer.flush()
    if [packet for frame in frames for packet in kernel_receives(frame)] != packets:
        raise AssertionError("the kernel gets other packets than came in")


def test_one_input(data: bytes) -> None:
    if not data:
        return
    here, there = MemoryPath(), MemoryPath()
    peers = join(here, there)
    there.set_filter(FILTER, bytes(32))
    there.set_cookie_secret(bytes(31) + b"s")
    roads = (from_socket, from_tun, inside, merged, from_relay)
    roads[data[0] % len(roads)](here, there, peers, data[1:])
    here.sent.clear()
    here.write(HONEST)
    ((honest, _),) = here.sent
    if struct.unpack_from("<I", honest) != (4,):
        raise AssertionError("an honest packet was not sent as data")
    there.take(honest)
    if there.delivered != [bytes(10) + HONEST]:
        raise AssertionError("an honest packet did not arrive")


def main() -> None:
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
