"""Malformed vnet headers, one by one. The model is in tests/model."""

import struct

import pytest

from tests.support.packets import ACK, GSO_ECN, GSO_TCPV4, GSO_TCPV6, V6, Segment
from wgpy.datapath.segment import OffloadError, finish_checksum, segments

LARGE = Segment(payload=b"p" * 3000, options=b"\1" * 12)
LARGE6 = Segment(payload=b"p" * 3000, source=V6[0], target=V6[1])


def vnet(kind=GSO_TCPV4, length=52, size=1000, start=20, offset=16, flags=1):
    return struct.pack("=BBHHHH", flags, kind, length, size, start, offset)


def count(packet, header):
    return len(list(segments(memoryview(bytearray(packet)), header)))


@pytest.mark.parametrize("kind", [GSO_TCPV4, GSO_TCPV4 | GSO_ECN])
def test_a_right_header_is_taken(kind):
    assert count(bytes(LARGE), vnet(kind)) == 3


def test_the_header_length_is_read_from_the_packet():
    # The kernel says so itself: hdr_len is a hint (Documentation/networking/tuntap).
    assert count(bytes(LARGE), vnet(length=0)) == 3


@pytest.mark.parametrize(
    "header",
    [
        vnet(kind=GSO_TCPV6),
        vnet(kind=3),
        vnet(kind=5),
        vnet(kind=2),
        vnet(kind=0x7F),
        vnet(size=0),
        vnet(offset=6),
        vnet(offset=0xFFFF),
        vnet(start=0),
        vnet(start=19),
        # The bytes there read as a TCP header of 36 bytes.
        vnet(start=8),
        vnet(start=3052),
        vnet(start=3033),
        vnet(start=0xFFFF),
    ],
)
def test_a_header_that_does_not_fit_is_refused(header):
    with pytest.raises(OffloadError):
        count(bytes(LARGE), header)


@pytest.mark.parametrize("length", [0, 1, 12, 19, 20, 31, 33, 39])
def test_a_packet_shorter_than_its_headers_is_refused(length):
    with pytest.raises(OffloadError):
        count(bytes(LARGE)[:length], vnet())
    with pytest.raises(OffloadError):
        count(bytes(LARGE6)[:length], vnet(kind=GSO_TCPV6, start=40))


@pytest.mark.parametrize("offset", [0x00, 0x40])
def test_a_tcp_header_shorter_than_one_is_refused(offset):
    packet = bytearray(bytes(LARGE))
    packet[32] = offset
    with pytest.raises(OffloadError):
        count(packet, vnet())


def test_a_tcp_header_longer_than_the_packet_is_refused():
    packet = bytearray(bytes(Segment(payload=b"p")))
    packet[32] = 0xF0
    with pytest.raises(OffloadError):
        count(packet, vnet())


def test_nothing_is_given_before_the_whole_header_was_checked():
    pieces = None
    with pytest.raises(OffloadError):
        pieces = segments(memoryview(bytes(LARGE)), vnet(size=0))
    assert pieces is None


@pytest.mark.parametrize(("start", "offset"), [(0, 59), (59, 0), (0xFFFF, 0), (0, 0xFFFF)])
def test_a_checksum_outside_of_the_packet_is_refused(start, offset):
    packet = memoryview(bytearray(bytes(Segment(payload=b"p" * 20, flags=ACK))))
    assert len(packet) == 60
    before = bytes(packet)
    with pytest.raises(OffloadError):
        finish_checksum(packet, start, offset)
    assert bytes(packet) == before
