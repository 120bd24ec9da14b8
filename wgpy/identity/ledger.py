"""Ledgers: SQLite files that are right after a crash. How they are opened, and one transaction.

What an issuer and a verifier keep in theirs is their own matter; see issued.py for the issuer's.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from wgpy.keys import StrPath

# How long one process waits for another's transaction; each takes milliseconds.
BUSY_MILLISECONDS: Final = 5_000

# A rollback journal and not a write-ahead log: at rest a ledger is one file, which a person can
# copy beside the CA that it belongs to. EXTRA is FULL, and syncs the directory after the journal is
# gone: what was committed stays so when the power fails, and not only when the process does.
_PRAGMAS: Final = (
    f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA synchronous = EXTRA",
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",
)


class LedgerError(Exception):
    """A ledger cannot be opened, read or written; says which and why, in one line."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What a ledger holds. `application` is 4 ASCII letters that mark the file as this kind."""

    application: str
    version: int
    tables: tuple[str, ...]  # one CREATE statement each

    @property
    def application_id(self) -> int:
        """The letters as SQLite's 32-bit application_id."""
        return int.from_bytes(self.application.encode("ascii"), "big")


def open_ledger(path: StrPath, schema: Schema) -> sqlite3.Connection:
    """Open the ledger at `path`, making it (mode 0600) where there is none yet.

    The connection is in autocommit mode; changes go through `transaction`. Raises LedgerError, also
    for a file of another kind or of a newer version: neither is ever changed.
    """
    connection = None
    try:
        # SQLite would make it by the umask. Who is in the network is not for every user to read.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(os.fspath(path), isolation_level=None)
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        with transaction(connection):
            _prepare(connection, schema)
    except (OSError, sqlite3.Error, LedgerError) as error:
        if connection is not None:
            connection.close()
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise LedgerError(f"{os.fspath(path)}: {reason}") from None
    return connection


def _prepare(connection: sqlite3.Connection, schema: Schema) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application == 0 and version == 0:
        if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
            raise LedgerError("this is a database of another program")
        for statement in schema.tables:
            connection.execute(statement)
        # Both are plain numbers of ours: a pragma takes no parameters.
        connection.execute(f"PRAGMA application_id = {schema.application_id}")
        connection.execute(f"PRAGMA user_version = {schema.version}")
    elif application != schema.application_id:
        raise LedgerError("this is a database of another program")
    elif version != schema.version:
        raise LedgerError(
            f"this is a ledger of version {version}, and this wgpy knows {schema.version}; "
            "use the wgpy that wrote it"
        )


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block's changes or none, on disk when the block has ended.

    The lock is taken at the beginning, so what the block reads stays true until it has written.
    Raises LedgerError where SQLite fails; every exception of the block undoes what it did.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            # A full disk may have rolled back already.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    except sqlite3.Error as error:
        raise LedgerError(str(error)) from None
