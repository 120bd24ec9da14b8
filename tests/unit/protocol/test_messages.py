"""The three handshake messages: exact bytes, exact lengths, one exception."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.protocol import messages
from wgpy.protocol.messages import CookieReply, Initiation, ParseError, Response

INITIATION = Initiation(0x01020304, b"e" * 32, b"s" * 48, b"t" * 28, b"1" * 16, b"2" * 16)
RESPONSE = Response(0x01020304, 0x0A0B0C0D, b"e" * 32, b"n" * 16, b"1" * 16, b"2" * 16)
COOKIE_REPLY = CookieReply(0x01020304, b"n" * 24, b"c" * 32)

PACKED_INITIATION = b"\1\0\0\0\4\3\2\1" + b"e" * 32 + b"s" * 48 + b"t" * 28 + b"1" * 16 + b"2" * 16
PACKED_RESPONSE = (
    b"\2\0\0\0\4\3\2\1\x0d\x0c\x0b\x0a" + b"e" * 32 + b"n" * 16 + b"1" * 16 + b"2" * 16
)
PACKED_COOKIE_REPLY = b"\3\0\0\0\4\3\2\1" + b"n" * 24 + b"c" * 32

CASES = [
    (messages.parse_initiation, messages.pack_initiation, INITIATION, PACKED_INITIATION),
    (messages.parse_response, messages.pack_response, RESPONSE, PACKED_RESPONSE),
    (
        messages.parse_cookie_reply,
        messages.pack_cookie_reply,
        COOKIE_REPLY,
        PACKED_COOKIE_REPLY,
    ),
]
PARSERS = [case[0] for case in CASES]


@pytest.mark.parametrize(("parse", "pack", "message", "packed"), CASES)
def test_layout(parse, pack, message, packed):
    assert pack(message) == packed
    assert parse(packed) == message


@pytest.mark.parametrize(("parse", "pack", "message", "packed"), CASES)
def test_lengths_are_exact(parse, pack, message, packed):
    for wrong in (packed[:-1], packed + b"\0", b""):
        with pytest.raises(ParseError):
            parse(wrong)


@pytest.mark.parametrize(("parse", "pack", "message", "packed"), CASES)
@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_type_and_reserved_bytes_are_exact(parse, pack, message, packed, position):
    wrong = bytearray(packed)
    wrong[position] ^= 0x80
    with pytest.raises(ParseError):
        parse(bytes(wrong))


def test_lengths_on_the_wire():
    assert [len(case[3]) for case in CASES] == [148, 92, 64]


def test_message_type_takes_the_reserved_bytes_in():
    assert messages.message_type(b"\4\0\0\0") == 4
    assert messages.message_type(b"\4\0\0\1rest") == 0x01000004
    with pytest.raises(ParseError):
        messages.message_type(b"\1\0\0")


def test_messages_are_frozen():
    with pytest.raises(AttributeError):
        INITIATION.sender = 5


@given(st.binary(max_size=200))
def test_any_bytes_raise_only_parse_error(data):
    for parse in (*PARSERS, messages.message_type):
        try:
            parse(data)
        except ParseError:
            continue


@given(st.sampled_from(CASES), st.data())
def test_whatever_parses_packs_to_the_same_bytes(case, data):
    parse, pack, _, packed = case
    body = data.draw(st.binary(min_size=len(packed) - 4, max_size=len(packed) - 4))
    datagram = packed[:4] + body
    assert pack(parse(datagram)) == datagram
