"""What is said of a configuration that is refused: one line with file, line and key."""

from pathlib import Path


class ConfigError(Exception):
    """A configuration that is refused whole, and why.

    `str()` is `FILE:LINE: KEY: what is wrong; what to do`, without the parts that are unknown. No
    value of a secret key is ever part of it.
    """

    def __init__(
        self,
        path: Path | str | None,
        line: int | None,
        key: str | None,
        reason: str,
        hint: str | None = None,
    ) -> None:
        super().__init__(located(path, line, key, reason, hint))
        self.path = path
        self.line = line
        self.key = key
        self.reason = reason
        self.hint = hint


def located(
    path: Path | str | None,
    line: int | None,
    key: str | None,
    reason: str,
    hint: str | None = None,
) -> str:
    """`FILE:LINE: KEY: REASON; HINT`, leaving out what is None. Warnings have the same shape."""
    where = "" if path is None else str(path)
    if line is not None:
        where = f"{where}:{line}" if where else f"line {line}"
    text = ": ".join(part for part in (where, key, reason) if part)
    text = f"{text}; {hint}" if hint else text
    # A path may hold anything but NUL; a message stays one line and cannot write to the terminal.
    return "".join(char if char.isprintable() else "?" for char in text)
