"""Ways that are in use, and what befalls them: moves, reboots, sleep, dead relays, settings.

Real daemons, a real coturn, and no assertion on how long anything takes: bench/ says that.
"""

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.coturn import Coturn, Secret
from tests.support.managed import BOTH, CLOSE, OPEN, PATIENCE, Managed, managed
from tests.support.natlab import Host, Lab, Line, Nat, Router
from tests.support.natlab.station import Station
from tests.support.netns import wait_until
from tests.support.numbered import Numbered
from tests.support.programs import Implementation, new_keys
from tests.support.tunnel import transfer
from wgpy.device.paths import PathKind

pytestmark = [
    pytest.mark.root,
    pytest.mark.tool("ip"),
    pytest.mark.tool("nft"),
    pytest.mark.tool("ping"),
    pytest.mark.tool("wg"),
    pytest.mark.tool("wgpyd"),
    pytest.mark.tool("turnserver"),
    pytest.mark.usefixtures("clean_machine"),
]


@pytest.fixture
def lab() -> Iterator[Lab]:
    routers = [Router("home"), Router("office"), Router("lte", Nat.SYM)]
    hosts = [Host("alice", "home"), Host("bob", "office"), Host("server", addresses=2)]
    with Lab(routers, hosts) as made:
        yield made


@pytest.fixture
def turn(lab: Lab, tmp_path: Path) -> Iterator[Coturn]:
    server = lab.hosts["server"]
    with Coturn(server.namespace, server.addresses(), tmp_path) as made:
        yield made


def stun_of(turn: Coturn) -> list[str]:
    return [f"{address}:3478" for address in turn.addresses]


@pytest.fixture
def direct(lab: Lab, turn: Coturn, tmp_path: Path) -> Iterator[Managed]:
    """Two that have met, with STUN and without a relay."""
    with managed(lab, tmp_path, stun=stun_of(turn)) as pair:
        pair.wake()
        pair.until(PathKind.DIRECT)
        yield pair


@pytest.fixture
def relayed(lab: Lab, turn: Coturn, tmp_path: Path) -> Iterator[Managed]:
    """Two that have met, with a relay as well."""
    with managed(lab, tmp_path, stun=stun_of(turn), turn=[turn]) as pair:
        pair.wake()
        pair.until(PathKind.DIRECT)
        yield pair


# --- Moving ---


@BOTH
def test_a_laptop_goes_from_wifi_to_lte_and_back(
    lab: Lab, turn: Coturn, tmp_path: Path, datapath: Implementation
) -> None:
    with managed(lab, tmp_path, stun=stun_of(turn), turn=[turn], datapath=datapath) as pair:
        pair.wake()
        pair.until(PathKind.DIRECT)
        lab.hosts["alice"].move("lte")
        pair.wake()
        # Bob's router lets in only whom he calls, and alice's takes another port for each.
        pair.until(PathKind.RELAY)
        lab.hosts["alice"].move("home")
        pair.wake()
        pair.until(PathKind.DIRECT)


def test_a_laptop_moves_without_a_relay(lab: Lab, direct: Managed) -> None:
    # Behind the same router as the other one, and out again.
    lab.hosts["alice"].move("office")
    direct.wake()
    direct.until(PathKind.DIRECT)
    assert direct.path(direct.alice).reason == "direct, in the same network"
    lab.hosts["alice"].move("home")
    direct.wake()
    direct.until(PathKind.DIRECT)
    assert direct.path(direct.alice).reason == "direct, by IPv4"


def test_a_router_reboots(lab: Lab, direct: Managed) -> None:
    lab.routers["home"].reboot()
    direct.wake()
    direct.until(PathKind.DIRECT)
    lab.routers["home"].renumber()
    direct.wake()
    direct.until(PathKind.DIRECT)
    place = direct.path(direct.bob).place
    assert place is not None
    assert place.host == lab.routers["home"].wan_ip


def test_a_laptop_sleeps_longer_than_its_mapping_lives(lab: Lab, direct: Managed) -> None:
    for router in ("home", "office"):
        lab.routers[router].set_udp_timeouts(2, 4)
    with direct.alice.asleep():
        time.sleep(8)
    direct.wake()
    direct.until(PathKind.DIRECT)


# --- A path dies ---


def test_the_direct_path_dies_in_one_direction(lab: Lab, relayed: Managed) -> None:
    lab.routers["office"].node.nft(CLOSE)
    relayed.wake()
    relayed.until(PathKind.RELAY)
    lab.routers["office"].node.nft(OPEN)
    relayed.until(PathKind.DIRECT, timeout=120)


