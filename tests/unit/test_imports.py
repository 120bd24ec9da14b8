"""Who may import whom: every import statement of the package against the rules of the house.

docs/architecture.md says why the rules are as they are. Imports inside functions count like those
at the head of a file, and so does `importlib.import_module("...")`.
"""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.requirements import ROOT

# What the modules of a room may import from the package, beside their own room and `wgpy` itself.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "__init__": (),
    "ip": (),
    "keys": (),
    "protocol": ("wgpy.keys",),
    # It knows key pairs, endpoints and prefixes; it has never heard of a handshake.
    "datapath": (
        "wgpy._native",
        "wgpy.ip",
        "wgpy.protocol.activity",
        "wgpy.protocol.constants",
        "wgpy.protocol.keypair",
    ),
    "linux": ("wgpy.ip", "wgpy.datapath.endpoint"),
    # Rules and verdicts are pure; table.py alone brings them into force.
    "firewall": ("wgpy.ip", "wgpy.linux.nft", "wgpy.linux.conntrack"),
    "device": (
        "wgpy.ip",
        "wgpy.keys",
        "wgpy.protocol",
        "wgpy.datapath",
        "wgpy.linux",
        "wgpy.identity",
        "wgpy.firewall",
    ),
    "config": (
        "wgpy.ip",
        "wgpy.keys",
        "wgpy.device.uapi",
        # What both sides say of ways through NATs, and how servers are written.
        "wgpy.device.paths",
        "wgpy.device.servers",
        "wgpy.firewall.rules",
        "wgpy.identity.settings",
        "wgpy.identity.words",
    ),
    "quick": (
        "wgpy.ip",
        "wgpy.keys",
        "wgpy.config",
        "wgpy.linux",
        "wgpy.device.client",
        "wgpy.device.uapi",
        "wgpy.firewall.compile",
        "wgpy.firewall.table",
        # The address of who is to enrol, and the route to where those are.
        "wgpy.identity.claims",
        "wgpy.identity.derived",
        "wgpy.identity.own",
    ),
    "demo": ("wgpy.ip", "wgpy.keys", "wgpy.device.client", "wgpy.device.uapi"),
    "doctor": ("wgpy.linux", "wgpy.datapath.portable", "wgpy._native"),
    "cli": ("wgpy",),
    # The way of packets is told to a device; protocols, and what they need of ours, are pure.
    "nat": (
        "wgpy.ip",
        "wgpy.keys",
        "wgpy.protocol",
        "wgpy.datapath.contract",
        "wgpy.device",
        "wgpy.linux",
    ),
    # Servers that help through NATs are written in one way everywhere.
    "mesh": (
        *("wgpy.ip", "wgpy.keys", "wgpy.identity", "wgpy.device.servers"),
        # The agent keeps a daemon as a configuration would, and by the same ways as `up`; names and
        # routes are told to the machine with the steps and the journal of `up`.
        *("wgpy.config.model", "wgpy.config.sync", "wgpy.config.errors"),
        *("wgpy.device.client", "wgpy.device.paths", "wgpy.device.uapi"),
        *("wgpy.linux", "wgpy.quick"),
        # It carries the files in which daemons tell each other where they are.
        *("wgpy.nat.signal_file", "wgpy.nat.signal_message"),
    ),
    # Who may come in is decided without knowing how packets move.
    "identity": ("wgpy.ip", "wgpy.keys"),
}

# What is pure: no clock, no randomness, no input and no output.
PURE = {"collections", "dataclasses", "enum", "functools", "math", "struct", "typing", "abc"}
HASHES = {"hashlib", "hmac"}

# All of a mesh that knows of a database.
MESH_STORE = (
    *("wgpy.mesh.store", "wgpy.mesh.store_changes", "wgpy.mesh.store_engine"),
    *("wgpy.mesh.store_migrations", "wgpy.mesh.store_nodes", "wgpy.mesh.store_restore"),
    *("wgpy.mesh.store_revoke", "wgpy.mesh.store_rows", "wgpy.mesh.store_schema"),
    "wgpy.mesh.store_work",
)

