"""The demo from beginning to end: make, try, tell, remove whatever happens."""

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Final

from wgpy.demo import cable, control, daemons, echo, flow, namespace
from wgpy.demo.machines import ALICE, BOB, MACHINES, DemoError
from wgpy.demo.picture import Side
from wgpy.keys import PrivateKey

ECHOES: Final = 5
FLOW_SECONDS: Final = 2.0

_LOCK: Final = Path("/run/wgpy/demo.lock")
# The signals that end a program from outside; all of them leave nothing behind.
_ENDINGS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal ended the demo; everything was removed."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@dataclass(frozen=True, slots=True)
class Result:
    """What the demo found. `v6` is None where the machine has no IPv6; times are in seconds."""

    sides: tuple[Side, Side]
    v4: echo.Echoes
    v6: echo.Echoes | None
    flow: flow.Flow
    statuses: tuple[control.Status, control.Status]
    handshake_age: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Teller:
    """Whom the demo tells how it gets on: a step is done; the picture can be drawn; the echoes of
    one address have come back."""

    step: Callable[[str], None]
    picture: Callable[[Side, Side], None]
    echoes: Callable[[echo.Echoes], None]


def run(teller: Teller, *, implementation: str | None = None, keep: bool = False) -> Result:
    """Run the demo. With `keep`, what it made stays if everything went well.

    Raises DemoError, UapiError, OSError, and Stopped when a signal came; nothing is left behind
    then.
    """
    if os.geteuid() != 0:
        raise DemoError("the demo makes network namespaces, for root only: run `sudo wgpy demo`")
    words = daemons.command(implementation)
    with _lock(), _signals():
        if _is_kept():
            raise DemoError("a demo was left running: remove it with `wgpy demo --clean`")
        running: list[daemons.Daemon] = []
        kept = False
        try:
            _remove()  # what a demo that was killed may have left
            result = _build_and_try(teller, words, running, outlive=keep)
            kept = keep
        finally:
            with _signals_blocked():
                if not kept:
                    _remove()
                for daemon in running:
                    daemon.close()
    return result


def clean() -> bool:
    """Remove everything of a demo that was kept or killed; whether there was anything.

    Raises DemoError, OSError.
    """
    if os.geteuid() != 0:
        raise DemoError("only root may remove the demo: run `sudo wgpy demo --clean`")
    with _lock():
        return _remove()


def _build_and_try(
    teller: Teller, words: list[str], running: list[daemons.Daemon], *, outlive: bool
) -> Result:
    started = time.perf_counter()
    _make_namespaces()
    cable.lay_cable()
    teller.step(f"two network namespaces, {ALICE.name} and {BOB.name}, and a cable between them")
    private = {machine.name: PrivateKey.generate() for machine in MACHINES}
    try:
        for machine in MACHINES:
            running.append(daemons.start(machine, words, outlive=outlive))
        sides = _configure(running, private)
        teller.step("a daemon on each, which makes the interface, and a key pair for each")
        teller.picture(*sides)
        v4, v6, arrived = _try(teller, sides[0].has_v6)
        statuses = (control.status(ALICE), control.status(BOB))
        return Result(
            sides=sides,
            v4=v4,
            v6=v6,
            flow=arrived,
            statuses=statuses,
            handshake_age=max(0.0, time.time() - statuses[0].last_handshake),
            seconds=time.perf_counter() - started,
        )
    finally:
        for secret in private.values():
            secret.wipe()


def _make_namespaces() -> None:
    for machine in MACHINES:
        try:
            namespace.create(machine.namespace)
        except PermissionError:
            raise DemoError(
                "this root may not make network namespaces (a container without CAP_SYS_ADMIN?): "
                "run the demo on the host, or in a privileged container"
            ) from None


def _configure(running: list[daemons.Daemon], private: dict[str, PrivateKey]) -> tuple[Side, Side]:
    public = {name: key.public() for name, key in private.items()}
    sides = []
    for daemon, peer in zip(running, reversed(MACHINES), strict=True):
        machine = daemon.machine
        daemons.await_socket(daemon)
        control.configure(machine, private[machine.name], peer, public[peer.name])
        has_v6 = cable.dress_tunnel(machine)
        datapath = control.status(machine).datapath
        program = daemon.name if datapath is None else f"{daemon.name}, {datapath}"
        sides.append(Side(machine, public[machine.name], program, daemon.child.pid, has_v6))
    return sides[0], sides[1]


def _try(teller: Teller, has_v6: bool) -> tuple[echo.Echoes, echo.Echoes | None, flow.Flow]:
    results = []
    for address in (BOB.inner_v4, *([BOB.inner_v6] if has_v6 else [])):
        with namespace.inside(ALICE.namespace):
            echoes = echo.ping(address, ECHOES)
        teller.echoes(echoes)
        results.append(echoes)
        if echoes.answered == 0:
            raise DemoError(
                f"{address} never answered through the tunnel; `wgpy doctor` may say why"
            )
    arrived = flow.measure(ALICE, BOB, FLOW_SECONDS)
    return results[0], results[1] if has_v6 else None, arrived


def _is_kept() -> bool:
    """Whether daemons of a demo run, though no demo does: we hold the lock."""
    return bool(daemons.running())


def _remove() -> bool:
    """End the daemons, then remove namespaces (and with them the links) and sockets, by name."""
    anything = daemons.end_all() > 0
    for machine in MACHINES:
        if namespace.exists(machine.namespace):
            namespace.remove(machine.namespace)
            anything = True
        # A daemon that had to be killed leaves its socket; every one leaves its lock and its clock.
        machine.socket.unlink(missing_ok=True)
        for path in machine.leftovers:
            path.unlink(missing_ok=True)
    return anything


@contextlib.contextmanager
def _lock() -> Iterator[IO[str]]:
    _LOCK.parent.mkdir(mode=0o755, exist_ok=True)
    with open(_LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError("another demo is running: wait for its end") from None
        yield file


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Turn the signals that would end us into Stopped."""
    before = {number: signal.signal(number, _stop) for number in _ENDINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Hold the signals that would end us back until the end of the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
