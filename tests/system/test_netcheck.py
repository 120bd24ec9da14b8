"""`wgpy netcheck` behind every kind of router of the lab, asking `wgpy stun-server` and coturn.

What it says is what the lab says of each kind; nobody told it which one it is behind.
"""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.natlab import V6, Block, Host, Lab, LabHost, Nat, Router
from tests.support.netns import Pair, Process, wait_until
from tests.support.quick import Quick
from tests.support.requirements import program
from tests.support.upnp_router import EXTERNAL, OUTSIDE, ROUTER, Home

pytestmark = [pytest.mark.root, pytest.mark.tool("ip"), pytest.mark.tool("nft")]

EIM, ADM, APDM = "endpoint independent", "address dependent", "address and port dependent"
KINDS = tuple(Nat)
# What it should say: mapping, filter, ports, who reaches it.
EXPECTED = {
    Nat.OPEN: ("none", EIM, "kept", "open"),
    Nat.FULL: (EIM, EIM, "kept", "open"),
    Nat.ADDR: (EIM, ADM, "kept", "easy"),
    Nat.PORT: (EIM, APDM, "kept", "usual"),
    Nat.HAIRPIN: (EIM, APDM, "kept", "usual"),
    Nat.SYM: (APDM, APDM, "random", "hard"),
    Nat.SYMSEQ: (APDM, APDM, "sequential", "guessable"),
    Nat.SYMADDR: (ADM, APDM, "random", "hard"),
    Nat.NAIVE: (EIM, APDM, "kept", "usual"),
    Nat.BLOCKED: ("unknown", "unknown", "unknown", "unknown"),
}


def serve(server: LabHost, *arguments: str) -> Process:
    """`wgpy stun-server` on all addresses of a host, as it serves its own clients."""
    hosts = [*server.addresses(4), *(f"[{x}]" for x in server.addresses(6))]
    words = [word for host in hosts for word in ("--listen", host)]
    started = server.namespace.popen(program("wgpy"), "stun-server", *words, *arguments)
    wait_until(lambda: "listening on" in started.output(), "the server")
    return started


def netcheck(host: LabHost, *arguments: str) -> dict[str, Any]:
    """What it found, as JSON."""
    done = host.namespace.run(
        program("wgpy"), "netcheck", "--json", *arguments, check=False, timeout=90
    )
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if found["udp"] else 1)
    assert done.stderr == ""
    return found


def let_hairpins_pass(lab: Lab) -> None:
    """On some machines what a bridge carries goes through the rules of IP, once too often: then
    nothing is sent back out of the port of the bridge that it came from."""
    for router in lab.routers.values():
        setting = "net.bridge.bridge-nf-call-iptables=0"
        router.namespace.run("sysctl", "-qw", setting, check=False)


# --- Every kind ---


@pytest.fixture(scope="module")
def found(clean_machine: None) -> Iterator[dict[Nat, dict[str, Any]]]:
    """One lab with a router of each kind, and what a laptop behind each finds, two at a time."""
    routers = [Router(nat.value, nat) for nat in KINDS]
    hosts = [Host(f"at-{nat.value}", nat.value) for nat in KINDS]
    with Lab(routers, [*hosts, Host("server", addresses=2)]) as lab:
        let_hairpins_pass(lab)
        server = lab.hosts["server"]
        serve(server)
        with ThreadPoolExecutor(2) as pool:
            results = pool.map(
                lambda nat: netcheck(lab.hosts[f"at-{nat.value}"], "--stun", server.v4), KINDS
            )
            yield dict(zip(KINDS, results, strict=True))


