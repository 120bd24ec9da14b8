"""One key pair at work: sealing and opening transport messages in place (whitepaper 5.4.6).

A message lies in its buffer as [16 header][packet][padding][16 tag]. cryptography's *_into calls
are right only if the output starts exactly where the input does; every call here keeps to that.
"""

import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from wgpy.datapath.contract import NewKeyPair
from wgpy.datapath.replay import ReplayWindow
from wgpy.protocol.constants import (
    PADDING_MULTIPLE,
    REJECT_AFTER_MESSAGES,
    REKEY_AFTER_MESSAGES,
    TAG_LENGTH,
    TRANSPORT_HEADER_LENGTH,
    TYPE_TRANSPORT,
)

# Type, receiver index, counter.
HEADER = struct.Struct("<IIQ")
_NONCE = struct.Struct("<4xQ")


class Session:
    """A key pair, its send counter and its replay window.

    `peer` is the road it belongs to; the cipher objects hold copies of the keys inside OpenSSL,
    which erases them when the last reference to them goes.
    """

    __slots__ = (
        "_open",
        "_seal",
        "counter",
        "created",
        "local_index",
        "notify_receive_after",
        "notify_send_after",
        "reject_after",
        "remote_index",
        "window",
    )

    def __init__(self, pair: NewKeyPair) -> None:
        self._seal = ChaCha20Poly1305(bytes(pair.send_key)).encrypt_into
        self._open = ChaCha20Poly1305(bytes(pair.receive_key)).decrypt_into
        pair.send_key[:] = bytes(len(pair.send_key))
        pair.receive_key[:] = bytes(len(pair.receive_key))
        self.local_index = pair.local_index
        self.remote_index = pair.remote_index
        self.created = pair.created
        self.reject_after = pair.reject_after
        self.notify_send_after = pair.notify_send_after
        self.notify_receive_after = pair.notify_receive_after
        self.counter = 0
        self.window = ReplayWindow()

    def can_seal(self, now: float) -> bool:
        """Whether the key is young enough and has a counter left."""
        return now < self.reject_after and self.counter < REJECT_AFTER_MESSAGES

    def wants_rekey(self, now: float) -> bool:
        """Whether the initiator's time, or the number of messages, asks for a new key."""
        return now >= self.notify_send_after or self.counter >= REKEY_AFTER_MESSAGES

    def seal(self, buffer: memoryview, start: int, length: int) -> int:
        """Seal the packet and padding of `length` bytes at start + 16. Returns the whole length.

        The buffer has 16 spare bytes before the packet and 16 after it.
        """
        HEADER.pack_into(buffer, start, TYPE_TRANSPORT, self.remote_index, self.counter)
        begin = start + TRANSPORT_HEADER_LENGTH
        end = begin + length
        nonce = _NONCE.pack(self.counter)
        self._seal(nonce, buffer[begin:end], None, buffer[begin : end + TAG_LENGTH])
        self.counter += 1
        return TRANSPORT_HEADER_LENGTH + length + TAG_LENGTH

    def open(self, buffer: memoryview, start: int, end: int, counter: int) -> memoryview | None:
        """Open the message at buffer[start:end] and return the plaintext's place, or None.

        Where authentication fails the place is wiped: the cipher has left unauthenticated
        plaintext there.
        """
        begin = start + TRANSPORT_HEADER_LENGTH
        plain = buffer[begin : end - TAG_LENGTH]
        try:
            self._open(_NONCE.pack(counter), buffer[begin:end], None, plain)
        except InvalidTag:
            plain[:] = bytes(len(plain))
            return None
        return plain


def padding(length: int, mtu: int) -> int:
    """Zero bytes to add to a packet: up to a multiple of 16, but not beyond the MTU."""
    if length > mtu:
        # A packet may outgrow an MTU that was lowered meanwhile: pad its last part as the kernel.
        length %= mtu
    padded = (length + PADDING_MULTIPLE - 1) & -PADDING_MULTIPLE
    return min(padded, mtu) - length
