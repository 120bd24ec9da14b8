"""A live tunnel between two wgpyd whose link, port and key change under it."""

import base64
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.netns import Namespace, Pair, pair, wait_until
from tests.support.programs import WGPY, new_keys
from tests.support.tunnel import Tunnel, endpoint, peer_section, transfer, tunnel
from wgpy.device import client

pytestmark = [
    pytest.mark.root,
    *(pytest.mark.tool(name) for name in ("ip", "wg", "ping", "setpriv")),
]

# The greatest MTU that WireGuard can carry, plus one.
TOO_LARGE = 65_476


@pytest.fixture
def made(net: Pair) -> Iterator[Tunnel]:
    with tunnel(net, WGPY, WGPY) as yielded:
        yielded.ping_both_ways(1)
        yield yielded


def log(made: Tunnel) -> str:
    assert made.left.process is not None
    return made.left.process.output()


def test_down_and_up_again(made: Tunnel) -> None:
    space, name = made.left.namespace, made.left.name
    port = client.get(name).listen_port
    space.ip("link", "set", name, "down")
    wait_until(lambda: not made.left._listens(port), "the port to be closed")
    space.ip("link", "set", name, "up")
    wait_until(lambda: made.left._listens(port), "the port to be bound again")
    # The kernel forgets IPv6 addresses of a link that goes down.
    space.add_address(name, "fd77::1/64")
    made.ping_both_ways(1)


def test_a_new_name(made: Tunnel) -> None:
    space, name = made.left.namespace, made.left.name
    space.ip("link", "set", name, "down")
    space.ip("link", "set", name, "name", "renamed0")
    space.ip("link", "set", "renamed0", "up")
    space.add_address("renamed0", "fd77::1/64")
    made.ping_both_ways(1)


def test_a_tun_in_another_namespace_carries_on(net: Pair) -> None:
    """Plaintext in one namespace, ciphertext in another: the point of moving it."""
    with tunnel(net, WGPY, WGPY) as made, Namespace("inner") as inner:
        outer, name = made.left.namespace, made.left.name
        port = client.get(name).listen_port
        outer.ip("link", "set", name, "netns", inner.name)
        inner.add_address(name, "10.77.0.1/24", "fd77::1/64")
        inner.ip("link", "set", name, "up")
        wait_until(lambda: made.left._listens(port), "the port in the namespace of the daemon")
        inner.ping(made.right.address, 2)
        inner.ping(made.right.address6, 2)
        transfer(inner, made.right.namespace, made.right.address, 1_000_000)

        inner.ip("link", "set", name, "down")
        wait_until(lambda: not made.left._listens(port), "the port to be closed")
        inner.ip("link", "set", name, "up")
        wait_until(lambda: made.left._listens(port), "the port to be bound again")
        inner.ping(made.right.address, 2)

        # The MTU is followed there too: this one is refused, and the reason logged.
        inner.ip("link", "set", name, "mtu", str(TOO_LARGE))
        wait_until(lambda: "65475" in log(made), "the reason in the log")
        inner.ip("link", "set", name, "mtu", "1280")
        inner.ping(made.right.address, 2)

        inner.ip("link", "set", name, "netns", outer.name)
        outer.add_address(name, "10.77.0.1/24", "fd77::1/64")
        outer.ip("link", "set", name, "up")
        made.ping_both_ways(1)


def test_an_mtu_that_cannot_be_carried_is_refused_and_the_tunnel_lives(made: Tunnel) -> None:
    space, name = made.left.namespace, made.left.name
    space.ip("link", "set", name, "mtu", str(TOO_LARGE))
    wait_until(lambda: "cannot be carried" in log(made), "the reason in the log")
    (line,) = [line for line in log(made).splitlines() if "cannot be carried" in line]
    assert name in line
    assert str(TOO_LARGE) in line
    assert "65475" in line
    made.ping_both_ways(1)
    space.ip("link", "set", name, "mtu", "1420")
    made.ping_both_ways(1)


def test_large_packets_on_a_link_that_takes_them(clean_machine: None) -> None:
    with pair(mtu=65_535) as net, tunnel(net, WGPY, WGPY, mtu=34_000) as made:
        for here, there in ((made.left, made.right), (made.right, made.left)):
            here.namespace.ping(there.address, 3, size=33_000)
            here.namespace.ping(there.address6, 3, size=33_000)
        transfer(made.left.namespace, made.right.namespace, made.right.address, 5_000_000)


