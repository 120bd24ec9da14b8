"""STUN messages: the vectors of RFC 5769, and what a stranger may write in their place."""

import binascii
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.nat.stun import (
    COOKIE,
    Class,
    Message,
    Method,
    ParseError,
    is_binding,
    is_stun,
    mapped_address,
    pack,
    parse,
)

TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")
# RFC 5769, 2.1 to 2.3, and their password.
PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"
REQUEST = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae"
    "802200105354554e207465737420636c69656e74"
    "002400046e0001ff"
    "80290008932ff9b151263b36"
    "00060009 6576746a3a68367659 202020"
    "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2"
    "80280004e57a3bcf"
)
RESPONSE_V4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae"
    "8022000b7465737420766563746f7220"
    "002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7"
    "80280004c07d4c96"
)
RESPONSE_V6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae"
    "8022000b7465737420766563746f7220"
    "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
    "00080014a382954e4be67bf11784c97c8292c275bfe3ed41"
    "80280004c8fb0b4c"
)
VECTORS = (REQUEST, RESPONSE_V4, RESPONSE_V6)


def attribute(kind: int, value: bytes, padding: bytes | None = None) -> bytes:
    """One attribute on the wire, with zeros behind it or with `padding`."""
    filled = bytes(-len(value) % 4) if padding is None else padding
    return struct.pack("!HH", kind, len(value)) + value + filled


def message(*attributes: bytes, kind: int = 0x0101, cookie: bytes = COOKIE) -> bytes:
    """A message of raw attributes, without FINGERPRINT."""
    body = b"".join(attributes)
    return struct.pack("!HH", kind, len(body)) + cookie + TRANSACTION + body


ADDRESS = attribute(0x0001, bytes.fromhex("0001 1f90 c0000201"))
OTHER = attribute(0x0001, bytes.fromhex("0001 1f91 c0000202"))


# --- What others wrote ---


def test_the_request_of_rfc_5769() -> None:
    found = parse(REQUEST)
    assert (found.method, found.kind) == (Method.BINDING, Class.REQUEST)
    assert found.transaction == TRANSACTION
    assert found.attributes["USERNAME"] == "evtj:h6vY"
    assert found.attributes["SOFTWARE"] == "STUN test client"
    assert found.has_fingerprint
    assert found.is_authentic(PASSWORD)
    assert not found.is_authentic(PASSWORD + b"x")


@pytest.mark.parametrize(
    ("data", "host"),
    [(RESPONSE_V4, "192.0.2.1"), (RESPONSE_V6, "2001:db8:1234:5678:11:2233:4455:6677")],
)
def test_the_responses_of_rfc_5769(data: bytes, host: str) -> None:
    found = parse(data)
    assert found.kind is Class.RESPONSE
    assert mapped_address(found) == (host, 32853)
    assert found.is_authentic(PASSWORD)


@pytest.mark.parametrize("data", VECTORS)
def test_vectors_are_stun(data: bytes) -> None:
    assert is_stun(data)
    assert not is_stun(data + bytes(4))
    assert not is_stun(data[:19])
    assert not is_stun(b"\x41" + data[1:])
    assert not is_stun(data[:4] + bytes(4) + data[8:])


# --- What we write ---


def test_a_message_comes_back_as_it_went() -> None:
    attributes = {
        "XOR-MAPPED-ADDRESS": ("192.0.2.1", 32853),
        "OTHER-ADDRESS": ("2001:db8::1", 3479),
        "CHANGE-REQUEST": 6,
        "ERROR-CODE": (420, "no"),
        "UNKNOWN-ATTRIBUTES": (0x0027, 0x0026, 1),
    }
    made = Message(Method.BINDING, Class.ERROR, TRANSACTION, attributes)
    data = pack(made)
    found = parse(data)
    assert is_stun(data)
    assert found.has_fingerprint
    assert {**found.attributes, "FINGERPRINT": 0} == {**attributes, "FINGERPRINT": 0}
    assert (found.method, found.kind, found.transaction) == (
        made.method,
        made.kind,
        made.transaction,
    )


