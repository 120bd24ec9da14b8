"""What each key of wgpy.toml does with its value."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from wgpy.config.conf import HOOKS
from wgpy.config.draft import Draft, PeerDraft
from wgpy.config.errors import ConfigError
from wgpy.config.toml_lines import Path as Place
from wgpy.config.values import (
    BadValueError,
    check_mtu,
    check_table,
    parse_dns,
    parse_endpoint,
    parse_fwmark,
    parse_interface_address,
    parse_keepalive,
    parse_mtu,
    parse_port,
    parse_table,
    shown,
)
from wgpy.keys import PresharedKey, PrivateKey, PublicKey, exposure_warning, read_key_text

# A name is for people: long enough for one, too short for an essay.
MAX_NAME_LENGTH: Final = 64


class Value:
    """One value under its key, with what is around it."""

    def __init__(
        self,
        draft: Draft,
        line_of: Callable[[Place], int | None],
        place: Place,
        value: object,
        peer: PeerDraft | None,
        table: Mapping[str, object],
    ) -> None:
        self.draft = draft
        self.key = str(place[-1])
        self.value = value
        self.table = table
        self._line_of = line_of
        self._place = place
        self._peer = peer

    def inner(self, step: str | int, value: object, table: Mapping[str, object]) -> "Value":
        """A value within this one: an element, which goes by this one's key, or a field."""
        place = (*self._place, step)
        found = Value(self.draft, self._line_of, place, value, self._peer, table)
        if isinstance(step, int):
            found.key = self.key
        return found

    @property
    def peer(self) -> PeerDraft:
        """The peer that the value is of."""
        assert self._peer is not None, "a key of [[peer]] is read with its peer"
        return self._peer

    @property
    def line(self) -> int | None:
        """The line that the value, or its present element, stands on."""
        return self._line_of(self._place)

    def error(self, reason: str, hint: str | None) -> ConfigError:
        """The error to raise for this value."""
        return self.draft.error(self.line, self.key, reason, hint)

    def text(self, what: str = "a text in quotes") -> str:
        """The value, which is a string."""
        if not isinstance(self.value, str):
            raise BadValueError(f"is not {what}", f'write {self.key} = "..."')
        return self.value

    def number(self) -> int | None:
        """The value if it is a whole number, and None if it is a string."""
        if isinstance(self.value, int) and not isinstance(self.value, bool):
            # The limits of each key are below this; longer ones would fill a line of message.
            if abs(self.value) > 0xFFFF_FFFF:
                raise BadValueError("is far out of range")
            return self.value
        self.text("a number")
        return None

    def texts(self) -> list[tuple[str, int | None]]:
        """The strings of a list, or a single string, each with its line."""
        if isinstance(self.value, str):
            return [(self.value, self.line)]
        if not isinstance(self.value, list):
            raise BadValueError("is no list of texts", f'write {self.key} = ["...", "..."]')
        words = []
        for index, word in enumerate(self.value):
            line = self._line_of((*self._place, index))
            if not isinstance(word, str):
                raise self.draft.error(line, self.key, "is no list of texts", "use quotes")
            words.append((word, line))
        return words

    def each(self, read: Callable[[str, int | None], None]) -> None:
        """Call `read` with each text and its line; a refusal names that line."""
        for text, line in self.texts():
            try:
                read(text, line)
            except BadValueError as error:
                raise self.draft.error(line, self.key, error.reason, error.hint) from None

    def flag(self) -> bool:
        """The value, which is true or false."""
        if not isinstance(self.value, bool):
            raise BadValueError("is neither true nor false", "write one of the two, without quotes")
        return self.value

    def path(self) -> Path:
        """The file that the value names; a relative name starts from the configuration's place."""
        written = self.text("a file's name in quotes")
        if "\0" in written or not written:
            raise BadValueError("is no file's name")
        path = Path(written)
        return path if self.draft.path is None else self.draft.path.parent / path

    def key_file(self) -> str:
        """The text of the key in the file that the value names."""
        other = self.key.removesuffix("_file")
        if other in self.table:
            raise BadValueError(f"{other} is given as well", "leave one of the two out")
        path = self.path()
        try:
            text = read_key_text(path)
        except OSError as error:
            raise BadValueError(f"cannot read {shown(str(path))}: {error.strerror}") from None
        warning = exposure_warning(path)
        if warning is not None:
            self.draft.warn(self.line, self.key, warning)
        return text


# --- What each key does ---


def _private_key(item: Value) -> None:
    item.draft.private_key = PrivateKey.from_base64(item.text())


