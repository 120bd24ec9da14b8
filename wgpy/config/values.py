"""Single values of a configuration: text in, value out. The same for both formats and for `set`.

What is accepted is what wg(8), wg-quick(8) and ip(8) accept, except where it could not work: a
port over 65,535 (getaddrinfo would cut it to 16 bits), a port of 0 to send to.
"""

import re
import socket
from pathlib import Path
from typing import Final, Literal

from wgpy.config.model import EndpointSpec, InterfaceAddress
from wgpy.ip import Prefix, parse_address

# What C calls white space. str.strip() would also take Unicode's.
WHITESPACE: Final = " \t\n\v\f\r"

# The kernel gives no TUN a smaller MTU (RFC 791: every module forwards 68 bytes).
MIN_MTU: Final = 68
# A UDP payload over IPv4 holds 65,507 bytes, of which the transport message's header and tag
# take 32.
MAX_MTU: Final = 65_475

# Longer than any value that is shown in a message has reason to be.
_SHOWN_LENGTH: Final = 60

_FWMARK: Final = re.compile(r"[0-9]+|0x[0-9a-fA-F]+", re.ASCII)
# Host names of the DNS, and the underscores that people use in them.
_HOST: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?", re.ASCII)
# A search domain; systemd's resolver takes a leading tilde for a routing-only domain.
_DOMAIN: Final = re.compile(r"~?[A-Za-z0-9_.-]{1,253}", re.ASCII)
_SCOPE: Final = re.compile(r"[A-Za-z0-9_=+.-]{1,15}", re.ASCII)

_TABLES: Final = {"default": 253, "main": 254, "local": 255}
_TABLE_FILES: Final = (
    "/etc/iproute2/rt_tables",
    "/usr/share/iproute2/rt_tables",
    "/usr/lib/iproute2/rt_tables",
)


class BadValueError(ValueError):
    """A value that is refused: the reason, and what to write instead (or None)."""

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(f"{reason}; {hint}" if hint else reason)
        self.reason = reason
        self.hint = hint


def shown(text: str) -> str:
    """`text` as a message shows it: quoted, printable and not too long. Not for secrets."""
    text = text if len(text) <= _SHOWN_LENGTH else text[: _SHOWN_LENGTH - 3] + "..."
    return repr(text)


def split_list(text: str) -> list[str]:
    """Words between commas and white space, as wg-quick(8) splits Address and DNS."""
    for char in WHITESPACE:
        text = text.replace(char, ",")
    return [word for word in text.split(",") if word]


def parse_port(text: str, *, zero: bool = True) -> int:
    """A UDP port by number or by service name; 0, if allowed, lets the system choose."""
    if not text:
        raise BadValueError("the port is empty", "write a number from 1 to 65535")
    if text.isascii() and text.isdigit():
        port = int(text) if len(text) <= 9 else 65_536
    else:
        try:
            port = socket.getservbyname(text, "udp")
        except (OSError, ValueError):
            raise BadValueError(
                f"{shown(text)} is no UDP port and no service's name",
                "write a number from 1 to 65535",
            ) from None
    if port > 65_535 or (port == 0 and not zero):
        raise BadValueError(f"the port {shown(text)} is out of range", "ports are 1 to 65535")
    return port


def parse_fwmark(text: str) -> int:
    """A mark of 32 bits, decimal or hexadecimal with `0x`; `off` is 0."""
    if text.lower() == "off":
        return 0
    if _FWMARK.fullmatch(text) and len(text) <= 32:
        mark = int(text[2:], 16) if text.startswith("0x") else int(text)
        if mark <= 0xFFFF_FFFF:
            return mark
    raise BadValueError(f"{shown(text)} is no mark", "write off, or a number up to 0xffffffff")


def parse_keepalive(text: str) -> int:
    """Seconds from 1 to 65,535; `off` and 0 are 0."""
    if text.lower() == "off":
        return 0
    if text.isascii() and text.isdigit() and len(text) <= 9 and int(text) <= 65_535:
        return int(text)
    raise BadValueError(
        f"{shown(text)} is no interval", "write off, or a number of seconds from 1 to 65535"
    )


