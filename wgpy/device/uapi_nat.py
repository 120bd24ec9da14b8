"""The values of wgpy's own keys about ways through NATs: one line of JSON each, and back.

    wgpy_nat={"stun":["stun.example:3478"],"portmap":true,"turn":[{"uris":["turns:.."],..}],..}
    wgpy_path={"kind":"relay","relay":"turn:turn.example:3478","round_trip":0.061,..}   (in answers)
    wgpy_way={"candidates":[["host","192.168.1.20:51820"]],"mapping":"..",..}             (same)

Files are named by absolute paths, and no secret is in here. Each reader raises ValueError and
nothing else (uapi_json.py).
"""

from typing import Final, TypeVar

from wgpy.device.paths import (
    MAX_OFFER_LENGTH,
    MAX_STUN_SERVERS,
    MAX_TURN_SERVERS,
    MAX_TURN_URIS,
    MAX_USERNAME_LENGTH,
    NatSettings,
    NatState,
    PathKind,
    PathState,
    TurnSettings,
    TurnUri,
)
from wgpy.device.servers import (
    format_server,
    format_turn_uri,
    parse_stun_server,
    parse_turn_uri,
)
from wgpy.device.uapi import Address
from wgpy.device.uapi_json import (
    Fields,
    as_path,
    as_text,
    check_length,
    dump_json,
    load_json,
    named,
)
from wgpy.device.uapi_values import MAX_U16, parse_endpoint, shown

# We tell others of ten at the most; what an answer has of them is for a person to read.
MAX_CANDIDATES: Final = 32
# What a person reads in one line.
_MAX_REASON: Final = 200
# A day: whatever takes longer is no round trip.
_MAX_SECONDS: Final = 86_400.0

T = TypeVar("T")


def format_nat(settings: NatSettings) -> str:
    """One line of JSON. Raises UapiError (EMSGSIZE) if the settings name too much for one."""
    value = {
        "stun": [format_server(*server) for server in settings.stun],
        "turn": [_turn_value(turn) for turn in settings.turn],
        "portmap": settings.portmap,
        "signal": settings.signal,
        "birthday": settings.birthday,
        "relay_only": settings.relay_only,
    }
    return dump_json({key: x for key, x in value.items() if x is not None}, "the paths of [nat]")


def parse_nat(text: str, *, exact: bool = True) -> NatSettings:
    """Read what `format_nat` writes. Raises ValueError."""
    fields = Fields(load_json(text), exact)
    settings = NatSettings(
        stun=_at_most(MAX_STUN_SERVERS, "stun", fields.each("stun", _stun)),
        turn=_at_most(
            MAX_TURN_SERVERS, "turn", fields.each("turn", lambda value: _turn(value, exact))
        ),
        portmap=fields.flag("portmap", default=True),
        signal=fields.optional("signal", as_path),
        birthday=fields.flag("birthday"),
        relay_only=fields.flag("relay_only"),
    )
    fields.finish()
    check_length(format_nat, settings)
    return settings


def _turn_value(turn: TurnSettings) -> dict[str, object]:
    value = {
        "uris": [format_turn_uri(uri) for uri in turn.uris],
        "username": turn.username or None,
        "password_file": turn.password_file,
        "secret_file": turn.secret_file,
        "ca": turn.ca_file,
    }
    return {key: x for key, x in value.items() if x is not None}


def _turn(value: object, exact: bool) -> TurnSettings:
    fields = Fields(value, exact)
    turn = TurnSettings(
        uris=_at_most(MAX_TURN_URIS, "uris", fields.each("uris", _turn_uri)),
        username=fields.optional("username", as_username) or "",
        password_file=fields.optional("password_file", as_path),
        secret_file=fields.optional("secret_file", as_path),
        ca_file=fields.optional("ca", as_path),
    )
    fields.finish()
    if not turn.uris:
        raise ValueError("a TURN server has no uris")
    if (turn.password_file is None) == (turn.secret_file is None):
        raise ValueError("a TURN server has a password_file or a secret_file")
    if turn.password_file is not None and not turn.username:
        raise ValueError("a password_file goes with a username")
    return turn


