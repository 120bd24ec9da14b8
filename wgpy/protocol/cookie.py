"""mac1, mac2 and cookies: how a responder under load makes senders prove their address.

Whitepaper 5.3, 5.4.4 and 5.4.7. mac1 shows that the sender knows whom it talks to and is checked
before anything that costs. mac2 shows that it got our last cookie, which went to its address.
"""

import hmac
from collections.abc import Callable

from cryptography.exceptions import InvalidTag

from wgpy.keys import PublicKey
from wgpy.protocol import xchacha
from wgpy.protocol.constants import (
    COOKIE_LATENCY,
    COOKIE_LIFETIME,
    COOKIE_NONCE_LENGTH,
    KEY_LENGTH,
    LABEL_COOKIE,
    LABEL_MAC1,
    MAC_LENGTH,
)
from wgpy.protocol.hashes import hash_, mac
from wgpy.protocol.messages import CookieReply, pack_cookie_reply

_NO_MAC = bytes(MAC_LENGTH)
# Type and sender index stand before anything else in each message that carries macs.
_HEAD_LENGTH = 8
_LEAST_LENGTH = _HEAD_LENGTH + 2 * MAC_LENGTH


def mac1_key(public: PublicKey) -> bytes:
    """The 32-byte key of mac1 in messages sent to the owner of `public` (whitepaper 5.4.4)."""
    return hash_(LABEL_MAC1 + bytes(public))


def cookie_key(public: PublicKey) -> bytes:
    """The 32-byte key that seals cookie replies sent by the owner of `public` (5.4.7)."""
    return hash_(LABEL_COOKIE + bytes(public))


class CookieChecker:
    """The receiver's side, one for each interface.

    `random(n)` returns n unpredictable bytes. A `source` is the sender's address and its port in
    two bytes, packed by the caller: a cookie is good for one address and port.
    """

    __slots__ = ("_cookie_key", "_mac1_key", "_random", "_secret", "_secret_born")

    def __init__(self, public: PublicKey, random: Callable[[int], bytes]) -> None:
        self._mac1_key = mac1_key(public)
        self._cookie_key = cookie_key(public)
        self._random = random
        self._secret = b""
        self._secret_born = 0.0

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """What the cookies given out are made with, 32 bytes each, newest first: for whoever sheds
        a flood by mac2 before this object is asked. None before the first reply."""
        return (self._secret,) if self._secret else ()

    def check_mac1(self, data: bytes) -> bool:
        """Whether a whole message, macs included, carries the right mac1."""
        if len(data) < _LEAST_LENGTH:
            return False
        expected = mac(self._mac1_key, data[: -2 * MAC_LENGTH])
        return hmac.compare_digest(expected, data[-2 * MAC_LENGTH : -MAC_LENGTH])

    def check_mac2(self, data: bytes, source: bytes, now: float) -> bool:
        """Whether a whole message carries the mac2 of a cookie that `source` got lately."""
        if len(data) < _LEAST_LENGTH or not self._secret_is_fresh(now):
            return False
        expected = mac(mac(self._secret, source), data[:-MAC_LENGTH])
        return hmac.compare_digest(expected, data[-MAC_LENGTH:])

    def reply(self, data: bytes, source: bytes, now: float) -> bytes:
        """The 64-byte cookie reply to a message whose mac1 was checked, for its sender alone."""
        if len(data) < _LEAST_LENGTH:
            raise ValueError("only a message with macs is answered with a cookie")
        if not self._secret_is_fresh(now):
            self._secret = self._random(KEY_LENGTH)
            self._secret_born = now
        nonce = self._random(COOKIE_NONCE_LENGTH)
        mac1 = data[-2 * MAC_LENGTH : -MAC_LENGTH]
        sealed = xchacha.seal(self._cookie_key, nonce, mac(self._secret, source), mac1)
        receiver = int.from_bytes(data[4:8], "little")
        return pack_cookie_reply(CookieReply(receiver, nonce, sealed))

    def _secret_is_fresh(self, now: float) -> bool:
        return bool(self._secret) and now - self._secret_born < COOKIE_LIFETIME


class CookieGenerator:
    """The sender's side, one for each peer: puts macs on messages and remembers its cookie."""

    __slots__ = ("_cookie", "_cookie_born", "_last_mac1", "_mac1_key", "_remote_public")

    def __init__(self, remote_public: PublicKey) -> None:
        self._remote_public = remote_public
        self._mac1_key = mac1_key(remote_public)
        self._last_mac1: bytes | None = None
        self._cookie = b""
        self._cookie_born = 0.0

    def add_macs(self, message: bytes, now: float) -> bytes:
        """The message with mac1 and mac2 behind it: 32 bytes more."""
        mac1 = mac(self._mac1_key, message)
        self._last_mac1 = mac1
        # The receiver drops its secret at 120 s; our message must still arrive before that.
        if self._cookie and now - self._cookie_born < COOKIE_LIFETIME - COOKIE_LATENCY:
            covered = message + mac1
            return covered + mac(self._cookie, covered)
        return b"".join((message, mac1, _NO_MAC))

    def consume(self, reply: CookieReply, now: float) -> bool:
        """Take the cookie of a reply to the last message sent; False if it proves not to be one.

        One reply for each message: the next is believed after the next message, as in the kernel.
        """
        if self._last_mac1 is None:
            return False
        key = cookie_key(self._remote_public)
        try:
            cookie = xchacha.unseal(key, reply.nonce, reply.sealed_cookie, self._last_mac1)
        except (InvalidTag, ValueError):
            return False
        self._cookie, self._cookie_born = cookie, now
        self._last_mac1 = None
        return True
