"""Machines that let each other in by credentials: made by `wgpy`, shown by daemons in namespaces.

                    gate  10.7.0.1
              veth0 10.91.0.1   veth1 10.92.0.1
                   │                 │
              10.91.0.2         10.92.0.2
            laptop 10.7.0.2   phone 10.7.0.3

`Authority` is a CA that is used as a person uses it, by the command line. `Site` is the drawing.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.certificates import NETWORK
from tests.support.commands import RUN_TIMEOUT, run, wait_until
from tests.support.netns import Namespace, join
from tests.support.programs import WGPY, Interface
from tests.support.requirements import program
from tests.support.tunnel import PORT
from wgpy.device import client
from wgpy.device.uapi import DeviceState, PeerState
from wgpy.keys import PrivateKey, PublicKey, write_secret

SO_RCVBUFFORCE = 33  # asm-generic/socket.h

LIMITS = ("--domain", "mesh", "--range", "10.7.0.0/16", "--group", "laptops")
GATE = "10.7.0.1"

INTERFACE = f'[interface]\nprivate_key_file = "me.key"\nlisten_port = {PORT}\n'
TRUST = f'[authority]\nnetwork = "{NETWORK.hex()}"\naccept = "10.7.0.0/16"\ncrl = "crl"\n'
BY_CA = TRUST + 'ca = "ca.pem"\n'
IDENTITY = '[identity]\ncertificate = "me.pem"\n'


def wgpy(*words: str | Path) -> str:
    """A `wgpy` command that succeeds; returns what it printed."""
    command = ("wgpy", *map(str, words))
    return run([program("wgpy"), *command[1:]], command, RUN_TIMEOUT, True, None, None).stdout


def put(path: Path, data: bytes) -> None:
    """Write a file as careful programs do: it is there whole, all at once."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(data)
    os.replace(temporary, path)


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who holds a credential. `serial` and `expires` (Unix seconds) are those of `certificate`."""

    name: str
    address: str
    public: PublicKey
    private: PrivateKey | None = field(repr=False)
    certificate: Path
    serial: str = ""
    expires: int = 0

    def table(self, at: str, *, name: str | None = None) -> str:
        """The [[peer]] of a machine that knows this one, and asks for its name."""
        return (
            f'[[peer]]\nname = "{name or self.name}"\ncredential = true\n'
            f'public_key = "{self.public.base64()}"\nendpoint = "{at}:{PORT}"\n'
            'allowed_ips = "10.7.0.0/16"\n'
        )


class Authority:
    """A CA in a directory of `directory`, and its passphrase in a file beside it."""

    def __init__(self, directory: Path, name: str = "ca", *options: str | Path) -> None:
        """It may give the group `laptops`, and what `options` of `wgpy ca init` say."""
        self.directory = directory / name
        self.secret = directory / "passphrase"
        if not self.secret.exists():
            write_secret(self.secret, b"correct horse battery\n")
        self("init", "--name", name, "--network", NETWORK.hex(), *LIMITS, *options)

    @property
    def certificate(self) -> Path:
        """The CA's own."""
        return self.directory / "ca.pem"

    def __call__(self, action: str, *words: str | Path) -> str:
        """`wgpy ca ACTION DIRECTORY WORDS`."""
        return wgpy("ca", action, self.directory, *words, "--passphrase-file", self.secret)

    def issue(
        self, name: str, address: str, group: str = "laptops", *, public: PublicKey | None = None
    ) -> Bearer:
        """Issue a certificate, for a new key unless one is given."""
        private = None if public is not None else PrivateKey.generate()
        key = public or (private.public() if private is not None else None)
        assert key is not None
        path = self.directory.parent / f"{self.directory.name}-{bytes(key).hex()[:8]}.pem"
        words = (key.base64(), name, "--address", address, "--group", group)
        said = json.loads(self("issue", *words, "--out", path, "--json"))
        return Bearer(name, address, key, private, path, said["serial"], int(said["not_after"]))

    def revoke(self, *what: str) -> bytes:
        """Revoke; returns the new CRL."""
        self("revoke", *what)
        return (self.directory / "crl.pem").read_bytes()


