"""What is to be in force for the routes of a mesh, as steps of `wgpy up`: a pure function.

Routes that others offer are in a table of their own. Two policy rules lead there: first the main
table, but for its default route, so that every network of the machine's own wins by the kernel's
own look-up, at once when it appears; then our table, for all but the daemon's own packets, which
find coordinators, relays and peers through the machine's own gateway by their mark. Below each
route is one that says "unreachable": when the tunnel is gone, what was to go through it goes
nowhere. An exit has the guard besides (`linux/exits.py`), which comes first and goes last.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from wgpy.ip import Prefix, address_text
from wgpy.linux.firewall import SRC_VALID_MARK
from wgpy.linux.routes import MAIN_TABLE, Rule
from wgpy.mesh.routes_choice import EXITS, Decision
from wgpy.quick.plan import free_table, rule_priorities
from wgpy.quick.steps import (
    AddRoute,
    AddRule,
    AddTable,
    AddUnreachable,
    GuardExit,
    Masquerade,
    SetMark,
    SetSysctl,
    Step,
)

# Steps whose later form takes the place of the earlier in one transaction of nft.
REPLACED = (GuardExit, Masquerade, AddTable)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the plan needs to know of the machine. `steps` are those that are in force, or were
    about to be."""

    addresses: tuple[bytes, ...]
    steps: tuple[Step, ...] = ()
    mark: int = 0
    tables_in_use: frozenset[int] = frozenset()
    rules: tuple[Rule, ...] = ()
    src_valid_mark: str = "0"
    src_valid_mark_before: str = "0"
    ipv6_off: bool = False


@dataclass(frozen=True, slots=True)
class Sharing:
    """What this node offers and masquerades: from the mesh's ranges to these."""

    sources: tuple[Prefix, ...] = ()
    destinations: tuple[Prefix, ...] = ()


def plan(interface: str, decision: Decision, sharing: Sharing, snapshot: Snapshot) -> list[Step]:
    """All the steps that are to be in force, in the order in which they are taken.

    What is in force and fits is taken over as it is. Raises QuickError where there is no room.
    """
    steps: list[Step] = []
    versions = [4] if snapshot.ipv6_off else [4, 6]
    prefixes = [prefix for prefix, _ in decision.taken if prefix.version in versions]
    if decision.exit is None:
        versions = [x for x in versions if any(p.version == x for p in prefixes)]
    if versions:
        steps += _routing(interface, decision, prefixes, versions, snapshot)
    if sharing.destinations:
        steps.append(
            Masquerade(
                interface,
                tuple(map(str, sharing.sources)),
                tuple(map(str, sharing.destinations)),
            )
        )
    return steps


def _routing(
    interface: str,
    decision: Decision,
    prefixes: Sequence[Prefix],
    versions: Sequence[int],
    snapshot: Snapshot,
) -> list[Step]:
    table = _table(snapshot)
    steps: list[Step] = [SetMark(interface, table)]
    closed = list(prefixes)
    opened = list(prefixes)
    if decision.exit is not None:
        steps.append(GuardExit(interface, table, tuple(map(str, decision.past))))
        closed += [x for x in EXITS if x.version in versions]
        opened += [x for x in EXITS if x.version in versions and x.version in decision.versions]
    if 4 in versions:
        steps.append(_src_valid_mark(snapshot))
    for version in versions:
        size = 4 if version == 4 else 16
        addresses = tuple(address_text(x) for x in snapshot.addresses if len(x) == size)
        steps.append(AddTable(interface, version, addresses, table))
    steps += [AddUnreachable(str(x), table) for x in closed]
    steps += [AddRoute(interface, str(x), table) for x in opened]
    for version in versions:
        steps += _rules(version, table, snapshot)
    return steps


def _table(snapshot: Snapshot) -> int:
    """The table, and mark, that there is; else the mark that the daemon has; else a free one."""
    for step in snapshot.steps:
        if isinstance(step, SetMark):
            return step.mark
    return snapshot.mark or free_table(snapshot.tables_in_use)


def _src_valid_mark(snapshot: Snapshot) -> SetSysctl:
    for step in snapshot.steps:
        if isinstance(step, SetSysctl) and step.name == SRC_VALID_MARK:
            return step
    return SetSysctl(SRC_VALID_MARK, "1", snapshot.src_valid_mark_before, snapshot.src_valid_mark)


def _rules(version: int, table: int, snapshot: Snapshot) -> list[Step]:
    ours = [x for x in snapshot.steps if isinstance(x, AddRule) and x.version == version]
    to_main = next((x for x in ours if x.table == MAIN_TABLE), None)
    to_table = next((x for x in ours if x.table == table), None)
    if to_main is None or to_table is None:
        # One of the two that was left alone has its place no more.
        left = {x.priority for x in ours}
        rules = [x for x in snapshot.rules if x.version != version or x.priority not in left]
        later, sooner = rule_priorities(rules, version)
        to_main = AddRule(version, sooner, MAIN_TABLE, None, True)
        to_table = AddRule(version, later, table, table, False)
    return [to_main, to_table]


def difference(now: Sequence[Step], wanted: Sequence[Step]) -> tuple[list[Step], list[Step]]:
    """What is to be undone, the last first, and what is to be taken.

    A step that another takes the place of is in neither: it is forgotten when that one is taken.
    """
    take = [step for step in wanted if step not in now]
    undo = [
        step
        for step in reversed(now)
        if step not in wanted and not any(replaces(new, step) for new in take)
    ]
    return undo, take


def replaces(new: Step, old: Step) -> bool:
    """Whether taking one step undoes another without a gap."""
    if type(new) is not type(old) or not isinstance(new, REPLACED):
        return False
    return not isinstance(new, AddTable) or new.version == getattr(old, "version", 0)
