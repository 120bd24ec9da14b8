"""`wgpy bugreport`: what somebody needs who is to find a fault, as one text without secrets.

Each part is looked at by itself, and says in its place if it could not be. Every part goes through
`redact.Redactor`, which is told all secrets of this machine's interfaces that can be found.
"""

import argparse
import dataclasses
import datetime
import functools
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from wgpy.cli import show, status
from wgpy.cli.errors import CommandError
from wgpy.cli.redact import Redactor
from wgpy.device import client
from wgpy.device.uapi import DeviceState, UapiError
from wgpy.keys import KeyFormatError, PublicKey
from wgpy.mesh import ask
from wgpy.mesh.ask import AskError

# Of each part, so much is kept, the end of it: what happened last is of interest.
MAX_PART: Final = 200_000
# Seconds for a program that looks at something.
_PATIENCE: Final = 15.0
_JOURNAL_LINES: Final = 300
# A file of a mesh or a configuration that is longer is something else.
_MAX_FILE: Final = 1 << 20

_DIRECTORIES: Final = ("/etc/wireguard", "/etc/wgpy")
_LIBRARIES: Final = (
    *("cryptography", "noiseprotocol", "aioice", "PyJWT", "pyroute2", "tomli", "aiohttp"),
    *("SQLAlchemy", "psycopg", "segno", "miniupnpc"),
)
_COMMANDS: Final = (
    ("ip", "-details", "address", "show"),
    ("ip", "route", "show", "table", "all"),
    ("ip", "-6", "route", "show", "table", "all"),
    ("ip", "rule", "show"),
    ("ip", "-6", "rule", "show"),
    ("nft", "list", "ruleset"),
    ("resolvectl", "status"),
)
# What a configuration or a state names as a file with a secret in it.
_SECRET_FILE: Final = re.compile(
    r"""(\w*_file|token|secret|password)["']?\s*[=:]\s*["']([^"'\n]+)"""
)
# Of a node, and of a coordinator; what they keep in PEM is not read, and looks like what it is.
_MESH_SECRETS: Final = ("node.key", "enrol.jwt", "turn.password", "coordinator/passphrase")
_PUBLIC: Final = re.compile(r"(?i)public[ _]?key[\"']?\s*[=:]\s*[\"']?([A-Za-z0-9+/]{43}=)")
_URL_PASSWORD: Final = re.compile(r"://[^\s/:@]*:([^\s/@]+)@")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `wgpy bugreport`."""
    parser.add_argument(
        "-o", dest="output", metavar="FILE", help="write it there, a new file; - is the terminal"
    )
    parser.add_argument(
        "--netcheck",
        action="store_true",
        help="ask the STUN servers of the interfaces too what NAT there is",
    )


def run(args: argparse.Namespace) -> int:
    """Write the report; returns the exit code."""
    now = datetime.datetime.now(datetime.UTC)
    text = report(now, with_netcheck=args.netcheck)
    if args.output == "-":
        sys.stdout.write(text)
        return 0
    path = args.output or f"wgpy-bugreport-{now:%Y%m%d-%H%M%S}.txt"
    try:
        # It has no secrets, and nevertheless is nobody else's.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise CommandError(f"{path} is there already; name another file") from None
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    print(
        f"{path}: {len(text.encode())} bytes. Keys, tokens, passwords and joining lines are taken"
    )
    print("out; names and addresses are in it. Read it before you give it away.")
    return 0


def report(now: datetime.datetime, *, with_netcheck: bool = False) -> str:
    """The whole text."""
    interfaces = names()
    states = {name: _state(name) for name in interfaces}
    files = [Path(place) for name in interfaces for place in _files(name)]
    redact = redactor(states, files)
    parts: list[tuple[str, Callable[[], str]]] = [
        ("report", lambda: f"wgpy bugreport of {now:%Y-%m-%d %H:%M:%S} UTC"),
        ("versions", versions),
        ("doctor", _doctor),
    ]
    for name in interfaces:
        parts += _interface_parts(name, states[name], with_netcheck)
    for file in files:
        parts.append((f"file {file}", functools.partial(_read, file)))
    for command in _COMMANDS:
        parts.append((" ".join(command), functools.partial(_output, command)))
    parts.append(("journal", _journal))
    return "\n".join(f"=== {title} ===\n{part(look, redact)}\n" for title, look in parts)


def part(look: Callable[[], str], redact: Redactor) -> str:
    """The text of one part, or why there is none; without secrets, and not longer than MAX_PART."""
    try:
        text = look()
    except Exception as error:
        # Whatever is wrong here may be what the report is about: it is said, and the rest goes on.
        text = f"(not to be had: {type(error).__name__}: {error})"
    # First the secrets: a cut through the middle of one would hide its beginning.
    text = redact(text).rstrip("\n")
    if len(text) > MAX_PART:
        text = f"(the first {len(text) - MAX_PART} characters are left out)\n{text[-MAX_PART:]}"
    # Control characters of a log would move the cursor of whoever reads it.
    return "".join(x if x.isprintable() or x in "\n\t" else "?" for x in text)


# --- What there is ---


def names() -> list[str]:
    """Interfaces that run, that have a mesh, or that are configured."""
    found: set[str] = set(ask.interfaces())
    try:
        found.update(client.list_interfaces())
    except UapiError as error:
        print(f"wgpy: {error}", file=sys.stderr)
    for directory in _DIRECTORIES:
        found.update(x.stem for x in _entries(directory) if x.suffix in (".conf", ".toml"))
    found.update(x.stem for x in _entries(status.STATE_DIRECTORY) if x.suffix == ".mesh")
    return sorted(found)


def _entries(directory: str) -> list[Path]:
    try:
        return sorted(Path(directory).iterdir())
    except OSError:
        return []


def _files(name: str) -> list[str]:
    """Texts that are shown: configurations, and what a mesh keeps without secrets or with few."""
    places = [f"{_DIRECTORIES[0]}/{name}.conf", f"{_DIRECTORIES[1]}/{name}.toml"]
    mesh = f"{status.STATE_DIRECTORY}/{name}.mesh"
    places += [f"{mesh}/mesh.json", f"{mesh}/coordinator.json"]
    return [place for place in places if os.path.exists(place)]


def _state(name: str) -> DeviceState | UapiError:
    try:
        return client.get(name)
    except UapiError as error:
        return error


def _read(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_MAX_FILE + 1)
    if len(data) > _MAX_FILE:
        raise ValueError(f"{path} is longer than {_MAX_FILE} bytes")
    return data.decode("utf-8", "replace")


# --- Secrets of this machine ---


def redactor(states: dict[str, DeviceState | UapiError], files: list[Path]) -> Redactor:
    """What takes out all secrets that daemons, configurations and meshes have."""
    keys: set[bytes] = set()
    words: set[str] = set()
    public: set[bytes] = set()
    for state in states.values():
        if isinstance(state, DeviceState):
            _of_state(state, keys, words, public)
    for name in states:
        mesh = Path(f"{status.STATE_DIRECTORY}/{name}.mesh")
        for secret in _MESH_SECRETS:
            words.update(_secret_words(mesh / secret))
        public.update(_mesh_keys(name))
    for file in files:
        text = _quietly(file)
        public.update(_keys(_PUBLIC.findall(text)))
        words.update(_URL_PASSWORD.findall(text))
        for _, place in _SECRET_FILE.findall(text):
            words.update(_secret_words(file.parent / place))
    # Keys that stood in files: they may be elsewhere in another form.
    keys.update(_keys(words))
    return Redactor(keys, words, public)


def _of_state(state: DeviceState, keys: set[bytes], words: set[str], public: set[bytes]) -> None:
    if state.private_key is not None:
        keys.add(bytes(state.private_key))
        public.add(bytes(state.private_key.public()))
    if state.own_public_key is not None:
        public.add(bytes(state.own_public_key))
    # Issuers are told by a hash of their keys, which is as long as a key.
    claims = [state.claims, *(peer.claims for peer in state.peers)]
    public.update(x.issuer for x in claims if x is not None and x.issuer is not None)
    for peer in state.peers:
        public.add(bytes(peer.public_key))
        if peer.preshared_key is not None:
            keys.add(bytes(peer.preshared_key))
        if peer.offer:
            words.add(peer.offer)
    secret = [state.identity.token] if state.identity else []
    for turn in state.nat.turn if state.nat else ():
        secret += [turn.password_file, turn.secret_file]
    for path in secret:
        if path is not None:
            words.update(_secret_words(Path(path)))


def _secret_words(path: Path) -> set[str]:
    """The content of a file with a secret, and its first line."""
    text = _quietly(path)
    return {text, *text.split("\n")[:1]}


def _quietly(path: Path) -> str:
    try:
        return _read(path)
    except (OSError, ValueError):
        # It is not there, or is not ours: then nothing of it gets into the report either.
        return ""


def _keys(texts: Iterator[str] | list[str] | set[str]) -> set[bytes]:
    found = set()
    for text in texts:
        try:
            found.add(bytes(PublicKey.from_base64(text.strip())))
        except KeyFormatError:
            continue
    return found


def _mesh_keys(name: str) -> set[bytes]:
    """Public keys of nodes, as the agent knows them."""
    try:
        answer = ask.ask_agent(name, {"ask": "status"})
    except AskError:
        return set()
    nodes = answer.get("nodes")
    texts = [x.get("key") for x in nodes if isinstance(x, dict)] if isinstance(nodes, list) else []
    return _keys([x for x in texts if isinstance(x, str)])


# --- The parts ---


def versions() -> str:
    """Of wgpy, of what it runs on, and of the libraries that it uses."""
    from wgpy import __version__
    from wgpy.datapath.choose import chosen_name

    lines = [
        f"wgpy {__version__}, data path {chosen_name()}",
        f"Python {platform.python_version()} ({platform.python_implementation()})",
        f"kernel {platform.release()} {platform.machine()}",
    ]
    system = dict(
        re.findall(r'^(\w+)="?([^"\n]*)', _quietly(Path("/etc/os-release")), re.MULTILINE)
    )
    lines.append(system.get("PRETTY_NAME", "a system without a name"))
    for library in _LIBRARIES:
        try:
            lines.append(f"{library} {importlib.metadata.version(library)}")
        except importlib.metadata.PackageNotFoundError:
            lines.append(f"{library} is not installed")
    return "\n".join(lines)


def _doctor() -> str:
    from wgpy.doctor import words
    from wgpy.doctor.checks import examine
    from wgpy.doctor.probe import probe

    facts = probe()
    return words.report(facts.kernel, examine(facts))


def _interface_parts(
    name: str, state: DeviceState | UapiError, with_netcheck: bool
) -> list[tuple[str, Callable[[], str]]]:
    parts: list[tuple[str, Callable[[], str]]] = [(f"{name}: daemon", lambda: _shown(state))]
    if status.has_mesh(name):
        for what in ("status", "map"):
            parts.append((f"{name}: mesh {what}", functools.partial(_asked, name, what)))
        directory = Path(f"{status.STATE_DIRECTORY}/{name}.mesh")
        parts.append((f"{name}: files of the mesh", lambda: listing(directory)))
    if with_netcheck:
        parts.append((f"{name}: netcheck", lambda: _netcheck(name)))
    return parts


def _shown(state: DeviceState | UapiError) -> str:
    if isinstance(state, UapiError):
        return str(state)
    peers = [dataclasses.replace(x, preshared_key=None, offer=None) for x in state.peers]
    public = state.own_public_key
    if public is None and state.private_key is not None:
        public = state.private_key.public()
    bare = dataclasses.replace(state, private_key=None, own_public_key=public, peers=peers)
    return json.dumps(show.as_json(bare), indent=1)


def _asked(name: str, what: str) -> str:
    return json.dumps(ask.ask_agent(name, {"ask": what}), indent=1)


def listing(directory: Path) -> str:
    """Every file below a directory: mode, size, time of the last change, name."""
    lines = []
    for path in sorted(directory.rglob("*")):
        found = path.lstat()
        changed = datetime.datetime.fromtimestamp(found.st_mtime, datetime.UTC)
        lines.append(
            f"{found.st_mode:o} {found.st_size:>9} {changed:%Y-%m-%d %H:%M:%S} "
            f"{path.relative_to(directory)}"
        )
    return "\n".join(lines)


def _netcheck(name: str) -> str:
    from wgpy.cli import netcheck
    from wgpy.nat import netcheck_words
    from wgpy.nat.netcheck_run import Options, check

    state = client.get(name)
    servers = state.nat.stun if state.nat else ()
    if not servers:
        return "(it names no STUN servers)"
    mark, _ = netcheck.tunnel_of(name)
    return netcheck_words.text(check(servers, Options(False, mark, None, None)))


def _output(command: tuple[str, ...]) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_PATIENCE,
        stdin=subprocess.DEVNULL,
        check=False,
        env={**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0"},
    )
    return done.stdout + (f"({done.stderr.strip()})" if done.returncode else "")


def _journal() -> str:
    """The last lines of all units of ours, and of what was started without one."""
    kinds = ("wgpy", "wgpy-mesh", "wgpy-mesh-guard", "wgpy-coordinator")
    units = [f"--unit={x}@*" for x in kinds]
    lines = f"--lines={_JOURNAL_LINES}"
    common = ("journalctl", "--no-pager", "--quiet", "--output=short-iso", "--utc", lines)
    return _output((*common, *units)) + _output((*common, "--identifier=wgpy"))
