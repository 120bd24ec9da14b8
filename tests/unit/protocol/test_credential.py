"""The messages 0x10 and 0x11 and their payloads: exact bytes, one exception, one spelling."""

import contextlib
import dataclasses

import pytest
from cryptography.hazmat import asn1
from hypothesis import given
from hypothesis import strategies as st

from tests.support import credential_spec as spec
from tests.support.requirements import ROOT
from tests.support.vectors import load, raw
from wgpy.protocol.credential import (
    CredentialInitiation,
    CredentialResponse,
    pack_credential_initiation,
    pack_credential_response,
    parse_credential_initiation,
    parse_credential_response,
)
from wgpy.protocol.credential_payload import (
    InitiationPayload,
    Offer,
    OfferKind,
    ResponsePayload,
    pack_initiation_payload,
    pack_response_payload,
    parse_initiation_payload,
    parse_response_payload,
    prepared,
)
from wgpy.protocol.messages import ParseError

MACS = (b"1" * 16, b"2" * 16)
INITIATION = CredentialInitiation(0x01020304, b"e" * 32, b"s" * 48, b"p" * 1080, *MACS)
RESPONSE = CredentialResponse(0x01020304, 0x0A0B0C0D, b"e" * 32, b"p" * 100, *MACS)
PACKED_INITIATION = (
    b"\x10\0\0\0\4\3\2\1" + b"e" * 32 + b"s" * 48 + b"p" * 1080 + b"1" * 16 + b"2" * 16
)
PACKED_RESPONSE = (
    b"\x11\0\0\0\4\3\2\1\x0d\x0c\x0b\x0a" + b"e" * 32 + b"p" * 100 + b"1" * 16 + b"2" * 16
)
CASES = [
    (parse_credential_initiation, pack_credential_initiation, INITIATION, PACKED_INITIATION),
    (parse_credential_response, pack_credential_response, RESPONSE, PACKED_RESPONSE),
]

STAMP, NETWORK = bytes(range(12)), bytes(range(16))
HEAD = STAMP + b"\1" + NETWORK
LEAF = Offer(OfferKind.CERTIFICATE, b"leaf")

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
NAMES = st.none() | st.lists(LABELS, min_size=1, max_size=4).map(".".join)
CERTIFICATES = st.builds(
    Offer,
    st.just(OfferKind.CERTIFICATE),
    st.binary(min_size=1, max_size=500),
    st.none() | st.binary(min_size=1, max_size=400),
    st.none() | st.binary(min_size=32, max_size=32),
)
TOKENS = st.from_regex(rb"[A-Za-z0-9_-]{1,230}(\.[A-Za-z0-9_-]{1,230}){2}", fullmatch=True).map(
    lambda text: Offer(OfferKind.TOKEN, text)
)
OFFERS = CERTIFICATES | TOKENS


@asn1.sequence
class Rights:
    """The extension, by another library than the one that made the vector."""

    network: bytes
    generation: int
    groups: list[str]
    prefixes: list[bytes]


def padded(fields):
    return (HEAD + fields).ljust(1064, b"\0")


# --- Messages ---


@pytest.mark.parametrize(("parse", "pack", "message", "packed"), CASES)
def test_layout(parse, pack, message, packed):
    assert pack(message) == packed
    assert parse(packed) == message


@pytest.mark.parametrize("length", [0, 3, 4, 1199, 1201])
def test_an_initiation_has_one_length(length):
    with pytest.raises(ParseError, match="1200"):
        parse_credential_initiation((PACKED_INITIATION + b"\0")[:length])


@pytest.mark.parametrize("length", [92, 93, 1199, 1200])
def test_lengths_of_a_response(length):
    data = PACKED_RESPONSE[:44] + bytes(length - 44)
    message = parse_credential_response(data)
    assert len(message.sealed_payload) == length - 76
    assert pack_credential_response(message) == data


@pytest.mark.parametrize("length", [0, 3, 91, 1201])
def test_lengths_that_a_response_has_not(length):
    with pytest.raises(ParseError, match="92 to 1200"):
        parse_credential_response((PACKED_RESPONSE + bytes(2000))[:length])


@pytest.mark.parametrize(("parse", "pack", "message", "packed"), CASES)
@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_type_and_reserved_bytes_are_exact(parse, pack, message, packed, position):
    wrong = bytearray(packed)
    wrong[position] ^= 0x80
    with pytest.raises(ParseError, match="type"):
        parse(bytes(wrong))


