"""What `wgpy status` shows: the daemon's peers and the agent's nodes as one table, and as JSON.

Pure: the daemon's state, the agent's answer and the time are arguments. The agent's answer is read
leniently, for it is only shown; what others chose in it goes through `style.printable`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from wgpy.cli import style
from wgpy.cli.show_nat import milliseconds, path_json, relay_text
from wgpy.cli.table import Cell, Column, cut, table
from wgpy.device.paths import PathKind, PathState
from wgpy.device.uapi import DeviceState, PeerState
from wgpy.identity.claims import Kind

# After this a session is over (whitepaper 6.1: Reject-After-Time), and nothing goes anywhere.
SESSION_LIFE: Final = 180
_SHORT_KEY: Final = 12
# Of the last probes: one that got lost now and then is not worth a colour.
_LOSS: Final = 0.05
# It is renewed at two thirds of its life: the last day of seven should never be seen.
_SOON: Final = 86_400

_KINDS: Final = {
    PathKind.DIRECT: Cell("direct", style.GREEN),
    PathKind.RELAY: Cell("relay", style.YELLOW),
    PathKind.SEARCHING: Cell("search", style.RED),
    PathKind.NONE: Cell("idle"),
}
_COLUMNS: Final = (
    Column("NODE", least=8),
    Column("ADDRESS", least=15, yields=4),
    Column("PATH"),
    Column("AT", least=17, yields=2),
    Column("RTT", right=True),
    Column("LOSS", right=True, yields=1),
    Column("HANDSHAKE", right=True),
    Column("IN", right=True, yields=3),
    Column("OUT", right=True, yields=3),
    Column("CERT", right=True, yields=1),
)


@dataclass(frozen=True, slots=True)
class Node:
    """One line: a peer of the daemon, a node that the agent knows, or both.

    `path` of a plain peer follows from its endpoint and its last handshake. `last_handshake` and
    `expires` are in seconds since 1970, None for never and for unknown.
    """

    name: str
    key: str
    addresses: tuple[str, ...]
    path: PathState
    last_handshake: int | None = None
    received: int = 0
    sent: int = 0
    expires: int | None = None
    groups: tuple[str, ...] = ()
    coordinator: bool = False
    quarantine: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """An interface. `mesh` is the agent's answer, None without one; `problem` is why, if there
    should be one."""

    interface: str
    device: DeviceState | None
    nodes: tuple[Node, ...]
    mesh: Mapping[str, Any] | None = None
    problem: str = ""


def view(
    interface: str,
    device: DeviceState | None,
    mesh: Mapping[str, Any] | None,
    now: int,
    problem: str = "",
) -> View:
    """What is known of an interface: the live ones first, then by name."""
    peers = [] if device is None else device.peers
    nodes = {peer.public_key.base64(): _of_peer(peer, now) for peer in peers}
    for found in objects(None if mesh is None else mesh.get("nodes")):
        key = style.printable(found.get("key"))
        node = nodes.get(key, Node("", key, (), PathState(PathKind.NONE)))
        nodes[key] = _with_directory(node, found)
    own = "" if device is None or device.own_public_key is None else device.own_public_key.base64()
    nodes.pop(own, None)
    known = objects(None if mesh is None else mesh.get("coordinators"))
    coordinators = {style.printable(x.get("name")) for x in known} - {""}
    for key, node in nodes.items():
        if node.name in coordinators:
            nodes[key] = replace(node, coordinator=True)
    own_name = "" if mesh is None else style.printable(mesh.get("name"))
    others = [node for node in nodes.values() if not own_name or node.name != own_name]
    order = sorted(others, key=lambda x: (x.path.kind is PathKind.NONE, not x.name, _natural(x)))
    return View(interface, device, tuple(order), mesh, problem)


def _natural(node: Node) -> tuple[tuple[int, int, str], ...]:
    """An order of names in which node2 comes before node10."""
    parts = re.split(r"([0-9]+)", node.name or node.key)
    return tuple((1, int(x), "") if x.isdecimal() and x.isascii() else (0, 0, x) for x in parts)


def objects(value: object) -> list[Mapping[str, Any]]:
    """The objects of what should be an array of them."""
    return [x for x in value if isinstance(x, dict)] if isinstance(value, list) else []


def moment(value: object) -> int | None:
    """Seconds since 1970 of what should be such a number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**63:
        return None
    return int(value)


