"""The machine's own resolver, made to know the names of a mesh, and put back as it was.

The node's DNS server (`dns_server.py`) has the names. systemd-resolved or openresolv is told to ask
it for the mesh's suffix; where neither can, the names are written into /etc/hosts. Which way was
taken, and why, is told. A journal, /run/wgpy/IF.names.json, is written before anything is changed,
so that what a crash left is put back by the next start; /etc/hosts says by itself what is ours.
"""

import json
import socket
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final

from wgpy.identity.words import is_dns_name
from wgpy.ip import Prefix, address_text, mask, parse_address
from wgpy.keys import write_secret
from wgpy.linux.dns import Command, DnsError, run
from wgpy.mesh import names_hosts, names_resolvconf, names_resolved
from wgpy.mesh.dns import Zone, absolute, reverse_zones
from wgpy.mesh.dns_server import PORT, DnsServer
from wgpy.mesh.names_hosts import HostsError
from wgpy.mesh.settings import is_under

RUN_DIRECTORY: Final = Path("/run/wgpy")
# More nodes than a network of one coordinator has; a table of them takes 10 MB.
MAX_NAMES: Final = 10_000


class NamesError(Exception):
    """The machine's resolver could not be told, or not put back: one line."""


class Way(Enum):
    """How programs of this machine come to know the names."""

    RESOLVED = "systemd-resolved"
    RESOLVCONF = "resolvconf"
    HOSTS = "/etc/hosts"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the machine keeps what is looked at and changed."""

    run_directory: Path = RUN_DIRECTORY
    hosts: Path = names_hosts.HOSTS
    resolv_conf: Path = Path("/etc/resolv.conf")
    nsswitch: Path = Path("/etc/nsswitch.conf")
    resolved: Path = names_resolved.RUN_DIRECTORY
    resolvconf_conf: Path = names_resolvconf.CONFIGURATION
    # No resolver's file has room for another.
    port: int = PORT

    def journal(self, interface: str) -> Path:
        """The interface's journal."""
        return self.run_directory / f"{interface}.names.json"

    def choose(self) -> tuple[Way, str]:
        """The way to take, and why no better one."""
        resolved = names_resolved.why_not(self.resolved, self.resolv_conf, self.nsswitch)
        if resolved is None:
            return Way.RESOLVED, ""
        resolvconf = names_resolvconf.why_not(self.resolv_conf, self.resolvconf_conf)
        if resolvconf is None:
            return Way.RESOLVCONF, resolved
        return Way.HOSTS, f"{resolved}, and {resolvconf}"


@dataclass(slots=True)
class _Told:
    """What is in force."""

    way: Way = Way.HOSTS
    why: str = ""
    started: bool = False
    # The index of the link that the resolver was told of.
    link: int | None = None
    names: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    left_out: int = 0
    problem: str = ""


