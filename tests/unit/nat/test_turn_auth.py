"""Signatures by long-term credentials, against the messages that the RFCs print."""

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.nat.stun import Class, Message, Method, ParseError, pack, parse
from wgpy.nat.turn_auth import (
    HAS_ALGORITHMS,
    HAS_ANONYMITY,
    Challenge,
    Key,
    make_key,
    nonce_flags,
    read_challenge,
    sign,
)
from wgpy.nat.turn_credentials import Credentials

# "Matrix" in Katakana; the password is what RFC 8265 makes of the one that is printed.
MATRIX = Credentials("マトリックス", "TheMatrIX")
TRANSACTION = bytes.fromhex("78ad3433c6ad72c029da412e")
NONCE = b"f//499k954d6OL34oL9FSTvy64sA"
ALGORITHMS = b"\0\2\0\0\0\1\0\0"

# RFC 5769, section 2.4: a request with MESSAGE-INTEGRITY.
SHA1_REQUEST = bytes.fromhex(
    "000100602112a44278ad3433c6ad72c029da412e"
    "00060012e3839ee38388e383aae38383e382afe382b90000"
    "0015001c662f2f3439396b39353464364f4c33346f4c39465354767936347341"
    "0014000b6578616d706c652e6f726700"
    "00080014f67024656dd64a3e02b8e0712e85c9a28ca89666"
)
# RFC 8489, appendix B.1: with USERHASH and MESSAGE-INTEGRITY-SHA256. The length that it prints, and
# signs, is by 20 too long, so it can be read by parts only.
SHA256_REQUEST = bytes.fromhex(
    "0001009c2112a44278ad3433c6ad72c029da412e"
    "001e00204a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704"
    "001500296f624d61744a6f7332414141"
    "43662f2f3439396b39353464364f4c33346f4c39465354767936347341000000"
    "0014000b6578616d706c652e6f726700"
    "001c0020e4686c8f0edeb59013e07090010a93efccbccc544c0a45d9f830aa6d6f735a01"
)


def without_fingerprint(data: bytes) -> bytes:
    """A message of ours as the RFCs print theirs."""
    body = data[:-8]
    return body[:2] + (len(body) - 20).to_bytes(2, "big") + body[4:]


def test_the_request_of_rfc_5769_is_ours() -> None:
    key = make_key(MATRIX, Challenge("example.org", NONCE))
    assert parse(SHA1_REQUEST).is_authentic(key.key)
    assert not parse(SHA1_REQUEST).is_authentic(key.key, sha256=True)
    attributes = {"USERNAME": MATRIX.username, "NONCE": NONCE, "REALM": "example.org"}
    ours = pack(Message(Method.BINDING, Class.REQUEST, TRANSACTION, attributes), key.key)
    assert without_fingerprint(ours) == SHA1_REQUEST


def test_the_request_of_rfc_8489_is_ours() -> None:
    key = make_key(MATRIX, Challenge("example.org", NONCE, ALGORITHMS, 2))
    assert key.sha256
    assert hmac.digest(key.key, SHA256_REQUEST[:-36], "sha256") == SHA256_REQUEST[-32:]
    named = {
        "USERHASH": SHA256_REQUEST[24:56],
        "NONCE": SHA256_REQUEST[60:101],
        "REALM": "example.org",
    }
    message = Message(Method.BINDING, Class.REQUEST, TRANSACTION, named)
    ours = without_fingerprint(pack(message, key.key, sha256=True))
    assert ours[4:-32] == SHA256_REQUEST[4:-32]
    assert ours[-32:] == hmac.digest(key.key, ours[:-36], "sha256")
    assert key.signed(parse(ours))
    assert not Key(key.key, sha256=False).signed(parse(ours))


def test_the_hash_of_the_name_is_that_of_rfc_8489() -> None:
    challenge = Challenge("example.org", b"n", ALGORITHMS, 2, anonymous=True)
    data, key = sign(Method.REFRESH, TRANSACTION, {"LIFETIME": 0}, MATRIX, challenge)
    message = parse(data)
    assert message.attributes["USERHASH"] == SHA256_REQUEST[24:56]
    assert "USERNAME" not in message.attributes
    assert message.attributes["PASSWORD-ALGORITHMS"] == ALGORITHMS
    assert message.attributes["PASSWORD-ALGORITHM"] == b"\0\2\0\0"
    assert key.signed(message)


def test_a_signature_of_no_length_is_none() -> None:
    for kind, sha256 in ((b"\x00\x08", False), (b"\x00\x1c", True)):
        data = pack(Message(Method.REFRESH, Class.RESPONSE, TRANSACTION))[:-8] + kind + b"\0\0"
        message = parse(data[:2] + (len(data) - 20).to_bytes(2, "big") + data[4:])
        assert not message.is_authentic(b"k" * 16, sha256=sha256)


def test_every_bit_counts() -> None:
    new = Challenge("example.org", NONCE, ALGORITHMS, 2)
    signed, _ = sign(Method.REFRESH, TRANSACTION, {"LIFETIME": 600}, MATRIX, new)
    for request, challenge in (
        (SHA1_REQUEST, Challenge("example.org", NONCE)),
        (without_fingerprint(signed), new),
    ):
        key = make_key(MATRIX, challenge)
        assert key.signed(parse(request))
        for place in range(8, len(request)):
            changed = bytearray(request)
            changed[place] ^= 1
            try:
                message = parse(bytes(changed))
            except ParseError:
                continue
            assert not key.signed(message), place


