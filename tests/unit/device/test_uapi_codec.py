"""The userspace API's codec: requests and answers, what is refused, and with which errno."""

import errno
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.device.uapi import (
    Address,
    AllowedIpChange,
    DeviceChange,
    DeviceState,
    PeerChange,
    PeerState,
    UapiError,
)
from wgpy.device.uapi_codec import (
    MAX_LINE_LENGTH,
    format_change,
    format_errno,
    format_state,
    parse_change,
    parse_errno,
    parse_state,
)
from wgpy.firewall.rules import from_json
from wgpy.ip import Prefix, address_text, mask, parse_prefix
from wgpy.keys import PresharedKey, PrivateKey, PublicKey

KEY = "ab" * 32
PEER = f"public_key={KEY}"

# --- Values ---

raw_keys = st.binary(min_size=32, max_size=32)
addresses = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
u16 = st.integers(0, 65_535)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)


@st.composite
def prefixes(draw: st.DrawFn) -> Prefix:
    address = draw(addresses)
    length = draw(st.integers(0, len(address) * 8))
    return Prefix(mask(address, length), length)


@st.composite
def endpoints(draw: st.DrawFn) -> Address:
    host = address_text(draw(addresses))
    scope = draw(st.sampled_from(["", "%eth0", "%br-1.7"])) if ":" in host else ""
    return Address(host + scope, draw(u16))


names = st.tuples(
    st.text(string.ascii_letters + string.digits + "-._", min_size=1, max_size=253), u16
)
words = st.text(string.ascii_letters + string.digits + "._- ", max_size=20)

peer_changes = st.builds(
    PeerChange,
    public_key=raw_keys.map(PublicKey),
    remove=st.booleans(),
    update_only=st.booleans(),
    preshared_key=st.none() | raw_keys.map(PresharedKey),
    endpoint=st.none() | endpoints(),
    endpoint_name=st.none() | names,
    persistent_keepalive=st.none() | u16,
    replace_allowed_ips=st.booleans(),
    allowed_ips=st.lists(st.builds(AllowedIpChange, prefixes(), st.booleans()), max_size=4),
)
device_changes = st.builds(
    DeviceChange,
    private_key=st.none() | raw_keys.map(PrivateKey),
    listen_port=st.none() | u16,
    fwmark=st.none() | u32,
    replace_peers=st.booleans(),
    peers=st.lists(peer_changes, max_size=4),
)
# In an answer a key of zeros is how "none" is written, so it does not come back as a key.
some_keys = raw_keys.filter(any)
peer_states = st.builds(
    PeerState,
    public_key=raw_keys.map(PublicKey),
    preshared_key=st.none() | some_keys.map(PresharedKey),
    endpoint=st.none() | endpoints(),
    endpoint_name=st.none() | names,
    last_handshake=st.tuples(u64, u64),
    tx_bytes=u64,
    rx_bytes=u64,
    persistent_keepalive=u16,
    allowed_ips=st.lists(prefixes(), max_size=4),
)
device_states = st.builds(
    DeviceState,
    private_key=st.none() | some_keys.map(PrivateKey),
    own_public_key=st.none() | some_keys.map(PublicKey),
    listen_port=u16,
    fwmark=u32,
    peers=st.lists(peer_states, max_size=4),
    wgpy_version=st.none() | words,
    datapath=st.none() | words,
    counters=st.dictionaries(words, u64, max_size=3),
    offloads=st.dictionaries(words, st.booleans(), max_size=3),
)


# --- Requests ---


@given(device_changes)
def test_a_request_means_what_was_written(change: DeviceChange) -> None:
    text = format_change(change)
    assert text.startswith("set=1\n")
    assert text.endswith("\n\n")
    lines = text.split("\n")
    assert "" not in lines[:-2]
    assert parse_change(lines[1:-2]) == change


