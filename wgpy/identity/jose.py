"""JSON and base64url as strictly as a credential needs them: one text, one meaning."""

import base64
import binascii
import json
import re
from typing import Any, Final, NoReturn

_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*")


class JsonError(ValueError):
    """A text that is no base64url or no JSON object as it has to be; says why in one line."""


def b64decode(text: object) -> bytes:
    """The bytes of a base64url text without padding (RFC 7515 section 2). Raises JsonError."""
    if not isinstance(text, str) or not _BASE64URL.fullmatch(text):
        raise JsonError("not base64url")
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise JsonError("not base64url") from None
    # Spare bits could be set in a second spelling.
    if b64encode(raw) != text:
        raise JsonError("not base64url in its one spelling")
    return raw


def b64encode(raw: bytes) -> str:
    """`raw` as base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def load_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in `raw`, UTF-8. Raises JsonError.

    A name that stands twice in an object is refused, for readers differ in which one they take; so
    are NaN and Infinity, which are no JSON.
    """
    try:
        value = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant
        )
    except JsonError:
        raise
    except (ValueError, RecursionError):
        # Also UnicodeDecodeError, and an integer of more digits than Python converts.
        raise JsonError("not JSON") from None
    if not isinstance(value, dict):
        raise JsonError("not a JSON object")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise JsonError("a name stands twice in a JSON object")
    return found


def _no_constant(_word: str) -> NoReturn:
    raise JsonError("NaN and Infinity are no JSON")
