"""A network in a lab: a coordinator on the internet, coturn beside it, and hosts behind routers.

    with World(routers, hosts, tmp_path) as world:
        alice = world.join("alice")
        bob = world.join("bob")
        wait_for_ping(alice, "bob.mesh")

The hosts `gate` and `turn` are added: on the internet, with nothing before them.
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.coturn import PORT as TURN_PORT
from tests.support.coturn import Coturn, Secret
from tests.support.natlab import Host, Lab, Line, Router
from tests.support.node import Node
from tests.support.tunnel import PORT
from wgpy.mesh import ask

SECRET = Secret("a secret of coordinators and relays")


class World:
    """A context manager that builds the lab, founds the network, and ends everything."""

    def __init__(
        self,
        routers: Iterable[Router],
        hosts: Iterable[Host],
        directory: Path,
        *,
        options: tuple[str, ...] = (),
        ports: tuple[int, ...] = (PORT,),
        line: Line | None = None,
        names: bool = False,
    ) -> None:
        servers = [Host("gate", line=line), Host("turn", addresses=2, line=line)]
        self.lab = Lab(tuple(routers), [*servers, *hosts])
        self.nodes: dict[str, Node] = {}
        self._directory = directory
        self._options = options
        self._ports = ports
        self._by_name = names
        # Host names that every node knows: the coordinator's, where it is told by one.
        self.names: dict[str, str] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException as error:
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _build(self) -> None:
        self._stack.enter_context(self.lab)
        turn = self.lab.hosts["turn"]
        self.turn = self._stack.enter_context(
            Coturn(turn.namespace, turn.addresses(), self._directory, secret=SECRET, life=3600.0)
        )
        self.secret = self._directory / "turn.secret"
        self.secret.touch(mode=0o600)
        self.secret.write_text(SECRET.text + "\n")
        if self._by_name:
            self.names["gate.example"] = self.lab.hosts["gate"].v4
        self.gate = self.node("gate")
        options = (*self.servers(), *self._options)
        self.gate.init("gate", *self.endpoints("gate"), options=options)

    def endpoints(self, host: str) -> list[str]:
        """Where a coordinator on a host is: its tunnel listens at the usual port, and the host
        leads there what comes to the others."""
        at = self.lab.hosts[host].v4
        ports = ", ".join(str(port) for port in self._ports)
        lead = f"ip daddr {at} udp dport {{ {ports} }} redirect to :{PORT}"
        table = (
            f"table ip leading {{ chain in {{ type nat hook prerouting priority 0; {lead}; }}; }}"
        )
        self.lab.hosts[host].namespace.run("nft", "-f", "-", stdin=table + "\n")
        called = next((name for name, address in self.names.items() if address == at), at)
        return [f"{called}:{port}" for port in self._ports]

    def servers(self) -> tuple[str, ...]:
        """What `mesh init` is told of coturn."""
        first, second = self.turn.addresses
        return (
            *("--stun", f"{first}:{TURN_PORT}", "--stun", f"{second}:{TURN_PORT}"),
            *("--turn", f"turn:{first}:{TURN_PORT}"),
            *("--turn", f"turn:{first}:{TURN_PORT}?transport=tcp"),
            *("--turn-secret-file", str(self.secret)),
        )

    def node(self, host: str) -> Node:
        """A machine on a host of the lab, that is in no network yet."""
        made = self._stack.enter_context(Node(self.lab.hosts[host].namespace, life=3600.0))
        made.resolve(self.names)
        self.nodes[host] = made
        return made

    def join(self, host: str, *options: str) -> Node:
        """A node on a host, called as the host is."""
        made = self.node(host)
        made.join(self.gate.invite(), "--name", host, *options)
        return made

    def operator(self, what: str, **more: Any) -> dict[str, Any]:
        """What an operator asks the coordinator."""
        return ask.ask_operator(self.gate.interface, {"ask": what, **more})

    def at_gate(self, name: str) -> dict[str, Any]:
        """A node as the coordinator has it, removed or not."""
        found = self.operator("nodes", removed=True)["nodes"]
        whole: dict[str, Any] = next(x for x in found if x["name"] == f"{name}.mesh")
        return whole
