"""Signals on the wire, and as texts to paste."""

import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import probe_spec as spec
from tests.support.vectors import load, raw
from tests.unit.nat.test_probe import ALICE, ALICES, BOB, BOBS, NONCE
from wgpy.nat.blob import TEXT_LENGTH, BlobError, pack_blob, parse_blob
from wgpy.nat.candidates import Candidate, Kind
from wgpy.nat.facts import NUMBERS, NatFacts
from wgpy.nat.signal_message import (
    Method,
    SignalKind,
    SignalMessage,
    pack_signal,
    parse_signal,
    sender_of,
)
from wgpy.protocol.messages import ParseError

VECTORS = load("probe")
IDS = tuple(raw(each) for each in VECTORS["path_ids"])
OFFER = SignalMessage(
    SignalKind.OFFER,
    5,
    b"transact",
    path_ids=IDS,
    candidates=(Candidate(Kind.HOST, "192.168.1.2", 51820),),
)

facts = st.builds(
    NatFacts,
    st.sampled_from(list(NUMBERS)),
    st.sampled_from(list(NUMBERS)),
    st.integers(-(2**15), 2**15 - 1),
    st.integers(1, 3),
    st.booleans(),
)
hosts = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).filter(
    lambda each: each.ipv4_mapped is None
).map(lambda each: each.compressed)
told = st.lists(
    st.tuples(st.sampled_from(Kind), hosts, st.integers(0, 65535)).map(lambda x: Candidate(*x)),
    max_size=10,
).map(tuple)
eight = st.binary(min_size=8, max_size=8).filter(any)
messages = st.builds(
    SignalMessage,
    st.just(SignalKind.ANSWER),
    st.integers(0, 2**64 - 1),
    eight,
    eight,
    st.integers(1, 600),
    st.integers(0, 10_000),
    st.sampled_from(Method),
    facts,
    st.lists(eight, min_size=4, max_size=4, unique=True).map(tuple),
    told,
)


@given(messages)
def test_signals_come_back(message):
    data = pack_signal(message, ALICES.signal, ALICE.public, NONCE)
    assert len(data) == 353
    assert sender_of(data) == ALICE.public
    read = parse_signal(data, BOBS.signal)
    # An address has more spellings than one.
    assert [spec.address(x.host) for x in read.candidates] == [
        spec.address(x.host) for x in message.candidates
    ]
    assert dataclasses.replace(read, candidates=()) == dataclasses.replace(message, candidates=())
    assert pack_signal(read, ALICES.signal, ALICE.public, NONCE) == data


@pytest.mark.parametrize("row", VECTORS["signals"], ids=lambda row: row["name"])
def test_published_signals(row):
    data = raw(row["message"])
    theirs, ours, sender = (
        (BOBS, ALICES, ALICE) if row["sender"] == "alice" else (ALICES, BOBS, BOB)
    )
    message = parse_signal(data, theirs.signal)
    assert message.kind.name.lower() in row["name"]
    if row["facts"] is not None:
        told = dataclasses.asdict(message.facts)
        numbers = {name: NUMBERS[told[name]] for name in ("mapping", "filtering")}
        assert told | numbers == row["facts"]
        assert message.path_ids == IDS
        expected = [tuple(each) for each in VECTORS["candidates"]]
        assert list(message.candidates) == expected[: len(message.candidates)]
        assert len(message.candidates) == (6 if row["name"] == "an offer" else 1)
    assert pack_signal(message, ours.signal, sender.public, raw(row["nonce"])) == data
    assert pack_blob(data) == row["blob"]
    assert parse_blob(row["blob"]) == data


BAD = [row for row in VECTORS["bad_contents"] if row["of"] == "signal"]


def sealed(content):
    head = b"\1" + bytes(ALICE.public)
    return head + NONCE + spec.seal(raw(VECTORS["keys"]["signal_from_alice"]), NONCE, content, head)


@pytest.mark.parametrize("row", BAD, ids=lambda row: row["name"])
def test_contents_that_are_dropped(row):
    with pytest.raises(ParseError) as caught:
        parse_signal(sealed(raw(row["content"])), BOBS.signal)
    assert caught.value.reason == "malformed"


