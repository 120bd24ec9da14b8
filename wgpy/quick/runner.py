"""Takes a plan step by step, each recorded first, and undoes what the journal holds."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from wgpy.config.errors import ConfigError
from wgpy.device.uapi import UapiError
from wgpy.linux.dns import DnsError
from wgpy.linux.netlink import NetlinkError
from wgpy.linux.nft import FirewallError
from wgpy.quick.hooks import run_hook
from wgpy.quick.journal import Journal
from wgpy.quick.machine import Machine
from wgpy.quick.plan import plan_hooks
from wgpy.quick.steps import ENDS_WITH_LINK, QuickError, RunHook, SetSysctl, StartDaemon, Step

# What a step may fail with; all are one line.
FAILURES = (
    QuickError,
    ConfigError,
    UapiError,
    NetlinkError,
    DnsError,
    FirewallError,
    OSError,
)


class Interrupted(Exception):  # noqa: N818 -- it is no error: somebody asked
    """SIGINT, SIGTERM or SIGHUP came while steps were taken."""


# Told of each moment at which a crash could come: a word for the moment, and the step. Tests end
# the process there; nothing else uses it.
Observer = Callable[[str, Step], None]


def nobody(_moment: str, _step: Step) -> None:
    """The observer that does nothing."""


def say(line: str) -> None:
    """Print a line on standard error at once: a hook's own output may come next.

    Where nobody reads it any more, a pipe that was closed or a terminal that is gone, it is lost:
    what is half done for want of a reader would be worse.
    """
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def say_step(text: str) -> None:
    """Print a command as wg-quick(8) shows those it runs, one line each."""
    for line in text.splitlines():
        say(f"[#] {line}")


def take_all(
    machine: Machine, journal: Journal, steps: Sequence[Step], observe: Observer = nobody
) -> None:
    """Take steps in order. Raises QuickError that names the one that failed and why."""
    for step in steps:
        journal.add(step)
        observe("recorded", step)
        # A sysctl that has the value already is recorded, for other interfaces, but not set.
        if not (isinstance(step, SetSysctl) and step.found == step.value):
            say_step(str(step))
        try:
            machine.take(step)
        except FAILURES as error:
            raise QuickError(_failure(step, error)) from None
        observe("taken", step)


def _failure(step: Step, error: Exception) -> str:
    first = str(step).splitlines()[0]
    name = f"the {step.phase} hook `{first}`" if isinstance(step, RunHook) else f"`{first}`"
    return f"{name} failed: {reason(error)}"


def reason(error: Exception) -> str:
    """A failure in one line."""
    text = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return " ".join(text.split("\n"))


def undo_all(machine: Machine, journal: Journal, observe: Observer = nobody) -> list[str]:
    """Undo every step of the journal, the last first, forgetting each one that is undone.

    Carries on after a failure, and returns the failures, one line each; what failed stays in the
    journal.
    """
    failures: list[str] = []
    owns_link = any(isinstance(step, StartDaemon) for step in journal.steps)
    for step in reversed(journal.steps[:]):
        observe("undoing", step)
        # Deleting the link undoes these; the steps stay recorded until it is.
        if owns_link and isinstance(step, ENDS_WITH_LINK):
            continue
        text = machine.undo_text(step)
        if text is not None:
            say_step(text)
        try:
            machine.undo(step)
        except FAILURES as error:
            failures.append(f"`{text or step}` failed: {reason(error)}")
            continue
        observe("undone", step)
        if isinstance(step, StartDaemon):
            journal.steps = [s for s in journal.steps if not isinstance(s, ENDS_WITH_LINK)]
        journal.remove(step)
    return failures


def run_down_hooks(
    interface: str, phase: str, hooks: Sequence[str], *, carry_on: bool
) -> list[str]:
    """Run PreDown or PostDown hooks. With `carry_on`, returns failures; else raises QuickError."""
    failures: list[str] = []
    for step in plan_hooks(interface, phase, hooks):
        assert isinstance(step, RunHook)
        say_step(str(step))
        try:
            run_hook(step)
        except QuickError as error:
            if not carry_on:
                raise QuickError(_failure(step, error)) from None
            failures.append(_failure(step, error))
    return failures


def began(journal: Journal, *phases: str) -> bool:
    """Whether a hook of one of these phases was begun."""
    return any(isinstance(step, RunHook) and step.phase in phases for step in journal.steps)


@contextmanager
def interruptible() -> Iterator[None]:
    """Signals that ask to stop raise Interrupted, so that what was done can be undone."""
    with _handling(_interrupt):
        yield


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Signals that ask to stop are ignored: half undone is worse than a moment's patience."""
    with _handling(_ignore):
        yield


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise Interrupted(signal.Signals(number).name)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    return
