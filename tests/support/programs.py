"""The implementations of WireGuard that tests start, and one interface of one of them.

    with Interface(net.left, WIREGUARD_GO) as left:
        left.setconf("[Interface]\\nListenPort = 51820\\n...")
        left.up("10.77.0.1/24")

All of them keep the userspace contract: `PROGRAM -f IF` makes the TUN and the UAPI socket.
"""

import re
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.commands import LIFE
from tests.support.netns import (
    UAPI_DIRECTORY,
    Namespace,
    Process,
    link_name,
    wait_until,
)
from tests.support.requirements import program


@dataclass(frozen=True, slots=True)
class Implementation:
    """How a userspace WireGuard is started in the foreground: `tool` is a name of
    tests/support/requirements.py, `options` stand before the interface's name."""

    name: str
    tool: str
    options: tuple[str, ...] = ("-f",)
    env: Mapping[str, str] = field(default_factory=dict)

    def command(self, link: str) -> list[str]:
        """Its command line; FileNotFoundError with the reason if it is not installed."""
        return [program(self.tool), *self.options, link]

    def __str__(self) -> str:
        return self.name


WGPY = Implementation("wgpy", "wgpyd")
WIREGUARD_GO = Implementation("wireguard-go", "wireguard-go")
WIREGUARD_GO_LATEST = Implementation("wireguard-go-latest", "wireguard-go-latest")
BORINGTUN = Implementation(
    "boringtun",
    "boringtun-cli",
    # It would give up root for the user that sudo came from; there is none. A socket connected
    # to each peer outlives the peer's removal and keeps an address that has moved.
    ("-f", "--disable-drop-privileges", "--disable-connected-udp"),
)


@dataclass(frozen=True, slots=True)
class Keys:
    """An X25519 key pair in base64, made by wg(8)."""

    private: str = field(repr=False)
    public: str


def _wg(*arguments: str, stdin: str = "") -> str:
    done = subprocess.run(
        [program("wg"), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    return done.stdout.strip()


def new_keys() -> Keys:
    """A fresh key pair."""
    private = _wg("genkey")
    return Keys(private, _wg("pubkey", stdin=private))


def new_psk() -> str:
    """A fresh pre-shared key in base64."""
    return _wg("genpsk")


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One peer's line of `wg show IF dump`; rx and tx in bytes, handshake in Unix seconds."""

    public: str
    psk: str = field(repr=False)
    endpoint: str
    allowed_ips: str
    handshake: int
    rx: int
    tx: int
    keepalive: str


def parse_dump_line(line: str) -> PeerStatus:
    """A peer's line of `wg show IF dump`: eight fields separated by tabs."""
    public, psk, endpoint, allowed, handshake, rx, tx, keepalive = line.split("\t")
    return PeerStatus(public, psk, endpoint, allowed, int(handshake), int(rx), int(tx), keepalive)


class Interface:
    """One WireGuard interface in a namespace; a context manager that ends the daemon.

    Its name is used by no other test. `address` and `address6` are the first ones of each
    family that `up` gave it. The daemon is ended after `life` seconds whatever happens.
    """

    def __init__(
        self,
        namespace: Namespace,
        implementation: Implementation,
        *,
        options: tuple[str, ...] = (),
        env: Mapping[str, str] | None = None,
        name: str | None = None,
        life: float = LIFE,
    ) -> None:
        self.namespace = namespace
        self.implementation = implementation
        self.name = name or link_name()
        self.address = ""
        self.address6 = ""
        self.config = ""
        self._options = options
        self._life = life
        self._env = {**implementation.env, **(env or {})}
        self.process: Process | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and self.process is not None:
            # pytest shows it with the failure that it explains.
            print(f"--- {self.implementation} {self.name} ---\n{self.process.output()}")
        self.stop()

    def start(self) -> None:
        """Start the daemon and wait until wg(8) can talk to it."""
        command = self.implementation.command(self.name)
        command[1:1] = self._options
        process = self.namespace.popen(*command, env=self._env, life=self._life)
        self.process = process

        def ready() -> bool:
            if not process.running():
                said = process.output().strip() or "nothing"
                raise AssertionError(f"{self.implementation} ended at its start, saying: {said}")
            return self._is_there() and self._answers()

        wait_until(ready, f"the UAPI socket of {self.implementation}")

    def _is_there(self) -> bool:
        """wg(8) would remove a socket that is bound and does not listen yet."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(UAPI_DIRECTORY / f"{self.name}.sock"))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
        return True

    def _answers(self) -> bool:
        shown = self.namespace.run("wg", "show", self.name, "public-key", check=False)
        return shown.returncode == 0

    def stop(self) -> None:
        """End the daemon; the interface goes with it. Harmless when it has ended."""
        if self.process is not None:
            self.process.stop()
        # A daemon that was killed, or never got so far, leaves its socket.
        (UAPI_DIRECTORY / f"{self.name}.sock").unlink(missing_ok=True)

    def wg(self, command: str, *arguments: str, stdin: str = "") -> str:
        """`wg COMMAND IF ARGUMENTS`; returns what it printed. A secret goes through `stdin`."""
        return self.namespace.run("wg", command, self.name, *arguments, stdin=stdin).stdout

    def setconf(self, config: str) -> None:
        """Replace the whole configuration by this one, in the format of wg(8)."""
        self.config = config
        self.wg("setconf", "/dev/stdin", stdin=config)

    def load(self, path: Path) -> None:
        """Replace the whole configuration by `wgpy setconf`: a TOML file says more than wg(8)."""
        self.config = path.read_text()
        self.namespace.run(program("wgpy"), "setconf", self.name, str(path))

    def sync(self, path: Path) -> None:
        """Change what this file has otherwise, by `wgpy syncconf`."""
        self.config = path.read_text()
        self.namespace.run(program("wgpy"), "syncconf", self.name, str(path))

    def restart_sessions(self) -> None:
        """Forget every session by replacing the peers: the next packet needs a handshake."""
        self.setconf(self.config)

    def up(self, *addresses: str, mtu: int | None = None) -> None:
        """Give the interface addresses with prefix lengths, and bring it up."""
        self.namespace.add_address(self.name, *addresses)
        for address in addresses:
            bare = address.partition("/")[0]
            if ":" in bare:
                self.address6 = self.address6 or bare
            else:
                self.address = self.address or bare
        size = () if mtu is None else ("mtu", str(mtu))
        self.namespace.ip("link", "set", self.name, *size, "up")
        if port := re.search(r"^(?:ListenPort|listen_port) = (\d+)$", self.config, re.M):
            number = int(port[1])
            wait_until(lambda: self._listens(number), f"UDP port {number} of {self.name}")

    def _listens(self, port: int) -> bool:
        """Whether the namespace has a UDP socket on `port`; a daemon may bind it late."""

        def table() -> str:
            return Path("/proc/thread-self/net/udp").read_text()

        return f":{port:04X} 00000000:0000" in self.namespace.inside(table)

    def peers(self) -> dict[str, PeerStatus]:
        """The state of every peer by its public key, as wg(8) shows it."""
        found = {}
        for line in self.wg("show", "dump").splitlines()[1:]:
            status = parse_dump_line(line)
            found[status.public] = status
        return found

    def peer(self, public: str) -> PeerStatus:
        """The state of one peer."""
        return self.peers()[public]
