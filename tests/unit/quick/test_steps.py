"""Steps survive the journal, and read as the commands that a person would type."""

import json
from pathlib import Path
from typing import Any

import pytest

from wgpy.quick import steps
from wgpy.quick.journal import (
    Journal,
    State,
    interface_lock,
    journal_path,
    machine_lock,
    other_journals,
    read_journal,
)
from wgpy.quick.steps import QuickError, Step, step_from_json, step_to_json

EVERY_STEP: list[tuple[Step, str]] = [
    (steps.StartDaemon("wg0", "/usr/bin/wgpyd"), "/usr/bin/wgpyd wg0"),
    (
        steps.StartDaemon("wg0", "/usr/bin/wgpyd", "/mnt/our place"),
        "/usr/bin/wgpyd --signal '/mnt/our place' wg0",
    ),
    (steps.RunHook("PreUp", "echo 1 # no comment"), "echo 1 # no comment"),
    (steps.Configure("wg0"), "wgpy setconf wg0"),
    (steps.AddAddress("wg0", "10.0.0.1/24"), "ip -4 address add 10.0.0.1/24 dev wg0"),
    (steps.AddAddress("wg0", "fd00::1/64"), "ip -6 address add fd00::1/64 dev wg0"),
    (steps.SetLink("wg0", 1420), "ip link set mtu 1420 up dev wg0"),
    (
        steps.SetDns("wg0", "resolvconf", "tun.wg0", ("10.0.0.53",), ("lan",)),
        "resolvconf -a tun.wg0 -m 0 -x",
    ),
    (
        steps.SetDns("wg0", "resolvectl", "wg0", ("10.0.0.53",), ()),
        "resolvectl dns wg0 10.0.0.53; resolvectl domain wg0 ~.",
    ),
    (steps.SetMark("wg0", 51820), "wgpy set wg0 fwmark 51820"),
    (steps.SetSysctl("a.b", "1", "0", "0"), "sysctl -q a.b=1"),
    (steps.AddTable("wg0", 4, ("10.0.0.1",), 51820), "nft add table ip wgpy-wg0"),
    (steps.AddTable("wg0", 6, (), 51820), "nft add table ip6 wgpy-wg0"),
    (steps.GuardLink("wg0"), "nft delete table inet wgpy-wg0"),
    (
        steps.AddRule(4, 32765, 51820, 51820, False),
        "ip -4 rule add not fwmark 51820 table 51820",
    ),
    (
        steps.AddRule(6, 32764, 254, None, True),
        "ip -6 rule add table main suppress_prefixlength 0",
    ),
    (steps.AddRoute("wg0", "10.0.0.0/8", 254), "ip -4 route add 10.0.0.0/8 dev wg0"),
    (steps.AddRoute("wg0", "::/0", 51820), "ip -6 route add ::/0 dev wg0 table 51820"),
    (
        steps.AddUnreachable("::/0", 51820),
        "ip -6 route add unreachable ::/0 metric 20000 table 51820",
    ),
    (steps.GuardExit("wg0", 51820, ("10.0.0.0/8",)), "nft add table inet wgpy-exit-wg0"),
    (
        steps.Masquerade("wg0", ("10.9.0.0/16",), ("10.1.0.0/16", "10.2.0.0/16")),
        "nft add table inet wgpy-nat-wg0",
    ),
]


@pytest.mark.parametrize(("step", "text"), EVERY_STEP)
def test_a_step_reads_as_a_command(step: Step, text: str) -> None:
    assert str(step) == text


@pytest.mark.parametrize("step", [step for step, _ in EVERY_STEP])
def test_a_step_survives_json(step: Step) -> None:
    assert step_from_json(json.loads(json.dumps(step_to_json(step)))) == step


@pytest.mark.parametrize(
    "value", [{}, {"step": "Format"}, {"step": "AddAddress", "address": "x"}, {"step": "SetLink"}]
)
def test_a_step_that_is_none_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"step|fields"):
        step_from_json(value)


def _journal(directory: Path, name: str = "wg0") -> Journal:
    return Journal(name, directory, "/etc/wireguard/wg0.conf", post_down=("echo a; b",))


def test_the_journal_is_read_as_it_was_written(tmp_path: Path) -> None:
    journal = _journal(tmp_path)
    for step, _ in EVERY_STEP:
        journal.add(step)
    journal.state = State.UP
    journal.link_index = 7
    journal.write()
    assert read_journal(tmp_path, "wg0") == journal


def test_a_part_of_an_interface_has_a_journal_of_its_own(tmp_path: Path) -> None:
    whole, part = _journal(tmp_path), Journal("wg0", tmp_path, "", part="routes")
    whole.write()
    part.add(steps.SetSysctl("a.b", "1", "0", "0"))
    assert read_journal(tmp_path, "wg0.routes") == part
    assert read_journal(tmp_path, "wg0") == whole
    assert other_journals(tmp_path, "wg0") == [part]
    assert other_journals(tmp_path, "wg0.routes") == [whole]


def test_the_journal_is_its_owners_alone(tmp_path: Path) -> None:
    journal = _journal(tmp_path)
    journal.write()
    assert journal.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["wg0.json"]


def test_no_journal_is_none(tmp_path: Path) -> None:
    assert read_journal(tmp_path, "wg0") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": 2}', '{"version": 1}', "null"])
def test_a_broken_journal_is_said_in_one_line(tmp_path: Path, text: str) -> None:
    journal_path(tmp_path, "wg0").write_text(text)
    with pytest.raises(QuickError, match=r"^\S*wg0\.json: this is no journal[^\n]*$"):
        read_journal(tmp_path, "wg0")


def test_forgetting_a_step(tmp_path: Path) -> None:
    journal = _journal(tmp_path)
    first, second = EVERY_STEP[0][0], EVERY_STEP[3][0]
    journal.add(first)
    journal.add(second)
    journal.remove(second)
    read = read_journal(tmp_path, "wg0")
    assert read is not None
    assert read.steps == [first]
    journal.delete()
    journal.delete()
    assert read_journal(tmp_path, "wg0") is None


def test_other_journals_are_those_of_this_boot_and_namespace(tmp_path: Path) -> None:
    for name in ("wg0", "wg1", "wg2.a", "wg3"):
        _journal(tmp_path, name).write()
    elsewhere = _journal(tmp_path, "wg1")
    elsewhere.namespace = "net:[1]"
    elsewhere.write()
    before = _journal(tmp_path, "wg3")
    before.boot = "an earlier one"
    before.write()
    (tmp_path / "bad.json").write_text("{")
    assert [journal.interface for journal in other_journals(tmp_path, "wg0")] == ["wg2.a"]


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    leftover, other = tmp_path / ".wg0.json.1.tmp", tmp_path / ".wg0.b.json.1.tmp"
    leftover.touch()
    other.touch()
    with interface_lock(tmp_path, "wg0"):
        assert not leftover.exists()
        assert other.exists()


def test_one_at_a_time(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    with (
        interface_lock(directory, "wg0"),
        machine_lock(directory),
        interface_lock(directory, "wg1"),
        pytest.raises(QuickError, match="another wgpy is working on wg0"),
        interface_lock(directory, "wg0"),
    ):
        pytest.fail("two held one lock")
    with interface_lock(directory, "wg0"):
        assert directory.stat().st_mode & 0o777 == 0o700