def test_without_a_relay_it_is_punched_again(lab: Lab, direct: Managed) -> None:
    before = direct.alice.counter("nat_paths_lost")
    lab.routers["office"].node.nft(CLOSE)
    wait_until(lambda: direct.kinds() != {PathKind.DIRECT}, "the death to be noticed", PATIENCE)
    assert not direct.answers()
    lab.routers["office"].node.nft(OPEN)
    direct.wake()
    direct.until(PathKind.DIRECT)
    assert direct.alice.counter("nat_paths_lost") + direct.bob.counter("nat_paths_lost") > before


# --- A relay dies ---


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Lab]:
    """Two that need a relay, and two relays."""
    routers = [Router("home", Nat.SYM), Router("office")]
    hosts = [Host("alice", "home"), Host("bob", "office")]
    with Lab(routers, [*hosts, Host("server", addresses=2), Host("second")]) as made:
        yield made


def test_a_relay_that_was_killed_and_comes_back(far: Lab, tmp_path: Path) -> None:
    server = far.hosts["server"]
    with (
        Coturn(server.namespace, server.addresses(), tmp_path) as turn,
        managed(far, tmp_path, stun=stun_of(turn), turn=[turn]) as pair,
    ):
        pair.wake()
        pair.until(PathKind.RELAY)
        turn.kill()
        wait_until(lambda: PathKind.RELAY not in pair.kinds(), "its death to be known", PATIENCE)
        turn.start()
        pair.wake()
        pair.until(PathKind.RELAY)


def test_of_two_relays_one_dies(far: Lab, tmp_path: Path) -> None:
    first, second = far.hosts["server"], far.hosts["second"]
    (tmp_path / "second").mkdir()
    with (
        Coturn(first.namespace, first.addresses(), tmp_path) as one,
        Coturn(second.namespace, second.addresses(), tmp_path / "second") as two,
        managed(far, tmp_path, stun=stun_of(one), turn=[one, two]) as pair,
    ):
        pair.wake()
        pair.until(PathKind.RELAY)
        wait_until(lambda: _spare(pair) >= 2, "ways by both relays", PATIENCE)
        used = pair.path(pair.alice).relay
        assert used is not None
        dead, alive = (one, two) if used.host == one.addresses[0] else (two, one)
        dead.kill()
        pair.wake()
        wait_until(lambda: _relay_of(pair) == alive.addresses[0], "the other to be used", PATIENCE)


def _relay_of(pair: Managed) -> str:
    relay = pair.path(pair.alice).relay
    return "" if relay is None else relay.host


def _spare(pair: Managed) -> int:
    """How many relays of alice's have a channel to bob."""
    return pair.alice.counter("nat_turn_allocated")


def test_credentials_of_a_secret_that_is_changed(far: Lab, tmp_path: Path) -> None:
    server = far.hosts["server"]
    with (
        Coturn(server.namespace, server.addresses(), tmp_path, secret=Secret("the first")) as turn,
        managed(far, tmp_path, stun=stun_of(turn), turn=[turn]) as pair,
    ):
        # By TCP too: coturn holds the former user's name against our UDP port for a while.
        pair.ways = ("", "?transport=tcp")
        for station in (pair.alice, pair.bob):
            pair.sync(station)
        pair.wake()
        pair.until(PathKind.RELAY)
        turn.stop()
        turn.secret = Secret("another one")
        turn.write()
        turn.start()
        # What the daemons know is no longer good; naming the same file again has it read again.
        for station in (pair.alice, pair.bob):
            pair.sync(station)
        pair.wake()
        pair.until(PathKind.RELAY)


# --- Two ways out, and what does not matter ---


def counted(pair: Managed) -> tuple[int, int, int]:
    """What a storm would make of what does not matter: signals, other paths, other networks."""
    names = ("nat_signals_sent", "nat_path_changes", "nat_network_changes")
    first, second, third = (pair.alice.counter(name) for name in names)
    return first, second, third


def at_rest(pair: Managed) -> tuple[int, int, int]:
    """The same, once nothing has changed it for four seconds: what was found out after three offers
    in a row is told when the first of them is three seconds old."""
    seen = [counted(pair)]

    def is_at_rest() -> bool:
        time.sleep(4)
        seen.append(counted(pair))
        return seen[-1] == seen[-2]

    wait_until(is_at_rest, "nothing to happen", PATIENCE)
    return seen[-1]


