"""The .conf format of wg(8) and wg-quick(8).

A file is lines. `#` starts a comment, except in hooks, where it belongs to the shell. `[Interface]`
and `[Peer]` open sections, `Key = value` fills them; case does not matter in either. wg(8) takes
all white space out of a line before it looks at it, so `Private Key=` is PrivateKey; the keys that
only wg-quick(8) knows are trimmed and no more. A value that is given twice counts as it was given
last. Nothing is applied from a file with a bad line.
"""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from wgpy.config.draft import Draft, Mode, PeerDraft, Spelling
from wgpy.config.errors import ConfigError
from wgpy.config.model import Config
from wgpy.config.values import (
    WHITESPACE,
    BadValueError,
    parse_dns,
    parse_endpoint,
    parse_fwmark,
    parse_interface_address,
    parse_keepalive,
    parse_mtu,
    parse_port,
    parse_table,
    shown,
    split_list,
)
from wgpy.keys import KeyFormatError, PresharedKey, PrivateKey, PublicKey

# Keys by section, in lower case, with their spelling. Those of QUICK are wg-quick's own.
INTERFACE_KEYS: Final = {k.lower(): k for k in ("PrivateKey", "ListenPort", "FwMark")}
PEER_KEYS: Final = {
    k.lower(): k
    for k in ("PublicKey", "PresharedKey", "AllowedIPs", "Endpoint", "PersistentKeepalive")
}
HOOKS: Final = {
    "preup": "pre_up",
    "postup": "post_up",
    "predown": "pre_down",
    "postdown": "post_down",
}
QUICK_KEYS: Final = {
    k.lower(): k
    for k in (
        *("Address", "DNS", "MTU", "Table", "SaveConfig"),
        *("PreUp", "PostUp", "PreDown", "PostDown"),
    )
}
# wg-quick(8) takes an empty value of these for no value.
_MAY_BE_EMPTY: Final = frozenset(QUICK_KEYS) - {"saveconfig"}
_REPEATABLE: Final = frozenset({"allowedips", "address", "dns", *HOOKS})

KEY_HINTS: Final = {
    "PrivateKey": "`wgpy genkey` makes one",
    "PresharedKey": "`wgpy genpsk` makes one",
    "PublicKey": "`wgpy pubkey` on the peer prints it",
}

_SPELLING: Final = Spelling("PublicKey", "AllowedIPs", "Address")
_NO_SPACES: Final = str.maketrans("", "", WHITESPACE)
# A word that is safe to repeat: far shorter than the 43 characters of a key before its `=`.
_SAFE_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,23}", re.ASCII)


def lower(text: str) -> str:
    """`text` in lower case if it is ASCII: no letter elsewhere may become one of a key's."""
    return text.lower() if text.isascii() else text


# A file says few words before its `=` and says them often; a stranger's file fills no memory.
@functools.lru_cache(maxsize=64)
def _key(written: str) -> str:
    """The key that is meant by what stands before the `=`."""
    key = lower(written.translate(_NO_SPACES))
    return lower(written.strip(WHITESPACE)) if key in QUICK_KEYS else key


def parse(text: str, mode: Mode, path: Path | None = None) -> tuple[Config, list[str]]:
    """Read the text of a .conf file: what it says, and warnings. Raises ConfigError."""
    reader = _Reader(Draft(path, mode, _SPELLING))
    for number, line in enumerate(text.split("\n"), 1):
        reader.line(number, line)
    config = reader.draft.finish()
    return config, reader.draft.warnings


