"""What a node and a coordinator say to each other: messages, and their one JSON form.

`encode` writes a message as UTF-8 JSON and `decode` reads one of the kind that is expected, with
exactly its members; docs/protocol.md lists them. On a WebSocket each message has the member `type`
besides (`encode_event`, `decode_event`), one of the names in EVENTS. Whatever is read, WireError is
the only exception.
"""

import json
from collections.abc import Callable
from enum import Enum
from typing import Any, Final, NamedTuple, TypeVar

from wgpy.identity.jose import JsonError, load_object
from wgpy.identity.profile import MAX_ADDRESSES
from wgpy.ip import Prefix
from wgpy.keys import PublicKey
from wgpy.mesh import fields, records, settings
from wgpy.mesh.fields import RecordError
from wgpy.mesh.messages import (
    Changed,
    Clock,
    Directory,
    Done,
    EnrolRequest,
    Joined,
    Map,
    MapNode,
    MapPath,
    NodeView,
    OfferRequest,
    Passed,
    Path,
    PathKind,
    Refusal,
    RenewRequest,
    Report,
    SignalAnswer,
    Signalled,
    SignalRequest,
    TurnCredentials,
    Waiting,
)
from wgpy.mesh.records import NodeState, Revocation

# TCP, on the coordinator's tunnel addresses.
PORT: Final = 7100
# The largest that a node has to say is a report: 250 paths of 230 bytes at the most.
MAX_BODY: Final = 64 * 1024
# 500 nodes of 3 kilobytes each, and revocation lists beside them.
MAX_ANSWER: Final = 8 << 20
# Nodes and revocations in one page.
MAX_PAGE: Final = 500
# A list with 10,000 entries, as many as a node takes (identity/denylist.py), has under this.
MAX_CRL: Final = 1 << 20
# One issuer, and one while a key is rotated; more have no use.
MAX_LISTS: Final = 4
MAX_INTERMEDIATES: Final = 4
MAX_ANCHORS: Final = 4
# An authority's certificate has many constraints, and stands in no handshake message.
MAX_AUTHORITY: Final = 8 * 1024
# nat/signal.py: a sealed signal has this length, whatever it says.
SIGNAL_LENGTH: Final = 353
MAX_REPORTED: Final = 250
# As many as a map shows; who is told of more leaves out the oldest.
MAX_PATHS: Final = 20_000
MAX_MAP_NODES: Final = 5_000

_MAX_HOSTNAME: Final = 253
_MAX_SENTENCE: Final = 500
_MAX_WORD: Final = 40
# An IPv6 address, a zone and a port.
_MAX_VIA: Final = 80
_MAX_URI: Final = 300
# An hour: nothing that answers takes longer.
_MAX_RTT: Final = 3_600_000.0
_MAX_SECRET: Final = 512

_T = TypeVar("_T")


class WireError(ValueError):
    """What came is no message of the kind that was expected; says why in one line."""


class Form(NamedTuple):
    """How one member is written and read; `read` is told the member's name for its reasons."""

    write: Callable[[Any], Any]
    read: Callable[[object, str], Any]


def _same(value: object) -> object:
    return value


def _list(form: Form, most: int) -> Form:
    return Form(
        lambda values: [form.write(x) for x in values],
        lambda value, what: tuple(form.read(x, what) for x in fields.items(value, most, what)),
    )


def _distinct(form: Form, most: int) -> Form:
    return Form(
        lambda values: [form.write(x) for x in values],
        lambda value, what: fields.each(value, most, what, form.read),
    )


def _optional(form: Form) -> Form:
    return Form(
        lambda value: None if value is None else form.write(value),
        lambda value, what: fields.optional(value, what, form.read),
    )


def _text(most: int) -> Form:
    return Form(_same, lambda value, what: fields.text(value, most, what))


def _octets(most: int) -> Form:
    return Form(fields.octets_text, lambda value, what: fields.octets(value, most, what))


