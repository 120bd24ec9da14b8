"""How a store's database is reached: connections that cannot hang, one transaction at a time.

SQLite in a file, or PostgreSQL by psycopg. Whatever goes wrong with either is one exception, and
the next call tries afresh.
"""

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from wgpy.mesh.store_turns import Turns

# A statement takes milliseconds; one that waits this long for a lock, or for a disk, has found
# something that is broken. Shorter than an agent's patience with one request.
STATEMENT_SECONDS: Final = 5.0
# Shorter, so that it is said what was waited for: another coordinator that does not go on.
LOCK_SECONDS: Final = 4.0
# The server's own limit should be the first to say why; this one is for a server that says nothing.
ANSWER_SECONDS: Final = 8.0
CONNECT_SECONDS: Final = 4
# A transaction whose process was stopped lets go of its locks. An issuer that is another process
# answers inside of one, in milliseconds.
IDLE_SECONDS: Final = 15.0
# Writers follow one another, readers are quick: more connections would only wait for the disk.
CONNECTIONS: Final = 4
# SQLite lets processes look for each other's end, and looks ten times a second after a while: one
# that writes all the time would leave another no chance. So who has written leaves a gap, and who
# waits looks more often than that.
GAP_SECONDS: Final = 0.003
LOOK_SECONDS: Final = 0.001
# Two writers may meet in a way that the database resolves by refusing one. Each time one of them
# gets through, so a handful is plenty.
ATTEMPTS: Final = 5

# A write-ahead log, where the ledgers have a rollback journal: there a file must be whole at rest,
# so that it can be copied beside its CA. Here a thousand agents read while others join: in this
# mode nobody waits for a reader, and a commit is one sync and not four. FULL syncs the log at each
# commit, so what was committed stays so when the power fails. Copies are made by `backup`.
_BUSY: Final = f"PRAGMA busy_timeout = {int(STATEMENT_SECONDS * 1000)}"
_WRITE_AHEAD: Final = "PRAGMA journal_mode = WAL"
_PRAGMAS: Final = (
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",
)

_SETTINGS: Final = (
    f"SET statement_timeout = {int(STATEMENT_SECONDS * 1000)}",
    f"SET lock_timeout = {int(LOCK_SECONDS * 1000)}",
    f"SET idle_in_transaction_session_timeout = {int(IDLE_SECONDS * 1000)}",
    # What is acknowledged must be on a disk; a server that is stricter stays so.
    "SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') = 'off'",
)

# PostgreSQL, appendix A: two transactions were in each other's way, and this one was undone.
_SERIALIZATION_FAILURE: Final = "40001"
_DEADLOCK: Final = "40P01"
# Here it was too slow itself, as it would be again: the server has cut it off.
_IDLE_IN_TRANSACTION: Final = "25P03"

_T = TypeVar("_T")


class StoreError(Exception):
    """What a store raises; one line."""


class StoreUnavailable(StoreError):  # noqa: N818 - it says how the store is
    """The database cannot be reached, read or written now. Nothing was acknowledged; try again."""


@dataclass(slots=True)
class Counters:
    """What has happened to transactions since the start."""

    committed: int = 0
    refused: int = 0  # the block raised, and everything was undone
    retried: int = 0
    unavailable: int = 0


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that gives up on a server that says nothing, as one that was stopped does."""

    def wait(
        self, gen: Generator[Any, Any, _T], interval: float = 0.1, timeout: float | None = None
    ) -> _T:
        """As the library's, for at most ANSWER_SECONDS; then the connection is closed."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        started = time.monotonic()
        try:
            return super().wait(gen, interval, ANSWER_SECONDS)
        except psycopg.OperationalError:
            if time.monotonic() - started < ANSWER_SECONDS:
                raise
            # An answer may still come, to a question that nobody asks any more.
            self.close()
            raise psycopg.OperationalError(
                f"the server has not answered in {ANSWER_SECONDS:g} s"
            ) from None


def connect(url: URL) -> BoundedConnection:
    """A connection to PostgreSQL, outside of the pool and of transactions. Raises psycopg.Error."""
    return BoundedConnection.connect(
        url.set(drivername="postgresql").render_as_string(hide_password=False),
        autocommit=True,
        connect_timeout=CONNECT_SECONDS,
    )


def parse_url(text: str) -> URL:
    """`postgresql://USER@HOST/DATABASE`, `sqlite:///FILE`, or a file. Raises StoreError.

    A password is better in the file that PGPASSFILE names: arguments are for everybody to see.
    """
    if "://" not in text:
        return URL.create("sqlite", database=text)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise StoreError("a store is postgresql://USER@HOST/DATABASE, or a file") from None
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    if url.drivername == "sqlite" and url.database and url.database != ":memory:":
        return url
    raise StoreError(f"{url.drivername} is no store that wgpy knows: postgresql, or a file")


