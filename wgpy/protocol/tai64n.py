"""TAI64N timestamps, 12 bytes: what makes an initiation usable once (whitepaper 5.1, 5.4.2).

A stamp is seconds (u64) and nanoseconds (u32), big-endian, so that later stamps are greater as
byte strings. The scale is https://cr.yp.to/libtai/tai64.html: 2^62 is 1970 in TAI, which WireGuard
puts 10 seconds after 1970 in UTC and leaves there.
"""

import struct
from typing import Final

from wgpy.protocol.constants import TIMESTAMP_LENGTH

_STAMP = struct.Struct(">QI")
_EPOCH: Final = (1 << 62) + 10
_SECOND: Final = 1_000_000_000

# Nanoseconds are cut to steps of 16.8 ms. A receiver takes one initiation in 20 ms at the most, so
# nothing finer is of use, and the exact reading of a clock would help a stranger with timing
# attacks. wireguard-go cuts the same 24 bits.
WHITENED_BITS: Final = 24
_STEP: Final = 1 << WHITENED_BITS

# Seconds stay below 2^62 on either side of the epoch: TAI64 reserves what lies beyond.
_MAX_SECONDS: Final = (1 << 62) - 16


def stamp(wall_ns: int) -> bytes:
    """The 12 bytes for a wall clock's time in nanoseconds since 1970, cut to 16.8 ms.

    A clock that reads before 1970 counts as 1970.
    """
    seconds, nanoseconds = divmod(max(wall_ns, 0), _SECOND)
    return _STAMP.pack(_EPOCH + min(seconds, _MAX_SECONDS), nanoseconds & -_STEP)


def next_stamp(previous: bytes | None, wall_ns: int) -> bytes:
    """The stamp for `wall_ns`, or the one just above `previous` if that is not greater.

    So a clock that was set back still makes initiations that the peer accepts.
    """
    current = stamp(wall_ns)
    if previous is None or current > previous:
        return current
    seconds, nanoseconds = _STAMP.unpack(previous)
    nanoseconds = (nanoseconds & -_STEP) + _STEP
    if nanoseconds >= _SECOND:
        seconds, nanoseconds = seconds + 1, 0
    return _STAMP.pack(seconds, nanoseconds)


def to_ns(timestamp: bytes) -> int:
    """Nanoseconds since 1970 of a stamp, negative before. Raises ValueError unless 12 bytes."""
    if len(timestamp) != TIMESTAMP_LENGTH:
        raise ValueError(f"a timestamp is {TIMESTAMP_LENGTH} bytes; this has {len(timestamp)}")
    seconds, nanoseconds = _STAMP.unpack(timestamp)
    return int((seconds - _EPOCH) * _SECOND + nanoseconds)
