"""A real STUN and TURN server, coturn, in a namespace of a test's.

    with Coturn(host.namespace, host.addresses(), tmp_path) as turn:
        ...  # turn.addresses[0]:3478 by UDP and TCP, :5349 and :443 by TLS

With two addresses of one family it answers RFC 5780's questions. Users are either named, with
passwords (RFC 8489, 9.2), or proved by a secret that they share with whoever let them in: see
`Secret`. Two servers on two hosts may have one each.
"""

import base64
import hashlib
import hmac
import os
import signal
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.commands import LIFE, Process, wait_until
from tests.support.netns import Namespace
from tests.support.openssl import openssl
from tests.support.requirements import program

# UDP and TCP, and TLS; the latter also where nothing else gets through.
PORT = 3478
TLS_PORT = 5349
HTTPS_PORT = 443
REALM = "lab.test"
NAME = "turn.lab.test"
USERS: Mapping[str, str] = {"alice": "a password of alice", "bob": "a password of bob"}

# RFC 8489, section 5: a binding request without attributes.
_BINDING_REQUEST = bytes.fromhex("0001 0000 2112a442")
_BINDING_RESPONSE = b"\1\1"
# It opens its database and starts its threads before it listens.
_START = 20.0


@dataclass(frozen=True, slots=True)
class Secret:
    """What coturn and a service of ours share, so that users need not be named: its REST scheme.

    A user's name has the time at which it ends, and the password is made from it.
    """

    text: str = field(repr=False)

    def credentials(self, user: str, expires: float) -> tuple[str, str]:
        """A name, and a password that is good until `expires`, in Unix seconds."""
        name = f"{int(expires)}:{user}"
        made = hmac.new(self.text.encode(), name.encode(), hashlib.sha1).digest()
        return name, base64.b64encode(made).decode()


class Coturn:
    """One server; a context manager that starts it and ends it.

    `addresses` are those of the namespace that it listens on, and relays from the first of each
    family. `users` are ignored if there is a `secret`. `options` are more lines of
    turnserver.conf, as "stale-nonce=5". `certificate` is a file in `directory`: one for TLS,
    signed by itself, with NAME and the addresses in it.
    """

    def __init__(
        self,
        space: Namespace,
        addresses: Iterable[str],
        directory: Path,
        *,
        users: Mapping[str, str] = USERS,
        secret: Secret | None = None,
        realm: str = REALM,
        options: Iterable[str] = (),
        life: float = LIFE,
    ) -> None:
        self.space = space
        self.addresses = tuple(addresses)
        self.users = {} if secret is not None else dict(users)
        self.secret = secret
        self.realm = realm
        self.certificate = directory / "turn.pem"
        self._directory = directory
        self._options = tuple(options)
        self._life = life
        # One for each time that it was started.
        self._processes: list[Process] = []

    def __enter__(self) -> Self:
        self._make_certificate()
        self.write()
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            # pytest shows it with the failure that it explains.
            print(f"--- turnserver ---\n{self.log()}")
        self.stop()

    # --- What it is ---

    def _make_certificate(self) -> None:
        names = ",".join([f"DNS:{NAME}", *(f"IP:{address}" for address in self.addresses)])
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"),
            *("-keyout", self._directory / "turn.key", "-out", self.certificate, "-days", "30"),
            *("-subj", f"/CN={NAME}", "-addext", f"subjectAltName={names}"),
        )

    def write(self) -> None:
        """Write its configuration, which is read when it is started."""
        first = {":" in address: address for address in reversed(self.addresses)}.values()
        https = (f"[{x}]:{HTTPS_PORT}" if ":" in x else f"{x}:{HTTPS_PORT}" for x in first)
        if self.secret is not None:
            who = ["use-auth-secret", f"static-auth-secret={self.secret.text}"]
        else:
            who = ["lt-cred-mech", *(f"user={name}:{word}" for name, word in self.users.items())]
        lines = [
            *(f"listening-ip={address}" for address in self.addresses),
            *(f"relay-ip={address}" for address in first),
            f"listening-port={PORT}",
            f"tls-listening-port={TLS_PORT}",
            # It takes TLS as well, and a certificate there is for all ports.
            *(f"aux-server={place}" for place in https),
            f"cert={self.certificate}",
            f"pkey={self._directory / 'turn.key'}",
            f"realm={self.realm}",
            *who,
            f"userdb={self._directory / 'turn.db'}",
            f"pidfile={self._directory / 'turn.pid'}",
            "log-file=stdout",
            "verbose",
            # Nobody administers it.
            "no-cli",
            # A lab's server has no more to do than one thread can.
            "relay-threads=1",
            *self._options,
        ]
        (self._directory / "turn.conf").write_text("\n".join(lines) + "\n")

    # --- What it does ---

    def start(self) -> None:
        """Start it, and wait until it answers by UDP, TCP and TLS; it remembers no allocation."""
        config = str(self._directory / "turn.conf")
        words = (program("turnserver"), "-c", config)
        self._processes.append(self.space.popen(*words, life=self._life))
        wait_until(self._ready, "turnserver to answer", timeout=_START)

    def stop(self) -> None:
        """End it properly. Harmless when it has ended."""
        if self._processes and self._processes[-1].running():
            self.resume()
            self._processes[-1].stop()

    def kill(self) -> None:
        """End it at once, as a machine that loses its power: nobody is told anything."""
        self._processes[-1].stop(signal.SIGKILL)

    def pause(self) -> None:
        """Let it do nothing, until `resume`; what comes waits in its sockets."""
        self._processes[-1].pause()

    def resume(self) -> None:
        """Let it go on."""
        self._processes[-1].resume()

    def log(self) -> str:
        """What it wrote, of all times that it was started."""
        return "".join(process.output() for process in self._processes)

    def _ready(self) -> bool:
        process = self._processes[-1]
        if not process.running():
            said = process.output().strip() or "nothing"
            raise AssertionError(f"turnserver ended at its start, saying: {said[-2000:]}")
        address = self.addresses[0]
        ports = (PORT, TLS_PORT, HTTPS_PORT)
        return self.space.inside(lambda: all(_listens(address, port) for port in ports)) and (
            self.space.inside(lambda: _answers(address))
        )


def _listens(address: str, port: int) -> bool:
    """Whether a TCP connection comes about; from inside the namespace."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as caller:
        caller.settimeout(1)
        return caller.connect_ex((address, port)) == 0


def _answers(address: str) -> bool:
    """Whether a binding request is answered; from inside the namespace."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    transaction = os.urandom(12)
    with socket.socket(family, socket.SOCK_DGRAM) as asker:
        asker.settimeout(0.2)
        asker.connect((address, PORT))
        try:
            asker.send(_BINDING_REQUEST + transaction)
            answer = asker.recv(2000)
        except OSError:
            return False
    return answer[:2] == _BINDING_RESPONSE and answer[8:20] == transaction
