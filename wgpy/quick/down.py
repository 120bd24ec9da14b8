"""`wgpy down`: undo what the journal says `wgpy up` did, also after a crash of either."""

from collections.abc import Callable
from pathlib import Path

from wgpy.config.model import InterfaceConfig
from wgpy.linux.netlink import Netlink
from wgpy.quick.journal import (
    RUN_DIRECTORY,
    Journal,
    State,
    boot_id,
    interface_lock,
    machine_lock,
    network_namespace,
    read_journal,
)
from wgpy.quick.machine import Machine
from wgpy.quick.runner import (
    Observer,
    began,
    nobody,
    run_down_hooks,
    say,
    undo_all,
    uninterrupted,
)
from wgpy.quick.steps import QuickError


def down(
    interface: str,
    config: InterfaceConfig | None = None,
    save: Callable[[], None] | None = None,
    *,
    attach: bool = False,
    run_directory: Path = RUN_DIRECTORY,
    observe: Observer = nobody,
) -> None:
    """Take `interface` down. `config`, if it can still be read, has the down hooks to run; else
    those that the journal kept are run. `save` writes the configuration (SaveConfig).

    With `attach` the daemon may have ended already, and it is no failure that there is nothing
    to undo. Raises QuickError, one line.
    """
    with interface_lock(run_directory, interface):
        journal = read_journal(run_directory, interface)
        if journal is not None and journal.boot != boot_id():
            say(f"[!] {interface} was up before the machine started again; nothing is left of it")
            journal.delete()
            return
        if journal is None:
            if attach:
                return
            raise QuickError(_unknown(interface, run_directory))
        refuse_other_namespace(journal)
        if config is not None and journal.state is not State.STOPPING:
            journal.pre_down, journal.post_down = config.pre_down, config.post_down
        if _is_up(journal):
            # As in wg-quick(8), a PreDown hook that fails keeps the interface up.
            run_down_hooks(interface, "PreDown", journal.pre_down, carry_on=False)
            if save is not None:
                save()
        with uninterrupted():
            failures = undo_journal(journal, observe)
    if failures:
        raise QuickError(f"{interface}: {'; '.join(failures)}")


def _is_up(journal: Journal) -> bool:
    if journal.state is not State.UP:
        return False
    with Netlink() as net:
        return Machine(net, journal, None).link() is not None


def undo_journal(journal: Journal, observe: Observer = nobody) -> list[str]:
    """Undo what the journal holds, and delete it. Returns failures, one line each.

    The down hooks answer the up hooks. PreDown runs if the interface was up but its link is gone,
    or if `up` got as far as a PostUp hook; PostDown if it was up, or if `up` got to any hook.
    """
    failures: list[str] = []
    name = journal.interface
    with Netlink() as net:
        machine = Machine(net, journal, None)
        starting = journal.state is State.STARTING
        fell = journal.state is State.UP and machine.link() is None
        if fell or (starting and began(journal, "PostUp")):
            failures += run_down_hooks(name, "PreDown", journal.pre_down, carry_on=True)
        answers = not starting or began(journal, "PreUp", "PostUp")
        post_down = journal.post_down if answers else ()
        journal.state = State.STOPPING
        journal.post_down = post_down
        journal.write()
        with machine_lock(journal.run_directory):
            undone = undo_all(machine, journal, observe)
    failures += undone
    if not undone:
        failures += run_down_hooks(name, "PostDown", post_down, carry_on=True)
        journal.delete()
    return failures


def refuse_other_namespace(journal: Journal) -> None:
    """Raise QuickError if the interface was brought up in another network namespace."""
    if journal.namespace != network_namespace():
        where = journal.namespace.split()[0]
        raise QuickError(
            f"{journal.interface} was brought up in another network namespace ({where}); "
            f"do this there, or remove {journal.path} if it is gone"
        )


def _unknown(interface: str, run_directory: Path) -> str:
    with Netlink() as net:
        if net.link(interface) is None:
            return f"{interface} is not up"
    return (
        f"{interface} was not brought up by `wgpy up` (there is no {run_directory}/"
        f"{interface}.json); take it down with what brought it up"
    )