def test_a_whole_request_reads_as_documented() -> None:
    change = parse_change(
        [
            f"private_key={'01' * 32}",
            "listen_port=51820",
            "fwmark=4294967295",
            "replace_peers=true",
            PEER,
            "update_only=true",
            f"preshared_key={'cd' * 32}",
            "endpoint=[fe80::0001%eth0]:51820",
            "endpoint_name=vpn.example.org:51820",
            "persistent_keepalive_interval=0025",
            "replace_allowed_ips=true",
            "allowed_ip=10.0.0.7/8",
            "allowed_ip=-fd00::/64",
            "protocol_version=1",
            f"public_key={'EF' * 32}",
            "remove=true",
        ]
    )
    assert change.private_key == PrivateKey(b"\x01" * 32)
    assert (change.listen_port, change.fwmark, change.replace_peers) == (51820, 2**32 - 1, True)
    first, second = change.peers
    assert first == PeerChange(
        PublicKey.from_hex(KEY),
        update_only=True,
        preshared_key=PresharedKey(b"\xcd" * 32),
        endpoint=Address("fe80::1%eth0", 51820),
        endpoint_name=("vpn.example.org", 51820),
        persistent_keepalive=25,
        replace_allowed_ips=True,
        allowed_ips=[
            AllowedIpChange(parse_prefix("10.0.0.0/8")),
            AllowedIpChange(parse_prefix("fd00::/64"), remove=True),
        ],
    )
    assert second == PeerChange(PublicKey(b"\xef" * 32), remove=True)


def test_zeros_clear_and_do_not_become_a_key() -> None:
    change = parse_change([f"private_key={'00' * 32}", PEER, f"preshared_key={'00' * 32}"])
    assert change.private_key is not None
    assert change.private_key.is_zero()
    assert change.peers[0].preshared_key == PresharedKey(bytes(32))


def test_replace_allowed_ips_takes_what_stands_before_it() -> None:
    change = parse_change(
        [PEER, "allowed_ip=10.0.0.0/8", "replace_allowed_ips=true", "allowed_ip=10.1.0.0/16"]
    )
    assert change.peers[0].allowed_ips == [AllowedIpChange(parse_prefix("10.1.0.0/16"))]


def test_one_peer_may_be_changed_twice_in_a_request() -> None:
    change = parse_change([PEER, "remove=true", PEER, "allowed_ip=10.0.0.0/8"])
    assert [peer.remove for peer in change.peers] == [True, False]


# interop/ puts the same lines to wireguard-go, which answers with the same errno.
INVALID = [
    ["foo=1"],
    ["=5"],
    ["listen_port=x"],
    ["listen_port="],
    ["listen_port=99999"],
    ["listen_port=+5"],
    ["listen_port=1_0"],
    ["listen_port=-1"],
    ["fwmark=0x10"],
    ["fwmark=4294967296"],
    ["private_key=zz"],
    [f"preshared_key={KEY}"],
    ["replace_peers=false"],
    [f"public_key={KEY[2:]}"],
    [PEER, "remove=false"],
    [PEER, "update_only=1"],
    [PEER, "listen_port=0"],
    [PEER, "foo=2"],
    [PEER, "preshared_key="],
    [PEER, "endpoint=example.com:1"],
    [PEER, "endpoint=::1:99"],
    [PEER, "endpoint=1.2.3.4"],
    [PEER, "endpoint=[1.2.3.4]:5"],
    [PEER, "endpoint=1.2.3.4:65536"],
    [PEER, "persistent_keepalive_interval=off"],
    [PEER, "persistent_keepalive_interval=65536"],
    [PEER, "protocol_version=2"],
    [PEER, "replace_allowed_ips=0"],
    [PEER, "allowed_ip="],
    [PEER, "allowed_ip=10.0.0.1"],
    [PEER, "allowed_ip=10.0.0.1/33"],
    [PEER, "remove=true", "foo=1"],
    # Ours, or of newer versions than that one.
    [PEER, "allowed_ip=--10.0.0.1/32"],
    [PEER, "endpoint_name=no spaces:5"],
    [PEER, "endpoint_name=host"],
    ["endpoint_name=host:5"],
]


