"""A node over time: coordinators and daemons that end, certificates that do, rights that change.

            gate, turn
                │
  ┌─ internet ──┴───┬─────────┐
home (NAT)          │         │
  │               bob       dave          (nothing before them)
alice
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import wait_until
from tests.support.natlab import Host, Nat, Router
from tests.support.node import PATIENCE, Node, wait_for_ping
from tests.support.world import World
from wgpy.identity.certificate import read_leaf
from wgpy.mesh.settings import LEAST_VALIDITY

pytestmark = [
    pytest.mark.root,
    pytest.mark.tool("wgpy", "wgpyd", "nft", "ip", "ping", "turnserver", "openssl"),
]


@pytest.fixture(scope="module")
def world(clean_machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    hosts = [Host("alice", "home"), Host("bob"), Host("dave")]
    place = tmp_path_factory.mktemp("world")
    with World([Router("home", Nat.PORT)], hosts, place, names=True) as made:
        for name in ("alice", "bob"):
            restart(made.join(name))
        yield made


@pytest.fixture
def alice(world: World) -> Node:
    return world.nodes["alice"]


@pytest.fixture
def bob(world: World) -> Node:
    return world.nodes["bob"]


def restart(node: Node) -> None:
    """In a process of ours, that can be killed."""
    node.stop()
    node.start()
    node.wait("connected", 60.0)


def leaf(node: Node) -> Any:
    """What its certificate says."""
    return read_leaf(node.place.papers()[0])


def daemon_pid(node: Node) -> int:
    """The process of its daemon."""
    for pid in node.space.pids():
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if any(word.endswith(b"wgpyd") for word in words) and node.interface.encode() in words:
            return pid
    raise AssertionError(f"{node.interface} has no daemon")


def test_without_coordinators_everything_goes_on(world: World, alice: Node, bob: Node) -> None:
    """Also after a restart, of both: from what was last known."""
    wait_for_ping(bob, "alice.mesh")
    # The first way that is found is by the port that he keeps; a later one may be by another.
    wait_until(lambda: remembers(alice, bob), "alice to remember where bob is", 60.0)
    world.gate.stop()
    try:
        for node in (alice, bob):
            node.wait("alone", 60.0)
        assert alice.can_ping("bob.mesh", 5)
        for node in (alice, bob):
            node.stop()
            node.start()
        # bob cannot know by which port alice's router lets it in now; alice knows where bob was.
        wait_for_ping(alice, "bob.mesh", 60.0)
        assert bob.can_ping("alice.mesh", 5)
        assert {x["name"] for x in alice.status()["nodes"]} == {"bob.mesh", "gate.mesh"}
        assert alice.status()["state"] == "alone"
    finally:
        world.gate.start()
        world.gate.wait("connected", 60.0)
    for node in (alice, bob):
        node.wait("connected", 150.0)


def remembers(node: Node, other: Node) -> bool:
    """Whether it has put down the port that the other one keeps over a restart."""
    place = node.place.places().get(other.place.key().public())
    return place is not None and place.port == other.daemon().listen_port


def test_a_coordinator_whose_name_cannot_be_looked_up_is_where_it_was(
    world: World, alice: Node
) -> None:
    """Also after a restart: behind an exit that is closed there is no resolver."""
    gate = world.gate.place.key().public()
    wait_until(lambda: gate in alice.place.places(), "alice to remember where gate is", 60.0)
    alice.stop()
    alice.resolve({})
    try:
        alice.start()
        alice.wait("connected", 60.0)
        assert any("gate.example" in x for x in alice.status()["remarks"])
    finally:
        alice.stop()
        alice.resolve(world.names)
        alice.start()
        alice.wait("connected", 60.0)


def test_a_daemon_that_dies_is_started_again(alice: Node) -> None:
    wait_for_ping(alice, "bob.mesh")
    os.kill(daemon_pid(alice), signal.SIGKILL)
    wait_until(lambda: "had ended, and was started again" in alice.log(), "a new one", PATIENCE)
    alice.wait("connected", 60.0)
    wait_for_ping(alice, "bob.mesh", 60.0)


def test_an_agent_that_dies_takes_nothing_with_it(alice: Node, bob: Node) -> None:
    wait_for_ping(alice, "bob.mesh")
    pid = daemon_pid(alice)
    alice.kill()
    for _ in range(5):
        assert alice.can_ping(bob.v4, 5)
    alice.start()
    alice.wait("connected", 60.0)
    assert daemon_pid(alice) == pid
    assert alice.can_ping("bob.mesh", 5)


def test_a_link_that_somebody_deletes_is_back(alice: Node) -> None:
    alice.space.ip("link", "delete", alice.interface)
    wait_for_ping(alice, "bob.mesh", 60.0)


def test_an_address_that_somebody_takes_is_back(alice: Node, world: World) -> None:
    """Whatever is changed by hand is as it was with the next thing that happens."""
    alice.space.ip("address", "delete", f"{alice.v4}/32", "dev", alice.interface)
    world.operator("rights", name="bob", groups=["laptops"])

    def is_back() -> bool:
        return alice.v4 in alice.space.ip("address", "show", "dev", alice.interface)

    # What was said while the link was away TCP says again later, up to half a minute apart.
    wait_until(is_back, "the address", 60.0)
    wait_for_ping(alice, "bob.mesh")


def test_rights_come_into_the_certificate_at_once(world: World, bob: Node, alice: Node) -> None:
    before = leaf(bob).rights.generation
    world.operator("rights", name="bob", groups=["phones", "servers"])
    wait_until(lambda: set(leaf(bob).rights.groups) == {"phones", "servers"}, "the groups")
    assert leaf(bob).rights.generation > before
    wait_until(lambda: bob.status()["groups"] == ["phones", "servers"], "its own word")
    wait_until(partial(knows_groups, alice, "bob", ["phones", "servers"]), "alice to know", 60.0)
    wait_for_ping(alice, "bob.mesh")


def knows_groups(node: Node, name: str, groups: list[str]) -> bool:
    found = [x["groups"] for x in node.status()["nodes"] if x["name"] == f"{name}.mesh"]
    return found == [groups]


def test_a_new_node_is_known_and_a_removed_one_is_not(world: World, alice: Node) -> None:
    dave = world.join("dave")
    wait_until(lambda: alice.knows("dave"), "alice to know dave")
    wait_for_ping(alice, "dave.mesh")
    address = dave.v4
    began = time.monotonic()
    world.operator("remove", name="dave")
    wait_until(lambda: alice.lacks_peer(dave), "alice to drop dave")
    print(f"cut off after {time.monotonic() - began:.2f} s")
    assert not alice.can_ping(address, 1)
    assert not dave.can_ping(alice.v4, 1)
    found = dave.wait("removed", 60.0)
    assert "removed" in found["reason"]
    # No tunnel is kept by who is in no network.
    wait_until(lambda: dave.daemon().listen_port == 0, "its daemon to end")


@pytest.mark.slow
def test_a_certificate_is_renewed_before_it_ends(world: World, alice: Node, bob: Node) -> None:
    """A minute's life: it is renewed after 37 to 40 s, and packets never wait for it."""
    wait_for_ping(alice, "bob.mesh", 60.0)
    world.operator("settings", set={"validity": LEAST_VALIDITY})
    try:
        world.operator("rights", name="alice", groups=["laptops"])
        wait_until(lambda: leaf(alice).not_after < time.time() + 2 * LEAST_VALIDITY, "a short one")
        first = leaf(alice)
        wait_until(lambda: leaf(alice).not_after > first.not_after, "the next", 90.0)
        assert time.time() < first.not_after
        assert leaf(alice).rights.generation > first.rights.generation
        assert leaf(alice).key == first.key
        wait_for_ping(alice, "bob.mesh")
        # Past the first one's end: whoever has it now is let in by the second.
        wait_until(lambda: time.time() > first.not_after + 1, "the end of the first", 60.0)
        assert bob.can_ping("alice.mesh", 5)
    finally:
        world.operator("settings", set={"validity": 7 * 86_400})
        world.operator("rights", name="alice", groups=[])
        wait_until(lambda: leaf(alice).not_after > time.time() + 86_400, "a long one", 60.0)


