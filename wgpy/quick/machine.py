"""Takes steps on the real machine, and undoes them. What a step means is in `steps.py`.

Undoing never relies on the step having been taken: a crash may have come before it.
"""

from typing import Protocol, assert_never

from wgpy.device.uapi import DeviceState
from wgpy.firewall.table import clear as clear_firewall
from wgpy.identity.derived import quarantine_range
from wgpy.ip import Prefix, parse_address
from wgpy.linux import dns, exits, firewall, nft, routes
from wgpy.linux.netlink import Link, LinkAddress, Netlink
from wgpy.quick import daemon
from wgpy.quick.hooks import run_hook
from wgpy.quick.journal import Journal, other_journals
from wgpy.quick.plan import Snapshot
from wgpy.quick.steps import (
    AddAddress,
    AddRoute,
    AddRule,
    AddTable,
    AddUnreachable,
    Configure,
    GuardExit,
    GuardLink,
    Masquerade,
    QuickError,
    RunHook,
    SetDns,
    SetLink,
    SetMark,
    SetSysctl,
    StartDaemon,
    Step,
)


class Control(Protocol):
    """The daemon of the interface, as `up` needs it. Methods raise UapiError and OSError."""

    def configure(self) -> None:
        """Give it the keys and peers of the configuration, replacing what it has."""

    def set_mark(self, mark: int) -> None:
        """Set its firewall mark."""

    def state(self) -> DeviceState:
        """What it has now."""