def test_the_default_route_moves_to_another_uplink(lab: Lab, direct: Managed) -> None:
    alice = lab.hosts["alice"]
    alice.attach("office", "wwan0", metric=100)
    direct.wake()
    # The better one goes, and comes back.
    alice.down("wlan0")
    direct.wake()
    direct.until(PathKind.DIRECT)
    assert direct.path(direct.alice).reason == "direct, in the same network"
    alice.up("wlan0")
    direct.wake()
    direct.until(PathKind.DIRECT)


def test_addresses_and_routes_that_do_not_matter_disturb_nothing(lab: Lab, direct: Managed) -> None:
    space = lab.hosts["alice"].namespace
    before = at_rest(direct)
    for number in range(5):
        space.ip("route", "add", f"10.123.{number}.0/24", "dev", space.link)
        # One that leads nowhere has an address, and one that is up has none.
        space.ip("link", "add", f"br{number}", "type", "bridge")
        space.ip("address", "add", f"10.124.{number}.1/24", "dev", f"br{number}")
        space.ip("link", "add", f"bare{number}", "up", "type", "bridge")
        space.ip("address", "add", f"10.125.{number}.1/32", "dev", "lo")
        time.sleep(0.3)
        space.ip("link", "delete", f"br{number}")
    direct.wake()
    assert counted(direct) == before


# --- Lengths ---


def mtu_of(station: Station) -> int:
    found = re.search(r"mtu (\d+)", station.host.namespace.ip("link", "show", station.name))
    assert found is not None
    return int(found[1])


@pytest.mark.tool("carrier")
@BOTH
def test_tcp_does_not_stall_where_long_packets_vanish(
    tmp_path: Path, datapath: Implementation
) -> None:
    routers = [Router("home"), Router("office"), Router("hotel", line=Line(mtu=1300))]
    hosts = [Host("alice", "home"), Host("bob", "office"), Host("server", addresses=2)]
    with Lab(routers, hosts) as lab:
        server = lab.hosts["server"]
        with (
            Coturn(server.namespace, server.addresses(), tmp_path) as turn,
            managed(lab, tmp_path, stun=stun_of(turn), datapath=datapath) as pair,
        ):
            for station in (pair.alice, pair.bob):
                # With IPv6 the link cannot have less than 1280.
                space, name = station.host.namespace, station.name
                space.ip("address", "delete", f"{station.inner6}/64", "dev", name)
            pair.wake()
            lab.hosts["alice"].move("hotel")
            alice, bob = pair.alice, pair.bob
            transfer(alice.host.namespace, bob.host.namespace, bob.inner, 5_000_000)
            transfer(bob.host.namespace, alice.host.namespace, alice.inner, 5_000_000)
            # The largest of the ladder that fits into 1,300, less IP, UDP and our own.
            assert mtu_of(alice) == mtu_of(bob) == 1280 - 28 - 32
            lab.hosts["alice"].move("home")
            pair.wake()
            wait_until(lambda: mtu_of(alice) == mtu_of(bob) == 1420, "the MTU", PATIENCE)


# --- Nothing is lost on the way ---


@pytest.mark.tool("carrier")
@BOTH
def test_from_the_relay_to_the_direct_path_nothing_is_lost(
    tmp_path: Path, datapath: Implementation
) -> None:
    line = Line(delay=0.015)
    routers = [Router("home", line=line), Router("office", line=line)]
    hosts = [Host("alice", "home"), Host("bob", "office"), Host("server", addresses=2, line=line)]
    with Lab(routers, hosts) as lab:
        for router in lab.routers.values():
            router.node.nft(CLOSE)
        server = lab.hosts["server"]
        with (
            Coturn(server.namespace, server.addresses(), tmp_path) as turn,
            managed(lab, tmp_path, stun=stun_of(turn), turn=[turn], datapath=datapath) as pair,
        ):
            pair.wake()
            pair.until(PathKind.RELAY)
            with Numbered(pair.alice, pair.bob) as numbered:
                wait_until(lambda: numbered.sent > 2000, "some packets", PATIENCE)
                for router in lab.routers.values():
                    router.node.nft(OPEN)
                pair.until(PathKind.DIRECT, timeout=120)
                after = numbered.sent
                wait_until(lambda: numbered.sent > after + 2000, "some more", PATIENCE)
            assert (numbered.lost, numbered.repeated) == (0, 0)


def test_ten_thousand_flows_see_nothing_of_path_checks(direct: Managed) -> None:
    before = direct.alice.counter("nat_probes_sent")
    with Numbered(direct.alice, direct.bob, flows=10_000) as numbered:
        wait_until(lambda: numbered.sent > 24_000, "each flow to have sent", 60)
    assert (numbered.lost, numbered.repeated) == (0, 0)
    assert direct.alice.counter("nat_probes_sent") > before
    assert direct.kinds() == {PathKind.DIRECT}