def _of_peer(peer: PeerState, now: int) -> Node:
    claims = peer.claims
    handshake = peer.last_handshake[0] or None
    path = peer.path
    if path is None:
        live = handshake is not None and now - handshake < SESSION_LIFE
        kind = PathKind.DIRECT if live and peer.endpoint is not None else PathKind.NONE
        path = PathState(kind, place=peer.endpoint)
    name = claims.name if claims else peer.expectation.name if peer.expectation else ""
    return Node(
        name=name or "",
        key=peer.public_key.base64(),
        addresses=tuple(str(prefix) for prefix in peer.allowed_ips),
        path=path,
        last_handshake=handshake,
        received=peer.rx_bytes,
        sent=peer.tx_bytes,
        expires=claims.expiry if claims else None,
        groups=claims.groups if claims else (),
        quarantine=claims is not None and claims.kind is Kind.ENROLMENT,
    )


def _with_directory(node: Node, found: Mapping[str, Any]) -> Node:
    """A peer with what the agent knows of it; the daemon's word on a live session goes first."""
    addresses = tuple(_words(found.get("addresses")))
    expires = moment(found.get("expires"))
    return replace(
        node,
        name=style.printable(found.get("name")) or node.name,
        addresses=node.addresses or addresses,
        expires=node.expires or expires,
        groups=node.groups or tuple(_words(found.get("groups"))),
        coordinator=found.get("coordinator") is True,
    )


# --- For people ---


def text(views: Sequence[View], now: int, width: int | None) -> list[str]:
    """Every interface, in lines with their colours, none longer than `width` if there is one."""
    if not views:
        return ["No interface is up."]
    lines: list[str] = []
    for found in views:
        lines += ["", *_one(found, now, width)] if lines else _one(found, now, width)
    return lines


def _one(found: View, now: int, width: int | None) -> list[str]:
    heads = _heads(found, now)
    if width is not None:
        heads = [cut(line, width) for line in heads]
    if not found.nodes:
        return [*heads, "no peers"]
    return [*heads, *table(_COLUMNS, [_row(node, now) for node in found.nodes], width)]


def _heads(found: View, now: int) -> list[str]:
    name = f"{style.GREEN}{style.BOLD}{found.interface}{style.RESET}"
    lines = []
    if found.mesh is not None:
        whole = [style.printable(found.mesh.get("name")), *_words(found.mesh.get("addresses"))]
        lines.append(f"{name}  {' '.join(whole).strip()}")
        lines.append(_mesh_line(found.mesh, now))
    elif found.device is not None:
        key = found.device.own_public_key
        own = "" if key is None else f"  {key.base64()}"
        port = f", port {found.device.listen_port}" if found.device.listen_port else ""
        lines.append(f"{name}{own}{port}")
    else:
        lines.append(name)
    if found.device is None and (found.mesh or {}).get("state") != "removed":
        lines.append(f"{style.RED}the tunnel is down: no daemon answers{style.RESET}")
    mesh = found.mesh or {}
    problems = [found.problem, style.printable(mesh.get("problem"))]
    lines += [f"{style.RED}{text}{style.RESET}" for text in problems if text]
    lines += _route_lines(mesh)
    if found.nodes:
        lines.append(_counts(found.nodes))
    return lines


def _counts(nodes: Sequence[Node]) -> str:
    kinds = [node.path.kind for node in nodes]
    parts = [f"{len(nodes)} node{'' if len(nodes) == 1 else 's'}"]
    for kind, (short, colour) in _KINDS.items():
        count = kinds.count(kind)
        word = "searching" if kind is PathKind.SEARCHING else short
        if count:
            parts.append(f"{colour}{count} {word}{style.RESET}" if colour else f"{count} {word}")
    return ", ".join(parts)


def _mesh_line(mesh: Mapping[str, Any], now: int) -> str:
    state = style.printable(mesh.get("state"))
    coordinators = objects(mesh.get("coordinators"))
    live = [style.printable(x.get("name")) for x in coordinators if x.get("connected") is True]
    if live:
        parts = [f"{style.GREEN}connected{style.RESET} to {', '.join(live)}"]
    elif state == "pending":
        parts = [f"{style.YELLOW}waits for an operator's approval{style.RESET}"]
    elif state == "joining":
        parts = [f"{style.YELLOW}joining{style.RESET}"]
    elif state == "removed":
        return f"{style.RED}{style.printable(mesh.get('reason')) or 'removed'}{style.RESET}"
    else:
        parts = [f"{style.RED}no coordinator answers{style.RESET}, working from what is known"]
    reason = style.printable(mesh.get("reason"))
    if reason and not live:
        parts[0] += f" ({reason})"
    expires = moment(mesh.get("certificate_expires"))
    if expires is not None:
        if expires > now:
            parts.append(f"certificate ends in {style.leading(expires - now)}")
        else:
            parts.append(f"{style.RED}certificate has ended{style.RESET}")
    names = _object(mesh.get("names"))
    if style.printable(names.get("way")):
        parts.append(f"names by {style.printable(names.get('way'))}")
    elif names:
        parts.append(f"{style.YELLOW}names are not resolved{style.RESET}")
    return ", ".join(parts)


