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
import shutil
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


@dataclass(frozen=True, slots=True)
class Papers:
    """A CA, and what it issued to three, for many tests."""

    ca: Authority
    gate: Bearer
    laptop: Bearer
    phone: Bearer


def issue_papers(directory: Path) -> Papers:
    """Make the CA, and the three of the drawing; the phone is in the group `phones`."""
    ca = Authority(directory, "ca", "--group", "phones")
    return Papers(
        ca,
        ca.issue("gate.mesh", GATE),
        ca.issue("laptop.mesh", "10.7.0.2"),
        ca.issue("phone.mesh", "10.7.0.3", "phones"),
    )


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


class Visitor:
    """Somebody who comes in to an interface of ours by a certificate, and is sent away again.

    The interface keeps its key and its peers. It gets an authority, a certificate and 10.7.0.1,
    and its namespace a cable to the visitor's. A context manager.
    """

    def __init__(self, host: Interface, public: str, directory: Path) -> None:
        ca = Authority(directory)
        self._host = host
        self._own = ca.issue("gate.mesh", GATE, public=PublicKey.from_base64(public))
        self._guest = ca.issue("guest.mesh", "10.7.0.2")
        self._ca, self._directory = ca, directory
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        host = self._host
        (self._directory / "crl").mkdir()
        shutil.copy(self._ca.certificate, self._directory / "ca.pem")
        shutil.copy(self._own.certificate, self._directory / "me.pem")
        (self._directory / "more.toml").write_text(BY_CA + IDENTITY)
        (self._directory / "more.toml").chmod(0o600)
        host.namespace.add_address(host.name, f"{GATE}/16")
        wgpy("addconf", host.name, self._directory / "more.toml")
        self.space = self._stack.enter_context(Namespace("guest"))
        # Not the first cable of the host's namespace.
        join(host.namespace, self.space, number=1)
        self._machine = Machine(self.space, self._guest, self._ca.certificate, self._directory)
        self._stack.callback(self._machine.interface.stop)
        self._machine.start(BY_CA, IDENTITY)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def is_in(self) -> bool:
        """Whether the interface knows it as one that was let in."""
        peers = client.get(self._host.name).peers
        return any(x.admitted and x.public_key == self._guest.public for x in peers)

    def come(self) -> None:
        """Come in, by a handshake of its own."""
        self._machine.load(BY_CA, IDENTITY, self._own.table(self.space.v4[:-1] + "1"))
        self.space.ping(GATE)
        assert self.is_in()

    def go(self) -> None:
        """Be sent away."""
        wgpy("set", self._host.name, "peer", self._guest.public.base64(), "remove")
        assert not self.is_in()
