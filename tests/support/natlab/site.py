"""Stations that find each other: a server with STUN and TURN, a directory for signals, and tunnels.

    with two_homes(Nat.PORT, Nat.SYM) as lab, Site(lab, tmp_path) as site:
        alice, bob = site.stations("alice", "bob")
        site.introduce(alice, bob)
        alice.host.namespace.ping(bob.inner)
        site.wait_for(alice, bob, PathKind.DIRECT)

Nobody is told where anybody is: every peer has `nat = true`. The server is the lab's host of that
name; with two addresses it is two STUN servers, as most operators name two.
"""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.commands import wait_until
from tests.support.coturn import HTTPS_PORT, PORT, TLS_PORT, USERS, Coturn, Secret
from tests.support.natlab.lab import Lab
from tests.support.natlab.station import Station
from tests.support.programs import WGPY, Implementation
from tests.support.tunnel import endpoint, transfer
from wgpy.device.paths import PathKind, PathState

# The user of coturn whom every station is.
USER = "alice"
NAT_PEER = "nat = true"
# The relay is there after a second, and a direct way after two. A machine with more to do takes
# longer, and a cell that needs a second round needs another port of a STUN server.
PATIENCE = 20.0
# The bytes that show that a way carries TCP: some windows of it.
SMALL = 50_000
# Coturn serves all tests of a file.
_LIFE = 3600.0
# Ports of stations: each has its own, so that no NAT remembers one of another test's.
_FIRST_PORT = 20_000


class Site:
    """A context manager that starts coturn, and ends it and every station.

    `directory` is for files. `families` are those of STUN and TURN.
    """

    def __init__(
        self,
        lab: Lab,
        directory: Path,
        *,
        server: str = "server",
        families: Iterable[int] = (4,),
        options: Iterable[str] = (),
        secret: Secret | None = None,
    ) -> None:
        self.lab = lab
        self.server = lab.hosts[server]
        self.signals = directory / "signals"
        self._directory = directory
        self._families = tuple(families)
        addresses = [x for family in self._families for x in self.server.addresses(family)]
        self.coturn = Coturn(
            self.server.namespace, addresses, directory, options=options, secret=secret, life=_LIFE
        )
        self._secret = secret
        self._stack = contextlib.ExitStack()
        self._count = 0

    def __enter__(self) -> Self:
        self.signals.mkdir(exist_ok=True)
        for name, text in (("password", USERS[USER]), ("secret", self._text())):
            path = self._directory / name
            path.touch(mode=0o600)
            path.write_text(text + "\n")
        self._stack.enter_context(self.coturn)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _text(self) -> str:
        return "-" if self._secret is None else self._secret.text

    # --- Stations ---

    @contextlib.contextmanager
    def up(
        self, *names: str, ours: Implementation = WGPY, others: Implementation | None = None
    ) -> Iterator[list[Station]]:
        """A station on each of these hosts, for the length of a block: of `ours`, and all but the
        first of `others`, if that is given."""
        with contextlib.ExitStack() as stack:
            yield [
                stack.enter_context(self._make(name, ours if number == 0 else others or ours))
                for number, name in enumerate(names)
            ]

    def stations(self, *names: str, ours: Implementation = WGPY) -> list[Station]:
        """The same, until the site ends."""
        return self._stack.enter_context(self.up(*names, ours=ours))

    def _make(self, name: str, implementation: Implementation) -> Station:
        self._count += 1
        is_wgpy = implementation.tool == WGPY.tool
        return Station(
            self.lab.hosts[name],
            self._count,
            self._directory,
            implementation,
            port=_FIRST_PORT + self._count,
            options=("--signal", str(self.signals)) if is_wgpy else (),
        )

    # --- What they are told ---

    def settings(
        self,
        *,
        stun: Iterable[str] | None = None,
        turn: str | None = "udp",
        extra: str = "",
    ) -> str:
        """A `[nat]` table. `turn` is `udp`, `tcp`, `tls`, `https`, or `any` for UDP and what is
        tried after it; None for no relay. `extra` are more lines of the table."""
        found = self.coturn.addresses if stun is None else stun
        places = ", ".join(f'"{endpoint(x, PORT)}"' for x in found)
        lines = ["[nat]", f"stun = [{places}]", f'signal = "{self.signals}"', "portmap = false"]
        lines.append(extra)
        if turn is not None:
            uris = ", ".join(f'"{uri}"' for uri in self.uris(turn))
            lines += ["[[nat.turn]]", f"uris = [{uris}]", f'ca = "{self.coturn.certificate}"']
            if self._secret is None:
                lines += [f'username = "{USER}"', f'password_file = "{self._directory}/password"']
            else:
                lines.append(f'secret_file = "{self._directory}/secret"')
        return "\n".join(lines) + "\n"

    def uris(self, turn: str) -> list[str]:
        """The URIs of one way to the server, or of all."""
        host = self.coturn.addresses[0]
        ways = {
            "udp": f"turn:{endpoint(host, PORT)}",
            "tcp": f"turn:{endpoint(host, PORT)}?transport=tcp",
            "tls": f"turns:{endpoint(host, TLS_PORT)}",
            "https": f"turns:{endpoint(host, HTTPS_PORT)}",
        }
        return list(ways.values()) if turn == "any" else [ways[turn]]

    def introduce(
        self, *stations: Station, turn: str | None = "udp", extra: str = "", up: bool = True
    ) -> None:
        """Tell each of every other one's key, and nothing of where it is."""
        for station in stations:
            known = [station.knows(x, extra=NAT_PEER) for x in stations if x is not station]
            station.configure(*known, tables=self.settings(turn=turn, extra=extra), up=up)

    # --- What came of it ---

    def wait_for(
        self, one: Station, other: Station, kind: PathKind, patience: float = PATIENCE
    ) -> PathState:
        """Wait until both sides have a way of this kind to each other; that of the first."""
        for here, there in ((one, other), (other, one)):
            if here.is_wgpy:
                wait_until(
                    lambda: way(here, there).kind is kind,  # noqa: B023  (called at once)
                    f"{here.host.name} to reach {there.host.name} {kind.value}",
                    patience,
                )
        return way(one, other)


def way(here: Station, there: Station) -> PathState:
    """The way to another, as one says."""
    found = next(x for x in here.state().peers if x.public_key.base64() == there.keys.public)
    assert found.path is not None, "no peer with nat = true"
    return found.path


def exchange(one: Station, other: Station) -> None:
    """Show that data passes both ways, and unchanged: pings, and TCP from each to the other."""
    one.host.namespace.ping(other.inner, 3)
    other.host.namespace.ping(one.inner, 3)
    transfer(one.host.namespace, other.host.namespace, other.inner, SMALL)
    transfer(other.host.namespace, one.host.namespace, one.inner, SMALL)
