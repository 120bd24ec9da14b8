"""Denied keys, serial numbers and names, and the text file in which an operator lists them.

# one a line; blank lines and what follows a # are skipped
key     PUBLIC-KEY                     base64, as `wgpy pubkey` prints it
serial  ISSUER SERIAL                  the SHA-256 of the issuer's key, 64 hexadecimal digits;
                                       a certificate's serial number, or a token's jti
name    NAME GENERATION [ISSUER]       up to and with this generation, or `all`
"""

import re
from dataclasses import dataclass, field
from typing import Final

from wgpy.identity.claims import Claims, CredentialError
from wgpy.identity.profile import MAX_GENERATION, is_name
from wgpy.keys import KeyFormatError, PublicKey

# Entries of all lists together.
MAX_DENIED: Final = 10_000

_ISSUER: Final = re.compile(r"[0-9a-f]{64}")
# A jti may be any text; ours are of these characters.
_SERIAL: Final = re.compile(r"[!-\"$-~]{1,128}")


@dataclass(frozen=True, slots=True)
class Denied:
    """What is denied. Immutable; `joined` makes one of two."""

    keys: frozenset[PublicKey] = frozenset()
    serials: frozenset[tuple[bytes, str]] = frozenset()
    # (name, issuer, or None for every issuer) to the greatest generation that is refused.
    names: dict[tuple[str, bytes | None], int] = field(default_factory=dict)

    def joined(self, other: "Denied") -> "Denied":
        """Everything that either denies. Raises CredentialError where that is too much."""
        names = dict(self.names)
        for name, generation in other.names.items():
            names[name] = max(generation, names.get(name, 0))
        both = Denied(self.keys | other.keys, self.serials | other.serials, names)
        if len(both.keys) + len(both.serials) + len(both.names) > MAX_DENIED:
            raise CredentialError("too-many", f"over {MAX_DENIED:,} entries are denied")
        return both

    def check_key(self, key: PublicKey) -> None:
        """Raise CredentialError for a key that is denied."""
        if self.keys and key in self.keys:
            raise CredentialError("denied-key", "its key is denied")

    def check(self, claims: Claims) -> None:
        """Raise CredentialError for claims whose serial number, CA or name is denied."""
        if self.serials:
            self._check_serials(claims)
        if self.names:
            self._check_name(claims)

    def _check_serials(self, claims: Claims) -> None:
        if (claims.issuer, claims.serial) in self.serials:
            raise CredentialError("denied-serial", "its serial number is denied")
        if any(pair in self.serials for pair in claims.chain):
            raise CredentialError("ca-revoked", "the serial number of a CA above it is denied")

    def _check_name(self, claims: Claims) -> None:
        for issuer in (None, claims.issuer):
            if claims.generation <= self.names.get((claims.name, issuer), -1):
                raise CredentialError("denied-name", "its name is denied up to its generation")


def read_deny_list(data: bytes) -> Denied:
    """Read a deny list. Raises CredentialError with the number of the line that is wrong."""
    denied = Denied()
    keys: set[PublicKey] = set()
    serials: set[tuple[bytes, str]] = set()
    names: dict[tuple[str, bytes | None], int] = {}
    for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), 1):
        words = line.partition("#")[0].split()
        try:
            match words:
                case []:
                    continue
                case ["key", key]:
                    keys.add(PublicKey.from_base64(key))
                case ["serial", issuer, serial] if _SERIAL.fullmatch(serial):
                    # A jti may look like a number and be none, so it is denied as it stands too.
                    serials.add((_issuer(issuer), serial))
                    serials.add((_issuer(issuer), _plain_serial(serial)))
                case ["name", name, generation] if is_name(name):
                    _deny(names, (name, None), generation)
                case ["name", name, generation, issuer] if is_name(name):
                    _deny(names, (name, _issuer(issuer)), generation)
                case _:
                    raise ValueError("it is no `key`, `serial` or `name` with what belongs to it")
        except (ValueError, KeyFormatError) as error:
            raise CredentialError("malformed", f"line {number}: {error}") from None
    return denied.joined(Denied(frozenset(keys), frozenset(serials), names))


def _issuer(text: str) -> bytes:
    if not _ISSUER.fullmatch(text.lower()):
        raise ValueError("an issuer is the SHA-256 of its key, 64 hexadecimal digits")
    return bytes.fromhex(text)


def _plain_serial(text: str) -> str:
    """As Claims have it: what is hexadecimal loses colons, and gets lower case and whole bytes."""
    digits = text.replace(":", "").lower()
    if re.fullmatch(r"[0-9a-f]+", digits):
        digits = digits.lstrip("0") or "0"
        return digits if len(digits) % 2 == 0 else f"0{digits}"
    return text


def _deny(
    names: dict[tuple[str, bytes | None], int], key: tuple[str, bytes | None], text: str
) -> None:
    generation = MAX_GENERATION
    if text != "all":
        if not (text.isascii() and text.isdigit() and len(text) <= 19):
            raise ValueError("a generation is a number or `all`")
        generation = min(int(text), MAX_GENERATION)
    names[key] = max(generation, names.get(key, 0))
