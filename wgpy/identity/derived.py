"""Where a key lives before it has a name: its address in quarantine, derived and never issued.

    network's range   fd, the first 5 bytes of SHA-256("wgpy quarantine network" + network)     /48
    key's address     the range, the first 10 bytes of SHA-256("wgpy quarantine address" + network
                      + key)                                                                   /128

Unique local addresses (RFC 4193): the range is the network's own, and nobody has to give any out.
Both ends compute the same from what the handshake says. 80 bits: to meet the address of another key
costs 2^80 key pairs.
"""

import hashlib
from typing import Final

from wgpy.ip import Prefix
from wgpy.keys import PublicKey

_RANGE_LABEL: Final = b"wgpy quarantine network"
_ADDRESS_LABEL: Final = b"wgpy quarantine address"
# RFC 4193 section 3.1: 0xfd and a global identifier of 40 bits.
_ULA: Final = b"\xfd"
_RANGE_BYTES: Final = 6
_HOST_BYTES: Final = 10


def quarantine_range(network: bytes) -> Prefix:
    """The /48 in which everybody of a network (16 bytes) lives who has yet to enrol."""
    digest = hashlib.sha256(_RANGE_LABEL + network).digest()
    head = _ULA + digest[: _RANGE_BYTES - len(_ULA)]
    return Prefix(head + bytes(_HOST_BYTES), 8 * _RANGE_BYTES)


def quarantine_address(network: bytes, key: PublicKey) -> Prefix:
    """The /128 of a static key that enrols in a network (16 bytes)."""
    head = quarantine_range(network).address[:_RANGE_BYTES]
    digest = hashlib.sha256(_ADDRESS_LABEL + network + bytes(key)).digest()
    return Prefix(head + digest[:_HOST_BYTES], 128)
