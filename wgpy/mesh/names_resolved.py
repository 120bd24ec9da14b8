"""systemd-resolved, told of a mesh: names of its suffix, and only those, are asked of the node."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from wgpy.linux.dns import Command

RUN_DIRECTORY: Final = Path("/run/systemd/resolve")
# The stub's addresses (systemd-resolved.service(8)).
_STUBS: Final = ("127.0.0.53", "127.0.0.54")


def why_not(
    run_directory: Path = RUN_DIRECTORY,
    resolv_conf: Path = Path("/etc/resolv.conf"),
    nsswitch: Path = Path("/etc/nsswitch.conf"),
) -> str | None:
    """Why systemd-resolved is not the one to tell; None where it is.

    It may run without being asked: programs ask it by its stub or by nss-resolve(8).
    """
    if shutil.which("resolvectl") is None or not run_directory.is_dir():
        return "systemd-resolved does not run"
    if set(_STUBS) & set(nameservers(resolv_conf)) or _asked_by_nss(nsswitch):
        return None
    return f"systemd-resolved runs, but neither {resolv_conf} nor {nsswitch} leads to it"


def nameservers(path: Path) -> list[str]:
    """The servers of a resolv.conf(5)."""
    if not path.is_file():
        return []
    found = re.findall(r"^\s*nameserver\s+(\S+)", path.read_text(errors="replace"), re.MULTILINE)
    return [str(x) for x in found]


def _asked_by_nss(path: Path) -> bool:
    if not path.is_file():
        return False
    line = re.search(r"^\s*hosts:(.*)$", path.read_text(errors="replace"), re.MULTILINE)
    return line is not None and "resolve" in line[1].split()


def set_commands(interface: str, servers: Sequence[str], zones: Sequence[str]) -> list[Command]:
    """What sends the names of `zones` to `servers`, and no others.

    The first of `zones` is the domain. `~` makes it a route and no search domain; with
    default-route off nothing else comes to this link. The zone is signed by nobody and never
    leaves the machine, so DNSSEC and TLS, which a machine may demand of all servers, are off here;
    LLMNR and multicast DNS have no use on a tunnel.
    """
    off = ("dnssec", "dnsovertls", "llmnr", "mdns")
    return [
        *(Command(("resolvectl", word, interface, "no")) for word in off),
        Command(("resolvectl", "default-route", interface, "no")),
        # Before the servers: else they are asked for any name, for a moment.
        Command(("resolvectl", "domain", interface, *(f"~{zone}" for zone in zones))),
        Command(("resolvectl", "dns", interface, *servers)),
    ]


def unset_commands(interface: str) -> list[Command]:
    """What makes it forget. With the link it forgets by itself."""
    return [Command(("resolvectl", "revert", interface))]