@pytest.mark.parametrize("nat", KINDS, ids=lambda nat: nat.value)
def test_every_kind_is_told(found: dict[Nat, dict[str, Any]], nat: Nat) -> None:
    report = found[nat]
    v4 = report["ipv4"]
    says = v4["mapping"], v4["filtering"], v4["allocation"], v4["reach"]
    assert says == EXPECTED[nat]
    assert report["udp"] is (nat is not Nat.BLOCKED)
    if nat is Nat.BLOCKED:
        assert (v4["status"], v4["seen"], v4["nat"]) == ("no answer", None, None)
        assert report["tcp"] is False
        return
    assert v4["nat"] is (nat is not Nat.OPEN)
    assert v4["keeps_ports"] is (EXPECTED[nat][2] == "kept")
    assert v4["step"] == (1 if nat is Nat.SYMSEQ else None)
    assert v4["hairpin"] is (None if nat is Nat.OPEN else nat is Nat.HAIRPIN)
    assert report["ipv6"]["status"] == "no server has such an address"
    assert report["preferred"] == report["servers"][0]["name"]
    assert report["port_mapping"] == []
    assert report["servers"][0]["round_trip"] < 5.0
    ours = v4["local"].rpartition(":")
    seen = v4["seen"].rpartition(":")
    assert (ours[0] == seen[0]) is (nat is Nat.OPEN)
    assert (ours[2] == seen[2]) is v4["keeps_ports"]


# --- What servers can tell ---


def small(*routers: Router, ipv6: bool = False, servers: int = 1) -> Lab:
    """Routers, a laptop "at-NAME" behind each, and servers with two addresses."""
    hosts = [Host(f"at-{router.name}", router.name) for router in routers]
    far = [Host(f"server{n}", addresses=2) for n in range(1, servers + 1)]
    return Lab(routers, [*hosts, *far], ipv6=ipv6)


@pytest.fixture(scope="module")
def two(clean_machine: None) -> Iterator[Lab]:
    """An address-restricted NAT, and two servers."""
    with small(Router("home", Nat.ADDR), servers=2) as lab:
        yield lab


@pytest.mark.tool("turnserver")
def test_coturn_tells_the_same(two: Lab, tmp_path: Path) -> None:
    server = two.hosts["server1"]
    turnserver = server.namespace.popen(
        program("turnserver"),
        "-n",
        *(word for host in server.addresses(4) for word in ("-L", host)),
        *("--listening-port=3478", "--no-auth", "--no-cli", "--no-tls", "--no-dtls"),
        *("--log-file=stdout", f"--pidfile={tmp_path}/pid", f"--userdb={tmp_path}/db"),
    )
    laptop = two.hosts["at-home"]
    report: dict[str, Any] = {}

    def answered() -> bool:
        report.update(netcheck(laptop, "--stun", server.v4))
        return bool(report["udp"])

    wait_until(answered, "coturn", timeout=60)
    v4 = report["ipv4"]
    assert (v4["mapping"], v4["filtering"], v4["hairpin"]) == (EIM, ADM, False)
    turnserver.stop()


def test_two_servers_of_one_port_tell_the_mapping_alone(two: Lab) -> None:
    servers = [two.hosts[f"server{n}"] for n in (1, 2)]
    started = [
        server.namespace.popen(
            *(program("wgpy"), "stun-server", "--other-port", "0", "--listen", server.v4 + ":5000")
        )
        for server in servers
    ]
    for each in started:
        wait_until(lambda each=each: "listening on" in each.output(), "a server")
    words = [word for server in servers for word in ("--stun", f"{server.v4}:5000")]
    report = netcheck(two.hosts["at-home"], *words, "--stun", "no.such.name.invalid")
    v4 = report["ipv4"]
    assert (v4["mapping"], v4["filtering"], v4["reach"]) == (EIM, "unknown", "usual")
    assert [x["problem"] for x in report["servers"]] == [None, None, "the name has no address"]


# --- IPv6, carriers, what is blocked ---


