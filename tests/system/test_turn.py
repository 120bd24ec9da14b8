"""Our TURN client and a real coturn: UDP, TCP and TLS, credentials, short lifetimes, death.

left                     right
the client, and   ─────  coturn
a peer that echoes
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.coturn import HTTPS_PORT, NAME, PORT, TLS_PORT, USERS, Coturn, Secret
from tests.support.natlab import Block, Host, Lab, Router
from tests.support.netns import Pair, pair
from tests.support.turn_ends import DatagramEnd, Echo, StreamEnd, TurnEnd, closing
from wgpy.device.paths import Transport
from wgpy.linux.timerfd import boottime
from wgpy.nat.place import Place
from wgpy.nat.stun import Method, parse
from wgpy.nat.turn import State
from wgpy.nat.turn_credentials import Credentials, Source, fixed, rest, rest_source
from wgpy.nat.turn_events import (
    Allocated,
    Arrived,
    Bound,
    CredentialsNeeded,
    Lost,
    Need,
    PermissionRefused,
    Reason,
)
from wgpy.nat.turn_ladder import Act, Ladder
from wgpy.nat.turn_tls import Trust
from wgpy.nat.turn_wire import StreamServer

pytestmark = [
    pytest.mark.root,
    pytest.mark.tool("ip"),
    pytest.mark.tool("openssl"),
    pytest.mark.tool("turnserver"),
    pytest.mark.usefixtures("clean_machine"),
]

ALICE = fixed(Credentials("alice", USERS["alice"]))
WAYS = ["udp", "tcp", "tls", "tls-443"]


class Site:
    """Two machines and coturn on the right one."""

    def __init__(self, net: Pair, turn: Coturn) -> None:
        self.net = net
        self.turn = turn
        self.server = Place(turn.addresses[0], PORT)

    def echo(self) -> Echo:
        """A peer on the left."""
        return Echo(self.net.left, self.net.left.v4)

    def datagrams(self, source: Source = ALICE, **options: Any) -> DatagramEnd:
        """A client over UDP, on the left."""
        return DatagramEnd(self.net.left, self.server, source, **options)

    def end(self, way: str, source: Source = ALICE, **options: Any) -> TurnEnd:
        """A client over one of WAYS, on the left."""
        if way == "udp":
            return self.datagrams(source, **options)
        port = {"tcp": PORT, "tls": TLS_PORT, "tls-443": HTTPS_PORT}[way]
        trust = None if way == "tcp" else Trust(self.turn.certificate)
        server = StreamServer(self.server._replace(port=port), trust, NAME)
        return StreamEnd(self.net.left, server, source, **options)


@contextmanager
def site(directory: Path, **options: Any) -> Iterator[Site]:
    with pair() as net:
        addresses = [net.right.v4, net.right.v6]
        with Coturn(net.right, addresses, directory, **options) as turn:
            yield Site(net, turn)


@pytest.fixture(scope="module")
def shared(clean_machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("turn")) as made:
        yield made


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Site]:
    """One that a test may kill."""
    with site(tmp_path) as made:
        yield made


# --- Every way ---


@pytest.mark.parametrize("way", WAYS)
def test_datagrams_go_to_a_peer_and_back(shared: Site, way: str) -> None:
    peer = shared.echo()
    with closing(shared.end(way), peer) as end:
        allocated = end.allocate()
        assert allocated.relayed.host == shared.net.right.v4
        assert allocated.mapped is not None
        assert allocated.mapped.host == shared.net.left.v4
        channel = end.bind(peer.place)
        for size in (1, 2, 3, 4, 148, 1400, 1452):
            assert end.echoes(channel, b"a" * size, tries=3), size
        assert set(peer.sources) == {allocated.relayed}
        end.close()  # type: ignore[attr-defined]
        # The relayed port is gone, though it may take coturn a second.
        end.until(lambda: "lifetime=0" in shared.turn.log(), "the deletion")
    assert end.said(Lost) == []
    assert end.client.counters["unauthentic"] == 0


@pytest.mark.parametrize("way", ["udp", "tcp", "tls"])
def test_a_server_that_is_killed_and_comes_back_is_found_again(own: Site, way: str) -> None:
    peer = own.echo()
    with closing(own.end(way, keepalive=1.0), peer) as end:
        end.allocate()
        channel = end.bind(peer.place)
        assert end.echoes(channel, b"before", tries=3)
        own.turn.kill()
        own.turn.start()
        end.until(lambda: len(end.said(Bound)) == 2, "another channel", timeout=40)
        lost = end.said(Lost)
        assert lost[0].reason is (Reason.GONE if way == "udp" else Reason.DISCONNECTED)
        assert end.said(Bound)[0] == end.said(Bound)[1]
        assert end.echoes(channel, b"after", tries=5)


@pytest.mark.parametrize("way", WAYS)
def test_a_server_that_sleeps_loses_nothing(own: Site, way: str) -> None:
    peer = own.echo()
    with closing(own.end(way, renew=0.5, keepalive=0.5), peer) as end:
        end.allocate()
        channel = end.bind(peer.place)
        own.turn.pause()
        assert not end.echoes(channel, b"asleep", tries=2)
        own.turn.resume()
        assert end.echoes(channel, b"awake", tries=10)
        assert end.said(Lost) == []
        assert len(end.said(Allocated)) == 1


@pytest.mark.parametrize("way", WAYS)
def test_wrong_credentials_are_refused(shared: Site, way: str) -> None:
    for user, password in (("alice", "wrong"), ("mallory", USERS["alice"])):
        with closing(shared.end(way, fixed(Credentials(user, password)))) as end:
            end.until(lambda end=end: end.said(Lost), "a refusal")
            assert [(x.reason, x.code) for x in end.said(Lost)] == [(Reason.UNAUTHORIZED, 401)]
            assert end.said(CredentialsNeeded) == [CredentialsNeeded(Need.REFUSED)]
            if user == "alice" or way != "udp":
                # The right ones end the pause.
                end.client.set_credentials(Credentials("alice", USERS["alice"]), boottime())
                end.told()
                end.allocate()


def test_coturn_lets_no_other_user_ask_from_the_same_socket_for_a_minute(shared: Site) -> None:
    """What it says then is what it says of an allocation that is another's: so another socket."""
    with closing(shared.datagrams(fixed(Credentials("mallory", "x")))) as end:
        end.until(lambda: end.said(Lost), "a refusal")
        end.client.set_credentials(Credentials("alice", USERS["alice"]), boottime())
        end.told()
        end.until(lambda: len(end.said(Lost)) == 2, "another")
        assert [(x.reason, x.code) for x in end.said(Lost)][1] == (Reason.MISMATCH, 441)


