"""The firewall of a real daemon, in its sandbox: brought up, changed, explained, and cleaned up."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.netns import Namespace, link_name, wait_until
from tests.support.quick import new_private_key, new_public_key
from tests.support.requirements import program
from wgpy.device.client import get

pytestmark = [pytest.mark.root, pytest.mark.tool("wgpy", "wgpyd", "nft", "ip")]

OFFICE = new_public_key()
RULES = """
[[allow]]
from = "name:the office"
to = "this"
ports = "22/tcp"
"""


class Interface:
    """One interface of a TOML file, in a namespace of its own."""

    def __init__(self, space: Namespace, directory: Path) -> None:
        self.space = space
        self.name = link_name()
        self.path = directory / f"{self.name}.toml"

    def write(self, rules: str) -> None:
        self.path.write_text(
            f'[interface]\nprivate_key = "{new_private_key()}"\naddress = "10.0.0.254/8"\n'
            f'[[peer]]\nname = "the office"\npublic_key = "{OFFICE}"\n'
            f'allowed_ips = ["10.0.1.0/24", "fd00:1::/64"]\n'
            f'[[peer]]\npublic_key = "{new_public_key()}"\nallowed_ips = "10.0.1.9"\n{rules}'
        )
        self.path.chmod(0o600)

    def wgpy(self, *words: str, path: str | None = None) -> tuple[int, str, str]:
        before = () if path is None else ("env", f"PATH={path}")
        done = self.space.run(*before, program("wgpy"), *words, check=False)
        return done.returncode, done.stdout, done.stderr

    def well(self, *words: str) -> str:
        code, out, error = self.wgpy(*words)
        assert code == 0, error
        return out

    def sets(self) -> dict[str, list[object]]:
        """What stands in the sets of the interface's table; nothing without a table."""
        text = self.space.run("nft", "-j", "list", "ruleset").stdout
        found = [x["set"] for x in json.loads(text)["nftables"] if "set" in x]
        assert {x["table"] for x in found} <= {f"wgpy-{self.name}"}
        return {x["name"]: x.get("elem", []) for x in found}

    def kill(self) -> None:
        """End the daemon as a crash does."""
        link = f"/sys/class/net/{self.name}"
        for pid in self.space.pids():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.space.pids(), "the daemon lives on")
        assert not Path(link).exists()


@pytest.fixture
def interface(clean_machine: None, tmp_path: Path) -> Iterator[Interface]:
    with Namespace() as space:
        made = Interface(space, tmp_path)
        yield made
        made.wgpy("down", str(made.path))


def test_up_and_down(interface: Interface) -> None:
    interface.write(RULES)
    interface.well("up", str(interface.path))
    sets = interface.sets()
    # The prefix of the other peer, which no rule names, is cut out.
    assert sets["members-4-nets"] == [
        {"range": ["10.0.1.0", "10.0.1.8"]},
        {"range": ["10.0.1.10", "10.0.1.255"]},
    ]
    assert sets["members-4"] == []
    assert sets["name-1-6-nets"] == [{"prefix": {"addr": "fd00:1::", "len": 64}}]
    interface.well("down", str(interface.path))
    assert interface.sets() == {}


def test_the_verdict_names_the_line(interface: Interface) -> None:
    interface.write(RULES)
    interface.well("up", str(interface.path))
    assert f"({interface.path}:12)" in interface.well("firewall", "show", interface.name)
    out = interface.well("firewall", "test", interface.name, "10.0.1.1", "10.0.0.254", "22")
    assert out == (
        "allowed: the office at 10.0.1.1 to this machine, 22\n"
        f"  by rule 1 ({interface.path}:12): allow from name:the office to this, 22/tcp\n"
    )
    code, out, _ = interface.wgpy("firewall", "test", interface.name, "the office", "this", "23")
    assert code == 1
    assert out == "denied: the office to this machine, 23\n  no rule allows it\n"


