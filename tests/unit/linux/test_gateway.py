"""Which router the kernel would take, in namespaces with routes of their own."""

import socket
from collections.abc import Iterator

import pytest

from tests.support.netns import Namespace
from wgpy.ip import address_text
from wgpy.linux.gateway import Gateway, gateway

pytestmark = pytest.mark.root


@pytest.fixture
def space(clean_machine: None) -> Iterator[Namespace]:
    with Namespace("gateway") as made:
        yield made


def veth(space: Namespace, name: str, *given: str) -> int:
    """A link with these addresses; returns its index."""
    space.ip("link", "add", name, "up", "type", "veth", "peer", "name", f"{name}x")
    space.ip("link", "set", f"{name}x", "up")
    space.add_address(name, *given)
    return space.inside(lambda: socket.if_nametoindex(name))


def found(
    space: Namespace, version: int = 4, mark: int = 0, except_link: int = -1
) -> tuple[str, str, int] | None:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    answer: Gateway | None = space.inside(lambda: gateway(family, mark, except_link))
    if answer is None:
        return None
    return address_text(answer.address), address_text(answer.source), answer.link


def test_without_a_route_there_is_none(space: Namespace) -> None:
    assert found(space) is None
    veth(space, "one", "10.1.2.3/24", "2a00:1::3/64")
    assert found(space) is None
    assert found(space, 6) is None


def test_the_router_and_our_address_towards_it(space: Namespace) -> None:
    link = veth(space, "one", "10.1.2.3/24", "10.1.2.4/24", "2a00:1::3/64")
    space.ip("route", "add", "default", "via", "10.1.2.1")
    space.ip("-6", "route", "add", "default", "via", "fe80::1", "dev", "one")
    assert found(space) == ("10.1.2.1", "10.1.2.3", link)
    assert found(space, 6) == ("fe80::1", "2a00:1::3", link)
    space.ip("route", "replace", "default", "via", "10.1.2.1", "src", "10.1.2.4")
    assert found(space) == ("10.1.2.1", "10.1.2.4", link)


def test_of_two_routers_the_one_with_the_lower_metric(space: Namespace) -> None:
    veth(space, "one", "10.1.2.3/24")
    two = veth(space, "two", "10.9.0.3/24")
    space.ip("route", "add", "default", "via", "10.1.2.1", "metric", "200")
    space.ip("route", "add", "default", "via", "10.9.0.1", "metric", "100")
    assert found(space) == ("10.9.0.1", "10.9.0.3", two)


def test_a_link_without_a_next_hop_has_no_router(space: Namespace) -> None:
    veth(space, "one", "10.1.2.3/24")
    space.ip("route", "add", "default", "dev", "one")
    assert found(space) is None


def test_a_link_of_our_own_is_left_out(space: Namespace) -> None:
    link = veth(space, "one", "10.1.2.3/24")
    space.ip("route", "add", "default", "via", "10.1.2.1")
    assert found(space, except_link=link) is None
    assert found(space, except_link=link + 1) is not None


@pytest.mark.parametrize("kind", ["blackhole", "prohibit", "unreachable"])
def test_a_route_that_leads_nowhere(space: Namespace, kind: str) -> None:
    space.ip("route", "add", kind, "default")
    space.ip("-6", "route", "add", kind, "default")
    assert found(space) is None
    assert found(space, 6) is None


def test_the_mark_of_a_tunnels_packets_leads_around_the_tunnel(space: Namespace) -> None:
    """As `wgpy up` routes: marked packets take the main table, all others the tunnel's."""
    link = veth(space, "one", "10.1.2.3/24")
    tunnel = veth(space, "tun", "10.7.0.1/24")
    space.ip("route", "add", "default", "via", "10.1.2.1")
    space.ip("route", "add", "default", "via", "10.7.0.9", "table", "51820")
    space.ip("rule", "add", "not", "fwmark", "51820", "table", "51820")
    assert found(space) == ("10.7.0.9", "10.7.0.1", tunnel)
    assert found(space, mark=51820) == ("10.1.2.1", "10.1.2.3", link)
    assert found(space, except_link=tunnel) is None
