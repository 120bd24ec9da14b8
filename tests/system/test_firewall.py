"""The table in the kernel does what `verdict` says: real packets, by rules that are made up.

And it lives and dies as it should: members come and go, somebody else removes it, daemons crash.
"""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.gate import LINK, OUTSIDE, PORTS, THIS, Flow, Gate, open_gate
from wgpy.firewall.rules import (
    Action,
    Protocol,
    Rule,
    Settings,
    parse_selector,
    parse_service,
)
from wgpy.firewall.table import Firewall
from wgpy.firewall.verdict import End, Member, Side, owner, verdict
from wgpy.ip import parse_address, parse_prefix
from wgpy.linux.nft import FirewallError

pytestmark = [pytest.mark.root, pytest.mark.tool("nft", "ip")]


def member(key: str, name: str, groups: str, prefixes: str, *, judged: bool = True) -> Member:
    return Member(
        key, name, frozenset(groups.split()), tuple(map(parse_prefix, prefixes.split())), judged
    )


MEMBERS = (
    member("ada", "ada.mesh", "staff", "10.0.0.1/32 fd00::1/128"),
    member("bob", "bob.mesh", "staff servers", "10.0.0.2/32 fd00::2/128"),
    # A router, within whose prefix others have addresses.
    member("cid", "cid.mesh", "servers", "10.0.0.3/32 10.9.0.0/16 fd00:9::/32 fd00::3/128"),
    member("dan", "dan.mesh", "", "10.9.5.5/32 fd00:9::5/128"),
    member("office", "the office", "", "10.0.1.0/24 fd00:1::/64"),
    # Configured, and named nowhere; the second lies within the router's prefix.
    member("eve", "", "", "10.0.2.0/24 fd00:2::/64", judged=False),
    member("fay", "", "", "10.9.7.0/24 fd00:9:7::/64", judged=False),
)
# One address of each, and two of the router.
PEERS = [
    parse_address(text)
    for text in (
        *("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.9.200.1", "10.9.5.5"),
        *("10.0.1.7", "10.0.2.7", "10.9.7.7"),
        *("fd00::1", "fd00::2", "fd00::3", "fd00:9::77", "fd00:9::5"),
        *("fd00:1::7", "fd00:2::7", "fd00:9:7::7"),
    )
]


def end(address: bytes) -> End:
    if address in THIS.values():
        return End(Side.THIS, address=address)
    found = owner(MEMBERS, address)
    return End(Side.OUTSIDE if found is None else Side.PEER, found, address)


@pytest.fixture(scope="module")
def gate(clean_machine: None) -> Iterator[Gate]:
    with open_gate() as made:
        yield made


# --- Made-up rules ---

selectors = st.sampled_from(
    [
        parse_selector(text)
        for text in (
            *("any", "this", "group:staff", "group:servers", "group:nobody"),
            *("name:ada.mesh", "name:dan.mesh", "name:the office", "name:cid.mesh"),
            *("net:192.0.2.0/24", "net:fd92::2/128", "net:0.0.0.0/0", "net:10.0.0.0/8"),
        )
    ]
)
services = st.sampled_from(
    [
        parse_service(text)
        for text in ("tcp", "udp", "icmp", "22/tcp", "50-80/tcp", "53/udp", "80/tcp", "1-60/udp")
    ]
)
rules = st.builds(
    Rule,
    st.sampled_from(Action),
    st.lists(selectors, min_size=1, max_size=3).map(tuple),
    st.lists(selectors, min_size=1, max_size=3).map(tuple),
    st.lists(services, max_size=3).map(tuple),
)


def flows() -> list[Flow]:
    """Every pair of ends of one IP version, each with another protocol and port, in turn."""
    kinds = [(Protocol.TCP, port) for port in PORTS] + [(Protocol.UDP, port) for port in PORTS]
    kinds.append((Protocol.ICMP, 0))
    found = []
    for version, size in ((4, 4), (6, 16)):
        ends = [x for x in PEERS if len(x) == size] + [THIS[version], OUTSIDE[version]]
        for source in ends:
            for destination in ends:
                if {source, destination} <= {THIS[version], OUTSIDE[version]}:
                    continue
                if source != destination:
                    protocol, port = kinds[len(found) % len(kinds)]
                    found.append(Flow(source, destination, protocol, port))
    return found


