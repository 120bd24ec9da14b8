"""Eight nodes behind different NATs, two coordinators on one PostgreSQL, coturn: all is real.

      gate ── PostgreSQL ── warden          turn (STUN, TURN)
        └──────────── internet ──────────────┘
      full   addr   port   sym   symaddr   blocked   open   hairpin      a router each
        │      │      │     │       │         │       │        │
       n1     n2     n3    n4      n5        n6      n7       n8

The coordinators are reached at port 53 as well, which is all that n6's router lets through; its
packets to others go by the relay, over TCP.

The tests are one story, in the order in which they stand: everybody reaches everybody by name; a
coordinator is killed, and all goes on; a laptop is stolen; a router is exchanged for another; the
network falls in two, and heals.
"""

import contextlib
import itertools
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.commands import wait_until
from tests.support.natlab import Host, Nat, Router
from tests.support.node import Node, wait_for_ping
from tests.support.postgres import Postgres
from tests.support.world import World
from wgpy.device.paths import PathKind
from wgpy.mesh import ask
from wgpy.mesh.ask import AskError

pytestmark = [
    pytest.mark.root,
    pytest.mark.tool(*("wgpy", "wgpyd", "nft", "ip", "ping", "turnserver", "openssl", "pg_ctl")),
]

KINDS = (
    *(Nat.FULL, Nat.ADDR, Nat.PORT, Nat.SYM),
    *(Nat.SYMADDR, Nat.BLOCKED, Nat.OPEN, Nat.HAIRPIN),
)
NAMES = tuple(f"n{number}" for number in range(1, len(KINDS) + 1))
# A way by a relay is there in a second; two processors have 20 daemons and agents to run.
PATIENCE = 60.0
THIEF, MOVED, PARTED = "n3", "n2", "n7"


