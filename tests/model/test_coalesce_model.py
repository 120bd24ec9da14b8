"""Coalescing: what the kernel makes of each write to the TUN is what came in, in the same order.

The kernel's side is the naive segmenter of tests/support/packets.py. One thing may change: the
identification of an IPv4 packet that must not be fragmented, which means nothing (RFC 6864 4.1);
where the sender counts it up, as Linux does, not even that.
"""

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.packets import (
    ACK,
    CWR,
    DONT_FRAGMENT,
    ECE,
    FIN,
    MORE_FRAGMENTS,
    PSH,
    RST,
    SYN,
    UDP,
    URG,
    V4,
    V6,
    Segment,
    ip_packet,
    kernel_receives,
    parse_segment,
)
from wgpy.datapath.coalesce import Coalescer

HEADROOM = 16
TAILROOM = 16
TIMESTAMPS = bytes.fromhex("0101080a0000000100000002")

FLOWS = (
    Segment(source=V4[0], target=V4[1], options=TIMESTAMPS),
    Segment(source=V6[0], target=V6[1], options=TIMESTAMPS),
    Segment(source=V4[0], target=V4[1], ports=(40001, 80)),
)

# What sets a packet apart from the one before it. Most leave the flow going on.
ODDITIES = (
    {"flags": ACK | PSH},
    {"flags": ACK | FIN},
    {"flags": ACK | URG, "urgent": 5},
    {"flags": ACK | SYN},
    {"flags": ACK | RST},
    {"flags": ACK | ECE},
    {"flags": ACK | CWR},
    {"flags": 0},
    {"urgent": 9},
    {"ttl": 63},
    {"tos": 3},
    {"window": 511},
    {"acknowledged": 8},
    {"options": bytes.fromhex("0101080a0000000200000002")},
    {"options": b"\1" * 40},
    {"options": b""},
    {"ip_options": b"\1\1\1\0"},
    {"fragment": 0},
    {"fragment": MORE_FRAGMENTS},
    {"fragment": MORE_FRAGMENTS | DONT_FRAGMENT},
    {"fragment": DONT_FRAGMENT | 0x8000},
    {"fragment": DONT_FRAGMENT | 5},
    {"spoil": 1},
    {"spoil": 0xFF00},
    {"spoil_ip": 1},
    {"source": bytes((10, 0, 0, 9))},
    {"target": bytes((10, 0, 1, 2))},
    {"ports": (40000, 81)},
    {"ports": (1, 80)},
)

lengths = st.one_of(
    st.just(1000), st.just(1000), st.just(1000), st.sampled_from([0, 1, 2, 3, 999, 1001, 1448])
)


@st.composite
def streams(draw):
    """Packets of several flows, each mostly in sequence, with oddities and strangers between."""
    rng = draw(st.randoms(use_true_random=False))
    position = [draw(st.sampled_from([0, 2**32 - 2500])) for _ in FLOWS]
    counted = [draw(st.sampled_from([0, 65_530])) for _ in FLOWS]
    packets = []
    for _ in range(draw(st.integers(1, 24))):
        choice = draw(st.integers(0, 19))
        if choice == 0:
            packets.append(ip_packet(UDP, rng.randbytes(draw(st.integers(0, 50)))))
            continue
        flow = draw(st.sampled_from([0, 0, 0, 0, 1, 1, 2]))
        segment = replace(
            FLOWS[flow],
            payload=rng.randbytes(draw(lengths)),
            sequence=position[flow],
            ident=0 if flow == 1 else counted[flow],
        )
        if choice <= 5:
            oddity = draw(st.sampled_from(ODDITIES))
            if flow == 1:
                other = {"ip_options", "fragment", "spoil_ip", "source", "target"}
                oddity = {name: value for name, value in oddity.items() if name not in other}
            segment = replace(segment, **oddity)
        elif choice == 6:
            segment = replace(segment, sequence=draw(st.integers(0, 2**32 - 1)))
        counted[flow] = (counted[flow] + 1) % 2**16
        position[flow] = (position[flow] + len(segment.payload)) % 2**32
        packets.append(bytes(segment))
    return packets


def lay_out(packets):
    """The packets in one buffer, each with the room that sealed ones leave around it."""
    buffer = bytearray(b"\xaa" * sum(HEADROOM + len(p) + TAILROOM for p in packets))
    places = []
    at = 0
    for packet in packets:
        at += HEADROOM
        buffer[at : at + len(packet)] = packet
        places.append((at, len(packet)))
        at += len(packet) + TAILROOM
    return memoryview(buffer), places


def coalesce(packets, *, merge=True, flush_after=()):
    """The frames that were written, and what the kernel makes of them."""
    frames = []
    coalescer = Coalescer(lambda buffers: frames.append(b"".join(buffers)), merge=merge)
    buffer, places = lay_out(packets)
    for number, (at, length) in enumerate(places):
        coalescer.add(buffer, at, length)
        if number in flush_after:
            coalescer.flush()
    coalescer.flush()
    return frames, [packet for frame in frames for packet in kernel_receives(frame)]


@given(streams(), st.sets(st.integers(0, 24), max_size=3))
@settings(max_examples=400, deadline=None)
def test_the_kernel_gets_what_came_in_byte_for_byte(packets, flush_after):
    _, arrived = coalesce(packets, flush_after=flush_after)
    assert arrived == packets


@given(streams())
@settings(max_examples=50, deadline=None)
def test_without_merging_each_packet_is_written_alone(packets):
    frames, arrived = coalesce(packets, merge=False)
    assert len(frames) == len(packets)
    assert arrived == packets


@given(st.lists(st.binary(max_size=90), min_size=1, max_size=12))
@settings(max_examples=200, deadline=None)
def test_bytes_that_are_no_packets_pass_as_they_are(packets):
    packets = [packet for packet in packets if packet]
    _, arrived = coalesce(packets)
    assert arrived == packets


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_neighbours_of_good_packets_pass_as_they_are(data):
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    flow = data.draw(st.sampled_from(FLOWS))
    packets = []
    for number in range(6):
        ident = 0 if len(flow.source) == 16 else number
        good = replace(flow, payload=rng.randbytes(400), sequence=400 * number, ident=ident)
        packet = bytearray(bytes(good))
        if data.draw(st.booleans()):
            # Not the length fields: what is handed over has the length that it claims.
            places = [p for p in range(good.header + 2) if p not in (2, 3, 4, 5)]
            packet[data.draw(st.sampled_from(places))] ^= 1 << data.draw(st.integers(0, 7))
        packets.append(bytes(packet))
    _, arrived = coalesce(packets)
    assert arrived == packets


@given(st.lists(st.integers(0, 0xFFFF), min_size=2, max_size=10))
@settings(max_examples=50, deadline=None)
def test_any_identification_is_fit_where_it_means_nothing(idents):
    packets = [
        bytes(replace(FLOWS[0], payload=b"x" * 500, sequence=500 * n, ident=ident))
        for n, ident in enumerate(idents)
    ]
    frames, arrived = coalesce(packets)
    assert len(frames) == 1
    nameless = [replace(parse_segment(p), ident=0) for p in arrived]
    assert nameless == [replace(parse_segment(p), ident=0) for p in packets]