# --- How fast ---


def test_a_cold_start_waits_for_two_answers_before_data_flows(shared: Site) -> None:
    peer = shared.echo()
    end = shared.datagrams()
    end.client.bind(peer.place, boottime())
    with closing(end, peer):
        end.until(lambda: end.said(Bound), "a channel")
        asked = [parse(data).method for data in end.sent]
        # A third time only if coturn's other thread was not quick enough.
        assert asked[:3] == [Method.ALLOCATE, Method.ALLOCATE, Method.CHANNEL_BIND]
        assert len(asked) - 3 == end.client.counters["error_400"] <= 1
        assert [type(x) for x in end.events] == [Allocated, Bound]


# --- Credentials of limited time ---


@pytest.mark.parametrize("way", ["udp", "tls"])
def test_credentials_from_a_secret(tmp_path: Path, way: str) -> None:
    secret = Secret("known to the server and to us")
    with site(tmp_path, secret=secret) as own:
        source = rest_source(secret.text.encode(), "laptop", time.time, 600)
        peer = own.echo()
        with closing(own.end(way, source), peer) as end:
            end.allocate()
            assert end.echoes(end.bind(peer.place), b"hello", tries=3)
        wrong = rest_source(b"another", "laptop", time.time, 600)
        with closing(own.end(way, wrong)) as end:
            end.until(lambda: end.said(Lost), "a refusal")
            assert end.said(Lost)[0].reason is Reason.UNAUTHORIZED


