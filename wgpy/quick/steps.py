"""The steps of bringing an interface up: what each one is, how it is written down and printed.

A step holds what is needed to take it and to undo it, in plain JSON values, and no secret: the
journal keeps it. `machine.py` takes and undoes them.
"""

import dataclasses
import shlex
from dataclasses import dataclass
from typing import Any

from wgpy.firewall.compile import table_name as firewall_table
from wgpy.ip import Prefix, parse_prefix
from wgpy.linux import dns, exits, firewall
from wgpy.linux.routes import MAIN_TABLE, UNREACHABLE_METRIC, Route, Rule


class QuickError(Exception):
    """`up`, `down` or `save` cannot go on: one line, with what to do."""


@dataclass(frozen=True, slots=True)
class StartDaemon:
    """Start the userspace daemon, which makes the link. Undone by deleting the link."""

    interface: str
    program: str
    # A directory that it may write to, as its configuration says (wgpyd only).
    signal: str | None = None

    def words(self) -> tuple[str, ...]:
        """The command line."""
        option = () if self.signal is None else ("--signal", self.signal)
        return (self.program, *option, self.interface)

    def __str__(self) -> str:
        return shlex.join(self.words())


@dataclass(frozen=True, slots=True)
class RunHook:
    """Run a hook of the configuration, `%i` replaced already. Its undoing is the down hooks."""

    phase: str
    command: str

    def __str__(self) -> str:
        return self.command


@dataclass(frozen=True, slots=True)
class Configure:
    """Give the daemon keys and peers. They end with the daemon."""

    interface: str

    def __str__(self) -> str:
        return f"wgpy setconf {self.interface}"


@dataclass(frozen=True, slots=True)
class AddAddress:
    """Give the link an address, `ADDRESS/LENGTH`."""

    interface: str
    address: str

    def __str__(self) -> str:
        version = 6 if ":" in self.address else 4
        return f"ip -{version} address add {self.address} dev {self.interface}"


@dataclass(frozen=True, slots=True)
class SetLink:
    """Set the MTU in bytes, and bring the link up."""

    interface: str
    mtu: int

    def __str__(self) -> str:
        return f"ip link set mtu {self.mtu} up dev {self.interface}"


@dataclass(frozen=True, slots=True)
class SetDns:
    """Tell the resolver of the DNS servers and search domains."""

    interface: str
    resolver: str
    record: str
    servers: tuple[str, ...]
    search: tuple[str, ...]

    def set_commands(self) -> list[dns.Command]:
        """The commands to run."""
        resolver = dns.Resolver(self.resolver)
        return dns.set_commands(resolver, self.interface, self.record, self.servers, self.search)

    def unset_commands(self) -> list[dns.Command]:
        """The commands that undo them."""
        return dns.unset_commands(dns.Resolver(self.resolver), self.interface, self.record)

    def __str__(self) -> str:
        return "; ".join(map(str, self.set_commands()))


@dataclass(frozen=True, slots=True)
class SetMark:
    """Have the daemon mark its own packets, so that policy routing can tell them. Ends with it."""

    interface: str
    mark: int

    def __str__(self) -> str:
        return f"wgpy set {self.interface} fwmark {self.mark}"


@dataclass(frozen=True, slots=True)
class SetSysctl:
    """Set a sysctl. `before` is the value to restore, `found` the one that was there: they differ
    when another interface of ours set it first."""

    name: str
    value: str
    before: str
    found: str

    def __str__(self) -> str:
        return f"sysctl -q {self.name}={self.value}"


@dataclass(frozen=True, slots=True)
class AddTable:
    """Make the interface's nftables table of one IP version."""

    interface: str
    version: int
    addresses: tuple[str, ...]
    mark: int

    def __str__(self) -> str:
        family = "ip" if self.version == 4 else "ip6"
        return f"nft add table {family} {firewall.table_name(self.interface)}"


@dataclass(frozen=True, slots=True)
class GuardLink:
    """Remove an old table of the firewall. The daemon makes a new one when it is configured, and
    undoing this step removes that one, whatever became of the daemon."""

    interface: str

    def __str__(self) -> str:
        return f"nft delete table inet {firewall_table(self.interface)}"


