"""Daemons whose TURN server dies, is slow, lies, or takes their credentials no longer."""

import base64
import hashlib
import hmac
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import wait_until
from tests.support.coturn import Secret
from tests.support.managed import BOTH
from tests.support.natlab import Host, Lab, Nat, Router
from tests.support.natlab.site import NAT_PEER, Site, way
from tests.support.natlab.station import Station
from tests.support.programs import WGPY, Implementation
from tests.support.tunnel import endpoint
from tests.support.turn_server import ALICE, FakeServer
from wgpy.device.paths import PathKind
from wgpy.nat.stun import Message, Method

pytestmark = [
    pytest.mark.root,
    pytest.mark.tool("ip"),
    pytest.mark.tool("nft"),
    pytest.mark.tool("ping"),
    pytest.mark.tool("wg"),
    pytest.mark.tool("wgpyd"),
    pytest.mark.tool("turnserver"),
    pytest.mark.tool("openssl"),
    pytest.mark.usefixtures("clean_machine"),
]

# Whatever it takes to notice that a server has forgotten us, and to come back.
PATIENCE = 90
# By these a test sees in seconds what takes ten minutes otherwise.
SHORT = ("max-allocate-lifetime=10", "stale-nonce=2")
# From when credentials are made until they are good no longer; two daemons start within it.
EXPIRY = 20.0


@pytest.fixture
def lab() -> Iterator[Lab]:
    routers = [
        *(Router(name, Nat.SYM) for name in ("home", "office")),
        *(Router(name, Nat.PORT) for name in ("flat", "shop")),
    ]
    hosts = [Host("server", addresses=2), Host("alice", "home"), Host("bob", "office")]
    hosts += [Host("carol", "flat"), Host("dave", "shop"), Host("liar")]
    with Lab(routers, hosts) as made:
        yield made


def relayed(site: Site, datapath: Implementation = WGPY) -> tuple[Station, Station]:
    """Two who reach each other by the relay alone."""
    alice, bob = site.stations("alice", "bob", ours=datapath)
    site.introduce(alice, bob)
    alice.host.namespace.ping(bob.inner, wait=20)
    site.wait_for(alice, bob, PathKind.RELAY)
    return alice, bob


def direct(site: Site, *, tables: str | None = None) -> tuple[Station, Station]:
    """Two who need none, once they have met."""
    carol, dave = site.stations("carol", "dave")
    for here, there in ((carol, dave), (dave, carol)):
        known = here.knows(there, extra=NAT_PEER)
        here.configure(known, tables=site.settings() if tables is None else tables)
    carol.host.namespace.ping(dave.inner, wait=20)
    site.wait_for(carol, dave, PathKind.DIRECT)
    return carol, dave


@BOTH
def test_a_relay_that_dies_and_comes_back(
    lab: Lab, tmp_path: Path, datapath: Implementation
) -> None:
    with Site(lab, tmp_path) as site:
        alice, bob = relayed(site, datapath)
        carol, dave = direct(site)
        site.coturn.kill()
        wait_until(
            lambda: way(alice, bob).kind is not PathKind.RELAY, "the loss to be noticed", PATIENCE
        )
        # Who does not need it does not miss it.
        carol.host.namespace.ping(dave.inner, 3)
        assert way(carol, dave).kind is PathKind.DIRECT
        site.coturn.start()
        alice.host.namespace.ping(bob.inner, wait=PATIENCE)
        site.wait_for(alice, bob, PathKind.RELAY)
        assert all(each.process.running() for each in (alice, bob, carol, dave))


def test_a_relay_that_is_slow(lab: Lab, tmp_path: Path) -> None:
    with Site(lab, tmp_path) as site:
        alice, bob = relayed(site)
        for _ in range(3):
            site.coturn.pause()
            # Less than what makes a path a dead one.
            time.sleep(1.5)
            site.coturn.resume()
            alice.host.namespace.ping(bob.inner, wait=20)
        site.wait_for(alice, bob, PathKind.RELAY)
        site.coturn.pause()
        # And more.
        time.sleep(12)
        site.coturn.resume()
        alice.host.namespace.ping(bob.inner, wait=PATIENCE)
        assert alice.process.running()
        assert bob.process.running()


def limited(site: Site, secret: Secret, directory: Path, seconds: float) -> str:
    """A [nat] whose credentials are good for so long, made as coturn's REST scheme has it."""
    name = f"{int(time.time() + seconds)}:alice"
    made = hmac.new(secret.text.encode(), name.encode(), hashlib.sha1).digest()
    path = directory / f"password-{name}"
    path.touch(mode=0o600)
    path.write_text(base64.b64encode(made).decode() + "\n")
    # coturn keeps a port for the user whom it saw there first, a minute long: then TCP does it.
    uris = ", ".join(f'"{uri}"' for way in ("udp", "tcp") for uri in site.uris(way))
    lines = ["[[nat.turn]]", f"uris = [{uris}]"]
    lines += [f'username = "{name}"', f'password_file = "{path}"']
    return "\n".join([site.settings(turn=None), *lines]) + "\n"


