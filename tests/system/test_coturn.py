"""The real TURN server that other tests stand on: it answers, and dies and sleeps when told to."""

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.coturn import HTTPS_PORT, PORT, TLS_PORT, USERS, Coturn, Secret
from tests.support.natlab import Block, Host, Lab, LabHost, Router
from tests.support.netns import CommandError
from tests.support.traffic import connects

pytestmark = [
    pytest.mark.root,
    pytest.mark.tool("ip"),
    pytest.mark.tool("nft"),
    pytest.mark.tool("openssl"),
    pytest.mark.tool("turnserver"),
    pytest.mark.usefixtures("clean_machine"),
]

# A client that is not ours: it allocates, and says where it is relayed.
CLIENT = """
import asyncio, ssl, sys
from aioice.turn import create_turn_endpoint

server, port, transport, user, password, certificate = sys.argv[1:]
context = ssl.create_default_context(cafile=certificate) if certificate else False

async def main():
    made, _ = await create_turn_endpoint(
        asyncio.DatagramProtocol, (server, int(port)), user, password, ssl=context,
        transport=transport,
    )
    print(made.get_extra_info("sockname")[0])
    made.close()
    await asyncio.sleep(0.1)

asyncio.run(asyncio.wait_for(main(), 15))
"""


class Site:
    """A laptop behind a router, and coturn on the internet."""

    def __init__(self, lab: Lab, turn: Coturn) -> None:
        self.home = lab.routers["home"]
        self.laptop = lab.hosts["laptop"]
        self.server: LabHost = lab.hosts["turn"]
        self.turn = turn

    def allocate(
        self, user: str, password: str, *, port: int = PORT, transport: str = "udp", at: int = 0
    ) -> str:
        """Allocate from the laptop; the relay's address. CommandError if it is refused."""
        tls = port in (TLS_PORT, HTTPS_PORT)
        certificate = str(self.turn.certificate) if tls else ""
        words = (self.turn.addresses[at], str(port), transport, user, password, certificate)
        return self.laptop.namespace.run(sys.executable, "-c", CLIENT, *words).stdout.strip()

    def ask(self, asker: socket.socket, change: int = 0) -> bytes:
        """Send a binding request, with RFC 5780's CHANGE-REQUEST; its transaction."""
        transaction = os.urandom(12)
        body = b"\0\3\0\4" + change.to_bytes(4, "big")
        length = len(body).to_bytes(2, "big")
        message = b"\0\1" + length + bytes.fromhex("2112a442") + transaction + body
        asker.sendto(message, (self.turn.addresses[0], PORT))
        return transaction


@contextmanager
def site(directory: Path, *, secret: Secret | None = None, ipv6: bool = False) -> Iterator[Site]:
    hosts = [Host("laptop", "home"), Host("turn", addresses=2)]
    with Lab([Router("home")], hosts, ipv6=ipv6) as lab:
        server = lab.hosts["turn"]
        addresses = [*server.addresses(), *server.addresses(6)]
        with Coturn(server.namespace, addresses, directory, secret=secret) as turn:
            yield Site(lab, turn)


@pytest.fixture(scope="module")
def shared(clean_machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("coturn")) as made:
        yield made


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Site]:
    """One that a test may kill."""
    with site(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("transport", "port"),
    [("udp", PORT), ("tcp", PORT), ("tcp", TLS_PORT), ("tcp", HTTPS_PORT)],
    ids=["udp", "tcp", "tls", "tls-443"],
)
def test_a_user_is_relayed(shared: Site, transport: str, port: int) -> None:
    for user, password in USERS.items():
        relayed = shared.allocate(user, password, port=port, transport=transport)
        assert relayed == shared.server.v4


def test_who_has_no_password_is_not(shared: Site) -> None:
    for user, password in (("alice", "wrong"), ("mallory", USERS["alice"])):
        with pytest.raises(CommandError, match="401"):
            shared.allocate(user, password)


def test_a_secret_is_as_good_as_a_list_of_users_until_its_time_is_over(tmp_path: Path) -> None:
    secret = Secret("only this and what makes credentials know it")
    with site(tmp_path, secret=secret) as own:
        good = secret.credentials("carol", time.time() + 60)
        assert own.allocate(*good) == own.server.v4
        for user, password in (
            secret.credentials("carol", time.time() - 60),
            (good[0], USERS["alice"]),
            ("alice", USERS["alice"]),
        ):
            with pytest.raises(CommandError, match="401"):
                own.allocate(user, password)


def test_two_addresses_answer_what_rfc_5780_asks(shared: Site) -> None:
    first, second = shared.turn.addresses
    with shared.server.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.bind((first, 0))
        asker.settimeout(5)
        for change, place in (
            (0, (first, PORT)),
            (2, (first, PORT + 1)),
            (6, (second, PORT + 1)),
        ):
            transaction = shared.ask(asker, change)
            answer, source = asker.recvfrom(2000)
            assert answer[8:20] == transaction
            assert source == place


def test_where_all_but_the_web_is_blocked_tls_on_443_gets_through(own: Site) -> None:
    own.home.set_block(Block.ALL_BUT_WEB)
    with own.laptop.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(0.5)
        own.ask(asker)
        with pytest.raises(TimeoutError):
            asker.recv(2000)
    for port in (PORT, TLS_PORT):
        assert not connects(own.laptop.namespace, own.turn.addresses[0], port)
    got = own.allocate("alice", USERS["alice"], port=HTTPS_PORT, transport="tcp")
    assert got == own.server.v4


def test_it_dies_and_comes_back(own: Site) -> None:
    with own.laptop.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(0.5)
        own.ask(asker)
        asker.recv(2000)
        own.turn.kill()
        own.ask(asker)
        with pytest.raises(TimeoutError):
            asker.recv(2000)
        own.turn.start()
        own.ask(asker)
        asker.recv(2000)
    assert own.allocate("alice", USERS["alice"]) == own.server.v4
    assert own.turn.log().count("Relay ports initialization done") == 2


def test_it_sleeps_and_answers_afterwards(own: Site) -> None:
    with own.laptop.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(0.5)
        own.turn.pause()
        transaction = own.ask(asker)
        with pytest.raises(TimeoutError):
            asker.recv(2000)
        own.turn.resume()
        asker.settimeout(10)
        assert asker.recv(2000)[8:20] == transaction
    # It ends as well while it sleeps.
    own.turn.pause()


def test_it_listens_on_ipv6(tmp_path: Path) -> None:
    with site(tmp_path, ipv6=True) as own:
        server = own.server
        with server.namespace.socket(socket.AF_INET6, socket.SOCK_DGRAM) as asker:
            asker.settimeout(5)
            asker.sendto(bytes.fromhex("000100002112a442") + bytes(12), (server.v6, PORT))
            assert asker.recv(2000)[:2] == b"\1\1"


def test_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    with Lab(hosts=[Host("turn")]) as lab:
        host = lab.hosts["turn"]
        turn = Coturn(host.namespace, [host.v4], tmp_path, options=["no-auth"])
        with pytest.raises(AssertionError, match="cannot be used together"):
            turn.__enter__()
