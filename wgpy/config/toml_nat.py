"""What each key of [nat] in wgpy.toml does with its value.

Passwords and secrets of TURN servers are in files of their own, which go to the daemon by their
absolute paths: it reads them. Here they are read for their errors and warnings.
"""

import os
from collections.abc import Callable, Mapping
from typing import Final

from wgpy.config.draft_nat import NatDraft
from wgpy.config.toml_keys import Value
from wgpy.config.toml_parts import elements, fields_of, file_path, read_part, required
from wgpy.config.values import BadValueError, shown
from wgpy.device.paths import (
    MAX_STUN_SERVERS,
    MAX_TURN_SERVERS,
    MAX_TURN_URIS,
    MAX_USERNAME_LENGTH,
    TurnSettings,
    TurnUri,
)
from wgpy.device.servers import parse_stun_server, parse_turn_uri
from wgpy.keys import KeyFormatError, exposure_warning, read_password

# The keys of a TURN server.
TURN: Final = ("uris", "username", "password_file", "secret_file", "ca")


def _nat(item: Value) -> NatDraft:
    assert item.draft.nat is not None, "a key of [nat] is read with its table"
    return item.draft.nat


def _stun(item: Value) -> None:
    def read(text: str, _line: int | None) -> None:
        try:
            _nat(item).stun.append(parse_stun_server(text))
        except ValueError as error:
            raise BadValueError(str(error), "write HOST, or HOST:PORT") from None

    item.each(read)
    if len(_nat(item).stun) > MAX_STUN_SERVERS:
        raise BadValueError(f"has more than {MAX_STUN_SERVERS} servers", "two suffice")


def _portmap(item: Value) -> None:
    _nat(item).portmap = item.flag()


def _signal(item: Value) -> None:
    path = os.path.abspath(item.path())
    try:
        found = os.path.isdir(path)
    except ValueError:
        found = False
    if not found:
        raise BadValueError(f"{shown(path)} is no directory", "make it, and let the peers share it")
    _nat(item).signal = path


def _birthday(item: Value) -> None:
    nat = _nat(item)
    nat.birthday, nat.birthday_line = item.flag(), item.line


def _relay_only(item: Value) -> None:
    nat = _nat(item)
    nat.relay_only, nat.relay_only_line = item.flag(), item.line


# --- [[nat.turn]] ---


def _turn(item: Value) -> None:
    servers = elements(item)
    if len(servers) > MAX_TURN_SERVERS:
        raise BadValueError(f"has more than {MAX_TURN_SERVERS} servers", "leave some out")
    for server in servers:
        _nat(item).turn.append(read_part(server, _server))


def _server(item: Value) -> TurnSettings:
    fields = fields_of(item, TURN)
    uris = required(item, fields, "uris", _uris)
    username = read_part(fields["username"], _username) if "username" in fields else ""
    password, secret = (_secret(fields, key) for key in ("password_file", "secret_file"))
    if (password is None) == (secret is None):
        reason = "has neither password_file nor secret_file" if password is None else "has both"
        raise BadValueError(
            reason, "write password_file, or secret_file for a secret shared with the server"
        )
    if password is not None and not username:
        raise BadValueError("has a password_file and no username", 'write username = "..."')
    return TurnSettings(
        uris=uris,
        username=username,
        password_file=password,
        secret_file=secret,
        ca_file=read_part(fields["ca"], file_path) if "ca" in fields else None,
    )


def _uris(item: Value) -> tuple[TurnUri, ...]:
    found = []

    def read(text: str, _line: int | None) -> None:
        try:
            found.append(parse_turn_uri(text))
        except ValueError as error:
            raise BadValueError(
                str(error), "write turn:HOST, turn:HOST:PORT?transport=tcp or turns:HOST:PORT"
            ) from None

    item.each(read)
    if not 0 < len(found) <= MAX_TURN_URIS:
        raise BadValueError(f"has {len(found)} URIs", f"write 1 to {MAX_TURN_URIS}")
    return tuple(dict.fromkeys(found))


def _username(item: Value) -> str:
    name = item.text()
    if not name.isprintable() or not 0 < len(name.encode()) <= MAX_USERNAME_LENGTH:
        raise BadValueError(
            "is no user's name", f"write up to {MAX_USERNAME_LENGTH} bytes of printable text"
        )
    return name


def _secret(fields: Mapping[str, Value], key: str) -> str | None:
    return read_part(fields[key], _secret_path) if key in fields else None


def _secret_path(item: Value) -> str:
    path = file_path(item)
    try:
        read_password(path)
    except OSError as error:
        raise BadValueError(f"cannot read {shown(path)}: {error.strerror}") from None
    except KeyFormatError as error:
        raise BadValueError(f"{shown(path)}: {error}", "write it there in one line") from None
    warning = exposure_warning(path)
    if warning is not None:
        item.draft.warn(item.line, item.key, warning)
    return path


NAT: Final[dict[str, Callable[[Value], None]]] = {
    "stun": _stun,
    "turn": _turn,
    "portmap": _portmap,
    "signal": _signal,
    "birthday": _birthday,
    "relay_only": _relay_only,
}
