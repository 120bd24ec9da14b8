"""`wgpy stun-server` with the clients of others, and our client with coturn.

  left: clients                                     right: the server
┌─────────────────────┐                           ┌──────────────────────────┐
│ 10.91.0.1, fd91::1  ├────────── veth ───────────┤ 10.91.0.2, fd91::2       │
└─────────────────────┘                           │ 10.91.0.3, fd91::3       │
                                                  └──────────────────────────┘
"""

import os
import re
import select
import socket
import sys
import time
from pathlib import Path

import pytest

from tests.support.netns import Namespace, Pair, Process, wait_until
from tests.support.requirements import program
from wgpy.nat.place import Place, Send
from wgpy.nat.stun import CHANGE_ADDRESS, CHANGE_PORT
from wgpy.nat.stun_client import Answer, Failure, Reason, Schedule, StunClient

pytestmark = [pytest.mark.root, pytest.mark.tool("ip")]

V4 = ("10.91.0.2", "10.91.0.3")
V6 = ("fd91::2", "fd91::3")
# coturn's clients wait for ever for an answer that does not come.
PATIENCE = "20"
# On one machine nothing is lost; what is asked once more is asked soon.
SOON = Schedule(first=0.3, sends=3, last=0.5)


@pytest.fixture
def sides(net: Pair) -> Pair:
    net.right.add_address(net.right.link, f"{V4[1]}/24", f"{V6[1]}/64")
    return net


def start(side: Namespace, *arguments: str) -> Process:
    """`wgpy stun-server` in a namespace, once it serves."""
    server = side.popen(program("wgpy"), "stun-server", *arguments)
    wait_until(lambda: "listening on" in server.output(), "the server")
    return server


@pytest.fixture
def server(sides: Pair) -> Process:
    """A server of two addresses and two ports in both versions of IP, for any client."""
    hosts = (*V4, *(f"[{host}]" for host in V6))
    return start(sides.right, "--any-client", *(w for h in hosts for w in ("--listen", h)))


# --- The clients of others ---


def test_pystun3_is_told_where_it_is(sides: Pair, server: Process) -> None:
    """It sends what RFC 3489 says: no cookie, no FINGERPRINT."""
    code = f"import stun; print(stun.get_ip_info('{sides.left.v4}', 5000, '{V4[0]}', 3478))"
    done = sides.left.run(sys.executable, "-c", code)
    assert done.stdout.strip() == f"('Open Internet', '{sides.left.v4}', 5000)"


def test_pystun3_gets_nothing_where_answers_are_not_longer(sides: Pair) -> None:
    server = start(sides.right, "--listen", V4[0])
    with sides.left.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.5)
        sock.sendto(bytes.fromhex("00010000") + bytes(range(16)), (V4[0], 3478))
        with pytest.raises(TimeoutError):
            sock.recv(100)
    server.stop()
    assert "no_stun 1" in server.output()


@pytest.mark.tool("turnutils_stunclient")
def test_the_client_of_coturn(sides: Pair) -> None:
    """From a server with one address and port: with more it insists on RESPONSE-PORT."""
    start(sides.right, "--any-client", "--listen", V4[0], "--other-port", "0")
    done = sides.left.run("timeout", PATIENCE, program("turnutils_stunclient"), V4[0])
    assert re.search(rf"UDP reflexive addr: {re.escape(sides.left.v4)}:\d+\n", done.stdout)


@pytest.mark.tool("turnutils_natdiscovery")
@pytest.mark.parametrize("host", [V4[0], V6[0]])
def test_coturn_finds_neither_mapping_nor_filter(sides: Pair, server: Process, host: str) -> None:
    """RFC 5780 from end to end: nothing stands between the two, and the other side says so."""
    done = sides.left.run("timeout", PATIENCE, program("turnutils_natdiscovery"), "-mf", host)
    assert "Endpoint Independent Mapping" in done.stdout
    assert "Endpoint Independent Filtering" in done.stdout


# --- Our client ---


class Asker:
    """Our client on one socket, driven by the real clock."""

    def __init__(self, side: Namespace, family: socket.AddressFamily) -> None:
        self.socket = side.socket(family, socket.SOCK_DGRAM)
        self.client = StunClient(os.urandom)

    def ask(self, server: Place, change: int = 0, source: Place | None = None) -> Answer | Failure:
        attributes = {"CHANGE-REQUEST": change} if change else None
        now = time.monotonic()
        self.client.ask(server, now, attributes, source=source, schedule=SOON)
        while True:
            for item in self.client.take():
                if not isinstance(item, Send):
                    return item
                self.socket.sendto(item.data, item.to[:2])
            due = self.client.due() or 0.0
            ready, _, _ = select.select([self.socket], [], [], max(0.0, due - time.monotonic()))
            now = time.monotonic()
            if ready:
                data, address = self.socket.recvfrom(2048)
                self.client.receive(data, Place(address[0], address[1]), now)
            self.client.tick(now)


