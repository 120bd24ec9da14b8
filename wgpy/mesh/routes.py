"""The routes of a mesh on this machine: what others offer and is taken, an exit, what is offered.

`routes_choice.py` says what is taken, `routes_plan.py` what that means, `routes_machine.py` does
it. Here is what keeps it so: a thread hears when the machine's own networks change, or when
somebody deletes the guard of an exit, and decides again.
"""

import os
import select
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from wgpy.ip import Prefix, parse_address
from wgpy.linux.exits import guard_name
from wgpy.linux.networks import NetworkWatch
from wgpy.linux.nft_watch import TableWatch
from wgpy.mesh.routes_choice import Choice, Decision, Network, Offer, decide, parse_own
from wgpy.mesh.routes_machine import Carrier, Observer, RoutesError, forwarding, nobody
from wgpy.mesh.routes_plan import Sharing, plan
from wgpy.quick.journal import RUN_DIRECTORY
from wgpy.quick.steps import GuardExit, QuickError

__all__ = ["Offer", "Outcome", "Routes", "RoutesError", "close_exit", "restore"]

# Networks come with several events within a moment: one look, 200 ms later, is for all of them.
_SETTLE: Final = 200.0
# A look that failed, as when the daemon was away, is tried again after 10 s. Both in ms, for poll.
_PATIENCE: Final = 10_000.0
# A machine with a million routes takes seconds to look: that is a tenth of the time at the most.
_REST: Final = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is in force: by node what its allowed IPs are to have besides its addresses, and lines
    for people."""

    allowed: dict[str, tuple[Prefix, ...]] = field(default_factory=dict)
    said: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Wish:
    """What was last asked for."""

    offers: tuple[Offer, ...] = ()
    choice: Choice = field(default_factory=Choice)
    offered: tuple[Prefix, ...] = ()
    masquerade: bool = False


class Routes:
    """The routes of one interface. Methods may be called from any thread; they raise RoutesError.

    What a killed agent left is taken over and stays in force until `update` has decided.
    """

    def __init__(
        self,
        interface: str,
        addresses: Iterable[str | bytes],
        ranges: Iterable[Prefix] = (),
        *,
        run_directory: Path = RUN_DIRECTORY,
        observe: Observer = nobody,
    ) -> None:
        self._interface = interface
        self._addresses = tuple(x if isinstance(x, bytes) else parse_address(x) for x in addresses)
        self._ranges = tuple(ranges)
        self._carrier = Carrier(interface, run_directory, observe)
        self._wish: _Wish | None = None
        self._decision = Decision()
        self._outcome = Outcome()
        self._networks: tuple[Network, ...] = ()
        self._problem = ""
        self._lock = threading.Lock()
        self._watcher: _Watcher | None = None
        # Called from the thread that watches, when it changed the outcome.
        self.on_change: Callable[[Outcome], None] | None = None

    def update(
        self,
        offers: Iterable[Offer],
        accept: Iterable[str] = (),
        exit: str | None = None,  # noqa: A002 -- that is its name everywhere
        offered: Iterable[Prefix] = (),
        *,
        masquerade: bool = False,
    ) -> Outcome:
        """Take what is chosen of these offers, and no longer what was before; the outcome is to be
        in the daemon's allowed IPs after this. `offered` is what this node offers, approved.

        Raises RoutesError; what is in force is then what the journal has, and a guard that was
        there still is.
        """
        with self._lock:
            choice = Choice(tuple(accept), exit)
            self._wish = _Wish(tuple(offers), choice, tuple(offered), masquerade)
            outcome = self._apply()
            if self._watcher is None and (choice.accept or exit is not None):
                self._watcher = _Watcher(self._interface, self._changed)
            return outcome

    def stop(self, *, hold_exit: bool = False) -> None:
        """Take everything back. With `hold_exit`, and an exit in force, leave all as it is, so that
        nothing leaks until the next agent is there. Raises RoutesError."""
        with self._lock:
            watcher, self._watcher = self._watcher, None
            self._wish = None
        # It may be waiting for the lock, and then finds nothing to do.
        if watcher is not None:
            watcher.close()
        with self._lock:
            if not (hold_exit and any(isinstance(x, GuardExit) for x in self._carrier.steps)):
                self._carrier.undo_everything()
                self._decision, self._outcome = Decision(), Outcome()

    def status(self) -> dict[str, Any]:
        """What is in force, for people and programs."""
        with self._lock:
            wish, decision = self._wish or _Wish(), self._decision
            return {
                "accept": list(wish.choice.accept),
                "taken": [{"prefix": str(p), "node": name} for p, name in decision.taken],
                "exit": decision.exit,
                "exit_versions": list(decision.versions),
                "guarded": any(isinstance(x, GuardExit) for x in self._carrier.steps),
                "offers": [
                    {"node": x.name, "prefixes": list(map(str, x.prefixes))}
                    for x in wish.offers
                    if x.prefixes
                ],
                "offered": list(map(str, wish.offered)),
                "masquerade": wish.masquerade,
                "networks": list(map(str, self._networks)),
                "said": list(self._outcome.said),
                "problem": self._problem,
            }

    def _apply(self, *, again: bool = False) -> Outcome:
        """Look, decide, do. Holds the lock."""
        wish = self._wish or _Wish()
        try:
            look = self._carrier.look()
            self._networks = look.networks
            own = (*self._ranges, *parse_own(self._addresses))
            decision = decide(wish.offers, wish.choice, look.networks, own)
            sharing = Sharing(self._ranges, wish.offered if wish.masquerade else ())
            snapshot = self._carrier.snapshot(self._addresses, look)
            wanted = plan(self._interface, decision, sharing, snapshot)
            if look.link_index is None and (wanted or self._carrier.steps):
                raise RoutesError(f"there is no link {self._interface}: its daemon has ended")
            self._carrier.carry_out(wanted, look, again=again)
        except (RoutesError, QuickError) as error:
            self._problem = str(error)
            raise RoutesError(self._problem) from None
        self._problem = ""
        self._decision = decision
        self._outcome = Outcome(decision.allowed(), (*decision.said, *forwarding(wish.offered)))
        return self._outcome

    def _changed(self, guard_gone: bool) -> bool:
        """Decide again, from the watcher's thread; whether it went well."""
        with self._lock:
            wish = self._wish
            if wish is None or (wish.choice == Choice() and not self._carrier.steps):
                return True
            before = self._outcome
            guarded = any(isinstance(x, GuardExit) for x in self._carrier.steps)
            try:
                after = self._apply(again=guard_gone and guarded)
            except RoutesError:
                return False
        if after != before and self.on_change is not None:
            self.on_change(after)
        return True