# --- Payloads: what is sent ---


@pytest.mark.parametrize("case", spec.CASES, ids=lambda case: case["name"])
def test_the_same_bytes_as_the_specification(case):
    fields = case["initiator_fields"]
    expected = spec.initiation_payload(STAMP, NETWORK, fields)
    name = fields.get(spec.NAME)
    wanted = None if name is None else name.decode()
    payload = InitiationPayload(STAMP, NETWORK, wanted, offer_of(fields))
    assert pack_initiation_payload(payload) == expected
    if payload.offer is not None:
        # Packed once for all messages, it is the same, and equal to what it was.
        again = payload._replace(offer=prepared(payload.offer))
        assert again == payload
        assert pack_initiation_payload(again) == expected
    assert parse_initiation_payload(expected) == payload
    if case["responder_fields"] is not None:
        answer = ResponsePayload(NETWORK, offer_of(case["responder_fields"]))
        expected = spec.response_payload(NETWORK, case["responder_fields"])
        assert pack_response_payload(answer) == expected
        assert parse_response_payload(expected) == answer


def offer_of(fields):
    if spec.TOKEN in fields:
        return Offer(OfferKind.TOKEN, fields[spec.TOKEN])
    return Offer(
        OfferKind.CERTIFICATE,
        fields[spec.CERTIFICATE],
        fields.get(spec.INTERMEDIATE),
        fields.get(spec.ISSUER),
    )


@given(st.binary(min_size=12, max_size=12), st.binary(min_size=16, max_size=16), NAMES, OFFERS)
def test_initiation_payloads_come_back(stamp, network, wanted, offer):
    payload = InitiationPayload(stamp, network, wanted, offer)
    packed = pack_initiation_payload(payload)
    assert len(packed) == 1064
    assert parse_initiation_payload(packed) == payload


@given(st.binary(min_size=16, max_size=16), OFFERS)
def test_response_payloads_come_back(network, offer):
    packed = pack_response_payload(ResponsePayload(network, offer))
    assert len(packed) == 1108
    assert parse_response_payload(packed) == ResponsePayload(network, offer)


def test_no_credential_is_no_payload():
    assert pack_response_payload(None) == b""
    assert parse_response_payload(b"") is None


