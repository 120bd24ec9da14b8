"""Which line of a TOML document each key and each element stands on.

The parser of TOML tells values, and no lines. This scan walks a document that the parser has
accepted, so it need not judge anything: it only has to find where keys, strings and brackets
start and end (TOML 1.0).
"""

import re
from typing import Final

# A path of keys and, for arrays, of indices: ("peer", 0, "allowed_ips", 2).
Path = tuple[str | int, ...]

# White space, line ends and comments.
_SPACE: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_BLANK: Final = re.compile(r"[ \t]*")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
# The four kinds of string, the longer delimiters first; up to two quotes may precede the closing
# three.
_STRING: Final = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}'
    r"|'''(?:[^']|'(?!''))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
# A number, a date, true or false.
_SCALAR: Final = re.compile(r"[^,\]}#\n]*")
_ESCAPE: Final = re.compile(
    r"""\\(?:(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|x[0-9A-Fa-f]{2})|([btnfre"\\]))"""
)
_ESCAPES: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}

# Deeper than anything that wgpy's own format holds; what is deeper is passed over.
_MAX_DEPTH: Final = 8


def line_index(text: str) -> dict[Path, int]:
    """The line, from 1, of every table header, key and array element, by its path."""
    scan = _Scan(text)
    try:
        scan.document()
    except (_LostError, RecursionError):
        # Whatever was found up to here is right; a message does without the rest.
        return scan.lines
    return scan.lines


class _LostError(Exception):
    """The scan met what it does not understand."""


class _Scan:
    def __init__(self, text: str) -> None:
        self.text = text.replace("\r\n", "\n")
        self.at = 0
        self.lines: dict[Path, int] = {}
        # How many tables each array of tables has so far.
        self._counts: dict[Path, int] = {}
        # The line is counted on from the last place that was asked for.
        self._counted = (0, 1)

    def document(self) -> None:
        """Walk all statements."""
        table: Path = ()
        while self._skip() < len(self.text):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table, 0)

    def _skip(self) -> int:
        self.at = _end(_SPACE, self.text, self.at)
        return self.at

    def _line(self) -> int:
        offset, line = self._counted
        line += self.text.count("\n", offset, self.at)
        self._counted = self.at, line
        return line

    def _note(self, path: Path, line: int) -> None:
        # The first mention of a table that is opened piecemeal is the one to show.
        self.lines.setdefault(path, line)

    def _header(self) -> Path:
        array = self.text.startswith("[[", self.at)
        line = self._line()
        self.at += 2 if array else 1
        keys = self._dotted_key()
        self._expect("]]" if array else "]")
        table: Path = ()
        for number, key in enumerate(keys, 1):
            table = (*table, key)
            self._note(table, line)
            if array and number == len(keys):
                self._counts[table] = self._counts.get(table, 0) + 1
            if table in self._counts:
                table = (*table, self._counts[table] - 1)
                self._note(table, line)
        return table

    def _dotted_key(self) -> list[str]:
        keys = []
        while True:
            self.at = _end(_BLANK, self.text, self.at)
            match = _STRING.match(self.text, self.at) or _BARE_KEY.match(self.text, self.at)
            if match is None:
                raise _LostError
            keys.append(_key_text(match.group()))
            self.at = _end(_BLANK, self.text, match.end())
            if not self.text.startswith(".", self.at):
                return keys
            self.at += 1

    def _pair(self, table: Path, depth: int) -> None:
        line = self._line()
        path = table
        for key in self._dotted_key():
            path = (*path, key)
            self._note(path, line)
        self._expect("=")
        self._skip()
        self._value(path, depth)

    def _value(self, path: Path, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise _LostError
        char = self.text[self.at : self.at + 1]
        if char == "[":
            self._array(path, depth)
        elif char == "{":
            self._inline_table(path, depth)
        else:
            string = _STRING.match(self.text, self.at)
            self.at = string.end() if string else _end(_SCALAR, self.text, self.at)

    def _array(self, path: Path, depth: int) -> None:
        self.at += 1
        index = 0
        while not self._closes("]"):
            self._note((*path, index), self._line())
            self._value((*path, index), depth + 1)
            index += 1
            self._comma("]")

    def _inline_table(self, path: Path, depth: int) -> None:
        self.at += 1
        while not self._closes("}"):
            self._pair(path, depth + 1)
            self._comma("}")

    def _closes(self, bracket: str) -> bool:
        self._skip()
        if not self.text.startswith(bracket, self.at):
            return False
        self.at += 1
        return True

    def _comma(self, bracket: str) -> None:
        self._skip()
        if not self.text.startswith(bracket, self.at):
            self._expect(",")

    def _expect(self, token: str) -> None:
        self.at = _end(_BLANK, self.text, self.at)
        if not self.text.startswith(token, self.at):
            raise _LostError
        self.at += len(token)


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    """Where a pattern that also matches nothing ends."""
    match = pattern.match(text, start)
    return start if match is None else match.end()


def _key_text(written: str) -> str:
    """What a key says: bare, 'literal' or "basic" with escapes."""
    if written.startswith("'"):
        return written[1:-1]
    if not written.startswith('"'):
        return written
    return _ESCAPE.sub(_unescape, written[1:-1])


def _unescape(match: re.Match[str]) -> str:
    code, short = match.groups()
    if code is None:
        return _ESCAPES.get(short, short)
    number = int(code[1:], 16)
    return chr(number) if number <= 0x10FFFF else ""
