"""X25519 and pre-shared keys: make, parse, show, store.

This is the only module that writes secrets to disk. Text forms are those of wg(8): 44 characters
of base64 in files and on terminals, 64 hexadecimal digits in the UAPI.
"""

import base64
import binascii
import contextlib
import os
import stat
from typing import Self

KEY_LENGTH = 32
BASE64_LENGTH = 44

# pathlib would double the time that `wgpy genkey` takes to start.
StrPath = str | os.PathLike[str]

# Of a server that somebody else may run; a password manager makes none of more than a tenth.
MAX_PASSWORD_LENGTH = 1024

# A key file holds a key and some white space.
_MAX_FILE_LENGTH = 4096


class KeyFormatError(ValueError):
    """A text or a byte string that is no key; says why without repeating it."""


def _decode_base64(text: str) -> bytes:
    if len(text) != BASE64_LENGTH:
        raise KeyFormatError(
            f"a key is {BASE64_LENGTH} characters of base64; this has {len(text)} characters"
        )
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise KeyFormatError(
            "a key is base64, and this has a character that base64 lacks"
        ) from None
    if len(raw) != KEY_LENGTH:
        raise KeyFormatError(f"a key is {KEY_LENGTH} bytes; this base64 holds {len(raw)}")
    # 44 characters carry 258 bits, 2 more than a key: one spelling for each key, as in wg(8).
    if base64.b64encode(raw).decode("ascii") != text:
        raise KeyFormatError("a key's last base64 character leaves its two spare bits zero")
    return raw


def _decode_hex(text: str) -> bytes:
    if len(text) != 2 * KEY_LENGTH:
        raise KeyFormatError(f"a key is {2 * KEY_LENGTH} hexadecimal digits; this has {len(text)}")
    try:
        return bytes.fromhex(text) if text.isalnum() else _not_hex()
    except ValueError:
        return _not_hex()


def _not_hex() -> bytes:
    raise KeyFormatError("a key is hexadecimal digits, and this has another character")


def _check_length(raw: bytes | bytearray) -> None:
    if len(raw) != KEY_LENGTH:
        raise KeyFormatError(f"a key is {KEY_LENGTH} bytes; this is {len(raw)}")


class PublicKey:
    """An X25519 public key, 32 bytes. Equal and hashable by value; prints as base64."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        _check_length(raw)
        self._raw = bytes(raw)

    @classmethod
    def from_base64(cls, text: str) -> Self:
        """Read 44 characters of base64. Raises KeyFormatError."""
        return cls(_decode_base64(text))

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Read 64 hexadecimal digits. Raises KeyFormatError."""
        return cls(_decode_hex(text))

    def __bytes__(self) -> bytes:
        return self._raw

    def base64(self) -> str:
        """44 characters of base64."""
        return base64.b64encode(self._raw).decode("ascii")

    def hex(self) -> str:
        """64 lower-case hexadecimal digits."""
        return self._raw.hex()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and self._raw == other._raw

    def __hash__(self) -> int:
        return hash(self._raw)

    def __str__(self) -> str:
        return self.base64()

    def __repr__(self) -> str:
        return f"PublicKey({self.base64()})"


class _Secret:
    """32 secret bytes that can be wiped and that never print themselves."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes | bytearray) -> None:
        _check_length(raw)
        self._raw = bytearray(raw)

    @classmethod
    def from_base64(cls, text: str) -> Self:
        """Read 44 characters of base64. Raises KeyFormatError."""
        return cls(_decode_base64(text))

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Read 64 hexadecimal digits. Raises KeyFormatError."""
        return cls(_decode_hex(text))

    def __bytes__(self) -> bytes:
        return bytes(self._raw)

    def base64(self) -> str:
        """44 characters of base64: the secret itself."""
        return base64.b64encode(self._raw).decode("ascii")

    def hex(self) -> str:
        """64 lower-case hexadecimal digits: the secret itself."""
        return self._raw.hex()

    def is_zero(self) -> bool:
        """Whether every byte is zero, which means "no key" wherever WireGuard writes one."""
        return not any(self._raw)

    def wipe(self) -> None:
        """Overwrite the secret with zeros. Copies that others made are theirs to forget."""
        self._raw[:] = bytes(KEY_LENGTH)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        # Both sides are local secrets of the operator: their comparison is no oracle to a stranger.
        return self._raw == other._raw

    def __hash__(self) -> int:
        return hash((type(self), bytes(self._raw)))

    def __str__(self) -> str:
        return "(hidden)"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(hidden)"


