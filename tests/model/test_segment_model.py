"""Segmentation against a segmenter that builds every packet anew from its fields."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.packets import (
    ACK,
    CWR,
    ECE,
    FIN,
    GSO_ECN,
    PSH,
    V6,
    Segment,
    checksum,
    checksums_are_right,
)
from wgpy.datapath.segment import OffloadError, finish_checksum, segments

FLAGS = st.sampled_from([FIN, PSH, CWR, ECE]).flatmap(
    lambda one: st.sampled_from([0, FIN, PSH, CWR, ECE]).map(lambda other: ACK | one | other)
)
options = st.integers(0, 10).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n))
# Numbers near their end, where they wrap.
sequences = st.one_of(st.integers(0, 2**32 - 1), st.integers(2**32 - 9000, 2**32 - 1))
idents = st.one_of(st.integers(0, 2**16 - 1), st.integers(2**16 - 20, 2**16 - 1))


@st.composite
def large_segments(draw):
    size = draw(st.one_of(st.integers(1, 64), st.sampled_from([1220, 1368, 1380, 1448])))
    length = draw(st.integers(0, 40)) * size // draw(st.sampled_from([1, 2, 3]))
    length += draw(st.integers(0, size))
    six = draw(st.booleans())
    source, target = V6 if six else (draw(st.binary(min_size=4, max_size=4)), bytes(4))
    large = Segment(
        payload=draw(st.randoms(use_true_random=False)).randbytes(length),
        source=source,
        target=target,
        ports=(draw(st.integers(0, 65535)), draw(st.integers(0, 65535))),
        sequence=draw(sequences),
        acknowledged=draw(sequences),
        flags=draw(FLAGS),
        window=draw(st.integers(0, 65535)),
        urgent=draw(st.sampled_from([0, 1, 65535])),
        options=draw(options),
        tos=draw(st.integers(0, 255)),
        ttl=draw(st.integers(1, 255)),
        ident=0 if six else draw(idents),
        fragment=0 if six else draw(st.sampled_from([0, 0x4000])),
        ip_options=b"" if six else draw(st.sampled_from([b"", b"\1\1\1\0", b"\7" * 40])),
    )
    return large, size


def cut(packet, vnet):
    return [bytes(header) + bytes(payload) for header, payload in segments(packet, vnet)]


@given(large_segments(), st.sampled_from([0, GSO_ECN]), st.integers(0, 0xFFFF))
@settings(max_examples=250, deadline=None)
def test_segments_are_those_of_the_naive_segmenter(made, ecn, spoil):
    large, size = made
    vnet = bytearray(large.vnet(size))
    vnet[1] |= ecn
    # The kernel leaves a partial sum in the checksum's place: it is not to matter.
    packet = bytearray(bytes(large))
    packet[large.header - 4 - len(large.options) : large.header - 2 - len(large.options)] = (
        spoil.to_bytes(2, "big")
    )
    found = cut(memoryview(packet), bytes(vnet))
    assert found == [bytes(segment) for segment in large.split(size)]
    assert all(checksums_are_right(segment) for segment in found)


@given(st.binary(max_size=120), st.binary(min_size=10, max_size=10))
@settings(max_examples=500, deadline=None)
def test_only_offload_error_comes_of_random_headers(packet, vnet):
    buffer = memoryview(bytearray(packet))
    for call in (
        lambda: cut(buffer, vnet),
        lambda: finish_checksum(buffer, vnet[6] | vnet[7] << 8, vnet[8] | vnet[9] << 8),
    ):
        try:
            call()
        except OffloadError:
            continue


@given(large_segments(), st.data())
@settings(max_examples=250, deadline=None)
def test_only_offload_error_comes_of_headers_that_are_nearly_right(made, data):
    large, size = made
    vnet = bytearray(large.vnet(size))
    packet = bytearray(bytes(large))
    for _ in range(data.draw(st.integers(1, 3))):
        target = data.draw(st.sampled_from([vnet, packet]))
        place = data.draw(st.integers(0, min(len(target), large.header) - 1))
        target[place] = data.draw(st.integers(0, 255))
    packet = packet[: data.draw(st.sampled_from([len(packet), large.header, 39, 20]))]
    try:
        found = cut(memoryview(packet), bytes(vnet))
    except OffloadError:
        return
    # Whatever it believed, it sends the payload once and in order.
    _flags, _kind, _length, given_size, start = struct.unpack_from("=BBHHH", vnet)
    end = start + (packet[start + 12] >> 4) * 4
    assert b"".join(piece[end:] for piece in found) == bytes(packet[end:])
    assert all(len(piece) - end <= given_size for piece in found)


@given(st.binary(min_size=2, max_size=300), st.data())
@settings(max_examples=200, deadline=None)
def test_a_finished_checksum_is_right(data, draw):
    start = draw.draw(st.integers(0, len(data) - 2))
    offset = draw.draw(st.integers(0, (len(data) - 2 - start) // 2)) * 2
    packet = bytearray(data)
    finish_checksum(memoryview(packet), start, offset)
    field = start + offset
    assert bytes(packet[:field] + packet[field + 2 :]) == data[:field] + data[field + 2 :]
    # RFC 768: never a zero. What stood in the field counts as the pseudo header.
    written = int.from_bytes(packet[field : field + 2], "big")
    assert written != 0
    assert written % 0xFFFF == checksum(data[start:]) % 0xFFFF


@pytest.mark.parametrize("six", [False, True])
def test_a_payload_of_no_bytes_is_one_segment(six):
    source, target = V6 if six else (b"\1\2\3\4", b"\5\6\7\x08")
    large = Segment(source=source, target=target, flags=ACK | FIN | PSH | CWR)
    assert cut(memoryview(bytes(large)), large.vnet(1000)) == [bytes(large)]
