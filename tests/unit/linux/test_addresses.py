"""The addresses that a machine has, as the kernel tells them."""

import socket
from collections.abc import Iterator

import pytest

from tests.support.netns import Namespace
from wgpy.linux.addresses import Addresses, addresses

pytestmark = pytest.mark.root


@pytest.fixture
def space(clean_machine: None) -> Iterator[Namespace]:
    with Namespace("addresses") as made:
        yield made


def found(space: Namespace, except_link: int = -1) -> tuple[set[str], set[str]]:
    answer: Addresses = space.inside(lambda: addresses(except_link))
    return set(map(str, answer.own)), set(map(str, answer.networks))


def veth(space: Namespace, name: str, *given: str) -> int:
    """A link with these addresses; returns its index."""
    space.ip("link", "add", name, "type", "veth", "peer", "name", f"{name}x")
    for address in given:
        space.ip("address", "add", *address.split(), "dev", name)
    return space.inside(lambda: socket.if_nametoindex(name))


def test_own_addresses_are_whole_and_networks_are_as_wide_as_they_are(space: Namespace) -> None:
    index = veth(space, "one", "10.1.2.3/24", "fd01::3/64 nodad")
    veth(space, "two", "10.9.0.1/16")
    own, networks = found(space)
    assert {"10.1.2.3/32", "fd01::3/128", "10.9.0.1/32"} <= own
    assert {"10.1.2.0/24", "fd01::/64", "10.9.0.0/16"} <= networks
    own, networks = found(space, index)
    assert {"10.1.2.3/32", "fd01::3/128"} <= own, "they are ours on every link"
    assert not {"10.1.2.0/24", "fd01::/64"} & networks
    assert "10.9.0.0/16" in networks


def test_at_a_point_to_point_link_the_address_is_ours_and_the_network_is_the_other_s(
    space: Namespace,
) -> None:
    veth(space, "one", "10.1.1.1 peer 10.2.2.0/24")
    own, networks = found(space)
    assert "10.1.1.1/32" in own
    assert "10.2.2.0/32" not in own
    assert "10.2.2.0/24" in networks


def test_an_address_that_went_is_gone(space: Namespace) -> None:
    veth(space, "one", "10.1.2.3/24")
    assert "10.1.2.3/32" in found(space)[0]
    space.ip("address", "del", "10.1.2.3/24", "dev", "one")
    assert "10.1.2.3/32" not in found(space)[0]


def test_many_addresses_come_in_several_answers(space: Namespace) -> None:
    index = veth(space, "one")
    batch = "".join(f"address add 10.{n // 250}.{n % 250}.1/32 dev one\n" for n in range(2000))
    space.run("ip", "-batch", "-", stdin=batch)
    own, networks = found(space, index)
    assert len([text for text in own if text.startswith("10.")]) == 2000
    assert "10.7.249.1/32" in own
    assert not {text for text in networks if text.startswith("10.")}
