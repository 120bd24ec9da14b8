"""`[[allow]]` and `[[deny]]`: what they say, and errors with line and key."""

from pathlib import Path

import pytest

from tests.unit.config.samples import OTHER, PEER
from wgpy.config.errors import ConfigError
from wgpy.config.sync import add_change, set_change, sync_change
from wgpy.config.toml import parse
from wgpy.device.uapi import Address, DeviceState
from wgpy.firewall.rules import MAX_RULES, Action, Settings

RULES = f"""
[[deny]]
from = "any"
to = ["name:office", "group:servers"]

[[peer]]
name = "office"
public_key = "{PEER}"

[[allow]]
from = ["group:staff", "name:ada.mesh", "group:staff"]
to = "this"
ports = ["22/tcp", "icmp"]
"""


def nowhere(_spec: object) -> Address:
    raise AssertionError("there is no name to look up")


def settings() -> Settings:
    config, said = parse(RULES, "quick", Path("/etc/wgpy/wg0.toml"))
    assert said == []
    assert config.firewall is not None
    return config.firewall


def test_rules_in_the_order_of_the_file() -> None:
    deny, allow = settings().rules
    assert (deny.action, allow.action) == (Action.DENY, Action.ALLOW)
    assert str(deny) == "deny from any to name:office, group:servers, any protocol"
    assert str(allow) == "allow from group:staff, name:ada.mesh to this, 22/tcp, icmp"
    assert (deny.origin, allow.origin) == ("/etc/wgpy/wg0.toml:2", "/etc/wgpy/wg0.toml:10")


def test_configured_peers_that_are_named_go_with_their_keys() -> None:
    assert settings().peers == {"office": PEER}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[allow]]\nto = 'any'", "x.toml:1: [[allow]]: this rule has no from; give it one"),
        ("[[deny]]\nfrom = 'any'", "x.toml:1: [[deny]]: this rule has no to; give it one"),
        ("[[allow]]\nfrom = 'staff'", "x.toml:2: from: 'staff' is no end of a connection"),
        ("[[allow]]\nfrom = [\n'any',\n'group:A']", "x.toml:4: from: 'group:A' names no group"),
        ("[[allow]]\nfrom = []", "x.toml:2: from: has 0 texts; write 1 to 16"),
        ("[[allow]]\nfrom = 'any'\nto = 'net:x'", "x.toml:3: to: 'net:x' has no network"),
        ("[[allow]]\nports = 22", "x.toml:2: ports: is no list of texts"),
        ("[[allow]]\nports = '22'", "x.toml:2: ports: '22' is no protocol and no port of one"),
        ("[[allow]]\nport = '22/tcp'", "x.toml:2: port: is no key; did you mean ports?"),
        ("[allow]\nfrom = 'any'", "x.toml:1: allow: is no list; write each rule under [[allow]]"),
        ("deny = [1]", "x.toml:1: deny: is no table; write [[deny]] and keys under it"),
    ],
)
def test_errors_name_line_and_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "quick", Path("x.toml"))
    assert str(caught.value).startswith(message)


def test_a_name_that_two_peers_have_cannot_be_in_a_rule() -> None:
    twice = RULES + f'[[peer]]\nname = "office"\npublic_key = "{OTHER}"\n'
    with pytest.raises(ConfigError, match="'office' is the name of two peers"):
        parse(twice, "quick")


def test_too_many_rules() -> None:
    rule = "[[allow]]\nfrom = 'any'\nto = 'any'\n"
    assert len(parse(rule * MAX_RULES, "quick")[0].firewall.rules) == MAX_RULES  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=f"over {MAX_RULES} rules"):
        parse(rule * (MAX_RULES + 1), "quick")
    words = ", ".join(f"'group:{'g' * 28}{number:02}'" for number in range(16))
    with pytest.raises(ConfigError, match="make them fewer"):
        parse(f"[[allow]]\nfrom = [{words}]\nto = [{words}]\n" * 100, "quick")


def test_what_the_daemon_is_told() -> None:
    config = parse(RULES, "wg")[0]
    without = parse("", "wg")[0]
    assert set_change(config, nowhere).firewall == config.firewall
    assert set_change(without, nowhere).firewall == Settings()
    assert add_change(config, nowhere).firewall == config.firewall
    assert add_change(without, nowhere).firewall is None
    assert config.firewall is not None
    same = DeviceState(firewall=config.firewall)
    assert sync_change(config, same, nowhere).firewall is None
    assert sync_change(config, DeviceState(), nowhere).firewall == config.firewall
    assert sync_change(without, same, nowhere).firewall == Settings()