def expected(table: Sequence[Rule], flow: Flow) -> bool:
    port = None if flow.protocol is Protocol.ICMP else flow.port
    source, destination = end(flow.source), end(flow.destination)
    return verdict(table, source, destination, flow.protocol, port).allowed


# Without shrinking: each example takes a second, and a few rules can be read as they are.
@settings(
    max_examples=25,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
    deadline=None,
)
@given(table=st.lists(rules, min_size=1, max_size=6), turn=st.integers(0, 8))
def test_the_kernel_does_what_the_verdict_says(gate: Gate, table: list[Rule], turn: int) -> None:
    firewall = Firewall(LINK)
    gate.gate.inside(lambda: firewall.start(Settings(tuple(table))))
    try:
        gate.gate.inside(lambda: firewall.change(add=MEMBERS))
        tried = flows()[turn:] + flows()[:turn]
        got = gate.passed(tried)
        wrong = [
            (str(end(flow.source)), str(end(flow.destination)), flow, allowed)
            for flow, allowed in zip(tried, got, strict=True)
            if allowed != expected(table, flow)
        ]
        assert wrong == [], list(map(str, table))
    finally:
        gate.gate.inside(firewall.stop)


# --- A life ---

ADA, BOB = MEMBERS[0], MEMBERS[1]
SSH = Rule(
    Action.ALLOW,
    (parse_selector("group:staff"),),
    (parse_selector("any"),),
    (parse_service("22/tcp"), parse_service("udp")),
)
A, B = (parse_address(text) for text in ("10.0.0.1", "10.0.0.2"))


@pytest.fixture
def firewall(gate: Gate) -> Iterator[Firewall]:
    """In force with one rule, and nobody is a member yet."""
    made = Firewall(LINK)
    gate.gate.inside(lambda: made.start(Settings((SSH,))))
    yield made
    gate.gate.inside(made.stop)
    assert "wgpy-" not in gate.gate.run("nft", "list", "tables").stdout


def passes(gate: Gate, *flows: Flow) -> list[bool]:
    return gate.passed(flows)


SSH_FLOW = Flow(A, THIS[4], Protocol.TCP, 22)
WEB_FLOW = Flow(A, THIS[4], Protocol.TCP, 80)
UDP_FLOW = Flow(A, B, Protocol.UDP, 53)


def test_members_come_and_go(gate: Gate, firewall: Firewall) -> None:
    assert passes(gate, SSH_FLOW, WEB_FLOW) == [True, True]  # not judged
    gate.gate.inside(lambda: firewall.add(ADA))
    assert passes(gate, SSH_FLOW, WEB_FLOW) == [True, False]
    # Another of its groups, and the rule is no longer for it.
    moved = Member(ADA.key, ADA.name, frozenset({"guests"}), ADA.addresses)
    gate.gate.inside(lambda: firewall.add(moved))
    assert passes(gate, SSH_FLOW, WEB_FLOW) == [False, False]
    # The address goes to another key in one transaction.
    gate.gate.inside(
        lambda: firewall.change(
            add=[Member("new", "new.mesh", frozenset({"staff"}), ADA.addresses)], remove=[ADA.key]
        )
    )
    assert passes(gate, SSH_FLOW, WEB_FLOW) == [True, False]
    gate.gate.inside(lambda: firewall.remove("new"))
    assert passes(gate, SSH_FLOW, WEB_FLOW) == [True, True]
    assert firewall.members == []