def test_ten_thousand_candidates_are_no_signal():
    content = spec.signal_content(
        spec.OFFER, 1, b"t" * 8, bytes(8), 60, 0, 0, (0, 0, 0, 1, 0), list(IDS), []
    )
    one = bytes([spec.HOST]) + spec.address("192.0.2.1") + b"\1\0"
    with pytest.raises(ParseError, match="353"):
        parse_signal(sealed(content[:69] + 10_000 * one), BOBS.signal)
    with pytest.raises(ValueError, match="11 candidates"):
        pack_signal(
            dataclasses.replace(OFFER, candidates=OFFER.candidates * 11),
            ALICES.signal,
            ALICE.public,
            NONCE,
        )


@given(st.binary(min_size=280, max_size=280) | st.binary(max_size=400))
def test_what_an_honest_key_seals_is_refused_or_has_one_spelling(content):
    with contextlib.suppress(ParseError):
        message = parse_signal(sealed(content), BOBS.signal)
        assert pack_signal(message, ALICES.signal, ALICE.public, NONCE) == sealed(content)


@given(st.integers(0, 279), st.integers(1, 255))
def test_a_changed_content_is_refused_or_has_one_spelling(position, change):
    content = bytearray(raw(VECTORS["signals"][0]["content"]))
    content[position] ^= change
    with contextlib.suppress(ParseError):
        message = parse_signal(sealed(bytes(content)), BOBS.signal)
        again = pack_signal(message, ALICES.signal, ALICE.public, NONCE)
        assert again == sealed(bytes(content))


def test_every_byte_is_authenticated():
    data = pack_signal(OFFER, ALICES.signal, ALICE.public, NONCE)
    for position in range(len(data)):
        wrong = bytearray(data)
        wrong[position] ^= 1
        with pytest.raises(ParseError):
            parse_signal(bytes(wrong), BOBS.signal)
    with pytest.raises(ParseError):
        parse_signal(data, ALICES.signal)


@given(st.binary(max_size=400))
def test_parsers_raise_one_exception(data):
    with contextlib.suppress(ParseError):
        sender_of(data)
    with contextlib.suppress(ParseError):
        parse_signal(data, BOBS.signal)


def test_another_version_has_its_own_reason():
    data = pack_signal(OFFER, ALICES.signal, ALICE.public, NONCE)
    with pytest.raises(ParseError) as caught:
        parse_signal(b"\2" + data[1:], BOBS.signal)
    assert caught.value.reason == "version"


# --- Texts to paste ---


SIGNAL = pack_signal(OFFER, ALICES.signal, ALICE.public, NONCE)


def test_white_space_is_passed_over():
    text = pack_blob(SIGNAL)
    assert len(text) == TEXT_LENGTH == 482
    broken = "\n  ".join(text[at : at + 60] for at in range(0, len(text), 60))
    assert parse_blob(f"\r\n{broken} \n") == SIGNAL


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text[1:], "begin with"),
        (lambda text: text[:-2], "2 are missing"),
        (lambda text: text + "AAA", "3 are too many"),
        (lambda text: text[:100] + "?" + text[101:], "does not belong"),
        (lambda text: text[:100] + "é" + text[101:], "does not belong"),
        (lambda text: text[:100] + chr(ord(text[100]) ^ 1) + text[101:], "changed|does not belong"),
        (lambda text: text * 20, "9640 characters long"),
        (lambda text: "", "begin with"),
    ],
)
def test_what_is_wrong_with_a_text_is_said(change, reason):
    with pytest.raises(BlobError, match=reason):
        parse_blob(change(pack_blob(SIGNAL)))


@given(st.text(max_size=600) | st.text(min_size=476, max_size=476).map(lambda x: "wgpy1:" + x))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(BlobError):
        parse_blob(text)


def test_only_a_signal_becomes_a_text():
    with pytest.raises(ValueError, match="353"):
        pack_blob(b"short")
