"""How the machine is told of names: which way is chosen, what is told, and what is put back."""

import dataclasses
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from wgpy.ip import parse_address, parse_prefix
from wgpy.mesh import names_resolvconf, names_resolved
from wgpy.mesh.names import Machine, Names, NamesError, Way, restore

HOSTS = b"127.0.0.1\tlocalhost"
RANGES = [parse_prefix("10.9.0.0/16"), parse_prefix("fd09::/48")]
NAMES = {"laptop.mesh": ["10.9.0.2", parse_address("fd09::2")], "desk.mesh": ["10.9.0.3"]}
# What the server is bound to here: TEST-NET-1, which nobody has (and IP_FREEBIND).
ADDRESS = "192.0.2.53"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with nothing but a hosts file, and programs of its own."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    (tmp_path / "hosts").write_bytes(HOSTS)
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.1\n")
    (tmp_path / "nsswitch.conf").write_text("hosts: files dns\n")
    return Machine(
        run_directory=tmp_path / "run",
        hosts=tmp_path / "hosts",
        resolv_conf=tmp_path / "resolv.conf",
        nsswitch=tmp_path / "nsswitch.conf",
        resolved=tmp_path / "resolve",
        resolvconf_conf=tmp_path / "resolvconf.conf",
        port=0,
    )