# Packages of others -> the only modules, or rooms, that import them.
OUTSIDERS: dict[str, tuple[str, ...]] = {
    "noise": ("wgpy.protocol.noise", "wgpy.protocol.handshake"),
    "cryptography": (
        "wgpy.keys",
        "wgpy.protocol",
        "wgpy.datapath.session",
        "wgpy.identity",
        # The exception for what does not authenticate.
        "wgpy.nat.sealed",
    ),
    # The demo lays the cable between its two machines, which no tunnel needs.
    "pyroute2": ("wgpy.linux", "wgpy.demo.cable"),
    "asyncio": (
        "wgpy.device.daemon",
        "wgpy.device.service",
        "wgpy.device.server",
        "wgpy.nat.portmap_probe",
        "wgpy.nat.portmap_run",
        "wgpy.nat.portmap_wire",
        "wgpy.nat.upnp_run",
        "wgpy.nat.netcheck_services",
        "wgpy.nat.signal_watch",
        "wgpy.nat.stun_serve",
        # What runs in the foreground until a signal ends it.
        "wgpy.cli.portmap",
        "wgpy.cli.stun_server",
        *("wgpy.nat.turn_stream", "wgpy.nat.turn_wire", "wgpy.nat.office"),
        *("wgpy.mesh.agent", "wgpy.mesh.agent_socket", "wgpy.mesh.applier", "wgpy.mesh.child"),
        *("wgpy.mesh.client", "wgpy.mesh.connection", "wgpy.mesh.enrol", "wgpy.mesh.follower"),
        *("wgpy.mesh.api", "wgpy.mesh.api_socket", "wgpy.mesh.coordinator", "wgpy.mesh.desk"),
        *("wgpy.mesh.coordinator_run", "wgpy.mesh.hub", "wgpy.mesh.operator_socket"),
        "wgpy.cli.coordinator",
        "wgpy.mesh.dns_server",
    ),
    # It reads and writes messages of DNS.
    "dns": ("wgpy.mesh.dns",),
    # The command only looks whether it is there.
    "aiohttp": (
        *("wgpy.mesh.client", "wgpy.cli.mesh_run"),
        *("wgpy.mesh.api", "wgpy.mesh.api_socket"),
    ),
    "yarl": ("wgpy.mesh.client",),
    # It reads what strangers write, in C: it runs in a process of its own. The other only looks
    # whether it is there.
    "miniupnpc": ("wgpy.nat.upnp_worker", "wgpy.nat.upnp_run"),
    "tomli": ("wgpy.config.toml",),
    # The ledgers; of the mesh's store, what its library has no word for: copies, a look whether
    # somebody has written, the number of an error.
    "sqlite3": (
        *("wgpy.identity", "wgpy.mesh.store_engine", "wgpy.mesh.store_notify"),
        "wgpy.mesh.store_restore",
    ),
    "sqlalchemy": MESH_STORE,
    "psycopg": ("wgpy.mesh.store_engine", "wgpy.mesh.store_notify"),
    "jwt": ("wgpy.identity.token", "wgpy.identity.signer"),
    "aioice": ("wgpy.nat",),
    # It draws QR codes, for who invites.
    "segno": ("wgpy.mesh.line",),
}

# What in nat/ has sockets, a clock or an event loop; the rest is told what came, and when.
NAT_SHELLS = (
    "wgpy.nat.office",
    # It looks for a library's file, and runs one module of it.
    "wgpy.nat.aioice_stun",
    *("wgpy.nat.netcheck_run", "wgpy.nat.netcheck_services", "wgpy.nat.stun_serve"),
    *("wgpy.nat.signal_file", "wgpy.nat.signal_watch"),
    *("wgpy.nat.portmap_probe", "wgpy.nat.portmap_run", "wgpy.nat.portmap_wire"),
    *("wgpy.nat.upnp_run", "wgpy.nat.upnp_worker"),
    *("wgpy.nat.turn_stream", "wgpy.nat.turn_tls", "wgpy.nat.turn_wire"),
)


class Import(NamedTuple):
    """One import: who, what, on which line, and whether only when a function runs."""

    importer: str
    imported: str
    line: int
    lazy: bool

    def __str__(self) -> str:
        return f"{self.importer}, line {self.line}, imports {self.imported}"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted((ROOT / "wgpy").rglob("*.py"))}


