"""What `up` will do, as a list of steps: pure functions of the configuration and the machine.

The order is that of wg-quick(8), but for one thing: policy rules and the firewall come before the
default route, so that no packet takes a half-made way.

1. `plan_start`: the daemon, PreUp, keys and peers.
2. `plan_network`: addresses, MTU, DNS, routes. It needs a `Snapshot` of the machine after 1.
3. `plan_hooks`: PostUp.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wgpy.config.model import InterfaceConfig
from wgpy.ip import Prefix, address_text
from wgpy.linux.dns import Resolver
from wgpy.linux.firewall import SRC_VALID_MARK
from wgpy.linux.routes import MAIN_TABLE, Rule
from wgpy.quick.steps import (
    AddAddress,
    AddRoute,
    AddRule,
    AddTable,
    Configure,
    GuardLink,
    QuickError,
    RunHook,
    SetDns,
    SetLink,
    SetMark,
    SetSysctl,
    StartDaemon,
    Step,
)

# Outer IPv6 (40 bytes) and UDP (8), the transport message's header (16) and tag (16).
TUNNEL_OVERHEAD = 80
# Ethernet's: what is assumed of a machine that has no way to anywhere yet.
FALLBACK_MTU = 1500
# The first table, and mark, to try for a default route: WireGuard's usual port, as wg-quick(8).
FIRST_TABLE = 51820
# A kernel without IPv6 shows its absence at the first IPv6 address or route.
_IPV6_OFF = "IPv6 is off here (net.ipv6.conf.all.disable_ipv6), and the configuration has"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the plan of the network needs to know of the machine."""

    # The MTU in bytes of the way to each peer's endpoint that has one.
    endpoint_mtus: tuple[int, ...] = ()
    default_mtu: int | None = None
    # Firewall mark of the daemon, 0 for none, and what its peers are allowed.
    mark: int = 0
    allowed_ips: tuple[Prefix, ...] = ()
    tables_in_use: frozenset[int] = frozenset()
    rules: tuple[Rule, ...] = ()
    # Prefixes that go through the link already.
    link_prefixes: frozenset[Prefix] = frozenset()
    # The sysctl now, and before any interface of ours changed it.
    src_valid_mark: str = "0"
    src_valid_mark_before: str = "0"
    resolver: Resolver | None = None
    dns_record: str = ""
    have_nft: bool = True
    ipv6_off: bool = False


def plan_start(
    interface: str,
    config: InterfaceConfig,
    program: str | None,
    *,
    guarded: bool = False,
    signal: str | None = None,
) -> list[Step]:
    """The daemon (unless `program` is None: it runs already), PreUp, keys and peers.

    `guarded`: there are rules of a firewall. Its table goes after the daemon does, so it comes
    before it here. `signal` is the directory that the daemon may write to.
    """
    start: list[Step] = [GuardLink(interface)] if guarded else []
    start += [] if program is None else [StartDaemon(interface, program, signal)]
    return [*start, *plan_hooks(interface, "PreUp", config.pre_up), Configure(interface)]


def plan_hooks(interface: str, phase: str, hooks: Sequence[str]) -> list[Step]:
    """The hooks of one phase, `%i` replaced by the interface's name."""
    return [RunHook(phase, hook.replace("%i", interface)) for hook in hooks]


def plan_network(interface: str, config: InterfaceConfig, snapshot: Snapshot) -> list[Step]:
    """Addresses, MTU and up, DNS, routes. Raises QuickError for what could not work."""
    if snapshot.ipv6_off:
        for address in config.addresses:
            if address.version == 6:
                raise QuickError(f"{_IPV6_OFF} Address {address}: take it out, or turn IPv6 on")
    mtu = config.mtu if config.mtu is not None else tunnel_mtu(snapshot)
    return [
        *(AddAddress(interface, str(address)) for address in config.addresses),
        SetLink(interface, mtu),
        *_plan_dns(interface, config, snapshot),
        *_plan_routes(interface, config, snapshot),
    ]


def tunnel_mtu(snapshot: Snapshot) -> int:
    """The narrowest way to an endpoint, else the default route's, less what the tunnel adds."""
    underlay = min(snapshot.endpoint_mtus, default=snapshot.default_mtu or FALLBACK_MTU)
    return underlay - TUNNEL_OVERHEAD


