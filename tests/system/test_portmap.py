"""Port mapping by a real miniupnpd: the rule in the router, a datagram from outside, the end."""

import asyncio
import json
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from tests.support.natlab import Host, Lab, Nat, Router
from tests.support.netns import wait_until
from tests.support.requirements import program
from tests.support.upnp_router import (
    EXTERNAL,
    HOST,
    HOST_V6,
    ROUTER,
    SECOND_HOST,
    WAN,
    Home,
    Miniupnpd,
)
from wgpy.linux.timerfd import boottime
from wgpy.nat.mapping import ANNOUNCE_PORT, SERVER_PORT, Changed, Mapping, Service
from wgpy.nat.place import Place, Send
from wgpy.nat.portmap import BETWEEN_ALARMS, PortMap, State
from wgpy.nat.portmap_look import Network
from wgpy.nat.portmap_probe import probe
from wgpy.nat.portmap_run import PortMapper
from wgpy.nat.portmap_wire import Wire

pytestmark = [pytest.mark.root, pytest.mark.tool("miniupnpd", "nft", "ip")]

SECRET = bytes(range(32))
# For a process for UPnP on a machine with much else to do.
PATIENCE = 30.0

PLAIN = {"WG_COLOR_MODE": "never"}

Result = TypeVar("Result")


@pytest.fixture
def home(clean_machine: None) -> Iterator[Home]:
    with Home() as made:
        yield made


class Kept:
    """A PortMapper on the host, and what it has told of IPv4."""

    def __init__(self, port: int, **options: Any) -> None:
        self.told: list[Place | None] = []
        self.mapper = PortMapper(self._changed, secret=SECRET, **options)
        self.mapper.set_port(port)

    def _changed(self, change: Changed) -> None:
        now = self.v4.external if self.v4 else None
        # IPv6 changes too.
        if now != (self.told[-1] if self.told else None):
            self.told.append(now)

    @property
    def v4(self) -> Mapping | None:
        return next((m for m in self.mapper.mappings if not m.external.is_v6), None)

    @property
    def v6(self) -> Mapping | None:
        return next((m for m in self.mapper.mappings if m.external.is_v6), None)

    async def until(self, done: Callable[[], object], what: str) -> None:
        for _ in range(int(PATIENCE / 0.02)):
            if done():
                return
            await asyncio.sleep(0.02)
        known = (self.mapper.reason, self.told, dict(self.mapper.counters))
        raise AssertionError(f"waited in vain for {what}: {known}")

    async def mapped(self) -> Place:
        await self.until(lambda: self.v4, "a mapping")
        assert self.v4 is not None
        return self.v4.external


@asynccontextmanager
async def keeping(port: int, **options: Any) -> AsyncIterator[Kept]:
    kept = Kept(port, **options)
    try:
        yield kept
    finally:
        await kept.mapper.close(PATIENCE)


def on_host(home: Home, life: Callable[[], Awaitable[Result]]) -> Result:
    """Run a coroutine in a thread that is in the host's namespace."""

    async def run() -> Result:
        return await life()

    return home.host.inside(lambda: asyncio.run(run()))


def start(home: Home, service: Service, **options: str) -> None:
    """A router that has this service, and none that would be taken before it."""
    if service is Service.NAT_PMP:
        home.hide_pcp()
    home.daemon.start(udp=service is not Service.UPNP, upnp=service is Service.UPNP, **options)


EACH = pytest.mark.parametrize("service", list(Service), ids=lambda service: service.value)


@EACH
def test_map_reach_release(home: Home, service: Service) -> None:
    start(home, service)
    with home.listen() as listening:
        port = listening.getsockname()[1]
        assert not home.reaches(Place(EXTERNAL, port), listening), "nothing is open before"

        async def life() -> None:
            async with keeping(port) as kept:
                external = await kept.mapped()
                assert kept.v4 is not None
                assert kept.v4.service is service
                assert kept.v4.gateway == ROUTER
                assert kept.v4.expires is not None
                assert 3_600 < kept.v4.expires - boottime() <= 7_200
                assert external == Place(EXTERNAL, port)
                assert home.daemon.forwards() == {port: (HOST, port)}
                assert home.reaches(external, listening)
            assert kept.told == [external, None]

        on_host(home, life)
        assert home.daemon.forwards() == {}
        assert not home.reaches(Place(EXTERNAL, port), listening)