def test_credentials_that_expire_in_the_middle(tmp_path: Path) -> None:
    secret = Secret("known to the server and to us")
    key = secret.text.encode()
    with site(tmp_path, secret=secret, options=["stale-nonce=1"]) as own:
        now = boottime()
        short = rest(key, "laptop", wall=time.time(), now=now, lifetime=4)
        peer = own.echo()
        end = own.datagrams(fixed(short), keepalive=0.5, renew=1.0)
        with closing(end, peer):
            end.allocate()
            channel = end.bind(peer.place)
            # They end within a minute, so new ones are asked for at once.
            end.until(lambda: end.said(CredentialsNeeded), "a question")
            assert end.said(CredentialsNeeded) == [CredentialsNeeded(Need.EXPIRING)]
            end.until(lambda: not short.good(boottime()), "the end of the credentials")
            # coturn lets who made an allocation keep it, with the old ones.
            before = end.client.counters["refreshed"]
            end.until(lambda: end.client.counters["refreshed"] > before + 3, "more refreshes")
            assert end.client.counters["stale"] > 0
            assert end.echoes(channel, b"still here", tries=3)
            assert end.said(Lost) == []
            # But when it was started anew it takes them no more.
            own.turn.kill()
            own.turn.start()
            end.until(lambda: end.said(Lost), "a loss", timeout=40)
            assert [(x.reason, x.code) for x in end.said(Lost)] == [(Reason.UNAUTHORIZED, 401)]
            assert end.said(CredentialsNeeded)[1:] == [CredentialsNeeded(Need.REFUSED)]
            # coturn takes no other user from this socket now, for a minute; so from another.
            fresh = rest(key, "laptop", wall=time.time(), now=boottime(), lifetime=600)
            end.client.set_credentials(fresh, boottime())
            end.told()
            end.until(lambda: end.said(Lost)[-1].reason is Reason.MISMATCH, "a mismatch")
        peer = own.echo()
        with closing(own.datagrams(fixed(fresh)), peer) as end:
            end.allocate()
            assert end.echoes(end.bind(peer.place), b"again", tries=5)


def test_a_server_refuses_credentials_that_expired(tmp_path: Path) -> None:
    secret = Secret("known to the server and to us")
    with site(tmp_path, secret=secret) as own:
        name, password = secret.credentials("laptop", time.time() - 60)
        # Our clock is wrong: we think that they are good.
        with closing(own.datagrams(fixed(Credentials(name, password)))) as end:
            end.until(lambda: end.said(Lost), "a refusal")
            assert [(x.reason, x.code) for x in end.said(Lost)] == [(Reason.UNAUTHORIZED, 401)]


# --- Lifetimes ---


def test_allocations_channels_permissions_and_nonces_that_live_for_seconds(
    tmp_path: Path,
) -> None:
    short = ["max-allocate-lifetime=10", "channel-lifetime=6", "permission-lifetime=4"]
    with site(tmp_path, options=[*short, "stale-nonce=3"]) as own:
        peer = own.echo()
        with closing(own.datagrams(renew=1.5, keepalive=2.0), peer) as end:
            assert end.allocate().lifetime == 10.0
            channel = end.bind(peer.place)
            for second in range(12):
                assert end.echoes(channel, b"second %d" % second, tries=3), second
                end.run(0.8)
            assert [type(x) for x in end.events] == [Allocated, Bound]
            assert end.client.counters["stale"] >= 2
            # It is what is renewed that keeps it: a released channel ends.
            end.client.release(peer.place)
            end.run(7)
            assert not end.echoes(channel, b"gone", tries=2)
            assert end.said(Lost) == []


# --- What a server says besides yes ---


