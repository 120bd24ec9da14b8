"""The firewall by group, for peers that real certificates let in: who reaches what, from the first
packet to the last."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.commands import run
from tests.support.mesh import (
    BY_CA,
    GATE,
    IDENTITY,
    Authority,
    Bearer,
    Machine,
    Site,
    put,
    wgpy,
)
from tests.support.netns import wait_until
from tests.support.requirements import program
from tests.support.traffic import connects, listen

pytestmark = [pytest.mark.root, pytest.mark.tool("wgpy", "wgpyd", "nft", "wg", "ip")]

LAPTOP, PHONE = "10.7.0.2", "10.7.0.3"
OPEN, SHUT = 5001, 5002
RULES = f"""
[[allow]]
from = "group:laptops"
to = "this"
ports = "{OPEN}/tcp"

[[allow]]
from = "group:laptops"
to = "group:phones"
ports = "{OPEN}/tcp"
"""


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "ca", "--group", "phones")


@pytest.fixture
def site(clean_machine: None, ca: Authority, tmp_path: Path) -> Iterator[Site]:
    with Site(ca.certificate, tmp_path) as made:
        yield made


def sets(gate: Machine) -> dict[str, list[object]]:
    """What stands in the sets of the gate's table."""
    text = gate.space.run("nft", "-j", "list", "ruleset").stdout
    found = [x["set"] for x in json.loads(text)["nftables"] if "set" in x]
    return {x["name"]: x.get("elem", []) for x in found}


def verdict(gate: Machine, *words: str) -> tuple[int, str]:
    """What `wgpy firewall test` says."""
    command = ("wgpy", "firewall", "test", gate.interface.name, *words)
    done = run([program("wgpy"), *command[1:]], command, 20, False, None, None)
    return done.returncode, done.stdout


def test_by_group_from_the_first_packet_to_the_last(site: Site, ca: Authority) -> None:
    own = ca.issue("gate.mesh", GATE)
    one, two = ca.issue("laptop.mesh", LAPTOP), ca.issue("phone.mesh", PHONE, "phones")
    gate = site.gate(own, BY_CA, IDENTITY, RULES)
    gate.space.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    assert "no members" in wgpy("firewall", "show", gate.interface.name)
    laptop, phone = (site.machine(bearer, own) for bearer in (one, two))
    with ExitStack() as stack:
        for space, address in ((gate.space, GATE), (phone.space, PHONE)):
            for port in (OPEN, SHUT):
                stack.enter_context(listen(space, address, port))
        # The first packet that ever comes from them is judged, for the handshake waits with it.
        assert not connects(laptop.space, GATE, SHUT)
        assert not connects(phone.space, GATE, OPEN)
        wait_until(lambda: len(gate.admitted()) == 2, "both to be in")
        assert connects(laptop.space, GATE, OPEN, 10)
        assert not connects(laptop.space, GATE, SHUT)
        assert not laptop.space.can_ping(GATE)
        assert not connects(phone.space, GATE, OPEN)
        # From one to the other, through the gate.
        assert connects(laptop.space, PHONE, OPEN, 10)
        assert not connects(laptop.space, PHONE, SHUT)
        assert not connects(phone.space, LAPTOP, OPEN)
        # The gate itself may begin, and gets its answers.
        assert connects(gate.space, PHONE, SHUT, 10)
        gate.space.ping(LAPTOP)
        explained(gate, one)
        assert sets(gate)["members-4"] == [LAPTOP, PHONE]
        assert sets(gate)["group-laptops-4"] == [LAPTOP]

        put(gate.directory / "crl" / "ca.pem", ca.revoke("--name", "laptop.mesh"))
        wait_until(lambda: gate.admitted() == {"phone.mesh"}, "the laptop to be out")
        assert sets(gate)["members-4"] == [PHONE]
        assert sets(gate)["group-laptops-4"] == []
        assert not connects(laptop.space, GATE, OPEN)
    gate.interface.stop()
    assert sets(gate) == {}


def explained(gate: Machine, bearer: Bearer) -> None:
    """Members and verdicts as `wgpy firewall` prints them."""
    name = gate.interface.name
    shown = wgpy("firewall", "show", name)
    assert f"  member laptop.mesh (laptops): {LAPTOP}/32\n" in shown
    assert f"  member phone.mesh (phones): {PHONE}/32\n" in shown
    members = json.loads(wgpy("firewall", "show", name, "--json"))[name]["members"]
    assert {x["name"]: x["groups"] for x in members} == {
        "laptop.mesh": ["laptops"],
        "phone.mesh": ["phones"],
    }
    code, said = verdict(gate, "laptop.mesh", "this", f"{OPEN}")
    assert code == 0
    assert said.startswith(f"allowed: laptop.mesh (laptops) to this machine, {OPEN}\n  by rule 1 ")
    assert verdict(gate, bearer.public.base64(), "this", f"{SHUT}")[0] == 1
    assert verdict(gate, "phone.mesh", "this", f"{OPEN}")[0] == 1
    assert verdict(gate, LAPTOP, PHONE, f"{OPEN}/tcp")[0] == 0


def test_rules_that_come_later_hold_for_who_is_in(site: Site, ca: Authority) -> None:
    own, one = ca.issue("gate.mesh", GATE), ca.issue("desk.mesh", "10.7.0.4")
    gate = site.gate(own)
    desk = site.machine(one, own)
    with listen(gate.space, GATE, OPEN), listen(gate.space, GATE, SHUT):
        assert connects(desk.space, GATE, SHUT, 10)
        gate.load(BY_CA, IDENTITY, RULES)
        assert gate.admitted() == {"desk.mesh"}, "new rules put nobody out"
        assert sets(gate)["group-laptops-4"] == ["10.7.0.4"]
        assert not connects(desk.space, GATE, SHUT)
        assert connects(desk.space, GATE, OPEN, 10)
        # Somebody flushes everything: the table comes back with its members.
        gate.space.run("nft", "flush", "ruleset")
        wait_until(
            lambda: sets(gate).get("group-laptops-4") == ["10.7.0.4"], "the table to come back"
        )
        assert not connects(desk.space, GATE, SHUT)
        gate.load(BY_CA, IDENTITY)
        assert sets(gate) == {}
        assert connects(desk.space, GATE, SHUT, 10)
