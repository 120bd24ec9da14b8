"""Requests made of a configuration, applied to a small model of a device."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.config.samples import OTHER, PEER, PRIVATE, PSK, configs
from wgpy.config.conf import parse
from wgpy.config.model import Config, EndpointSpec, InterfaceConfig, PeerConfig
from wgpy.config.sync import add_change, endpoint_address, set_change, sync_change
from wgpy.device.uapi import (
    Address,
    AllowedIpChange,
    DeviceChange,
    DeviceState,
    PeerChange,
    PeerState,
)
from wgpy.ip import parse_prefix
from wgpy.keys import PresharedKey, PrivateKey, PublicKey

PUBLIC = PublicKey.from_base64(PEER)


def resolve(spec: EndpointSpec) -> Address:
    """Names have the address 192.0.2.99 here."""
    assert not spec.host[0].isdigit() or ":" not in spec.host
    return Address("192.0.2.99", spec.port)


def no_resolve(spec: EndpointSpec) -> Address:
    raise AssertionError(f"{spec} must not be looked up")


def apply(state: DeviceState, change: DeviceChange) -> DeviceState:
    """What a device makes of a request: the cross-platform protocol in small."""
    state = copy.deepcopy(state)
    if change.private_key is not None:
        state.private_key = None if change.private_key.is_zero() else change.private_key
    if change.listen_port is not None:
        state.listen_port = change.listen_port or 49152
    if change.fwmark is not None:
        state.fwmark = change.fwmark
    peers = {} if change.replace_peers else {peer.public_key: peer for peer in state.peers}
    for wanted in change.peers:
        if wanted.remove:
            peers.pop(wanted.public_key, None)
            continue
        if wanted.public_key not in peers and wanted.update_only:
            continue
        peer = peers.setdefault(wanted.public_key, PeerState(wanted.public_key))
        if wanted.preshared_key is not None:
            zero = wanted.preshared_key.is_zero()
            peer.preshared_key = None if zero else wanted.preshared_key
        if wanted.endpoint is not None:
            peer.endpoint, peer.endpoint_name = wanted.endpoint, wanted.endpoint_name
        if wanted.persistent_keepalive is not None:
            peer.persistent_keepalive = wanted.persistent_keepalive
        if wanted.replace_allowed_ips:
            peer.allowed_ips = []
        for prefix, remove in wanted.allowed_ips:
            for other in peers.values():
                if prefix in other.allowed_ips and (other is peer or not remove):
                    other.allowed_ips.remove(prefix)
            if not remove:
                peer.allowed_ips.append(prefix)
    state.peers = list(peers.values())
    return state


def settled(state: DeviceState) -> object:
    """What counts of a state: no order of peers or of allowed IPs."""
    return (
        state.private_key,
        state.fwmark,
        {
            p.public_key: (
                p.preshared_key,
                p.endpoint,
                p.endpoint_name,
                p.persistent_keepalive,
                frozenset(p.allowed_ips),
            )
            for p in state.peers
        },
    )


def config(text: str) -> Config:
    return parse(text, "wg")[0]


def test_setconf_resets_what_the_file_lacks() -> None:
    change = set_change(Config(), no_resolve)
    assert change == DeviceChange(PrivateKey(bytes(32)), 0, 0, replace_peers=True, peers=[])


def test_addconf_leaves_what_the_file_lacks() -> None:
    assert add_change(Config(), no_resolve) == DeviceChange()
    change = add_change(config("[Interface]\nListenPort=5\nFwMark=off"), no_resolve)
    assert change == DeviceChange(listen_port=5, fwmark=0)


def test_a_whole_peer() -> None:
    text = (
        f"[Interface]\nPrivateKey={PRIVATE}\n[Peer]\nPublicKey={PEER}\nPresharedKey={PSK}\n"
        "Endpoint=[2001:DB8::0]:7\nAllowedIPs=10.0.0.0/8,::/0\nPersistentKeepalive=off"
    )
    expected = PeerChange(
        PUBLIC,
        preshared_key=PresharedKey.from_base64(PSK),
        endpoint=Address("2001:db8::", 7),
        persistent_keepalive=0,
        replace_allowed_ips=True,
        allowed_ips=[
            AllowedIpChange(parse_prefix("10.0.0.0/8")),
            AllowedIpChange(parse_prefix("::/0")),
        ],
    )
    assert set_change(config(text), no_resolve, names=True).peers == [expected]
    assert add_change(config(text), no_resolve).peers == [expected]
    assert set_change(config(text), no_resolve).private_key == PrivateKey.from_base64(PRIVATE)


def test_a_name_is_looked_up_and_told_to_wgpy_alone() -> None:
    named = config(f"[Peer]\nPublicKey={PEER}\nEndpoint=gate.example:7")
    for make in (set_change, add_change):
        (peer,) = make(named, resolve, names=True).peers
        assert (peer.endpoint, peer.endpoint_name) == (
            Address("192.0.2.99", 7),
            ("gate.example", 7),
        )
        (peer,) = make(named, resolve).peers
        assert (peer.endpoint, peer.endpoint_name) == (Address("192.0.2.99", 7), None)


def test_signs_change_what_a_peer_has() -> None:
    text = f"[Peer]\nPublicKey={PEER}\nAllowedIPs=-::/0,+fd00::/8"
    (peer,) = add_change(config(text), no_resolve).peers
    assert not peer.replace_allowed_ips
    assert peer.allowed_ips == [
        AllowedIpChange(parse_prefix("::/0"), remove=True),
        AllowedIpChange(parse_prefix("fd00::/8")),
    ]


def test_a_failed_look_up_goes_to_the_caller() -> None:
    def fail(spec: EndpointSpec) -> Address:
        raise OSError(f"{spec.host} is unknown")

    with pytest.raises(OSError, match="nowhere is unknown"):
        set_change(config(f"[Peer]\nPublicKey={PEER}\nEndpoint=nowhere:7"), fail)


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("example.com", None),
        ("1.2.3", None),
    ],
)
def test_addresses_need_no_look_up(host: str, text: str | None) -> None:
    found = endpoint_address(EndpointSpec(host, 1))
    assert found == (None if text is None else Address(text, 1))


# --- syncconf ---

TEXT = (
    f"[Interface]\nPrivateKey={PRIVATE}\nListenPort=5\nFwMark=7\n"
    f"[Peer]\nPublicKey={PEER}\nPresharedKey={PSK}\nEndpoint=gate.example:7\n"
    f"AllowedIPs=10.0.0.0/8,::/0\nPersistentKeepalive=25\n"
    f"[Peer]\nPublicKey={OTHER}\nAllowedIPs=192.0.2.0/24\nEndpoint=[2001:DB8::0]:1\n"
)


def synced(text: str, *, names: bool = False) -> DeviceState:
    return apply(DeviceState(), set_change(config(text), resolve, names=names))


@pytest.mark.parametrize("names", [False, True])
def test_nothing_is_sent_when_nothing_changed(names: bool) -> None:
    look_up = no_resolve if names else resolve
    assert sync_change(config(TEXT), synced(TEXT, names=names), look_up, names=names) == (
        DeviceChange()
    )


def test_a_name_that_wgpy_looks_up_itself_is_left_alone() -> None:
    state = synced(TEXT, names=True)
    state.peers[0].endpoint = Address("198.51.100.1", 7)
    assert sync_change(config(TEXT), state, no_resolve, names=True) == DeviceChange()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("25\n", "26\n", PeerChange(PUBLIC, update_only=True, persistent_keepalive=26)),
        (
            "PersistentKeepalive=25\n",
            "",
            PeerChange(PUBLIC, update_only=True, persistent_keepalive=0),
        ),
        (
            f"PresharedKey={PSK}\n",
            "",
            PeerChange(PUBLIC, update_only=True, preshared_key=PresharedKey(bytes(32))),
        ),
        (
            "gate.example:7",
            "192.0.2.5:7",
            PeerChange(PUBLIC, update_only=True, endpoint=Address("192.0.2.5", 7)),
        ),
        ("Endpoint=gate.example:7\n", "", None),
        (
            "10.0.0.0/8,::/0",
            "10.0.0.0/8,::/0,fd00::/8",
            PeerChange(
                PUBLIC,
                update_only=True,
                allowed_ips=[AllowedIpChange(parse_prefix("fd00::/8"))],
            ),
        ),
        (
            "10.0.0.0/8,::/0",
            "::/0",
            PeerChange(
                PUBLIC,
                update_only=True,
                replace_allowed_ips=True,
                allowed_ips=[AllowedIpChange(parse_prefix("::/0"))],
            ),
        ),
        ("10.0.0.0/8,::/0", "::/0,10.0.0.0/8", None),
        ("10.0.0.0/8,::/0", "+::/0,-fd00::/8", None),
        (
            "10.0.0.0/8,::/0",
            "-::/0",
            PeerChange(
                PUBLIC,
                update_only=True,
                allowed_ips=[AllowedIpChange(parse_prefix("::/0"), remove=True)],
            ),
        ),
    ],
)
def test_only_what_differs_is_sent(old: str, new: str, expected: PeerChange | None) -> None:
    assert TEXT.count(old) == 1
    change = sync_change(config(TEXT.replace(old, new)), synced(TEXT), resolve)
    assert change == DeviceChange(peers=[] if expected is None else [expected])


def test_peers_that_the_file_lacks_are_removed() -> None:
    text = TEXT[: TEXT.rindex("[Peer]")]
    change = sync_change(config(text), synced(TEXT), resolve)
    assert change == DeviceChange(peers=[PeerChange(PublicKey.from_base64(OTHER), remove=True)])


def test_new_peers_come_whole() -> None:
    text = TEXT[: TEXT.rindex("[Peer]")]
    change = sync_change(config(TEXT), synced(text), resolve)
    assert change.peers == [set_change(config(TEXT), resolve).peers[1]]
    assert not change.replace_peers


def test_the_interface() -> None:
    state = synced(TEXT)
    change = sync_change(config("[Interface]\n" + TEXT.partition("FwMark=7\n")[2]), state, resolve)
    assert change.private_key == PrivateKey(bytes(32))
    assert change.listen_port is None, "any port is what the file asks for"
    assert change.fwmark == 0
    kept = sync_change(Config(), state, resolve, keep_fwmark=True)
    assert kept.fwmark is None
    changed = sync_change(
        Config(InterfaceConfig(listen_port=9, fwmark=8)), state, resolve, keep_fwmark=True
    )
    assert (changed.listen_port, changed.fwmark) == (9, 8)


def test_a_prefix_that_moves_from_peer_to_peer() -> None:
    for order in (PEER, OTHER), (OTHER, PEER):
        before = config("".join(f"[Peer]\nPublicKey={key}\n" for key in order))
        texts = {key: f"[Peer]\nPublicKey={key}\n" for key in order}
        had = before.peers[0].public_key.base64()
        gets = before.peers[1].public_key.base64()
        first = "".join(text + "AllowedIPs=::/0\n" * (key == had) for key, text in texts.items())
        then = "".join(text + "AllowedIPs=::/0\n" * (key == gets) for key, text in texts.items())
        state = apply(synced(first), sync_change(config(then), synced(first), resolve))
        assert settled(state) == settled(synced(then))


@given(configs(quick=False), configs(quick=False), st.booleans())
def test_syncconf_ends_where_setconf_ends(old: Config, new: Config, names: bool) -> None:
    # Peers of both: a key in common, or nothing would ever be a difference.
    merged = {peer.public_key: peer for peer in (*old.peers[:1], *new.peers)}
    new = Config(new.interface, _disjoint(tuple(merged.values())))
    before = apply(DeviceState(), set_change(old, resolve, names=names))
    change = sync_change(new, before, resolve, names=names)
    after = apply(before, change)
    expected = apply(before, set_change(new, resolve, names=names))
    for peer in expected.peers:
        # The file cannot take an endpoint away; syncconf leaves the one that is there.
        kept = next((p for p in before.peers if p.public_key == peer.public_key), None)
        if peer.endpoint is None and kept is not None:
            peer.endpoint, peer.endpoint_name = kept.endpoint, kept.endpoint_name
    assert settled(after) == settled(expected)
    again = sync_change(new, after, resolve, names=names)
    assert again == DeviceChange()


def _disjoint(peers: tuple[PeerConfig, ...]) -> tuple[PeerConfig, ...]:
    """The peers, each prefix with the first that has it, as a file that is accepted has them."""
    from dataclasses import replace

    seen: set[object] = set()
    made = []
    for peer in peers:
        mine = tuple(prefix for prefix in peer.allowed_ips if prefix not in seen)
        seen.update(mine)
        made.append(replace(peer, allowed_ips=mine))
    return tuple(made)
