"""Servers that help through NATs, as people and URIs write them: text in, value out, and back.

    stun.example            stun.example:3479         [2001:db8::1]:3478
    turn:turn.example       turn:turn.example:3479?transport=tcp      turns:turn.example:443

Each reader raises ValueError with the reason, which repeats a few words of the text at most.
"""

import re
from typing import Final

from wgpy import ip
from wgpy.device.paths import Transport, TurnUri
from wgpy.device.uapi_values import shown

# As registered: stun and turn, by UDP or TCP; turns, by TLS.
STUN_PORT: Final = 3478
TLS_PORT: Final = 5349

# The letters of a DNS name (RFC 1035 section 2.3.1), and the underscore that people use in them.
_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?", re.ASCII)
_SCHEMES: Final = {"turn": STUN_PORT, "turns": TLS_PORT}
_PARAMETER: Final = "transport="


def parse_stun_server(text: str) -> tuple[str, int]:
    """A host, or an address, in brackets if it is IPv6, and a port if it is not 3478."""
    return _host_and_port(text, STUN_PORT)


def format_server(host: str, port: int) -> str:
    """`HOST:PORT`, with brackets where they are needed."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_turn_uri(text: str) -> TurnUri:
    """A URI of RFC 7065. Raises ValueError, also for a transport that is not spoken here: DTLS.

    Scheme and transport may be written in capitals (RFC 3986 section 6.2.2.1, RFC 5234 section
    2.3). Percent-encoding is refused: no name of a host has use for it.
    """
    scheme, colon, rest = text.partition(":")
    kind = scheme.lower()
    if not colon or kind not in _SCHEMES:
        raise ValueError(f"{shown(text)} begins neither with turn: nor with turns:")
    if rest.startswith("//"):
        raise ValueError(f"{shown(text)} has slashes, which this kind of URI has not")
    where, question, query = rest.partition("?")
    host, port = _host_and_port(where, _SCHEMES[kind])
    transport = Transport.UDP if kind == "turn" else Transport.TLS
    if question:
        if query[: len(_PARAMETER)].lower() != _PARAMETER:
            raise ValueError(f"{shown(text)} has something else than transport after its ?")
        wanted = query[len(_PARAMETER) :].lower()
        if wanted == "udp" and kind == "turns":
            raise ValueError(f"{shown(text)} asks for DTLS, which wgpy does not speak")
        if wanted not in ("udp", "tcp"):
            raise ValueError(f"{shown(text)} has a transport that is neither udp nor tcp")
        if wanted == "tcp" and kind == "turn":
            transport = Transport.TCP
    return TurnUri(host, port, transport)


def format_turn_uri(uri: TurnUri) -> str:
    """The URI, with its port, and with its transport where that is not what the scheme means."""
    scheme = "turns" if uri.transport is Transport.TLS else "turn"
    suffix = "?transport=tcp" if uri.transport is Transport.TCP else ""
    return f"{scheme}:{format_server(uri.host, uri.port)}{suffix}"


def _host_and_port(text: str, default: int) -> tuple[str, int]:
    """`host [ ":" port ]` of RFC 3986, where an empty port is the default as well."""
    if text.startswith("["):
        written, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{shown(text)} has something wrong with its brackets")
        if ":" not in written:
            raise ValueError(f"{shown(text)} has brackets around what is no IPv6 address")
        return _address(written), _port(rest[1:], default)
    host, colon, port = text.partition(":")
    if ":" in port:
        raise ValueError(f"{shown(text)} needs [brackets] around its IPv6 address")
    if not host or not _NAME.fullmatch(host):
        raise ValueError(f"{shown(host)} is no host name and no address")
    # No top-level domain is a number (RFC 3696 section 2): it is an address, or meant as one.
    if host.rstrip(".").rpartition(".")[2].isdigit():
        host = _address(host)
    return host, _port(port, default) if colon else default


def _address(written: str) -> str:
    try:
        return ip.address_text(ip.parse_address(written))
    except ValueError:
        raise ValueError(f"{shown(written)} is not an IP address") from None


def _port(text: str, default: int) -> int:
    if not text:
        return default
    if text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 0xFFFF:
        return int(text)
    raise ValueError(f"{shown(text)} is no port: ports are 1 to 65535")