def as_username(value: object) -> str:
    """A user's name at a TURN server: printable, at most 508 bytes of UTF-8 (RFC 8489)."""
    text = as_text(value)
    if len(text.encode()) > MAX_USERNAME_LENGTH:
        raise ValueError(f"it is over {MAX_USERNAME_LENGTH} bytes")
    return text


def _stun(value: object) -> tuple[str, int]:
    return parse_stun_server(as_text(value))


def _turn_uri(value: object) -> TurnUri:
    return parse_turn_uri(as_text(value))


def _at_most(limit: int, key: str, values: tuple[T, ...]) -> tuple[T, ...]:
    if len(values) > limit:
        raise ValueError(f"{key} has more than {limit} entries")
    return values


# --- What is shown ---


def format_path(path: PathState) -> str:
    """One line of JSON."""
    value = {
        "kind": path.kind.value,
        "place": None if path.place is None else str(path.place),
        "relay": None if path.relay is None else format_turn_uri(path.relay),
        "round_trip": path.round_trip,
        "loss": path.loss or None,
        "mtu": path.mtu or None,
        "reason": _line(path.reason) or None,
    }
    return dump_json({key: x for key, x in value.items() if x is not None}, "the path")


def parse_path(text: str) -> PathState:
    """Read what `format_path` writes; unknown fields are passed over. Raises ValueError."""
    fields = Fields(load_json(text), exact=False)
    return PathState(
        kind=PathKind(fields.text("kind")),
        place=fields.optional("place", _address),
        relay=fields.optional("relay", _turn_uri),
        round_trip=fields.optional("round_trip", lambda value: _number(value, _MAX_SECONDS)),
        loss=fields.optional("loss", lambda value: _number(value, 1.0)) or 0.0,
        mtu=fields.optional("mtu", _mtu) or 0,
        reason=fields.optional("reason", _sentence) or "",
    )


def format_way(state: NatState) -> str:
    """One line of JSON. Of the candidates, the first 32."""
    value = {
        "candidates": [[kind, str(at)] for kind, at in state.candidates[:MAX_CANDIDATES]],
        "mapping": _line(state.mapping) or None,
        "portmap": _line(state.portmap) or None,
        "keepalive": state.keepalive or None,
    }
    return dump_json({key: x for key, x in value.items() if x is not None}, "the candidates")


def parse_way(text: str) -> NatState:
    """Read what `format_way` writes; unknown fields are passed over. Raises ValueError."""
    fields = Fields(load_json(text), exact=False)
    return NatState(
        candidates=_at_most(MAX_CANDIDATES, "candidates", fields.each("candidates", _candidate)),
        mapping=fields.optional("mapping", _sentence) or "",
        portmap=fields.optional("portmap", _sentence) or "",
        keepalive=fields.optional("keepalive", lambda value: _number(value, _MAX_SECONDS)) or 0.0,
    )


def parse_offer(text: str) -> str:
    """An offer as a person carries it: 1 to 2,048 printable characters of ASCII, without spaces.

    What it says is for others to read.
    """
    if not text or len(text) > MAX_OFFER_LENGTH:
        raise ValueError(f"an offer has 1 to {MAX_OFFER_LENGTH} characters, and this {len(text)}")
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError("an offer has letters, digits and signs, and nothing else")
    return text


def _line(text: str) -> str:
    """A text of the daemon's, fit for an answer."""
    return "".join(char if char.isprintable() else "?" for char in text[:_MAX_REASON])


def _sentence(value: object) -> str:
    return _line(as_text(value))


def _address(value: object) -> Address:
    return parse_endpoint(as_text(value))


def _candidate(value: object) -> tuple[str, Address]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("it is no kind with an address")
    return named("kind", as_text, value[0]), _address(value[1])


def _number(value: object, limit: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= limit:
        raise ValueError(f"{shown(repr(value))} is no number of 0 to {limit:g}")
    return float(value)


def _mtu(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_U16:
        raise ValueError(f"{shown(repr(value))} is no number of bytes")
    return value
