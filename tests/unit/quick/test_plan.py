"""The plan is a pure function: of the configuration and of a snapshot of the machine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.config.model import InterfaceAddress, InterfaceConfig
from wgpy.ip import Prefix, parse_address, parse_prefix
from wgpy.linux.dns import Resolver
from wgpy.linux.routes import MAIN_TABLE, Rule
from wgpy.quick.plan import (
    Snapshot,
    free_table,
    plan_hooks,
    plan_network,
    plan_start,
    route_order,
    rule_priorities,
    tunnel_mtu,
)
from wgpy.quick.steps import (
    AddAddress,
    AddRoute,
    AddRule,
    AddTable,
    Configure,
    GuardLink,
    QuickError,
    RunHook,
    SetDns,
    SetLink,
    SetMark,
    SetSysctl,
    StartDaemon,
    Step,
)

KERNEL_RULES = tuple(
    Rule(version, priority, table)
    for version in (4, 6)
    for priority, table in ((0, 255), (32766, 254), (32767, 253))
)


def _address(text: str) -> InterfaceAddress:
    written, _, length = text.partition("/")
    return InterfaceAddress(parse_address(written), int(length))


def _prefixes(*texts: str) -> tuple[Prefix, ...]:
    return tuple(map(parse_prefix, texts))


def _config(*addresses: str, **values: object) -> InterfaceConfig:
    return InterfaceConfig(addresses=tuple(map(_address, addresses)), **values)  # type: ignore[arg-type]


def _snapshot(*allowed: str, **values: object) -> Snapshot:
    return Snapshot(allowed_ips=_prefixes(*allowed), rules=KERNEL_RULES, **values)  # type: ignore[arg-type]


def _routes(steps: list[Step]) -> list[tuple[str, int]]:
    return [(step.prefix, step.table) for step in steps if isinstance(step, AddRoute)]


def test_the_start_is_daemon_hooks_keys() -> None:
    config = InterfaceConfig(pre_up=("echo %i %i", "true"))
    assert plan_start("wg0", config, "/bin/wgpyd") == [
        StartDaemon("wg0", "/bin/wgpyd"),
        RunHook("PreUp", "echo wg0 wg0"),
        RunHook("PreUp", "true"),
        Configure("wg0"),
    ]


def test_the_daemon_is_told_where_it_may_write() -> None:
    assert plan_start("wg0", InterfaceConfig(), "/bin/wgpyd", signal="/mnt/shared") == [
        StartDaemon("wg0", "/bin/wgpyd", "/mnt/shared"),
        Configure("wg0"),
    ]
    assert plan_start("wg0", InterfaceConfig(), None, signal="/mnt/shared") == [Configure("wg0")]


def test_attached_starts_no_daemon() -> None:
    assert plan_start("wg0", InterfaceConfig(), None) == [Configure("wg0")]


def test_the_firewalls_table_comes_before_the_daemon_and_so_goes_after_it() -> None:
    assert plan_start("wg0", InterfaceConfig(), "/bin/wgpyd", guarded=True) == [
        GuardLink("wg0"),
        StartDaemon("wg0", "/bin/wgpyd"),
        Configure("wg0"),
    ]


def test_hooks_keep_their_order_and_only_percent_i_is_replaced() -> None:
    steps = plan_hooks("wg0", "PostUp", ["b %i", "a %d"])
    assert steps == [RunHook("PostUp", "b wg0"), RunHook("PostUp", "a %d")]


def test_the_network_comes_in_wg_quicks_order() -> None:
    config = _config("10.0.0.2/24", "fd00::2/64", dns=("10.0.0.53",), dns_search=("lan",))
    snapshot = _snapshot("10.9.0.0/16", resolver=Resolver.RESOLVCONF, dns_record="tun.wg0")
    assert plan_network("wg0", config, snapshot) == [
        AddAddress("wg0", "10.0.0.2/24"),
        AddAddress("wg0", "fd00::2/64"),
        SetLink("wg0", 1420),
        SetDns("wg0", "resolvconf", "tun.wg0", ("10.0.0.53",), ("lan",)),
        AddRoute("wg0", "10.9.0.0/16", MAIN_TABLE),
    ]


@pytest.mark.parametrize(
    ("endpoints", "default", "mtu"),
    [
        ((), None, 1420),
        ((), 9000, 8920),
        ((1500, 1400, 9000), 1280, 1320),
        ((65536,), 1500, 65456),
    ],
)
def test_mtu_is_that_of_the_narrowest_way(
    endpoints: tuple[int, ...], default: int | None, mtu: int
) -> None:
    snapshot = Snapshot(endpoint_mtus=endpoints, default_mtu=default)
    assert tunnel_mtu(snapshot) == mtu


def test_a_given_mtu_is_kept() -> None:
    steps = plan_network("wg0", InterfaceConfig(mtu=1300), _snapshot(endpoint_mtus=(1500,)))
    assert steps == [SetLink("wg0", 1300)]


def test_search_domains_without_a_server_are_nothing() -> None:
    assert plan_network("wg0", InterfaceConfig(dns_search=("lan",)), _snapshot()) == [
        SetLink("wg0", 1420)
    ]


def test_dns_without_a_resolver_says_what_to_install() -> None:
    with pytest.raises(QuickError, match="install openresolv or systemd-resolved"):
        plan_network("wg0", InterfaceConfig(dns=("10.0.0.53",)), _snapshot())


def test_table_off_makes_no_route() -> None:
    steps = plan_network("wg0", InterfaceConfig(table="off"), _snapshot("0.0.0.0/0", "10.1.0.0/16"))
    assert steps == [SetLink("wg0", 1420)]


def test_a_numbered_table_takes_everything_and_no_rule() -> None:
    config = _config("10.0.0.2/24", table=1234)
    steps = plan_network("wg0", config, _snapshot("0.0.0.0/0", "10.0.0.0/24", "::/0"))
    assert steps[2:] == [
        AddRoute("wg0", "10.0.0.0/24", 1234),
        AddRoute("wg0", "0.0.0.0/0", 1234),
        AddRoute("wg0", "::/0", 1234),
    ]


def test_what_an_address_connects_gets_no_route_of_its_own() -> None:
    config = _config("10.0.0.2/24", "10.5.0.1/32", "fd00::2/64", "fd01::1/128", "fd02::1/32")
    snapshot = _snapshot(
        *("10.0.0.7/32", "10.0.0.0/24", "10.0.0.0/16", "10.5.0.1/32"),
        *("fd00::/64", "fd00::7/128", "fd00::/48", "fd01::1/128", "fd02::/48"),
        *("10.77.0.0/17", "10.88.0.0/16"),
        link_prefixes=frozenset(_prefixes("10.77.0.0/16")),
    )
    assert {prefix for prefix, _ in _routes(plan_network("wg0", config, snapshot))} == {
        "10.0.0.0/16",
        "10.5.0.1/32",
        "10.88.0.0/16",
        "fd00::/48",
    }


def test_a_default_route_has_its_own_table_and_the_rules_come_first() -> None:
    config = _config("10.0.0.2/24", "fd00::2/64")
    snapshot = _snapshot("0.0.0.0/0", "::/0", tables_in_use=frozenset({254, 51820}))
    assert plan_network("wg0", config, snapshot)[3:] == [
        SetMark("wg0", 51821),
        SetSysctl("net.ipv4.conf.all.src_valid_mark", "1", "0", "0"),
        AddTable("wg0", 4, ("10.0.0.2",), 51821),
        AddRule(4, 32765, 51821, 51821, False),
        AddRule(4, 32764, MAIN_TABLE, None, True),
        AddRoute("wg0", "0.0.0.0/0", 51821),
        AddTable("wg0", 6, ("fd00::2",), 51821),
        AddRule(6, 32765, 51821, 51821, False),
        AddRule(6, 32764, MAIN_TABLE, None, True),
        AddRoute("wg0", "::/0", 51821),
    ]


def test_a_mark_of_the_configuration_is_the_table() -> None:
    steps = plan_network("wg0", InterfaceConfig(), _snapshot("0.0.0.0/0", mark=0x1234))
    assert not any(isinstance(step, SetMark) for step in steps)
    assert _routes(steps) == [("0.0.0.0/0", 0x1234)]


def test_ipv6_alone_leaves_ipv4s_sysctl() -> None:
    steps = plan_network("wg0", InterfaceConfig(), _snapshot("::/0"))
    assert not any(isinstance(step, SetSysctl) for step in steps)


def test_the_sysctls_first_value_is_what_will_be_restored() -> None:
    snapshot = _snapshot("0.0.0.0/0", src_valid_mark="1", src_valid_mark_before="0")
    steps = plan_network("wg0", InterfaceConfig(), snapshot)
    assert SetSysctl("net.ipv4.conf.all.src_valid_mark", "1", "0", "1") in steps


def test_two_halves_are_no_default_route() -> None:
    steps = plan_network("wg0", InterfaceConfig(), _snapshot("0.0.0.0/1", "128.0.0.0/1"))
    assert _routes(steps) == [("0.0.0.0/1", MAIN_TABLE), ("128.0.0.0/1", MAIN_TABLE)]


def test_without_nft_a_default_route_is_refused_with_the_package() -> None:
    with pytest.raises(QuickError, match="install nftables"):
        plan_network("wg0", InterfaceConfig(), _snapshot("0.0.0.0/0", have_nft=False))


def test_without_ipv6_its_default_is_left_out_and_its_address_refused() -> None:
    snapshot = _snapshot("0.0.0.0/0", "::/0", ipv6_off=True)
    steps = plan_network("wg0", _config("10.0.0.2/24"), snapshot)
    assert _routes(steps) == [("0.0.0.0/0", 51820)]
    with pytest.raises(QuickError, match="IPv6 is off here"):
        plan_network("wg0", _config("fd00::2/64"), snapshot)


def test_rules_go_before_those_of_others() -> None:
    rules = (*KERNEL_RULES, Rule(4, 100, 7), Rule(6, 50, 7))
    assert rule_priorities(rules, 4) == (99, 98)
    assert rule_priorities(rules, 6) == (49, 48)


@pytest.mark.parametrize("priority", [1, 2])
def test_no_room_before_the_first_rule_is_said(priority: int) -> None:
    with pytest.raises(QuickError, match=f"priority {priority}"):
        rule_priorities((Rule(4, priority, 7),), 4)


def test_the_next_free_table() -> None:
    assert free_table(frozenset()) == 51820
    assert free_table(frozenset({51820, 51821, 51823})) == 51822


@given(
    st.lists(
        st.builds(
            lambda value, length: parse_prefix(
                f"{'.'.join(map(str, value.to_bytes(4, 'big')))}/{length}"
            ),
            st.integers(0, 2**32 - 1),
            st.integers(0, 32),
        )
    )
)
def test_route_order_is_longest_first_and_loses_nothing(prefixes: list[Prefix]) -> None:
    ordered = route_order(prefixes)
    assert set(ordered) == set(prefixes)
    assert len(ordered) == len(set(ordered))
    lengths = [prefix.length for prefix in ordered]
    assert lengths == sorted(lengths, reverse=True)


def _reachable(steps: list[Step], config: InterfaceConfig, target: int) -> bool:
    """A slow model of longest prefix match: whether the link has any way to an IPv4 address."""
    ways = [parse_prefix(prefix) for prefix, _ in _routes(steps)]
    ways += [address.network for address in config.addresses if address.length < 32]
    return any(
        way.version == 4
        and int.from_bytes(way.address, "big") >> (32 - way.length) == target >> (32 - way.length)
        for way in ways
    )


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 32),
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)), min_size=1, max_size=8),
)
def test_every_allowed_address_is_routed_to_the_link(
    own: int, length: int, allowed: list[tuple[int, int]]
) -> None:
    config = InterfaceConfig(addresses=(InterfaceAddress(own.to_bytes(4, "big"), length),))
    prefixes = [
        parse_prefix(f"{'.'.join(map(str, value.to_bytes(4, 'big')))}/{bits}")
        for value, bits in allowed
    ]
    snapshot = Snapshot(allowed_ips=tuple(prefixes), rules=KERNEL_RULES)
    steps = plan_network("wg0", config, snapshot)
    for prefix in prefixes:
        first = int.from_bytes(prefix.address, "big")
        assert _reachable(steps, config, first)
        assert _reachable(steps, config, first + 2 ** (32 - prefix.length) - 1)
