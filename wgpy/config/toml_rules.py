"""What each key of a rule in wgpy.toml does: `[[allow]]` and `[[deny]]`."""

from collections.abc import Callable
from typing import Final

from wgpy.config.draft import Draft
from wgpy.config.toml_keys import Value
from wgpy.config.values import BadValueError
from wgpy.firewall.rules import (
    MAX_ORIGIN,
    MAX_WORDS,
    Action,
    Rule,
    RulesError,
    Selector,
    Service,
    parse_selector,
    parse_service,
)

RULES: Final = ("from", "to", "ports")


class RuleDraft:
    """A rule as far as it was read. `line` is that of its header."""

    def __init__(self, action: str, line: int | None) -> None:
        self.header = f"[[{action}]]"
        self._action = Action(action)
        self._line = line
        self._sources: list[Selector] = []
        self._destinations: list[Selector] = []
        self._services: list[Service] = []

    def reader(self, key: str) -> Callable[[Value], None]:
        """What reads the value of one of RULES. It raises BadValueError and ConfigError."""
        if key == "ports":
            return lambda item: self._each(item, self._add_service)
        target = self._sources if key == "from" else self._destinations
        return lambda item: self._each(item, lambda text: target.append(parse_selector(text)))

    def _add_service(self, text: str) -> None:
        self._services.append(parse_service(text))

    def _each(self, item: Value, read: Callable[[str], None]) -> None:
        def one(text: str, _line: int | None) -> None:
            try:
                read(text)
            except RulesError as error:
                raise BadValueError(error.reason, error.hint) from None

        count = len(item.texts())
        if not 0 < count <= MAX_WORDS:
            raise BadValueError(f"has {count} texts", f"write 1 to {MAX_WORDS}")
        item.each(one)

    def finish(self, draft: Draft) -> Rule:
        """The rule, once its table was read. Raises ConfigError."""
        for key, words in (("from", self._sources), ("to", self._destinations)):
            if not words:
                hint = 'give it one; "any" is everybody'
                raise draft.error(self._line, self.header, f"this rule has no {key}", hint)
        where = None if draft.path is None or self._line is None else f"{draft.path}:{self._line}"
        if where is not None and not (where.isprintable() and len(where) <= MAX_ORIGIN):
            where = None
        return Rule(
            self._action,
            tuple(dict.fromkeys(self._sources)),
            tuple(dict.fromkeys(self._destinations)),
            tuple(dict.fromkeys(self._services)),
            where,
        )