def test_a_full_disk_loses_nothing(world: World, alice: Node) -> None:
    """What is told goes on to be in force, and comes to the disk when there is room."""
    alice.stop()
    with small_disk(alice) as disk:
        alice.start()
        alice.wait("connected", 60.0)
        wait_for_ping(alice, "bob.mesh", 60.0)
        filler = disk / "filler"
        fill(filler)
        eve = world.join("dave", "--name", "eve")
        wait_until(lambda: alice.knows("eve"), "alice to know eve")
        wait_for_ping(alice, "eve.mesh")
        world.operator("remove", name="eve")
        wait_until(lambda: alice.lacks_peer(eve), "alice to drop eve")
        assert "cannot be kept" in alice.log()
        filler.unlink()
        wait_until(lambda: denies(alice, eve), "the list to be on the disk")
        assert alice.status()["state"] == "connected"
        alice.stop()
    alice.start()
    alice.wait("connected", 60.0)


@contextlib.contextmanager
def small_disk(node: Node) -> Iterator[Path]:
    """A node's files on a disk of a megabyte. Its agent must be started within the block."""
    place = node.place.directory
    kept = place.with_name(f"{place.name}.kept")
    shutil.copytree(place, kept)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", place], check=True)
    try:
        shutil.copytree(kept, place, dirs_exist_ok=True)
        yield place
        shutil.copytree(place, kept, dirs_exist_ok=True)
    finally:
        subprocess.run(["umount", place], check=True)
        shutil.copytree(kept, place, dirs_exist_ok=True)
        shutil.rmtree(kept)


def fill(path: Path) -> None:
    """Leave no room on the disk that a path is on."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def denies(node: Node, other: Node) -> bool:
    """Whether a list on its disk names the key of another."""
    key = other.place.key().public()
    return any(bytes(key) in der for der in node.place.lists().values())