def _sentence(value: object, what: str) -> str:
    """A person's name may be in it, in whatever letters."""
    if not isinstance(value, str) or len(value) > _MAX_SENTENCE or not value.isprintable():
        raise RecordError(f"{what} is no sentence")
    return value


def _signal(value: object, what: str) -> bytes:
    found = fields.octets(value, SIGNAL_LENGTH, what)
    if len(found) != SIGNAL_LENGTH:
        raise RecordError(f"{what} has not {SIGNAL_LENGTH} bytes")
    return found


def _between(least: float, most: float) -> Form:
    def read(value: object, what: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RecordError(f"{what} is no number")
        if not least <= value <= most:
            raise RecordError(f"{what} is not between {least:g} and {most:g}")
        return float(value)

    return Form(_same, read)


def _word(kind: type[Enum]) -> Form:
    def read(value: object, what: str) -> Enum:
        for member in kind:
            if member.value == value:
                return member
        raise RecordError(f"{what} is none of {', '.join(x.value for x in kind)}")

    return Form(lambda value: value.value, read)


def _pending(value: object, what: str) -> NodeState:
    if value != NodeState.PENDING.value:
        raise RecordError(f"{what} is not pending")
    return NodeState.PENDING


def _address(value: object, what: str) -> Prefix:
    found = fields.prefix(value, what)
    if found.length != 8 * len(found.address):
        raise RecordError(f"{what} has what is no whole address")
    return found


def _write(message: object) -> dict[str, Any]:
    forms = _FORMS[type(message)]
    return {name: form.write(getattr(message, name)) for name, form in forms.items()}


def _read(kind: type[_T], value: object, what: str) -> _T:
    forms = _FORMS[kind]
    found = fields.members(value, forms, what)
    return kind(**{name: form.read(found[name], name) for name, form in forms.items()})


def _message(kind: type) -> Form:
    def read(value: object, what: str) -> object:
        return _read(kind, value, what)

    return Form(_write, read)


_FLAG: Final = Form(_same, fields.flag)
_TIME: Final = Form(_same, fields.time)
_NUMBER: Final = Form(_same, lambda value, what: fields.number(value, 0, fields.MAX_NUMBER, what))
_NAME: Final = Form(_same, fields.name)
_KEY: Final = Form(PublicKey.base64, fields.key)
_PREFIXES: Final = Form(fields.texts, fields.prefixes)
_SETTINGS: Final = Form(
    settings.settings_to_json, lambda value, _what: settings.settings_from_json(value)
)
_REVOCATION: Final = Form(
    records.revocation_to_json, lambda value, _what: records.revocation_from_json(value)
)

_FORMS: Final[dict[type, dict[str, Form]]] = {
    Clock: {"time": _TIME},
    Refusal: {
        "error": _text(_MAX_WORD),
        "message": Form(_same, _sentence),
        "time": _optional(_TIME),
    },
    EnrolRequest: {"hostname": _text(_MAX_HOSTNAME), "name": _optional(_NAME)},
    RenewRequest: {"force": _FLAG},
    NodeView: {
        "name": _NAME,
        "key": _KEY,
        "addresses": _distinct(Form(str, _address), MAX_ADDRESSES),
        "groups": Form(list, fields.groups),
        "routes": _PREFIXES,
        "certificate": _optional(_octets(fields.MAX_CERTIFICATE)),
        "state": _word(NodeState),
        "expires": _optional(_TIME),
        "coordinator": _FLAG,
        "revision": _NUMBER,
    },
    Joined: {
        "certificate": _octets(fields.MAX_CERTIFICATE),
        "intermediates": _distinct(_octets(MAX_AUTHORITY), MAX_INTERMEDIATES),
        "cas": _distinct(_octets(MAX_AUTHORITY), MAX_ANCHORS),
        "settings": _SETTINGS,
        "node": _message(NodeView),
    },
    Waiting: {"state": Form(lambda value: value.value, _pending)},
    Directory: {
        "since": _NUMBER,
        "revision": _NUMBER,
        "reset": _FLAG,
        "more": _FLAG,
        "nodes": _list(_message(NodeView), MAX_PAGE),
        "revocations": _list(_REVOCATION, MAX_PAGE),
        "crl": _distinct(_octets(MAX_CRL), MAX_LISTS),
        "settings": _optional(_SETTINGS),
    },
    SignalRequest: {"to": _KEY, "data": Form(fields.octets_text, _signal)},
    SignalAnswer: {"delivered": _FLAG},
    OfferRequest: {"offers": _PREFIXES},
    Path: {
        "key": _KEY,
        "kind": _word(PathKind),
        "via": _optional(_text(_MAX_VIA)),
        "rtt_ms": _optional(_between(0.0, _MAX_RTT)),
        "loss": _optional(_between(0.0, 1.0)),
    },
    Report: {"paths": _list(_message(Path), MAX_REPORTED)},
    MapNode: {"name": _NAME, "key": _KEY, "connected": _FLAG},
    MapPath: {"of": _KEY, "path": _message(Path), "at": _TIME},
    Map: {
        "nodes": _list(_message(MapNode), MAX_MAP_NODES),
        "paths": _list(_message(MapPath), MAX_PATHS),
    },
    TurnCredentials: {
        "username": _text(_MAX_SECRET),
        "password": _text(_MAX_SECRET),
        "expires": _TIME,
        "uris": _distinct(_text(_MAX_URI), settings.MAX_TURN),
    },
    Done: {},
    Passed: {
        "origin": _text(_MAX_WORD),
        "to": _KEY,
        "sender": _KEY,
        "data": Form(fields.octets_text, _signal),
    },
    Changed: {"revision": _NUMBER, "page": _optional(_message(Directory))},
    Signalled: {"sender": _KEY, "data": Form(fields.octets_text, _signal)},
}

# What a coordinator says on a WebSocket, and what a node says there: by the member `type`.
PUSHED: Final[dict[str, type]] = {"changed": Changed, "signal": Signalled}
SENT: Final[dict[str, type]] = {"signal": SignalRequest, "report": Report}
KINDS: Final = tuple(_FORMS)


def to_json(message: object) -> dict[str, Any]:
    """The JSON object of a message, as `encode` writes it."""
    return _write(message)


def encode(message: object) -> bytes:
    """A message as UTF-8 JSON."""
    return _dump(_write(message))


def decode(kind: type[_T], raw: bytes) -> _T:
    """The message of this kind that `raw` is. Raises WireError."""
    return _checked(kind, _load(raw))


def encode_revocation(revocation: Revocation) -> bytes:
    """A revocation as it stands in a directory."""
    return _dump(_REVOCATION.write(revocation))


def encode_event(message: object) -> bytes:
    """A message for a WebSocket, with its `type`."""
    for kinds in (PUSHED, SENT):
        for name, kind in kinds.items():
            if type(message) is kind:
                return _dump({"type": name, **_write(message)})
    raise TypeError(f"{type(message).__name__} is no event")


def decode_event(kinds: dict[str, type], raw: bytes) -> Any:
    """The event that `raw` is, one of `kinds`: PUSHED for a node, SENT for a coordinator.

    Raises WireError.
    """
    value = _load(raw)
    kind = value.pop("type", None)
    if not isinstance(kind, str) or kind not in kinds:
        raise WireError("its type is none that is known here")
    return _checked(kinds[kind], value)


def _checked(kind: type[_T], value: object) -> _T:
    try:
        return _read(kind, value, "it")
    except RecordError as error:
        raise WireError(str(error)) from None


def _load(raw: bytes) -> dict[str, Any]:
    try:
        return load_object(raw)
    except JsonError as error:
        raise WireError(f"it is {error}") from None


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