@dataclass(frozen=True, slots=True)
class AddRule:
    """Add a policy rule."""

    version: int
    priority: int
    table: int
    not_mark: int | None
    suppress_default: bool

    def rule(self) -> Rule:
        """The rule as the routing code takes it."""
        return Rule(self.version, self.priority, self.table, self.not_mark, self.suppress_default)

    def __str__(self) -> str:
        return f"ip -{self.version} rule add {self.rule().words()}"


@dataclass(frozen=True, slots=True)
class AddRoute:
    """Add a route through the link."""

    interface: str
    prefix: str
    table: int

    def route(self) -> Route:
        """The route as the routing code takes it."""
        return Route(parse_prefix(self.prefix), self.table)

    def __str__(self) -> str:
        version = 6 if ":" in self.prefix else 4
        table = "" if self.table == MAIN_TABLE else f" table {self.table}"
        return f"ip -{version} route add {self.prefix} dev {self.interface}{table}"


@dataclass(frozen=True, slots=True)
class AddUnreachable:
    """Where no other route of the table leads to a prefix, nothing does: not the next rule either.

    It outlives the link, so what was to go through a tunnel goes nowhere when the tunnel is gone.
    """

    prefix: str
    table: int

    def route(self) -> Route:
        """What it is about, as the routing code takes it."""
        return Route(parse_prefix(self.prefix), self.table)

    def __str__(self) -> str:
        version = 6 if ":" in self.prefix else 4
        what = f"unreachable {self.prefix} metric {UNREACHABLE_METRIC}"
        return f"ip -{version} route add {what} table {self.table}"


@dataclass(frozen=True, slots=True)
class GuardExit:
    """Let nothing leave but by the tunnel, by the daemon's mark, and to these local prefixes."""

    interface: str
    mark: int
    local: tuple[str, ...]

    def prefixes(self) -> tuple[Prefix, ...]:
        """The local prefixes as nft's table takes them."""
        return tuple(map(parse_prefix, self.local))

    def __str__(self) -> str:
        return f"nft add table inet {exits.guard_name(self.interface)}"


@dataclass(frozen=True, slots=True)
class Masquerade:
    """What comes from the mesh for what this node offers leaves with the node's own address."""

    interface: str
    sources: tuple[str, ...]
    destinations: tuple[str, ...]

    def pairs(self) -> list[tuple[Prefix, Prefix]]:
        """Each source with each destination of its IP version."""
        return [
            (source, destination)
            for source in map(parse_prefix, self.sources)
            for destination in map(parse_prefix, self.destinations)
            if source.version == destination.version
        ]

    def __str__(self) -> str:
        return f"nft add table inet {exits.masquerade_name(self.interface)}"


Step = (
    StartDaemon
    | RunHook
    | Configure
    | AddAddress
    | SetLink
    | SetDns
    | SetMark
    | SetSysctl
    | AddTable
    | GuardLink
    | AddRule
    | AddRoute
    | AddUnreachable
    | GuardExit
    | Masquerade
)

# What is gone when the link and its daemon are: nothing else undoes it where `up` started them.
ENDS_WITH_LINK = (Configure, AddAddress, SetLink, SetMark, AddRoute)

_KINDS: dict[str, type[Step]] = {
    kind.__name__: kind
    for kind in (
        StartDaemon,
        RunHook,
        Configure,
        AddAddress,
        SetLink,
        SetDns,
        SetMark,
        SetSysctl,
        AddTable,
        GuardLink,
        AddRule,
        AddRoute,
        AddUnreachable,
        GuardExit,
        Masquerade,
    )
}


def step_to_json(step: Step) -> dict[str, Any]:
    """The step as a JSON object: its kind and its fields."""
    return {"step": type(step).__name__, **dataclasses.asdict(step)}


def step_from_json(value: dict[str, Any]) -> Step:
    """The step that `step_to_json` wrote. Raises ValueError."""
    fields = dict(value)
    kind = _KINDS.get(fields.pop("step", ""))
    if kind is None:
        raise ValueError("a step of unknown kind")
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    try:
        return kind(**values)
    except TypeError:
        raise ValueError(f"a {kind.__name__} with other fields than it has") from None
