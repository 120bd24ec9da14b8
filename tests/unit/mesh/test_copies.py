"""Copies of a coordinator: made while its store is written, whole, and fit to go on from."""

import contextlib
import os
import stat
import tarfile
from pathlib import Path

import pytest

from wgpy.cli import main
from wgpy.ip import parse_prefix
from wgpy.keys import PrivateKey
from wgpy.mesh import coordinator_files, copies
from wgpy.mesh.copies import CopyError
from wgpy.mesh.founding import Plan, found
from wgpy.mesh.records import InviteRecord
from wgpy.mesh.store import Enrolment, Refused, Store

NOW = 1_795_852_800.0
PLAN = Plan(
    interface="mesh0",
    network=bytes(range(16)),
    name="gate.mesh",
    domain="mesh",
    range4=parse_prefix("10.7.0.0/16"),
    endpoints=("192.0.2.1:51820",),
)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A network that was founded, with an open invitation."""
    made = tmp_path / "state"
    found(PLAN, made, lambda: NOW)
    with opened(made) as store:
        store.create_invite(InviteRecord("open", NOW + 3600), NOW)
    return made


@contextlib.contextmanager
def opened(state: Path):  # type: ignore[no-untyped-def]
    with contextlib.closing(Store(coordinator_files.read("mesh0", state).store)) as store:
        yield store


def put_back(copy: Path, target: Path) -> Path:
    target.mkdir()
    with tarfile.open(copy) as tar:
        tar.extractall(target, filter="data")
    # Paths in coordinator.json are absolute: that of a machine's own is the same everywhere.
    path = target / "mesh0.mesh" / "coordinator.json"
    old = str(copy.parent / "state")
    path.write_text(path.read_text().replace(old, str(target)))
    return target


def test_everything_is_in_it_once_and_private(state: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.tar"
    with opened(state):
        # A store that is open has a journal beside it.
        assert copies.make("mesh0", copy, state) is None
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with tarfile.open(copy) as tar:
        names = tar.getnames()
        assert tar.getmember("mesh0.mesh").mode & 0o077 == 0
        assert all(x.uid == 0 or x.uid == os.getuid() for x in tar)
    assert len(set(names)) == len(names)
    files = {
        str(path.relative_to(state))
        for path in (state / "mesh0.mesh").rglob("*")
        if not path.name.startswith("store.sqlite-")
    }
    assert set(names) == files | {"mesh0.mesh"}
    assert "mesh0.mesh/coordinator/store.sqlite" in names
    assert not [x for x in os.listdir(state / "mesh0.mesh" / "coordinator") if "copy" in x]


def test_a_copy_that_was_put_back_promises_nothing_twice(state: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.tar"
    copies.make("mesh0", copy, state)
    keys = [PrivateKey(bytes([n]) * 32).public() for n in (1, 2)]
    issuer = coordinator_files.open_issuer(coordinator_files.read("mesh0", state))
    with opened(state) as store:
        lost = store.enrol(Enrolment("open", keys[0], "lost.mesh"), NOW, issuer.issue)

    back = put_back(copy, tmp_path / "back")
    assert "store.sqlite" in copies.restored("mesh0", NOW, 100, back)
    issuer = coordinator_files.open_issuer(coordinator_files.read("mesh0", back))
    with opened(back) as store:
        assert [x.name for x in store.nodes()] == ["gate.mesh"]
        with pytest.raises(Refused):
            store.enrol(Enrolment("open", keys[1], "other.mesh"), NOW, issuer.issue)
        store.create_invite(InviteRecord("new", NOW + 3600), NOW)
        other = store.enrol(Enrolment("new", keys[1], "other.mesh"), NOW, issuer.issue)
        assert not set(other.addresses) & set(lost.addresses)
        store.create_invite(InviteRecord("again", NOW + 3600), NOW)
        again = store.enrol(Enrolment("again", keys[0], "lost.mesh"), NOW, issuer.issue)
        assert again.generation >= lost.generation


def test_no_copy_over_a_file_and_none_of_what_is_no_node(state: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("mine")
    with pytest.raises(CopyError, match="File exists"):
        copies.make("mesh0", there, state)
    assert there.read_text() == "mine"
    with pytest.raises(CopyError, match="is in no mesh"):
        copies.make("mesh1", tmp_path / "new", state)
    with pytest.raises(CopyError, match="coordinates no mesh"):
        copies.restored("mesh1", NOW, 1, state)
    assert not (tmp_path / "new").exists()


def test_a_store_that_cannot_be_read_leaves_no_half_copy(state: Path, tmp_path: Path) -> None:
    (state / "mesh0.mesh" / "coordinator" / "store.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(CopyError):
        copies.make("mesh0", tmp_path / "copy", state)
    assert not (tmp_path / "copy").exists()


def test_postgresql_is_told_of(state: Path, tmp_path: Path) -> None:
    path = state / "mesh0.mesh" / "coordinator.json"
    with opened(state) as store:
        place = store.place
    path.write_text(path.read_text().replace(place, "postgresql://wgpy@db.example/wgpy"))
    apart = copies.make("mesh0", tmp_path / "copy", state)
    assert apart == "postgresql://wgpy@db.example/wgpy"
    with tarfile.open(tmp_path / "copy") as tar:
        assert not [x for x in tar.getnames() if "sqlite" in x]


def test_the_command_wants_a_number_and_no_running_coordinator(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from wgpy.mesh import ask
    from wgpy.quick import root

    monkeypatch.setattr(root, "become_root", lambda name: None)
    assert main(["mesh", "restored", "--joined", "-1", "mesh0"]) == 1
    monkeypatch.setattr(ask, "ask_operator", lambda interface, question: {})
    assert main(["mesh", "restored", "mesh0"]) == 1
    assert "runs; end it first" in capsys.readouterr().err