def test_what_follows_a_signature_does_not_count() -> None:
    key = b"k" * 16
    signed = pack(Message(Method.REFRESH, Class.RESPONSE, TRANSACTION, {"LIFETIME": 5}), key)
    for sha256 in (False, True):
        signed = pack(Message(Method.REFRESH, Class.RESPONSE, TRANSACTION), key, sha256=sha256)
        # LIFETIME 9 behind it.
        longer = signed[:-8] + bytes.fromhex("000d000400000009")
        longer = longer[:2] + (len(longer) - 20).to_bytes(2, "big") + longer[4:]
        message = parse(longer)
        assert message.is_authentic(key, sha256=sha256)
        assert "LIFETIME" not in message.attributes


def test_a_signature_by_sha256_may_follow_the_other_and_must_be_whole() -> None:
    key = b"k" * 16
    first = without_fingerprint(pack(Message(Method.REFRESH, Class.RESPONSE, TRANSACTION), key))
    both = bytearray(first + bytes.fromhex("001c0020") + bytes(32))
    both[2:4] = (len(both) - 20).to_bytes(2, "big")

    both[-32:] = hmac.digest(key, bytes(both[:-36]), "sha256")
    message = parse(bytes(both))
    assert message.is_authentic(key)
    assert message.is_authentic(key, sha256=True)
    # Cut to 16 bytes, which RFC 8489 allows where a usage says so: TURN does not.
    short = both[:-16]
    short[2:4] = (len(short) - 20).to_bytes(2, "big")
    short[-18:-16] = b"\0\x10"
    assert not parse(bytes(short)).is_authentic(key, sha256=True)


# --- Challenges ---


def challenge(**attributes: object) -> Message:
    named = {name.replace("_", "-"): value for name, value in attributes.items()}
    named["ERROR-CODE"] = (401, "")
    return parse(pack(Message(Method.ALLOCATE, Class.ERROR, TRANSACTION, named)))


def test_a_challenge_of_the_old_kind() -> None:
    found = read_challenge(challenge(REALM="here", NONCE=b"n"))
    assert found == Challenge("here", b"n")
    assert not make_key(MATRIX, found).sha256


def test_a_challenge_with_algorithms() -> None:
    nonce = b"obMatJos2wAAAxyz"
    assert nonce_flags(nonce) == HAS_ALGORITHMS | HAS_ANONYMITY
    found = read_challenge(
        challenge(REALM="here", NONCE=nonce, PASSWORD_ALGORITHMS=b"\0\7\0\3abc\0" + ALGORITHMS)
    )
    assert found.algorithm == 2
    assert found.anonymous
    assert found.algorithms == b"\0\7\0\3abc\0" + ALGORITHMS
    only_md5 = read_challenge(challenge(REALM="here", NONCE=b"n", PASSWORD_ALGORITHMS=b"\0\1\0\0"))
    assert only_md5.algorithm == 1
    # The key is hashed the old way, the messages are signed the new.
    assert make_key(MATRIX, only_md5).sha256


def test_what_is_taken_out_of_a_challenge_is_missed() -> None:
    with pytest.raises(ParseError) as error:
        read_challenge(challenge(REALM="here", NONCE=b"obMatJos2gAAAxyz"))
    assert error.value.reason == "bid_down"


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({}, "no_challenge"),
        ({"REALM": "here"}, "no_challenge"),
        ({"NONCE": b"n"}, "no_challenge"),
        ({"REALM": "", "NONCE": b"n"}, "no_challenge"),
        ({"REALM": '""', "NONCE": b"n"}, "no_challenge"),
        ({"REALM": "a\nb", "NONCE": b"n"}, "no_challenge"),
        ({"REALM": "r" * 764, "NONCE": b"n"}, "no_challenge"),
        ({"REALM": "r", "NONCE": b"n" * 764}, "no_challenge"),
        ({"REALM": "r", "NONCE": b"n", "PASSWORD_ALGORITHMS": b"\0\7\0\0"}, "no_algorithm"),
        ({"REALM": "r", "NONCE": b"n", "PASSWORD_ALGORITHMS": b"\0\2"}, "no_algorithm"),
        ({"REALM": "r", "NONCE": b"n", "PASSWORD_ALGORITHMS": b"\0\2\0\4abcd"}, "no_algorithm"),
    ],
)
def test_what_is_no_challenge_is_refused(attributes: dict[str, object], reason: str) -> None:
    with pytest.raises(ParseError) as error:
        read_challenge(challenge(**attributes))
    assert error.value.reason == reason


def test_a_stale_nonce_may_come_without_the_realm() -> None:
    before = Challenge("here", b"old")
    assert read_challenge(challenge(NONCE=b"new"), before) == Challenge("here", b"new")


def test_quotes_and_zeros_around_a_realm_are_sent_back_and_not_hashed() -> None:
    odd = Challenge('"here"\0', b"n")
    assert make_key(MATRIX, odd) == make_key(MATRIX, Challenge("here", b"n"))
    data, _ = sign(Method.REFRESH, TRANSACTION, {}, MATRIX, odd)
    assert parse(data).attributes["REALM"] == '"here"\0'


@given(st.binary(max_size=30))
def test_flags_of_any_nonce(tail: bytes) -> None:
    assert 0 <= nonce_flags(b"obMatJos2" + tail) < 1 << 24
    assert nonce_flags(b"x" + tail) == 0


def test_the_key_is_shown_nowhere() -> None:
    key = make_key(MATRIX, Challenge("example.org", NONCE))
    assert key.key.hex() not in repr(key)
    assert str(key.key) not in repr(key)
