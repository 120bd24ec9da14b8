"""Into a network by one line: from behind a NAT, through trouble, and with lines that are no good.

               gate, turn
                   │
  ┌───── internet ─┴────────┐
home (NAT)              office (NAT)
  │                         │
alice, carol               bob
"""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.commands import wait_until
from tests.support.natlab import Host, Nat, Router
from tests.support.node import PATIENCE, Node, files_of, wait_for_ping
from tests.support.world import World

pytestmark = [
    pytest.mark.root,
    pytest.mark.tool("wgpy", "wgpyd", "nft", "ip", "ping", "turnserver", "openssl"),
]


@pytest.fixture(scope="module")
def world(clean_machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    routers = [Router("home", Nat.PORT), Router("office", Nat.PORT)]
    hosts = [Host("alice", "home"), Host("carol", "home"), Host("bob", "office")]
    with World(routers, hosts, tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def stale(world: World) -> dict[str, Any]:
    """An invitation that is good for a minute, made when the first test begins."""
    return world.operator("invite", seconds=60)


@contextlib.contextmanager
def machine(world: World, host: str) -> Iterator[Node]:
    """A machine for one test, that has left at its end."""
    with Node(world.lab.hosts[host].namespace) as made:
        yield made


def refused(node: Node, line: str, *options: str) -> str:
    """A join that fails for good: what it said. Nothing of it stays."""
    said = node.join(line, *options, code=1)
    assert files_of(node.interface) == []
    assert not node.place.socket.exists()
    return said


def test_one_paste_one_command(world: World) -> None:
    with machine(world, "alice") as alice, machine(world, "bob") as bob:
        # On standard input, broken into lines as mail does.
        line = world.gate.invite()
        broken = "\n".join(line[start : start + 60] for start in range(0, len(line), 60))
        said = alice.wgpy(
            *("mesh", "join", "--interface", alice.interface, "--name", "alice"),
            stdin=broken + "\n",
            check=False,
        )
        assert "This machine is alice.mesh, " in said
        assert "sudo" not in said
        bob.join(world.gate.invite(), "--name", "bob")
        for one, other in ((alice, "bob"), (bob, "alice"), (alice, "gate"), (bob, "gate")):
            wait_for_ping(one, f"{other}.mesh")
        # The gate was never told where they are, and reaches them too.
        wait_for_ping(world.gate, "alice.mesh")
        assert {x["name"] for x in alice.status()["nodes"]} == {"bob.mesh", "gate.mesh"}
        # The key is here and nowhere else, and the token is gone.
        assert alice.place.membership().line is None
        assert not alice.place.token.exists()
        assert world.at_gate("alice")["key"] == alice.place.key().public().base64()


def test_a_name_of_the_invitation(world: World) -> None:
    with machine(world, "carol") as carol:
        carol.join(world.gate.invite("--name", "printer", "--groups", "servers"))
        found = carol.status()
        assert found["name"] == "printer.mesh"
        assert found["groups"] == ["servers"]


def test_nobody_answers_and_then_somebody_does(world: World) -> None:
    """A laptop whose network is away while the line is pasted."""
    host = world.lab.hosts["carol"]
    with machine(world, "carol") as carol:
        host.cut()
        try:
            said = carol.join(world.gate.invite(), "--name", "late", "--wait", "6", code=1)
            assert "it goes on in the background" in said
        finally:
            host.heal()
        carol.wait("connected", 90.0)
        assert carol.status()["name"] == "late.mesh"


def test_an_agent_that_is_killed_half_way(world: World) -> None:
    """The coordinator has recorded it, and the answer is lost: the same key gets the same again."""
    host = world.lab.hosts["carol"]
    with machine(world, "carol") as carol:
        joining = carol.joining(world.gate.invite(), "--name", "twice")
        wait_until(lambda: is_known(world, "twice"), "the coordinator to have it", PATIENCE, 0.005)
        host.cut()
        joining.stop()
        carol.crash()
        host.heal()
        carol.start()
        carol.wait("connected", 60.0)
        assert carol.status()["name"] == "twice.mesh"
        assert world.at_gate("twice")["key"] == carol.place.key().public().base64()


def is_known(world: World, name: str) -> bool:
    return any(x["name"] == f"{name}.mesh" for x in world.operator("nodes")["nodes"])


def test_a_line_is_used_once(world: World) -> None:
    line = world.gate.invite()
    with machine(world, "alice") as alice, machine(world, "bob") as bob:
        alice.join(line, "--name", "first")
        said = refused(bob, line, "--name", "second")
        assert "used" in said or "spent" in said
        assert not is_known(world, "second")
        # It is no matter for the first.
        wait_for_ping(alice, "gate.mesh")


def test_a_line_for_two_is_used_twice(world: World) -> None:
    line = world.gate.invite("--uses", "2")
    with machine(world, "alice") as alice, machine(world, "bob") as bob:
        alice.join(line, "--name", "one")
        bob.join(line, "--name", "two")
        wait_for_ping(alice, "two.mesh")


def test_a_line_that_was_taken_back(world: World) -> None:
    made = world.operator("invite")
    world.operator("revoke-invite", jti=made["jti"])
    with machine(world, "carol") as carol:
        said = refused(carol, made["line"])
        assert "taken back" in said or "revoked" in said


def test_a_name_that_another_has(world: World) -> None:
    with machine(world, "carol") as carol:
        said = refused(carol, world.gate.invite(), "--name", "gate")
        assert "gate" in said
        # With another name the next line works.
        carol.join(world.gate.invite(), "--name", "other")


@pytest.mark.parametrize("line", ["", "hello", "wgpy-join:AAAA", "wgpy1:abc"])
def test_what_is_no_line_changes_nothing(world: World, line: str) -> None:
    with machine(world, "carol") as carol:
        said = carol.wgpy(
            *("mesh", "join", "--interface", carol.interface), stdin=line, check=False
        )
        assert said.startswith("wgpy: ")
        assert said.count("\n") == 1
        assert files_of(carol.interface) == []


def test_an_operator_has_to_approve(world: World) -> None:
    world.operator("settings", set={"approval": True})
    try:
        with machine(world, "carol") as carol:
            said = carol.join(world.gate.invite(), "--name", "guest", code=2)
            assert "approve" in said
            assert not carol.can_ping(world.gate.v4, 1)
            assert carol.status()["state"] == "pending"
            world.operator("approve", name="guest")
            carol.wait("connected", 60.0)
            wait_for_ping(carol, "gate.mesh")
    finally:
        world.operator("settings", set={"approval": False})


def test_who_leaves_is_gone(world: World) -> None:
    with machine(world, "alice") as alice, machine(world, "bob") as bob:
        alice.join(world.gate.invite(), "--name", "leaver")
        bob.join(world.gate.invite(), "--name", "stayer")
        wait_for_ping(bob, "leaver.mesh")
        key, address = alice.place.key().public(), alice.v4
        said = alice.wgpy("mesh", "leave", alice.interface, check=False)
        assert "is no node of mesh any more; its certificate is revoked" in said
        assert files_of(alice.interface) == []
        assert world.at_gate("leaver")["state"] == "removed"
        wait_until(lambda: not bob.knows("leaver"), "bob to hear of it")
        wait_until(
            lambda: all(x.public_key != key for x in bob.daemon().peers), "its peer to be gone"
        )
        assert not bob.can_ping(address, 1)
        # And it may come again, as somebody new.
        alice.join(world.gate.invite(), "--name", "returned")
        assert alice.place.key().public() != key


def test_who_leaves_alone_has_to_say_so(world: World) -> None:
    with machine(world, "carol") as carol:
        carol.join(world.gate.invite(), "--name", "island")
        world.gate.stop()
        try:
            carol.wait("alone", 60.0)
            said = carol.wgpy("mesh", "leave", carol.interface, check=False)
            assert "--force" in said
            assert carol.place.exists()
            carol.wgpy("mesh", "leave", "--force", carol.interface)
            assert files_of(carol.interface) == []
        finally:
            world.gate.start()
            world.gate.wait("connected")


def test_one_interface_is_one_node(world: World) -> None:
    with machine(world, "carol") as carol:
        carol.join(world.gate.invite(), "--name", "single")
        said = carol.wgpy(
            *("mesh", "join", "--interface", carol.interface),
            stdin=world.gate.invite(),
            check=False,
        )
        assert "is single.mesh already" in said
        said = carol.wgpy("mesh", "run", carol.interface, check=False)
        assert "another agent keeps this interface" in said
        # Nor is one network two interfaces.
        with machine(world, "carol") as again:
            said = refused(again, world.gate.invite())
            assert f"in that network already, by {carol.interface}" in said


@pytest.mark.slow
def test_a_line_that_has_expired(world: World, stale: dict[str, Any]) -> None:
    """The last test: a line is good for a minute at the least."""
    wait_until(lambda: time.time() > stale["expires"] + 1, "its end", 90.0)
    with machine(world, "carol") as carol:
        assert "expired" in refused(carol, stale["line"])
