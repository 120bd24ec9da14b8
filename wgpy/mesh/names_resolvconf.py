"""resolvconf(8), told of a mesh, where it can send the names of one suffix somewhere else.

Only openresolv can, and only with a local resolver behind it (dnsmasq, unbound, named, pdnsd or
PowerDNS), to which it gives the servers of a "private" interface for that interface's domains
alone. libc itself asks every server for every name. So with Debian's resolvconf, which has no such
word, and without a local resolver, this is no way: our server would stand in resolv.conf before
the others and be asked for everything.

One thing it cannot: a domain that names are sent by is a search domain too, for libc. So it gets
the mesh's suffix alone, as the last to search, and not the reverse zones: addresses have no names.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from wgpy.linux.dns import Command
from wgpy.mesh.names_resolved import nameservers

CONFIGURATION: Final = Path("/etc/resolvconf.conf")
# What a subscriber that knows of domains is told in (resolvconf.conf(5)).
_SUBSCRIBERS: Final = ("dnsmasq_conf", "named_zones", "pdnsd_conf", "pdns_zones", "unbound_conf")
_TIMEOUT: Final = 10.0


def why_not(
    resolv_conf: Path = Path("/etc/resolv.conf"), configuration: Path = CONFIGURATION
) -> str | None:
    """Why resolvconf is not the one to tell; None where it is."""
    program = shutil.which("resolvconf")
    if program is None:
        return "there is no resolvconf"
    if Path(program).resolve().name == "resolvectl":
        return "resolvconf is systemd-resolved's here"
    if not _is_openresolv(program):
        return "this resolvconf cannot send one suffix elsewhere (openresolv can)"
    servers = nameservers(resolv_conf)
    if not servers or not all(x.startswith("127.") or x == "::1" for x in servers):
        return f"openresolv has no local resolver: {resolv_conf} names servers elsewhere"
    text = configuration.read_text(errors="replace") if configuration.is_file() else ""
    if not re.search(rf"^\s*({'|'.join(_SUBSCRIBERS)})=.", text, re.MULTILINE):
        return f"openresolv has no local resolver that {configuration} configures for domains"
    return None


def _is_openresolv(program: str) -> bool:
    try:
        done = subprocess.run(
            (program, "--version"),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.startswith("openresolv")


def record(interface: str) -> str:
    """The name of our record: not that of `wgpy up`, nor of a DHCP client."""
    return f"{interface}.mesh"


def set_commands(interface: str, servers: Sequence[str], zones: Sequence[str]) -> list[Command]:
    """What gives the local resolver the servers for the domain, the first of `zones`.

    -p: private, for this domain only; -m: after all others (a metric has no bound).
    """
    lines = [f"search {zones[0]}\n", *(f"nameserver {server}\n" for server in servers)]
    words = ("resolvconf", "-p", "-m", "9999", "-a", record(interface))
    return [Command(words, "".join(lines))]


def unset_commands(interface: str) -> list[Command]:
    """What takes them away again; no failure if they never were there."""
    return [Command(("resolvconf", "-f", "-d", record(interface)))]
