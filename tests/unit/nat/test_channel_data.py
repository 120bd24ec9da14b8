"""ChannelData, alone and in a stream with STUN between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.nat.channel_data import (
    FIRST_CHANNEL,
    LAST_CHANNEL,
    MAX_FRAME,
    ChannelData,
    Deframer,
    pack_channel_data,
    parse_channel_data,
)
from wgpy.nat.stun import Class, Message, Method, ParseError, pack

CHANNELS = st.integers(FIRST_CHANNEL, LAST_CHANNEL)
STUN = pack(Message(Method.BINDING, Class.REQUEST, bytes(12), {"SOFTWARE": "abc"}))
FRAMES = st.one_of(
    st.builds(ChannelData, CHANNELS, st.binary(max_size=50)),
    st.builds(
        lambda text: pack(Message(Method.BINDING, Class.REQUEST, bytes(12), {"SOFTWARE": text})),
        st.text(max_size=9),
    ),
)


def test_the_bytes_are_those_of_rfc_8656() -> None:
    assert pack_channel_data(0x4001, b"hello") == b"\x40\x01\x00\x05hello"
    assert pack_channel_data(0x4001, b"hello", padded=True) == b"\x40\x01\x00\x05hello\0\0\0"
    assert pack_channel_data(0x4FFF, b"12345678", padded=True) == b"\x4f\xff\x00\x0812345678"


@given(CHANNELS, st.binary(max_size=100), st.booleans())
def test_what_was_packed_is_parsed(channel: int, data: bytes, padded: bool) -> None:
    packed = pack_channel_data(channel, data, padded=padded)
    assert parse_channel_data(packed) == ChannelData(channel, data)
    assert len(packed) % 4 == 0 or not padded


def test_what_cannot_be_packed_is_refused() -> None:
    for channel in (0, FIRST_CHANNEL - 1, LAST_CHANNEL + 1, 0x7FFF):
        with pytest.raises(ValueError, match="no channel number"):
            pack_channel_data(channel, b"")
    with pytest.raises(ValueError, match="65536 bytes"):
        pack_channel_data(FIRST_CHANNEL, bytes(65536))
    assert len(pack_channel_data(FIRST_CHANNEL, bytes(65535))) == 65539


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\x40\x00\x00",
        b"\x40\x00\x00\x01",
        b"\x3f\xff\x00\x00",
        b"\x50\x00\x00\x00",
        b"\x40\x00\xff\xff" + bytes(65534),
    ],
)
def test_what_is_no_channel_data_is_refused(datagram: bytes) -> None:
    with pytest.raises(ParseError):
        parse_channel_data(datagram)


@given(st.binary(max_size=40))
def test_any_bytes_parse_or_raise_parse_error(datagram: bytes) -> None:
    try:
        found = parse_channel_data(datagram)
    except ParseError:
        return
    assert datagram.startswith(pack_channel_data(found.channel, found.data))


@given(st.lists(FRAMES, max_size=8), st.data())
def test_a_stream_gives_its_messages_however_it_is_cut(
    frames: list[bytes | ChannelData], draw: st.DataObject
) -> None:
    stream = b"".join(
        x if isinstance(x, bytes) else pack_channel_data(x.channel, x.data, padded=True)
        for x in frames
    )
    deframer = Deframer()
    found = []
    while stream:
        size = draw.draw(st.integers(1, len(stream)))
        found += deframer.feed(stream[:size])
        stream = stream[size:]
    assert found == frames
    assert len(deframer) == 0


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_a_stream_of_any_bytes_is_bounded_and_raises_parse_error_only(parts: list[bytes]) -> None:
    deframer = Deframer()
    try:
        for part in parts:
            deframer.feed(part)
    except ParseError:
        return
    assert len(deframer) < MAX_FRAME


def test_the_longest_message_waits_until_it_is_whole() -> None:
    deframer = Deframer()
    packed = pack_channel_data(FIRST_CHANNEL, bytes(65535), padded=True)
    assert len(packed) == MAX_FRAME
    assert deframer.feed(packed[:-1]) == []
    assert deframer.feed(packed[-1:] + STUN[:7]) == [ChannelData(FIRST_CHANNEL, bytes(65535))]
    assert len(deframer) == 7
    assert deframer.feed(STUN[7:]) == [STUN]


@pytest.mark.parametrize(
    "stream",
    [
        b"\x50\x00\x00\x00",
        b"SSH-2.0-OpenSSH\r\n",
        b"\x15\x03\x01\x00",
        b"\x04\x00\x00\x00" + STUN[4:],
        # A length that is no multiple of 4, and no cookie.
        b"\x00\x01\x00\x02" + STUN[4:],
        STUN[:4] + b"\x21\x12\xa4\x43" + STUN[8:],
        STUN[:4] + b"\x21\x13",
    ],
)
def test_what_cannot_be_told_apart_ends_the_stream(stream: bytes) -> None:
    with pytest.raises(ParseError):
        Deframer().feed(stream)