def test_ipv6_is_opened_by_pcp(home: Home) -> None:
    home.daemon.start()
    with home.listen(HOST_V6) as listening:
        port = listening.getsockname()[1]
        external = Place(HOST_V6, port)
        assert not home.reaches(external, listening), "a firewall stands before it"

        async def life() -> None:
            async with keeping(port) as kept:
                await kept.until(lambda: kept.v6, "an open port")
                assert kept.v6 is not None
                assert kept.v6.external == external
                assert kept.v6.gateway == home.router_link_local
                assert home.daemon.opened() == {(HOST_V6, port)}
                assert home.reaches(external, listening)

        on_host(home, life)
        assert home.daemon.opened() == set()
        assert not home.reaches(external, listening)


@pytest.mark.parametrize("service", [Service.PCP, Service.NAT_PMP], ids=lambda x: x.value)
def test_a_renewal_at_half_of_the_lifetime_keeps_the_rule(home: Home, service: Service) -> None:
    """The core, with sockets, and a clock that jumps."""
    start(home, service)
    jumped = 0.0

    async def life() -> None:
        nonlocal jumped
        core = PortMap(lambda length: bytes(length), SECRET, upnp_refusal="not wanted")

        def now() -> float:
            return boottime() + jumped

        def received(data: bytes, source: Place) -> None:
            core.receive(data, source, now())

        wire = Wire(Network(ROUTER, HOST), 0, received)

        async def until(done: Callable[[], object]) -> None:
            for _ in range(int(PATIENCE / 0.02)):
                due = core.due()
                if due is not None and due <= now():
                    core.tick(now())
                for item in core.take():
                    if isinstance(item, Send):
                        wire.send(item)
                await asyncio.sleep(0.02)
                if done():
                    return
            raise AssertionError(f"waited in vain: {core.reason}")

        core.set(Network(ROUTER, HOST), 41_000, now())
        await until(lambda: core.mapping)
        for _ in range(3):
            before = core.mapping
            assert before is not None
            assert before.expires is not None
            jumped += 3_601
            await until(lambda held=before: core.mapping != held)
            assert core.mapping is not None
            assert core.mapping.external == before.external
            assert core.mapping.expires is not None
            assert core.mapping.expires > before.expires + 3_000
            assert core.state is State.HELD
            assert home.daemon.forwards() == {41_000: (HOST, 41_000)}
        assert core.counters["granted"] == 4
        core.release(now())
        await until(lambda: core.ended)
        assert home.daemon.forwards() == {}
        wire.close()

    on_host(home, life)


@pytest.mark.parametrize("service", [Service.PCP, Service.NAT_PMP], ids=lambda x: x.value)
def test_a_restart_is_heard_and_the_rule_comes_back(home: Home, service: Service) -> None:
    start(home, service)

    async def life() -> None:
        async with keeping(41_000) as kept:
            external = await kept.mapped()
            # What its first start announced is over, and the epoch has had time to pass: the
            # restart of a router that had just begun cannot be told for long (RFC 6886, 3.6).
            await asyncio.sleep(BETWEEN_ALARMS + 2)
            await asyncio.to_thread(home.daemon.reboot)
            assert home.daemon.forwards() == {}
            await kept.until(home.daemon.forwards, "the rule to come back")
            assert home.daemon.forwards() == {41_000: (HOST, 41_000)}
            await kept.until(lambda: kept.mapper.counters["granted"] >= 2, "the answer")
            assert kept.told == [external]
            assert kept.mapper.counters["announced"] >= 1
            assert kept.mapper.counters["lost"] >= 1

    on_host(home, life)


def test_a_restart_is_found_by_upnp_when_it_looks(home: Home) -> None:
    start(home, Service.UPNP)

    async def life() -> None:
        async with keeping(41_000) as kept:
            external = await kept.mapped()
            await asyncio.to_thread(home.daemon.reboot)
            kept.mapper.network_changed()
            await kept.until(home.daemon.forwards, "the rule to come back")
            await kept.until(lambda: kept.mapper.counters["granted"] >= 2, "the answer")
            assert kept.told == [external]

    on_host(home, life)