def test_answers_pass_until_the_member_goes(gate: Gate, firewall: Firewall) -> None:
    def answer(port: int) -> bool:
        """Whether what B answers to A's datagram from `port` comes through."""
        return gate.comes_through(Flow(B, A, Protocol.UDP, port), source_port=53)

    gate.gate.inside(lambda: firewall.change(add=[ADA, BOB]))
    stranger = Member(BOB.key, BOB.name, frozenset(), BOB.addresses)
    gate.gate.inside(lambda: firewall.add(stranger))
    assert not answer(30_001)
    port = gate.next_port + 1
    assert passes(gate, UDP_FLOW) == [True]
    assert answer(port)
    # The entry of A's connection goes with A: whoever has its address next gets no answers.
    gate.gate.inside(lambda: firewall.remove(ADA.key))
    gate.gate.inside(lambda: firewall.add(ADA))
    assert not answer(port)


def test_new_rules_hold_for_connections_that_there_are(gate: Gate, firewall: Firewall) -> None:
    gate.gate.inside(lambda: firewall.change(add=[ADA, BOB]))
    port = gate.next_port + 1
    assert passes(gate, UDP_FLOW) == [True]
    again = Flow(A, B, Protocol.UDP, 53)
    # B answers, which makes the connection one that passes by itself.
    assert gate.comes_through(Flow(B, A, Protocol.UDP, port), source_port=53)
    assert gate.comes_through(again, source_port=port)
    deny = Rule(Action.DENY, SSH.sources, SSH.destinations)
    gate.gate.inside(lambda: firewall.start(Settings((SSH, deny))))
    assert not gate.comes_through(again, source_port=port)


def test_a_table_that_somebody_removed_is_made_anew(gate: Gate, firewall: Firewall) -> None:
    gate.gate.inside(lambda: firewall.add(ADA))
    gate.gate.run("nft", "flush", "ruleset")
    assert passes(gate, WEB_FLOW) == [True]
    gate.gate.inside(lambda: firewall.add(BOB))
    assert passes(gate, SSH_FLOW, WEB_FLOW) == [True, False]


def test_a_link_that_is_renamed_stays_guarded(gate: Gate, firewall: Firewall) -> None:
    gate.gate.inside(lambda: firewall.add(ADA))
    for before, after in ((LINK, "wgtx"), ("wgtx", LINK)):
        gate.gate.ip("link", "set", before, "down")
        gate.gate.ip("link", "set", before, "name", after)
        gate.gate.ip("link", "set", after, "up")
        gate.restore_routes(after)
        assert passes(gate, SSH_FLOW, WEB_FLOW) == [True, False]


def test_many_members_are_one_transaction(gate: Gate, firewall: Firewall) -> None:
    many = [
        Member(f"k{x}", f"n{x}", frozenset({"staff"}), (parse_prefix(f"10.77.{x >> 8}.{x & 255}"),))
        for x in range(2000)
    ]
    gate.gate.inside(lambda: firewall.change(add=many))
    last = parse_address("10.77.7.207")
    flow = Flow(last, THIS[4], Protocol.TCP, 80)
    assert passes(gate, flow) == [False]
    gate.gate.inside(lambda: firewall.change(remove=[member.key for member in many]))
    assert passes(gate, flow) == [True]


def test_a_refusal_admits_nobody(gate: Gate, firewall: Firewall) -> None:
    gate.gate.inside(lambda: firewall.add(ADA))
    # In a namespace without the link there is no such table, and none can be made.
    with pytest.raises(FirewallError, match="nft exited with 1"):
        gate.outside.inside(lambda: firewall.add(BOB))
    assert firewall.members == [ADA]
    gate.gate.inside(lambda: firewall.add(BOB))
    assert passes(gate, SSH_FLOW, WEB_FLOW) == [True, False]


def test_without_rules_there_is_no_table(gate: Gate, firewall: Firewall) -> None:
    gate.gate.inside(lambda: firewall.add(ADA))
    gate.gate.inside(lambda: firewall.start(Settings()))
    assert not firewall.active
    assert "wgpy-" not in gate.gate.run("nft", "list", "tables").stdout
    assert passes(gate, WEB_FLOW) == [True]
    # Who was there is there when rules come back.
    gate.gate.inside(lambda: firewall.start(Settings((SSH,))))
    assert passes(gate, SSH_FLOW, WEB_FLOW) == [True, False]