def _private_key_file(item: Value) -> None:
    item.draft.private_key = PrivateKey.from_base64(item.key_file())


def _listen_port(item: Value) -> None:
    number = item.number()
    item.draft.listen_port = parse_port(item.text() if number is None else str(number))


def _fwmark(item: Value) -> None:
    number = item.number()
    item.draft.fwmark = parse_fwmark(item.text() if number is None else str(number))


def _address(item: Value) -> None:
    def read(text: str, line: int | None) -> None:
        item.draft.addresses.append((parse_interface_address(text), line))

    item.each(read)


def _dns(item: Value) -> None:
    def read(text: str, _line: int | None) -> None:
        word, server = parse_dns(text)
        (item.draft.dns if server else item.draft.dns_search).append(word)

    item.each(read)


def _mtu(item: Value) -> None:
    number = item.number()
    item.draft.mtu = parse_mtu(item.text()) if number is None else check_mtu(number)


def _table(item: Value) -> None:
    number = item.number()
    item.draft.table = parse_table(item.text()) if number is None else check_table(number)


def _save_config(item: Value) -> None:
    if item.flag():
        raise BadValueError(
            "would write over your TOML file what the interface has at the end",
            "only .conf files are saved; leave it out",
        )


def _hook(item: Value) -> None:
    def read(text: str, _line: int | None) -> None:
        if "\0" in text:
            raise BadValueError("holds a NUL character", "remove it")
        item.draft.hooks.setdefault(item.key, []).append(text)

    item.each(read)


INTERFACE: Final[dict[str, Callable[[Value], None]]] = {
    "private_key": _private_key,
    "private_key_file": _private_key_file,
    "listen_port": _listen_port,
    "fwmark": _fwmark,
    "address": _address,
    "dns": _dns,
    "mtu": _mtu,
    "table": _table,
    "save_config": _save_config,
    **dict.fromkeys(HOOKS.values(), _hook),
}


def _name(item: Value) -> None:
    name = item.text()
    if not name.isprintable() or not 0 < len(name) <= MAX_NAME_LENGTH:
        raise BadValueError("is no name", f"write up to {MAX_NAME_LENGTH} printable characters")
    item.peer.name, item.peer.name_line = name, item.line


def _public_key(item: Value) -> None:
    item.peer.public_key = PublicKey.from_base64(item.text())
    item.peer.public_key_line = item.line


def _preshared_key(item: Value) -> None:
    item.peer.preshared_key = PresharedKey.from_base64(item.text())


def _preshared_key_file(item: Value) -> None:
    item.peer.preshared_key = PresharedKey.from_base64(item.key_file())


def _endpoint(item: Value) -> None:
    item.peer.endpoint = parse_endpoint(item.text())


def _allowed_ips(item: Value) -> None:
    item.each(lambda text, line: item.draft.add_allowed_ip(item.peer, text, line))


def _keepalive(item: Value) -> None:
    number = item.number()
    item.peer.persistent_keepalive = parse_keepalive(item.text() if number is None else str(number))


def _credential(item: Value) -> None:
    item.peer.credential, item.peer.credential_line = item.flag(), item.line


def _expect(item: Value) -> None:
    match item.text():
        case "certificate":
            item.peer.expect = "certificate"
        case "key":
            item.peer.expect = "key"
        case other:
            raise BadValueError(
                f"{shown(other)} is neither certificate nor key", "write one of the two in quotes"
            )
    item.peer.expect_line = item.line


def _nat(item: Value) -> None:
    item.peer.nat, item.peer.nat_line = item.flag(), item.line


PEER: Final[dict[str, Callable[[Value], None]]] = {
    "name": _name,
    "public_key": _public_key,
    "preshared_key": _preshared_key,
    "preshared_key_file": _preshared_key_file,
    "endpoint": _endpoint,
    "allowed_ips": _allowed_ips,
    "persistent_keepalive": _keepalive,
    "credential": _credential,
    "expect": _expect,
    "nat": _nat,
}


def unknown_key(draft: Draft, line: int | None, key: str, known: tuple[str, ...]) -> ConfigError:
    """The error to raise for a key that is none of `known`."""
    import difflib

    # A long one may be a secret that lost its key; 24 characters are no whole one.
    safe = key if len(key) <= 24 else None
    close = difflib.get_close_matches(key.replace("-", "_").lower(), known, 1)
    hint = f"did you mean {close[0]}?" if close else "remove it, or see wgpy.toml(5)"
    return draft.error(line, safe, "is no key" if safe else "no key", hint)