Program = Callable[[str, str], Path]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Makes a program that writes down how it was called, and its standard input."""

    def make(name: str, script: str = "") -> Path:
        log = tmp_path / f"{name}.log"
        path = tmp_path / "bin" / name
        path.write_text(
            f'#!/bin/sh\necho "$@" >>{log}\n{script}\n'
            f'while read -r line; do echo "< $line" >>{log}; done\n'
        )
        path.chmod(0o755)
        return log

    return make


def resolved(machine: Machine, program: Program) -> Path:
    machine.resolved.mkdir()
    machine.resolv_conf.write_text("nameserver 127.0.0.53\n")
    return program("resolvectl", "")


def openresolv(machine: Machine, program: Program) -> Path:
    machine.resolv_conf.write_text("nameserver 127.0.0.1\n")
    machine.resolvconf_conf.write_text("name_servers=127.0.0.1\ndnsmasq_conf=/etc/d.conf\n")
    return program("resolvconf", '[ "$1" = --version ] && echo openresolv 3.12.0')


def names(machine: Machine) -> Names:
    return Names("wgn0", "mesh", [ADDRESS], RANGES, machine=machine)


def test_systemd_resolved_gets_the_suffix_alone(machine: Machine, program: Program) -> None:
    log = resolved(machine, program)
    assert machine.choose() == (Way.RESOLVED, "")
    made = names(machine)
    made.update(NAMES)
    journal = machine.journal("wgn0")
    try:
        assert stat.S_IMODE(journal.stat().st_mode) == 0o600
        assert machine.hosts.read_bytes() == HOSTS
        assert log.read_text().splitlines() == [
            *(f"{word} wgn0 no" for word in ("dnssec", "dnsovertls", "llmnr", "mdns")),
            "default-route wgn0 no",
            "domain wgn0 ~mesh ~9.10.in-addr.arpa ~0.0.0.0.0.0.0.0.9.0.d.f.ip6.arpa",
            f"dns wgn0 {ADDRESS}",
        ]
        told = len(log.read_text())
        made.update({})
        assert len(log.read_text()) == told
        status = made.status()
        assert (status["way"], status["why"], status["names"]) == ("systemd-resolved", "", 0)
    finally:
        made.stop()
    # With the link, resolved has forgotten by itself.
    assert not journal.exists()
    assert "revert" not in log.read_text()


def test_a_link_that_is_still_there_is_reverted(machine: Machine, program: Program) -> None:
    log = resolved(machine, program)
    machine.run_directory.mkdir()
    machine.journal("lo").write_text('{"way": "systemd-resolved"}')
    restore("lo", machine)
    assert log.read_text() == "revert lo\n"
    restore("lo", machine)
    assert log.read_text() == "revert lo\n"


@pytest.mark.parametrize(
    ("resolv_conf", "nsswitch", "taken"),
    [
        ("nameserver 127.0.0.53\n", "hosts: files dns\n", True),
        ("nameserver 192.0.2.1\n", "hosts: files resolve [!UNAVAIL=return] dns\n", True),
        ("nameserver 192.0.2.1\n", "hosts: files dns\n", False),
        ("# nameserver 127.0.0.53\n", "passwd: resolve\n", False),
    ],
)
def test_resolved_is_told_only_where_it_is_asked(
    machine: Machine, program: Program, resolv_conf: str, nsswitch: str, taken: bool
) -> None:
    resolved(machine, program)
    machine.resolv_conf.write_text(resolv_conf)
    machine.nsswitch.write_text(nsswitch)
    reason = names_resolved.why_not(machine.resolved, machine.resolv_conf, machine.nsswitch)
    assert (reason is None) == taken


def test_openresolv_with_a_local_resolver_gets_a_private_record(
    machine: Machine, program: Program
) -> None:
    log = openresolv(machine, program)
    made = names(machine)
    made.update(NAMES)
    made.stop()
    assert [x for x in log.read_text().splitlines() if x not in ("--version", "< ")] == [
        "-p -m 9999 -a wgn0.mesh",
        "< search mesh",
        f"< nameserver {ADDRESS}",
        "-f -d wgn0.mesh",
    ]
    assert machine.hosts.read_bytes() == HOSTS


def test_why_resolvconf_is_not_the_one(machine: Machine, program: Program, tmp_path: Path) -> None:
    def reason() -> str | None:
        return names_resolvconf.why_not(machine.resolv_conf, machine.resolvconf_conf)

    assert reason() == "there is no resolvconf"
    openresolv(machine, program)
    assert reason() is None
    machine.resolvconf_conf.write_text("#dnsmasq_conf=/etc/d.conf\nunbound_conf=\n")
    assert "configures for domains" in (reason() or "")
    machine.resolv_conf.write_text("nameserver 127.0.0.1\nnameserver 192.0.2.1\n")
    assert "no local resolver" in (reason() or "")
    program("resolvconf", "echo Debian resolvconf 1.91")
    assert "cannot send one suffix" in (reason() or "")
    program("resolvectl", "")
    (tmp_path / "bin" / "resolvconf").unlink()
    (tmp_path / "bin" / "resolvconf").symlink_to("resolvectl")
    assert "systemd-resolved's" in (reason() or "")


def test_else_the_names_are_in_the_hosts_file(machine: Machine) -> None:
    made = names(machine)
    made.update(NAMES)
    assert b"\n10.9.0.3\tdesk.mesh\n10.9.0.2\tlaptop.mesh\nfd09::2\tlaptop.mesh\n" in (
        machine.hosts.read_bytes()
    )
    made.update({"desk.mesh": ["10.9.0.3"]})
    assert b"laptop" not in machine.hosts.read_bytes()
    status = made.status()
    assert status["way"] == "/etc/hosts"
    assert status["why"] == "systemd-resolved does not run, and there is no resolvconf"
    made.stop()
    assert machine.hosts.read_bytes() == HOSTS
    assert made.status()["way"] is None


def test_what_is_not_the_meshs_is_nobodys_to_name(machine: Machine) -> None:
    made = names(machine)
    made.update(
        {
            "laptop.mesh": ["10.9.0.2", "192.0.2.7"],
            "bank.example": ["10.9.0.3"],
            "mesh": ["10.9.0.3"],
            "a b.mesh": ["10.9.0.3"],
            "x.mesh\n10.9.0.3 bank.example": ["10.9.0.3"],
            "far.mesh": ["192.0.2.9"],
        }
    )
    text = machine.hosts.read_text()
    assert [x for x in text.splitlines() if x[:1].isdigit()] == [
        *HOSTS.decode().splitlines(),
        "10.9.0.2\tlaptop.mesh",
    ]
    assert made.status()["left_out"] == 6
    made.stop()


def test_a_tool_that_fails_is_said_and_leaves_nothing(machine: Machine, program: Program) -> None:
    resolved(machine, program)
    log = program("resolvectl", 'case "$1" in domain) echo no such link >&2; exit 1;; esac')
    made = names(machine)
    with pytest.raises(NamesError, match="no such link"):
        made.update(NAMES)
    assert not machine.journal("wgn0").exists()
    assert "no such link" in made.status()["problem"]
    assert made.status()["way"] is None
    # The next time it works.
    program("resolvectl", "")
    made.update(NAMES)
    assert made.status()["problem"] == ""
    made.stop()
    assert f"dns wgn0 {ADDRESS}" in log.read_text()


def test_what_a_crash_left_goes_with_the_next_start(machine: Machine, program: Program) -> None:
    crashed = names(machine)
    crashed.update(NAMES)
    crashed._server.stop()  # killed: nothing else happens
    assert b"laptop.mesh" in machine.hosts.read_bytes()
    # Meanwhile somebody installed a resolver.
    resolved(machine, program)
    made = names(machine)
    made.update(NAMES)
    assert machine.hosts.read_bytes() == HOSTS
    made.stop()


def test_restore_says_what_it_could_not(machine: Machine) -> None:
    machine.hosts.write_bytes(b"# BEGIN wgpy wgn0: x\n1.2.3.4 a\n")
    machine.run_directory.mkdir()
    machine.journal("wgn0").write_text('{"way": "resolvconf"}')
    with pytest.raises(NamesError, match=r"lost its last line.*; there is no program resolvconf"):
        restore("wgn0", machine)
    machine.journal("wgn0").write_text("junk")
    machine.hosts.unlink()
    restore("wgn0", machine)
    assert not machine.journal("wgn0").exists()


def test_without_port_53_names_are_in_the_hosts_file(machine: Machine, program: Program) -> None:
    log = resolved(machine, program)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        taken = dataclasses.replace(machine, port=probe.getsockname()[1])
    first = names(taken)
    first._server.start()
    made = names(taken)
    made.update(NAMES)
    try:
        assert made.status()["way"] == "/etc/hosts"
        assert "port 53 of the tunnel is taken" in made.status()["why"]
        assert b"laptop.mesh" in machine.hosts.read_bytes()
        assert not log.exists()
    finally:
        made.stop()
        first._server.stop()