class Machine:
    """This machine, for one interface and its journal."""

    def __init__(self, net: Netlink, journal: Journal, control: Control | None) -> None:
        self._net = net
        self._journal = journal
        self._control = control

    def link(self) -> Link | None:
        """The interface's link, if it is the one that the journal speaks of."""
        link = self._net.link(self._journal.interface)
        if link is None or self._journal.link_index in (None, link.index):
            return link
        return None

    def snapshot(self, record: str) -> Snapshot:
        """What the plan of the network needs to know, now. `record` is resolvconf's."""
        net = self._net
        state = self._the_control().state()
        hosts = dict.fromkeys(peer.endpoint.host for peer in state.peers if peer.endpoint)
        mtus = [routes.path_mtu(net, host) for host in hosts]
        value = firewall.read_sysctl(firewall.SRC_VALID_MARK) or "0"
        return Snapshot(
            endpoint_mtus=tuple(mtu for mtu in mtus if mtu is not None),
            default_mtu=routes.default_route_mtu(net),
            mark=state.fwmark,
            allowed_ips=routed(state),
            tables_in_use=routes.tables_in_use(net),
            rules=(*routes.rules(net, 4), *routes.rules(net, 6)),
            link_prefixes=routes.prefixes_through(net, self._the_link()),
            src_valid_mark=value,
            src_valid_mark_before=self._first_value(firewall.SRC_VALID_MARK, value),
            resolver=dns.find_resolver(),
            dns_record=record,
            have_nft=nft.have_nft(),
            ipv6_off=routes.ipv6_is_off(),
        )

    def _first_value(self, name: str, now: str) -> str:
        """The value that a sysctl had before the first of our interfaces changed it."""
        for journal in other_journals(self._journal.run_directory, self._journal.stem):
            for step in journal.steps:
                if isinstance(step, SetSysctl) and step.name == name:
                    return step.before
        return now

    def take(self, step: Step) -> None:
        """Take a step, which is in the journal already.

        Raises QuickError, NetlinkError, DnsError, FirewallError, UapiError, ConfigError, OSError.
        """
        match step:
            case StartDaemon():
                daemon.start(step)
                self.note_link()
            case RunHook():
                run_hook(step)
            case Configure():
                self._the_control().configure()
            case SetMark():
                self._the_control().set_mark(step.mark)
            case AddAddress():
                self._net.add_address(self._the_link(), _link_address(step.address))
            case SetLink():
                self._net.set_link(self._the_link(), mtu=step.mtu, up=True)
            case SetDns():
                for command in step.set_commands():
                    dns.run(command)
            case SetSysctl():
                if step.found != step.value:
                    firewall.write_sysctl(step.name, step.value)
            case AddTable():
                nft.apply(
                    firewall.add_commands(step.version, step.interface, step.addresses, step.mark)
                )
            case GuardLink():
                clear_firewall(step.interface)
            case AddRule():
                routes.add_rule(self._net, step.rule())
            case AddRoute():
                routes.add_route(self._net, self._the_link(), step.route())
            case AddUnreachable():
                routes.add_unreachable(self._net, step.route())
            case GuardExit():
                nft.apply(exits.guard_commands(step.interface, step.mark, step.prefixes()))
            case Masquerade():
                nft.apply(exits.masquerade_commands(step.interface, step.pairs()))
            case _:
                assert_never(step)

    def note_link(self) -> None:
        """Record which link is ours. Raises QuickError if there is none."""
        link = self._net.link(self._journal.interface)
        if link is None:
            raise QuickError(f"the daemon runs, but there is no link {self._journal.interface}")
        self._journal.link_index = link.index
        self._journal.write()

    def undo_text(self, step: Step) -> str | None:
        """What undoing a step does, as a command; None when there is nothing to do."""
        link = self.link()
        match step:
            case StartDaemon() if link is not None:
                return f"ip link delete dev {step.interface}"
            case AddAddress() if link is not None:
                return str(step).replace(" add ", " delete ", 1)
            case AddRoute() if link is not None:
                return str(step).replace(" add ", " delete ", 1)
            case SetLink() if link is not None:
                return f"ip link set down dev {step.interface}"
            case GuardLink():
                return str(step)
            case AddRule() | AddTable() | AddUnreachable() | GuardExit() | Masquerade():
                return str(step).replace(" add ", " delete ", 1)
            case SetDns():
                return "; ".join(map(str, step.unset_commands()))
            case SetSysctl() if self._restores(step):
                return f"sysctl -q {step.name}={step.before}"
        return None

    def undo(self, step: Step) -> None:
        """Undo a step, whether it was taken or not. Raises what `take` raises."""
        link = self.link()
        match step:
            case StartDaemon():
                daemon.stop(self._net, step, self._journal.link_index)
            case AddAddress() if link is not None:
                address = _link_address(step.address)
                if address in self._net.addresses(link):
                    self._net.delete_address(link, address)
            case SetLink() if link is not None:
                self._net.set_link(link, mtu=link.mtu, up=False)
            case AddRoute() if link is not None:
                routes.delete_route(self._net, link, step.route())
            case AddRule():
                routes.delete_rule(self._net, step.rule())
            case AddTable():
                firewall.delete_table(step.version, step.interface)
            case GuardLink():
                clear_firewall(step.interface)
            case AddUnreachable():
                routes.delete_unreachable(self._net, step.route())
            case GuardExit():
                nft.delete_table("inet", exits.guard_name(step.interface))
            case Masquerade():
                nft.delete_table("inet", exits.masquerade_name(step.interface))
            case SetDns():
                self._unset_dns(step, link)
            case SetSysctl() if self._restores(step):
                firewall.write_sysctl(step.name, step.before)

    def _unset_dns(self, step: SetDns, link: Link | None) -> None:
        # systemd-resolved forgets a link's servers with the link, and fails for a link that is
        # gone; resolvconf keeps its record.
        if link is not None or dns.Resolver(step.resolver) is dns.Resolver.RESOLVCONF:
            for command in step.unset_commands():
                dns.run(command)

    def _restores(self, step: SetSysctl) -> bool:
        """Whether the old value is to be put back: nobody else of ours needs the new one, and
        nobody else changed it since."""
        if step.before == step.value or firewall.read_sysctl(step.name) != step.value:
            return False
        others = other_journals(self._journal.run_directory, self._journal.stem)
        return not any(
            isinstance(other, SetSysctl) and other.name == step.name
            for journal in others
            for other in journal.steps
        )

    def _the_link(self) -> Link:
        link = self.link()
        if link is None:
            raise QuickError(f"the link {self._journal.interface} is gone: its daemon has ended")
        return link

    def _the_control(self) -> Control:
        if self._control is None:
            raise QuickError(f"{self._journal.interface} has no daemon to ask")
        return self._control


def routed(state: DeviceState) -> tuple[Prefix, ...]:
    """The prefixes that need routes: the configured peers', and those that others may come from.

    A peer that was admitted has no route of its own, which would outlive it.
    """
    configured = [prefix for p in state.peers if not p.admitted for prefix in p.allowed_ips]
    if state.authority is None:
        return tuple(configured)
    enrolling = (quarantine_range(state.authority.network),) if state.authority.enrol else ()
    return (*configured, *state.authority.accept, *enrolling)


def _link_address(text: str) -> LinkAddress:
    written, _, length = text.partition("/")
    return parse_address(written), int(length)