def test_an_allocation_that_an_earlier_life_left_is_deleted(own: Site) -> None:
    with own.datagrams(port=4000) as first:
        first.start()
        first.allocate()
    # Killed; the same port again.
    peer = own.echo()
    with closing(own.datagrams(port=4000), peer) as end:
        end.allocate()
        assert end.client.counters["error_437"] >= 1
        assert end.said(Lost) == []
        assert end.echoes(end.bind(peer.place), b"hello", tries=3)
    # Somebody else's is not.
    with closing(own.datagrams(fixed(Credentials("bob", USERS["bob"])), port=4000)) as end:
        end.until(lambda: end.said(Lost), "a refusal")
        assert [(x.reason, x.code) for x in end.said(Lost)] == [(Reason.MISMATCH, 441)]


def test_a_quota_that_is_reached(tmp_path: Path) -> None:
    with site(tmp_path, options=["user-quota=1"]) as own, closing(own.datagrams()) as first:
        first.allocate()
        with closing(own.datagrams()) as second:
            second.until(lambda: second.said(Lost), "a refusal")
            assert [(x.reason, x.code) for x in second.said(Lost)] == [(Reason.QUOTA, 486)]


def test_a_peer_that_the_server_denies(tmp_path: Path) -> None:
    with site(tmp_path, options=["denied-peer-ip=198.51.100.0-198.51.100.255"]) as own:
        peer = own.echo()
        denied = Place("198.51.100.5", 9)
        with closing(own.datagrams(), peer) as end:
            end.allocate()
            number = end.client.bind(denied, boottime())
            assert number is not None
            end.told()
            end.until(lambda: end.said(PermissionRefused), "a refusal")
            assert end.said(PermissionRefused) == [PermissionRefused(denied, number, 403)]
            # It harms no other.
            assert end.echoes(end.bind(peer.place), b"hello", tries=3)


def test_a_server_that_names_another(tmp_path: Path) -> None:
    options = ["alternate-server=198.51.100.9:3478"]
    with site(tmp_path, options=options) as own, closing(own.datagrams()) as end:
        end.until(lambda: end.said(Lost), "a refusal")
        (lost,) = end.said(Lost)
        assert lost.reason is Reason.REDIRECTED
        assert lost.alternate == Place("198.51.100.9", 3478)
        # Nothing was signed, and nothing was sent there.
        assert all("USERNAME" not in parse(data).attributes for data in end.sent)


def test_a_peer_from_another_port_arrives_and_can_be_bound(shared: Site) -> None:
    known, unknown = shared.echo(), shared.echo()
    with closing(shared.datagrams(), known) as end:
        relayed = end.allocate().relayed
        end.bind(known.place)
        unknown.socket.sendto(b"it is me", (relayed.host, relayed.port))
        end.until(lambda: end.said(Arrived), "what it sent")
        assert end.said(Arrived) == [Arrived(unknown.place, b"it is me")]
        end.peers.append(unknown)
        assert end.echoes(end.bind(unknown.place), b"hello", tries=3)


def test_a_permission_alone_lets_datagrams_in(shared: Site) -> None:
    peer = shared.echo()
    with closing(shared.datagrams(), peer) as end:
        relayed = end.allocate().relayed
        peer.socket.sendto(b"too early", (relayed.host, relayed.port))
        end.run(0.3)
        assert end.client.permit(peer.place.host, boottime())
        end.told()
        end.until(lambda: end.client.counters["sent"] == 3, "the request")
        for _ in range(20):
            peer.socket.sendto(b"now", (relayed.host, relayed.port))
            end.run(0.1)
            if end.said(Arrived):
                break
        assert end.said(Arrived)[0] == Arrived(peer.place, b"now")