class Names:
    """The names of one mesh on this machine. Methods may be called from any thread."""

    def __init__(
        self,
        interface: str,
        domain: str,
        addresses: Iterable[str | bytes],
        ranges: Iterable[Prefix] = (),
        *,
        machine: Machine | None = None,
    ) -> None:
        self._interface = interface
        self._domain = domain
        self._addresses = tuple(_bytes(x) for x in addresses)
        self._ranges = tuple(ranges)
        self._machine = machine or Machine()
        self._server = DnsServer(self._addresses, self._ranges, port=self._machine.port)
        self._serial = 0
        self._told = _Told()
        self._lock = threading.Lock()

    def update(self, names: Mapping[str, Iterable[str | bytes]]) -> None:
        """Take these names, all that there are, instead of those before. The first call begins.

        Raises NamesError when the machine could not be told; the next call tries again.
        """
        with self._lock:
            told = self._told
            told.names, told.left_out = self._judge(names)
            self._serial += 1
            self._server.responder.zone = self._zone()
            try:
                if not told.started:
                    self._start()
                elif told.way is Way.RESOLVED and told.link != link_index(self._interface):
                    # The link was made anew, and with the old one it forgot.
                    self._tell()
                if told.way is Way.HOSTS:
                    self._write_hosts()
            except (NamesError, HostsError, DnsError, OSError) as error:
                told.problem = _line(error)
                raise NamesError(told.problem) from None
            told.problem = ""

    def stop(self) -> None:
        """Put the machine's resolver back, and end the server. Raises NamesError."""
        with self._lock:
            try:
                restore(self._interface, self._machine)
            finally:
                self._server.stop()
                self._told.started = False

    def status(self) -> dict[str, Any]:
        """What is in force, for people and programs."""
        with self._lock:
            told = self._told
            return {
                "way": told.way.value if told.started else None,
                "why": told.why,
                "problem": told.problem,
                "domain": self._domain,
                "servers": [address_text(x) for x in self._addresses],
                "names": len(told.names),
                "left_out": told.left_out,
                "counters": dict(sorted(self._server.responder.counters.items())),
            }

    def _judge(
        self, names: Mapping[str, Iterable[str | bytes]]
    ) -> tuple[dict[str, tuple[bytes, ...]], int]:
        """What may be told to a machine, and how many names or addresses may not: others than the
        mesh's own are nobody's to give away, whoever signed them."""
        kept: dict[str, tuple[bytes, ...]] = {}
        left_out = 0
        for name, written in sorted(names.items()):
            found = tuple(_bytes(x) for x in written)
            good = tuple(x for x in found if self._is_of_the_mesh(x))
            left_out += len(found) - len(good)
            fits = is_dns_name(name) and is_under(name, self._domain) and len(kept) < MAX_NAMES
            if fits and good:
                kept[name] = good
            elif not fits:
                left_out += 1
        return kept, left_out

    def _is_of_the_mesh(self, address: bytes) -> bool:
        if not self._ranges:
            return True
        return any(
            len(x.address) == len(address) and mask(address, x.length) == x.address
            for x in self._ranges
        )

    def _zone(self) -> Zone:
        ours = set(self._addresses)
        own = next((n for n, found in self._told.names.items() if ours & set(found)), self._domain)
        return Zone(
            domain=absolute(self._domain),
            names={absolute(name): found for name, found in self._told.names.items()},
            ranges=self._ranges,
            server=absolute(own),
            serial=self._serial,
        )

    def _start(self) -> None:
        told, machine = self._told, self._machine
        restore(self._interface, machine)
        told.way, told.why = machine.choose()
        try:
            self._server.start()
        except OSError as error:
            # Some other server has the port on every address: names go into the file.
            if told.way is not Way.HOSTS:
                told.why = f"{told.way.value} is there, but port 53 of the tunnel is taken"
                told.way = Way.HOSTS
            told.why += f" (no DNS server: {error.strerror})"
        try:
            if told.way is not Way.HOSTS:
                self._tell()
        except BaseException:
            self._server.stop()
            raise
        told.started = True

    def _tell(self) -> None:
        machine, way = self._machine, self._told.way
        machine.run_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        value = {"version": 1, "interface": self._interface, "way": way.value}
        write_secret(machine.journal(self._interface), (json.dumps(value) + "\n").encode())
        servers = [address_text(x) for x in self._addresses]
        zones = [self._domain, *reverse_zones(self._ranges)]
        self._told.link = link_index(self._interface)
        setting = {Way.RESOLVED: names_resolved, Way.RESOLVCONF: names_resolvconf}[way]
        try:
            _run_all(setting.set_commands(self._interface, servers, zones))
        except DnsError:
            # Half of it may be in force.
            restore(self._interface, machine)
            raise

    def _write_hosts(self) -> None:
        lines, more = names_hosts.lines_for(self._told.names)
        self._told.left_out += more
        names_hosts.change(
            lambda text: names_hosts.with_block(text, self._interface, self._domain, lines),
            self._machine.hosts,
            _hosts_lock(self._machine),
        )


def restore(interface: str, machine: Machine | None = None) -> None:
    """Put back what names of an interface changed, whoever was killed; nothing if nothing was.

    Raises NamesError.
    """
    machine = machine or Machine()
    failures = []
    try:
        # Whether there is a journal or not: the file outlives a boot, the journal does not.
        if machine.hosts.exists():
            names_hosts.change(
                lambda text: names_hosts.without_block(text, interface),
                machine.hosts,
                _hosts_lock(machine),
            )
    except HostsError as error:
        failures.append(str(error))
    try:
        _restore_told(interface, machine)
    except (DnsError, OSError) as error:
        failures.append(_line(error))
    if failures:
        raise NamesError("; ".join(failures))


def _restore_told(interface: str, machine: Machine) -> None:
    journal = machine.journal(interface)
    try:
        way = json.loads(journal.read_text())["way"]
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        # It was written whole or not at all; whatever else is there tells nothing.
        way = None
    if way == Way.RESOLVED.value and link_index(interface) is not None:
        _run_all(names_resolved.unset_commands(interface))
    elif way == Way.RESOLVCONF.value:
        _run_all(names_resolvconf.unset_commands(interface))
    journal.unlink(missing_ok=True)


def link_index(interface: str) -> int | None:
    """The index of the interface's link, in this thread's network namespace; None if it is gone."""
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return None


def _hosts_lock(machine: Machine) -> Path:
    return machine.run_directory / "hosts@.lock"


def _run_all(commands: Sequence[Command]) -> None:
    for command in commands:
        run(command)


def _bytes(address: str | bytes) -> bytes:
    return address if isinstance(address, bytes) else parse_address(address)


def _line(error: Exception) -> str:
    text = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return " ".join(text.split("\n"))