def test_credentials_that_expire_in_the_middle(lab: Lab, tmp_path: Path) -> None:
    secret = Secret("of the relay and of whoever lets people in")
    with Site(lab, tmp_path, secret=secret, options=SHORT) as site:
        carol, dave = direct(site, tables=limited(site, secret, tmp_path, 300))
        alice, bob = site.stations("alice", "bob")
        began = time.monotonic()
        tables = limited(site, secret, tmp_path, EXPIRY)
        for here, there in ((alice, bob), (bob, alice)):
            here.configure(here.knows(there, extra=NAT_PEER), tables=tables)
        alice.host.namespace.ping(bob.inner, wait=20)
        site.wait_for(alice, bob, PathKind.RELAY)

        def refused() -> bool:
            return all(
                "user name or password are wrong" in x.process.output() for x in (alice, bob)
            )

        # coturn goes on with an allocation that it has, refreshes and new nonces included.
        time.sleep(max(0.0, began + EXPIRY + 2 - time.monotonic()))
        alice.host.namespace.ping(bob.inner, 3)
        site.coturn.kill()
        site.coturn.start()
        wait_until(refused, "the credentials to be refused", PATIENCE)
        # Said once, however often it is tried.
        time.sleep(5)
        assert alice.process.output().count("by UDP: user name or password are wrong") == 1
        carol.host.namespace.ping(dave.inner, 3)
        # New ones, and the tunnel is there again.
        tables = limited(site, secret, tmp_path, 300)
        for here, there in ((alice, bob), (bob, alice)):
            here.configure(here.knows(there, extra=NAT_PEER), tables=tables)
        alice.host.namespace.ping(bob.inner, wait=PATIENCE)
        site.wait_for(alice, bob, PathKind.RELAY)
        assert way(carol, dave).kind is PathKind.DIRECT


class Liar:
    """A TURN server that knows its user, and answers as it is told; a context manager."""

    def __init__(self, host: Any, lie: Any) -> None:
        self.fake = FakeServer(time.monotonic)
        self.fake.script = lie
        self._socket = host.udp(3478)
        self._socket.settimeout(0.1)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "Liar":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while not self._ending.is_set():
            try:
                data, source = self._socket.recvfrom(2000)
            except TimeoutError:
                continue
            # It relays nothing, so what comes on a channel ends here.
            answers = self.fake.take(data) if data[:1] < b"\x40" else []
            for answer in answers:
                self._socket.sendto(answer, source)


def lends(server: list[FakeServer], host: str) -> Any:
    """A lie: the relayed address is this one."""

    def lie(message: Message) -> Any:
        answer = server[0].honest(message)
        if isinstance(answer, Message) and "XOR-RELAYED-ADDRESS" in answer.attributes:
            answer.attributes["XOR-RELAYED-ADDRESS"] = (host, 50000)
        return answer

    return lie


@pytest.mark.parametrize("lie", ["127.0.0.1", "224.0.0.1", "own", "10.77.0.1", "garbage", "silent"])
def test_a_relay_that_lies(lab: Lab, tmp_path: Path, lie: str) -> None:
    server: list[FakeServer] = []
    carols = lab.hosts["carol"].v4
    scripts = {"garbage": lambda _: [b"\1\3" + bytes(40), b"\0" * 3], "silent": lambda _: None}
    script = scripts.get(lie, lends(server, carols if lie == "own" else lie))
    with Site(lab, tmp_path) as site, Liar(lab.hosts["liar"], script) as liar:
        server.append(liar.fake)
        path = tmp_path / "lie"
        path.touch(mode=0o600)
        path.write_text(ALICE.password + "\n")
        uri = f"turn:{endpoint(lab.hosts['liar'].v4, 3478)}"
        lines = ["[[nat.turn]]", f'uris = ["{uri}"]', f'username = "{ALICE.username}"']
        lines.append(f'password_file = "{path}"')
        tables = "\n".join([site.settings(turn=None), *lines]) + "\n"
        carol, dave = direct(site, tables=tables)
        wait_until(lambda: liar.fake.count(Method.ALLOCATE) > 0, "a question")
        carol.host.namespace.ping(dave.inner, 5)
        state = carol.state().nat_state
        assert state is not None
        assert "relayed" not in {kind for kind, _ in state.candidates}
        assert carol.process.running()
        assert dave.process.running()
