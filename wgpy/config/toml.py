"""wgpy.toml: the same things as in a .conf file, in TOML. wgpy.toml(5) describes it.

Keys are exact, and an unknown one refuses the file. Keys of WireGuard may be in files of their
own (`private_key_file`, `preshared_key_file`), named relative to the configuration.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import tomli

from wgpy.config.conf import HOOKS
from wgpy.config.draft import Draft, Mode, PeerDraft, Spelling
from wgpy.config.draft_credentials import AuthorityDraft, IdentityDraft
from wgpy.config.draft_nat import NatDraft
from wgpy.config.errors import ConfigError
from wgpy.config.model import Config
from wgpy.config.toml_credentials import AUTHORITY, IDENTITY
from wgpy.config.toml_keys import INTERFACE, PEER, Value, unknown_key
from wgpy.config.toml_lines import Path as Place
from wgpy.config.toml_lines import line_index
from wgpy.config.toml_nat import NAT
from wgpy.config.toml_rules import RULES, RuleDraft
from wgpy.config.values import BadValueError
from wgpy.firewall.rules import MAX_RULES, Rule
from wgpy.keys import KeyFormatError

_SPELLING: Final = Spelling("public_key", "allowed_ips", "address")

# What only `wgpy up` understands, as wg-quick(8)'s own keys in a .conf file.
QUICK_KEYS: Final = frozenset({"address", "dns", "mtu", "table", "save_config", *HOOKS.values()})

# The tables that a file can have.
SECTIONS: Final = ("interface", "peer", "authority", "identity", "nat")

_KEY_HINTS: Final = {
    "private_key": "`wgpy genkey` makes one",
    "preshared_key": "`wgpy genpsk` makes one",
    "public_key": "`wgpy pubkey` on the peer prints it",
}


def parse(text: str, mode: Mode, path: Path | None = None) -> tuple[Config, list[str]]:
    """Read the text of a TOML file: what it says, and warnings. Raises ConfigError."""
    try:
        document = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        # `msg` says what is wrong in general terms; the document itself is not repeated.
        raise ConfigError(path, error.lineno, None, f"this is not TOML: {error.msg}") from None
    except (ValueError, RecursionError):
        # A number of thousands of digits, or brackets within brackets without an end.
        raise ConfigError(path, None, None, "this is not TOML that a person wrote") from None
    reader = _Reader(Draft(path, mode, _SPELLING), text)
    reader.document(document)
    config = replace(reader.draft.finish(), says_all=True)
    return config, reader.draft.warnings


class _Reader:
    """Reads a parsed document into a draft."""

    def __init__(self, draft: Draft, text: str) -> None:
        self.draft = draft
        self._lines = line_index(text)
        self._rules: list[tuple[int, Rule]] = []

    def line(self, place: Place) -> int | None:
        """The line of a place, or of the nearest thing around it."""
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place)

    def document(self, document: Mapping[str, object]) -> None:
        """Read it all."""
        for key, value in document.items():
            match key:
                case "interface":
                    self._table((key,), value, INTERFACE)
                case "peer":
                    tables = self._list((key,), value, "write each peer under [[peer]]")
                    for index, table in enumerate(tables):
                        peer = PeerDraft(self.line((key, index)))
                        self.draft.peers.append(peer)
                        self._table((key, index), table, PEER, peer)
                case "authority":
                    self.draft.authority = AuthorityDraft(self.line((key,)))
                    self._table((key,), value, AUTHORITY)
                case "identity":
                    self.draft.identity = IdentityDraft(self.line((key,)))
                    self._table((key,), value, IDENTITY)
                case "nat":
                    self.draft.nat = NatDraft(self.line((key,)))
                    self._table((key,), value, NAT)
                case "allow" | "deny":
                    tables = self._list((key,), value, f"write each rule under [[{key}]]")
                    for index, table in enumerate(tables):
                        self._rule((key, index), table)
                case _:
                    raise unknown_key(self.draft, self.line((key,)), key, SECTIONS)
        self.draft.rules = [rule for _, rule in sorted(self._rules, key=lambda pair: pair[0])]

    def _rule(self, place: Place, table: object) -> None:
        line = self.line(place)
        rule = RuleDraft(str(place[0]), line)
        self._table(place, table, {key: rule.reader(key) for key in RULES})
        self._rules.append((line or 0, rule.finish(self.draft)))
        if len(self._rules) > MAX_RULES:
            raise self.draft.error(line, rule.header, f"there are over {MAX_RULES} rules")

    def _table(
        self,
        place: Place,
        table: object,
        known: Mapping[str, Callable[[Value], None]],
        peer: PeerDraft | None = None,
    ) -> None:
        if not isinstance(table, dict):
            header = f"[{place[0]}]" if len(place) == 1 else f"[[{place[0]}]]"
            raise self.draft.error(
                self.line(place), str(place[0]), "is no table", f"write {header} and keys under it"
            )
        for key, value in table.items():
            if key not in known:
                raise unknown_key(self.draft, self.line((*place, key)), key, tuple(known))
            if key in QUICK_KEYS and known is INTERFACE and self.draft.mode == "wg":
                raise self.draft.error(
                    self.line((*place, key)),
                    key,
                    "is for `wgpy up`, and not for a command of wg(8)",
                    "`wgpy strip` takes it out",
                )
            item = Value(self.draft, self.line, (*place, key), value, peer, table)
            try:
                known[key](item)
            except BadValueError as error:
                raise item.error(error.reason, error.hint) from None
            except KeyFormatError as error:
                hint = _KEY_HINTS[key.removesuffix("_file")]
                raise item.error(str(error), hint) from None

    def _list(self, place: Place, value: object, hint: str) -> list[object]:
        if not isinstance(value, list):
            raise self.draft.error(self.line(place), str(place[-1]), "is no list", hint)
        return value
