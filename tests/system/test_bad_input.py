"""Bad datagrams of every kind against a live tunnel: dropped, counted, and nothing else."""

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from tests.support.netns import Namespace, Pair, wait_until
from tests.support.programs import WGPY
from tests.support.tunnel import PORT, Tunnel, tunnel
from wgpy.device import client
from wgpy.keys import PrivateKey, PublicKey
from wgpy.protocol.handshake import Local
from wgpy.protocol.peer import Peer

pytestmark = [
    pytest.mark.root,
    *(pytest.mark.tool(name) for name in ("ip", "wg", "ping", "setpriv")),
]

ETH_P_IP = 0x0800
# Around each length that means something, and the ends.
LENGTHS = sorted(
    {0, 1, 3, 4, 5, 15, 16, 1472, 1473, 9000, 65_506, 65_507}
    | {length + near for length in (32, 64, 92, 148) for near in (-1, 0, 1)}
)
IP_RECVERR, IPV6_RECVERR = 11, 25


@pytest.fixture
def made(net: Pair) -> Iterator[Tunnel]:
    with tunnel(net, WGPY, WGPY) as yielded:
        yield yielded


def counters(made: Tunnel) -> dict[str, int]:
    """Those of the right side, which is attacked."""
    return client.get(made.right.name).counters


def counted(made: Tunnel, before: dict[str, int]) -> dict[str, int]:
    now = counters(made)
    return {name: now[name] - before.get(name, 0) for name in now if now[name] != before.get(name)}


class Attacker:
    """A socket in the left namespace, on a port that no peer has."""

    def __init__(self, made: Tunnel) -> None:
        self._target = (made.right.namespace.v4, PORT)
        self._socket = made.left.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sent = 0

    def send(self, data: bytes) -> None:
        self._socket.sendto(data, self._target)
        self.sent += 1
        if self.sent % 100 == 0:
            # So as not to outrun the daemon: what the kernel drops is not counted.
            time.sleep(0.01)

    def port(self) -> int:
        number: int = self._socket.getsockname()[1]
        return number

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def attacker(made: Tunnel) -> Iterator[Attacker]:
    attacking = Attacker(made)
    yield attacking
    attacking.close()


@contextlib.contextmanager
def capture(space: Namespace) -> Iterator[list[bytes]]:
    """The WireGuard datagrams that arrive in a namespace meanwhile."""
    found: list[bytes] = []

    def listen() -> socket.socket:
        return socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))

    with space.inside(listen) as sniffer:
        sniffer.bind((space.link, ETH_P_IP))
        sniffer.setblocking(False)
        yield found
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, address = sniffer.recvfrom(65_535)
                header = (packet[0] & 15) * 4
                incoming = address[2] == socket.PACKET_HOST
                if incoming and packet[9] == socket.IPPROTO_UDP:
                    found.append(packet[header + 8 :])


def lives(made: Tunnel) -> None:
    """Both daemons run, nothing was raised, and the tunnel carries packets."""
    made.ping_both_ways(2)
    for side in (made.left, made.right):
        assert side.process is not None
        assert side.process.running()
        assert "Traceback" not in side.process.output()
        assert "Error" not in side.process.output()


def test_garbage_of_every_type_and_length(made: Tunnel, attacker: Attacker) -> None:
    made.ping_both_ways(1)
    before = counters(made)
    for kind in range(21):
        for length in LENGTHS:
            for tail in (bytes(length), b"\xff" * length, os.urandom(length)):
                attacker.send((kind.to_bytes(4, "little") + tail)[:length])
    for length in LENGTHS:
        attacker.send(os.urandom(length))
    lives(made)

    def total() -> int:
        return sum(counted(made, before).values())

    wait_until(lambda: total() >= attacker.sent, "everything to be counted")
    seen = counted(made, before)
    assert total() == attacker.sent
    assert {"unknown_type", "wrong_length", "too_short", "bad_mac1", "unknown_index"} <= set(seen)
    left = made.right.peer(made.left_keys.public)
    assert left.endpoint == f"{made.left.namespace.v4}:{PORT}", "nothing has moved the peer"


