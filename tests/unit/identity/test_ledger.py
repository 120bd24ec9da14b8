"""Ledgers: made, opened again, refused when they are something else, and right after a kill."""

import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from wgpy.identity.ledger import LedgerError, Schema, open_ledger, transaction

SCHEMA = Schema("wgpT", 1, ("CREATE TABLE word (text TEXT PRIMARY KEY) STRICT",))


def words(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT text FROM word ORDER BY text")]


def test_what_was_committed_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    connection = open_ledger(path, SCHEMA)
    with transaction(connection):
        connection.execute("INSERT INTO word VALUES ('one')")
    connection.close()
    again = open_ledger(path, SCHEMA)
    assert words(again) == ["one"]
    again.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [x.name for x in tmp_path.iterdir()] == ["ledger"]


def test_it_syncs_before_it_says_that_it_has_committed(tmp_path: Path) -> None:
    connection = open_ledger(tmp_path / "ledger", SCHEMA)
    assert connection.execute("PRAGMA synchronous").fetchone() == (3,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    connection.close()


def test_an_exception_undoes_the_whole_block(tmp_path: Path) -> None:
    connection = open_ledger(tmp_path / "ledger", SCHEMA)

    def write(word: str, then: Exception | None) -> None:
        with transaction(connection):
            connection.execute("INSERT INTO word VALUES (?)", (word,))
            if then is not None:
                raise then
            connection.execute("INSERT INTO word VALUES (?)", (word,))

    with pytest.raises(KeyError):
        write("one", KeyError())
    with pytest.raises(LedgerError, match="UNIQUE"):
        write("two", None)
    assert words(connection) == []
    connection.close()


def test_another_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("not a database at all, but long enough to look at\n" * 40)
    with pytest.raises(LedgerError, match="text: file is not a database"):
        open_ledger(text, SCHEMA)
    other = tmp_path / "other"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    before = other.read_bytes()
    with pytest.raises(LedgerError, match="another program"):
        open_ledger(other, SCHEMA)
    assert other.read_bytes() == before
    open_ledger(tmp_path / "ours", SCHEMA).close()
    with pytest.raises(LedgerError, match="another program"):
        open_ledger(tmp_path / "ours", Schema("wgpX", 1, ()))
    with pytest.raises(LedgerError, match="version 1, and this wgpy knows 2"):
        open_ledger(tmp_path / "ours", Schema("wgpT", 2, ()))
    with pytest.raises(LedgerError, match="absent/ledger: No such file"):
        open_ledger(tmp_path / "absent" / "ledger", SCHEMA)


def test_a_second_process_waits_for_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_ledger(tmp_path / "ledger", SCHEMA)
    second = open_ledger(tmp_path / "ledger", SCHEMA)
    second.execute("PRAGMA busy_timeout = 20")
    with transaction(first), pytest.raises(LedgerError, match="locked"), transaction(second):
        raise AssertionError("two transactions at once")
    with transaction(second):
        second.execute("INSERT INTO word VALUES ('later')")
    assert words(first) == ["later"]
    first.close()
    second.close()


KILLED = """
import os, signal, sys
from wgpy.identity.ledger import open_ledger, transaction
from tests.unit.identity.test_ledger import SCHEMA
connection = open_ledger(sys.argv[1], SCHEMA)
with transaction(connection):
    connection.execute("INSERT INTO word VALUES ('committed')")
with transaction(connection):
    # More than the page cache holds: the file itself is changed before the commit.
    connection.execute("PRAGMA cache_size = 1")
    connection.executemany("INSERT INTO word VALUES (?)", ((f"{i:0500}",) for i in range(500)))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_in_the_middle_leaves_what_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], timeout=60, check=False)
    assert done.returncode == -9
    assert (tmp_path / "ledger-journal").exists(), "it was killed in the middle of writing"
    connection = open_ledger(path, SCHEMA)
    assert words(connection) == ["committed"]
    connection.close()
