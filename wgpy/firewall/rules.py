"""The rules of an interface's firewall, as text and as JSON.

A rule is `allow` or `deny`, whom it is for (`from`), where to (`to`), and for which protocols and
ports. The order of rules does not matter: a connection that any `deny` fits is denied, one that an
`allow` fits is allowed, and any other is left to the default (verdict.py).

Everything here is read from outside; RulesError is all that it raises.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from wgpy.ip import Prefix, parse_prefix

# A rule becomes a handful of nftables rules for each way a packet can take. A list that a person
# keeps is far shorter.
MAX_RULES: Final = 256
# Words in one list of a rule.
MAX_WORDS: Final = 16
# The longest JSON of a rule set: it is one line of the userspace API.
MAX_JSON_LENGTH: Final = 60_000
# Configured peers that rules can name; each is in the JSON with its key of 44 characters.
MAX_PEERS: Final = 256
# A path and a line, as a message shows it.
MAX_ORIGIN: Final = 300
# A dNSName has up to 253 characters; the name of a configured peer up to 64.
_MAX_NAME: Final = 253
_GROUP: Final = re.compile(r"[a-z0-9-]{1,32}")
_PORTS: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?/(tcp|udp)")
_KEY: Final = re.compile(r"[A-Za-z0-9+/]{43}=")


class RulesError(ValueError):
    """A rule that is none: what is wrong, and what to write instead (or None)."""

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(f"{reason}; {hint}" if hint else reason)
        self.reason = reason
        self.hint = hint


class Action(Enum):
    """What a rule does with a connection that it fits."""

    ALLOW = "allow"
    DENY = "deny"


class Kind(Enum):
    """What a selector looks at."""

    ANY = "any"
    # This machine itself.
    THIS = "this"
    # Members of a group, which their credentials say.
    GROUP = "group"
    # The member of that name.
    NAME = "name"
    # Addresses that are no peer's and not this machine's: networks that it forwards to.
    NETWORK = "net"


@dataclass(frozen=True, slots=True)
class Selector:
    """One end of a connection: `any`, `this`, `group:NAME`, `name:NAME` or `net:PREFIX`."""

    kind: Kind
    name: str = ""
    prefix: Prefix | None = None

    def __str__(self) -> str:
        if self.kind in (Kind.ANY, Kind.THIS):
            return str(self.kind.value)
        return f"{self.kind.value}:{self.prefix or self.name}"


class Protocol(Enum):
    """What a connection speaks. ICMP is that of either IP version."""

    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"


@dataclass(frozen=True, slots=True)
class Service:
    """A protocol and, for TCP and UDP, destination ports from `first` to `last`."""

    protocol: Protocol
    first: int = 0
    last: int = 65_535

    @property
    def every_port(self) -> bool:
        """Whether the ports do not matter."""
        return (self.first, self.last) == (0, 65_535)

    def __str__(self) -> str:
        if self.every_port:
            return self.protocol.value
        ports = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return f"{ports}/{self.protocol.value}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. No `services` means every protocol there is.

    `origin` is where it was written, `FILE:LINE`, or None.
    """

    action: Action
    sources: tuple[Selector, ...]
    destinations: tuple[Selector, ...]
    services: tuple[Service, ...] = ()
    origin: str | None = None

    def __str__(self) -> str:
        ends = (", ".join(map(str, side)) for side in (self.sources, self.destinations))
        services = ", ".join(map(str, self.services)) or "any protocol"
        return f"{self.action.value} from {' to '.join(ends)}, {services}"


@dataclass(frozen=True, slots=True)
class Settings:
    """What an interface is told: its rules, and which configured peers they name.

    `peers` has the names of configured peers that a rule speaks of, with their public keys in
    base64: only these of the configured peers are members.
    """

    rules: tuple[Rule, ...] = ()
    peers: Mapping[str, str] = field(default_factory=dict)


# --- Text ---


def parse_selector(text: str) -> Selector:
    """Read one selector. Raises RulesError."""
    hint = "write any, this, group:NAME, name:NAME or net:PREFIX"
    if text in ("any", "this"):
        return Selector(Kind(text))
    kind, colon, value = text.partition(":")
    if not colon or kind not in ("group", "name", "net"):
        raise RulesError(f"{_shown(text)} is no end of a connection", hint)
    if kind == "group":
        if not _GROUP.fullmatch(value):
            raise RulesError(
                f"{_shown(text)} names no group", "a group is 1 to 32 of a-z, 0-9 and -"
            )
        return Selector(Kind.GROUP, value)
    if kind == "name":
        if not value.isprintable() or not 0 < len(value) <= _MAX_NAME:
            raise RulesError(f"{_shown(text)} names nobody", hint)
        return Selector(Kind.NAME, value)
    try:
        return Selector(Kind.NETWORK, prefix=parse_prefix(value))
    except ValueError:
        raise RulesError(
            f"{_shown(text)} has no network", "write one like net:192.168.1.0/24"
        ) from None