def _plan_dns(interface: str, config: InterfaceConfig, snapshot: Snapshot) -> list[Step]:
    if not config.dns:
        return []
    if snapshot.resolver is None:
        raise QuickError(NO_RESOLVER)
    record, resolver = snapshot.dns_record or interface, snapshot.resolver.value
    return [SetDns(interface, resolver, record, config.dns, config.dns_search)]


NO_RESOLVER = (
    "DNS needs resolvconf or a running systemd-resolved: install openresolv or systemd-resolved, "
    "or take DNS out of the configuration"
)
NO_NFT_FOR_RULES = "[[allow]] and [[deny]] need nft(8): install nftables"
NO_NFT_TO_ENROL = "`enrol = true` needs nft(8), to wall in who enrols: install nftables"
NO_NFT = "a default route needs nft(8): install nftables, or say `Table = off` and route by PostUp"


def _plan_routes(interface: str, config: InterfaceConfig, snapshot: Snapshot) -> list[Step]:
    if config.table == "off":
        return []
    prefixes = route_order(snapshot.allowed_ips)
    if snapshot.ipv6_off:
        # wg(8) takes `::/0` on such machines, and many configurations say it: leave it out.
        prefixes = [prefix for prefix in prefixes if prefix.version == 4]
    if config.table != "auto":
        return [AddRoute(interface, str(prefix), config.table) for prefix in prefixes]
    # An IPv4 address that stands alone (/32) makes no route in the main table; an IPv6 one does.
    made = {
        address.network
        for address in config.addresses
        if address.version == 6 or address.length < 32
    }
    connected = made | snapshot.link_prefixes
    steps: list[Step] = [
        AddRoute(interface, str(prefix), MAIN_TABLE)
        for prefix in prefixes
        if prefix.length > 0 and not _covered(prefix, connected)
    ]
    defaults = [prefix.version for prefix in prefixes if prefix.length == 0]
    if defaults:
        steps += _plan_defaults(interface, config, snapshot, defaults)
    return steps


def route_order(prefixes: Iterable[Prefix]) -> list[Prefix]:
    """Each prefix once, the longest first, as wg-quick(8) orders its routes."""
    unique = dict.fromkeys(prefixes)
    return sorted(unique, key=lambda prefix: -prefix.length)


def _covered(prefix: Prefix, connected: Iterable[Prefix]) -> bool:
    """Whether a connected route already sends the whole prefix through the link."""
    for other in connected:
        if other.version != prefix.version or other.length > prefix.length:
            continue
        bits = len(prefix.address) * 8 - other.length
        wanted, have = (int.from_bytes(p.address, "big") >> bits for p in (prefix, other))
        if wanted == have:
            return True
    return False


def _plan_defaults(
    interface: str, config: InterfaceConfig, snapshot: Snapshot, versions: Sequence[int]
) -> list[Step]:
    """A default route in a table of its own, which all packets but the daemon's are sent to."""
    if not snapshot.have_nft:
        raise QuickError(NO_NFT)
    steps: list[Step] = []
    table = snapshot.mark
    if not table:
        table = free_table(snapshot.tables_in_use)
        steps.append(SetMark(interface, table))
    if 4 in versions:
        steps.append(
            SetSysctl(SRC_VALID_MARK, "1", snapshot.src_valid_mark_before, snapshot.src_valid_mark)
        )
    for version in versions:
        addresses = tuple(
            address_text(address.address)
            for address in config.addresses
            if address.version == version
        )
        steps.append(AddTable(interface, version, addresses, table))
        to_table, to_main = rule_priorities(snapshot.rules, version)
        steps += [
            AddRule(version, to_table, table, table, False),
            AddRule(version, to_main, MAIN_TABLE, None, True),
            AddRoute(interface, "0.0.0.0/0" if version == 4 else "::/0", table),
        ]
    return steps


def free_table(in_use: frozenset[int]) -> int:
    """The first table from 51820 up that holds no route and that no rule looks in."""
    table = FIRST_TABLE
    while table in in_use:
        table += 1
    return table


def rule_priorities(rules: Iterable[Rule], version: int) -> tuple[int, int]:
    """Two priorities just before every rule but that of the local table (0), the later first.

    They are what the kernel itself would choose. Being named, they let `down` find these very
    rules. Raises QuickError when there is no room.
    """
    taken = [rule.priority for rule in rules if rule.version == version and rule.priority > 0]
    first = min(taken, default=32766)
    if first < 3:
        raise QuickError(
            f"`ip -{version} rule` has a rule of priority {first}, which leaves no room before it; "
            "give it a higher one"
        )
    return first - 1, first - 2
