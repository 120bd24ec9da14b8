"""The profile of our certificates: object identifiers, our extension, names, addresses, keys.

Our extension, in the leaf and in every CA above it, is canonical DER and not critical:

    Rights ::= SEQUENCE {
      network     OCTET STRING (SIZE (16)),
      generation  INTEGER (0..MAX),              -- 1 and up in a leaf, 0 in a CA
      groups      SEQUENCE SIZE (0..16) OF UTF8String,    -- [a-z0-9-]{1,32}, no two alike
      prefixes    SEQUENCE SIZE (0..16) OF OCTET STRING } -- address, then length; no two alike

Where it is absent, nothing is granted. docs/certificates.md describes the whole profile.
"""

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

from cryptography.hazmat import asn1
from cryptography.x509 import ObjectIdentifier

from wgpy.identity.claims import CredentialError
from wgpy.ip import Prefix, mask, parse_prefix
from wgpy.keys import PublicKey

# UUID dddf29ce-6f6c-48c7-b196-1305381119b7, under the arc that needs no registration (X.667).
_ARC: Final = "2.25.294918117202198645902617543277060102583"
RIGHTS: Final = ObjectIdentifier(f"{_ARC}.1")
PEER_PURPOSE: Final = ObjectIdentifier(f"{_ARC}.2")
DENIALS: Final = ObjectIdentifier(f"{_ARC}.3")

NETWORK_LENGTH: Final = 16
MAX_GROUPS: Final = 16
MAX_PREFIXES: Final = 16
MAX_ADDRESSES: Final = 2
# What SQLite keeps in one INTEGER.
MAX_GENERATION: Final = 2**63 - 1
MAX_NAME: Final = 253  # RFC 1035 section 2.3.4, without the length bytes

# The payload of a handshake message has 1,035 bytes for fields (docs/protocol.md). A leaf stands
# there beside the hash of its issuer's key (35) and the name that is wanted (256 at the most).
MAX_LEAF: Final = 1_035 - 35 - 256 - 3
# Both certificates, where the name that is wanted has up to 63 characters: no hash is needed then.
MAX_BOTH: Final = 1_035 - 66 - 3 - 3

# Most peers of a network differ in their names and addresses only, and have the same rights.
_KNOWN_RIGHTS: Final = 256

# More than there are CAs and issuers that one interface trusts.
_KNOWN_SUFFIXES: Final = 256

_GROUP: Final = re.compile(r"[a-z0-9-]{1,32}")
# Labels of 1 to 63 characters, the last of which is not all digits.
_LABEL: Final = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME: Final = re.compile(rf"(?:{_LABEL}\.)*(?![0-9]+\Z){_LABEL}")

# Points whose multiples are few, in their canonical encoding: 0, 1, the two of order 8, and -1.
# Every other spelling of them is not canonical, and refused as that.
_LOW_ORDER: Final = frozenset(
    bytes.fromhex(text)
    for text in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
)
_P: Final = 2**255 - 19

# Not the address of one machine in a tunnel: this host, loopback, multicast, reserved, and what
# means something only on one link.
_NOT_UNICAST: Final = tuple(
    parse_prefix(text)
    for text in (
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/3",
        "::/127",
        "::ffff:0:0/96",
        "fe80::/10",
        "ff00::/8",
    )
)


def _beginnings(prefix: Prefix) -> list[bytes]:
    """Every address within the prefix begins with one of these, and no other does."""
    whole, bits = divmod(prefix.length, 8)
    first = prefix.address[:whole]
    if bits == 0:
        return [first]
    last = prefix.address[whole]
    return [first + bytes([last + number]) for number in range(1 << (8 - bits))]


# By the size of an address.
_NOT_UNICAST_BEGIN: Final = {
    size: tuple(start for x in _NOT_UNICAST if len(x.address) == size for start in _beginnings(x))
    for size in (4, 16)
}


@dataclass(frozen=True, slots=True)
class Rights:
    """What our extension says. `network` is 16 bytes."""

    network: bytes
    generation: int
    groups: tuple[str, ...] = ()
    prefixes: tuple[Prefix, ...] = ()


@asn1.sequence
class _Rights:
    network: Annotated[bytes, asn1.Size.exact(NETWORK_LENGTH)]
    generation: int
    groups: Annotated[list[str], asn1.Size(0, MAX_GROUPS)]
    prefixes: Annotated[list[bytes], asn1.Size(0, MAX_PREFIXES)]