class Machine:
    """One daemon, and a directory with what it shows and trusts: me.key, me.pem, ca.pem, crl/."""

    def __init__(self, space: Namespace, bearer: Bearer, ca: Path, directory: Path) -> None:
        self.space = space
        self.bearer = bearer
        self.directory = directory / bearer.public.base64()[:8].replace("/", "-")
        (self.directory / "crl").mkdir(parents=True)
        if bearer.private is not None:
            secret = bearer.private.base64().encode() + b"\n"
            write_secret(self.directory / "me.key", secret)
        shutil.copy(bearer.certificate, self.directory / "me.pem")
        shutil.copy(ca, self.directory / "ca.pem")
        self.interface = Interface(space, WGPY)

    def write(self, *tables: str) -> Path:
        """Write its configuration, and return the path."""
        path = self.directory / f"{self.interface.name}.toml"
        path.write_text("\n".join((INTERFACE, *tables)))
        path.chmod(0o600)
        return path

    def start(self, *tables: str) -> None:
        """Start the daemon, bring its configuration in, and bring it up."""
        self.interface.start()
        self.interface.load(self.write(*tables))
        self.interface.up(f"{self.bearer.address}/16")

    def load(self, *tables: str) -> None:
        """Another configuration for the running daemon."""
        self.interface.load(self.write(*tables))

    def state(self) -> DeviceState:
        """What the daemon says of itself."""
        return client.get(self.interface.name)

    def counter(self, name: str) -> int:
        """One counter."""
        return self.state().counters.get(name, 0)

    def counted(self, name: str, least: int = 1) -> None:
        """Wait until a counter has come so far."""
        wait_until(lambda: self.counter(name) >= least, f"the counter {name}")

    def peer(self, bearer: Bearer) -> PeerState | None:
        """What the daemon says of a peer."""
        found = [x for x in self.state().peers if x.public_key == bearer.public]
        return found[0] if found else None

    def admitted(self) -> set[str]:
        """The names of the peers that came in by a credential."""
        return {x.claims.name for x in self.state().peers if x.admitted and x.claims}

    def shown(self) -> Any:
        """What `wgpy show --json` prints of it."""
        return json.loads(wgpy("show", self.interface.name, "--json"))[self.interface.name]

    def log(self) -> str:
        """What the daemon wrote."""
        process = self.interface.process
        return "" if process is None else process.output()


class Site:
    """The gate's namespace, and those of machines that were joined to it. A context manager."""

    def __init__(self, ca: Path, directory: Path) -> None:
        self._ca = ca
        self._directory = directory
        self._stack = contextlib.ExitStack()
        self._links = 0
        self.space = self._stack.enter_context(Namespace("gate"))
        self.machines: list[Machine] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for machine in self.machines:
            # pytest shows it with a failure that it explains.
            print(f"--- {machine.bearer.name} {machine.interface.name} ---\n{machine.log()}")
            machine.interface.stop()
        self._stack.close()

    def place(self, bearer: Bearer, space: Namespace | None = None) -> Machine:
        """A machine that does not run yet, at the gate's place unless another is given."""
        made = Machine(space or self.space, bearer, self._ca, self._directory)
        self.machines.append(made)
        return made

    def gate(self, bearer: Bearer, *tables: str) -> Machine:
        """The gate, running; without tables it trusts the CA, and shows its certificate."""
        made = self.place(bearer)
        made.start(*(tables or (BY_CA, IDENTITY)))
        return made

    def wire(self, role: str) -> tuple[Namespace, str]:
        """A new namespace with a cable to the gate's, and the gate's outer address for it."""
        space = self._stack.enter_context(Namespace(role))
        join(self.space, space, number=self._links)
        self._links += 1
        return space, space.v4.rpartition(".")[0] + ".1"

    def machine(self, bearer: Bearer, gate: Bearer, *tables: str) -> Machine:
        """A machine, running, that knows the gate; otherwise as the gate."""
        space, at = self.wire(bearer.name.partition(".")[0])
        made = self.place(bearer, space)
        made.start(*(tables or (BY_CA, IDENTITY)), gate.table(at))
        return made


class Pings:
    """Twenty pings a second in the background, `count` in all."""

    def __init__(self, space: Namespace, address: str, count: int) -> None:
        self._count = count
        words = ("ping", "-n", "-q", "-i", "0.05", "-W", "5", "-c", str(count), address)
        self._process = space.popen(*words)

    def lost(self) -> int:
        """How many were not answered; waits for the last."""
        self._process.wait(self._count * 0.05 + 20)
        said = self._process.output()
        found = re.search(r"(\d+) packets transmitted, (\d+) received", said)
        assert found is not None, said
        assert int(found[1]) == self._count
        return self._count - int(found[2])


class Numbers:
    """Numbered datagrams in bursts, 3,200 a second, for as long as the block lasts and a little
    more. A burst is more than a gate holds."""

    BURST = 64
    EVERY = 0.02
    MOST = 60_000

    def __init__(self, source: Namespace, target: Namespace, address: str) -> None:
        self._receiver = target.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self._receiver.bind((address, 0))
        self._receiver.settimeout(5)
        self._sender = source.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sender.connect(self._receiver.getsockname())
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._sent = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.wait(10 * self.EVERY)
        self._ending.set()
        self._thread.join()

    def _send(self) -> None:
        while self._sent < self.MOST and not self._ending.wait(self.EVERY):
            for _ in range(self.BURST):
                self._sender.send(self._sent.to_bytes(4, "big") * 25)
                self._sent += 1

    def lost(self) -> int:
        """How many did not arrive; ends everything."""
        found = set()
        with self._receiver, self._sender:
            while len(found) < self._sent:
                try:
                    found.add(self._receiver.recv(2048)[:4])
                except TimeoutError:
                    break
        return self._sent - len(found)


def connects(source: Namespace, address: str, port: int, wait: float = 1.0) -> bool:
    """Whether a TCP connection comes about within `wait` seconds."""
    with source.socket(socket.AF_INET, socket.SOCK_STREAM) as caller:
        caller.settimeout(wait)
        try:
            caller.connect((address, port))
        except TimeoutError:
            return False
    return True


def listen(space: Namespace, address: str, port: int) -> socket.socket:
    """A TCP socket that takes connections, and says nothing on them; the caller closes it."""
    listener = space.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((address, port))
    listener.listen(16)
    return listener
