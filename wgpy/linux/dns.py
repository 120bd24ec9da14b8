"""The system's resolver: told of a tunnel's DNS servers through resolvconf or systemd-resolved.

Everything is a list of commands, so that what will be run can be printed and tested.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

# Debian's resolvconf ranks interfaces by the first pattern that matches their name.
_INTERFACE_ORDER = Path("/etc/resolvconf/interface-order")
_RESOLVED_DIRECTORY = Path("/run/systemd/resolve")
# A resolver that takes longer hangs; `up` then undoes what it did.
_TIMEOUT = 60.0


class DnsError(Exception):
    """The resolver's tool is missing or failed: one line."""


class Resolver(Enum):
    """How this machine's resolver is told of servers."""

    RESOLVCONF = "resolvconf"
    RESOLVECTL = "resolvectl"


@dataclass(frozen=True, slots=True)
class Command:
    """A program, its arguments, and the text on its standard input."""

    argv: tuple[str, ...]
    stdin: str = ""

    def __str__(self) -> str:
        return " ".join(self.argv)


def find_resolver() -> Resolver | None:
    """resolvconf if it is on PATH, else the resolvectl of a systemd-resolved that runs."""
    if shutil.which("resolvconf"):
        return Resolver.RESOLVCONF
    if shutil.which("resolvectl") and _RESOLVED_DIRECTORY.is_dir():
        return Resolver.RESOLVECTL
    return None


def resolvconf_record(interface: str, order: Path = _INTERFACE_ORDER) -> str:
    """The name of the interface's record in resolvconf: the first `PREFIX*` of its order, a dot,
    and the interface; the interface alone where there is no such file."""
    if order.is_file():
        for line in order.read_text(errors="replace").splitlines():
            if match := re.fullmatch(r"([A-Za-z0-9-]+)\*", line.strip()):
                return f"{match[1]}.{interface}"
    return interface


def set_commands(
    resolver: Resolver, interface: str, record: str, servers: Sequence[str], search: Sequence[str]
) -> list[Command]:
    """What makes the servers the only ones, and adds the search domains."""
    if resolver is Resolver.RESOLVCONF:
        lines = [f"nameserver {server}\n" for server in servers]
        if search:
            lines.append(f"search {' '.join(search)}\n")
        # -m 0: before all others; -x: exclusive.
        return [Command(("resolvconf", "-a", record, "-m", "0", "-x"), "".join(lines))]
    return [
        Command(("resolvectl", "dns", interface, *servers)),
        # `~.` sends every name to these servers, and so none to those of another link.
        Command(("resolvectl", "domain", interface, *search, "~.")),
    ]


def unset_commands(resolver: Resolver, interface: str, record: str) -> list[Command]:
    """What takes the servers away again; no failure if they never were there."""
    if resolver is Resolver.RESOLVCONF:
        return [Command(("resolvconf", "-d", record, "-f"))]
    return [Command(("resolvectl", "revert", interface))]


def run(command: Command) -> None:
    """Run one command. Raises DnsError with the last line that it printed."""
    try:
        done = subprocess.run(
            command.argv,
            input=command.stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except FileNotFoundError:
        raise DnsError(f"there is no program {command.argv[0]}") from None
    except subprocess.TimeoutExpired:
        raise DnsError(f"`{command}` did not end in {_TIMEOUT:.0f} s") from None
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it printed nothing"]
        raise DnsError(f"`{command}` exited with {done.returncode}: {lines[-1].strip()}")