def imports_in(source: str, importer: str, *, is_package: bool = False) -> Iterator[Import]:
    """Every import in a source text, however deep."""
    package = importer if is_package else importer.rpartition(".")[0]

    def visit(node: ast.AST, lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            for imported in targets(child):
                yield Import(importer, imported, getattr(child, "lineno", 0), lazy)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from visit(child, lazy or inside or for_types_only(child))

    def for_types_only(node: ast.AST) -> bool:
        return (
            isinstance(node, ast.If)
            and isinstance(node.test, ast.Name)
            and node.test.id == "TYPE_CHECKING"
        )

    def targets(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in FILES else base
        elif isinstance(node, ast.Call) and node.args:
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            first = node.args[0]
            if name in ("import_module", "find_spec", "__import__") and isinstance(
                first, ast.Constant
            ):
                yield str(first.value)

    return visit(ast.parse(source), False)


IMPORTS = [
    found
    for name, path in FILES.items()
    for found in imports_in(path.read_text(), name, is_package=path.name == "__init__.py")
]


def room(module: str) -> str:
    """`protocol` of `wgpy.protocol.peer`, `keys` of `wgpy.keys`, `__init__` of `wgpy`."""
    return f"{module}.__init__".split(".")[1]


def within(module: str, places: Iterable[str]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def outside(module: str) -> str:
    return module.partition(".")[0]


def reachable(start: Iterable[str], *, lazy: bool) -> dict[str, Import]:
    """Everything that importing some modules imports, by its name: with the import that does."""
    by_importer: dict[str, list[Import]] = {}
    for found in IMPORTS:
        by_importer.setdefault(found.importer, []).append(found)
    seen: dict[str, Import] = {}
    waiting = list(start)
    while waiting:
        for found in by_importer.get(waiting.pop(), ()):
            if (lazy or not found.lazy) and found.imported not in seen:
                seen[found.imported] = found
                waiting.append(found.imported)
    return seen


# --- The walk itself ---


def test_every_form_of_import_is_seen() -> None:
    source = """
import os.path, wgpy.keys
from wgpy import ip
from wgpy.linux import udp as sockets
from . import timers
from ..datapath.replay import ReplayWindow
if TYPE_CHECKING:
    import ssl
def later():
    import asyncio
    return importlib.import_module("wgpy.cli")
"""
    found = [(x.imported, x.lazy) for x in imports_in(source, "wgpy.protocol.peer")]
    assert found == [
        ("os.path", False),
        ("wgpy.keys", False),
        ("wgpy.ip", False),
        ("wgpy.linux.udp", False),
        ("wgpy.protocol.timers", False),
        ("wgpy.datapath.replay", False),
        ("ssl", True),
        ("asyncio", True),
        ("wgpy.cli", True),
    ]


def test_the_package_was_walked() -> None:
    assert {room(name) for name in FILES} == set(MAY_IMPORT)
    assert ("wgpy.device.daemon", "asyncio") in {(x.importer, x.imported) for x in IMPORTS}


# --- The rules ---


# Where the process is put together, and nothing else of its room.
COMPOSES = {("wgpy.device.daemon", "wgpy.nat.office")}


def test_each_room_imports_only_what_it_may() -> None:
    wrong = []
    for found in IMPORTS:
        here = room(found.importer)
        assert here in MAY_IMPORT, f"{here} is a new room: say in MAY_IMPORT what it may import"
        if found.imported == "wgpy" or outside(found.imported) != "wgpy":
            continue
        if (found.importer, found.imported) in COMPOSES:
            assert found.lazy
            continue
        if room(found.imported) != here and not within(found.imported, MAY_IMPORT[here]):
            wrong.append(str(found))
    assert wrong == []


def test_nothing_imports_the_commands() -> None:
    users = [x for x in IMPORTS if within(x.imported, ("wgpy.cli",))]
    assert [str(x) for x in users if room(x.importer) != "cli"] == []


def test_the_protocol_is_pure() -> None:
    """No socket, no clock, no randomness: time and random bytes are arguments."""
    allowed = PURE | HASHES | {"wgpy", "cryptography", "noise"}
    wrong = [
        str(x)
        for x in IMPORTS
        if room(x.importer) == "protocol" and outside(x.imported) not in allowed
    ]
    assert wrong == []


def test_the_protocol_makes_no_keys() -> None:
    """The crypto library could make random keys too."""
    wrong = [
        f"{name}, line {node.lineno}: {node.attr}"
        for name, path in FILES.items()
        if room(name) == "protocol"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("generate", "urandom", "token_bytes")
    ]
    assert wrong == []


def test_only_the_shell_of_the_data_path_touches_the_machine() -> None:
    """The rest is packets and times in, packets and events out."""
    shell = ("wgpy.datapath.portable", "wgpy.datapath.choose", "wgpy.datapath.native")
    allowed = PURE | HASHES | {"wgpy", "cryptography", "errno"}
    wrong = [
        str(x)
        for x in IMPORTS
        if room(x.importer) == "datapath"
        and x.importer not in shell
        and outside(x.imported) not in allowed
        # The names of socket options, and no call.
        and (x.importer, x.imported) != ("wgpy.datapath.endpoint", "socket")
    ]
    assert wrong == []


def test_the_protocols_of_nat_are_pure() -> None:
    """No socket, no clock, no randomness; `ipaddress` knows what kinds of addresses there are."""
    texts = {"base64", "binascii", "json", "re", "textwrap", "unicodedata", "urllib"}
    others = {"aioice", "cryptography", "heapq", "ipaddress", "itertools", "wgpy"} | texts
    wrong = [
        str(x)
        for x in IMPORTS
        if room(x.importer) == "nat"
        and x.importer not in NAT_SHELLS
        and (
            outside(x.imported) not in PURE | HASHES | others or within(x.imported, ("wgpy.linux",))
        )
    ]
    assert wrong == []


def test_what_a_mesh_is_made_of_is_pure() -> None:
    """Records, messages, addresses: no clock, no randomness, no database."""
    texts = {"base64", "binascii", "json"}
    pure = [
        f"wgpy.mesh.{x}"
        for x in ("addresses", "auth", "fields", "messages", "records", "settings", "wire")
    ]
    wrong = [
        str(x)
        for x in IMPORTS
        if x.importer in pure and outside(x.imported) not in PURE | HASHES | texts | {"wgpy"}
    ]
    assert wrong == []
    loaded = reachable(pure, lazy=True)
    slow = ("sqlalchemy", "psycopg", "sqlite3", "asyncio")
    assert [str(x) for x in loaded.values() if within(x.imported, slow)] == []


def test_what_an_agent_decides_is_pure() -> None:
    """Whom to turn to, when to renew, whom to believe, what to tell the daemon: no clock, no
    randomness, no file and no network."""
    pure = [f"wgpy.mesh.{x}" for x in ("apply", "contacts", "directory", "renewal")]
    wrong = [
        str(x)
        for x in IMPORTS
        if x.importer in pure and outside(x.imported) not in PURE | HASHES | {"wgpy"}
    ]
    assert wrong == []


@pytest.mark.parametrize("library", OUTSIDERS)
def test_libraries_stay_in_their_places(library: str) -> None:
    users = [x for x in IMPORTS if outside(x.imported) == library]
    assert users, f"nothing imports {library} any more: take it out of OUTSIDERS"
    assert [str(x) for x in users if not within(x.importer, OUTSIDERS[library])] == []


def test_only_linux_speaks_ioctl_and_netlink() -> None:
    # The doctor asks the TUN driver what it can do, with a device of its own.
    elsewhere = {"wgpy.doctor.probe_net": {"ioctl"}}
    wrong = [
        f"{name}, line {node.lineno}: {node.attr}"
        for name, path in FILES.items()
        if room(name) != "linux"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in ("ioctl", "AF_NETLINK")
        and node.attr not in elsewhere.get(name, ())
    ]
    assert wrong == []


# --- What starts quickly, and what stays small ---


def test_commands_start_without_what_is_slow() -> None:
    """A command's module may be imported for `--help` alone; the slow part comes with `run`."""
    slow = (
        *("asyncio", "pyroute2", "noise", "cryptography", "jwt", "sqlite3", "rich", "aioice"),
        *("sqlalchemy", "psycopg"),
    )
    commands = [name for name in FILES if room(name) == "cli"]
    loaded = reachable(commands, lazy=False)
    assert [str(x) for x in loaded.values() if within(x.imported, slow)] == []


def test_the_daemon_never_loads_pyroute2() -> None:
    """Several megabytes for an idle daemon; linux/monitor.py says the few messages itself."""
    loaded = reachable(["wgpy.device.daemon"], lazy=True)
    assert "wgpy.linux.monitor" in loaded
    assert [str(x) for x in loaded.values() if outside(x.imported) == "pyroute2"] == []


def test_the_daemon_loads_what_judges_credentials_with_the_first_of_them() -> None:
    """Eight megabytes that plain WireGuard never needs."""
    slow = ("jwt", "sqlite3", "cryptography.x509")
    loaded = reachable(["wgpy.device.daemon"], lazy=False)
    assert [str(x) for x in loaded.values() if within(x.imported, slow)] == []
    assert "wgpy.identity.authority" in reachable(["wgpy.device.daemon"], lazy=True)


def test_the_daemon_loads_the_data_path_that_serves_and_no_other() -> None:
    """Half a megabyte of the portable one is of no use beside the native one."""
    loaded = reachable(["wgpy.device.daemon", "wgpy.datapath.native"], lazy=False)
    assert {"wgpy.datapath.portable", "wgpy.datapath.engine"} & loaded.keys() == set()
    assert "wgpy.datapath.engine" in reachable(["wgpy.device.daemon"], lazy=True)


def test_pyroute2_is_imported_when_it_is_used() -> None:
    users = [x for x in IMPORTS if outside(x.imported) == "pyroute2"]
    assert [str(x) for x in users if not x.lazy] == []
