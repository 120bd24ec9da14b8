"""`wgpy firewall` against an answer of a daemon."""

import json
from typing import Any

import pytest

from tests.unit.config.samples import OTHER, PEER
from wgpy.cli import main, make_parser
from wgpy.cli.firewall import answer
from wgpy.device.uapi import ClaimsSummary, DeviceState, PeerState
from wgpy.firewall.rules import RulesError, from_json
from wgpy.identity.claims import Kind
from wgpy.identity.derived import quarantine_address, quarantine_range
from wgpy.identity.settings import AuthoritySettings
from wgpy.ip import parse_prefix
from wgpy.keys import PublicKey

RULES = {
    "rules": [
        {"action": "allow", "from": ["name:the office"], "to": ["this"], "ports": ["22/tcp"],
         "at": "/etc/wgpy/wg0.toml:7"},
        {"action": "deny", "from": ["name:the office"], "to": ["net:192.0.2.0/24"]},
    ],
    "peers": {"the office": PEER},
}  # fmt: skip


def says(*words: str) -> tuple[int, str]:
    """The exit code and the output for one interface, with a peer that rules name and one that
    they do not."""
    peers = [
        PeerState(PublicKey.from_base64(key), allowed_ips=[parse_prefix(prefix)])
        for key, prefix in ((PEER, "10.0.0.0/24"), (OTHER, "10.1.0.0/24"))
    ]
    state = DeviceState(peers=peers, firewall=from_json(json.dumps(RULES)))
    return answer(make_parser("firewall").parse_args(words), {"wg0": state})


def test_show() -> None:
    code, out = says("show")
    assert code == 0
    assert out == (
        "wg0:\n"
        "  1: allow from name:the office to this, 22/tcp  (/etc/wgpy/wg0.toml:7)\n"
        "  2: deny from name:the office to net:192.0.2.0/24, any protocol\n"
        "  member the office: 10.0.0.0/24\n"
    )


def test_show_json() -> None:
    value: dict[str, Any] = json.loads(says("show", "wg0", "--json")[1])
    assert [rule["action"] for rule in value["wg0"]["rules"]] == ["allow", "deny"]
    assert [member["name"] for member in value["wg0"]["members"]] == ["the office"]


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("10.0.0.7", "this", "22"), 0, "by rule 1 (/etc/wgpy/wg0.toml:7): allow from"),
        (("the office", "127.0.0.1", "23"), 1, "no rule allows it"),
        (("the office", "192.0.2.5", "icmp"), 1, "by rule 2: deny from"),
        ((PEER, "10.1.0.1", "53/udp"), 1, "no rule allows it"),
        (("10.1.0.1", "this", "22"), 0, "neither end is a member"),
        (("this", "the office", "22"), 0, "no rule denies what this machine begins"),
    ],
)
def test_a_verdict_and_why(words: tuple[str, ...], code: int, reason: str) -> None:
    got, out = says("test", "wg0", *words)
    assert got == code
    assert out.startswith("denied: " if code else "allowed: ")
    assert reason in out
    value = json.loads(says("test", "wg0", *words, "--json")[1])
    assert value["allowed"] == (code == 0)


GUEST = PublicKey(b"" * 32)
HOME = quarantine_address(bytes(16), GUEST)
INSIDE = str(HOME).partition("/")[0]


def of_a_coordinator(*words: str) -> tuple[int, str]:
    """The same of an interface where others may enrol, and one does."""
    claims = ClaimsSummary(Kind.ENROLMENT, "laptop.mesh", ("staff",), "once", bytes(32), 2**31)
    guest = PeerState(GUEST, allowed_ips=[HOME], admitted=True, claims=claims)
    office = PeerState(PublicKey.from_base64(PEER), allowed_ips=[parse_prefix("10.0.0.0/24")])
    authority = AuthoritySettings(bytes(16), (parse_prefix("10.0.0.0/8"),), enrol=True)
    state = DeviceState(
        peers=[guest, office], firewall=from_json(json.dumps(RULES)), authority=authority
    )
    return answer(make_parser("firewall").parse_args(words), {"wg0": state})


def test_show_has_the_wall_and_no_member_behind_it() -> None:
    _, out = of_a_coordinator("show")
    around = quarantine_range(bytes(16))
    assert f"  quarantine: {around} reaches 7100/tcp of this, and nothing else\n" in out
    assert "laptop.mesh" not in out
    assert "quarantine" not in says("show")[1]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((INSIDE, "this", "7100"), 0),
        ((GUEST.base64(), "this", "7100/tcp"), 0),
        ((INSIDE, "this", "7100/udp"), 1),
        ((INSIDE, "this", "22"), 1),
        ((INSIDE, "this", "icmp"), 1),
        ((INSIDE, "10.0.0.7", "7100"), 1),
        ((INSIDE, "192.0.2.1", "7100"), 1),
        (("this", INSIDE, "7100"), 1),
        (("10.0.0.7", INSIDE, "22"), 1),
        # One that is not there.
        ((INSIDE[:-1] + "0", "this", "22"), 1),
        # And who is not in there is judged as ever.
        (("10.0.0.7", "this", "22"), 0),
        (("10.0.0.7", "this", "7100"), 1),
    ],
)
def test_the_wall_is_asked_first(words: tuple[str, ...], code: int) -> None:
    got, out = of_a_coordinator("test", "wg0", *words)
    assert got == code
    assert ("who enrols" in out) == (INSIDE[:9] in "".join(words) or GUEST.base64() in words)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("nobody", "this", "22"), "no address and no peer that is here now"),
        (("this", "10.0.0.1", "http"), "'http' is no port"),
    ],
)
def test_what_cannot_be_meant(words: tuple[str, ...], reason: str) -> None:
    with pytest.raises(RulesError, match=reason):
        says("test", "wg0", *words)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("test", "wg0", "this"), "takes an interface, two ends and a port"),
        (("show", "wg0", "x"), "takes one interface"),
        (("watch",), "invalid choice"),
    ],
)
def test_words_that_are_wrong(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], reason: str
) -> None:
    assert main(["firewall", *words]) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert reason in error
    assert error.count("\n") == 1