@pytest.fixture(scope="module")
def world(
    clean_machine: None, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    routers = [Router(f"r{name}", kind) for name, kind in zip(NAMES, KINDS, strict=True)]
    hosts = [Host(name, f"r{name}") for name in NAMES]
    directory = tmp_path_factory.mktemp("world")
    with (
        postgres.database() as url,
        World(
            routers,
            [Host("warden"), *hosts],
            directory,
            options=("--store", url),
            # Some networks let no UDP out but to where names are asked for.
            ports=(51820, 53),
        ) as made,
    ):
        coordinate(made, made.join("warden"), url, directory)
        for name in NAMES:
            made.join(name)
        yield made


def coordinate(world: World, warden: Node, url: str, directory: Path) -> None:
    """Make a node the second coordinator, on the same database."""
    copy = directory / "coordinator"
    shutil.copytree(world.gate.place.directory / "coordinator", copy)
    words = ["mesh", "coordinate", "--from", str(copy), "--store", url]
    for endpoint in world.endpoints("warden"):
        words += ["--endpoint", endpoint]
    warden.wgpy(*words, warden.interface)
    warden.stop()
    warden.start()
    warden.wait("connected")


def nodes(world: World, *without: str) -> dict[str, Node]:
    return {name: world.nodes[name] for name in NAMES if name not in without}


def everybody_reaches_everybody(world: World, *without: str) -> None:
    """Every directed pair answers a ping by name."""
    there = nodes(world, *without)
    failed = []
    for one, other in itertools.permutations(there, 2):
        try:
            wait_for_ping(there[one], f"{other}.mesh", PATIENCE)
        except AssertionError:
            failed.append((one, other, path(there[one], there[other])))
    assert failed == []


def path(one: Node, other: Node) -> str:
    """The way from one to another, as its daemon has it."""
    key = other.place.key().public()
    found = next((x for x in one.daemon().peers if x.public_key == key), None)
    if found is None:
        return "no peer"
    return "no way" if found.path is None else f"{found.path.kind.value} {found.path.reason}"


def test_all_pairs_ping_by_name(world: World) -> None:
    for name in NAMES:
        wait_until(partial(knows_all, world.nodes[name]), f"{name} to know everybody", PATIENCE)
    assert len(list(itertools.permutations(NAMES, 2))) == 56
    everybody_reaches_everybody(world)


def knows_all(node: Node) -> bool:
    """The others, and two coordinators."""
    return len(node.status()["nodes"]) == len(NAMES) + 1


def test_a_way_is_direct_where_the_routers_allow_it(world: World) -> None:
    """By a relay at first, and then no more: but never where no UDP passes."""
    there = nodes(world)
    for one, other in (("n1", "n2"), ("n2", "n3"), ("n3", "n8"), ("n7", "n3")):
        what = f"{one} to reach {other} directly"
        wait_until(partial(is_direct, there[one], there[other]), what, PATIENCE)
    assert not any(is_direct(there["n6"], x) for name, x in there.items() if name != "n6")


def is_direct(one: Node, other: Node) -> bool:
    one.can_ping(other.v4, 1)
    key = other.place.key().public()
    return any(
        x.public_key == key and x.path is not None and x.path.kind is PathKind.DIRECT
        for x in one.daemon().peers
    )


def test_a_coordinator_is_killed_and_all_goes_on(world: World) -> None:
    """Whoever was connected to it turns to the other; joins and renewals go on there."""
    world.gate.crash()
    everybody_is_connected(world)
    everybody_reaches_everybody(world)
    line = world.nodes["warden"].invite()
    with Node(world.lab.hosts["turn"].namespace) as late:
        late.join(line, "--name", "late")
        wait_for_ping(late, "n1.mesh", PATIENCE)
        wait_for_ping(world.nodes["n4"], "late.mesh", PATIENCE)
    world.gate.start()
    world.gate.wait("connected", PATIENCE)
    everybody_is_connected(world)


def everybody_is_connected(world: World, *without: str) -> None:
    """As the coordinators say: a node may not have heard yet that nobody is there."""
    wanted = {f"{name}.mesh" for name in nodes(world, *without)}
    wait_until(lambda: wanted <= connected(world), "everybody to be connected", 150.0, 0.2)
    for node in nodes(world, *without).values():
        node.wait("connected", 150.0)


def connected(world: World) -> set[str]:
    """Who is connected to one of the coordinators that run."""
    found = set()
    for name in ("gate", "warden"):
        with contextlib.suppress(AskError):  # it was killed
            listed = ask.ask_operator(world.nodes[name].interface, {"ask": "nodes"})["nodes"]
            found |= {x["name"] for x in listed if x["connected"]}
    return found


def test_a_stolen_laptop_is_cut_off(world: World) -> None:
    thief = world.nodes[THIEF]
    address = thief.v4
    others = nodes(world, THIEF)
    for node in others.values():
        wait_for_ping(node, f"{THIEF}.mesh", PATIENCE)
    began = time.monotonic()
    warden = world.nodes["warden"]
    warden.wgpy("mesh", "remove", THIEF, "--interface", warden.interface)
    for name, node in others.items():
        wait_until(partial(node.lacks_peer, thief), f"{name} to drop it")
    print(f"cut off everywhere after {time.monotonic() - began:.2f} s, the command included")
    for node in others.values():
        assert not node.can_ping(address, 1)
    # It knows where everybody is, and is let in nowhere.
    for node in others.values():
        assert not thief.can_ping(node.v4, 1)
    thief.wait("removed", PATIENCE)


def test_a_router_is_changed_for_another(world: World) -> None:
    """Another address, another kind of NAT, and no memory: as at home in the evening."""
    world.lab.hosts[MOVED].move("rn5")
    everybody_is_connected(world, THIEF)
    there = nodes(world, THIEF)
    for name in there:
        if name != MOVED:
            wait_for_ping(there[MOVED], f"{name}.mesh", PATIENCE)
            wait_for_ping(there[name], f"{MOVED}.mesh", PATIENCE)


def test_the_network_falls_in_two_and_heals(world: World) -> None:
    """One node hears nothing of anybody for longer than a session lives; then it does again."""
    parted = world.lab.hosts[PARTED]
    there = nodes(world, THIEF)
    parted.cut()
    wait_until(lambda: not there[PARTED].can_ping(there["n1"].v4, 1), "the cut")
    there[PARTED].wait("alone", 200.0)
    # What happens meanwhile it hears of later.
    world.operator("rights", name="n1", groups=["servers"])
    parted.heal()
    there[PARTED].wait("connected", 150.0)
    everybody_reaches_everybody(world, THIEF)
    wait_until(
        lambda: groups(there[PARTED], "n1") == ["servers"], "the news to come through", PATIENCE
    )


def groups(node: Node, name: str) -> list[str]:
    found: list[str] = next(
        x["groups"] for x in node.status()["nodes"] if x["name"] == f"{name}.mesh"
    )
    return found