def test_a_new_external_address_is_told(home: Home) -> None:
    home.daemon.start()

    async def life() -> None:
        async with keeping(41_000) as kept:
            await kept.mapped()
            await asyncio.sleep(3)
            home.router.ip("address", "del", f"{EXTERNAL}/24", "dev", WAN)
            home.router.ip("address", "add", "11.77.0.9/24", "dev", WAN)
            await asyncio.to_thread(home.daemon.reboot)
            new = Place("11.77.0.9", 41_000)
            await kept.until(lambda: kept.v4 and kept.v4.external == new, "the new address")
            assert kept.told == [Place(EXTERNAL, 41_000), new]

    on_host(home, life)


def take_by_natpmp(home: Home, address: str, port: int) -> None:
    """Another machine of the home has this external port."""
    with home.listen(address) as asking:
        asking.connect((ROUTER, SERVER_PORT))
        asking.send(struct.pack("!BBHHHI", 0, 1, 0, port, port, 3_600))
        _, _, result, _, inner, outer, _ = struct.unpack("!BBHIHHI", asking.recv(100))
        assert (result, inner, outer) == (0, port, port)


@EACH
def test_a_port_of_another_machine_is_left_to_it(home: Home, service: Service) -> None:
    start(home, service)
    if service is Service.UPNP:
        home.daemon.reboot(enable_natpmp="yes")
    take_by_natpmp(home, SECOND_HOST, 41_000)
    if service is Service.UPNP:
        # Only now has the router no other service.
        rule = f"iifname lan0 ip saddr {HOST} udp dport 5351 drop"
        home.router.run("nft", "add", "rule", "inet", "home", "c_in", *rule.split())
    with home.listen(HOST, 41_000) as listening:

        async def life() -> None:
            async with keeping(41_000) as kept:
                external = await kept.mapped()
                assert kept.v4 is not None
                assert kept.v4.service is service
                assert external.port != 41_000
                assert home.daemon.forwards() == {
                    41_000: (SECOND_HOST, 41_000),
                    external.port: (HOST, 41_000),
                }
                assert home.reaches(external, listening)

        on_host(home, life)
    assert home.daemon.forwards() == {41_000: (SECOND_HOST, 41_000)}


def test_by_upnp_a_port_of_another_program_here_is_left_to_it(home: Home) -> None:
    """A router writes over a mapping of the same machine if it is asked to."""
    start(home, Service.UPNP)

    async def life() -> None:
        async with keeping(41_000) as other:
            await other.mapped()
            async with keeping(41_001, random=lambda length: bytes(length - 1) + b"\x05") as kept:
                external = await kept.mapped()
                assert external.port == 41_001
                kept.mapper.set_port(41_002)
                await kept.until(lambda: kept.v4 and kept.v4.external.port == 41_002, "the next")
                assert set(home.daemon.forwards()) == {41_000, 41_002}
            assert set(home.daemon.forwards()) == {41_000}

    on_host(home, life)


def test_a_router_that_forbids_it_is_heard_and_left_alone(home: Home) -> None:
    home.daemon.start(udp=False, permissions=(f"allow 1024-65535 {SECOND_HOST}/32 1024-65535",))

    async def life() -> None:
        async with keeping(41_000) as kept:
            await kept.until(lambda: kept.mapper.counters["refused"], "a refusal")
            assert kept.mapper.reason == "UPnP: Action not authorized"
            assert kept.told == []

    on_host(home, life)
    assert home.daemon.forwards() == {}


def test_a_router_without_a_public_address_forwards_nothing(home: Home) -> None:
    home.router.ip("address", "add", "192.168.9.1/24", "dev", WAN)
    home.router.ip("address", "del", f"{EXTERNAL}/24", "dev", WAN)
    home.daemon.start()

    async def life() -> None:
        async with keeping(41_000) as kept:
            await kept.until(lambda: "UPnP" in kept.mapper.reason, "the last of the three")
            assert kept.v4 is None
            assert kept.told == []

    on_host(home, life)
    assert home.daemon.forwards() == {}


