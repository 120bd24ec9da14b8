"""How `wgpy show` looks: colours, times and sizes, in the forms that wg(8) prints them in.

Texts are made with their colours and `finish` takes the colours out where none are wanted.
"""

import os
import re
import sys
from typing import Final

RESET: Final = "\x1b[0m"
BOLD: Final = "\x1b[1m"
RED: Final = "\x1b[31m"
GREEN: Final = "\x1b[32m"
YELLOW: Final = "\x1b[33m"
CYAN: Final = "\x1b[36m"

HIDDEN: Final = "(hidden)"

COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
# A year of 365 days, as wg(8) counts.
_UNITS: Final = (
    ("year", 365 * 86_400),
    ("day", 86_400),
    ("hour", 3_600),
    ("minute", 60),
    ("second", 1),
)
_SIZES: Final = ("KiB", "MiB", "GiB", "TiB")


def wants_colour() -> bool:
    """What WG_COLOR_MODE says (always, never); otherwise whether the output is a terminal."""
    mode = os.environ.get("WG_COLOR_MODE")
    if mode in ("always", "never"):
        return mode == "always"
    return sys.stdout.isatty()


def hides_keys() -> bool:
    """Whether secret keys are shown as `(hidden)`: unless WG_HIDE_KEYS is `never`."""
    return os.environ.get("WG_HIDE_KEYS") != "never"


def finish(text: str) -> str:
    """`text` as it is to be printed: without its colours where none are wanted."""
    return text if wants_colour() else COLOUR.sub("", text)


def printable(value: object) -> str:
    """A text that others wrote, without what would move the cursor of a terminal; else nothing."""
    return "".join(x for x in value if x.isprintable()) if isinstance(value, str) else ""


def label(name: str, value: str) -> str:
    """One indented line, `name: value`."""
    return f"  {BOLD}{name}{RESET}: {value}\n"


def heading(kind: str, name: str, colour: str) -> str:
    """The line that begins an interface or a peer."""
    return f"{colour}{BOLD}{kind}{RESET}: {colour}{name}{RESET}\n"


def duration(seconds: int) -> str:
    """`1 hour, 2 minutes, 3 seconds`; nothing for 0."""
    parts = []
    for unit, length in _UNITS:
        count, seconds = divmod(seconds, length)
        if count:
            parts.append(f"{count} {CYAN}{unit}{'' if count == 1 else 's'}{RESET}")
    return ", ".join(parts)


def leading(seconds: int) -> str:
    """A time over 0 s in its largest unit alone, rounded down: `6 days`."""
    return duration(seconds).partition(", ")[0]


def ago(then: int, now: int) -> str:
    """How long before `now` a moment was, both in seconds since the epoch."""
    if then == now:
        return "Now"
    if then > now:
        return f"({RED}System clock wound backward; connection problems may ensue.{RESET})"
    return f"{duration(now - then)} ago"


def size(count: int) -> str:
    """A number of bytes in the largest binary unit that it fills, TiB at the most."""
    if count < 1024:
        return f"{count} {CYAN}B{RESET}"
    power = min((count.bit_length() - 1) // 10, len(_SIZES))
    return f"{count / 1024**power:.2f} {CYAN}{_SIZES[power - 1]}{RESET}"