# --- Settings that change, and daemons that end ---


def test_the_same_settings_disturb_nothing(relayed: Managed) -> None:
    before = at_rest(relayed)
    allocated = relayed.alice.counter("nat_turn_allocated")
    relayed.sync(relayed.alice)
    relayed.alice.interface.wg("set", "peer", relayed.bob.keys.public, "persistent-keepalive", "25")
    relayed.wake()
    assert counted(relayed) == before
    assert relayed.alice.counter("nat_turn_allocated") == allocated


def test_port_and_key_are_changed_while_it_runs(relayed: Managed) -> None:
    alice = relayed.alice
    alice.port = 5123
    relayed.sync(alice)
    relayed.wake()
    relayed.until(PathKind.DIRECT)
    place = relayed.path(relayed.bob).place
    assert place is not None
    assert place.port == 5123
    alice.keys = new_keys()
    relayed.sync(alice)
    relayed.sync(relayed.bob)
    relayed.wake()
    relayed.until(PathKind.DIRECT)


def test_without_nat_peers_are_where_the_operator_says(lab: Lab, relayed: Managed) -> None:
    lab.routers["home"].set_nat(Nat.FULL)
    alice, bob = relayed.alice, relayed.bob
    relayed.at = {
        1: f"{lab.routers['office'].wan_ip}:{bob.port}",
        2: f"{lab.routers['home'].wan_ip}:{alice.port}",
    }
    # With `nat = true` still there, that is an ordinary peer.
    relayed.sync(alice, nat="")
    relayed.sync(bob, nat="")
    assert alice.state().nat is None
    relayed.wake()
    relayed.sync(alice)
    relayed.sync(bob)
    relayed.wake()
    relayed.until(PathKind.DIRECT)


def test_a_daemon_that_ends_gives_back_what_was_lent(turn: Coturn, relayed: Managed) -> None:
    alice = relayed.alice
    ours = re.compile(r"session \d+: delete: realm=<lab.test>, username=<alice>")
    assert ours.search(turn.log()) is None
    assert alice.process.stop() == 0
    wait_until(lambda: ours.search(turn.log()), "the allocation to be deleted")
    relayed.restart(alice)
    relayed.wake()
    relayed.until(PathKind.DIRECT)


def test_a_daemon_that_was_killed_comes_back(turn: Coturn, relayed: Managed) -> None:
    alice = relayed.alice
    alice.process.stop(signal.SIGKILL)
    relayed.restart(alice)
    relayed.wake()
    relayed.until(PathKind.DIRECT)
    # What the former life left on the same port was in the way, and is not any more.
    wait_until(lambda: alice.counter("nat_turn_allocated"), "an allocation")
    assert "437" in turn.log()


# --- Idle ---


def test_who_has_no_session_costs_nothing_and_is_woken(lab: Lab, direct: Managed) -> None:
    # The session ends on both sides, as it does after nine minutes of silence.
    bob = direct.bob
    for station in (direct.alice, bob):
        station.interface.wg("set", "peer", direct.other(station).keys.public, "remove")
        direct.sync(station)
    assert direct.kinds() == {PathKind.NONE}
    office = lab.routers["office"].wan_ip
    with lab.hosts["alice"].link.capture() as capture:
        time.sleep(15)
    to_bob = bytes(map(int, office.split(".")))
    assert not [frame for _, frame in capture.frames if to_bob in frame[26:34]]
    direct.wake()
    direct.until(PathKind.DIRECT)


# --- How long the router remembers ---


@pytest.mark.slow
def test_keepalives_follow_what_the_router_remembers(tmp_path: Path) -> None:
    # Another port for each mapping: so a server that knows nothing of ours tells a new one.
    routers = [Router("home", Nat.SYM, udp_timeouts=(5, 5)), Router("office")]
    hosts = [Host("alice", "home"), Host("bob", "office"), Host("server", addresses=2)]
    with Lab(routers, hosts) as lab:
        server = lab.hosts["server"]
        with (
            Coturn(server.namespace, server.addresses(), tmp_path) as turn,
            managed(lab, tmp_path, stun=stun_of(turn)) as pair,
        ):
            alice = pair.alice
            # After 30, 15 and 10 s of silence it was another mapping.
            wait_until(lambda: alice.counter("nat_lifetime_looks_dead") == 3, "a search", 240)
            before = alice.counter("nat_stun_rounds")
            # Every 5 s; without the measurement these took more than a minute.
            wait_until(lambda: alice.counter("nat_stun_rounds") >= before + 4, "keepalives", 50)
