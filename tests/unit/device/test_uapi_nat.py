"""The values of our own keys about ways through NATs: both ways, what is refused, who is asked."""

import errno
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.device.fake_interface import FakeInterface, served
from tests.unit.device.test_servers import uris
from tests.unit.device.test_uapi_client import answering
from tests.unit.device.test_uapi_codec import endpoints
from tests.unit.device.test_uapi_credentials import paths
from wgpy.device import client
from wgpy.device.paths import (
    MAX_OFFER_LENGTH,
    NatSettings,
    NatState,
    PathKind,
    PathState,
    Transport,
    TurnSettings,
    TurnUri,
)
from wgpy.device.uapi import (
    Address,
    Cleared,
    DeviceChange,
    DeviceState,
    PeerChange,
    PeerState,
    UapiError,
)
from wgpy.device.uapi_codec import (
    format_change,
    format_errno,
    format_state,
    parse_change,
    parse_state,
)
from wgpy.device.uapi_json import MAX_JSON_LENGTH
from wgpy.device.uapi_nat import (
    MAX_CANDIDATES,
    format_nat,
    format_path,
    format_way,
    parse_nat,
    parse_path,
    parse_way,
)
from wgpy.keys import PublicKey

KEY = PublicKey(bytes(range(32)))
TURN = TurnSettings(
    (TurnUri("turn.example", 3478), TurnUri("turn.example", 443, Transport.TLS)),
    username="wg0",
    password_file="/etc/wgpy/turn.password",
)
SETTINGS = NatSettings(
    stun=(("stun.example", 3478), ("2001:db8::5", 19302)), turn=(TURN,), signal="/mnt/shared"
)
PATH = PathState(
    PathKind.RELAY,
    place=Address("203.0.113.7", 49152),
    relay=TurnUri("turn.example", 443, Transport.TLS),
    round_trip=0.061,
    mtu=1400,
    reason="the other side's NAT gives each destination another port",
)
WAY = NatState(
    candidates=(("host", Address("fe80::1%eth0", 7)), ("reflexive", Address("203.0.113.7", 62001))),
    mapping="endpoint independent",
    portmap="PCP",
    keepalive=42.5,
)

# --- Values ---

hosts = st.sampled_from(["stun.example", "192.0.2.7", "2001:db8::7"])
names = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=40)
credentials = st.fixed_dictionaries(
    {"username": names, "password_file": paths}
) | st.fixed_dictionaries({"username": st.just("") | names, "secret_file": paths})
turns = st.builds(
    lambda uris, credential, ca: TurnSettings(tuple(uris), ca_file=ca, **credential),
    st.lists(uris, min_size=1, max_size=4),
    credentials,
    st.none() | paths,
)
settings = st.builds(
    NatSettings,
    stun=st.lists(st.tuples(hosts, st.integers(1, 65_535)), max_size=8).map(tuple),
    turn=st.lists(turns, max_size=4).map(tuple),
    portmap=st.booleans(),
    signal=st.none() | paths,
    birthday=st.booleans(),
    relay_only=st.booleans(),
)
texts = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), max_size=40)
path_states = st.builds(
    PathState,
    st.sampled_from(PathKind),
    place=st.none() | endpoints(),
    relay=st.none() | uris,
    round_trip=st.none() | st.floats(0, 86_400),
    loss=st.floats(0, 1),
    mtu=st.integers(0, 65_535),
    reason=texts,
)
ways = st.builds(
    NatState,
    candidates=st.lists(st.tuples(texts, endpoints()), max_size=MAX_CANDIDATES).map(tuple),
    mapping=texts,
    portmap=texts,
)
offers = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=99)


@given(
    st.none() | st.just(Cleared.CLEARED) | settings,
    st.none() | st.booleans(),
    st.booleans(),
    st.none() | offers,
)
def test_a_request_means_what_was_written(nat, managed, offer, answer) -> None:
    peer = PeerChange(KEY, nat=managed, offer=offer, answer=answer)
    change = DeviceChange(nat=nat, peers=[peer])
    text = format_change(change)
    assert text.isascii()
    assert parse_change(text.split("\n")[1:-2]) == change


