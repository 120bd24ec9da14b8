"""Single values of the userspace API: a number, an address and port, a prefix. Text in, value out.

Each reader raises ValueError with the reason, which repeats a few words of the text at most.
"""

import errno
import re
from typing import Final

from wgpy import ip
from wgpy.device.uapi import Address, UapiError

MAX_U16: Final = (1 << 16) - 1
MAX_U32: Final = (1 << 32) - 1
MAX_U64: Final = (1 << 64) - 1

# 2**64 has 20 digits; int() itself would refuse texts over 4,300 digits with another message.
_MAX_DIGITS: Final = 20
# An interface's name (IFNAMSIZ less its zero byte): printable ASCII without % / [ \ and ].
_SCOPE: Final = re.compile(r"[!-$&-.0-Z^-~]{1,15}")
# The letters of a DNS name (RFC 1035 section 2.3.1), and the underscore that people use in them.
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,253}")


def shown(text: str) -> str:
    """`text` as a message shows it: quoted, and cut where an address has ended long since."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def parse_number(text: str, limit: int) -> int:
    """Decimal digits and nothing else, from 0 to `limit`. Raises ValueError."""
    if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS:
        number = int(text)
        if number <= limit:
            return number
    raise ValueError(f"{shown(text)} is no decimal number of 0 to {limit}")


def parse_true(text: str) -> bool:
    """`true`, the only value that the switches of the protocol know. Raises ValueError."""
    if text != "true":
        raise ValueError(f"{shown(text)} is not `true`, the only value it has")
    return True


def parse_bool(text: str) -> bool:
    """`true` or `false`. Raises ValueError."""
    if text not in ("true", "false"):
        raise ValueError(f"{shown(text)} is neither `true` nor `false`")
    return text == "true"


def parse_endpoint(text: str) -> Address:
    """Read `1.2.3.4:51820` or `[fe80::1%eth0]:51820`. Raises ValueError.

    The address comes out in its usual spelling, so that equal ones are equal texts.
    """
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(f"{shown(text)} is no ADDRESS:PORT")
    number = parse_number(port, MAX_U16)
    if not (host.startswith("[") and host.endswith("]")):
        if ":" in host:
            raise ValueError(f"{shown(text)} needs [brackets] around its IPv6 address")
        return Address(_canonical(host), number)
    written, percent, scope = host[1:-1].partition("%")
    if ":" not in written:
        raise ValueError(f"{shown(text)} has brackets around what is no IPv6 address")
    if percent and not _SCOPE.fullmatch(scope):
        raise ValueError(f"{shown(text)} has no interface's name after its %")
    return Address(_canonical(written) + percent + scope, number)


def _canonical(written: str) -> str:
    try:
        return ip.address_text(ip.parse_address(written))
    except ValueError:
        raise ValueError(f"{shown(written)} is not an IP address") from None


def parse_name(text: str) -> tuple[str, int]:
    """Read `HOST:PORT`, a DNS name and a port to look up again. Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not _HOST_NAME.fullmatch(host):
        raise ValueError(f"{shown(text)} is no HOST:PORT")
    return host, parse_number(port, MAX_U16)


def format_name(name: tuple[str, int]) -> str:
    """Write `HOST:PORT`. Raises UapiError (EINVAL) for a host that is no DNS name."""
    host, port = name
    # A line feed in a name would write lines of its own into the request.
    if not _HOST_NAME.fullmatch(host):
        raise UapiError(errno.EINVAL, f"{shown(host)} is no host name")
    return f"{host}:{port}"


def parse_prefix(text: str) -> ip.Prefix:
    """Read `ADDRESS/LENGTH`; the length may not be left out here. Raises ValueError."""
    if "/" not in text:
        raise ValueError(f"{shown(text)} has no prefix length")
    try:
        return ip.parse_prefix(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is no IP address with a prefix length") from None
