"""Two stations of a lab that find each other by `[nat]`, and what they say of their ways.

    with managed(lab, tmp_path, turn=[coturn]) as pair:
        pair.alice.host.namespace.ping(pair.bob.inner)
        pair.until(PathKind.DIRECT)

Their signals go by a directory that only they share, below the one that daemons may write to.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.support.commands import LIFE
from tests.support.coturn import PORT as TURN_PORT
from tests.support.coturn import USERS, Coturn
from tests.support.natlab import Lab
from tests.support.natlab.station import Station
from tests.support.netns import STATE_DIRECTORY, wait_until
from tests.support.programs import WGPY, Implementation
from wgpy.device.paths import PathKind, PathState

# For a router's nft(8): what comes from anybody but the server is dropped before anything else sees
# it, and is no longer.
CLOSE = """table ip closed {
  chain c_in { type filter hook prerouting priority -400; policy accept;
    iifname "wan" ip saddr 11.77.1.0/24 meta l4proto udp drop;
  }
}
"""
OPEN = "delete table ip closed\n"

# A daemon whose data path is named, and not what is best here.
PORTABLE = replace(WGPY, name="portable", env={"WGPY_DATAPATH": "portable"})
NATIVE = replace(WGPY, name="native", env={"WGPY_DATAPATH": "native"})
# One test of each kind runs on both.
BOTH = pytest.mark.parametrize("datapath", [NATIVE, PORTABLE], ids=str)

# What a busy machine may take for what is to take seconds.
PATIENCE = 45.0


@contextlib.contextmanager
def signal_directory() -> Iterator[Path]:
    """A directory for signals, gone at the end."""
    STATE_DIRECTORY.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="signals-of-a-test-", dir=STATE_DIRECTORY))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def turn_table(server: Coturn, directory: Path, user: str, ways: Iterable[str]) -> str:
    """A `[[nat.turn]]` of this server; `ways` are what stands in its URIs after the port."""
    host = server.addresses[0]
    uris = ", ".join(f'"turn:{host}:{TURN_PORT}{each}"' for each in ways)
    lines = ["[[nat.turn]]", f"uris = [{uris}]"]
    if server.secret is not None:
        file, key = directory / f"{user}-{host}.secret", "secret_file"
        text = server.secret.text
    else:
        file, key, text = directory / f"{user}-{host}.password", "password_file", USERS[user]
    lines.append(f'username = "{user}"')
    file.touch(mode=0o600)
    file.write_text(f"{text}\n")
    return "\n".join([*lines, f'{key} = "{file}"']) + "\n"


@dataclass(slots=True)
class Managed:
    """The two, and what each has under `[nat]`; change `extra` and the like, and `configure`."""

    alice: Station
    bob: Station
    signals: Path
    directory: Path
    stun: Sequence[str] = ()
    turn: Sequence[Coturn] = ()
    # How a server is reached.
    ways: Sequence[str] = ("",)
    # More lines of [nat], for both.
    extra: str = "portmap = false\n"
    # What each says of the other.
    peer: str = "nat = true"
    # What the operator says of where the other one is, by the number of who is told.
    at: dict[int, str] = field(default_factory=dict)
    users: dict[int, str] = field(default_factory=lambda: {1: "alice", 2: "bob"})

    def nat(self, station: Station) -> str:
        """The [nat] of one of them."""
        servers = ", ".join(f'"{each}"' for each in self.stun)
        lines = ["[nat]", f"stun = [{servers}]", f'signal = "{self.signals}"', self.extra]
        user = self.users[station.number]
        tables = [turn_table(each, self.directory, user, self.ways) for each in self.turn]
        return "\n".join([*lines, *tables])

    def configure(self, station: Station) -> None:
        """Give one its whole configuration."""
        station.configure(self._peer(station), tables=self.nat(station))

    def sync(self, station: Station, *, nat: str | None = None) -> None:
        """Change what is otherwise, and nothing else; `nat` is another text than `self.nat`."""
        tables = self.nat(station) if nat is None else nat
        station.sync(self._peer(station), tables=tables)

    def _peer(self, station: Station) -> str:
        at = self.at.get(station.number)
        return station.knows(self.other(station), at=at, extra=self.peer)

    def restart(self, station: Station) -> None:
        """Start the daemon of one again that has ended, with all that it had."""
        station.restart()
        self.configure(station)

    def other(self, station: Station) -> Station:
        """The other one."""
        return self.bob if station is self.alice else self.alice

    def path(self, station: Station) -> PathState:
        """What one says of its way to the other."""
        found = station.state().peers[0].path
        assert found is not None
        return found

    def kinds(self) -> set[PathKind]:
        """Those of both."""
        return {self.path(each).kind for each in (self.alice, self.bob)}

    def until(self, kind: PathKind, timeout: float = PATIENCE) -> None:
        """Wait until both ways are of this kind."""
        wait_until(
            lambda: self.kinds() == {kind}, f"ways of the kind {kind.value}", timeout, every=0.1
        )

    def wake(self) -> None:
        """Send a packet from alice to bob, and wait until one is answered."""
        self.alice.host.namespace.ping(self.bob.inner, wait=int(PATIENCE))

    def answers(self, wait: int = 1) -> bool:
        """Whether bob answers alice."""
        return self.alice.host.namespace.can_ping(self.bob.inner, wait)


@contextlib.contextmanager
def managed(
    lab: Lab,
    directory: Path,
    *,
    stun: Sequence[str] = (),
    turn: Sequence[Coturn] = (),
    datapath: Implementation = NATIVE,
    names: tuple[str, str] = ("alice", "bob"),
    extra: str = "portmap = false\n",
    life: float = LIFE,
) -> Iterator[Managed]:
    """The hosts of these names, each with a daemon that knows the other; no packet sent yet."""
    with (
        signal_directory() as signals,
        Station(lab.hosts[names[0]], 1, directory, datapath, life=life) as alice,
        Station(lab.hosts[names[1]], 2, directory, datapath, life=life) as bob,
    ):
        pair = Managed(alice, bob, signals, directory, stun=stun, turn=turn, extra=extra)
        pair.configure(alice)
        pair.configure(bob)
        yield pair