class _Watcher:
    """The thread that hears of networks, and of the guard's table."""

    def __init__(self, interface: str, changed: Callable[[bool], bool]) -> None:
        self._networks = NetworkWatch()
        self._table = TableWatch(guard_name(interface))
        self._changed = changed
        self._waking, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="wgpy-routes", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        os.write(self._wake, b"\0")
        self._thread.join()
        self._networks.close()
        self._table.close()
        os.close(self._waking)
        os.close(self._wake)

    def _run(self) -> None:
        either, ending = select.poll(), select.poll()
        for fd in (self._waking, self._networks.fd, self._table.fd):
            either.register(fd, select.POLLIN)
        ending.register(self._waking, select.POLLIN)
        patience: float | None = None
        rest = _SETTLE
        while True:
            either.poll(patience)
            # A moment for what comes with it, unless it is the end.
            if ending.poll(rest):
                return
            self._networks.acknowledge()
            began = time.monotonic()
            patience = None if self._changed(self._table.deleted()) else _PATIENCE
            rest = max(_SETTLE, (time.monotonic() - began) * 1000 * _REST)


def close_exit(interface: str, run_directory: Path = RUN_DIRECTORY) -> None:
    """Let nothing leave this machine until an agent opens its exit: called when the machine starts,
    before there is a network. Raises RoutesError."""
    Carrier(interface, run_directory).close_exit()


def restore(interface: str, run_directory: Path = RUN_DIRECTORY) -> None:
    """Take back what routes of an interface left, whoever was killed; nothing if nothing is left.

    An exit ends with it: an agent that will use one takes it over instead. Raises RoutesError.
    """
    Carrier(interface, run_directory).undo_everything()
