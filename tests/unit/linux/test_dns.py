"""What the resolver is told, as commands; and which tool is found."""

from pathlib import Path

import pytest

from wgpy.linux import dns
from wgpy.linux.dns import Command, DnsError, Resolver


def test_resolvconf_gets_servers_then_search_domains_on_standard_input() -> None:
    commands = dns.set_commands(
        Resolver.RESOLVCONF, "wg0", "tun.wg0", ["10.0.0.53", "fd00::53"], ["corp", "lan"]
    )
    assert commands == [
        Command(
            ("resolvconf", "-a", "tun.wg0", "-m", "0", "-x"),
            "nameserver 10.0.0.53\nnameserver fd00::53\nsearch corp lan\n",
        )
    ]


def test_resolvconf_without_search_domains_has_no_search_line() -> None:
    (command,) = dns.set_commands(Resolver.RESOLVCONF, "wg0", "wg0", ["10.0.0.53"], [])
    assert command.stdin == "nameserver 10.0.0.53\n"


def test_resolvectl_sends_every_name_to_the_tunnel() -> None:
    commands = dns.set_commands(Resolver.RESOLVECTL, "wg0", "wg0", ["10.0.0.53"], ["corp"])
    assert [command.argv for command in commands] == [
        ("resolvectl", "dns", "wg0", "10.0.0.53"),
        ("resolvectl", "domain", "wg0", "corp", "~."),
    ]


def test_unsetting_names_the_same_record() -> None:
    assert dns.unset_commands(Resolver.RESOLVCONF, "wg0", "tun.wg0") == [
        Command(("resolvconf", "-d", "tun.wg0", "-f"))
    ]
    assert dns.unset_commands(Resolver.RESOLVECTL, "wg0", "tun.wg0") == [
        Command(("resolvectl", "revert", "wg0"))
    ]


@pytest.mark.parametrize(
    ("order", "record"),
    [
        ("lo\neth*\ntun*\n", "eth.wg0"),
        ("# a comment*\n  tun*  \n", "tun.wg0"),
        ("lo.!(pdns|pdnsd)\n*\n", "wg0"),
        ("", "wg0"),
    ],
)
def test_record_takes_the_first_plain_pattern(tmp_path: Path, order: str, record: str) -> None:
    path = tmp_path / "interface-order"
    path.write_text(order)
    assert dns.resolvconf_record("wg0", path) == record


def test_record_without_an_order_is_the_interface(tmp_path: Path) -> None:
    assert dns.resolvconf_record("wg0", tmp_path / "none") == "wg0"


def _program(directory: Path, name: str, text: str = "exit 0") -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_resolvconf_on_the_path_is_preferred(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert dns.find_resolver() is None
    _program(tmp_path, "resolvectl")
    monkeypatch.setattr(dns, "_RESOLVED_DIRECTORY", tmp_path / "none")
    assert dns.find_resolver() is None
    monkeypatch.setattr(dns, "_RESOLVED_DIRECTORY", tmp_path)
    assert dns.find_resolver() is Resolver.RESOLVECTL
    _program(tmp_path, "resolvconf")
    assert dns.find_resolver() is Resolver.RESOLVCONF


def test_a_failure_is_one_line_with_the_tools_last_word(tmp_path: Path) -> None:
    _program(tmp_path, "bad", "echo first >&2; echo the reason >&2; exit 3")
    with pytest.raises(DnsError, match=r"bad -x` exited with 3: the reason$"):
        dns.run(Command((str(tmp_path / "bad"), "-x")))


def test_a_missing_program_is_named() -> None:
    with pytest.raises(DnsError, match="no program /nowhere/resolvconf"):
        dns.run(Command(("/nowhere/resolvconf",)))