def test_ipv6_has_a_firewall_and_no_nat(clean_machine: None) -> None:
    with small(
        Router("walled", Nat.PORT, v6=V6.FIREWALL), Router("free", None, v6=V6.OPEN), ipv6=True
    ) as lab:
        server = lab.hosts["server1"]
        serve(server)
        words = "--stun", server.v4, "--stun", f"[{server.v6}]"
        walled = netcheck(lab.hosts["at-walled"], *words)
        v6 = walled["ipv6"]
        assert (v6["nat"], v6["filtering"], v6["reach"]) == (False, APDM, "usual")
        assert walled["ipv4"]["reach"] == "usual"
        free = netcheck(lab.hosts["at-free"], *words)
        assert (free["ipv6"]["reach"], free["ipv4"]["status"]) == ("open", "no route")


def test_the_stricter_of_two_nats_counts(clean_machine: None) -> None:
    routers = [Router("carrier", Nat.SYM), Router("home", Nat.PORT, behind="carrier")]
    with small(*routers) as lab:
        server = lab.hosts["server1"]
        serve(server)
        v4 = netcheck(lab.hosts["at-home"], "--stun", server.v4)["ipv4"]
        assert (v4["mapping"], v4["filtering"], v4["reach"]) == (APDM, APDM, "hard")
        assert v4["seen"].startswith(lab.routers["carrier"].wan_ip)


def test_tcp_is_tried_where_udp_does_not_get_through(clean_machine: None) -> None:
    with small(Router("office", Nat.PORT, block=Block.UDP)) as lab:
        server, laptop = lab.hosts["server1"], lab.hosts["at-office"]
        with server.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.bind((server.v4, 443))
            listener.listen()
            report = netcheck(laptop, "--stun", f"{server.v4}:443")
            assert (report["udp"], report["tcp"]) == (False, True)
            done = laptop.namespace.run(
                program("wgpy"), "netcheck", "--stun", f"{server.v4}:443", check=False
            )
        assert done.returncode == 1
        assert "UDP does not get through here, but TCP does" in done.stdout.replace("\n", " ")


def test_a_login_page_is_seen(clean_machine: None) -> None:
    """What answers for every page is no page that has nothing to say."""
    with small(Router("home", Nat.PORT)) as lab:
        server, laptop = lab.hosts["server1"], lab.hosts["at-home"]
        serve(server)
        for status, is_portal in (("204 No Content", False), ("302 Found", True), ("", None)):
            with server.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((server.v4, 80))
                listener.listen()
                with ThreadPoolExecutor(1) as pool:
                    answer = pool.submit(answer_once, listener, status)
                    url = f"http://{server.v4}/generate_204"
                    report = netcheck(laptop, "--stun", server.v4, "--portal", url)
                    assert answer.result().startswith(b"GET /generate_204 HTTP/1.1\r\n")
            assert report["captive_portal"] is is_portal


def answer_once(listener: socket.socket, status: str) -> bytes:
    """Answer one request, or hang up; returns the request."""
    listener.settimeout(60)
    connection, _ = listener.accept()
    with connection:
        request = connection.recv(4096)
        if status:
            connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        return request


@pytest.mark.tool("miniupnpd")
def test_what_forwards_ports_is_found(clean_machine: None) -> None:
    with Home() as home:
        home.daemon.start()
        started = home.outside.popen(program("wgpy"), "stun-server", "--listen", OUTSIDE)
        wait_until(lambda: "listening on" in started.output(), "the server")
        command = program("wgpy"), "netcheck", "--stun", OUTSIDE
        done = home.host.run(*command, "--json", timeout=90)
        found = json.loads(done.stdout)["port_mapping"]
        assert {x["protocol"] for x in found} >= {"PCP", "NAT-PMP"}
        assert {"protocol": "NAT-PMP", "gateway": ROUTER, "outside": EXTERNAL} in found
        said = home.host.run(*command, timeout=90).stdout.replace("\n", " ")
        assert "The router forwards a port when asked (PCP)" in said


# --- How long a NAT remembers ---


