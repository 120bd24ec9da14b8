"""UPnP Internet Gateway Devices: found by SSDP, and spoken to by a process of its own.

The search and its answers are HTTP headers in datagrams (UPnP Device Architecture 1.1, 1.3):

    M-SEARCH * HTTP/1.1                            HTTP/1.1 200 OK
    HOST: 239.255.255.250:1900                     LOCATION: http://192.168.1.1:5000/rootDesc.xml
    MAN: "ssdp:discover"                           ...
    MX: 1
    ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1

Only what the gateway itself says of itself is taken. All that follows is SOAP over HTTP, which
miniupnpc speaks, in C and with no bound on what a router may send: so it runs in a process without
privileges and with limits (upnp_worker.py), for one order, and is killed when it takes too long.
An order and its outcome are one line of JSON each. What reads bytes raises ParseError and nothing
else.
"""

import ipaddress
import json
import re
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Final
from urllib.parse import urlsplit

from wgpy.nat.place import Place
from wgpy.protocol.messages import ParseError

SSDP: Final = Place("239.255.255.250", 1900)
# The two kinds of device that every gateway answers for, also those of later versions.
TARGETS: Final = (
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "upnp:rootdevice",
)
# Datagrams of SSDP are a few hundred bytes; nothing longer than a frame is read.
MAX_ANSWER: Final = 1_500
# miniupnpc keeps host names in 64 bytes and requests in 2,048.
MAX_URL: Final = 512
# An outcome has 200.
MAX_OUTCOME: Final = 4_096
# What a router shows beside our mapping.
DESCRIPTION: Final = "wgpy"

_URL: Final = re.compile(r"[!-~]+")
_HEADER: Final = re.compile(rb"([!-9;-~]{1,64}):[ \t]*(.*?)[ \t]*")


def pack_search(target: str, host: str = "239.255.255.250") -> bytes:
    """A search for `target`: to everyone, or to one device whose address `host` is."""
    lines = (
        "M-SEARCH * HTTP/1.1",
        f"HOST: {host}:1900",
        'MAN: "ssdp:discover"',
        # Seconds that a device may wait before it answers; less cannot be said.
        "MX: 1",
        f"ST: {target}",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def parse_answer(data: bytes, gateway: str) -> str:
    """The URL of a gateway's description out of an answer to a search. Raises ParseError.

    A URL that leads to another host than `gateway` has the reason `elsewhere`.
    """
    if len(data) > MAX_ANSWER:
        raise ParseError(f"{len(data)} bytes are too many for an answer to a search")
    first, *rest = data.split(b"\r\n")
    if not re.fullmatch(rb"HTTP/1\.[01] 200( .*)?", first, re.DOTALL):
        raise ParseError("no answer to a search")
    for line in rest:
        header = _HEADER.fullmatch(line)
        if header and header[1].upper() == b"LOCATION":
            return _check_url(header[2], gateway)
    raise ParseError("an answer to a search without a place")


def _check_url(text: bytes, gateway: str) -> str:
    try:
        url = text.decode("ascii")
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ParseError("the place of a description is no URL") from None
    if len(url) > MAX_URL or not _URL.fullmatch(url) or not url.startswith("http://"):
        raise ParseError("the place of a description is no URL for us")
    if "@" in parts.netloc or port == 0 or not parts.path.startswith("/"):
        raise ParseError("the place of a description is no URL for us")
    if not same_host(parts.hostname or "", gateway):
        raise ParseError("the gateway's description is said to be elsewhere", "elsewhere")
    return url


def same_host(host: str, gateway: str) -> bool:
    """Whether a host of a URL is this address; a name never is."""
    try:
        return ipaddress.ip_address(host) == ipaddress.ip_address(gateway)
    except ValueError:
        return False


class Deed(Enum):
    """What an order is for."""

    LOOK = "look"
    MAP = "map"
    CHECK = "check"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Order:
    """What the worker is to do at the gateway whose description is at `url`.

    `own` is our address, whose UDP port `port` is meant. `external` are ports at the router, the
    best first: MAP takes the first that nobody has, the others look only at the first. `held` is
    the one that we know to be ours, or 0. `lifetime` is in seconds.
    """

    deed: Deed
    url: str
    gateway: str
    own: str
    port: int = 0
    external: tuple[int, ...] = ()
    held: int = 0
    lifetime: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an order.

    `refusal` says in words why it failed, and is empty if it did not. After MAP and CHECK, `port`
    is the port at the router that is ours, and `lifetime` seconds, 0 if it is not limited. `host`
    is the router's external address, empty if it does not say.
    """

    refusal: str = ""
    host: str = ""
    port: int = 0
    lifetime: int = 0


def order_text(order: Order) -> str:
    """An order as JSON."""
    return json.dumps({**asdict(order), "deed": order.deed.value})


def parse_order(text: str) -> Order:
    """An order as the worker reads it; it comes from us. Raises ValueError, KeyError, TypeError."""
    fields = json.loads(text)
    return Order(**{**fields, "deed": Deed(fields["deed"]), "external": tuple(fields["external"])})


def outcome_text(outcome: Outcome) -> str:
    """An outcome as JSON."""
    return json.dumps(asdict(outcome))


def parse_outcome(data: bytes) -> Outcome:
    """An outcome from the worker, which has read what a stranger wrote. Raises ParseError."""
    if len(data) > MAX_OUTCOME:
        raise ParseError(f"{len(data)} bytes are too many for an outcome")
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise ParseError("an outcome that is no JSON") from None
    names = {"refusal": str, "host": str, "port": int, "lifetime": int}
    if not isinstance(fields, dict) or set(fields) != set(names):
        raise ParseError("an outcome has four members")
    if any(type(fields[name]) is not kind for name, kind in names.items()):
        raise ParseError("an outcome has two texts and two numbers")
    outcome = Outcome(**fields)
    if not 0 <= outcome.port <= 0xFFFF or not 0 <= outcome.lifetime <= 0xFFFFFFFF:
        raise ParseError("an outcome with numbers that a router has not")
    if outcome.host:
        try:
            ipaddress.IPv4Address(outcome.host)
        except ValueError:
            raise ParseError("an outcome with an address that is none") from None
    if not re.fullmatch(r"[ -~]{0,200}", outcome.refusal):
        raise ParseError("an outcome with words that cannot be shown")
    return outcome
