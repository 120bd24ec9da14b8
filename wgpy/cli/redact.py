"""Takes secrets out of texts that are to be given away.

Three nets, each for what slips through the others: secrets that are known, wherever and however
they stand; what looks like one (keys, tokens, joining lines, passwords in URLs); and the values of
names that say they are secret. Of keys in base64 and hexadecimal only those stay that are known to
be public: a private key looks no different.
"""

import base64
import re
from collections.abc import Callable, Iterable
from typing import Final

# Shorter ones would be found everywhere; who has such a password has other troubles.
LEAST_SECRET: Final = 4
_KEY_LENGTH: Final = 32

_NAMED: Final = (
    r"private[ _-]?key|preshared[ _-]?key|psk|secret|pass(?:word|wd|phrase)?|credentials?"
    r"|token|cookie|authorization|(?:wgpy-)?mac|turn[ _-]?secret"
)
# A name that ends so, `=` or `:`, and the value: in quotes, or all the rest of the line.
_ASSIGNED: Final = re.compile(
    rf"""(?ix) ((?:\b|_|-)(?:{_NAMED})s?["']?[ \t]*[=:][ \t]*)
    ( \"\"\".*?(?:\"\"\"|\Z) | '''.*?(?:'''|\Z) | "(?:\\.|[^"\\\n])*"? | '[^'\n]*'?
    | [^\s"'\[{{][^\n]* )""",
    re.DOTALL,
)
# What JSON and our own texts say where there is no secret.
_HARMLESS: Final = re.compile(
    r"""(?ix) ["']? (?:null|none|true|false|\(hidden\)|\(none\)|) ["']? ,?"""
)
_HOOK: Final = re.compile(
    r"""(?imx) ^ ([ \t]* (?:pre|post)[ _-]?(?:up|down)[ \t]*=[ \t]*)
    ( \[ [^\]]* \]? | [^\n]* )"""
)
_PEM: Final = re.compile(
    r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?(?:-----END \1-----|\Z)", re.DOTALL
)
_PATTERNS: Final = (
    (re.compile(r"wgpy-join:\s*[\w+/=-]*"), "(joining line removed)"),
    (re.compile(r"\beyJ[\w-]{5,}(?:\.[\w-]*){0,2}"), "(token removed)"),
    (re.compile(r"\bwgpy1:[\w-]+"), "(offer removed)"),
    (re.compile(r"(://[^\s/:@\"']*):[^\s/\"']*@"), r"\1:(password removed)@"),
)
# 32 bytes: 43 characters of base64, and a sign at the end that may have been lost.
_BASE64_KEY: Final = re.compile(r"(?<![\w+/-])[A-Za-z0-9+/_-]{43}(?![A-Za-z0-9+/_-])=?")
_HEX_KEY: Final = re.compile(r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{64}(?![0-9A-Fa-f])")


def forms_of_key(key: bytes) -> set[str]:
    """How 32 bytes may stand in a text: base64 of both alphabets, hexadecimal."""
    standard, other = base64.b64encode(key).decode(), base64.urlsafe_b64encode(key).decode()
    return {standard, standard.rstrip("="), other, other.rstrip("="), key.hex(), key.hex().upper()}


class Redactor:
    """Takes `keys` (32 bytes) and `words` out in every form; `public` are keys that may stay."""

    def __init__(
        self,
        keys: Iterable[bytes] = (),
        words: Iterable[str] = (),
        public: Iterable[bytes] = (),
    ) -> None:
        secret = set(keys)
        known = {form for key in secret for form in forms_of_key(key)}
        known |= {word.strip() for word in words if len(word.strip()) >= LEAST_SECRET}
        # A long one may have a shorter one in it.
        longest = sorted(known, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest))) if longest else None
        self._public = {form for key in set(public) - secret for form in forms_of_key(key)}

    def __call__(self, text: str) -> str:
        """The text without its secrets."""
        if self._known is not None:
            text = self._known.sub("(secret removed)", text)
        text = _PEM.sub(r"(\1 removed)", text)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        text = _HOOK.sub(r"\1(command removed)", text)
        text = _ASSIGNED.sub(self._assigned, text)
        text = _BASE64_KEY.sub(self._unless_public("(key removed)"), text)
        return _HEX_KEY.sub(self._unless_public("(64 hexadecimal digits removed)"), text)

    def _unless_public(self, instead: str) -> Callable[[re.Match[str]], str]:
        def replace(found: re.Match[str]) -> str:
            return found[0] if found[0] in self._public else instead

        return replace

    def _assigned(self, found: re.Match[str]) -> str:
        name, value = found[1], found[2]
        if _HARMLESS.fullmatch(value.strip()) or value.startswith("("):
            return found[0]
        quote = value[0] if value[0] in "\"'" else ""
        return f"{name}{quote}(removed){quote}"
