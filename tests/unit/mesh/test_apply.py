"""What the daemon is told of a network: everything once, and then only what is new."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.stores import SETTINGS, key
from wgpy.config.model import EndpointSpec
from wgpy.device.paths import Transport
from wgpy.device.uapi import Address, ClaimsSummary, DeviceChange, DeviceState, PeerState
from wgpy.identity.claims import Kind
from wgpy.identity.derived import quarantine_address, quarantine_range
from wgpy.identity.settings import Expectation
from wgpy.ip import Prefix, parse_prefix
from wgpy.keys import PrivateKey
from wgpy.mesh.addresses import nodes_range6
from wgpy.mesh.apply import (
    KEEPALIVE,
    Contact,
    Other,
    Turn,
    Wanted,
    config_of,
    difference,
    routes_of,
)
from wgpy.mesh.line import Endpoint
from wgpy.mesh.place import Membership, Place

PRIVATE = PrivateKey(bytes(range(1, 33)))
GATE = Contact(
    key(1),
    "gate.mesh",
    (parse_prefix("10.7.0.1"), parse_prefix("fd07::1")),
    Endpoint("192.0.2.1", 51820),
    keepalive=KEEPALIVE,
)
LAPTOP = Other(key(2), "laptop.mesh", (parse_prefix("10.7.0.2"), parse_prefix("fd07::2")))
MEMBER = Membership("mesh0", SETTINGS.id, "mesh", name="phone.mesh")


def wanted(**changes: Any) -> Wanted:
    made = Wanted(PRIVATE, MEMBER, SETTINGS, (GATE,), (LAPTOP,), ("/ca.pem",), ("/between.pem",))
    return replace(made, **changes)


def place() -> Place:
    return Place("mesh0", Path("/state"), Path("/run"))


def no_names(endpoint: EndpointSpec) -> Address:
    raise AssertionError(f"{endpoint} is looked up")


def told(change: DeviceChange, state: DeviceState | None = None) -> DeviceState:
    """A daemon that was told this, as far as `difference` looks at it."""
    peers = {x.public_key: x for x in (state or DeviceState()).peers}
    for each in change.peers:
        former = peers.pop(each.public_key, PeerState(each.public_key))
        if each.remove:
            continue
        expectation = each.expectation
        peers[each.public_key] = replace(
            former,
            endpoint=each.endpoint or former.endpoint,
            endpoint_name=each.endpoint_name or former.endpoint_name,
            persistent_keepalive=former.persistent_keepalive
            if each.persistent_keepalive is None
            else each.persistent_keepalive,
            allowed_ips=[x.prefix for x in each.allowed_ips]
            if each.replace_allowed_ips
            else [*former.allowed_ips, *(x.prefix for x in each.allowed_ips)],
            expectation=expectation if isinstance(expectation, Expectation) else former.expectation,
            nat=former.nat if each.nat is None else each.nat,
        )
    former_state = state or DeviceState(private_key=PRIVATE, fwmark=51820)
    return replace(
        former_state,
        peers=list(peers.values()),
        authority=change.authority or former_state.authority,
        identity=change.identity or former_state.identity,
        nat=change.nat or former_state.nat,
    )


def fresh() -> DeviceState:
    change = difference(config_of(wanted(), place()), DeviceState(), no_names)
    assert change is not None
    return told(change)


def test_a_node_is_a_peer_that_must_prove_its_name() -> None:
    config = config_of(wanted(), place())
    gate, laptop = config.peers
    assert (gate.public_key, laptop.public_key) == (key(1), key(2))
    assert gate.endpoint == EndpointSpec("192.0.2.1", 51820)
    assert gate.persistent_keepalive == KEEPALIVE
    assert gate.expectation == Expectation("gate.mesh")
    assert not gate.nat
    assert laptop.expectation == Expectation("laptop.mesh")
    assert laptop.nat
    assert (laptop.endpoint, laptop.persistent_keepalive) == (None, 0)
    assert laptop.allowed_ips == LAPTOP.addresses
    authority = config.authority
    assert authority is not None
    assert authority.accept == (SETTINGS.range4, nodes_range6(SETTINGS.range6))
    assert authority.revocations == ("/state/mesh0.mesh/crl",)
    assert [x.path for x in authority.anchors] == ["/ca.pem"]
    assert not authority.enrol
    assert config.identity is not None
    assert config.identity.certificate == "/state/mesh0.mesh/certificate.pem"
    assert config.nat is not None
    assert config.nat.signal == "/run/mesh0.signals"


def test_who_joins_trusts_nobody_but_the_key_in_the_line() -> None:
    joining = replace(MEMBER, name=None)
    contact = replace(GATE, name=None, addresses=(parse_prefix("fd07::1"),))
    made = wanted(membership=joining, settings=None, contacts=(contact,), others=())
    config = config_of(made, place())
    (gate,) = config.peers
    assert gate.expectation == Expectation(None, key_suffices=True)
    assert (config.authority, config.nat) == (None, None)
    assert config.identity is not None
    assert config.identity.token == "/state/mesh0.mesh/enrol.jwt"
    assert routes_of(made) == (parse_prefix("fd07::1"),)


def test_on_a_coordinator_others_enrol() -> None:
    made = wanted(issuers="/issuers.jwks")
    authority = config_of(made, place()).authority
    assert authority is not None
    assert authority.enrol
    assert authority.issuers[0].limits.names == ("mesh",)
    assert quarantine_range(SETTINGS.id) in routes_of(made)
    assert quarantine_range(SETTINGS.id) not in routes_of(wanted())


def test_relays_are_grouped_by_their_host() -> None:
    uris = ("turn:a.example", "turns:a.example:443", "turn:b.example?transport=tcp")
    config = config_of(wanted(turn=Turn(uris, "a user", "/password")), place())
    assert config.nat is not None
    first, second = config.nat.turn
    assert [x.transport for x in first.uris] == [Transport.UDP, Transport.TLS]
    assert [x.host for x in second.uris] == ["b.example"]
    assert {first.password_file, second.password_file} == {"/password"}


def test_what_is_there_is_not_told_again() -> None:
    assert difference(config_of(wanted(), place()), fresh(), no_names) is None


def test_only_what_is_new_is_told() -> None:
    state = fresh()
    phone = Other(key(3), "tablet.mesh", (parse_prefix("10.7.0.3"),))
    change = difference(config_of(wanted(others=(LAPTOP, phone)), place()), state, no_names)
    assert change is not None
    assert [x.public_key for x in change.peers] == [key(3)]
    assert (change.authority, change.identity, change.nat, change.private_key) == (None,) * 4
    change = difference(config_of(wanted(others=()), place()), state, no_names)
    assert change is not None
    assert [(x.public_key, x.remove) for x in change.peers] == [(key(2), True)]


def test_the_mark_that_routes_chose_stays() -> None:
    state = replace(fresh(), fwmark=51821)
    assert difference(config_of(wanted(), place()), state, no_names) is None


def test_a_way_that_the_daemon_found_is_its_own() -> None:
    state = fresh()
    for peer in state.peers:
        if peer.nat:
            peer.endpoint = Address("198.51.100.7", 40_000)
    hinted = replace(LAPTOP, hint=Endpoint("203.0.113.9", 1))
    assert difference(config_of(wanted(others=(hinted,)), place()), state, no_names) is None
    # Who is new is told where it was.
    new = replace(hinted, key=key(4), name="new.mesh", addresses=(parse_prefix("10.7.0.9"),))
    change = difference(config_of(wanted(others=(LAPTOP, new)), place()), state, no_names)
    assert change is not None
    assert change.peers[0].endpoint == Address("203.0.113.9", 1)


def test_where_a_connected_coordinator_is_stays() -> None:
    state = fresh()
    state.peers[0].endpoint = Address("192.168.1.1", 51820)
    connected = replace(GATE, endpoint=None)
    assert difference(config_of(wanted(contacts=(connected,)), place()), state, no_names) is None


def test_who_is_to_prove_something_else_is_new() -> None:
    """Joined: the next handshake does not wait for 5 s after the one that enrolled."""
    state = fresh()
    state.peers[0].expectation = Expectation(None, key_suffices=True)
    change = difference(config_of(wanted(), place()), state, no_names)
    assert change is not None
    assert [(x.public_key, x.remove) for x in change.peers] == [(key(1), True), (key(1), False)]
    assert change.peers[1].endpoint == Address("192.0.2.1", 51820)


def admitted(kind: Kind, *prefixes: Prefix) -> PeerState:
    claims = ClaimsSummary(kind, "laptop.mesh", (), "1", None, 1)
    return PeerState(key(2), admitted=True, claims=claims, allowed_ips=list(prefixes))


@pytest.mark.parametrize(
    "peer",
    [
        admitted(Kind.CERTIFICATE, *LAPTOP.addresses),
        admitted(Kind.ENROLMENT, quarantine_address(SETTINGS.id, key(2))),
    ],
)
def test_who_came_in_by_itself_is_left_alone(peer: PeerState) -> None:
    """It may be about to be told that it is in: to make it a peer would end its session."""
    state = fresh()
    state.peers = [x for x in state.peers if x.public_key != key(2)] + [peer]
    assert difference(config_of(wanted(), place()), state, no_names) is None
    # When its session has ended it becomes one.
    state.peers = state.peers[:-1]
    change = difference(config_of(wanted(), place()), state, no_names)
    assert change is not None
    assert [x.public_key for x in change.peers] == [key(2)]


def test_routes_that_we_chose_are_worth_a_session() -> None:
    state = fresh()
    state.peers = [x for x in state.peers if x.public_key != key(2)]
    state.peers.append(admitted(Kind.CERTIFICATE, *LAPTOP.addresses))
    routed = replace(LAPTOP, routes=(parse_prefix("192.168.4.0/24"),))
    change = difference(config_of(wanted(others=(routed,)), place()), state, no_names)
    assert change is not None
    assert [(x.public_key, x.remove) for x in change.peers] == [(key(2), True), (key(2), False)]


def test_names_of_endpoints_are_looked_up_and_told() -> None:
    named = replace(GATE, endpoint=Endpoint("gate.example", 51820))
    asked: list[EndpointSpec] = []

    def look_up(endpoint: EndpointSpec) -> Address:
        asked.append(endpoint)
        return Address("192.0.2.77", endpoint.port)

    change = difference(config_of(wanted(contacts=(named,)), place()), DeviceState(), look_up)
    assert change is not None
    assert asked == [EndpointSpec("gate.example", 51820)]
    assert change.peers[0].endpoint == Address("192.0.2.77", 51820)
    assert change.peers[0].endpoint_name == ("gate.example", 51820)