def test_it_writes_the_vectors_but_for_their_padding() -> None:
    """Zeros stand where the vector has a blank, so the key's check must be made anew."""
    found = parse(RESPONSE_V4)
    attributes = {name: found.attributes[name] for name in ("SOFTWARE", "XOR-MAPPED-ADDRESS")}
    data = pack(Message(found.method, found.kind, TRANSACTION, attributes), PASSWORD)
    assert data[:35] + b" " + data[36:48] == RESPONSE_V4[:48]
    assert parse(data).is_authentic(PASSWORD)
    assert len(data) == len(RESPONSE_V4)


def test_checks_are_not_written_by_hand() -> None:
    for name in ("FINGERPRINT", "MESSAGE-INTEGRITY"):
        with pytest.raises(ValueError, match=name):
            pack(Message(Method.BINDING, Class.REQUEST, TRANSACTION, {name: 1}))


def test_classic_messages_have_a_longer_id_and_no_fingerprint() -> None:
    transaction = bytes(range(16))
    made = Message(Method.BINDING, Class.REQUEST, transaction, {"CHANGE-REQUEST": 2})
    data = pack(made)
    assert data == bytes.fromhex("00010008") + transaction + bytes.fromhex("0003000400000002")
    assert parse(data, classic=True) == made
    with pytest.raises(ParseError) as caught:
        parse(data)
    assert caught.value.reason == "no_cookie"


# --- What is refused ---


@pytest.mark.parametrize(
    "data",
    [
        b"",
        REQUEST[:19],
        REQUEST[:-1],
        REQUEST + bytes(4),
        bytes([0x40]) + REQUEST[1:],
        # Three bytes that belong to no attribute.
        struct.pack("!HH", 0x0101, 3) + COOKIE + TRANSACTION + bytes(3),
        # An attribute longer than what is left, and one whose padding is missing.
        message(struct.pack("!HH", 0x8022, 8) + b"four"),
        struct.pack("!HH", 0x0101, 7) + COOKIE + TRANSACTION + attribute(0x8022, b"abc", b""),
        # Addresses: too short, of no family, of the wrong length for theirs.
        message(attribute(0x0020, b"\0\1")),
        message(attribute(0x0020, bytes.fromhex("0003 1f90 c0000201"))),
        message(attribute(0x0020, bytes.fromhex("0002 1f90 c0000201"))),
        message(attribute(0x0001, bytes(20))),
        # Errors: too short, of class 0 and 7, over 99, and with a reason that is no text.
        message(attribute(0x0009, b"\0\0\4"), kind=0x0111),
        message(attribute(0x0009, b"\0\0\0\0"), kind=0x0111),
        message(attribute(0x0009, b"\0\0\7\0"), kind=0x0111),
        message(attribute(0x0009, b"\0\0\4\x64"), kind=0x0111),
        message(attribute(0x0009, b"\0\0\4\0\xff"), kind=0x0111),
        # A number of three bytes, an odd list, a text that is none.
        message(attribute(0x0003, b"\0\0\6")),
        message(attribute(0x000A, b"\0\0\6")),
        message(attribute(0x8022, b"\xff\xfe")),
        # FINGERPRINT is the last.
        pack(Message(Method.BINDING, Class.RESPONSE, TRANSACTION))[:2]
        + b"\0\x14"
        + pack(Message(Method.BINDING, Class.RESPONSE, TRANSACTION))[4:]
        + ADDRESS,
    ],
)
def test_broken_messages_are_refused(data: bytes) -> None:
    with pytest.raises(ParseError) as caught:
        parse(data)
    assert caught.value.reason in ("malformed", "wrong_fingerprint")


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ParseError) as caught:
        parse(message(kind=0x0005))
    assert caught.value.reason == "unknown_method"


def test_a_wrong_fingerprint_is_refused() -> None:
    with pytest.raises(ParseError) as caught:
        parse(REQUEST[:-1] + bytes([REQUEST[-1] ^ 1]))
    assert caught.value.reason == "wrong_fingerprint"