def test_the_port_and_the_network_change(home: Home) -> None:
    home.daemon.start()

    async def life() -> None:
        async with keeping(41_000) as kept:
            await kept.mapped()
            kept.mapper.set_port(41_001)
            await kept.until(lambda: kept.v4 and kept.v4.external.port == 41_001, "the new port")
            await kept.until(lambda: set(home.daemon.forwards()) == {41_001}, "the old one's end")
            home.host.ip("route", "del", "default")
            kept.mapper.network_changed()
            assert kept.v4 is None
            assert kept.mapper.reason == "there is no router"
            home.host.ip("route", "add", "default", "via", ROUTER, "src", SECOND_HOST)
            kept.mapper.network_changed()
            await kept.mapped()
            assert home.daemon.forwards()[41_001] == (SECOND_HOST, 41_001) or (
                kept.v4 is not None and kept.v4.external.port != 41_001
            )

    on_host(home, life)


def test_the_way_of_marked_packets_is_taken(home: Home) -> None:
    """A tunnel has the default route, and its own packets go around it."""
    home.daemon.start(upnp=False)
    home.host.ip("link", "add", "tun", "up", "type", "veth", "peer", "name", "end")
    home.host.ip("route", "add", "default", "dev", "tun", "table", "51820")
    home.host.ip("rule", "add", "not", "fwmark", "51820", "table", "51820")

    async def life() -> None:
        async with keeping(41_000) as kept:
            assert kept.mapper.reason == "there is no router"
            kept.mapper.set_mark(51_820)
            await kept.mapped()
            # The tunnel takes another mark: what is sent now must go by the new one.
            home.host.ip("rule", "del", "not", "fwmark", "51820")
            home.host.ip("rule", "add", "not", "fwmark", "7", "table", "51820")
            kept.mapper.set_mark(7)
            kept.mapper.set_port(41_001)
            await kept.until(lambda: kept.v4 and kept.v4.external.port == 41_001, "the new port")

    on_host(home, life)


def test_what_another_program_holds_costs_no_mapping(home: Home) -> None:
    """The port for what routers say unasked is taken: a restart is found later, and no more."""
    home.daemon.start(upnp=False)
    home.host.ip("-6", "route", "del", "default")
    with home.listen("0.0.0.0", ANNOUNCE_PORT):

        async def life() -> None:
            async with keeping(41_000) as kept:
                await kept.mapped()
                kept.mapper.set_port(0)
                home.host.ip("route", "del", "default")
                kept.mapper.network_changed()
                assert kept.mapper.counters["deaf"] == 1

        on_host(home, life)


def test_an_address_that_cannot_be_used_is_waited_for(home: Home) -> None:
    home.daemon.start(upnp=False)
    home.host.ip("-6", "route", "del", "default")
    # A source that is not ours any more, as between two leases.
    home.host.ip("route", "replace", "default", "via", ROUTER, "src", SECOND_HOST)

    async def life() -> None:
        network = Network(ROUTER, "192.168.77.250")
        with pytest.raises(OSError, match="assign"):
            Wire(network, 0, lambda data, source: None)
        async with keeping(41_000) as kept:
            assert await kept.mapped()
            assert home.daemon.forwards() == {41_000: (SECOND_HOST, 41_000)}

    on_host(home, life)


@pytest.mark.parametrize("udp", [True, False], ids=["PCP", "UPnP"])
def test_in_the_daemons_shape(home: Home, udp: bool) -> None:
    """With the capabilities and the Landlock of wgpyd: multicast, the process, the end."""
    home.daemon.start(udp=udp, upnp=not udp)
    home.host.ip("-6", "route", "del", "default")
    process = home.host.popen(sys.executable, "-m", "tests.support.portmap_daemon", "41000")
    name = "PCP" if udp else "UPnP"
    wait_until(lambda: "41000" in process.output(), "a mapping", PATIENCE)
    assert process.output() == f"{name} {EXTERNAL}:41000\n"
    assert home.daemon.forwards() == {41_000: (HOST, 41_000)}
    process.child.terminate()
    assert process.wait(PATIENCE) == 0
    assert process.output() == f"{name} {EXTERNAL}:41000\nnone\nended\n"
    assert home.daemon.forwards() == {}


