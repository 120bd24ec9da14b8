"""Looks up the host name of an endpoint: blocking, with the patience of wg(8).

At boot the network may not be there yet, so a failure that may pass is retried, after 1 s and then
1.2 times as long each time, up to 20 s: 15 retries take a little over a minute.
"""

import os
import socket
import time
from collections.abc import Callable
from typing import Final

from wgpy.device.uapi import Address

RETRIES_VARIABLE: Final = "WG_ENDPOINT_RESOLUTION_RETRIES"
DEFAULT_RETRIES: Final = 15
FIRST_DELAY: Final = 1.0
DELAY_GROWTH: Final = 1.2
MAX_DELAY: Final = 20.0

# The C library's word that asking again is of no use.
_PERMANENT: Final = (socket.EAI_NONAME, socket.EAI_FAIL, socket.EAI_NODATA)

# (host, port) -> what getaddrinfo returns.
Lookup = Callable[[str, int], list[tuple[str, int]]]


class ResolveError(OSError):
    """A host name that has no address, or a number of retries that is none; one line."""


def retries_wanted() -> float:
    """What WG_ENDPOINT_RESOLUTION_RETRIES says: a number, or infinity. Raises ResolveError."""
    text = os.environ.get(RETRIES_VARIABLE)
    if text is None:
        return DEFAULT_RETRIES
    if text == "infinity":
        return float("inf")
    # Nine digits are more retries than a lifetime holds.
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ResolveError(
            f"{RETRIES_VARIABLE} is {text[:40]!r}; set it to a number or to `infinity`"
        )
    return int(text)


def system_lookup(host: str, port: int) -> list[tuple[str, int]]:
    """The addresses of a host in the system's order of preference. Raises socket.gaierror."""
    # As bytes: for text Python would apply IDNA, which fails in ways of its own.
    found = socket.getaddrinfo(host.encode("ascii", "replace"), port, type=socket.SOCK_DGRAM)
    return [(str(sockaddr[0]), int(sockaddr[1])) for *_, sockaddr in found]


def resolve(
    host: str,
    port: int,
    *,
    report: Callable[[str], None],
    lookup: Lookup = system_lookup,
    sleep: Callable[[float], None] = time.sleep,
) -> Address:
    """The first address of a host name, with the port. Raises ResolveError.

    `report` is given a line for each failure after which it tries again.
    """
    retries = retries_wanted()
    delay = FIRST_DELAY
    while True:
        try:
            return Address(*lookup(host, port)[0])
        except socket.gaierror as error:
            reason = f"{host}: {error.strerror or error}"
            if error.errno in _PERMANENT:
                raise ResolveError(f"{reason}; check the endpoint's name") from None
            if retries <= 0:
                raise ResolveError(f"{reason}; check the network and its DNS") from None
        retries -= 1
        report(f"{reason}; trying again in {delay:.2f} s")
        sleep(delay)
        delay = min(MAX_DELAY, delay * DELAY_GROWTH)