def test_a_response_need_not_be_padded():
    packed = pack_response_payload(ResponsePayload(NETWORK, LEAF))
    assert parse_response_payload(packed.rstrip(b"\0")) == ResponsePayload(NETWORK, LEAF)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"timestamp": bytes(11)}, "timestamp"),
        ({"network": bytes(15)}, "network"),
        ({"wanted": ""}, "name"),
        ({"wanted": "Laptop.mesh"}, "lower-case"),
        ({"wanted": "läptop"}, "lower-case"),
        ({"wanted": "a" * 64}, "label"),
        ({"wanted": ".".join(["a" * 63] * 4) + ".b"}, "253"),
        ({"offer": Offer(OfferKind.CERTIFICATE, b"")}, "empty"),
        ({"offer": Offer(OfferKind.CERTIFICATE, b"x", b"")}, "empty"),
        ({"offer": Offer(OfferKind.CERTIFICATE, b"x", None, bytes(31))}, "issuer"),
        ({"offer": Offer(OfferKind.CERTIFICATE, bytes(1033))}, "1 bytes too long"),
        ({"offer": Offer(OfferKind.CERTIFICATE, bytes(600), bytes(430))}, "1 bytes too long"),
        ({"offer": Offer(OfferKind.CERTIFICATE, bytes(70_000))}, "70000 bytes is too long"),
        ({"offer": Offer(OfferKind.TOKEN, b"a.b." + b"c" * 697)}, "700"),
        ({"offer": Offer(OfferKind.TOKEN, b"a.b.c", b"x")}, "issuer's certificate"),
        ({"offer": Offer(OfferKind.TOKEN, b"a..c")}, "base64url"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_sent(change, reason):
    payload = InitiationPayload(STAMP, NETWORK)._replace(**change)
    with pytest.raises(ValueError, match=reason):
        pack_initiation_payload(payload)


@pytest.mark.parametrize(
    ("wanted", "offer"),
    [
        (None, Offer(OfferKind.CERTIFICATE, bytes(1032))),
        (
            ".".join(["a" * 63] * 3 + ["b" * 61]),
            Offer(OfferKind.CERTIFICATE, bytes(741), None, bytes(32)),
        ),
        ("a" * 63, Offer(OfferKind.CERTIFICATE, bytes(600), bytes(363))),
    ],
)
def test_the_longest_certificates(wanted, offer):
    """The lengths that docs/protocol.md promises, and not one byte more."""
    payload = InitiationPayload(STAMP, NETWORK, wanted, offer)
    assert parse_initiation_payload(pack_initiation_payload(payload)) == payload
    longer = dataclasses.replace(offer, body=offer.body + b"x")
    with pytest.raises(ValueError, match="1 bytes too long"):
        pack_initiation_payload(payload._replace(offer=longer))


def test_a_credential_does_not_print_itself():
    assert "secret" not in repr(Offer(OfferKind.TOKEN, b"secret.b.c", b"secret"))


# --- Payloads: what is refused ---


@pytest.mark.parametrize("row", load("credential")["payloads"], ids=lambda row: row["name"])
def test_published_payloads(row):
    data = padded(raw(row["fields"]))
    if row["good"]:
        parse_initiation_payload(data)
        return
    with pytest.raises(ParseError) as caught:
        parse_initiation_payload(data)
    assert caught.value.reason == "malformed"


def test_the_published_extension_is_the_der_that_the_document_shows():
    row = load("credential")["extension"]
    shown = ROOT.joinpath("docs", "protocol.md").read_text().split("prefix 10.9.0.0/16:")[1]
    assert "".join(shown.split("**")[0].split()) == row["der"]
    decoded = asn1.decode_der(Rights, raw(row["der"]))
    assert decoded.network.hex() == row["network"]
    assert decoded.generation == row["generation"]
    assert decoded.groups == row["groups"]
    assert [prefix.hex() for prefix in decoded.prefixes] == row["prefixes"]


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_is_refused_by_its_own_reason(version):
    other = STAMP + bytes([version]) + NETWORK
    for parse, data in (
        (parse_initiation_payload, other.ljust(1064, b"\0")),
        (parse_response_payload, other[12:]),
    ):
        with pytest.raises(ParseError) as caught:
            parse(data)
        assert caught.value.reason == "version"


@pytest.mark.parametrize("length", [0, 12, 28, 29, 1063, 1065])
def test_an_initiation_payload_has_one_length(length):
    with pytest.raises(ParseError, match="1064"):
        parse_initiation_payload((padded(b"") + b"\0")[:length])


@pytest.mark.parametrize("length", [1, 16])
def test_a_response_payload_that_is_too_short(length):
    with pytest.raises(ParseError, match="too few"):
        parse_response_payload((b"\1" + NETWORK)[:length])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (b"", "no credential"),
        (bytes(100), "no credential"),
        (spec.tlvs({spec.NAME: b"a", spec.CERTIFICATE: b"x"}), "asks for a name"),
        (spec.tlvs({spec.CERTIFICATE: b"x"}) + b"\x83\1", "breaks off"),
        (spec.tlvs({spec.CERTIFICATE: bytes(1108)}), "at most 1108"),
    ],
)
def test_response_payloads_that_are_refused(fields, reason):
    with pytest.raises(ParseError, match=reason):
        parse_response_payload(b"\1" + NETWORK + fields)


@given(st.binary(max_size=1300))
def test_parsers_raise_one_exception(data):
    for parse in (
        parse_credential_initiation,
        parse_credential_response,
        parse_initiation_payload,
        parse_response_payload,
    ):
        with contextlib.suppress(ParseError):
            parse(data)


@given(NAMES, OFFERS, st.lists(st.tuples(st.integers(12, 1063), st.integers(0, 255)), min_size=1))
def test_a_changed_payload_is_refused_or_has_one_spelling(wanted, offer, changes):
    """Whatever is accepted packs into the very bytes it was read from, unknown fields aside."""
    data = bytearray(pack_initiation_payload(InitiationPayload(STAMP, NETWORK, wanted, offer)))
    for position, value in changes:
        data[position] = value
    try:
        payload = parse_initiation_payload(bytes(data))
    except ParseError:
        return
    if not has_unknown_fields(bytes(data)):
        assert pack_initiation_payload(payload) == bytes(data)


def has_unknown_fields(data):
    position, known = 29, (0x01, 0x81, 0x82, 0x83, 0x84)
    while position < len(data) and data[position]:
        if data[position] not in known:
            return True
        position += 3 + int.from_bytes(data[position + 1 : position + 3], "little")
    return False
