"""DER is read in one way: what is split and put together again is what was there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.identity.der import DerError, contents_of, split


def length(size: int) -> bytes:
    """A length as DER has it (X.690 section 10.1)."""
    if size < 0x80:
        return bytes((size,))
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((0x80 + len(octets),)) + octets


def joined(elements: list[tuple[int, bytes]]) -> bytes:
    return b"".join(bytes((tag,)) + length(len(data)) + data for tag, data in elements)


ELEMENTS = st.lists(
    st.tuples(
        st.integers(0, 255),
        st.one_of(
            st.binary(max_size=20),
            st.integers(120, 300).map(bytes),
            st.sampled_from([bytes(0xFFFF)]),
        ),
    ),
    max_size=5,
)


@given(ELEMENTS)
def test_what_was_put_together_is_split_again(elements: list[tuple[int, bytes]]) -> None:
    tags, contents = split(joined(elements))
    assert list(zip(tags, contents, strict=True)) == elements
    assert contents_of(joined(elements), tags) == contents


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_or_were_written_in_the_one_way(data: bytes) -> None:
    try:
        tags, contents = split(data)
    except DerError:
        return
    assert joined(list(zip(tags, contents, strict=True))) == data


@given(ELEMENTS.filter(bool), st.integers(1, 400))
def test_what_breaks_off_is_refused(elements: list[tuple[int, bytes]], cut: int) -> None:
    whole, last = joined(elements), joined(elements[-1:])
    with pytest.raises(DerError):
        split(whole[: len(whole) - 1 - cut % (len(last) - 1)])


@pytest.mark.parametrize(
    "wrong",
    [
        "0481 05 0102030405",  # the long form of a short length
        "0482 0080" + "00" * 0x80,  # two bytes where one will do
        "0480 00 0000",  # an indefinite length, which is BER
        "0483 010000" + "00" * 0x10000,  # more than there is ever
        "0481",
        "04",
        "04ff",
    ],
)
def test_a_length_is_written_in_the_shortest_way(wrong: str) -> None:
    with pytest.raises(DerError):
        split(bytes.fromhex(wrong))


def test_other_elements_than_those_expected_are_refused() -> None:
    whole = joined([(0x30, b""), (0x02, b"\x01")])
    assert contents_of(whole, b"\x30\x02") == [b"", b"\x01"]
    for tags in (b"", b"\x30", b"\x02\x30", b"\x30\x02\x02", b"\x30\x04"):
        with pytest.raises(DerError):
            contents_of(whole, tags)
