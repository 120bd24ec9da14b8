"""Probes and replies on the wire: bytes, one exception, one spelling; the window; the keys."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import probe_spec as spec
from tests.support.vectors import load, raw
from wgpy.keys import PrivateKey, PublicKey
from wgpy.nat.probe import (
    Probe,
    Reply,
    Window,
    pack_probe,
    pack_reply,
    parse_probe,
    parse_reply,
    path_id,
)
from wgpy.nat.sealed import path_keys
from wgpy.protocol.handshake import HandshakeError, Local, Remote
from wgpy.protocol.messages import ParseError

VECTORS = load("probe")
ALICE = Local(PrivateKey(spec.ALICE))
BOB = Local(PrivateKey(spec.BOB))
ALICES = path_keys(Remote(ALICE, BOB.public, None))
BOBS = path_keys(Remote(BOB, ALICE.public, None))
ID, NONCE, TRANSACTION = b"pathpath", b"n" * 24, b"transact"


def test_the_published_vectors_are_what_the_specification_makes():
    assert json.loads(spec.text()) == VECTORS


def test_the_keys_are_those_of_the_specification():
    def sent(box):
        return box.seal(NONCE, b"content", b"head")

    for name, box in (
        ("probe_from_alice", ALICES.probe),
        ("probe_from_bob", BOBS.probe),
        ("signal_from_alice", ALICES.signal),
        ("signal_from_bob", BOBS.signal),
    ):
        assert sent(box) == spec.seal(raw(VECTORS["keys"][name]), NONCE, b"content", b"head")
    assert Remote(ALICE, BOB.public, None).static_static().hex() == VECTORS["secret"]


@pytest.mark.parametrize("row", VECTORS["probes"], ids=lambda row: row["name"])
def test_published_probes_and_replies(row):
    data, nonce, called = raw(row["datagram"]), raw(row["nonce"]), raw(row["path_id"])
    assert path_id(data) == called
    if row["type"] == spec.PROBE:
        probe = Probe(raw(row["transaction"]), row["counter"], row["length"])
        assert parse_probe(data, BOBS.probe) == probe
        assert pack_probe(probe, ALICES.probe, called, nonce) == data
    else:
        reply = Reply(
            raw(row["transaction"]), row["counter"], row["host"], row["port"], row["arrived"]
        )
        assert parse_reply(data, ALICES.probe) == reply
        assert pack_reply(reply, BOBS.probe, called, nonce) == data
        assert len(data) == 96


BAD = [row for row in VECTORS["bad_contents"] if row["of"] != "signal"]


@pytest.mark.parametrize("row", BAD, ids=lambda row: f"{row['of']}: {row['name']}")
def test_contents_that_are_dropped(row):
    kind = spec.PROBE if row["of"] == "probe" else spec.REPLY
    key = spec.key_between(spec.ALICE, bytes(BOB.public), spec.LABEL_PROBE, sending=True)
    data = spec.datagram(kind, ID, NONCE, key, raw(row["content"]))
    with pytest.raises(ParseError) as caught:
        (parse_probe if row["of"] == "probe" else parse_reply)(data, BOBS.probe)
    assert caught.value.reason == ("version" if "version" in row["name"] else "malformed")


@given(
    st.binary(min_size=8, max_size=8),
    st.integers(0, 2**64 - 1),
    st.integers(96, 8972),
    st.binary(min_size=8, max_size=8),
    st.binary(min_size=24, max_size=24),
)
def test_probes_come_back(transaction, counter, length, called, nonce):
    probe = Probe(transaction, counter, length)
    data = pack_probe(probe, ALICES.probe, called, nonce)
    assert len(data) == length
    assert path_id(data) == called
    assert parse_probe(data, BOBS.probe) == probe


@given(
    st.binary(min_size=8, max_size=8),
    st.integers(0, 2**64 - 1),
    st.ip_addresses(v=4) | st.ip_addresses(v=6),
    st.integers(0, 65535),
    st.integers(96, 8972),
)
def test_replies_come_back(transaction, counter, address, port, arrived):
    if address.version == 6 and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    reply = Reply(transaction, counter, str(address), port, arrived)
    read = parse_reply(pack_reply(reply, ALICES.probe, ID, NONCE), BOBS.probe)
    assert spec.address(read.host) == spec.address(reply.host)
    assert (read.transaction, read.counter, read.port, read.arrived) == (
        transaction,
        counter,
        port,
        arrived,
    )


PROBE = pack_probe(Probe(TRANSACTION, 1, 200), ALICES.probe, ID, NONCE)
REPLY = pack_reply(Reply(TRANSACTION, 1, "192.0.2.1", 9, 96), ALICES.probe, ID, NONCE)


@pytest.mark.parametrize(("data", "parse"), [(PROBE, parse_probe), (REPLY, parse_reply)])
def test_every_byte_is_authenticated(data, parse):
    for position in range(len(data)):
        wrong = bytearray(data)
        wrong[position] ^= 1
        with pytest.raises(ParseError):
            parse(bytes(wrong), BOBS.probe)


def test_nobody_can_be_shown_what_it_sent_itself():
    for data, parse in ((PROBE, parse_probe), (REPLY, parse_reply)):
        with pytest.raises(ParseError) as caught:
            parse(data, ALICES.probe)
        assert caught.value.reason == "unauthenticated"


def test_a_probe_is_no_reply_and_no_signal():
    short = pack_probe(Probe(TRANSACTION, 1), ALICES.probe, ID, NONCE)
    as_reply = b"\x13" + short[1:]
    with pytest.raises(ParseError) as caught:
        parse_reply(as_reply, BOBS.probe)
    assert caught.value.reason == "unauthenticated"
    with pytest.raises(ParseError):
        BOBS.signal.open(short[12:36], short[36:], short[:12])


@pytest.mark.parametrize("length", [0, 4, 95, 8973])
def test_lengths_of_a_probe(length):
    with pytest.raises(ParseError, match="96 to 8972"):
        parse_probe((PROBE + bytes(9000))[:length], BOBS.probe)
    with pytest.raises(ValueError, match="96 to 8972"):
        pack_probe(Probe(TRANSACTION, 1, length), ALICES.probe, ID, NONCE)


@pytest.mark.parametrize("length", [0, 95, 97])
def test_a_reply_has_one_length(length):
    with pytest.raises(ParseError, match="96"):
        parse_reply((REPLY + b"\0")[:length], BOBS.probe)


@given(
    st.binary(max_size=400)
    | st.binary(min_size=96, max_size=96).map(lambda x: b"\x13\0\0\0" + x[4:])
)
def test_parsers_raise_one_exception(data):
    for parse in (parse_probe, parse_reply):
        with contextlib.suppress(ParseError):
            parse(data, BOBS.probe)
    with contextlib.suppress(ParseError):
        path_id(data)


@given(st.binary(min_size=44, max_size=200))
def test_what_an_honest_key_seals_is_refused_or_has_one_spelling(content):
    key = raw(VECTORS["keys"]["probe_from_alice"])
    data = spec.datagram(spec.PROBE, ID, NONCE, key, content)
    with contextlib.suppress(ParseError):
        assert pack_probe(parse_probe(data, BOBS.probe), ALICES.probe, ID, NONCE) == data
    data = spec.datagram(spec.REPLY, ID, NONCE, key, content[:44])
    with contextlib.suppress(ParseError):
        assert pack_reply(parse_reply(data, BOBS.probe), ALICES.probe, ID, NONCE) == data


def test_keys_print_nothing_and_weak_ones_are_refused():
    assert "hidden" in repr(ALICES.probe)
    with pytest.raises(HandshakeError):
        path_keys(Remote(ALICE, PublicKey(bytes(32)), None))


# --- The window ---


class Model:
    """Remembers every counter."""

    def __init__(self):
        self.seen = set()

    def accept(self, counter):
        greatest = max(self.seen, default=-1)
        if counter in self.seen or greatest - counter >= 64:
            return False
        self.seen.add(counter)
        return True


steps = st.one_of(
    st.integers(-3, 3),
    st.integers(-70, 70),
    st.sampled_from([62, 63, 64, 65, -62, -63, -64, -65]),
    st.integers(-(2**62), 2**62),
)


@given(st.lists(steps, max_size=80))
def test_the_window_agrees_with_a_set(moves):
    window, model, counter = Window(), Model(), 0
    for move in moves:
        counter = min(max(counter + move, 0), 2**64 - 1)
        assert window.accept(counter) is model.accept(counter)
