"""Answers to packets that no peer can take: RFC 792, 1122, 1812 and 4443."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.memory_path import MemoryPath
from tests.support.packets import (
    ICMP,
    ICMPV6,
    MORE_FRAGMENTS,
    UDP,
    V4,
    V6,
    Segment,
    checksum,
    ip_packet,
    pseudo_header,
)
from wgpy.datapath.icmp import unreachable


def answer(packet):
    return unreachable(memoryview(packet))


@pytest.mark.parametrize("size", [0, 1, 100, 519, 520, 521, 1400, 60_000])
def test_ipv4_is_answered_with_host_unreachable(size):
    packet = ip_packet(UDP, bytes(size))
    reply = answer(packet)
    assert reply is not None
    assert len(reply) <= 576
    assert reply[0] == 0x45
    assert struct.unpack_from("!H", reply, 2) == (len(reply),)
    assert reply[9] == ICMP
    # From the address that cannot be reached, to whoever asked.
    assert (reply[12:16], reply[16:20]) == (V4[1], V4[0])
    assert checksum(reply[:20]) == 0
    assert checksum(reply[20:]) == 0
    assert reply[20:22] == bytes((3, 1))
    assert reply[28:] == packet[: len(reply) - 28]
    assert len(reply) == min(28 + len(packet), 576)


@pytest.mark.parametrize("size", [0, 1, 100, 1191, 1192, 1193, 60_000])
def test_ipv6_is_answered_with_address_unreachable(size):
    packet = ip_packet(UDP, bytes(size), source=V6[0], target=V6[1])
    reply = answer(packet)
    assert reply is not None
    assert len(reply) == min(48 + len(packet), 1280)
    assert reply[0] == 0x60
    assert struct.unpack_from("!H", reply, 4) == (len(reply) - 40,)
    assert reply[6] == ICMPV6
    assert (reply[8:24], reply[24:40]) == (V6[1], V6[0])
    assert reply[40:42] == bytes((1, 3))
    pseudo = pseudo_header(reply[8:24], reply[24:40], ICMPV6, len(reply) - 40)
    assert checksum(pseudo, reply[40:]) == 0
    assert reply[48:] == packet[: len(reply) - 48]


def v6(protocol, body, **fields):
    return ip_packet(protocol, body, **{"source": V6[0], "target": V6[1], **fields})


def multicast6():
    return bytes.fromhex("ff02" + "00" * 13 + "01")


def fragment6(next_header, offset):
    return struct.pack("!BBHI", next_header, 0, offset << 3, 1)


HOP_BY_HOP = bytes((ICMPV6, 0)) + bytes(6)


@pytest.mark.parametrize(
    "packet",
    [
        *(ip_packet(ICMP, bytes((kind, 0)) + bytes(20)) for kind in (3, 4, 5, 11, 12)),
        ip_packet(ICMP, bytes((3, 0)) + bytes(20), options=b"\1" * 8),
        ip_packet(UDP, bytes(20), fragment=1),
        ip_packet(UDP, bytes(20), fragment=MORE_FRAGMENTS | 185),
        ip_packet(UDP, bytes(20), target=bytes((224, 0, 0, 1))),
        ip_packet(UDP, bytes(20), target=bytes((255, 255, 255, 255))),
        ip_packet(UDP, bytes(20), source=bytes((224, 0, 0, 1))),
        ip_packet(UDP, bytes(20), source=bytes((255, 255, 255, 255))),
        ip_packet(UDP, bytes(20), source=bytes(4)),
        *(v6(ICMPV6, bytes((kind, 0)) + bytes(20)) for kind in (0, 1, 2, 3, 4, 127, 137)),
        v6(ICMPV6, b""),
        v6(0, HOP_BY_HOP + bytes((1, 0)) + bytes(20)),
        v6(60, HOP_BY_HOP + bytes((137, 0)) + bytes(20)),
        v6(44, fragment6(ICMPV6, 0) + bytes((1, 0)) + bytes(20)),
        v6(44, fragment6(UDP, 100) + bytes(20)),
        v6(0, bytes((ICMPV6, 200)) + bytes(20)),
        v6(UDP, bytes(20), target=multicast6()),
        v6(UDP, bytes(20), source=multicast6()),
        v6(UDP, bytes(20), source=bytes(16)),
        b"",
        b"\x45" + bytes(10),
        b"\x60" + bytes(30),
        bytes(60),
    ],
    ids=lambda packet: packet[:50].hex(),
)
def test_some_packets_are_never_answered(packet):
    assert answer(packet) is None


@pytest.mark.parametrize(
    "packet",
    [
        ip_packet(ICMP, bytes((8, 0)) + bytes(20)),
        ip_packet(UDP, bytes(20), fragment=MORE_FRAGMENTS),
        ip_packet(UDP, bytes(20), fragment=0),
        bytes(Segment()),
        v6(ICMPV6, bytes((128, 0)) + bytes(20)),
        v6(0, HOP_BY_HOP + bytes((128, 0)) + bytes(20)),
        v6(44, fragment6(UDP, 0) + bytes(20)),
        v6(60, bytes((UDP, 1)) + bytes(14) + bytes(20)),
    ],
    ids=lambda packet: packet[:50].hex(),
)
def test_these_are(packet):
    assert answer(packet) is not None


@given(st.binary(max_size=200), st.sampled_from([0x45, 0x4F, 0x40, 0x60]))
@settings(max_examples=300, deadline=None)
def test_nothing_raises_and_no_answer_is_answered(data, first):
    for packet in (data, bytes([first]) + data):
        reply = answer(packet)
        if reply is not None:
            assert answer(reply) is None


def test_the_sender_gets_it_through_the_tun():
    path = MemoryPath()
    packet = ip_packet(UDP, b"x", target=bytes((10, 9, 9, 9)))
    path.write(packet)
    assert path.counters() == {"no_peer": 1}
    assert path.delivered == [bytes(10) + answer(packet)]


def test_answers_have_a_rate():
    path = MemoryPath()
    packet = ip_packet(UDP, b"x")
    for _ in range(80):
        path.write(packet)
    assert len(path.delivered) == 50
    assert path.counters() == {"no_peer": 80, "unreachable_limited": 30}
    path.now += 0.1
    for _ in range(80):
        path.write(packet)
    assert len(path.delivered) == 60
    path.now += 3600
    for _ in range(80):
        path.write(packet)
    assert len(path.delivered) == 110, "time saves up no more than one burst"


def test_what_is_not_answered_costs_no_token():
    path = MemoryPath()
    for _ in range(200):
        path.write(ip_packet(UDP, b"x", target=bytes((224, 0, 0, 251))))
    path.write(ip_packet(UDP, b"x"))
    assert len(path.delivered) == 1
