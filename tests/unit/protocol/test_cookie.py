"""mac1, mac2, cookies: who is believed, from where and for how long."""

import hashlib
import struct

import pytest

from wgpy.keys import PrivateKey
from wgpy.protocol import xchacha
from wgpy.protocol.cookie import CookieChecker, CookieGenerator
from wgpy.protocol.messages import parse_cookie_reply

PUBLIC = PrivateKey(bytes(range(32))).public()
OTHER = PrivateKey(bytes(range(1, 33))).public()
SOURCE = bytes([192, 0, 2, 1]) + struct.pack(">H", 51820)
MESSAGE = b"\1\0\0\0" + struct.pack("<I", 0xCAFE1234) + bytes(range(108))


class Counter:
    """A random source that never says the same thing twice, and can be read back."""

    def __init__(self):
        self.calls = []

    def __call__(self, length):
        value = hashlib.blake2s(bytes([len(self.calls)])).digest()[:length]
        self.calls.append(value)
        return value


@pytest.fixture
def random():
    return Counter()


@pytest.fixture
def checker(random):
    return CookieChecker(PUBLIC, random)


@pytest.fixture
def generator():
    return CookieGenerator(PUBLIC)


def with_cookie(checker, generator, now=0.0, source=SOURCE):
    """Let the generator earn a cookie."""
    first = generator.add_macs(MESSAGE, now)
    assert generator.consume(parse_cookie_reply(checker.reply(first, source, now)), now)


def test_mac1_is_the_whitepapers(checker, generator):
    data = generator.add_macs(MESSAGE, 0.0)
    key = hashlib.blake2s(b"mac1----" + bytes(PUBLIC)).digest()
    assert data[-32:-16] == hashlib.blake2s(MESSAGE, key=key, digest_size=16).digest()
    assert data[-16:] == bytes(16)
    assert checker.check_mac1(data)


def test_mac1_for_another_receiver_is_refused(checker):
    assert not checker.check_mac1(CookieGenerator(OTHER).add_macs(MESSAGE, 0.0))


@pytest.mark.parametrize("length", [0, 15, 31, 32, 39])
def test_short_datagrams_are_refused_and_do_not_raise(checker, length):
    assert not checker.check_mac1(bytes(length))
    assert not checker.check_mac2(bytes(length), SOURCE, 0.0)
    with pytest.raises(ValueError, match="macs"):
        checker.reply(bytes(length), SOURCE, 0.0)


def test_every_byte_counts_for_mac1(checker, generator):
    data = generator.add_macs(MESSAGE, 0.0)
    for position in range(len(data) - 16):
        changed = bytearray(data)
        changed[position] ^= 1
        assert not checker.check_mac1(bytes(changed)), position


def test_no_mac2_before_any_cookie_was_given(checker, generator):
    data = generator.add_macs(MESSAGE, 0.0)
    assert not checker.check_mac2(data, SOURCE, 0.0)


def test_a_secret_of_zeros_is_no_secret(checker):
    # Before the first reply there is no secret; a mac2 under an empty or zero one must not pass.
    mac1 = CookieGenerator(PUBLIC).add_macs(MESSAGE, 0.0)[:-16]
    for secret in (b"", bytes(32)):
        cookie = hashlib.blake2s(SOURCE, key=secret, digest_size=16).digest()
        mac2 = hashlib.blake2s(mac1, key=cookie, digest_size=16).digest()
        assert not checker.check_mac2(mac1 + mac2, SOURCE, 0.0)


def test_the_reply_on_the_wire(checker, generator, random):
    data = generator.add_macs(MESSAGE, 0.0)
    reply = checker.reply(data, SOURCE, 0.0)
    secret, nonce = random.calls
    assert len(reply) == 64
    assert reply[:32] == b"\3\0\0\0" + data[4:8] + nonce
    key = hashlib.blake2s(b"cookie--" + bytes(PUBLIC)).digest()
    cookie = hashlib.blake2s(SOURCE, key=secret, digest_size=16).digest()
    assert xchacha.unseal(key, nonce, reply[32:], data[-32:-16]) == cookie


def test_a_cookie_earns_a_mac2(checker, generator):
    with_cookie(checker, generator)
    data = generator.add_macs(MESSAGE, 1.0)
    assert checker.check_mac1(data)
    assert checker.check_mac2(data, SOURCE, 1.0)


def test_a_cookie_is_for_one_address_and_one_port(checker, generator):
    with_cookie(checker, generator)
    data = generator.add_macs(MESSAGE, 1.0)
    other_port = SOURCE[:4] + struct.pack(">H", 51821)
    other_address = bytes([192, 0, 2, 2]) + SOURCE[4:]
    assert not checker.check_mac2(data, other_port, 1.0)
    assert not checker.check_mac2(data, other_address, 1.0)


def test_the_sender_stops_using_a_cookie_at_115_s(checker, generator):
    with_cookie(checker, generator)
    assert generator.add_macs(MESSAGE, 114.9)[-16:] != bytes(16)
    assert generator.add_macs(MESSAGE, 115.0)[-16:] == bytes(16)


def test_the_receiver_believes_a_cookie_for_120_s(checker, generator):
    with_cookie(checker, generator)
    data = generator.add_macs(MESSAGE, 100.0)
    assert checker.check_mac2(data, SOURCE, 119.9)
    assert not checker.check_mac2(data, SOURCE, 120.0)


def test_the_secret_turns_each_120_s(checker, generator, random):
    data = generator.add_macs(MESSAGE, 0.0)
    for now in (0.0, 119.9):
        checker.reply(data, SOURCE, now)
    assert [len(value) for value in random.calls] == [32, 24, 24]
    checker.reply(data, SOURCE, 120.0)
    assert [len(value) for value in random.calls] == [32, 24, 24, 32, 24]


def test_a_reply_to_another_message_is_refused(checker, generator):
    old = generator.add_macs(MESSAGE, 0.0)
    generator.add_macs(MESSAGE[:-1] + b"x", 0.0)
    reply = parse_cookie_reply(checker.reply(old, SOURCE, 0.0))
    assert not generator.consume(reply, 0.0)


def test_a_reply_before_any_message_is_refused(checker):
    other = CookieGenerator(PUBLIC)
    reply = parse_cookie_reply(checker.reply(other.add_macs(MESSAGE, 0.0), SOURCE, 0.0))
    assert not CookieGenerator(PUBLIC).consume(reply, 0.0)


def test_one_reply_for_each_message(checker, generator):
    data = generator.add_macs(MESSAGE, 0.0)
    reply = parse_cookie_reply(checker.reply(data, SOURCE, 0.0))
    assert generator.consume(reply, 0.0)
    assert not generator.consume(reply, 0.0)


def test_a_forged_reply_leaves_the_cookie_as_it_was(checker, generator):
    with_cookie(checker, generator)
    data = generator.add_macs(MESSAGE, 1.0)
    forged = bytearray(checker.reply(data, SOURCE, 1.0))
    forged[40] ^= 1
    assert not generator.consume(parse_cookie_reply(bytes(forged)), 1.0)
    assert checker.check_mac2(generator.add_macs(MESSAGE, 2.0), SOURCE, 2.0)