def parse_service(text: str) -> Service:
    """Read `tcp`, `udp`, `icmp`, `PORT/tcp` or `FIRST-LAST/udp`. Raises RulesError."""
    if text in ("tcp", "udp", "icmp"):
        return Service(Protocol(text))
    hint = "write one like 22/tcp, 8000-8999/udp, tcp, udp or icmp"
    match = _PORTS.fullmatch(text)
    if match is None:
        raise RulesError(f"{_shown(text)} is no protocol and no port of one", hint)
    first = int(match[1])
    last = int(match[2]) if match[2] else first
    if not 1 <= first <= last <= 65_535:
        raise RulesError(f"{_shown(text)} has ports that do not exist", "ports are 1 to 65535")
    return Service(Protocol(match[3]), first, last)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def named(rules: Iterable[Rule]) -> set[str]:
    """The names that rules speak of."""
    return {
        selector.name
        for rule in rules
        for selector in (*rule.sources, *rule.destinations)
        if selector.kind is Kind.NAME
    }


# --- JSON, as the daemon is told and tells ---


def to_json(settings: Settings) -> str:
    """The settings in one line of ASCII. Raises RulesError if it is longer than a line may be."""
    rules: list[dict[str, Any]] = []
    for rule in settings.rules:
        value: dict[str, Any] = {
            "action": rule.action.value,
            "from": list(map(str, rule.sources)),
            "to": list(map(str, rule.destinations)),
        }
        if rule.services:
            value["ports"] = list(map(str, rule.services))
        if rule.origin is not None:
            value["at"] = rule.origin
        rules.append(value)
    text = json.dumps({"rules": rules, "peers": dict(settings.peers)}, separators=(",", ":"))
    if len(text) > MAX_JSON_LENGTH:
        raise RulesError(f"the rules take {len(text)} characters, of at most {MAX_JSON_LENGTH}")
    return text


def from_json(text: str) -> Settings:
    """The settings that `to_json` wrote. Raises RulesError for anything else."""
    if len(text) > MAX_JSON_LENGTH:
        raise RulesError(f"the rules are over {MAX_JSON_LENGTH} characters")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise RulesError("the rules are no JSON") from None
    rules, peers = _object(value, ("rules", "peers"), ())
    if not isinstance(rules, list) or len(rules) > MAX_RULES:
        raise RulesError(f"the rules are no list of at most {MAX_RULES}")
    if not isinstance(peers, dict) or len(peers) > MAX_PEERS:
        raise RulesError(f"the peers are no table of at most {MAX_PEERS}")
    for name, key in peers.items():
        if not name or len(name) > _MAX_NAME or not name.isprintable():
            raise RulesError("a peer has no name")
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise RulesError(f"the peer {_shown(name)} has no public key")
    return Settings(tuple(map(_rule, rules)), peers)


def _rule(value: object) -> Rule:
    action, sources, destinations, services, origin = _object(
        value, ("action", "from", "to"), ("ports", "at")
    )
    if action not in ("allow", "deny"):
        raise RulesError("a rule neither allows nor denies")
    if origin is not None and not (
        isinstance(origin, str) and origin.isprintable() and len(origin) <= MAX_ORIGIN
    ):
        raise RulesError("a rule's origin is no text of one line")
    return Rule(
        Action(action),
        tuple(map(parse_selector, _words(sources))),
        tuple(map(parse_selector, _words(destinations))),
        () if services is None else tuple(map(parse_service, _words(services))),
        origin,
    )


def _words(value: object) -> list[str]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_WORDS:
        raise RulesError(f"a rule has a list that is not of 1 to {MAX_WORDS} texts")
    words = [word for word in value if isinstance(word, str)]
    if len(words) != len(value):
        raise RulesError("a rule has a list of other things than texts")
    return words


def _object(value: object, must: tuple[str, ...], may: tuple[str, ...]) -> list[Any]:
    """The values of an object that has these keys and no others; None for one that is absent."""
    if not isinstance(value, dict) or not set(must) <= set(value) <= {*must, *may}:
        raise RulesError(f"the rules want an object with {', '.join(must)}")
    return [value.get(key) for key in (*must, *may)]
