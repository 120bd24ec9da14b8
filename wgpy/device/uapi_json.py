"""The JSON in wgpy's own keys: one line, of bounded length, read field by field.

Every reader raises ValueError and nothing else, with a reason that repeats a few words of the text
at most. In a request (`exact`) an unknown field is refused; in an answer it is passed over, for the
daemon may be newer than the client.
"""

import errno
import os
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

from wgpy.device.uapi import UapiError
from wgpy.device.uapi_values import shown

# wireguard-go reads no longer lines; it is room for a hundred files with long names.
MAX_JSON_LENGTH: Final = 60_000
# A dNSName has 253 characters, a serial number 40 digits, a token is 700 bytes.
_MAX_TEXT: Final = 1024

T = TypeVar("T")


def dump_json(value: object, what: str) -> str:
    """One line of JSON, in ASCII. Raises UapiError (EMSGSIZE), with `what` is too long."""
    # Late: most commands never meet any, and start without the module.
    import json

    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    if len(text) > MAX_JSON_LENGTH:
        raise UapiError(errno.EMSGSIZE, f"{what}: over {MAX_JSON_LENGTH} characters in all")
    return text


def load_json(text: str) -> object:
    """What one line of JSON says; infinities, which it has no words for, are refused."""
    import json

    if len(text) > MAX_JSON_LENGTH:
        raise ValueError(f"it is over {MAX_JSON_LENGTH} characters")
    try:
        return json.loads(text, parse_constant=_no_json)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON") from None


def _no_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def check_length(write: Callable[[T], str], settings: T) -> None:
    """What was read must be written again for whoever asks, and may then be longer."""
    try:
        write(settings)
    except UapiError as error:
        raise ValueError(error.reason) from None


class Fields:
    """The fields of a JSON object, each taken once. Every method raises ValueError."""

    def __init__(self, value: object, exact: bool) -> None:
        if not isinstance(value, dict):
            raise ValueError("it is no JSON object")
        self._left: dict[str, Any] = dict(value)
        self._exact = exact

    def take(self, key: str) -> object:
        """The value of a field, None if it is missing."""
        return self._left.pop(key, None)

    def text(self, key: str) -> str:
        """A text that must be there."""
        return named(key, as_text, self.take(key))

    def flag(self, key: str, *, default: bool = False) -> bool:
        """True or false, `default` if it is missing."""
        value = self.take(key)
        if not isinstance(value, bool | None):
            raise ValueError(f"{key} is neither true nor false")
        return default if value is None else value

    def optional(self, key: str, read: Callable[[object], T]) -> T | None:
        """What `read` makes of the value, None if it is missing."""
        value = self.take(key)
        return None if value is None else named(key, read, value)

    def each(self, key: str, read: Callable[[object], T]) -> tuple[T, ...]:
        """What `read` makes of each element; nothing if it is missing."""
        value = self.take(key)
        if not isinstance(value, list | None):
            raise ValueError(f"{key} is no list")
        return tuple(named(key, read, element) for element in value or ())

    def finish(self) -> None:
        """Refuse what nobody took."""
        if self._left and self._exact:
            raise ValueError(f"{shown(next(iter(self._left)))} is no field of it")


def named(key: str, read: Callable[[object], T], value: object) -> T:
    """What `read` makes of a value; the reason of a refusal begins with the key."""
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def as_text(value: object) -> str:
    """A text of 1,024 printable characters at the most."""
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not (value.isprintable()):
        raise ValueError("it is no text")
    return value


def as_path(value: object) -> str:
    """An absolute path."""
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise ValueError("it is no absolute path")
    # Raises UnicodeEncodeError, a ValueError, for what the file system cannot be asked.
    os.fsencode(value)
    return value
