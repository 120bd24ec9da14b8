"""IP addresses and prefixes as WireGuard handles them: bytes of 4 or 16, and a length in bits.

The standard `ipaddress` objects cost ten microseconds each; a request with 130,000 allowed IPs
would spend its time in them. A `Prefix` is a plain tuple.
"""

import socket
from typing import NamedTuple


class Prefix(NamedTuple):
    """An IP prefix: `address` is 4 or 16 bytes with its host bits zero, `length` in bits."""

    address: bytes
    length: int

    @property
    def version(self) -> int:
        """4 or 6."""
        return 4 if len(self.address) == 4 else 6

    def __str__(self) -> str:
        return f"{address_text(self.address)}/{self.length}"


def address_text(address: bytes) -> str:
    """The usual text of an address of 4 or 16 bytes."""
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def parse_address(text: str) -> bytes:
    """The 4 or 16 bytes of an address written as text. Raises ValueError."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        return socket.inet_pton(family, text)
    except (OSError, UnicodeError, ValueError):
        raise ValueError(f"{text!r} is not an IP address") from None


def mask(address: bytes, length: int) -> bytes:
    """`address` with every bit after the first `length` set to zero."""
    bits = len(address) * 8
    if length == bits:
        return address
    value = int.from_bytes(address, "big") >> (bits - length) << (bits - length)
    return value.to_bytes(len(address), "big")


def parse_prefix(text: str) -> Prefix:
    """Read `ADDRESS[/LENGTH]`, setting host bits to zero; no length means the whole address.

    Raises ValueError with a reason.
    """
    written, slash, length_text = text.partition("/")
    address = parse_address(written)
    bits = len(address) * 8
    if not slash:
        return Prefix(address, bits)
    if not (length_text.isascii() and length_text.isdigit() and len(length_text) <= 3):
        raise ValueError(f"{text!r} has no prefix length of 0 to {bits} after the slash")
    length = int(length_text)
    if length > bits:
        raise ValueError(f"{text!r} has a prefix length over {bits}")
    return Prefix(mask(address, length), length)