def test_something_behind_a_right_fingerprint_is_refused() -> None:
    """The check holds for the length that the header has then."""
    head = struct.pack("!HH", 0x0101, 8 + len(ADDRESS)) + COOKIE + TRANSACTION
    # FINGERPRINT counts the length as if it were the end (RFC 8489, 14.7).
    counted = struct.pack("!HH", 0x0101, 8) + COOKIE + TRANSACTION
    check = binascii.crc32(counted) ^ 0x5354554E
    with pytest.raises(ParseError, match="follows"):
        parse(head + attribute(0x8028, check.to_bytes(4, "big")) + ADDRESS)


# --- What is passed over, and told ---


def test_of_two_equal_attributes_the_first_counts() -> None:
    assert mapped_address(parse(message(ADDRESS, OTHER))) == ("192.0.2.1", 8080)


def test_unknown_types_are_told_if_they_must_be_understood() -> None:
    data = message(attribute(0x0027, b"\0\x50\0\0"), attribute(0xC123, b"x"), ADDRESS)
    found = parse(data)
    assert found.unknown == (0x0027,)
    assert mapped_address(found) == ("192.0.2.1", 8080)


def test_what_follows_the_integrity_is_not_believed() -> None:
    signed = message(attribute(0x0008, bytes(20)), ADDRESS, attribute(0x0027, bytes(4)))
    found = parse(signed)
    assert mapped_address(found) is None
    assert found.unknown == ()


def test_reserved_bits_of_an_error_mean_nothing() -> None:
    found = parse(message(attribute(0x0009, b"\xff\xff\xfc\x14why"), kind=0x0111))
    assert found.attributes["ERROR-CODE"] == (420, "why")


# --- Where we are ---


def test_the_mixed_address_comes_before_the_plain_one() -> None:
    mixed = pack(
        Message(
            Method.BINDING, Class.RESPONSE, TRANSACTION, {"XOR-MAPPED-ADDRESS": ("192.0.2.9", 9)}
        )
    )[20:32]
    assert mapped_address(parse(message(ADDRESS, mixed))) == ("192.0.2.9", 9)
    assert mapped_address(parse(message(ADDRESS))) == ("192.0.2.1", 8080)
    assert mapped_address(parse(message())) is None


def test_ipv4_inside_ipv6_is_ipv4() -> None:
    found = Message(
        Method.BINDING, Class.RESPONSE, TRANSACTION, {"MAPPED-ADDRESS": ("::ffff:c000:201", 7)}
    )
    assert mapped_address(parse(pack(found))) == ("192.0.2.1", 7)


# --- Anything at all ---


def check(data: bytes) -> None:
    """Nothing but ParseError comes out, and what is read can be asked of."""
    for classic in (False, True):
        try:
            found = parse(data, classic=classic)
        except ParseError:
            continue
        mapped_address(found)
        found.is_authentic(b"key")


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    check(data)


KINDS = st.sampled_from([1, 3, 5, 6, 8, 9, 10, 12, 13, 18, 20, 22, 32, 37, 38, 39, 0x8022, 0x802C])


@given(st.lists(st.tuples(KINDS | st.integers(0, 0xFFFF), st.binary(max_size=24)), max_size=6))
def test_any_attributes(pairs: list[tuple[int, bytes]]) -> None:
    check(message(*(attribute(kind, value) for kind, value in pairs)))


@given(st.sampled_from(VECTORS), st.lists(st.tuples(st.integers(0, 107), st.integers(1, 255))))
def test_a_changed_vector_is_refused(data: bytes, changes: list[tuple[int, int]]) -> None:
    changed = bytearray(data)
    for place, value in changes:
        changed[place % len(changed)] ^= value
    if bytes(changed) == data:
        return
    check(bytes(changed))
    try:
        found = parse(bytes(changed))
    except ParseError:
        return
    # The type of FINGERPRINT itself was changed, or its check fits by chance, one time in 2^32.
    assert not found.has_fingerprint


@pytest.mark.parametrize("kind", list(Class))
def test_bindings_are_told_from_the_messages_of_turn(kind):
    for method in Method:
        data = pack(Message(method, kind, TRANSACTION, {}))
        assert is_binding(data) is (method is Method.BINDING)


@pytest.mark.parametrize("length", range(20))
def test_what_is_too_short_is_no_binding(length):
    assert not is_binding(pack(Message(Method.BINDING, Class.REQUEST, TRANSACTION, {}))[:length])