class Database:
    """One database, and the transactions on it. Any thread may call."""

    def __init__(self, url: URL) -> None:
        """Make the pool; nothing is connected yet. Raises StoreUnavailable, for a file alone."""
        self.url = url
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self.place = url.set(drivername="postgresql").render_as_string(hide_password=True)
        if self.is_sqlite:
            self.place = str(url.database)
        self.counters = Counters()
        # One writer holds the network, in both databases: the others need no connection to wait.
        self._writing = Turns()
        self._gap_ends = 0.0
        self._counting = threading.Lock()
        self._file: tuple[int, int] | None = None
        if self.is_sqlite:
            self._file = self._make_file()
        self._engine = self._make_engine()

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def read(self, action: Callable[[Connection], _T]) -> _T:
        """Run `action` on a state of the database that stays one. Raises StoreUnavailable."""
        return self._run(action, write=False)

    def write(self, action: Callable[[Connection], _T]) -> _T:
        """Run `action` in a transaction; when this returns, it is committed and on disk.

        `action` may run several times, each from the beginning with nothing done; whatever it
        raises undoes all. Raises StoreUnavailable.
        """
        if not self._writing.take(STATEMENT_SECONDS):
            self._count("unavailable")
            raise StoreUnavailable(f"{self.place}: other writers have not ended in time")
        try:
            if self.is_sqlite:
                time.sleep(max(0.0, self._gap_ends - time.monotonic()))
            return self._run(action, write=True)
        finally:
            self._gap_ends = time.monotonic() + GAP_SECONDS
            self._writing.give()

    # --- One transaction ---

    def _run(self, action: Callable[[Connection], _T], *, write: bool) -> _T:
        for attempt in range(1, ATTEMPTS + 1):
            committing = False
            try:
                self._check_file()
                with self._engine.connect() as plain:
                    connection = plain.execution_options(writes=write)
                    with connection.begin() as transaction:
                        result = action(connection)
                        committing = True
                        transaction.commit()
                self._count("committed")
                return result
            except (SQLAlchemyError, OSError) as error:
                if _can_be_repeated(error, attempt, committing):
                    self._count("retried")
                    continue
                self._count("unavailable")
                raise self._unavailable(error, committing and write) from None
            except BaseException:
                self._count("refused")
                raise
        raise AssertionError("the last attempt returns or raises")

    def _unavailable(self, error: Exception, committing: bool) -> StoreUnavailable:
        text = _one_line(error)
        if committing and isinstance(error, DBAPIError) and error.connection_invalidated:
            text += "; whether the last change was recorded is not known, ask again"
        return StoreUnavailable(f"{self.place}: {text}")

    def _count(self, what: str) -> None:
        with self._counting:
            setattr(self.counters, what, getattr(self.counters, what) + 1)

    # --- Connections ---

    def _make_engine(self) -> Engine:
        common: dict[str, Any] = {
            "pool_size": CONNECTIONS,
            "max_overflow": 0,
            "pool_timeout": ANSWER_SECONDS,
            # Parameters may be keys and tokens' identifiers; errors go to logs.
            "hide_parameters": True,
        }
        if not self.is_sqlite:
            return create_engine(
                self.url,
                creator=lambda: _postgresql(self.url),
                pool_pre_ping=True,
                isolation_level="READ COMMITTED",
                **common,
            )
        engine = create_engine(self.url, connect_args={"check_same_thread": False}, **common)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _make_file(self) -> tuple[int, int]:
        """Make it (mode 0600: who is in the network is not for everybody), and say which it is."""
        try:
            descriptor = os.open(
                str(self.url.database), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            try:
                found = os.fstat(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StoreUnavailable(f"{self.place}: {_one_line(error)}") from None
        if not stat.S_ISREG(found.st_mode):
            raise StoreUnavailable(f"{self.place}: this is no file")
        return found.st_dev, found.st_ino

    def _check_file(self) -> None:
        """What goes into a file that was deleted or replaced is lost: better not to take it."""
        if self._file is None:
            return
        found = os.stat(str(self.url.database))
        if (found.st_dev, found.st_ino) != self._file:
            raise OSError("the file was replaced while it was open; start again with the new one")


def _postgresql(url: URL) -> BoundedConnection:
    connection = connect(url)
    try:
        for statement in _SETTINGS:
            connection.execute(statement)
        connection.autocommit = False
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver begins no transaction of its own: `_begin_sqlite` does.
    connection.isolation_level = None
    connection.execute(_BUSY)
    # The first time it takes the file for itself, and who opens a new one together with others is
    # refused at once, whatever the timeout is.
    _until_free(lambda: connection.execute(_WRITE_AHEAD))
    for pragma in _PRAGMAS:
        connection.execute(pragma)


def _begin_sqlite(connection: Connection) -> None:
    if not connection.get_execution_options().get("writes", False):
        connection.exec_driver_sql("BEGIN")
        return
    # The lock at the beginning: what the transaction reads stays true until it has written.
    connection.exec_driver_sql("PRAGMA busy_timeout = 0")
    _until_free(lambda: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    connection.exec_driver_sql(_BUSY)


def _until_free(statement: Callable[[], object]) -> None:
    """Try until no other process has the file locked, for as long as a statement may take."""
    ends = time.monotonic() + STATEMENT_SECONDS
    while True:
        try:
            statement()
            return
        except (sqlite3.OperationalError, OperationalError) as error:
            # The low byte is the error, what is above says more of it.
            code = getattr(getattr(error, "orig", error), "sqlite_errorcode", 0) & 0xFF
            if code != sqlite3.SQLITE_BUSY or time.monotonic() > ends:
                raise
        time.sleep(LOOK_SECONDS)


def _can_be_repeated(error: Exception, attempt: int, committing: bool) -> bool:
    """Whether it was undone for certain, and not for a reason that stays."""
    if not isinstance(error, DBAPIError) or attempt == ATTEMPTS:
        return False
    state = getattr(error.orig, "sqlstate", None)
    if isinstance(error, IntegrityError) or state in (_SERIALIZATION_FAILURE, _DEADLOCK):
        return True
    # A connection that had died unnoticed, or was cut: once. While it was committing nobody knows.
    cut = error.connection_invalidated and state != _IDLE_IN_TRANSACTION
    return cut and attempt == 1 and not committing


def _one_line(error: Exception) -> str:
    if isinstance(error, PoolTimeout):
        return "every connection is in use"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    cause = error.orig if isinstance(error, DBAPIError) else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[0] if lines else type(cause).__name__
