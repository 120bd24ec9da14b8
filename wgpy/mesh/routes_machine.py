"""Carries out a plan of routes, each step recorded first, and undoes what is no longer wanted.

The steps, the machine and the journal are those of `wgpy up` (`wgpy/quick/`), in a file of the
routes' own, /run/wgpy/IF.routes.json. What an agent that was killed left stays in force until the
next one has looked: an exit that went with its agent would let everything out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wgpy.config.errors import ConfigError
from wgpy.device import client
from wgpy.device.uapi import DeviceChange, DeviceState, UapiError
from wgpy.ip import Prefix
from wgpy.linux import firewall, nft, routes
from wgpy.linux.netlink import Netlink, NetlinkError
from wgpy.linux.networks import own_networks
from wgpy.linux.nft import FirewallError
from wgpy.mesh.routes_choice import Network
from wgpy.mesh.routes_plan import Snapshot, difference, replaces
from wgpy.quick.journal import (
    RUN_DIRECTORY,
    Journal,
    boot_id,
    interface_lock,
    machine_lock,
    network_namespace,
    other_journals,
    read_journal,
)
from wgpy.quick.machine import Machine
from wgpy.quick.plan import free_table
from wgpy.quick.runner import say_step, undo_all
from wgpy.quick.steps import GuardExit, QuickError, SetMark, SetSysctl, Step

PART: Final = "routes"
_NO_NFT: Final = "routes of a mesh need nft(8): install nftables"
# What looking and a step may fail with; all are one line.
FAILURES: Final = (*(QuickError, ConfigError, UapiError, NetlinkError, FirewallError, OSError),)
# Told of each moment at which a crash could come; tests end the process there.
Observer = Callable[[str, Step], None]


def nobody(_moment: str, _step: Step) -> None:
    """The observer that does nothing."""


class RoutesError(Exception):
    """Routes could not be put in force, or not taken back: one line."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was found on the machine."""

    networks: tuple[Network, ...]
    link_index: int | None
    mark: int


class _Daemon:
    """The interface's daemon, of which only the mark is ours to set."""

    def __init__(self, interface: str) -> None:
        self._interface = interface

    def configure(self) -> None:
        """Peers are the agent's. Raises QuickError."""
        raise QuickError("routes have no peers to give")

    def set_mark(self, mark: int) -> None:
        """Set the firewall mark of the daemon's own packets. Raises UapiError."""
        client.apply(self._interface, DeviceChange(fwmark=mark))

    def state(self) -> DeviceState:
        """What the interface has now. Raises UapiError."""
        return client.get(self._interface)


