"""What is taken of what others offer: nothing unasked, nothing that meets what is ours."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.ip import Prefix, parse_prefix
from wgpy.mesh.routes_choice import (
    EXITS,
    Choice,
    Decision,
    Network,
    Offer,
    covers,
    decide,
    is_private,
    meets,
    why_not,
)

MESH = (parse_prefix("10.9.0.0/16"), parse_prefix("fd09::/48"))


def prefixes(text: str) -> tuple[Prefix, ...]:
    return tuple(map(parse_prefix, text.split()))


ROUTER = Offer("router.mesh", prefixes("10.1.0.0/16 fd01::/48"))
SECOND = Offer("second.mesh", prefixes("10.1.0.0/16 10.2.0.0/16"))
GATE = Offer("gate.mesh", prefixes("0.0.0.0/0 ::/0 10.3.0.0/16"))
OLD = Offer("old.mesh", prefixes("0.0.0.0/0"))
OFFERS = (ROUTER, SECOND, GATE, OLD)


def of(choice: Choice, *networks: Network, offers: tuple[Offer, ...] = OFFERS) -> Decision:
    return decide(offers, choice, networks, MESH)


def taken(decision: Decision) -> list[str]:
    return [f"{prefix} {name}" for prefix, name in decision.taken]


def test_nothing_is_taken_that_was_not_chosen() -> None:
    assert of(Choice()) == Decision()


def test_a_node_or_a_prefix_is_chosen() -> None:
    by_node = of(Choice(("router",)))
    assert taken(by_node) == ["10.1.0.0/16 router.mesh", "fd01::/48 router.mesh"]
    assert by_node.said == ()
    # A node's exit is not among its routes.
    assert taken(of(Choice(("gate.mesh",)))) == ["10.3.0.0/16 gate.mesh"]
    # Of several that offer one prefix, the first by name; but a node that was named comes first.
    assert taken(of(Choice(("10.1.0.0/16",)))) == ["10.1.0.0/16 router.mesh"]
    both = of(Choice(("10.1.0.0/16", "second")))
    assert taken(both) == ["10.1.0.0/16 second.mesh", "10.2.0.0/16 second.mesh"]


def test_who_is_there_goes_before_who_is_not() -> None:
    away = Offer("router.mesh", ROUTER.prefixes, reachable=False)
    decision = of(Choice(("10.1.0.0/16", "fd01::/48")), offers=(away, SECOND))
    assert taken(decision) == ["10.1.0.0/16 second.mesh", "fd01::/48 router.mesh"]


def test_what_nobody_offers_is_said() -> None:
    decision = of(Choice(("10.77.0.0/16", "absent", "0.0.0.0/0")))
    assert decision.taken == ()
    assert decision.said == (
        "nobody offers 10.77.0.0/16 now",
        "absent offers no route now",
        "0.0.0.0/0 is an exit; `wgpy mesh routes exit NODE` chooses one",
    )


@pytest.mark.parametrize(
    ("offered", "reason"),
    [
        ("10.5.0.0/24", "10.5.0.0/16 on eth0"),
        ("10.5.0.0/16", "10.5.0.0/16 on eth0"),
        ("10.6.0.1/32", "10.6.0.0/16 by eth1"),
        ("10.9.3.0/24", "the mesh's own 10.9.0.0/16"),
        ("10.8.0.0/14", "the mesh's own 10.9.0.0/16"),
        ("fd09::/64", "the mesh's own fd09::/48"),
        ("128.0.0.0/1", "wider than a subnet"),
        ("10.0.0.0/7", "wider than a subnet"),
        ("2000::/3", "wider than a subnet"),
        ("127.0.0.0/8", "a meaning of their own"),
        ("169.254.169.254/32", "a meaning of their own"),
        ("224.0.0.0/8", "a meaning of their own"),
        ("fe80::/64", "a meaning of their own"),
        ("::1/128", "a meaning of their own"),
    ],
)
def test_what_is_not_taken_is_said_with_its_reason(offered: str, reason: str) -> None:
    networks = (
        Network(parse_prefix("10.5.0.0/16"), "eth0"),
        Network(parse_prefix("10.6.0.0/16"), "eth1", gateway=True),
    )
    offers = (Offer("router.mesh", prefixes(offered)),)
    decision = of(Choice(("router",)), *networks, offers=offers)
    assert decision.taken == ()
    (line,) = decision.said
    assert line.startswith(f"{parse_prefix(offered)} of router.mesh is not taken: ")
    assert reason in line


def test_a_wider_route_is_taken_and_what_stays_local_is_said() -> None:
    network = Network(parse_prefix("10.1.7.0/24"), "wlan0")
    decision = of(Choice(("10.1.0.0/16",)), network)
    assert taken(decision) == ["10.1.0.0/16 router.mesh"]
    assert decision.said == (
        "10.1.0.0/16 goes to router.mesh, but of it 10.1.7.0/24 on wlan0 stays local",
    )


def test_an_exit_carries_what_it_offers_and_the_rest_is_blocked() -> None:
    decision = of(Choice(exit="gate"))
    assert (decision.exit, decision.versions) == ("gate.mesh", (4, 6))
    assert decision.allowed() == {"gate.mesh": EXITS}
    decision = of(Choice(exit="old.mesh"))
    assert decision.allowed() == {"old.mesh": EXITS[:1]}
    assert decision.said == ("the exit old.mesh has no IPv6: IPv6 is blocked",)


@pytest.mark.parametrize("name", ["router.mesh", "gone.mesh"])
def test_an_exit_that_is_none_blocks_everything(name: str) -> None:
    decision = of(Choice(exit=name))
    assert (decision.exit, decision.versions) == (name, ())
    assert decision.allowed() == {}
    assert "nothing leaves this machine" in decision.said[0]


def test_what_an_exit_leaves_alone() -> None:
    networks = (
        Network(parse_prefix("192.168.1.0/24"), "wlan0"),
        Network(parse_prefix("10.0.0.0/8"), "wlan0", gateway=True),
        Network(parse_prefix("fd55::/64"), "wlan0"),
        Network(parse_prefix("2001:db8:1::/64"), "wlan0"),
        Network(parse_prefix("203.0.113.0/24"), "eth0"),
        # A network that calls itself half of the Internet, or whose router sends us its way.
        Network(parse_prefix("0.0.0.0/1"), "wlan0"),
        Network(parse_prefix("8.8.8.0/24"), "wlan0", gateway=True),
        Network(parse_prefix("2000::/3"), "wlan0"),
        Network(parse_prefix("fe80::/64"), "wlan0"),
    )
    decision = of(Choice(exit="gate"), *networks)
    assert set(decision.past) == set(
        prefixes("192.168.1.0/24 10.0.0.0/8 fd55::/64 2001:db8:1::/64 203.0.113.0/24")
    )
    assert sorted(decision.said) == [
        "0.0.0.0/1 on wlan0 is too wide for a link: with an exit it is blocked",
        "2000::/3 on wlan0 is too wide for a link: with an exit it is blocked",
        "2001:db8:1::/64 on wlan0 has public addresses, and does not take the exit",
        "203.0.113.0/24 on eth0 has public addresses, and does not take the exit",
        "8.8.8.0/24 by wlan0 is a route to public addresses: with an exit it is blocked",
    ]
    # Without an exit nothing of it matters.
    assert of(Choice(("10.3.0.0/16",)), networks[5]).past == ()


anything = st.one_of(
    st.builds(
        lambda a, n: parse_prefix(f"{a[0]}.{a[1]}.{a[2]}.{a[3]}/{n}"),
        st.binary(min_size=4, max_size=4),
        st.integers(0, 32),
    ),
    st.sampled_from(prefixes("10.1.0.0/16 10.1.2.0/24 10.0.0.0/8 fd01::/48 fd01::/64 ::/0")),
)


@given(anything, anything)
def test_overlap_is_that_of_the_library(one: Prefix, other: Prefix) -> None:
    first, second = ip_network(str(one)), ip_network(str(other))
    same = first.version == second.version
    assert meets(one, other) == (same and first.overlaps(second))
    assert covers(one, other) == (same and second.subnet_of(first))  # type: ignore[arg-type]


@given(st.lists(anything, max_size=6), st.lists(anything, max_size=4))
def test_no_choice_takes_what_is_ours(offered: list[Prefix], local: list[Prefix]) -> None:
    networks = [Network(x, "eth0") for x in local]
    decision = decide(
        [Offer("router.mesh", tuple(offered))], Choice(("router",), "router"), networks, MESH
    )
    for prefix, _ in decision.taken:
        assert not any(x.length and covers(x, prefix) for x in local)
        assert not any(meets(x, prefix) for x in MESH)
        assert why_not(prefix, networks, MESH) is None
    assert {x for x, _ in decision.taken} <= set(offered)
    wide = [x for x in decision.past if x.length < 16 and len(x.address) == 4]
    assert all(map(is_private, wide))
