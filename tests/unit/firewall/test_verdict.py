"""What the rules say: deny first, then allow, then the default; and who is judged at all."""

import pytest

from wgpy.firewall.explain import find_end, parse_target, show_text, verdict_json, verdict_text
from wgpy.firewall.rules import (
    Action,
    Protocol,
    Rule,
    RulesError,
    Settings,
    parse_selector,
    parse_service,
)
from wgpy.firewall.verdict import End, Member, Side, owner, verdict
from wgpy.ip import parse_address, parse_prefix


def rule(action: str, source: str, target: str, ports: str = "", at: str | None = None) -> Rule:
    return Rule(
        Action(action),
        tuple(map(parse_selector, source.split(","))),
        tuple(map(parse_selector, target.split(","))),
        tuple(map(parse_service, ports.split())),
        at,
    )


ADA = Member("ada-key", "ada.mesh", frozenset({"staff"}), (parse_prefix("10.0.0.1/32"),))
NET = Member("net-key", "net.mesh", frozenset(), (parse_prefix("10.0.0.0/8"),))
PLAIN = Member("plain-key", "", frozenset(), (parse_prefix("10.1.0.0/16"),), judged=False)
ALL = (ADA, NET, PLAIN)
A, N, P = (End(Side.PEER, member) for member in ALL)
THIS, OUT = End(Side.THIS), End(Side.OUTSIDE, address=parse_address("192.0.2.9"))
SSH = rule("allow", "group:staff", "this", "22/tcp")


def says(rules: list[Rule], source: End, target: End, port: int | None = 22) -> bool:
    return verdict(rules, source, target, Protocol.TCP, port).allowed


def test_without_rules_everything_passes() -> None:
    assert says([], A, THIS)


def test_the_default_denies_members_in_both_directions() -> None:
    assert says([SSH], A, THIS)
    assert not says([SSH], A, THIS, 23)
    for source, target in ((A, N), (N, A), (A, OUT), (OUT, A), (P, A), (A, P), (N, THIS)):
        assert not says([SSH], source, target)


def test_what_this_machine_begins_passes_unless_denied() -> None:
    assert says([SSH], THIS, A)
    assert not says([SSH, rule("deny", "this", "group:staff")], THIS, A)
    assert not says([SSH, rule("deny", "any", "group:staff")], THIS, A)


def test_configured_peers_that_no_rule_names_are_not_judged() -> None:
    denies = [rule("deny", "any", "any")]
    for source, target in ((P, THIS), (THIS, P), (P, OUT), (OUT, P), (P, P)):
        assert says(denies, source, target)
    assert not says(denies, P, A)


def test_deny_wins_in_any_order() -> None:
    allow, deny = rule("allow", "any", "any"), rule("deny", "any", "any", "22/tcp")
    for rules in ([allow, deny], [deny, allow]):
        found = verdict(rules, A, THIS, Protocol.TCP, 22)
        assert (found.allowed, found.rule) == (False, deny)
        assert verdict(rules, A, THIS, Protocol.TCP, 23).rule is allow


def test_protocols_and_ports() -> None:
    rules = [rule("allow", "any", "any", "20-25/tcp udp icmp")]
    assert [says(rules, A, THIS, port) for port in (19, 20, 25, 26)] == [False, True, True, False]
    assert verdict(rules, A, THIS, Protocol.UDP, 9).allowed
    assert verdict(rules, A, THIS, Protocol.ICMP).allowed
    # A protocol that rules cannot name is in `any protocol` alone.
    assert not verdict(rules, A, THIS).allowed
    assert verdict([rule("allow", "any", "any")], A, THIS).allowed


def test_networks_are_outside_alone() -> None:
    rules = [rule("allow", "group:staff", "net:0.0.0.0/0")]
    assert says(rules, A, OUT)
    assert not says(rules, A, N)
    assert not says(rules, A, THIS)
    assert not says(rules, A, End(Side.OUTSIDE, address=parse_address("2001:db8::1")))


def test_the_longest_prefix_owns_an_address() -> None:
    for text, who in (("10.0.0.1", ADA), ("10.0.0.2", NET), ("10.1.0.2", PLAIN)):
        assert owner(ALL, parse_address(text)) is who
    assert owner(ALL, parse_address("11.0.0.1")) is None
    assert owner(ALL, parse_address("::1")) is None


# --- For people ---


def test_ends_by_name_key_and_address() -> None:
    def ours(address: bytes) -> bool:
        return address == parse_address("10.0.0.254")

    assert find_end("this", ALL, ours) == THIS
    assert find_end("ada.mesh", ALL, ours).member is ADA
    assert find_end("plain-key", ALL, ours).member is PLAIN
    assert find_end("10.0.0.1", ALL, ours).member is ADA
    assert find_end("10.0.0.254", ALL, ours).side is Side.THIS
    assert find_end("192.0.2.1", ALL, ours).side is Side.OUTSIDE
    for text in ("nobody", "10.0.0.300", ""):
        with pytest.raises(RulesError, match="no address and no peer"):
            find_end(text, (ADA,), ours)
    with pytest.raises(RulesError, match="2 peers"):
        find_end("ada.mesh", (ADA, ADA), ours)


def test_targets() -> None:
    assert parse_target("22") == (Protocol.TCP, 22)
    assert parse_target("53/udp") == (Protocol.UDP, 53)
    assert parse_target("icmp") == (Protocol.ICMP, None)
    for text in ("", "0", "65536", "22/", "22/icmp", "ssh", "tcp"):
        with pytest.raises(RulesError, match="no port"):
            parse_target(text)


def test_an_explanation_names_the_rule_and_where_it_stands() -> None:
    first = rule("deny", "any", "any", "1/tcp")
    second = rule("allow", "group:staff", "this", "22/tcp", "/etc/wgpy/wg0.toml:12")
    settings = Settings((first, second))
    found = verdict(settings.rules, A, THIS, Protocol.TCP, 22)
    assert verdict_text(settings, A, THIS, "22/tcp", found) == (
        "allowed: ada.mesh (staff) to this machine, 22/tcp\n"
        "  by rule 2 (/etc/wgpy/wg0.toml:12): allow from group:staff to this, 22/tcp"
    )
    value = verdict_json(settings, A, THIS, "22/tcp", found)
    assert (value["allowed"], value["rule"]["number"]) == (True, 2)
    assert value["source"]["member"]["name"] == "ada.mesh"
    refused = verdict(settings.rules, OUT, A, Protocol.TCP, 22)
    assert verdict_text(settings, OUT, A, "22/tcp", refused) == (
        "denied: 192.0.2.9 (no peer) to ada.mesh (staff), 22/tcp\n  no rule allows it"
    )
    assert verdict_json(settings, OUT, A, "22/tcp", refused)["rule"] is None


def test_the_list_of_rules_and_members() -> None:
    text = show_text(Settings((SSH,)), ALL)
    assert "1: allow from group:staff to this, 22/tcp" in text
    assert "member ada.mesh (staff): 10.0.0.1/32" in text
    assert "plain-key" not in text
    assert show_text(Settings(), ALL) == "  no rules: nothing is judged"