class _Reader:
    """Reads line by line into a draft."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.section: str | None = None
        self.peer: PeerDraft | None = None
        # The keys that this section has had, for the warning about a second one.
        self.seen: dict[str, int] = {}

    def line(self, number: int, line: str) -> None:
        """Read one line."""
        if "\0" in line:
            raise self.draft.error(number, None, "there is a NUL byte in this line", "remove it")
        code = line.partition("#")[0]
        bare = code.translate(_NO_SPACES)
        if not bare:
            return
        if bare.startswith("["):
            self._open(number, lower(bare))
            return
        written, equals, _ = code.partition("=")
        key = _key(written)
        spelled = self._known(number, key, written.strip(WHITESPACE))
        value = bare.partition("=")[2]
        if key in HOOKS:
            value = line.partition("=")[2].strip(WHITESPACE)
        elif key in QUICK_KEYS:
            value = code.partition("=")[2].strip(WHITESPACE)
        if not equals:
            raise self.draft.error(number, spelled, "the = is missing", f"write {spelled} = VALUE")
        if not value:
            if key in _MAY_BE_EMPTY:
                return
            raise self.draft.error(number, spelled, "there is no value", "write one, or no line")
        if key in self.seen and key not in _REPEATABLE:
            first = self.seen[key]
            self.draft.warn(number, spelled, f"was given in line {first} too", "the last counts")
        self.seen[key] = number
        try:
            self._value(number, key, value)
        except BadValueError as error:
            raise self.draft.error(number, spelled, error.reason, error.hint) from None
        except KeyFormatError as error:
            raise self.draft.error(number, spelled, str(error), KEY_HINTS[spelled]) from None

    def _open(self, number: int, header: str) -> None:
        if header == "[interface]":
            self.section, self.peer = "interface", None
            return
        if header != "[peer]":
            raise self.draft.error(
                number, None, "there is no such section", "sections are [Interface] and [Peer]"
            )
        self.section, self.peer, self.seen = "peer", PeerDraft(number), {}
        self.draft.peers.append(self.peer)

    def _known(self, number: int, key: str, written: str) -> str:
        """The spelling of a key that may stand here. Raises ConfigError for any other."""
        quick = self.draft.mode == "quick"
        here = PEER_KEYS if self.section == "peer" else INTERFACE_KEYS
        if self.section is not None and key in here:
            return here[key]
        if self.section == "interface" and quick and key in QUICK_KEYS:
            return QUICK_KEYS[key]
        raise unknown_key(self.draft, number, key, written, self.section)

    def _value(self, number: int, key: str, value: str) -> None:
        """Read the value of a known key. Raises BadValueError and KeyFormatError."""
        if self.peer is not None:
            _PEER[key](self.draft, self.peer, number, value)
        else:
            _INTERFACE[key](self.draft, number, key, value)


def unknown_key(
    draft: Draft, line: int, key: str, written: str, section: str | None
) -> ConfigError:
    """The error for a key that may not stand where it stands; `written` as the file has it."""
    if key in PEER_KEYS or key in INTERFACE_KEYS or key in QUICK_KEYS:
        spelled = {**PEER_KEYS, **INTERFACE_KEYS, **QUICK_KEYS}[key]
        home = "[Peer]" if key in PEER_KEYS else "[Interface]"
        if section is None or (section == "peer") != (key in PEER_KEYS):
            return draft.error(line, spelled, f"belongs under {home}", f"move it below {home}")
        return draft.error(
            line,
            spelled,
            "is a key of wg-quick(8), and not of wg(8)",
            "`wgpy up` reads it, and `wgpy strip` takes it out",
        )
    if not _SAFE_WORD.fullmatch(written):
        return draft.error(line, None, "this line is neither a section nor KEY = VALUE")
    import difflib

    known = {**PEER_KEYS} if section == "peer" else {**INTERFACE_KEYS}
    if section != "peer" and draft.mode == "quick":
        known |= QUICK_KEYS
    close = difflib.get_close_matches(key, known, 1)
    hint = f"did you mean {known[close[0]]}?" if close else "remove it, or see wg(8)"
    return draft.error(line, written, "is no key", hint)


# --- What each key does ---


def _private_key(draft: Draft, _line: int, _key: str, value: str) -> None:
    draft.private_key = PrivateKey.from_base64(value)


def _listen_port(draft: Draft, _line: int, _key: str, value: str) -> None:
    draft.listen_port = parse_port(value)


def _fwmark(draft: Draft, _line: int, _key: str, value: str) -> None:
    draft.fwmark = parse_fwmark(value)


def _address(draft: Draft, line: int, _key: str, value: str) -> None:
    draft.addresses += [(parse_interface_address(word), line) for word in split_list(value)]


def _dns(draft: Draft, _line: int, _key: str, value: str) -> None:
    for word in split_list(value):
        text, server = parse_dns(word)
        (draft.dns if server else draft.dns_search).append(text)


def _mtu(draft: Draft, _line: int, _key: str, value: str) -> None:
    draft.mtu = parse_mtu(value)


def _table(draft: Draft, _line: int, _key: str, value: str) -> None:
    draft.table = parse_table(value)


def _save_config(draft: Draft, _line: int, _key: str, value: str) -> None:
    draft.save_config = parse_bool(value)


def _hook(draft: Draft, _line: int, key: str, value: str) -> None:
    draft.hooks.setdefault(HOOKS[key], []).append(value)


def parse_bool(text: str) -> bool:
    """`true` or `false`, in any case. Raises BadValueError."""
    word = lower(text)
    if word not in ("true", "false"):
        raise BadValueError(f"{shown(text)} is neither true nor false", "write one of the two")
    return word == "true"


_INTERFACE: Final[dict[str, Callable[[Draft, int, str, str], None]]] = {
    "privatekey": _private_key,
    "listenport": _listen_port,
    "fwmark": _fwmark,
    "address": _address,
    "dns": _dns,
    "mtu": _mtu,
    "table": _table,
    "saveconfig": _save_config,
    **dict.fromkeys(HOOKS, _hook),
}


def _public_key(_draft: Draft, peer: PeerDraft, line: int, value: str) -> None:
    peer.public_key = PublicKey.from_base64(value)
    peer.public_key_line = line


def _preshared_key(_draft: Draft, peer: PeerDraft, _line: int, value: str) -> None:
    peer.preshared_key = PresharedKey.from_base64(value)


def _allowed_ips(draft: Draft, peer: PeerDraft, line: int, value: str) -> None:
    # As in wg(8) each line says anew that it replaces, unless a sign in it says otherwise.
    peer.replace = True
    for word in value.split(","):
        draft.add_allowed_ip(peer, word, line)


def _endpoint(_draft: Draft, peer: PeerDraft, _line: int, value: str) -> None:
    peer.endpoint = parse_endpoint(value)


def _keepalive(_draft: Draft, peer: PeerDraft, _line: int, value: str) -> None:
    peer.persistent_keepalive = parse_keepalive(value)


_PEER: Final[dict[str, Callable[[Draft, PeerDraft, int, str], None]]] = {
    "publickey": _public_key,
    "presharedkey": _preshared_key,
    "allowedips": _allowed_ips,
    "endpoint": _endpoint,
    "persistentkeepalive": _keepalive,
}