def parse_endpoint(text: str) -> EndpointSpec:
    """`HOST:PORT`, `ADDRESS:PORT` or `[ADDRESS]:PORT`. Names are not looked up here."""
    hint = "write HOST:PORT, or [ADDRESS]:PORT for IPv6"
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket:
            raise BadValueError(f"{shown(text)} has a [ without its ]", hint)
        colon, port_text = rest[:1], rest[1:]
    else:
        host, colon, port_text = text.rpartition(":")
    if colon != ":" or not port_text:
        raise BadValueError(f"{shown(text)} has no port", hint)
    if not is_host(host):
        raise BadValueError(f"{shown(host)} is no address and no host name", hint)
    return EndpointSpec(host, parse_port(port_text, zero=False))


def is_host(text: str) -> bool:
    """Whether it can be an address, with a scope if it is IPv6, or a host name."""
    if ":" not in text:
        return _HOST.fullmatch(text) is not None
    address, percent, scope = text.partition("%")
    if percent and not _SCOPE.fullmatch(scope):
        return False
    return _is_address(address)


def _is_address(text: str) -> bool:
    try:
        parse_address(text)
    except ValueError:
        return False
    return True


def parse_network(text: str) -> tuple[bytes, int]:
    """`ADDRESS[/LENGTH]`: the bytes with their host bits, and the length in bits."""
    written, slash, length_text = text.partition("/")
    try:
        address = parse_address(written)
    except ValueError:
        raise BadValueError(
            f"{shown(text)} is no IP address with a prefix length",
            "write one like 10.0.0.1/24 or fd00::1/64",
        ) from None
    bits = len(address) * 8
    if not slash:
        return address, bits
    digits = length_text.isascii() and length_text.isdigit() and len(length_text) <= 9
    if not digits or int(length_text) > bits:
        raise BadValueError(
            f"{shown(text)} has a bad prefix length",
            f"after the slash of this address comes a number from 0 to {bits}",
        )
    return address, int(length_text)


def parse_interface_address(text: str) -> InterfaceAddress:
    """An address of the interface; without a length it stands alone."""
    return InterfaceAddress(*parse_network(text))


def parse_dns(text: str) -> tuple[str, bool]:
    """One word of DNS, and whether it is a server's address and not a search domain."""
    if ":" in text or re.fullmatch(r"[0-9.]+", text, re.ASCII):
        address, percent, scope = text.partition("%")
        if _is_address(address) and (not percent or (":" in text and _SCOPE.fullmatch(scope))):
            return text, True
        raise BadValueError(f"{shown(text)} is no server's address", "write an IP address")
    if _DOMAIN.fullmatch(text):
        return text, False
    raise BadValueError(f"{shown(text)} is no search domain", "write a server's address or a name")


def check_mtu(mtu: int) -> int:
    """An MTU that a tunnel can have, in bytes."""
    if mtu < MIN_MTU:
        raise BadValueError(f"an MTU of {mtu} is too small", f"write {MIN_MTU} to {MAX_MTU}")
    if mtu > MAX_MTU:
        raise BadValueError(
            f"an MTU of {mtu} does not fit into one UDP datagram", f"write {MIN_MTU} to {MAX_MTU}"
        )
    return mtu


def parse_mtu(text: str) -> int:
    """An MTU in bytes, decimal."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise BadValueError(f"{shown(text)} is no MTU", "write a number of bytes, such as 1420")
    return check_mtu(int(text))


def parse_table(text: str) -> Literal["auto", "off"] | int:
    """`auto`, `off`, or a routing table by number or by the name that iproute2 knows it by."""
    match text.lower():
        case "auto":
            return "auto"
        case "off":
            return "off"
    if _FWMARK.fullmatch(text) and len(text) <= 32:
        number = int(text[2:], 16) if text.startswith("0x") else int(text)
        return check_table(number)
    if text in _TABLES:
        return _TABLES[text]
    for path in _TABLE_FILES:
        number = _table_in_file(Path(path), text)
        if number:
            return number
    raise BadValueError(f"{shown(text)} is no routing table", "write auto, off or a number")


def check_table(number: int) -> int:
    """A routing table by number. The kernel takes 0 for main (254)."""
    if not 0 <= number <= 0xFFFF_FFFF:
        raise BadValueError(f"there is no routing table {number}", "write auto, off or a number")
    return number or _TABLES["main"]


def _table_in_file(path: Path, name: str) -> int:
    """The number of a table named in iproute2's file of them; 0 when it is not."""
    try:
        text = path.read_text("utf-8", "replace")
    except OSError:
        return 0
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) == 2 and words[1] == name and words[0].isdecimal():
            return int(words[0])
    return 0


def has_host_bits(address: bytes, prefix: Prefix) -> bool:
    """Whether the address as written has a bit set that the prefix leaves out."""
    return address != prefix.address
