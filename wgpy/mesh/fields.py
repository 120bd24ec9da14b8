"""The parts of our JSON forms, read strictly: each has one type, one spelling and a bound.

What a record is made of is checked here too, wherever it comes from. One exception for all of it.
"""

import base64
import binascii
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, TypeVar

from wgpy import ip
from wgpy.identity.profile import (
    MAX_GENERATION,
    MAX_GROUPS,
    MAX_PREFIXES,
    NETWORK_LENGTH,
    is_group,
    is_name,
)
from wgpy.identity.words import parse_network_id
from wgpy.ip import Prefix
from wgpy.keys import KeyFormatError, PublicKey

# What SQLite and PostgreSQL keep in one integer.
MAX_NUMBER: Final = MAX_GENERATION
# 2100 and some: whoever says more has a clock that counts something else.
MAX_TIME: Final = float(2**32)
# A certificate fits a handshake message (identity/profile.py: MAX_LEAF is less than this).
MAX_CERTIFICATE: Final = 1_200
# Of a token: a jti of ours has 22 characters, and others put a UUID there.
MAX_JTI: Final = 128

_T = TypeVar("_T")


class RecordError(ValueError):
    """A record, or its JSON form, is not as it has to be; says what in one line."""


def members(value: object, names: Collection[str], what: str) -> dict[str, Any]:
    """A JSON object with exactly these members."""
    if not isinstance(value, dict):
        raise RecordError(f"{what} is no JSON object")
    for name in names:
        if name not in value:
            raise RecordError(f"{what} lacks `{name}`")
    if len(value) != len(names):
        raise RecordError(f"{what} has a member that nobody knows")
    return value


def items(value: object, most: int, what: str) -> list[Any]:
    """A JSON array of at most so many."""
    if not isinstance(value, list) or len(value) > most:
        raise RecordError(f"{what} is no array of at most {most}")
    return value


def each(value: object, most: int, what: str, read: Callable[[object, str], _T]) -> tuple[_T, ...]:
    """Every element of an array, read; no two alike."""
    found = tuple(read(x, what) for x in items(value, most, what))
    if len(set(found)) != len(found):
        raise RecordError(f"{what} has one value twice")
    return found


def text(value: object, most: int, what: str) -> str:
    """A text of 1 to so many characters of printable ASCII."""
    if not isinstance(value, str) or not 1 <= len(value) <= most:
        raise RecordError(f"{what} is no text of 1 to {most} characters")
    if not (value.isascii() and value.isprintable()):
        raise RecordError(f"{what} has a character that is not printable ASCII")
    return value


def flag(value: object, what: str) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise RecordError(f"{what} is neither true nor false")
    return value


def number(value: object, least: int, most: int, what: str) -> int:
    """A whole number, bounds included; true is none."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise RecordError(f"{what} is no whole number of {least} to {most}")
    return value


def time(value: object, what: str) -> float:
    """Seconds of the wall clock since 1970."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RecordError(f"{what} is no number of seconds")
    # Compared as it is: an integer may be too long for a float.
    if not 0 <= value <= MAX_TIME or not math.isfinite(value):
        raise RecordError(f"{what} is no time")
    return float(value)


def name(value: object, what: str) -> str:
    """A node's whole name, or a domain."""
    if not isinstance(value, str) or not is_name(value):
        raise RecordError(f"{what} is no name: lower-case letters, digits, - and dots")
    return value


def group(value: object, what: str) -> str:
    """A group's name."""
    if not isinstance(value, str) or not is_group(value):
        raise RecordError(f"{what} has what is no group: 1 to 32 of a-z, 0-9 and -")
    return value


def groups(value: object, what: str) -> tuple[str, ...]:
    """At most as many groups as a certificate has room for."""
    return each(value, MAX_GROUPS, what, group)


def key(value: object, what: str) -> PublicKey:
    """A public key in base64, 44 characters."""
    try:
        return PublicKey.from_base64(value if isinstance(value, str) else "")
    except KeyFormatError:
        raise RecordError(f"{what} is no public key in base64") from None


def network_id(value: object, what: str) -> bytes:
    """The 16 bytes of a network, in hexadecimal."""
    try:
        found = parse_network_id(value if isinstance(value, str) else "")
    except ValueError:
        raise RecordError(f"{what} is not {2 * NETWORK_LENGTH} hexadecimal digits") from None
    if found.hex() != value:
        raise RecordError(f"{what} is not in lower case")
    return found


def prefix(value: object, what: str) -> Prefix:
    """`ADDRESS/LENGTH` in its one spelling, without host bits."""
    # The longest IPv6 address has 39 characters, and 45 where its end is written as IPv4.
    if isinstance(value, str) and len(value) <= 49:
        try:
            found = ip.parse_prefix(value)
        except ValueError:
            found = None
        if found is not None and str(found) == value:
            return found
    raise RecordError(f"{what} has what is no prefix, ADDRESS/LENGTH with no bit after it")


def prefixes(value: object, what: str) -> tuple[Prefix, ...]:
    """At most as many prefixes as a certificate has room for."""
    return each(value, MAX_PREFIXES, what, prefix)


def octets(value: object, most: int, what: str) -> bytes:
    """Bytes in base64, 1 to so many."""
    try:
        if not isinstance(value, str) or not 1 <= len(value) <= (most + 2) // 3 * 4:
            raise ValueError
        found = base64.b64decode(value, validate=True)
        if not 1 <= len(found) <= most or base64.b64encode(found).decode("ascii") != value:
            raise ValueError
    except (binascii.Error, ValueError):
        raise RecordError(f"{what} is not 1 to {most} bytes in base64") from None
    return found


def octets_text(value: bytes) -> str:
    """Bytes as `octets` reads them."""
    return base64.b64encode(value).decode("ascii")


def optional(value: object, what: str, read: Callable[[object, str], _T]) -> _T | None:
    """null, or what `read` reads."""
    return None if value is None else read(value, what)


def texts(values: Sequence[object] | Mapping[Any, object]) -> list[str]:
    """The usual text of each."""
    return [str(x) for x in values]