def test_rules_and_peers_change(interface: Interface) -> None:
    interface.write(RULES)
    interface.well("up", str(interface.path))
    interface.well("set", interface.name, "peer", OFFICE, "allowed-ips", "10.0.7.0/24,10.0.8.1")
    sets = interface.sets()
    assert sets["members-4-nets"] == [{"prefix": {"addr": "10.0.7.0", "len": 24}}]
    assert sets["name-1-4"] == ["10.0.8.1"]
    interface.write(RULES.replace('"this"', '["this", "group:servers"]'))
    interface.well("syncconf", interface.name, str(write_for_wg(interface)))
    assert "group-servers-4" in interface.sets()
    interface.well("set", interface.name, "peer", OFFICE, "remove")
    assert interface.sets()["members-4-nets"] == []
    interface.write("")
    interface.well("syncconf", interface.name, str(write_for_wg(interface)))
    assert interface.sets() == {}


def write_for_wg(interface: Interface) -> Path:
    """The same file without what only `up` understands, as TOML."""
    text = interface.path.read_text().replace('address = "10.0.0.254/8"\n', "")
    path = interface.path.with_name("sync.toml")
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_a_stripped_file_leaves_the_rules_alone(interface: Interface, tmp_path: Path) -> None:
    interface.write(RULES)
    interface.well("up", str(interface.path))
    before = get(interface.name).firewall
    stripped = tmp_path / "stripped"
    stripped.write_text(interface.well("strip", str(interface.path)))
    interface.well("syncconf", interface.name, str(stripped))
    assert get(interface.name).firewall == before != type(before)()


def test_a_table_that_somebody_deleted_comes_back(interface: Interface) -> None:
    interface.write(RULES)
    interface.well("up", str(interface.path))
    before = interface.sets()
    for _ in range(2):
        interface.space.run("nft", "flush", "ruleset")
        wait_until(lambda: interface.sets() == before, "the table to come back")


def test_in_another_namespace_nothing_passes(interface: Interface) -> None:
    interface.write(RULES)
    interface.well("up", str(interface.path))
    port = get(interface.name).listen_port
    assert listens(interface.space, port)
    with Namespace("inner") as inner:
        interface.space.ip("link", "set", interface.name, "netns", inner.name)
        inner.ip("link", "set", interface.name, "mtu", "1300", "up")
        wait_until(lambda: not listens(interface.space, port), "the port to be closed")
        # Rules cannot be changed there either.
        code, _, error = interface.wgpy("setconf", interface.name, str(write_for_wg(interface)))
        assert code == 1
        assert "the rules are not in force" in error
        assert not listens(interface.space, port)


def listens(space: Namespace, port: int) -> bool:
    """Whether a UDP socket has this port."""
    return f":{port:04X} " in space.run("cat", "/proc/net/udp").stdout


def test_down_after_a_crash(interface: Interface) -> None:
    interface.write(RULES)
    interface.well("up", str(interface.path))
    interface.kill()
    assert interface.sets() != {}
    interface.well("down", str(interface.path))
    assert interface.sets() == {}


def test_a_daemon_clears_what_its_predecessor_left(interface: Interface) -> None:
    interface.write(RULES)
    interface.well("up", str(interface.path))
    interface.kill()
    assert interface.sets() != {}
    interface.space.run(program("wgpyd"), interface.name)
    wait_until(lambda: interface.sets() == {}, "the old table stays")


def test_without_rules_no_table(interface: Interface) -> None:
    interface.write("")
    interface.well("up", str(interface.path))
    assert interface.sets() == {}
    assert "no rules" in interface.well("firewall", "show", interface.name)


def test_without_nft_rules_are_refused_before_anything_is_done(
    interface: Interface, tmp_path: Path
) -> None:
    interface.write(RULES)
    empty = tmp_path / "bin"
    empty.mkdir()
    code, _, error = interface.wgpy("up", str(interface.path), path=str(empty))
    assert code == 1
    assert error.splitlines()[-1] == "wgpy: [[allow]] and [[deny]] need nft(8): install nftables"
    assert interface.name not in interface.space.ip("link")