@pytest.mark.parametrize("lines", INVALID, ids="|".join)
def test_a_bad_value_is_einval(lines: list[str]) -> None:
    with pytest.raises(UapiError) as caught:
        parse_change(lines)
    assert caught.value.code == errno.EINVAL
    # The operation is line 1.
    assert caught.value.reason.startswith(f"line {len(lines) + 1}: ")


@pytest.mark.parametrize("line", ["foo", "", PEER.replace("=", " ")])
def test_a_line_that_is_no_pair_is_eproto(line: str) -> None:
    with pytest.raises(UapiError) as caught:
        parse_change([line])
    assert caught.value.code == errno.EPROTO
    assert KEY not in str(caught.value)


def test_a_line_without_end_is_eio() -> None:
    with pytest.raises(UapiError) as caught:
        parse_change(["a" * MAX_LINE_LENGTH + "=1"])
    assert caught.value.code == errno.EIO


def test_a_request_has_a_greatest_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wgpy.device.uapi_codec.MAX_REQUEST_LENGTH", 1000)
    lines = [PEER, *["allowed_ip=10.0.0.0/8"] * 40]
    assert len(parse_change(lines).peers[0].allowed_ips) == 40
    with pytest.raises(UapiError) as caught:
        parse_change([*lines, *["allowed_ip=10.0.0.0/8"] * 3])
    assert caught.value.code == errno.EMSGSIZE


@pytest.mark.parametrize("key", ["private_key", "preshared_key"])
def test_a_bad_secret_is_not_repeated(key: str) -> None:
    secret = "5e" * 31
    with pytest.raises(UapiError) as caught:
        parse_change([PEER, f"{key}={secret}"] if key == "preshared_key" else [f"{key}={secret}"])
    assert secret not in str(caught.value)
    assert secret[:8] not in repr(caught.value)


def test_a_name_cannot_smuggle_lines_into_a_request() -> None:
    peer = PeerChange(PublicKey(bytes(32)), endpoint_name=("a\nprivate_key=", 1))
    with pytest.raises(UapiError):
        format_change(DeviceChange(peers=[peer]))


KEYS = ["private_key", "listen_port", "fwmark", "replace_peers", "public_key", "remove", "endpoint"]
KEYS += ["update_only", "preshared_key", "persistent_keepalive_interval", "replace_allowed_ips"]
KEYS += ["allowed_ip", "protocol_version", "endpoint_name", "errno", "last_handshake_time_sec"]
KEYS += ["last_handshake_time_nsec", "tx_bytes", "rx_bytes", "wgpy_counter", "wgpy_version"]
KEYS += ["own_public_key"]
VALUES = ["true", "1", KEY, "::1/128", "1.2.3.4/5", "1.2.3.4:5", "[::1%e]:5", "h:1", "0", "-1/1"]
likely_lines = st.builds(
    lambda key, value: f"{key}={value}", st.sampled_from(KEYS), st.sampled_from(VALUES) | st.text()
)


@given(st.lists(likely_lines | st.just(PEER) | st.text()))
def test_no_request_raises_anything_else(lines: list[str]) -> None:
    try:
        change = parse_change(lines)
    except UapiError:
        return
    # What was understood can be said again.
    assert parse_change(format_change(change).split("\n")[1:-2]) == change


def test_130000_allowed_ips_are_read_whole() -> None:
    lines = [PEER]
    lines += [f"allowed_ip=10.{i >> 16}.{i >> 8 & 255}.{i & 255}/32" for i in range(65_280)]
    lines += [f"allowed_ip=fd00::{i:x}/128" for i in range(65_280)]
    change = parse_change(lines)
    assert len({allowed.prefix for allowed in change.peers[0].allowed_ips}) == 130_560
    assert parse_change(format_change(change).split("\n")[1:-2]) == change


# --- Answers ---


