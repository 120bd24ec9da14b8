"""`wgpy up`: bring one interface up as its configuration says, or leave everything as it was."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from wgpy.config.model import Config, InterfaceAddress, InterfaceConfig
from wgpy.identity.claims import CredentialError
from wgpy.linux import dns, nft, routes
from wgpy.linux.netlink import Netlink
from wgpy.quick.daemon import find_program
from wgpy.quick.down import refuse_other_namespace, undo_journal
from wgpy.quick.journal import (
    RUN_DIRECTORY,
    Journal,
    State,
    boot_id,
    interface_lock,
    machine_lock,
    read_journal,
)
from wgpy.quick.machine import Control, Machine
from wgpy.quick.plan import (
    NO_NFT,
    NO_NFT_FOR_RULES,
    NO_NFT_TO_ENROL,
    NO_RESOLVER,
    plan_hooks,
    plan_network,
    plan_start,
)
from wgpy.quick.runner import (
    FAILURES,
    Interrupted,
    Observer,
    interruptible,
    nobody,
    reason,
    say,
    take_all,
    uninterrupted,
)
from wgpy.quick.steps import QuickError


def up(
    interface: str,
    config: Config,
    control: Control,
    *,
    attach: bool = False,
    run_directory: Path = RUN_DIRECTORY,
    observe: Observer = nobody,
) -> None:
    """Bring `interface` up. With `attach`, its daemon runs already, and is not ours to end.

    Raises QuickError, one line, when everything is as it was before.
    """
    with interface_lock(run_directory, interface), Netlink() as net:
        _clear_the_way(net, interface, run_directory)
        link = net.link(interface)
        if attach and link is None:
            raise QuickError(f"there is no link {interface}; start `wgpyd {interface}` first")
        if not attach and link is not None:
            raise QuickError(
                f"{interface} exists already; take it down first, or `wgpy up --attach "
                f"{interface}` if its daemon runs and was not configured"
            )
        _check_tools(config)
        program = None if attach else find_program()
        journal = Journal(
            interface=interface,
            run_directory=run_directory,
            config_path=str(config.path or ""),
            attached=attach,
            link_index=link.index if attach and link else None,
            pre_down=config.interface.pre_down,
            post_down=config.interface.post_down,
        )
        journal.write()
        machine = Machine(net, journal, control)
        _take_or_undo(lambda: _take(machine, journal, config, program, observe), journal)


def _take(
    machine: Machine,
    journal: Journal,
    whole: Config,
    program: str | None,
    observe: Observer,
) -> None:
    name, config = journal.interface, _own_address(whole)
    signal = None if whole.nat is None else whole.nat.signal
    start = plan_start(name, config, program, guarded=_has_rules(whole), signal=signal)
    take_all(machine, journal, start, observe)
    record = dns.resolvconf_record(name)
    with machine_lock(journal.run_directory):
        network = plan_network(name, config, machine.snapshot(record))
        take_all(machine, journal, network, observe)
    take_all(machine, journal, plan_hooks(name, "PostUp", config.post_up), observe)
    journal.state = State.UP
    journal.write()


def _take_or_undo(take: Callable[[], None], journal: Journal) -> None:
    """Take the steps; after a failure or an interruption undo them, and raise QuickError."""
    try:
        with interruptible():
            take()
        return
    except Interrupted as error:
        why = f"interrupted by {error}"
    except FAILURES as error:
        why = reason(error)
    except BaseException:
        # A fault of our own: leave nothing behind, and let it be seen.
        with uninterrupted():
            undo_journal(journal)
        raise
    say(f"[!] {why}")
    with uninterrupted():
        failures = undo_journal(journal)
    if failures:
        raise QuickError(
            f"{journal.interface}: {why}; undoing it failed too: {'; '.join(failures)}; "
            f"`wgpy down {journal.interface}` tries again"
        )
    raise QuickError(f"{journal.interface}: {why}; everything was undone")


def _clear_the_way(net: Netlink, interface: str, run_directory: Path) -> None:
    """Undo what an earlier `up` left behind. Raises QuickError if the interface is up."""
    journal = read_journal(run_directory, interface)
    if journal is None:
        return
    if journal.boot != boot_id():
        journal.delete()
        return
    refuse_other_namespace(journal)
    link = net.link(interface)
    alive = link is not None and link.index == journal.link_index
    if alive and journal.state is State.UP:
        raise QuickError(f"{interface} is up already; `wgpy down {interface}` takes it down")
    say(f"[!] {interface} was left half up or half down; undoing that first")
    with uninterrupted():
        failures = undo_journal(journal)
    if failures:
        raise QuickError(f"{interface}: what was left behind stays: {'; '.join(failures)}")


def _has_rules(config: Config) -> bool:
    """Whether there is to be a firewall: rules, or the wall around those who enrol."""
    if config.authority is not None and config.authority.enrol:
        return True
    return config.firewall is not None and bool(config.firewall.rules)


def _own_address(config: Config) -> InterfaceConfig:
    """The interface, with the address that follows from its key if it is to enrol and the file
    gives it none. Raises QuickError."""
    interface, identity = config.interface, config.identity
    key = interface.private_key
    if interface.addresses or identity is None or identity.token is None or key is None:
        return interface
    # Late: an interface without a token needs none of it.
    from wgpy.identity.own import OwnCredential

    try:
        own = OwnCredential.load(identity, key.public())
    except CredentialError as error:
        raise QuickError(str(error)) from None
    if not own.enrols:
        return interface
    return replace(interface, addresses=tuple(InterfaceAddress(*x) for x in own.addresses))


def _check_tools(config: Config) -> None:
    """Refuse, before anything is touched, what would fail for want of a program."""
    interface = config.interface
    if _has_rules(config) and not nft.have_nft():
        enrols = config.authority is not None and config.authority.enrol
        raise QuickError(NO_NFT_TO_ENROL if enrols else NO_NFT_FOR_RULES)
    if interface.dns and dns.find_resolver() is None:
        raise QuickError(NO_RESOLVER)
    default = any(prefix.length == 0 for peer in config.peers for prefix in peer.allowed_ips)
    if interface.table == "auto" and default and not nft.have_nft():
        raise QuickError(NO_NFT)
    if routes.ipv6_is_off() and any(address.version == 6 for address in interface.addresses):
        raise QuickError(
            "IPv6 is off here (net.ipv6.conf.all.disable_ipv6) and Address has IPv6: take it out "
            "or turn IPv6 on"
        )