def test_the_greatest_packets_of_all(clean_machine: None) -> None:
    with pair(mtu=65_535) as net, tunnel(net, WGPY, WGPY, mtu=65_475) as made:
        for size in (65_475 - 28, 65_475 - 29, 60_000):
            made.left.namespace.ping(made.right.address, 2, size=size)


def test_the_listen_port_changes_live(made: Tunnel) -> None:
    name = made.right.name
    former = client.get(name).listen_port
    made.right.wg("set", "listen-port", "51999")
    wait_until(lambda: made.right._listens(51_999), "the new port")
    assert not made.right._listens(former)
    # The other side hears from the new port, and follows.
    made.right.namespace.ping(made.left.address)
    seen = made.left.peer(made.right_keys.public)
    assert seen.endpoint.endswith(":51999")
    made.ping_both_ways(1)


def test_a_taken_port_is_refused_and_the_tunnel_lives(made: Tunnel) -> None:
    space, name = made.left.namespace, made.left.name
    before = client.get(name)
    with space.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:
        other.bind(("::", 51_998))
        refused = space.run("wg", "set", name, "listen-port", "51998", "fwmark", "7", check=False)
    assert refused.returncode != 0
    assert "in use" in refused.stderr
    after = client.get(name)
    assert (after.listen_port, after.fwmark) == (before.listen_port, before.fwmark)
    made.ping_both_ways(1)


def test_the_private_key_changes_live(made: Tunnel, tmp_path: Path) -> None:
    fresh = new_keys()
    file = tmp_path / "key"
    file.touch(0o600)
    file.write_text(fresh.private)
    made.right.wg("set", "peer", made.left_keys.public, "remove")
    made.right.wg("set", "peer", fresh.public, "allowed-ips", "10.77.0.1/32,fd77::1/128")
    made.left.wg("set", "private-key", str(file))
    # The peers are kept; the sessions are not.
    assert made.right_keys.public in made.left.peers()
    made.left.namespace.ping(made.right.address, 2, wait=10)
    assert made.right.peer(fresh.public).handshake
    made.ping_both_ways(1)


def test_a_firewall_mark_is_set_live(made: Tunnel) -> None:
    """Marked packets take a route of their own: here, none."""
    space = made.left.namespace
    space.ip("rule", "add", "fwmark", "77", "unreachable")
    made.left.wg("set", "fwmark", "77")
    assert not space.can_ping(made.right.address)
    made.left.wg("set", "fwmark", "0")
    made.ping_both_ways(2)


def test_a_peer_that_moves_is_followed(made: Tunnel) -> None:
    space = made.left.namespace
    space.add_address(space.link, "10.91.0.99/24")
    space.ip("address", "del", f"{space.v4}/24", "dev", space.link)
    space.ip("address", "replace", "10.91.0.99/24", "dev", space.link)
    space.ping(made.right.address, 2)
    assert made.right.peer(made.left_keys.public).endpoint.startswith("10.91.0.99:")
    made.ping_both_ways(1)


def test_the_answer_leaves_from_the_address_that_was_called(net: Pair) -> None:
    """Two addresses on one link: a stateful firewall would drop an answer from the other one."""
    net.right.add_address(net.right.link, "10.91.0.200/24")
    with tunnel(net, WGPY, WGPY) as made:
        at = endpoint("10.91.0.200")
        made.left.wg("set", "peer", made.right_keys.public, "endpoint", at)
        made.left.namespace.ping(made.right.address, 3)
        assert made.left.peer(made.right_keys.public).endpoint == at


def test_ten_thousand_peers_and_the_tunnel_lives(made: Tunnel) -> None:
    sections = (
        peer_section(
            _public(number), f"10.{100 + number // 65_536}.{number // 256 % 256}.{number % 256}/32"
        )
        for number in range(10_000)
    )
    made.left.wg("addconf", "/dev/stdin", stdin="".join(sections))
    assert len(made.left.peers()) == 10_001
    made.ping_both_ways(1)


def _public(number: int) -> str:
    """Any 32 bytes are a public key."""
    return base64.b64encode(number.to_bytes(4, "big") + os.urandom(28)).decode()