@given(
    st.none() | settings,
    st.none() | ways,
    st.booleans(),
    st.none() | path_states,
    st.none() | offers,
)
def test_an_answer_means_what_was_written(nat, way, managed, path, offer) -> None:
    peer = PeerState(KEY, nat=managed, path=path, offer=offer)
    state = DeviceState(nat=nat, nat_state=way, peers=[peer])
    assert parse_state(format_state(state) + format_errno(0)) == state


def test_the_lines_as_documented() -> None:
    peer = PeerChange(KEY, nat=True, offer=True, answer="blob")
    assert format_change(DeviceChange(nat=Cleared.CLEARED, peers=[peer])) == (
        f"set=1\nwgpy_nat=off\npublic_key={bytes(KEY).hex()}\n"
        "wgpy_nat_peer=true\nwgpy_offer=new\nwgpy_answer=blob\n\n"
    )
    assert json.loads(format_nat(SETTINGS)) == {
        "stun": ["stun.example:3478", "[2001:db8::5]:19302"],
        "turn": [
            {
                "uris": ["turn:turn.example:3478", "turns:turn.example:443"],
                "username": "wg0",
                "password_file": "/etc/wgpy/turn.password",
            }
        ],
        "portmap": True,
        "signal": "/mnt/shared",
        "birthday": False,
        "relay_only": False,
    }
    shown = PeerState(KEY, nat=True, path=PATH, offer="blob")
    lines = format_state(DeviceState(nat=NatSettings(), nat_state=WAY, peers=[shown])).split("\n")
    assert lines[:2] == [
        'wgpy_nat={"stun":[],"turn":[],"portmap":true,"birthday":false,"relay_only":false}',
        'wgpy_way={"candidates":[["host","[fe80::1%eth0]:7"],["reflexive","203.0.113.7:62001"]],'
        '"mapping":"endpoint independent","portmap":"PCP","keepalive":42.5}',
    ]
    assert lines[-4:-1] == [
        "wgpy_nat_peer=true",
        'wgpy_path={"kind":"relay","place":"203.0.113.7:49152","relay":"turns:turn.example:443",'
        '"round_trip":0.061,"mtu":1400,"reason":"the other side\'s NAT gives each destination '
        'another port"}',
        "wgpy_offer=blob",
    ]


def test_the_least_is_what_the_settings_are_without_more() -> None:
    assert parse_nat("{}") == NatSettings()
    assert parse_path('{"kind":"none"}') == PathState(PathKind.NONE)
    assert parse_way("{}") == NatState()


def test_what_is_shown_is_one_line_of_a_bounded_length() -> None:
    path = PathState(PathKind.NONE, reason="a\nb\x1b" + "x" * 5000)
    assert parse_path(format_path(path)).reason == "a?b?" + "x" * 196
    longer = json.dumps({"kind": "none", "reason": "x" * 300})
    assert parse_path(longer).reason == "x" * 200
    many = NatState(candidates=(("host", Address("192.0.2.1", 1)),) * 10_000)
    assert len(parse_way(format_way(many)).candidates) == MAX_CANDIDATES


# --- What is refused ---

