"""A real PostgreSQL of the tests' own: a cluster in a temporary directory, and a database for each.

    with Postgres(directory) as server:
        with server.database() as url:
            ...  # postgresql://postgres@/NAME?host=DIRECTORY

It listens on a Unix socket in its directory, and on no port unless it is given an address. As root
it runs as an unprivileged user, for it refuses to be root. It may be stopped, killed, paused and
started again. It does not sync: what it has written outlives its processes, and no test cuts the
power.
"""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.commands import LIFE, wait_until
from tests.support.requirements import is_root, program

SUPERUSER = "postgres"
# Debian's package makes this user; any without privileges will do.
_USERS = ("postgres", "nobody")
# initdb writes forty megabytes, on a busy machine.
_START = 60.0
_ENDING = 20.0
# A path of a Unix socket has 107 bytes: tests' own directories are longer than that.
_PREFIX = "wgpy-pg-"


class Postgres:
    """One server; a context manager that makes it, starts it, and removes it.

    `address` and `port`: where it listens besides its socket. `options` are lines for
    postgresql.conf. `directory` must not be there yet; None makes one in /tmp.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        address: str | None = None,
        port: int = 5432,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory or Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp"))
        self.data = self.directory / "data"
        self.address = address
        self.port = port
        self._options = dict(options or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()
        self._user = pwd.getpwnam(_a_user()) if is_root() else None

    def __enter__(self) -> Self:
        try:
            self._initialise()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- What it is ---

    def _initialise(self) -> None:
        self.directory.mkdir(exist_ok=True)
        if self._user is not None:
            os.chown(self.directory, self._user.pw_uid, self._user.pw_gid)
        initdb = Path(program("pg_ctl")).resolve().with_name("initdb")
        # The C locale: tests compare order. `--no-sync`: nobody cuts the power before it starts.
        words = ("-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        done = subprocess.run(
            self._as_user(str(initdb), "-D", str(self.data), *words),
            capture_output=True,
            text=True,
            timeout=_START,
            cwd="/",
            check=False,
        )
        if done.returncode != 0:
            raise AssertionError(f"initdb failed, saying: {done.stderr.strip()[-2000:]}")
        lines = {
            "listen_addresses": f"'{self.address or ''}'",
            "port": str(self.port),
            "unix_socket_directories": f"'{self.directory}'",
            "max_connections": "60",
            # A test's database is small, and many servers may run at once.
            "shared_buffers": "'16MB'",
            "autovacuum": "off",
            "fsync": "off",
            **self._options,
        }
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in lines.items())
        if self.address is not None:
            with (self.data / "pg_hba.conf").open("a") as file:
                file.write(f"host all all {self.address}/0 trust\n")

    def _as_user(self, *argv: str) -> list[str]:
        """Also ends it after a while, whatever becomes of the tests."""
        words = ["timeout", "--signal=INT", str(int(3 * LIFE)), *argv]
        if self._user is None:
            return words
        user, group = str(self._user.pw_uid), str(self._user.pw_gid)
        return ["setpriv", "--reuid", user, "--regid", group, "--clear-groups", *words]

    # --- What it does ---

    def start(self) -> None:
        """Start it, and wait until it answers; what was committed before is there again."""
        postgres = Path(program("pg_ctl")).resolve().with_name("postgres")
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._as_user(str(postgres), "-D", str(self.data)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                # `timeout` sends its signal to its whole group.
                start_new_session=True,
            )
        wait_until(self._ready, "postgres to answer", timeout=_START)

    def stop(self, mode: str = "fast") -> None:
        """End it: "fast" closes sessions and is clean, "immediate" is not. Harmless when it has."""
        if self._process is None:
            return
        self.resume()
        server = self._server()
        if server is not None:
            how = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.kill(server, how)
        try:
            self._process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End it at once, with all of its processes, as when the machine loses its power."""
        assert self._process is not None
        killed = self._signal(signal.SIGKILL)
        # It has ended when its parent knows: until then it seems to hold its directory.
        self._process.wait(_ENDING)
        self._process = None
        wait_until(lambda: not any(map(_lives, killed)), "postgres to be gone")

    def pause(self) -> None:
        """Let it do nothing, until `resume`: it takes connections, and says nothing on them."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def log(self) -> str:
        """What it wrote, of all times that it was started."""
        return (self.directory / "log").read_text(errors="replace")

    # --- Databases ---

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """A new and empty database: its URL. It is dropped at the end, if the server runs then."""
        name = f"test{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            if self._process is not None:
                self.resume()
                self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def url(self, database: str) -> str:
        """The URL of a database, by the socket."""
        return f"postgresql://{SUPERUSER}@/{database}?host={self.directory}&port={self.port}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run a statement outside of transactions; its rows, if it has any."""
        # Late, as only tests of the store need it: this module is loaded with every other test.
        import psycopg

        place = self.url(database)
        with psycopg.connect(place, autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description is not None else []

    # --- Its processes ---

    def _server(self) -> int | None:
        """The number of the server's first process, from the file that it keeps."""
        try:
            return int((self.data / "postmaster.pid").read_text().split()[0])
        except (FileNotFoundError, IndexError):
            return None

    def _signal(self, number: signal.Signals) -> tuple[int, ...]:
        """To the server and to every process that serves a session: each has a group of its own.

        Returns their numbers.
        """
        server = self._server()
        if server is None:
            return ()
        processes = (server, *_children(server))
        # New sessions cannot begin once the first has stopped.
        for process in processes:
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(process, number)
        return processes

    def _ready(self) -> bool:
        import psycopg

        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"postgres ended at its start, saying: {self.log()[-2000:]}")
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


def _a_user() -> str:
    for name in _USERS:
        with contextlib.suppress(KeyError):  # there is no such user
            return pwd.getpwnam(name).pw_name
    raise AssertionError(f"none of the users {', '.join(_USERS)} is there to run PostgreSQL")


def _children(process: int) -> list[int]:
    found = Path(f"/proc/{process}/task/{process}/children")
    try:
        return [int(x) for x in found.read_text().split()]
    except FileNotFoundError:
        return []


def _lives(process: int) -> bool:
    """Whether it still runs: what has ended may wait for its parent to notice."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
