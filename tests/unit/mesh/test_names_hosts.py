"""The block in /etc/hosts: what is ours comes and goes, what is not stays byte for byte."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.ip import parse_address
from wgpy.mesh import names_hosts
from wgpy.mesh.names_hosts import HostsError, change, lines_for, with_block, without_block

LINES = [b"10.9.0.2\tlaptop.mesh\n", b"fd09::2\tlaptop.mesh\n"]

# What people write there, and what editors leave.
texts = st.lists(
    st.sampled_from(
        [
            *(b"127.0.0.1 localhost\n", b"\n", b"::1 x\r\n", b"# BEGIN other\n", b"\xff\xfe\n"),
            *(b"# END wgpy wg0\n", b"# BEGIN wgpy wg1\n", b"10.0.0.1 a", b" ", b"\x0b\x1c\n"),
        ]
    )
).map(b"".join)


@given(texts)
def test_the_file_is_as_it_was_afterwards(text: bytes) -> None:
    with_it = with_block(text, "wg0", "mesh", LINES)
    assert with_it.startswith(text)
    assert b"".join(LINES) in with_it
    assert without_block(with_it, "wg0") == text
    # Again, with other lines: no second block.
    again = with_block(with_it, "wg0", "mesh", LINES[:1])
    assert again.count(b"# BEGIN wgpy wg0") == 1
    assert without_block(again, "wg0") == text
    assert with_block(with_it, "wg0", "mesh", LINES) == with_it


@given(texts, st.booleans())
def test_two_meshes_go_in_any_order(text: bytes, first: bool) -> None:
    both = with_block(with_block(text, "wg0", "mesh", LINES), "wg5", "corp", [])
    order = ("wg0", "wg5") if first else ("wg5", "wg0")
    for name in order:
        both = without_block(both, name)
    assert both == text


def test_a_name_that_begins_another_is_another() -> None:
    text = with_block(b"", "wg10", "mesh", LINES)
    assert without_block(text, "wg1") == text


def test_a_block_without_an_end_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    text = with_block(b"a\n", "wg0", "mesh", LINES).replace(b"# END", b"# end") + b"10.0.0.1 mine\n"
    path.write_bytes(text)
    with pytest.raises(HostsError, match="lost its last line"):
        change(lambda old: without_block(old, "wg0"), path, tmp_path / "lock")
    assert path.read_bytes() == text
    assert sorted(x.name for x in tmp_path.iterdir()) == ["hosts", "lock"]


def test_lines_are_in_order_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {
        "b.mesh": (parse_address("10.9.0.2"), parse_address("fd09::2")),
        "a.mesh": (parse_address("10.9.0.1"),),
    }
    expected = [b"10.9.0.1\ta.mesh\n", b"10.9.0.2\tb.mesh\n", b"fd09::2\tb.mesh\n"]
    assert lines_for(names) == (expected, 0)
    monkeypatch.setattr(names_hosts, "MAX_LINES", 2)
    assert lines_for(names) == (expected[:2], 1)


def test_owner_mode_and_link_stay(tmp_path: Path) -> None:
    real = tmp_path / "etc" / "hosts.real"
    real.parent.mkdir()
    real.write_bytes(b"127.0.0.1 localhost")
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 12, 34)
    link = tmp_path / "hosts"
    link.symlink_to("etc/hosts.real")
    before = real.stat()
    lock = tmp_path / "run" / "lock"
    assert change(lambda text: with_block(text, "wg0", "mesh", LINES), link, lock)
    assert not change(lambda text: with_block(text, "wg0", "mesh", LINES), link, lock)
    assert link.is_symlink()
    after = real.stat()
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert b"laptop.mesh" in real.read_bytes()
    assert change(lambda text: without_block(text, "wg0"), link, lock)
    assert real.read_bytes() == b"127.0.0.1 localhost"
    assert [x.name for x in real.parent.iterdir()] == ["hosts.real"]


def test_a_file_that_is_not_there_is_made_for_all_to_read(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    assert change(lambda text: with_block(text, "wg0", "mesh", LINES), path, tmp_path / "lock")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_change_of_somebody_else_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_bytes(b"one\n")
    calls = []

    def edit(text: bytes) -> bytes:
        calls.append(text)
        if len(calls) == 1:
            path.write_bytes(b"one\ntwo\n")
        return with_block(text, "wg0", "mesh", LINES)

    assert change(edit, path, tmp_path / "lock")
    assert calls == [b"one\n", b"one\ntwo\n"]
    assert without_block(path.read_bytes(), "wg0") == b"one\ntwo\n"


def test_a_file_that_never_rests_and_one_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hosts"
    path.write_bytes(b"0")

    def edit(text: bytes) -> bytes:
        path.write_bytes(text + b"0")
        return b"other"

    with pytest.raises(HostsError, match="all the time"):
        change(edit, path, tmp_path / "lock")
    monkeypatch.setattr(names_hosts, "MAX_BYTES", 3)
    with pytest.raises(HostsError, match="left as it is"):
        change(lambda _: b"", path, tmp_path / "lock")


def test_what_cannot_be_renamed_over_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hosts"
    path.write_bytes(b"127.0.0.1 localhost\n")
    number = path.stat().st_ino

    def busy(_source: str, _target: str) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(os, "replace", busy)
    assert change(lambda text: with_block(text, "wg0", "mesh", LINES), path, tmp_path / "lock")
    assert b"laptop.mesh" in path.read_bytes()
    assert change(lambda text: without_block(text, "wg0"), path, tmp_path / "lock")
    assert path.read_bytes() == b"127.0.0.1 localhost\n"
    assert path.stat().st_ino == number