@given(device_states)
def test_an_answer_means_what_was_written(state: DeviceState) -> None:
    text = format_state(state) + format_errno(0)
    assert text.endswith("\n\n")
    assert parse_state(text) == state


def test_our_own_keys_stand_where_other_clients_ignore_them() -> None:
    state = DeviceState(
        own_public_key=PublicKey.from_hex(KEY),
        wgpy_version="1.0",
        datapath="native",
        counters={"dropped short": 3},
        offloads={"udp_segment": True, "tun_uso": False},
        listen_port=1,
    )
    state.peers.append(PeerState(PublicKey.from_hex(KEY), endpoint_name=("h", 1)))
    assert format_state(state).split("\n") == [
        "listen_port=1",
        f"own_public_key={KEY}",
        "wgpy_version=1.0",
        "datapath=native",
        "wgpy_offload=udp_segment on",
        "wgpy_offload=tun_uso off",
        "wgpy_counter=dropped short 3",
        f"public_key={KEY}",
        f"preshared_key={'0' * 64}",
        "protocol_version=1",
        "endpoint_name=h:1",
        "last_handshake_time_sec=0",
        "last_handshake_time_nsec=0",
        "tx_bytes=0",
        "rx_bytes=0",
        "persistent_keepalive_interval=0",
        "",
    ]


def test_nothing_set_is_nothing_written() -> None:
    assert format_state(DeviceState()) == ""
    assert format_state(DeviceState(private_key=PrivateKey(bytes(32)))) == ""
    assert parse_state("errno=0\n\n") == DeviceState()


def test_unknown_keys_of_other_daemons_are_ignored() -> None:
    state = parse_state(f"jc=4\nlisten_port=5\n{PEER}\nadvanced_security=on\nerrno=0\n\n")
    assert (state.listen_port, len(state.peers)) == (5, 1)


@pytest.mark.parametrize("written", ["errno=-22\n\n", "errno=22\n\n"])
def test_a_refusal_is_raised_with_its_errno(written: str) -> None:
    with pytest.raises(UapiError) as caught:
        parse_errno(written)
    assert caught.value.code == errno.EINVAL
    assert format_errno(errno.EINVAL) == "errno=-22\n\n"


BROKEN = ["", "listen_port=5\n", f"{PEER}\n\n", "foo\nerrno=0\n\n", "errno=x\n\n", "errno=\n\n"]
BROKEN += ["listen_port=x\nerrno=0\n\n", f"{PEER}\nendpoint=x\nerrno=0\n\n"]
BROKEN += ["public_key=00\nerrno=0\n\n", "wgpy_counter=x\nerrno=0\n\n"]


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_answer_is_eproto(text: str) -> None:
    with pytest.raises(UapiError) as caught:
        parse_state(text)
    assert caught.value.code == errno.EPROTO


@given(st.lists(likely_lines | st.just(PEER) | st.just("errno=0") | st.text()) | st.just([]))
def test_no_answer_raises_anything_else(lines: list[str]) -> None:
    try:
        state = parse_state("\n".join([*lines, "", ""]))
    except UapiError:
        return
    assert isinstance(state, DeviceState)


def test_the_rules_of_a_firewall_travel_in_one_line() -> None:
    text = '{"rules":[{"action":"allow","from":["any"],"to":["this"]}],"peers":{}}'
    change = parse_change([f"wgpy_firewall={text}"])
    assert change.firewall == from_json(text)
    assert f"\nwgpy_firewall={text}\n" in format_change(change)
    state = DeviceState(firewall=from_json(text))
    assert parse_state(format_state(state) + "errno=0\n\n") == state
    # Nothing is said where there are none, for programs that know no such key.
    assert "firewall" not in format_state(DeviceState())


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"rules":[1],"peers":{}}'])
def test_rules_that_are_none(text: str) -> None:
    with pytest.raises(UapiError) as caught:
        parse_change([f"wgpy_firewall={text}"])
    assert caught.value.code == errno.EINVAL
