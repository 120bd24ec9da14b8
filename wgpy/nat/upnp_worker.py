"""The process that speaks SOAP with a router: one order in, one outcome out, and its end.

    python -m wgpy.nat.upnp_worker ORDER

Before miniupnpc reads a byte from the network, the process has given up every capability, the right
to change any file, and all but a little memory and time.
"""

import ipaddress
import resource
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from wgpy.linux.sandbox import forbid_writing, keep_capabilities
from wgpy.nat.upnp import DESCRIPTION, Deed, Order, Outcome, outcome_text, parse_order, same_host

if TYPE_CHECKING:
    import miniupnpc

# miniupnpc waits up to 5 s for each part of an answer; a router that works takes milliseconds.
LIFE: Final = 15
# An interpreter with miniupnpc maps 18 MiB; a description of a router has 10 KiB.
_MAX_MEMORY: Final = 64 << 20
_MAX_CPU: Final = 5
_MAX_FILES: Final = 32

_PROTOCOL: Final = "UDP"
# What miniupnpc calls errors 718, 725 and 724 of WANIPConnection:1 (2.4.16).
_CONFLICT: Final = "ConflictInMappingEntry"
_PERMANENT_ONLY: Final = "OnlyPermanentLeasesSupported"
_SAME_PORT_ONLY: Final = "SamePortValuesRequired"


class OrderError(Exception):
    """Why an order failed, in words."""


def main(argv: list[str]) -> int:
    """Carry out the order in `argv[1]`, and print the outcome. Returns the exit status."""
    order = parse_order(argv[1])
    _restrict()
    import miniupnpc

    router = miniupnpc.UPnP()
    try:
        outcome = carry_out(order, router)
    except OrderError as refusal:
        outcome = Outcome(refusal=str(refusal))
    print(outcome_text(outcome))
    return 0


def _restrict() -> None:
    signal.alarm(LIFE)
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, _MAX_MEMORY),
        (resource.RLIMIT_CPU, _MAX_CPU),
        (resource.RLIMIT_NOFILE, _MAX_FILES),
    ):
        resource.setrlimit(kind, (most, most))
    keep_capabilities(())
    forbid_writing(())


def carry_out(order: Order, router: "miniupnpc.UPnP") -> Outcome:
    """Do what the order says. Raises OrderError."""
    control = _call(router.selectigd, order.url)
    if not same_host(urlsplit(control).hostname or "", order.gateway):
        raise OrderError("the router's description names another host")
    if router.lanaddr != order.own:
        raise OrderError(f"the router is reached from {router.lanaddr[:40]}, not from {order.own}")
    if order.deed is Deed.LOOK:
        return Outcome(host=_external(router))
    if order.deed is Deed.MAP:
        return _map(order, router)
    held = _entry(router, order.external[0])
    if held is None or not _is_ours(held, order, known=True):
        raise OrderError("the router has lost the mapping")
    if order.deed is Deed.REMOVE:
        _call(router.deleteportmapping, order.external[0], _PROTOCOL)
        return Outcome()
    return Outcome("", _external(router), order.external[0], max(held[4], 0))


def _map(order: Order, router: "miniupnpc.UPnP") -> Outcome:
    lifetime, host = order.lifetime, _external(router)
    if not host:
        raise OrderError("the router tells no external address")
    for external in order.external:
        held = _entry(router, external)
        # A router may write over whatever is there: what is another's is left alone.
        if held is not None and not _is_ours(held, order, known=external == order.held):
            continue
        try:
            lifetime = _add(order, router, external, lifetime)
        except OrderError as refusal:
            if str(refusal) == _CONFLICT:
                continue
            if str(refusal) == _SAME_PORT_ONLY and external != order.port:
                continue
            raise
        held = _entry(router, external)
        # Some routers cannot look up one mapping; then the word of the first call counts.
        if held is not None:
            if not _is_ours(held, order, known=True):
                raise OrderError("the router gave the port to another machine")
            lifetime = max(held[4], 0)
        return Outcome("", host, external, lifetime)
    raise OrderError("every port that was asked for is another's")


def _add(order: Order, router: "miniupnpc.UPnP", external: int, lifetime: int) -> int:
    """Ask for one port; returns the lifetime that was taken. Raises OrderError."""
    words = (external, _PROTOCOL, order.own, order.port, DESCRIPTION, "")
    try:
        _call(router.addportmapping, *words, lifetime)
    except OrderError as refusal:
        if str(refusal) != _PERMANENT_ONLY or lifetime == 0:
            raise
        lifetime = 0
        _call(router.addportmapping, *words, lifetime)
    return lifetime


def _entry(router: "miniupnpc.UPnP", external: int) -> tuple[str, int, str, bool, int] | None:
    """Whom the router forwards a port to: address, port, description, whether it is on, and for how
    many seconds; None if to nobody."""
    found: tuple[str, int, str, bool, int] | None
    found = _call(router.getspecificportmapping, external, _PROTOCOL)
    return found


def _is_ours(held: tuple[str, int, str, bool, int], order: Order, *, known: bool) -> bool:
    """Whether a mapping leads to our port.

    A miniupnpd of 2022 says port 0 of every mapping; that will do where we are `known` to have made
    the mapping, or else it may be that of another program of this machine.
    """
    return held[0] == order.own and held[1] in ((order.port, 0) if known else (order.port,))


def _external(router: "miniupnpc.UPnP") -> str:
    """The router's external address, empty if it has none."""
    try:
        return str(ipaddress.IPv4Address(_call(router.externalipaddress)))
    except (OrderError, ValueError):
        return ""


def _call(call: Callable[..., Any], *arguments: object) -> Any:
    """Call miniupnpc, whose errors are bare exceptions with words of its own; UnicodeDecodeError
    comes of a router that answers in bytes that are none of UTF-8. Raises OrderError."""
    try:
        return call(*arguments)
    except MemoryError:
        raise OrderError("the router answers with too much") from None
    except Exception as error:
        text = str(error) if type(error) is Exception else "the router's answer makes no sense"
        raise OrderError("".join(x for x in text if " " <= x <= "~")[:100]) from None


if __name__ == "__main__":
    sys.exit(main(sys.argv))
