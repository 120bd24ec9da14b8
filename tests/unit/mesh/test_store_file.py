"""What is particular to a store in a file: how it is kept, copies, and a file that is replaced."""

import shutil
import stat
from pathlib import Path

import pytest

from tests.support.certificates import NOW
from tests.support.stores import SETTINGS, Office, addresses
from wgpy.mesh.store import Store, StoreError, StoreUnavailable
from wgpy.mesh.store_engine import Database, parse_url


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a store of #1"


@pytest.fixture
def office(path: Path) -> Office:
    store = Store(str(path))
    store.create_network(SETTINGS)
    return Office(store)


def test_only_its_owner_reads_it(office: Office, path: Path) -> None:
    office.join(1)
    assert {stat.S_IMODE(x.stat().st_mode) for x in path.parent.iterdir()} == {0o600}
    office.store.close()
    # At rest it is one file.
    assert [x.name for x in path.parent.iterdir()] == [path.name]


def test_a_commit_is_on_the_disk_when_it_returns(path: Path) -> None:
    database = Database(parse_url(str(path)))
    pragmas = {
        "journal_mode": "wal",
        "synchronous": 2,  # FULL: the log is synced at each commit
        "foreign_keys": 1,
        "trusted_schema": 0,
        "busy_timeout": 5000,
    }
    found = database.read(
        lambda x: {name: x.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in pragmas}
    )
    assert found == pragmas
    database.close()


def test_a_copy_is_a_store(office: Office, path: Path, tmp_path: Path) -> None:
    node = office.join(1)
    copy = tmp_path / "copy"
    office.store.backup(str(copy))
    office.join(2)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with pytest.raises(StoreError, match="exists"):
        office.store.backup(str(copy))
    found = Store(str(copy))
    assert found.nodes() == (node,)
    found.close()
    with pytest.raises(StoreError):
        office.store.backup(str(tmp_path / "nowhere" / "copy"))
    office.store.close()


def test_a_copy_that_is_put_back_is_gone_on_with(
    office: Office, path: Path, tmp_path: Path
) -> None:
    office.join(1)
    office.store.backup(str(tmp_path / "copy"))
    lost = office.join(2)
    office.store.close()
    shutil.copyfile(tmp_path / "copy", path)
    office.store = Store(str(path))
    office.store.restored(NOW)
    node = office.join(3)
    assert node.addresses != lost.addresses
    # It counts as if a hundred had come.
    assert node.addresses == addresses(102)
    office.store.close()


def test_what_would_go_into_a_file_that_is_gone_is_refused(
    office: Office, path: Path, tmp_path: Path
) -> None:
    """SQLite would write on into the one that was deleted, and everything would be lost."""
    office.join(1)
    office.store.backup(str(tmp_path / "copy"))
    aside = tmp_path / "aside"
    path.rename(aside)
    with pytest.raises(StoreUnavailable, match="No such file"):
        office.join(2)
    (tmp_path / "copy").rename(path)
    with pytest.raises(StoreUnavailable, match="replaced while it was open"):
        office.join(2)
    path.unlink()
    aside.rename(path)
    assert office.join(2).addresses == addresses(2)
    assert office.store.counters()["unavailable"] == 2
    office.store.close()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://root@localhost/mesh", "mysql is no store"),
        ("sqlite://", "sqlite is no store"),
        ("://", "a store is postgresql"),
        ("/nowhere/at/all", "/nowhere/at/all: No such file or directory"),
        ("/tmp", "/tmp: Is a directory"),
        ("/dev/null", "/dev/null: this is no file"),
    ],
)
def test_what_cannot_be_opened_says_so_in_one_line(url: str, reason: str) -> None:
    with pytest.raises(StoreError) as error:
        Store(url)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_a_password_is_not_repeated(tmp_path: Path) -> None:
    """Nobody listens there; the reason is the system's."""
    with pytest.raises(StoreUnavailable) as error:
        Store(f"postgresql://somebody:hidden-word@/mesh?host={tmp_path}")
    assert "hidden-word" not in str(error.value)
    assert "No such file" in str(error.value)
    assert "hidden-word" not in repr(error.value.__cause__)
