"""wgpy.toml(5) is held against the parser: its keys, its limits and its examples."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.requirements import ROOT, program
from tests.unit.config.samples import PRIVATE, PSK
from wgpy.config import toml, toml_credentials, toml_keys, toml_nat, toml_rules
from wgpy.config.errors import ConfigError
from wgpy.config.load import load
from wgpy.config.values import MAX_MTU, MIN_MTU
from wgpy.device.paths import MAX_STUN_SERVERS, MAX_TURN_SERVERS, MAX_TURN_URIS
from wgpy.firewall.rules import MAX_RULES, MAX_WORDS, Kind

PAGE = ROOT / "man" / "wgpy.toml.5"
TEXT = PAGE.read_text()


def test_every_key_is_described_and_no_other() -> None:
    keys = re.compile(r"^\.It Ic (\w+) Li =", re.MULTILINE)
    described = {
        title: sorted(keys.findall(text))
        for title, text in re.findall(r"^\.Ss (.*)\n((?:(?!\.S[sh] ).*\n)*)", TEXT, re.MULTILINE)
    }
    assert described == {
        "The interface": sorted(toml_keys.INTERFACE),
        "Peers": sorted(toml_keys.PEER),
        "The authority": sorted(toml_credentials.AUTHORITY),
        "The identity": sorted(toml_credentials.IDENTITY),
        "Ways through NATs": sorted((*toml_nat.NAT, *toml_nat.TURN)),
        "TOML files and the running interface": [],
        "Rules": sorted(toml_rules.RULES),
    }


def test_the_limits_of_an_issuer_are_described() -> None:
    listed = TEXT.split("The limits are:\n")[1].split(".El\n")[0]
    assert re.findall(r"^\.It Cm (\w+)$", listed, re.MULTILINE) == list(toml_credentials.LIMITS)


def test_the_keys_of_a_relay_stand_under_it() -> None:
    listed = TEXT.split(".Ss Ways through NATs")[1].split(".Ic [[nat.turn]] :")[1]
    described = re.findall(r"^\.It Ic (\w+) Li =", listed.split(".El\n")[0], re.MULTILINE)
    assert described == list(toml_nat.TURN)


def test_the_limits_are_the_parsers() -> None:
    assert f"from {MIN_MTU} to {MAX_MTU}" in TEXT.replace("\n", " ")
    assert f"up to {toml_keys.MAX_NAME_LENGTH} printable" in TEXT
    assert f"up to {MAX_RULES} of both" in TEXT
    assert f"up to {MAX_STUN_SERVERS} servers" in TEXT
    assert f"up to {MAX_TURN_SERVERS} servers" in TEXT
    assert f"up to {MAX_TURN_URIS} URIs" in TEXT
    assert f"up to {MAX_WORDS} words" in TEXT


def test_every_end_of_a_rule_is_described() -> None:
    rules = TEXT.split(".Ss Rules")[1]
    assert re.findall(r"^\.It Cm (\w+)", rules, re.MULTILINE) == [kind.value for kind in Kind]


def test_the_example_of_rules_is_read() -> None:
    blocks = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", TEXT, re.DOTALL | re.MULTILINE)
    (example,) = (block for block in blocks if "[[allow]]" in block)
    config, said = toml.parse(example, "quick")
    assert said == []
    assert config.firewall is not None
    assert len(config.firewall.rules) == 3


def examples() -> list[str]:
    return [
        block
        for block in re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", TEXT, re.DOTALL | re.MULTILINE)
        if "[interface]" in block
    ]


def test_the_examples_are_read(tmp_path: Path) -> None:
    assert len(examples()) == 6
    for name in ("company-ca.pem", "gate.pem", "laptop.pem", "crl"):
        (tmp_path / name).touch()
    for name, secret in (
        *((f"{who}.key", PRIVATE) for who in ("laptop", "gate", "road", "home")),
        ("laptop.psk", PSK),
        ("turn.password", "correct horse"),
    ):
        (tmp_path / name).write_text(secret)
        (tmp_path / name).chmod(0o600)
    (tmp_path / "signal").mkdir()
    for example in examples():
        path = tmp_path / "wg0.toml"
        path.write_text(example)
        path.chmod(0o600)
        loaded = load(path, "quick")
        assert loaded.warnings == []
        assert loaded.config.peers
        assert loaded.config.interface.private_key is not None


def test_the_diagnostic_is_what_is_said() -> None:
    with pytest.raises(ConfigError) as caught:
        toml.parse("\n[interface]\n\nadress = []", "quick", Path("/etc/wgpy/wg0.toml"))
    assert f"wgpy: {caught.value}\n" in TEXT


@pytest.mark.tool("mandoc")
def test_mandoc_finds_nothing() -> None:
    done = subprocess.run(
        [program("mandoc"), "-Tlint", str(PAGE)], capture_output=True, text=True, check=False
    )
    # Which other manuals are installed is no matter of this page.
    found = [x for x in done.stdout.splitlines() if "referenced manual not found" not in x]
    assert found == []
    assert done.returncode in (0, 1), "1 is STYLE, and nothing worse"
