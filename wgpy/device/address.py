"""Endpoints as the UAPI writes them, and as the data path takes them."""

import errno
import socket
from typing import Final

from wgpy.datapath.contract import Endpoint
from wgpy.device.uapi import Address, UapiError

# An interface index is a positive int of C.
_MAX_INDEX = (1 << 31) - 1


# Initiations to one address of a name before the next address has its turn: one may get lost.
TRIES_PER_ADDRESS: Final = 2


def to_endpoint(address: Address) -> Endpoint:
    """The data path's form of an address. Raises UapiError for a %scope that no link has."""
    host, percent, scope = address.host.partition("%")
    return Endpoint(host, address.port, _scope_index(scope) if percent else 0)


def _scope_index(scope: str) -> int:
    if scope.isascii() and scope.isdigit() and len(scope) <= 10 and int(scope) <= _MAX_INDEX:
        return int(scope)
    try:
        return socket.if_nametoindex(scope)
    except (OSError, ValueError):
        raise UapiError(errno.EINVAL, f"no link is called {scope!r}") from None


def to_address(endpoint: Endpoint) -> Address:
    """The UAPI's form of an endpoint."""
    if not endpoint.scope:
        return Address(endpoint.address, endpoint.port)
    try:
        scope = socket.if_indextoname(endpoint.scope)
    except OSError:
        scope = str(endpoint.scope)  # The link is gone.
    return Address(f"{endpoint.address}%{scope}", endpoint.port)


def next_endpoint(
    current: Endpoint | None, endpoints: list[Endpoint], unanswered: int
) -> Endpoint | None:
    """Which address of a name to try after `unanswered` initiations to `current`; None to stay.

    An endpoint that the name no longer gives is left at once. One that it still gives has a second
    try before the next address, and so the other address family, has its turn.
    """
    places = [(endpoint.address, endpoint.port) for endpoint in endpoints]
    if current is None or (current.address, current.port) not in places:
        return endpoints[0]
    if unanswered < TRIES_PER_ADDRESS or len(endpoints) == 1:
        return None
    return endpoints[(places.index((current.address, current.port)) + 1) % len(endpoints)]
