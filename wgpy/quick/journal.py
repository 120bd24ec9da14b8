"""The journal of one interface, /run/wgpy/IF.json: each step is in it before it is taken.

Whatever ends `wgpy up`, also SIGKILL, `wgpy down` reads there what may have been done, and undoes
it. The file is 0600 because hooks may hold passwords. No key is ever in it.

A lock file beside it is held while `up`, `down` or `save` works on the interface, and another one,
for all interfaces, while one of them looks at and changes what they share: tables, rules, sysctl.
"""

import contextlib
import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from wgpy.keys import write_secret
from wgpy.quick.steps import QuickError, SetMark, Step, step_from_json, step_to_json

RUN_DIRECTORY = Path("/run/wgpy")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_VERSION = 1
# asm-generic/socket.h
_SO_NETNS_COOKIE = 71


class State(Enum):
    """How far the interface is."""

    STARTING = "starting"
    UP = "up"
    STOPPING = "stopping"


@dataclass(slots=True)
class Journal:
    """What was, or was about to be, done to bring an interface up."""

    interface: str
    run_directory: Path
    config_path: str
    # The daemon runs by itself (under systemd): the link is not ours to delete.
    attached: bool = False
    state: State = State.STARTING
    # The link's index, once there is one: a later link of the same name is not ours.
    link_index: int | None = None
    pre_down: tuple[str, ...] = ()
    post_down: tuple[str, ...] = ()
    steps: list[Step] = field(default_factory=list)
    # Of a mesh: what of it this is about, its routes. `wgpy up` has no such word.
    part: str = ""
    boot: str = field(default_factory=lambda: boot_id())
    namespace: str = field(default_factory=lambda: network_namespace())

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return journal_path(self.run_directory, self.stem)

    @property
    def stem(self) -> str:
        """The name of its file without `.json`, which tells it from all others."""
        return f"{self.interface}.{self.part}" if self.part else self.interface

    def chosen_marks(self) -> list[int]:
        """The firewall marks that `up` chose by itself, which no file mentions."""
        return [step.mark for step in self.steps if isinstance(step, SetMark)]

    def add(self, step: Step) -> None:
        """Record a step that is about to be taken. Raises OSError."""
        self.steps.append(step)
        self.write()

    def remove(self, step: Step) -> None:
        """Forget a step that has been undone. Raises OSError."""
        self.steps.remove(step)
        self.write()

    def write(self) -> None:
        """Put the journal on disk whole. Raises OSError."""
        value = {
            "version": _VERSION,
            "interface": self.interface,
            "part": self.part,
            "config": self.config_path,
            "attached": self.attached,
            "state": self.state.value,
            "link_index": self.link_index,
            "pre_down": self.pre_down,
            "post_down": self.post_down,
            "boot": self.boot,
            "namespace": self.namespace,
            "steps": [step_to_json(step) for step in self.steps],
        }
        write_secret(self.path, (json.dumps(value, indent=1) + "\n").encode())

    def delete(self) -> None:
        """Remove the file: nothing is left to undo."""
        self.path.unlink(missing_ok=True)


def boot_id() -> str:
    """What tells this boot from others: after another one nothing is left to undo."""
    return _BOOT_ID.read_text().strip()


def network_namespace() -> str:
    """What tells this thread's network namespace from others, as `net:[4026531840] 4097`.

    The first number is given to another namespace when this one is gone. The second, where the
    kernel (5.14) has it, is never given again.
    """
    name = os.readlink("/proc/thread-self/ns/net")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            cookie = probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
        except OSError:
            return name
    return f"{name} {int.from_bytes(cookie, sys.byteorder)}"


def journal_path(run_directory: Path, stem: str) -> Path:
    """Where the journal of an interface, or of a part of one, is kept."""
    return run_directory / f"{stem}.json"


def read_journal(run_directory: Path, stem: str) -> Journal | None:
    """The journal of an interface (`IF`), or of a part of one (`IF.PART`); None if there is none.

    Raises QuickError if it is broken.
    """
    path = journal_path(run_directory, stem)
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    try:
        return _parse(json.loads(text), run_directory)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise QuickError(
            f"{path}: this is no journal of this version of wgpy; undo by hand what it says, "
            "then remove it"
        ) from None


def _parse(value: dict[str, Any], run_directory: Path) -> Journal:
    if value["version"] != _VERSION:
        raise ValueError("another version")
    return Journal(
        interface=value["interface"],
        part=value.get("part", ""),
        run_directory=run_directory,
        config_path=value["config"],
        attached=value["attached"],
        state=State(value["state"]),
        link_index=value["link_index"],
        pre_down=tuple(value["pre_down"]),
        post_down=tuple(value["post_down"]),
        steps=[step_from_json(step) for step in value["steps"]],
        boot=value["boot"],
        namespace=value["namespace"],
    )


def other_journals(run_directory: Path, stem: str) -> list[Journal]:
    """All journals but one, of this boot and this network namespace."""
    found = []
    for path in sorted(run_directory.glob("*.json")):
        if path.stem == stem:
            continue
        # One that cannot be read says nothing of what it holds; its own `down` will report it.
        with contextlib.suppress(QuickError, OSError):
            journal = read_journal(run_directory, path.name.removesuffix(".json"))
            if journal and (journal.boot, journal.namespace) == (boot_id(), network_namespace()):
                found.append(journal)
    return found


@contextlib.contextmanager
def interface_lock(run_directory: Path, interface: str) -> Iterator[None]:
    """Hold the interface's lock; QuickError at once if another process has it.

    The `@` keeps the file's name apart from any interface's.
    """
    with _locked(run_directory / f"quick@{interface}.lock", wait=False) as got:
        if not got:
            raise QuickError(
                f"another wgpy is working on {interface} right now; try again when it is done"
            )
        # What a process that was killed while it wrote the journal left beside it.
        for leftover in run_directory.glob(f".{interface}.json.*.tmp"):
            leftover.unlink(missing_ok=True)
        yield


@contextlib.contextmanager
def machine_lock(run_directory: Path) -> Iterator[None]:
    """Hold the lock of what interfaces share, waiting for it."""
    with _locked(run_directory / "quick@.lock", wait=True):
        yield


@contextlib.contextmanager
def _locked(path: Path, *, wait: bool) -> Iterator[bool]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The file stays: removing a lock file would let two processes hold two files of one name.
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(lock)
