"""A signal as a text for people to paste, for `wgpy punch` (docs/protocol.md).

    wgpy1: and 476 characters of base64url: the signal, 353 bytes, and a checksum of 4

White space anywhere is passed over: mail and terminals break lines. The checksum finds what was not
copied whole; who made it, and for whom, is told by the seal of the signal itself.
"""

import base64
import binascii
from typing import Final

from wgpy.nat.signal_message import MESSAGE_LENGTH
from wgpy.protocol.hashes import hash_

PREFIX: Final = "wgpy1:"
_LABEL: Final = b"wgpy v1 blob"
_CHECKSUM_LENGTH: Final = 4
# 357 bytes are 119 times three: no padding is left out.
TEXT_LENGTH: Final = len(PREFIX) + (MESSAGE_LENGTH + _CHECKSUM_LENGTH) * 4 // 3
# What somebody pastes by mistake is not read to the end.
MAX_PASTED: Final = 8192


class BlobError(ValueError):
    """A text that is no signal; says what is wrong with it, for the person who pasted it."""


def pack_blob(signal: bytes) -> str:
    """The text of a signal, 482 characters. Raises ValueError for another length."""
    if len(signal) != MESSAGE_LENGTH:
        raise ValueError(f"a signal has {MESSAGE_LENGTH} bytes; this has {len(signal)}")
    return PREFIX + base64.urlsafe_b64encode(signal + _checksum(signal)).decode("ascii")


def parse_blob(text: str) -> bytes:
    """The signal in a text. Raises BlobError."""
    if len(text) > MAX_PASTED:
        raise BlobError(f"the text is {len(text)} characters long; {TEXT_LENGTH} were expected")
    text = "".join(text.split())
    if not text.startswith(PREFIX):
        raise BlobError(f"the text does not begin with `{PREFIX}`; copy it from there on")
    if len(text) != TEXT_LENGTH:
        missing = TEXT_LENGTH - len(text)
        what = f"{missing} are missing" if missing > 0 else f"{-missing} are too many"
        raise BlobError(f"the text has {len(text)} characters, and {what}; copy it once more")
    try:
        data = base64.b64decode(text[len(PREFIX) :], altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise BlobError(
            "a character in the text does not belong there; copy it once more"
        ) from None
    signal, checksum = data[:MESSAGE_LENGTH], data[MESSAGE_LENGTH:]
    if checksum != _checksum(signal):
        raise BlobError("the text was changed on the way; copy it once more")
    return signal


def _checksum(signal: bytes) -> bytes:
    return hash_(_LABEL + signal)[:_CHECKSUM_LENGTH]