def test_probe_says_what_there_is(home: Home) -> None:
    home.daemon.start()
    found = on_host(home, probe)
    assert found.v4 is not None
    assert set(found.v4.found) == set(Service)
    assert found.v4.external == EXTERNAL
    assert not found.v4.is_double_nat
    assert found.v4.found[Service.PCP].epoch is not None
    assert found.v4.found[Service.UPNP].external == EXTERNAL
    assert found.v4.upnp.startswith(f"http://{ROUTER}:")
    assert found.v6 is not None
    assert set(found.v6.found) == {Service.PCP}
    assert home.daemon.forwards() == {}, "nothing is mapped"


def test_probe_finds_nothing_where_nothing_is(home: Home) -> None:
    found = on_host(home, probe)
    assert found.v4 is not None
    assert found.v4.found == {}
    assert found.v4.upnp == ""
    home.host.ip("route", "del", "default")
    home.host.ip("-6", "route", "del", "default")
    found = on_host(home, probe)
    assert (found.v4, found.v6) == (None, None)


# --- In the lab ---


def test_a_port_of_a_symmetric_nat_is_reachable_by_a_mapping(clean_machine: None) -> None:
    """Where no punching helps: the router itself lets in who sends to the mapped port."""
    hosts = [Host("alice", "home"), Host("server")]
    with Lab(routers=[Router("home", Nat.SYM)], hosts=hosts) as lab:
        router, alice, server = lab.routers["home"], lab.hosts["alice"], lab.hosts["server"]
        daemon = Miniupnpd(router.namespace, router.lan, router.wan)
        lab.closing(daemon.close)
        daemon.start()

        async def life() -> None:
            async with keeping(41_000) as kept:
                assert await kept.mapped() == Place(router.wan_ip, 41_000)
                listening = alice.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sending = server.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
                with listening, sending:
                    listening.bind((alice.v4, 41_000))
                    listening.settimeout(5.0)
                    sending.bind((server.v4, 0))
                    sending.sendto(b"hello", (router.wan_ip, 41_000))
                    data, source = listening.recvfrom(100)
                    assert (data, source) == (b"hello", sending.getsockname())
                    listening.sendto(b"yes", source)
                    sending.settimeout(5.0)
                    assert sending.recvfrom(100) == (b"yes", (router.wan_ip, 41_000))

        alice.namespace.inside(lambda: asyncio.run(life()))
        assert daemon.forwards() == {}


# --- The command ---


def wgpy(home: Home, *words: str) -> tuple[int, str]:
    done = home.host.run(program("wgpy"), *words, check=False, timeout=60, env=PLAIN)
    return done.returncode, done.stdout


@pytest.mark.tool("wgpy")
def test_the_command_says_what_there_is(home: Home) -> None:
    code, text = wgpy(home, "portmap")
    assert code == 1
    assert "It forwards no ports, or has that switched off." in text
    home.daemon.start()
    code, text = wgpy(home, "portmap")
    assert code == 0
    assert f"router {ROUTER}, and we are {HOST}\n" in text
    assert f"its external address is {EXTERNAL}\n" in text
    code, text = wgpy(home, "portmap", "--json")
    assert code == 0
    assert set(json.loads(text)["ipv4"]["services"]) == {"PCP", "NAT-PMP", "UPnP"}


@pytest.mark.tool("wgpy")
def test_the_command_keeps_a_port_until_a_signal(home: Home) -> None:
    home.daemon.start()
    home.host.ip("-6", "route", "del", "default")
    with home.listen() as listening:
        port = listening.getsockname()[1]
        process = home.host.popen(program("wgpy"), "portmap", "--port", str(port))
        wait_until(lambda: f"{EXTERNAL}:{port}" in process.output(), "the mapping", PATIENCE)
        assert home.reaches(Place(EXTERNAL, port), listening)
        process.child.terminate()
        assert process.wait(PATIENCE) == 0
    assert process.output() == (
        f"UDP port {port} is reachable at {EXTERNAL}:{port} by PCP\n"
        f"UDP port {port} is not reachable through the router: it was given back\n"
    )
    wait_until(lambda: home.daemon.forwards() == {}, "the end of it")
