"""The demo's own ICMP echo: its bytes, and what it takes for an answer."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.demo.echo import Echoes, checksum, reply, request

IP_HEADER = bytes([0x45]) + bytes(19)
IP_HEADER_WITH_OPTIONS = bytes([0x46]) + bytes(23)


def answered(version: int, packet: bytes) -> bytes:
    """What the other side makes of a request: the same with the type of a reply."""
    return bytes([{4: 0, 6: 129}[version]]) + packet[1:]


def test_request_v4_carries_a_checksum_that_sums_to_nothing() -> None:
    packet = request(4, 0x1234, 7)
    assert packet[:2] == b"\x08\x00"
    assert checksum(packet) == 0
    assert struct.unpack_from("!HH", packet, 4) == (0x1234, 7)


def test_request_v6_leaves_the_checksum_to_the_kernel() -> None:
    packet = request(6, 0x1234, 7)
    assert packet[:4] == b"\x80\x00\x00\x00"


def test_checksum_of_rfc_1071() -> None:
    # The sum of RFC 1071 section 3 is ddf2; the checksum is its complement.
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == ~0xDDF2 & 0xFFFF
    assert checksum(b"\x01") == checksum(b"\x01\x00")


@pytest.mark.parametrize("header", [IP_HEADER, IP_HEADER_WITH_OPTIONS])
def test_reply_v4_is_found_behind_the_ip_header(header: bytes) -> None:
    assert reply(4, header + answered(4, request(4, 9, 3))) == (9, 3)


def test_reply_v6_comes_bare() -> None:
    assert reply(6, answered(6, request(6, 9, 3))) == (9, 3)


def test_a_request_is_no_reply() -> None:
    assert reply(4, IP_HEADER + request(4, 9, 3)) is None
    assert reply(6, request(6, 9, 3)) is None


@given(st.sampled_from([4, 6]), st.binary(max_size=80))
def test_anything_else_is_none_and_raises_nothing(version: int, packet: bytes) -> None:
    got = reply(version, packet)
    assert got is None or len(packet) >= 8


def test_echoes_settle_on_the_median_after_the_first() -> None:
    echoes = Echoes("10.0.0.1", (0.9, 0.003, None, 0.001, 0.002))
    assert echoes.answered == 4
    assert echoes.settled == 0.002


def test_echoes_unanswered_have_no_round_trip() -> None:
    echoes = Echoes("10.0.0.1", (0.9, None, None))
    assert echoes.answered == 1
    assert echoes.settled is None
