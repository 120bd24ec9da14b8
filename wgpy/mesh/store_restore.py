"""Copies of a store: how one is made, and what has to be done when one is put back.

A copy does not know what was promised after it was made: generations of names, numbers of lists,
and addresses of nodes that joined. Nothing of that may be promised a second time to somebody else.
"""

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Final

from sqlalchemy import insert, select, update

from wgpy.mesh.addresses import capacity
from wgpy.mesh.store_engine import STATEMENT_SECONDS, Database, StoreError, StoreUnavailable
from wgpy.mesh.store_schema import CRL, INVITE, NAME, NETWORK, PLACE
from wgpy.mesh.store_work import Work

# Further than any network gets between two copies, and so little of 63 bits that it can be done a
# million times.
_REVISIONS: Final = 1_000_000
_GENERATIONS: Final = 10_000
_LISTS: Final = 10_000


def advance(work: Work, now: float, joined: int) -> None:
    """Leave out what the lost time may have used; `joined` is how many may have come in it.

    Whoever follows the network begins anew. Free addresses that such nodes may have are reserved
    until their certificates have ended. Invitations that may have been spent are taken back.
    """
    connection = work.connection
    work.revision += _REVISIONS
    connection.execute(update(NAME).values(generation=NAME.c.generation + _GENERATIONS))
    connection.execute(update(CRL).values(number=CRL.c.number + _LISTS))
    connection.execute(update(INVITE).values(revoked=True))
    connection.execute(update(NETWORK).values(floor=work.revision))
    _reserve(work, now + work.settings.validity, joined)


def _reserve(work: Work, until: float, joined: int) -> None:
    """The lowest free numbers: the ones that were given."""
    taken = set(work.connection.execute(select(PLACE.c.number)).scalars())
    most = capacity(work.settings.range4)
    number = 0
    while joined > 0 and number < most:
        number += 1
        if number not in taken:
            joined -= 1
            # What is no name, so that nobody can ask for it.
            values = {"number": number, "name": f"lost {number}", "until": until}
            work.connection.execute(insert(PLACE).values(values))


def backup(database: Database, path: str) -> None:
    """Copy an SQLite store, as it is at one moment, into a new file (mode 0600).

    Raises StoreError for PostgreSQL, which pg_dump copies, and where the file is there already;
    StoreUnavailable.
    """
    if not database.is_sqlite:
        raise StoreError("pg_dump makes copies of a PostgreSQL database")
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from None
    place = Path(database.place).absolute().as_uri()
    try:
        with (
            contextlib.closing(sqlite3.connect(f"{place}?mode=ro", uri=True)) as old,
            contextlib.closing(sqlite3.connect(path)) as new,
        ):
            old.execute(f"PRAGMA busy_timeout = {int(STATEMENT_SECONDS * 1000)}")
            old.backup(new)
    except sqlite3.Error as error:
        os.unlink(path)
        raise StoreUnavailable(f"{database.place}: no copy was made: {error}") from None