SECRET = {"uris": ["turn:a"], "secret_file": "/a"}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "no JSON"),
        ("[]", "no JSON object"),
        ({"x": 1}, "'x' is no field"),
        ({"stun": "a"}, "stun is no list"),
        ({"stun": [["a", 1]]}, "stun: it is no text"),
        ({"stun": ["a:0"]}, "stun: '0' is no port"),
        ({"stun": ["a"] * 9}, "stun has more than 8 entries"),
        ({"portmap": 1}, "portmap is neither true nor false"),
        ({"signal": "shared"}, "signal: it is no absolute path"),
        ({"signal": "/" + "a" * MAX_JSON_LENGTH}, "over 60000 characters"),
        ({"turn": [SECRET] * 5}, "turn has more than 4 entries"),
        ({"turn": ["turn:a"]}, "turn: it is no JSON object"),
        ({"turn": [SECRET | {"uris": []}]}, "turn: a TURN server has no uris"),
        ({"turn": [SECRET | {"uris": ["a"]}]}, "turn: uris: 'a' begins neither"),
        ({"turn": [SECRET | {"uris": ["turn:a"] * 5}]}, "uris has more than 4 entries"),
        ({"turn": [SECRET | {"password": "x"}]}, "'password' is no field"),
        ({"turn": [SECRET | {"username": "é" * 255}]}, "username: it is over 508 bytes"),
        ({"turn": [SECRET | {"username": "a\n"}]}, "username: it is no text"),
        ({"turn": [SECRET | {"ca": "ca.pem"}]}, "ca: it is no absolute path"),
        ({"turn": [SECRET | {"password_file": "/b"}]}, "a password_file or a secret_file"),
        ({"turn": [{"uris": ["turn:a"]}]}, "a password_file or a secret_file"),
        ({"turn": [{"uris": ["turn:a"], "password_file": "/b"}]}, "goes with a username"),
    ],
)
def test_settings_that_are_refused(value: object, reason: str) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse_nat(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "best"},
        {"kind": None},
        {"place": "host.example:5"},
        {"relay": "turn.example"},
        {"round_trip": -0.1},
        {"round_trip": "0.1"},
        {"round_trip": True},
        {"round_trip": 10**400},
        {"loss": 1.5},
        {"mtu": 65_536},
        {"mtu": 1400.5},
        {"reason": "a\x1b[2J"},
        {"reason": "x" * 1025},
    ],
)
def test_a_path_that_is_none(wrong: dict[str, object]) -> None:
    right: dict[str, object] = {"kind": "direct", "place": "192.0.2.1:5", "newer": 1}
    assert parse_path(json.dumps(right)) == PathState(PathKind.DIRECT, Address("192.0.2.1", 5))
    (key,) = wrong
    with pytest.raises(ValueError, match="Kind" if wrong == {"kind": "best"} else f"^{key}: "):
        parse_path(json.dumps(right | wrong))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_none(number: str) -> None:
    with pytest.raises(ValueError, match=r"no JSON|is no number"):
        parse_path(f'{{"kind":"direct","round_trip":{number}}}')


@pytest.mark.parametrize(
    "value",
    [
        {"candidates": "host"},
        {"candidates": [["host"]]},
        {"candidates": [["host", "192.0.2.1"]]},
        {"candidates": [[1, "192.0.2.1:1"]]},
        {"candidates": [["host", "192.0.2.1:1"]] * (MAX_CANDIDATES + 1)},
        {"mapping": 1},
    ],
)
def test_a_way_out_that_is_none(value: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"candidates|mapping|ADDRESS:PORT"):
        parse_way(json.dumps(value))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("wgpy_nat_peer=yes", "'yes' is neither `true` nor `false`"),
        ("wgpy_nat_peer=", "is neither"),
        ("wgpy_offer=blob", "the only thing to ask for is `new`"),
        ("wgpy_answer=", "an offer has 1 to 2048 characters, and this 0"),
        (f"wgpy_answer={'a' * (MAX_OFFER_LENGTH + 1)}", "and this 2049"),
        ("wgpy_answer=a b", "letters, digits and signs"),
        ("wgpy_answer=é", "letters, digits and signs"),
        ("wgpy_path={}", "is no key of a peer"),
        ("wgpy_way={}", "is no key of a peer"),
        ("wgpy_nat={}", "is no key of a peer"),
    ],
)
def test_a_line_of_a_peer_that_is_refused(line: str, reason: str) -> None:
    with pytest.raises(UapiError, match=re.escape(reason)) as caught:
        parse_change([f"public_key={bytes(KEY).hex()}", line])
    assert caught.value.code == errno.EINVAL