def test_captured_datagrams_replayed_truncated_and_changed(
    made: Tunnel, attacker: Attacker
) -> None:
    with capture(made.right.namespace) as taken:
        made.left.namespace.ping(made.right.address, 5)
    kinds = {data[0] for data in taken}
    assert kinds >= {1, 4}, "the capture has an initiation and data"
    peer = made.right.peer(made.left_keys.public)
    before = counters(made)

    for data in taken:
        attacker.send(data)
    wait_until(lambda: counted(made, before).get("replayed"), "replays to be counted")
    assert counted(made, before)["replayed_timestamp"] >= 1

    # Every prefix of an initiation and of a data message, and each with something added.
    for data in (next(d for d in taken if d[0] == kind) for kind in (1, 4)):
        for length in range(len(data)):
            attacker.send(data[:length])
        attacker.send(data + b"x")
        attacker.send(data + bytes(65_507 - len(data)))
        for at in range(len(data)):
            changed = bytearray(data)
            changed[at] ^= 1 << at % 8
            attacker.send(bytes(changed))
    # A live index, with counters that were never sent.
    data = bytearray(next(d for d in taken if d[0] == 4))
    for counter in (0, 1, 2**13, 2**32, 2**63, 2**64 - 2**13 - 2, 2**64 - 2**13 - 1, 2**64 - 1):
        struct.pack_into("<Q", data, 8, counter)
        attacker.send(bytes(data))
    wait_until(lambda: "expired_key" in counted(made, before), "counters over the limit")
    seen = counted(made, before)
    assert {"bad_tag", "bad_mac1", "wrong_length", "replayed", "expired_key"} <= set(seen)
    after = made.right.peer(made.left_keys.public)
    assert (after.endpoint, after.handshake) == (peer.endpoint, peer.handshake)
    lives(made)


def test_a_flood_of_initiations_leaves_the_tunnel_up(made: Tunnel, attacker: Attacker) -> None:
    """With a right mac1, for the key is public; each costs the responder two exchanges."""
    made.ping_both_ways(1)
    before = counters(made)
    right = PublicKey.from_base64(made.right_keys.public)
    stranger = Peer(Local(PrivateKey(os.urandom(32))), right, None, lambda: 0.0)
    for number in range(1500):
        attacker.send(
            stranger.initiation(
                index=number, ephemeral=os.urandom(32), wall_ns=time.time_ns(), now=0.0
            )
        )
        if number % 500 == 0:
            made.left.namespace.ping(made.right.address)
    wait_until(lambda: sum(counted(made, before).values()) >= 1500, "all of them", 30)
    seen = counted(made, before)
    assert set(seen) <= {"unknown_peer", "cookie_replies_sent", "rate_limited"}
    lives(made)


def test_icmp_errors_of_our_own_datagrams_stop_nothing(made: Tunnel) -> None:
    """The peer's port is closed for a while: the kernel tells so, and it means nothing."""
    made.ping_both_ways(1)
    space, name = made.right.namespace, made.right.name
    space.ip("link", "set", name, "down")
    assert not made.left.namespace.can_ping(made.right.address)
    space.ip("link", "set", name, "up")
    space.add_address(name, "fd77::2/64")
    # The right side has forgotten its keys; it begins, so that nobody waits to notice.
    space.ping(made.left.address, 2)
    lives(made)


@pytest.mark.parametrize(
    ("prefix", "target", "family", "option"),
    [
        ("10.99.0.0/24", "10.99.0.7", socket.AF_INET, (socket.IPPROTO_IP, IP_RECVERR)),
        ("fd99::/64", "fd99::7", socket.AF_INET6, (socket.IPPROTO_IPV6, IPV6_RECVERR)),
    ],
)
def test_a_packet_that_no_peer_takes_is_answered_with_unreachable(
    made: Tunnel,
    prefix: str,
    target: str,
    family: socket.AddressFamily,
    option: tuple[int, int],
) -> None:
    space = made.left.namespace
    space.ip("route", "add", prefix, "dev", made.left.name)
    with space.socket(family, socket.SOCK_DGRAM) as sender:
        sender.settimeout(10)
        sender.setsockopt(*option, 1)
        sender.connect((target, 9))
        sender.send(b"is anybody there?")
        with pytest.raises(OSError, match="No route to host"):
            sender.recv(100)
    said = space.run("ping", "-n", "-c1", "-w5", target, check=False).stdout
    assert f"From {target} " in said
    assert "unreachable" in said.lower()
    assert client.get(made.left.name).counters["no_peer"] >= 2
    lives(made)


def test_connecting_to_nobody_fails_at_once(made: Tunnel) -> None:
    """TCP hears of it too, and need not wait for minutes."""
    space = made.left.namespace
    space.ip("route", "add", "10.99.0.0/24", "dev", made.left.name)
    with space.socket(socket.AF_INET, socket.SOCK_STREAM) as caller:
        caller.settimeout(30)
        with pytest.raises(OSError, match="No route to host"):
            caller.connect(("10.99.0.7", 80))
