"""An interface of WireGuard on a host of a lab, and what its peers are told of it.

    with (
        Station(lab.hosts["alice"], 1, tmp_path) as alice,
        Station(lab.hosts["bob"], 2, tmp_path, WIREGUARD_GO) as bob,
    ):
        alice.configure(alice.knows(bob, at=bob.place()))
        bob.configure(bob.knows(alice))
        alice.host.namespace.ping(bob.inner)

Number N has 10.77.0.N and fd77::N inside. wgpy is configured in TOML, of which a test may write
more (`interface`, `extra`, `tables`); others as wg(8) has it.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.commands import LIFE, Process
from tests.support.natlab.host import LabHost
from tests.support.programs import WGPY, Implementation, Interface, PeerStatus, new_keys
from tests.support.tunnel import PORT, endpoint, interface_section, peer_section
from wgpy.device import client
from wgpy.device.uapi import DeviceState


class Station:
    """One end of tunnels; a context manager that starts its daemon and ends it.

    `interface` is what programs.py has, and `keys` its own. Files are written in `directory`, which
    stations may share. `options` are for the daemon's command line; it is ended after `life`
    seconds.
    """

    def __init__(
        self,
        host: LabHost,
        number: int,
        directory: Path,
        implementation: Implementation = WGPY,
        *,
        port: int = PORT,
        options: tuple[str, ...] = (),
        life: float = LIFE,
    ) -> None:
        self.host = host
        self.number = number
        self.port = port
        self.keys = new_keys()
        self.inner = f"10.77.0.{number}"
        self.inner6 = f"fd77::{number:x}"
        self.interface = Interface(host.namespace, implementation, options=options, life=life)
        self._directory = directory
        self._is_up = False

    def __enter__(self) -> Self:
        self.interface.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.interface.__exit__(kind, error, trace)

    @property
    def name(self) -> str:
        """Of the interface."""
        return self.interface.name

    @property
    def is_wgpy(self) -> bool:
        return self.interface.implementation.tool == WGPY.tool

    def place(self, family: int = 4) -> str:
        """Where it is on its own host: an address and port."""
        return endpoint(self.host.v6 if family == 6 else self.host.v4, self.port)

    # --- Configuration ---

    def knows(
        self,
        other: "Station",
        *,
        at: str | None = None,
        keepalive: int | None = None,
        extra: str = "",
    ) -> str:
        """What this one's configuration says of another: its key, its addresses, and where it is.

        `at` is an address and port; None leaves that to be found out. `keepalive` is in seconds.
        `extra` are more lines.
        """
        allowed = (f"{other.inner}/32", f"{other.inner6}/128")
        public = other.keys.public
        if not self.is_wgpy:
            return peer_section(public, ", ".join(allowed), at=at, keepalive=keepalive) + extra
        quoted = ", ".join(f'"{prefix}"' for prefix in allowed)
        lines = ["[[peer]]", f'public_key = "{public}"', f"allowed_ips = [{quoted}]"]
        if at is not None:
            lines.append(f'endpoint = "{at}"')
        if keepalive is not None:
            lines.append(f"persistent_keepalive = {keepalive}")
        return "\n".join([*lines, extra]) + "\n"

    def configure(
        self, *peers: str, interface: str = "", tables: str = "", up: bool = True
    ) -> None:
        """Replace the whole configuration; the first time, bring it `up` as well.

        `peers` are of `knows`; `interface` are more lines of the interface, and `tables` more
        tables of a TOML file.
        """
        if self.is_wgpy:
            self.interface.load(self._write(*peers, interface=interface, tables=tables))
        else:
            head = interface_section(self.keys.private, self.port) + interface
            self.interface.setconf("\n".join([head, *peers]))
        if up and not self._is_up:
            self._is_up = True
            self.interface.up(f"{self.inner}/24", f"{self.inner6}/64")

    def _write(self, *peers: str, interface: str, tables: str) -> Path:
        head = f'[interface]\nprivate_key = "{self.keys.private}"\nlisten_port = {self.port}\n'
        path = self._directory / f"{self.name}.toml"
        path.touch(mode=0o600)
        path.write_text("\n".join([head + interface, *peers, tables]))
        return path

    def sync(self, *peers: str, interface: str = "", tables: str = "") -> None:
        """The same for wgpy by `wgpy syncconf`: what is as it was is not touched."""
        path = self._write(*peers, interface=interface, tables=tables)
        self.interface.sync(path)

    def restart(self) -> None:
        """Start its daemon again, which has ended; it has to be configured."""
        self.interface.stop()
        self.interface.start()
        self._is_up = False

    # --- What it says, and what befalls it ---

    def peer(self, other: "Station") -> PeerStatus:
        """What it says of another."""
        return self.interface.peer(other.keys.public)

    def state(self) -> DeviceState:
        """Everything that wgpyd says of itself."""
        return client.get(self.name)

    def counter(self, name: str) -> int:
        """One counter of wgpyd's."""
        return self.state().counters.get(name, 0)

    @property
    def process(self) -> Process:
        """The daemon."""
        assert self.interface.process is not None
        return self.interface.process

    @contextlib.contextmanager
    def asleep(self) -> Iterator[None]:
        """The daemon does nothing within the block, as on a laptop that is shut."""
        self.process.pause()
        try:
            yield
        finally:
            self.process.resume()