@pytest.mark.slow
@pytest.mark.parametrize("nat", [Nat.PORT, Nat.SYM], ids=lambda nat: nat.value)
def test_the_lifetime_is_measured(clean_machine: None, nat: Nat) -> None:
    """Once with the port of the socket, which a router gives again, and once with another."""
    with small(Router("home", nat, udp_timeouts=(12, 37))) as lab:
        server = lab.hosts["server1"]
        serve(server)
        done = lab.hosts["at-home"].namespace.run(
            *(program("wgpy"), "netcheck", "--json", "--lifetime", "--stun", server.v4),
            timeout=500,
        )
        # The greater of the two counts, for the mapping was used both ways.
        found = json.loads(done.stdout)["lifetime"]
        assert found == {"survived": 30, "lost": 45, "keepalive": 25.0}


# --- An interface's servers ---


def test_the_servers_are_those_of_an_interface(clean_machine: None, tmp_path: Path) -> None:
    file = tmp_path / "wg9.toml"
    with small(Router("home", Nat.PORT)) as lab:
        server = lab.hosts["server1"]
        serve(server)
        file.write_text(f'[interface]\n[nat]\nstun = ["{server.v4}"]\n')
        report = netcheck(lab.hosts["at-home"], str(file))
        assert [x["name"] for x in report["servers"]] == [f"{server.v4}:3478"]
        assert report["ipv4"]["mapping"] == EIM


def test_it_looks_past_a_tunnel_that_is_the_way_to_everything(
    clean_machine: None, tmp_path: Path
) -> None:
    """Its peer is nowhere: what goes through the tunnel is not answered."""
    with small(Router("home", Nat.PORT)) as lab:
        server, laptop = lab.hosts["server1"], lab.hosts["at-home"]
        serve(server)
        quick = Quick(laptop.namespace, tmp_path, "wgpyd")
        quick.write(
            "Address = 10.66.0.1/24", "AllowedIPs = 0.0.0.0/0\nEndpoint = 203.0.113.99:51820"
        )
        quick.up()
        try:
            through = netcheck(laptop, "--stun", server.v4)
            past = netcheck(laptop, "--stun", server.v4, str(quick.config))
        finally:
            quick.down()
        assert (through["udp"], through["ipv4"]["local"][:9]) == (False, "10.66.0.1")
        assert (past["ipv4"]["mapping"], past["ipv4"]["reach"]) == (EIM, "usual")


@pytest.mark.tool("setpriv")
def test_neither_side_needs_root(clean_machine: None) -> None:
    nobody = program("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"
    with small(Router("home", Nat.PORT)) as lab:
        server, laptop = lab.hosts["server1"], lab.hosts["at-home"]
        started = server.namespace.popen(
            *nobody, program("wgpy"), "stun-server", "--listen", server.v4
        )
        wait_until(lambda: "listening on" in started.output(), "the server")
        done = laptop.namespace.run(
            *(*nobody, program("wgpy"), "netcheck", "--json", "--stun", server.v4), timeout=90
        )
        found = json.loads(done.stdout)
        assert (found["ipv4"]["filtering"], found["port_mapping"]) == (APDM, [])


# --- What is wrong is said in one line ---


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no STUN server is named; give --stun"),
        (["--stun", "two words"], "two words"),
        (["--stun", "192.0.2.1:0"], "'0' is no port"),
        (["--stun", "a"] * 9, "9 servers; at most 8 are asked"),
        (["--stun", "192.0.2.1", "--portal", "https://example.com"], "begin with http"),
        (["/nowhere/wg9.toml"], "/nowhere/wg9.toml: there is no such file"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments: list[str], said: str, net: Pair) -> None:
    done = net.left.run(program("wgpy"), "netcheck", *arguments, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("wgpy: ")
    assert said in line


def test_a_file_without_servers(net: Pair, tmp_path: Path) -> None:
    file = tmp_path / "wg9.toml"
    file.write_text("[interface]\n")
    done = net.left.run(program("wgpy"), "netcheck", str(file), check=False)
    assert done.returncode == 1
    assert "no STUN server is named" in done.stderr