def test_an_answer_cannot_write_lines_of_its_own() -> None:
    with pytest.raises(UapiError, match="letters, digits and signs"):
        format_change(DeviceChange(peers=[PeerChange(KEY, answer="a\nremove=true")]))


def test_a_newer_daemon_may_say_more() -> None:
    value = json.dumps({"later": [1], "turn": [SECRET | {"b": 1}]})
    state = parse_state(f"wgpy_nat={value}\nerrno=0\n\n")
    turn = TurnSettings((TurnUri("a", 3478),), secret_file="/a")
    assert state.nat == NatSettings(turn=(turn,))
    with pytest.raises(UapiError):
        parse_change([f"wgpy_nat={value}"])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("/a"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["stun", "turn", "uris", "signal", "kind", "place", "round_trip", "candidates"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    st.sampled_from(["wgpy_nat", "wgpy_path", "wgpy_way", "wgpy_offer", "wgpy_answer"]),
    st.text(max_size=20) | json_values.map(json.dumps),
)
def test_nothing_else_is_raised(key: str, text: str) -> None:
    of_peer = key not in ("wgpy_nat", "wgpy_way")
    lines = [f"public_key={bytes(KEY).hex()}"] if of_peer else []
    lines.append(f"{key}={text}".replace("\n", " "))
    codes = set()
    try:
        change = parse_change(lines)
    except UapiError as error:
        codes.add(error.code)
    else:
        assert parse_change(format_change(change).split("\n")[1:-2]) == change
    try:
        state = parse_state("\n".join([*lines, "errno=0", "", ""]))
    except UapiError as error:
        codes.add(error.code)
    else:
        assert parse_state(format_state(state) + format_errno(0)) == state
    assert codes <= {errno.EINVAL, errno.EPROTO}


# --- The client ---


@pytest.mark.parametrize(
    "change",
    [
        DeviceChange(nat=SETTINGS),
        DeviceChange(peers=[PeerChange(KEY, nat=True)]),
        DeviceChange(peers=[PeerChange(KEY, offer=True, nat=False)]),
        DeviceChange(peers=[PeerChange(KEY, answer="blob")]),
    ],
)
def test_another_daemon_is_not_asked_for_ways(tmp_path: Path, change: DeviceChange) -> None:
    with (
        answering(tmp_path / "wg1.sock", b"errno=0\n\n") as asked,
        pytest.raises(UapiError, match="its daemon finds no ways through NATs") as caught,
    ):
        client.apply("wg1", change, str(tmp_path))
    assert caught.value.code == errno.EOPNOTSUPP
    assert asked == [b"get=1\n\n"]


def test_what_a_daemon_lacks_is_not_cleared(tmp_path: Path) -> None:
    change = DeviceChange(listen_port=5, nat=Cleared.CLEARED, peers=[PeerChange(KEY, nat=False)])
    with answering(tmp_path / "wg1.sock", b"errno=0\n\n") as asked:
        client.apply("wg1", change, str(tmp_path))
    assert asked[1] == f"set=1\nlisten_port=5\npublic_key={bytes(KEY).hex()}\n\n".encode()


def test_our_daemon_is_told(tmp_path: Path) -> None:
    interface = FakeInterface()
    whole = DeviceChange(nat=SETTINGS, peers=[PeerChange(KEY, nat=True)])
    with served(interface, tmp_path / "wg0.sock"):
        client.apply("wg0", whole, str(tmp_path))
        client.apply("wg0", DeviceChange(nat=Cleared.CLEARED), str(tmp_path))
        interface.now.nat = SETTINGS
        client.apply("wg0", DeviceChange(nat=Cleared.CLEARED), str(tmp_path))
    assert interface.changes == [whole, DeviceChange(), DeviceChange(nat=Cleared.CLEARED)]
