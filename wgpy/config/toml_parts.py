"""Values within values of wgpy.toml: files, elements of lists, fields of tables."""

import os
import stat
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from wgpy.config.toml_keys import Value, unknown_key
from wgpy.config.values import BadValueError, shown

# As many as anybody has CAs, lists and issuers; the request to the daemon is one line of 60,000
# characters.
MAX_FILES: Final = 64

T = TypeVar("T")


def file_path(item: Value, *, directory: bool = False) -> str:
    """The absolute path of a file that is there; with `directory` it may also be one."""
    path = os.path.abspath(item.path())
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise BadValueError(f"cannot read {shown(path)}: {error.strerror}") from None
    except ValueError:
        raise BadValueError("is no file's name") from None
    if not stat.S_ISREG(mode) and not (directory and stat.S_ISDIR(mode)):
        raise BadValueError(f"{shown(path)} is no file")
    return path


def read_part(item: Value, read: Callable[[Value], T]) -> T:
    """What `read` makes of a value inside another one; a refusal names its own line and key."""
    try:
        return read(item)
    except BadValueError as error:
        raise item.error(error.reason, error.hint) from None


def elements(item: Value) -> list[Value]:
    """The elements of a list, or the value itself if it is none."""
    if not isinstance(item.value, list):
        return [item]
    if len(item.value) > MAX_FILES:
        raise BadValueError(f"has more than {MAX_FILES} entries")
    return [item.inner(index, value, {}) for index, value in enumerate(item.value)]


def fields_of(item: Value, known: tuple[str, ...]) -> dict[str, Value]:
    """The keys of a table within a table."""
    table = item.value
    if not isinstance(table, dict):
        raise BadValueError("is no table", f"write {{ {known[0]} = ..., ... }}")
    found = {}
    for key, value in table.items():
        field = item.inner(key, value, table)
        if key not in known:
            raise unknown_key(item.draft, field.line, key, known)
        found[key] = field
    return found


def required(item: Value, fields: Mapping[str, Value], key: str, read: Callable[[Value], T]) -> T:
    """What `read` makes of a field that must be there."""
    if key not in fields:
        raise BadValueError(f"has no {key}", f"write {key} = ... in it")
    return read_part(fields[key], read)


def file_paths(item: Value, *, directory: bool = False) -> list[str]:
    """Several files, or one; each as `file_path`."""
    return [
        read_part(element, lambda value: file_path(value, directory=directory))
        for element in elements(item)
    ]