def test_an_allocation_of_ipv6(shared: Site) -> None:
    peer = Echo(shared.net.left, shared.net.left.v6)
    server = Place(shared.net.right.v6, PORT)
    for place in (shared.server, server):
        end = DatagramEnd(shared.net.left, place, ALICE, family=6)
        with closing(end, *([peer] if place is server else [])):
            relayed = end.allocate().relayed
            assert relayed.host == shared.net.right.v6
            end.run(0.1)
            assert end.client.bind(Place(shared.net.left.v4, 9), boottime()) is None
            if place is server:
                assert end.echoes(end.bind(peer.place), b"hello", tries=3)
                end.client.check(boottime())
                end.told()
                end.until(lambda end=end: end.client.counters["refreshed"], "a refresh")


def test_many_peers(shared: Site) -> None:
    peers = [shared.echo() for _ in range(64)]
    with closing(shared.datagrams(), *peers) as end:
        end.allocate()
        numbers = [end.client.bind(peer.place, boottime()) for peer in peers]
        end.told()
        end.until(lambda: len(end.said(Bound)) == 64, "64 channels")
        for number in numbers:
            assert number is not None
            assert end.echoes(number, b"%d" % number, tries=3)


# --- Where UDP is blocked ---


@pytest.mark.tool("nft")
@pytest.mark.parametrize("block", [Block.NOTHING, Block.UDP, Block.ALL_BUT_WEB])
def test_the_ladder_finds_the_best_way_that_passes(tmp_path: Path, block: Block) -> None:
    """UDP where it passes; TCP where only that does; TLS on 443 where nothing else does."""
    expected = {
        Block.NOTHING: Transport.UDP,
        Block.UDP: Transport.TCP,
        Block.ALL_BUT_WEB: Transport.TLS,
    }[block]
    routers, hosts = [Router("home", block=block)], [Host("laptop", "home"), Host("turn")]
    with Lab(routers, hosts) as lab:
        laptop, server = lab.hosts["laptop"].namespace, lab.hosts["turn"]
        with Coturn(server.namespace, [server.v4], tmp_path) as turn:
            place = Place(server.v4, PORT)
            trust = Trust(turn.certificate)
            ends: dict[Transport, TurnEnd] = {}

            def make(transport: Transport) -> TurnEnd:
                if transport is Transport.UDP:
                    return DatagramEnd(laptop, place, ALICE)
                tls = transport is Transport.TLS
                at = place._replace(port=HTTPS_PORT) if tls else place
                return StreamEnd(laptop, StreamServer(at, trust if tls else None, NAME), ALICE)

            ladder = Ladder(tuple(Transport), boottime())
            deadline = boottime() + 20
            while ladder.used is None or ladder.due() is not None:
                assert boottime() < deadline
                now = boottime()
                for step in ladder.tick(now):
                    if step.act is Act.START:
                        ends[step.transport] = make(step.transport)
                        ends[step.transport].start()  # type: ignore[attr-defined]
                    elif step.act is Act.STOP:
                        ends.pop(step.transport).__exit__(None, None, None)  # type: ignore[attr-defined]
                for transport, end in list(ends.items()):
                    end.turn(0.005)
                    if end.said(Allocated):
                        ladder.ready(transport, now)
                    elif end.said(Lost):
                        ladder.failed(transport, now)
                    elif end.client.counters["challenged"]:
                        ladder.answered(transport, now)
            assert ladder.used is expected
            assert list(ends) == [expected]
            with ends[expected] as end:  # type: ignore[attr-defined]
                peer = Echo(server.namespace, server.v4)
                end.peers.append(peer)
                # coturn may relay to its own machine, but to no loopback.
                assert end.echoes(end.bind(peer.place), b"hello", tries=5)
                assert end.client.state is State.ALLOCATED


def test_what_a_server_sends_by_itself_is_only_data(shared: Site) -> None:
    """coturn's answers all have a transaction of ours: nothing is counted as unknown."""
    peer = shared.echo()
    with closing(shared.datagrams(keepalive=0.3), peer) as end:
        end.allocate()
        channel = end.bind(peer.place)
        for _ in range(5):
            assert end.echoes(channel, b"x", tries=3)
            end.run(0.3)
        for name in ("unknown_transaction", "wrong_source", "malformed", "unauthentic"):
            assert end.client.counters[name] == 0