def encode_rights(rights: Rights) -> bytes:
    """The extension's DER. Raises CredentialError for what `decode_rights` would refuse."""
    _check_rights(rights)
    return asn1.encode_der(
        _Rights(
            network=rights.network,
            generation=rights.generation,
            groups=list(rights.groups),
            prefixes=[address + bytes([length]) for address, length in rights.prefixes],
        )
    )


@functools.lru_cache(_KNOWN_RIGHTS)
def decode_rights(der: bytes) -> Rights:
    """Read the extension's DER. Raises CredentialError with the reason "rights"."""
    try:
        found = asn1.decode_der(_Rights, der)
        canonical = asn1.encode_der(found) == der
    except (ValueError, OverflowError):
        raise _bad_rights("it is not the SEQUENCE of the profile") from None
    if not canonical:
        raise _bad_rights("it is not in canonical DER")
    if any(len(prefix) not in (5, 17) for prefix in found.prefixes):
        raise _bad_rights("a prefix is not 5 or 17 bytes")
    prefixes = tuple(Prefix(prefix[:-1], prefix[-1]) for prefix in found.prefixes)
    rights = Rights(found.network, found.generation, tuple(found.groups), prefixes)
    _check_rights(rights)
    return rights


def _check_rights(rights: Rights) -> None:
    if len(rights.network) != NETWORK_LENGTH:
        raise _bad_rights(f"a network is {NETWORK_LENGTH} bytes")
    if not 0 <= rights.generation <= MAX_GENERATION:
        raise _bad_rights("its generation is out of range")
    if len(rights.groups) > MAX_GROUPS or len(rights.prefixes) > MAX_PREFIXES:
        raise _bad_rights(f"it has more than {MAX_GROUPS} groups or {MAX_PREFIXES} prefixes")
    if not all(is_group(group) for group in rights.groups):
        raise _bad_rights("a group is not 1 to 32 of a-z, 0-9 and -")
    for address, length in rights.prefixes:
        if length > 8 * len(address) or mask(address, length) != address:
            raise _bad_rights("a prefix has host bits, or a length that is too great")
    for items in (rights.groups, rights.prefixes):
        if len(set(items)) != len(items):
            raise _bad_rights("a group or a prefix stands there twice")


def _bad_rights(text: str) -> CredentialError:
    return CredentialError("rights", f"the extension with network and groups is wrong: {text}")


def is_group(text: str) -> bool:
    """Whether this may be a group's name."""
    return _GROUP.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Whether this may be a peer's name: lower-case labels of letters, digits and hyphens.

    The last label is not all digits, so that no name can be read as an IPv4 address.
    """
    return len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None


def is_unicast(address: bytes) -> bool:
    """Whether an address of 4 or 16 bytes can be one machine's inside a tunnel."""
    return not address.startswith(_NOT_UNICAST_BEGIN[len(address)])


def within(inner: Prefix, outers: Iterable[Prefix]) -> bool:
    """Whether one of `outers` has every address of `inner`."""
    address, length = inner
    for outer, shorter in outers:
        if len(outer) == len(address) and shorter <= length and mask(address, shorter) == outer:
            return True
    return False


def under(name: str, suffixes: tuple[str, ...]) -> bool:
    """Whether `name` is one of the suffixes or below one (RFC 5280 section 4.2.1.10)."""
    return f".{name}".endswith(_with_dots(suffixes))


@functools.lru_cache(_KNOWN_SUFFIXES)
def _with_dots(suffixes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f".{suffix}" for suffix in suffixes)


def check_key(key: PublicKey) -> None:
    """Refuse a key with a second spelling, and one whose shared secrets the world knows.

    X25519 ignores bit 255 and reduces modulo p, so that K, and K with the bit set, are one key with
    two names. Raises CredentialError: "key-encoding", "key-order".
    """
    value = int.from_bytes(bytes(key), "little")
    if value >= _P:  # bit 255 makes it so as well
        raise CredentialError("key-encoding", "its key is not written in the one canonical way")
    if bytes(key) in _LOW_ORDER:
        raise CredentialError("key-order", "its key is a point of low order")


def serial_text(number: int) -> str:
    """A serial number as Claims and our files have it: hexadecimal, whole bytes, lower case."""
    text = f"{number:x}"
    return text if len(text) % 2 == 0 else f"0{text}"
