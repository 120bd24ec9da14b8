"""What people are shown of a real mesh, and what its operator does with copies and the authority.

alice ─ home (NAT) ─┐
                    ├─ internet ─ gate, turn
bob ── office (NAT) ┘
"""

import json
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import wait_until
from tests.support.natlab import Host, Nat, Router
from tests.support.node import PATIENCE, wait_for_ping
from tests.support.world import World
from wgpy.cli.redact import forms_of_key
from wgpy.mesh.place import STATE_DIRECTORY

pytestmark = [
    pytest.mark.root,
    pytest.mark.tool("wgpy", "wgpyd", "nft", "ip", "ping", "turnserver", "openssl"),
]


@pytest.fixture(scope="module")
def world(clean_machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    routers = [Router("home", Nat.PORT), Router("office", Nat.PORT)]
    hosts = [Host("alice", "home"), Host("bob", "office"), Host("carol", "home")]
    with World(routers, hosts, tmp_path_factory.mktemp("world")) as made:
        made.join("alice")
        made.join("bob")
        yield made


def status(world: World, name: str) -> dict[str, Any]:
    """`wgpy status --json` of one node's interface."""
    node = world.nodes[name]
    found: dict[str, Any] = json.loads(node.wgpy("status", "--json", node.interface))
    return found[node.interface]  # type: ignore[no-any-return]


def test_ping_by_name_until_the_path_is_direct(world: World) -> None:
    alice = world.nodes["alice"]
    wait_until(lambda: alice.knows("bob"), "alice to know bob", PATIENCE)
    said = alice.wgpy(
        *("ping", "--interface", alice.interface, "-c", "30", "--until-direct", "--json", "bob")
    )
    *answers, last = map(json.loads, said.splitlines())
    assert answers[-1]["path"]["kind"] == "direct"
    assert last["direct"] == 1


def test_status_has_every_node_and_the_way_to_it(world: World) -> None:
    alice = world.nodes["alice"]
    wait_for_ping(alice, world.nodes["bob"].v4)
    found = status(world, "alice")
    nodes = {node["name"]: node for node in found["nodes"]}
    assert set(nodes) == {"gate.mesh", "bob.mesh"}
    assert nodes["gate.mesh"]["coordinator"]
    assert nodes["bob.mesh"]["path"]["kind"] in ("direct", "relay")
    assert nodes["bob.mesh"]["certificateExpires"] > nodes["bob.mesh"]["lastHandshake"] > 0
    assert found["mesh"]["name"] == "alice.mesh"
    text = alice.wgpy("status", alice.interface)
    assert re.search(r"^connected to gate\.mesh, certificate ends in 6 days", text, re.MULTILINE)
    assert re.search(r"^gate\.mesh\* .* direct ", text, re.MULTILINE)


def test_the_map_fills_with_what_nodes_tell(world: World) -> None:
    alice = world.nodes["alice"]
    words = ("mesh", "map", "--json", alice.interface)

    def told() -> set[tuple[str, str]]:
        alice.space.can_ping(world.nodes["bob"].v4)
        paths = json.loads(alice.wgpy(*words))["paths"]
        return {(x["from"], x["to"]) for x in paths if x["kind"] in ("direct", "relay")}

    wanted = {("alice.mesh", "bob.mesh"), ("bob.mesh", "alice.mesh"), ("alice.mesh", "gate.mesh")}
    wait_until(lambda: told() >= wanted, "nodes to tell of their paths", 90.0, every=2.0)
    text = alice.wgpy("mesh", "map", alice.interface)
    assert re.search(r"^1 alice +- +[DR]", text, re.MULTILINE)
    assert re.search(r"^3 gate\*", text, re.MULTILINE)
    # The journal says it in a sentence.
    assert re.search(r"(a direct path to bob\.mesh: |bob\.mesh is reached through)", alice.log())


def test_a_bugreport_of_a_coordinator_has_none_of_its_secrets(world: World) -> None:
    gate = world.gate
    line = gate.invite("--name", "nobody")
    text = gate.wgpy("bugreport", "-o", "-")
    directory = STATE_DIRECTORY / f"{gate.interface}.mesh"
    assert f"=== {gate.interface}: mesh status ===" in text
    assert gate.place.key().public().base64() in text
    secrets = {line[12:60], (directory / "coordinator" / "passphrase").read_text().strip()}
    secrets |= forms_of_key(bytes(gate.place.key()))
    secrets |= set((directory / "coordinator" / "tokens.key").read_text().splitlines()[1:-1])
    secrets |= set(
        (directory / "coordinator" / "issuing" / "ca.key").read_text().splitlines()[1:-1]
    )
    assert len(secrets) >= 9
    assert [x for x in secrets if x in text] == []


def test_the_authority_is_extended_and_a_copy_is_put_back(world: World, tmp_path: Path) -> None:
    gate = world.gate
    directory = STATE_DIRECTORY / f"{gate.interface}.mesh"
    issuing, root = (
        directory / "coordinator" / "issuing",
        STATE_DIRECTORY / f"{gate.interface}.root",
    )
    before = (issuing / "ca.pem").read_bytes()
    gate.wgpy(
        *("ca", "extend", str(issuing), "--parent", str(root)),
        *("--parent-passphrase-file", str(root / "passphrase")),
        *("--passphrase-file", str(directory / "coordinator" / "passphrase")),
    )
    assert (issuing / "ca.pem").read_bytes() != before
    copy = tmp_path / "copy.tar"
    gate.wgpy("mesh", "backup", str(copy), gate.interface)
    open_line = gate.invite("--name", "carol")
    # Nothing of a running coordinator is changed by mistake.
    said = gate.wgpy("mesh", "restored", gate.interface, check=False)
    assert "runs; end it first" in said

    gate.stop()
    shutil.rmtree(directory)
    with tarfile.open(copy) as tar:
        tar.extractall(STATE_DIRECTORY, filter="data")
    assert "are taken back" in gate.wgpy("mesh", "restored", gate.interface)
    gate.start()
    gate.wait("connected")
    world.nodes["alice"].wait("connected", 60.0)

    # Who joins now learns the new certificate of the authority, and speaks with those who have not.
    carol = world.node("carol")
    assert "invitation" in carol.join(open_line, code=1)
    carol.join(gate.invite("--name", "carol"))
    wait_for_ping(carol, world.nodes["alice"].v4)
    anchors = (STATE_DIRECTORY / f"{carol.interface}.mesh" / "intermediates.pem").read_bytes()
    assert anchors == (issuing / "ca.pem").read_bytes()
