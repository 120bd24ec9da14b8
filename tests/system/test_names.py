"""Endpoints given by name: looked up again by wgpyd itself when nobody answers, with no script.

`ip netns exec` puts /etc/netns/NAMESPACE/hosts in the place of /etc/hosts: it is our name server.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.netns import Namespace, Pair, wait_until
from tests.support.programs import WGPY, Interface, new_keys
from tests.support.tunnel import PORT, interface_section, peer_section
from wgpy.device import client
from wgpy.device.uapi import Address, DeviceChange, PeerChange
from wgpy.keys import PublicKey

pytestmark = [pytest.mark.root, pytest.mark.tool("wg")]

NAME = "peer.test"
# Two lookups and the retries between them: an address has two tries of 5 s before the next one.
PATIENCE = 30.0


@pytest.fixture
def hosts(net: Pair) -> Iterator[Path]:
    """The left side's /etc/hosts."""
    directory = Path("/etc/netns") / net.left.name
    directory.mkdir(parents=True)
    path = directory / "hosts"
    path.write_text("127.0.0.1 localhost\n")
    yield path
    shutil.rmtree(directory)


@contextlib.contextmanager
def started(net: Pair, first: str) -> Iterator[Interface]:
    """A tunnel whose left side has the name, and `first` as the address it once had."""
    keys = (new_keys(), new_keys())
    with Interface(net.right, WGPY) as right, Interface(net.left, WGPY) as left:
        right.setconf(
            interface_section(keys[1].private) + peer_section(keys[0].public, "10.77.0.1/32")
        )
        right.up("10.77.0.2/24")
        left.setconf(
            interface_section(keys[0].private) + peer_section(keys[1].public, "10.77.0.2/32")
        )
        public = PublicKey.from_base64(keys[1].public)
        peer = PeerChange(
            public, endpoint=Address(first, PORT), endpoint_name=(NAME, PORT), update_only=True
        )
        client.apply(left.name, DeviceChange(peers=[peer]))
        left.up("10.77.0.1/24")
        yield left


def endpoint_of(interface: Interface) -> Address | None:
    return client.get(interface.name).peers[0].endpoint


def reaches(namespace: Namespace) -> None:
    wait_until(lambda: namespace.can_ping("10.77.0.2"), "the peer by its new address", PATIENCE)


def test_a_name_that_moved_is_looked_up_again(net: Pair, hosts: Path) -> None:
    # 10.91.0.9 is nobody's: the name pointed there when the interface was brought up.
    with started(net, "10.91.0.9") as left:
        # In place: the file is bound into the daemon's mount namespace.
        with hosts.open("a") as file:
            file.write(f"{net.right.v4} {NAME}\n")
        reaches(net.left)
        assert endpoint_of(left) == Address(net.right.v4, PORT)
        assert client.get(left.name).peers[0].endpoint_name == (NAME, PORT)


def test_the_other_address_family_has_its_turn(net: Pair, hosts: Path) -> None:
    # Both families are in the name; the one it begins with leads nowhere.
    with hosts.open("a") as file:
        file.write(f"fd91::9 {NAME}\n{net.right.v4} {NAME}\n")
    with started(net, "fd91::9") as left:
        reaches(net.left)
        assert endpoint_of(left) == Address(net.right.v4, PORT)