def check_server(sides: Pair, hosts: tuple[str, str]) -> None:
    """Our client learns everything from a server of two addresses and ports."""
    here = sides.left.v6 if ":" in hosts[0] else sides.left.v4
    family = socket.AF_INET6 if ":" in hosts[0] else socket.AF_INET
    asker = Asker(sides.left, family)
    with asker.socket:
        asker.socket.bind((here, 0))
        port = asker.socket.getsockname()[1]
        primary = Place(hosts[0], 3478)
        first = asker.ask(primary)
        assert isinstance(first, Answer)
        assert first.mapped == (here, port)
        assert first.other == (hosts[1], 3479)
        for change, source in (
            (CHANGE_PORT, Place(hosts[0], 3479)),
            (CHANGE_ADDRESS, Place(hosts[1], 3478)),
            (CHANGE_ADDRESS | CHANGE_PORT, Place(hosts[1], 3479)),
        ):
            found = asker.ask(primary, change, source)
            assert isinstance(found, Answer), change
            assert found.mapped == (here, port)
            wrong = asker.ask(primary, change, primary)
            assert isinstance(wrong, Failure)
            assert wrong.reason is Reason.TIMEOUT
        assert asker.client.counters["wrong_source"] == 3 * SOON.sends


@pytest.mark.parametrize("hosts", [V4, V6])
def test_our_client_and_our_server(sides: Pair, hosts: tuple[str, str]) -> None:
    """The server is one that answers with no more than it got."""
    start(sides.right, *(w for h in hosts for w in ("--listen", f"[{h}]" if ":" in h else h)))
    check_server(sides, hosts)


@pytest.mark.tool("turnserver")
@pytest.mark.parametrize("hosts", [V4, V6])
def test_our_client_and_coturn(sides: Pair, hosts: tuple[str, str], tmp_path: Path) -> None:
    """By options and not by a file: from a file Debian's 4.6.1 takes each address twice, and then
    calls an address its own other one."""
    turnserver = sides.right.popen(
        program("turnserver"),
        "-n",
        *(word for host in hosts for word in ("-L", host)),
        *("--listening-port=3478", "--alt-listening-port=3479", "--no-auth", "--no-cli"),
        *("--no-tls", "--no-dtls", "--no-tcp", "--log-file=stdout"),
        f"--pidfile={tmp_path}/pid",
        f"--userdb={tmp_path}/db",
    )
    asker = Asker(sides.left, socket.AF_INET6 if ":" in hosts[0] else socket.AF_INET)
    with asker.socket:
        wait_until(
            lambda: isinstance(asker.ask(Place(hosts[0], 3478)), Answer),
            f"coturn, which said: {turnserver.output()[-500:]}",
        )
    check_server(sides, hosts)


def test_an_answer_that_was_asked_for_later_comes_after_others(sides: Pair) -> None:
    start(sides.right, "--listen", V4[0])
    first, second = (Asker(sides.left, socket.AF_INET) for _ in range(2))
    with first.socket, second.socket:
        server = Place(V4[0], 3478)
        late = Schedule(first=0.0, sends=1, last=20.0)
        first.client.ask(server, 0.0, {"ANSWER-AFTER": 1}, schedule=late)
        (send,) = first.client.take()
        assert isinstance(send, Send)
        first.socket.sendto(send.data, send.to[:2])
        assert isinstance(second.ask(server), Answer)
        # The server read the first before the second, and both wait in no queue of ours.
        first.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            first.socket.recv(2048)
        ready, _, _ = select.select([first.socket], [], [], 20.0)
        assert ready
        assert first.client.receive(first.socket.recv(2048), server, 1.0)


# --- Its end, and what it refuses ---


def test_it_ends_with_a_signal_and_says_what_it_did(sides: Pair) -> None:
    server = start(sides.right, "--listen", V4[0])
    assert server.stop() == 0
    assert server.output().splitlines() == [
        f"stun-server: listening on {V4[0]}:3478, {V4[0]}:3479",
        "stun-server: nobody asked",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--listen"),
        (["--listen", "192.0.2.1"], "192.0.2.1:3478: Cannot assign requested address"),
        (["--listen", "0.0.0.0"], "0.0.0.0 is every address"),
        (["--listen", "stun.example.com"], "'stun.example.com' is no address"),
        (["--listen", V4[0], "--listen", V4[0]], "an address is there twice"),
        (["--listen", f"{V4[0]}:65535"], "65536 cannot be the second port"),
        (["--listen", V4[0], "--listen", f"{V4[1]}:5000"], "with the same ports"),
    ],
)
def test_what_it_cannot_do_is_said_in_one_line(
    sides: Pair, arguments: list[str], said: str
) -> None:
    done = sides.right.run(program("wgpy"), "stun-server", *arguments, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("wgpy: ")
    assert said in line