class PrivateKey(_Secret):
    """An X25519 private key, 32 bytes, clamped (RFC 7748 section 5) when it is made or read."""

    __slots__ = ()

    def __init__(self, raw: bytes | bytearray) -> None:
        super().__init__(raw)
        if not self.is_zero():
            self._raw[0] &= 248
            self._raw[31] = (self._raw[31] & 127) | 64

    @classmethod
    def generate(cls) -> Self:
        """A new key from the system's random source."""
        return cls(os.urandom(KEY_LENGTH))

    def public(self) -> PublicKey:
        """The public key that belongs to it."""
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        private = X25519PrivateKey.from_private_bytes(bytes(self._raw))
        return PublicKey(private.public_key().public_bytes_raw())

    def shared_secret(self, public: PublicKey) -> bytes:
        """The 32 bytes that only this key and the holder of `public` can compute (RFC 7748).

        Raises KeyFormatError for a key of low order, whose secrets the whole world can compute.
        """
        from cryptography.hazmat.primitives.asymmetric import x25519

        private = x25519.X25519PrivateKey.from_private_bytes(bytes(self._raw))
        try:
            return private.exchange(x25519.X25519PublicKey.from_public_bytes(bytes(public)))
        except ValueError:
            raise KeyFormatError("a key of low order shares no secret with anybody") from None


class PresharedKey(_Secret):
    """A pre-shared key, 32 bytes; all zeros means that none is used (whitepaper 5.2)."""

    __slots__ = ()

    @classmethod
    def generate(cls) -> Self:
        """A new key from the system's random source."""
        return cls(os.urandom(KEY_LENGTH))


def is_world_readable(mode: int) -> bool:
    """Whether a file with this `st_mode` is open in any way to others than its owner and group."""
    return stat.S_ISREG(mode) and bool(mode & 0o007)


def exposure_warning(path: StrPath) -> str | None:
    """What to say of a file with secrets that others can open; None when they cannot.

    Raises nothing: a file that cannot be looked at is told of by whoever reads it.
    """
    try:
        directory = os.stat(os.path.dirname(path) or ".").st_mode
        exposed = is_world_readable(os.stat(path).st_mode)
    except (OSError, ValueError):
        return None
    # Who cannot pass through the directory cannot open what is in it.
    if not exposed or not directory & stat.S_IXOTH:
        return None
    return f"{os.fspath(path)} holds secrets and is open to every user; run `chmod 600` on it"


def read_key_text(path: StrPath) -> str:
    """The key in a file, without the white space around it; `-` is not special.

    Raises OSError, and KeyFormatError when the file is longer than any key could be.
    """
    with open(path, "rb") as file:
        raw = file.read(_MAX_FILE_LENGTH + 1)
    text = raw.decode("ascii", "replace").strip(" \t\n\v\f\r")
    if len(raw) > _MAX_FILE_LENGTH or len(text) > BASE64_LENGTH:
        raise KeyFormatError(f"a key file holds {BASE64_LENGTH} characters; this holds more")
    return text


def read_password(path: StrPath) -> str:
    """The password in a file: one line, 1 to 1,024 bytes of printable UTF-8.

    The line end is none of it, and white space around it is. Raises OSError, and KeyFormatError
    for a file that holds something else.
    """
    with open(path, "rb") as file:
        raw = file.read(_MAX_FILE_LENGTH)
    line = raw.removesuffix(b"\n").removesuffix(b"\r")
    if not 0 < len(line) <= MAX_PASSWORD_LENGTH:
        raise KeyFormatError(f"a password has 1 to {MAX_PASSWORD_LENGTH} bytes")
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise KeyFormatError("a password is UTF-8, and this is not") from None
    if not text.isprintable():
        raise KeyFormatError("a password is one line of printable characters")
    return text


def write_secret(path: StrPath, data: bytes) -> None:
    """Put `data` into `path` whole or not at all, readable by its owner only (mode 0600).

    A symbolic link stays, and the file it names is replaced. Raises OSError.
    """
    import tempfile

    target = os.path.realpath(path)
    directory, name = os.path.split(target)
    # mkstemp makes it with mode 0600 and O_EXCL, closed on exec, whatever the umask is.
    fd, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=directory)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):  # it has its final name already
            os.unlink(temporary)
        raise
    # The new name is in the directory, which has to reach the disk as well.
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
