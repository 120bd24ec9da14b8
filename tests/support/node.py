"""A node of a real mesh in a namespace: `wgpy mesh` as a person types it, and its agent beside.

    with Node(lab.hosts["server"].namespace) as gate, Node(lab.hosts["alice"].namespace) as alice:
        gate.init("gate", "203.0.113.10:51820")
        alice.join(gate.invite(), name="alice")
        alice.space.ping(gate.v4)

Each has an interface of its own, and so all its files: nodes share the machine's directories.
"""

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.commands import CommandError, Process, wait_until
from tests.support.netns import Namespace, link_name
from tests.support.requirements import program
from wgpy.device import client
from wgpy.device.uapi import DeviceState, UapiError
from wgpy.mesh import ask
from wgpy.mesh.ask import AskError
from wgpy.mesh.place import STATE_DIRECTORY, Place

# A busy machine loads Python and its libraries in a second or two; a handshake and some questions
# take less.
PATIENCE = 30.0


class Node:
    """One machine. A context manager that ends the agent, its daemon, and removes its files."""

    def __init__(self, space: Namespace, *, life: float = 600.0) -> None:
        self.space = space
        self.interface = link_name()
        self.place = Place(self.interface)
        self.agent: Process | None = None
        self.logs: list[Process] = []
        self._life = life
        # The machine's own /etc/hosts is not ours to change: `ip netns exec` shows these instead.
        self._etc = Path("/etc/netns") / space.name
        self._etc.mkdir(parents=True, exist_ok=True)
        self.resolve({})
        (self._etc / "resolv.conf").write_text("")
        (self._etc / "nsswitch.conf").write_text("hosts: files\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None or "WGPY_TEST_LOGS" in os.environ:
            # pytest shows it with the failure that it explains.
            print(f"--- {self.space.name} {self.interface} ---\n{self.log()}")
        self.stop()
        shutil.rmtree(STATE_DIRECTORY / f"{self.interface}.root", ignore_errors=True)
        self.place.remove()
        shutil.rmtree(self._etc, ignore_errors=True)

    def resolve(self, names: Mapping[str, str]) -> None:
        """Host names that this machine knows, and their addresses: these and no others. The agent
        writes into the same file, so it must not be running."""
        known = {"localhost": "127.0.0.1", **names}
        lines = (f"{address}\t{name}\n" for name, address in known.items())
        (self._etc / "hosts").write_text("".join(lines) + "::1\tlocalhost\n")

    # --- What a person does ---

    def wgpy(
        self, *words: str, stdin: str | None = None, check: bool = True, timeout: float = 60.0
    ) -> str:
        """`wgpy WORDS` on this machine; what it printed. CommandError if it fails."""
        done = self.space.run(program("wgpy"), *words, stdin=stdin, check=check, timeout=timeout)
        return done.stdout + ("" if check else done.stderr)

    def init(self, name: str, *endpoints: str, options: tuple[str, ...] = ()) -> None:
        """Found a network, and run its coordinator."""
        given = [word for endpoint in endpoints for word in ("--endpoint", endpoint)]
        self.wgpy(
            *("mesh", "init", "--interface", self.interface, "--name", name, "--no-start"),
            *given,
            *options,
        )
        self.start()
        self.wait("connected")

    def invite(self, *options: str) -> str:
        """A joining line."""
        words = ("mesh", "invite", "--interface", self.interface, "--json", *options)
        line: str = json.loads(self.wgpy(*words))["line"]
        return line

    def joining(self, line: str, *options: str) -> Process:
        """`wgpy mesh join`, which is under way; it has the agent's log as well."""
        words = ("mesh", "join", "--interface", self.interface, *options, line)
        process = self.space.popen(
            program("wgpy"), *words, life=self._life, env={"LOG_LEVEL": "info"}
        )
        self.logs.append(process)
        return process

    def join(self, line: str, *options: str, code: int = 0) -> str:
        """`wgpy mesh join`, to its end; what it and the agent said so far."""
        process = self.joining(line, *options)
        found = process.wait(90.0)
        said = process.output()
        assert found == code, f"join exited with {found}: {said[-3000:]}"
        return said

    # --- The agent ---

    def start(self) -> None:
        """Run the agent, in the foreground of a process of ours."""
        self.agent = self.space.popen(
            program("wgpy"),
            *("mesh", "run", self.interface),
            life=self._life,
            env={"LOG_LEVEL": "info"},
        )
        self.logs.append(self.agent)
        wait_until(self._answers, f"the agent of {self.interface}", PATIENCE)

    def stop(self) -> None:
        """Ask the agent to end, and with it the tunnel. Harmless if there is none."""
        if not self._answers():
            return
        self.ask("stop")
        wait_until(lambda: not self.place.socket.exists(), "the agent to end", PATIENCE)
        if self.agent is not None:
            self.agent.stop()

    def kill(self) -> None:
        """End the agent as a crash does; the tunnel goes on."""
        assert self.agent is not None
        self.agent.stop(signal.SIGKILL)

    def crash(self) -> None:
        """End everything on this machine at once, as when its power is cut."""
        for pid in self.space.pids():
            with contextlib.suppress(ProcessLookupError):  # it ended with another one
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.space.pids(), "everything to have ended")

    def _answers(self) -> bool:
        try:
            self.ask("status")
        except AskError:
            return False
        return True

    def ask(self, what: str, **more: Any) -> dict[str, Any]:
        """A question to the agent, and its answer."""
        return ask.ask_agent(self.interface, {"ask": what, **more})

    def status(self) -> dict[str, Any]:
        """What the agent says of itself."""
        return self.ask("status")

    def wait(self, state: str, patience: float = PATIENCE) -> dict[str, Any]:
        """Wait until the agent is in a state; what it says then."""
        wait_until(lambda: self._state() == state, f"{self.interface} to be {state}", patience)
        return self.status()

    def _state(self) -> str:
        try:
            return str(self.status()["state"])
        except AskError:
            return ""

    def knows(self, name: str) -> bool:
        """Whether it has another node, by the name of its first label, and the daemon too."""
        return any(x["name"].partition(".")[0] == name for x in self.status()["nodes"])

    def has_peer(self, other: "Node") -> bool:
        """Whether the daemon has another node as a peer."""
        key = other.place.key().public()
        return any(x.public_key == key for x in self.daemon().peers)

    def lacks_peer(self, other: "Node") -> bool:
        """Whether the daemon has not, or no more."""
        return not self.has_peer(other)

    def daemon(self) -> DeviceState:
        """What the daemon says; nothing if there is none."""
        try:
            return client.get(self.interface)
        except UapiError:
            return DeviceState()

    @property
    def v4(self) -> str:
        """Its address of IPv4 in the network."""
        return next(x for x in self.status()["addresses"] if ":" not in x)

    @property
    def v6(self) -> str:
        """Its address of IPv6 in the network."""
        return next(x for x in self.status()["addresses"] if ":" in x)

    def log(self) -> str:
        """What was written, of all times that it was started."""
        return "".join(process.output() for process in self.logs)

    def can_ping(self, other: str, wait: int = 10) -> bool:
        """Whether an address answers within so many seconds."""
        return self.space.can_ping(other, wait)


def wait_for_ping(one: Node, address: str, patience: float = PATIENCE) -> None:
    """Wait until an address answers."""
    what = f"a ping from {one.interface} to {address}"
    wait_until(lambda: one.can_ping(address, 2), what, patience)


def files_of(interface: str) -> list[Path]:
    """What is left in the state directory of an interface's node; the time of the daemon's last
    handshake stays, which is nothing of a network's."""
    return sorted(STATE_DIRECTORY.glob(f"{interface}.mesh*"))


__all__ = ["PATIENCE", "CommandError", "Node", "files_of", "wait_for_ping"]