def _route_lines(mesh: Mapping[str, Any]) -> list[str]:
    """What goes through others: subnets, everything; and what of that is not as it was wished."""
    routes, names = _object(mesh.get("routes")), _object(mesh.get("names"))
    ways = [
        f"{style.printable(x.get('prefix'))} through {style.printable(x.get('node'))}"
        for x in objects(routes.get("taken"))
    ]
    exit_node = style.printable(routes.get("exit"))
    if exit_node:
        ways.append(f"everything else through {exit_node}")
    lines = [f"routes: {', '.join(ways)}"] if ways else []
    for text in (style.printable(names.get("problem")), style.printable(routes.get("problem"))):
        if text:
            lines.append(f"{style.RED}{text}{style.RESET}")
    said = [*_words(mesh.get("remarks")), *_words(routes.get("said"))]
    return lines + [f"{style.YELLOW}{text}{style.RESET}" for text in said if text]


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _words(value: object) -> list[str]:
    return [style.printable(x) for x in value] if isinstance(value, list) else []


def _row(node: Node, now: int) -> list[Cell]:
    path = node.path
    at = ""
    if path.kind is PathKind.RELAY and path.relay is not None:
        at = relay_text(path.relay)
    elif path.kind is PathKind.DIRECT and path.place is not None:
        at = str(path.place)
    elif path.kind is PathKind.SEARCHING:
        at = path.reason
    kind = Cell("enrolling", style.YELLOW) if node.quarantine else _KINDS[path.kind]
    live = path.kind in (PathKind.DIRECT, PathKind.RELAY)
    rtt = milliseconds(path.round_trip) if live and path.round_trip is not None else ""
    lossy = live and path.loss >= _LOSS
    age = "" if node.last_handshake is None else short_time(max(0, now - node.last_handshake))
    name = node.name or node.key[:_SHORT_KEY] + "…"
    return [
        Cell(name + "*" if node.coordinator else name),
        Cell(_bare(node.addresses[0]) if node.addresses else ""),
        kind,
        Cell(at),
        Cell(rtt),
        Cell(f"{path.loss:.0%}" if live and path.round_trip is not None else "", _red(lossy)),
        Cell(age),
        Cell(short_size(node.received) if node.received else ""),
        Cell(short_size(node.sent) if node.sent else ""),
        _ends(node.expires, now),
    ]


def _bare(prefix: str) -> str:
    """A whole address without its length; a prefix as it is."""
    address, _, length = prefix.partition("/")
    return address if length == ("128" if ":" in address else "32") else prefix


def _ends(expires: int | None, now: int) -> Cell:
    if expires is None:
        return Cell("")
    if expires <= now:
        return Cell("ended", style.RED)
    return Cell(short_time(expires - now), _red(expires - now < _SOON))


def _red(is_bad: bool) -> str:
    return style.RED if is_bad else ""


def short_time(seconds: int) -> str:
    """A time in its largest unit, rounded down: `59s`, `3m`, `2h`, `6d`."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def short_size(count: int) -> str:
    """A number of bytes in at most five characters: `999B`, `1.2M`, `1023K`."""
    if count < 1024:
        return f"{count}B"
    power = min((count.bit_length() - 1) // 10, 5)
    value = count / 1024**power
    unit = "KMGTP"[power - 1]
    return f"{value:.1f}{unit}" if value < 9.95 else f"{value:.0f}{unit}"


# --- For programs ---


def as_json(found: View) -> dict[str, Any]:
    """One interface. Times are seconds, those of the wall clock since 1970."""
    mesh = None
    if found.mesh is not None:
        mesh = {key: value for key, value in found.mesh.items() if key != "nodes"}
    device = found.device
    key = None if device is None else device.own_public_key
    return {
        "up": device is not None,
        "publicKey": None if key is None else key.base64(),
        "listenPort": None if device is None else device.listen_port,
        "mesh": mesh,
        "problem": found.problem or None,
        "nodes": [
            {
                "name": node.name or None,
                "key": node.key,
                "addresses": list(node.addresses),
                "groups": list(node.groups),
                "coordinator": node.coordinator,
                "quarantine": node.quarantine,
                "path": path_json(node.path),
                "lastHandshake": node.last_handshake,
                "received": node.received,
                "sent": node.sent,
                "certificateExpires": node.expires,
            }
            for node in found.nodes
        ],
    }