class Carrier:
    """The journal of one interface's routes, and the machine that it is about."""

    def __init__(
        self,
        interface: str,
        run_directory: Path = RUN_DIRECTORY,
        observe: Observer = nobody,
    ) -> None:
        self._interface = interface
        self._run_directory = run_directory
        self._observe = observe
        self._daemon = _Daemon(interface)
        self._journal = self._adopt()
        # The link and the mark that the steps were taken with: unknown after a crash.
        self._taken_with: tuple[int | None, int] | None = None

    @property
    def steps(self) -> tuple[Step, ...]:
        """What is in force, or was about to be."""
        return tuple(self._journal.steps)

    def _adopt(self) -> Journal:
        stem = f"{self._interface}.{PART}"
        try:
            found = read_journal(self._run_directory, stem)
        except QuickError as error:
            raise RoutesError(str(error)) from None
        if found is None or found.boot != boot_id():
            return Journal(self._interface, self._run_directory, "", part=PART)
        if found.namespace != network_namespace():
            raise RoutesError(
                f"routes of {self._interface} are in force in another network namespace; remove "
                f"{found.path} if it is gone"
            )
        return found

    def look(self) -> Look:
        """The machine's own networks, the link and the daemon's mark, now. Raises RoutesError."""
        try:
            with Netlink() as net:
                link = net.link(self._interface)
                networks = tuple(Network(*x) for x in own_networks(net, self._interface))
            mark = 0 if link is None else self._daemon.state().fwmark
        except FAILURES as error:
            raise RoutesError(_line(error)) from None
        return Look(networks, None if link is None else link.index, mark)

    def snapshot(self, addresses: tuple[bytes, ...], look: Look) -> Snapshot:
        """What the plan needs to know. Raises RoutesError."""
        try:
            with Netlink() as net:
                value = firewall.read_sysctl(firewall.SRC_VALID_MARK) or "0"
                return Snapshot(
                    addresses=addresses,
                    steps=self.steps,
                    mark=look.mark,
                    tables_in_use=routes.tables_in_use(net),
                    rules=(*routes.rules(net, 4), *routes.rules(net, 6)),
                    src_valid_mark=value,
                    src_valid_mark_before=self._first_value(value),
                    ipv6_off=routes.ipv6_is_off(),
                )
        except FAILURES as error:
            raise RoutesError(_line(error)) from None

    def _first_value(self, now: str) -> str:
        """The value of the sysctl before the first interface of ours changed it."""
        for journal in other_journals(self._run_directory, self._journal.stem):
            for step in journal.steps:
                if isinstance(step, SetSysctl) and step.name == firewall.SRC_VALID_MARK:
                    return step.before
        return now

    def carry_out(self, wanted: list[Step], look: Look, *, again: bool = False) -> bool:
        """Make these steps, and no others, be in force; whether anything was done.

        With a new link, after a crash, or `again`, all are taken anew: each may be taken twice.
        Raises RoutesError. What was done until then is in the journal.
        """
        mark = next((x.mark for x in wanted if isinstance(x, SetMark)), look.mark)
        anew = again or self._taken_with != (look.link_index, look.mark)
        undo, take = difference(self.steps, wanted)
        if anew:
            take = list(wanted)
        if not undo and not take:
            return False
        if take and not nft.have_nft():
            raise RoutesError(_NO_NFT)
        try:
            with (
                interface_lock(self._run_directory, self._journal.stem),
                machine_lock(self._run_directory),
                Netlink() as net,
            ):
                self._journal.link_index = look.link_index
                self._undo(net, undo)
                self._take(net, take)
                if not self._journal.steps:
                    self._journal.delete()
        except FAILURES as error:
            self._taken_with = None
            raise RoutesError(_line(error)) from None
        self._taken_with = (look.link_index, mark)
        return True

    def _undo(self, net: Netlink, steps: list[Step]) -> None:
        machine = Machine(net, self._journal, self._daemon)
        for step in steps:
            self._observe("undoing", step)
            if (text := machine.undo_text(step)) is not None:
                say_step(text)
            machine.undo(step)
            self._observe("undone", step)
            self._journal.remove(step)

    def _take(self, net: Netlink, steps: list[Step]) -> None:
        machine = Machine(net, self._journal, self._daemon)
        for step in steps:
            if step not in self._journal.steps:
                self._journal.add(step)
                say_step(str(step))
            self._observe("recorded", step)
            try:
                machine.take(step)
            except FAILURES as error:
                raise RoutesError(f"`{step}` failed: {_line(error)}") from None
            self._observe("taken", step)
            for old in [x for x in self._journal.steps if x != step and replaces(step, x)]:
                self._journal.remove(old)

    def close_exit(self) -> None:
        """Put the guard in force, with no tunnel yet and no network: what lets nothing out at all.
        One that is there stays as it is. Raises RoutesError."""
        if any(isinstance(step, GuardExit) for step in self.steps):
            return
        try:
            with Netlink() as net:
                # What the daemon's packets will be marked with: none has it now.
                mark = free_table(routes.tables_in_use(net))
        except FAILURES as error:
            raise RoutesError(_line(error)) from None
        self.carry_out([*self.steps, GuardExit(self._interface, mark, ())], Look((), None, mark))

    def undo_everything(self) -> None:
        """Take back all that the journal holds. Raises RoutesError."""
        self._taken_with = None
        if not self._journal.steps:
            self._journal.delete()
            return
        try:
            with (
                interface_lock(self._run_directory, self._journal.stem),
                machine_lock(self._run_directory),
                Netlink() as net,
            ):
                failures = undo_all(Machine(net, self._journal, None), self._journal, self._observe)
                if not failures:
                    self._journal.delete()
        except FAILURES as error:
            raise RoutesError(_line(error)) from None
        if failures:
            raise RoutesError("; ".join(failures))


def forwarding(prefixes: tuple[Prefix, ...]) -> list[str]:
    """What keeps this machine from forwarding what it offers, a line each with what to do."""
    said = []
    for version, name in ((4, "net.ipv4.ip_forward"), (6, "net.ipv6.conf.all.forwarding")):
        offered = [str(x) for x in prefixes if x.version == version]
        if offered and firewall.read_sysctl(name) != "1":
            said.append(
                f"this node offers {', '.join(offered)}, but {name} is not 1, so it forwards "
                f"nothing: `sysctl -w {name}=1`, and write it into /etc/sysctl.d"
            )
    return said


def _line(error: Exception) -> str:
    text = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return " ".join(text.split("\n"))
