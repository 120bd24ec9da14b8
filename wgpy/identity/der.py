"""DER (X.690) as it comes from outside, split into its elements and no further.

An element is a tag, a length and contents. Only what DER allows is read: a length in its shortest
form, and nothing behind the last element. Tags are not looked at: whoever asks compares them with
those that it expects, so one of several bytes, which no certificate has, never passes.
"""

from typing import Final

# Tags of one byte: class, whether it is made of elements, number (X.690 section 8.1.2).
BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
OBJECT_IDENTIFIER: Final = 0x06
SEQUENCE: Final = 0x30

TRUE: Final = b"\xff"

# From here on the byte says how many bytes of length follow. Nothing here needs more than two.
_LONG: Final = 0x80
_LEAST: Final = {1: 0x80, 2: 0x100}


class DerError(ValueError):
    """Bytes that are no DER, or not the elements that there must be."""


def split(data: bytes) -> tuple[bytes, list[bytes]]:
    """The tags of all elements, one byte each, and their contents. Raises DerError."""
    tags, contents = bytearray(), []
    start, end = 0, len(data)
    try:
        while start < end:
            tags.append(data[start])
            length = data[start + 1]
            start += 2
            if length >= _LONG:
                length, start = _long(data, start, length - _LONG)
            stop = start + length
            contents.append(data[start:stop])
            start = stop
    except IndexError:
        raise DerError("it breaks off") from None
    if start != end:
        raise DerError("an element is longer than what is left")
    return bytes(tags), contents


def contents_of(data: bytes, tags: bytes) -> list[bytes]:
    """The contents of the elements, which must have these tags. Raises DerError."""
    contents = []
    start = 0
    try:
        for tag in tags:
            length = data[start + 1]
            if data[start] != tag:
                raise DerError("its elements are not those that there must be")
            start += 2
            if length >= _LONG:
                length, start = _long(data, start, length - _LONG)
            stop = start + length
            contents.append(data[start:stop])
            start = stop
    except IndexError:
        raise DerError("it breaks off") from None
    if start != len(data):
        raise DerError("an element is longer than what is left, or something is behind them")
    return contents


def _long(data: bytes, start: int, size: int) -> tuple[int, int]:
    """A length of more than one byte, and where it ends. Raises DerError."""
    if size not in _LEAST:
        raise DerError("it has a length of too many bytes")
    stop = start + size
    length = int.from_bytes(data[start:stop], "big")
    if length < _LEAST[size]:
        raise DerError("a length is not written in the shortest way")
    return length, stop
