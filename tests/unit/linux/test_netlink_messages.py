"""The frame of netlink messages: what is written is read, and what is cut off ends the reading."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from wgpy.linux.netlink_messages import (
    ATTRIBUTE,
    HEADER,
    NLMSG_DONE,
    attribute,
    attributes,
    messages,
)


def message(kind: int, sequence: int, body: bytes) -> bytes:
    """One message, padded to four bytes."""
    data = HEADER.pack(HEADER.size + len(body), kind, 0, sequence, 0) + body
    return data + bytes(-len(data) % 4)


def test_a_header_and_an_attribute_are_as_the_kernel_has_them() -> None:
    assert (HEADER.size, ATTRIBUTE.size) == (16, 4)
    assert attribute(3, b"abcde") == struct.pack("=HH", 9, 3) + b"abcde\0\0\0"


def test_messages_of_one_datagram_and_of_one_sequence() -> None:
    data = message(20, 1, b"one") + message(20, 2, b"") + message(NLMSG_DONE, 1, b"\0" * 4)
    assert messages(data) == [(20, b"one"), (20, b""), (NLMSG_DONE, bytes(4))]
    assert messages(data, 1) == [(20, b"one"), (NLMSG_DONE, bytes(4))]
    assert messages(data, 3) == []


def test_a_length_that_cannot_be_ends_it() -> None:
    """It could stand still otherwise, and never end."""
    short = HEADER.pack(HEADER.size - 1, 20, 0, 1, 0)
    assert messages(message(20, 1, b"one") + short + message(20, 1, b"two")) == [(20, b"one")]
    assert messages(message(20, 1, b"one") + HEADER.pack(0, 20, 0, 1, 0)) == [(20, b"one")]
    assert messages(b"\x10\0\0") == []
    assert attributes(ATTRIBUTE.pack(3, 1) + b"more") == {}
    assert attributes(attribute(1, b"x") + ATTRIBUTE.pack(0, 2)) == {1: b"x"}


def test_a_message_that_is_cut_off_has_what_is_there() -> None:
    whole = message(20, 1, b"twelve bytes")
    assert messages(whole[:-4]) == [(20, b"twelve b")]
    assert attributes(attribute(1, b"abcd")[:-2]) == {1: b"ab"}


def test_flags_of_an_attribute_are_no_part_of_its_kind() -> None:
    assert attributes(attribute(0x8000 | 5, b"nested")) == {5: b"nested"}
    assert attributes(attribute(0x4000 | 6, b"order")) == {6: b"order"}


def test_of_two_of_a_kind_the_last_counts() -> None:
    assert attributes(attribute(1, b"first") + attribute(1, b"second")) == {1: b"second"}


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40)), max_size=8))
def test_what_is_written_is_read(written: list[tuple[int, bytes]]) -> None:
    data = b"".join(attribute(kind, value) for kind, value in written)
    assert attributes(data) == dict(written)
    body = message(20, 7, data)
    ((kind, found),) = messages(body, 7)
    assert (kind, found) == (20, data)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_to_an_end(data: bytes) -> None:
    assert sum(len(body) for _, body in messages(data)) <= len(data)
    assert sum(len(value) for value in attributes(data).values()) <= len(data)
