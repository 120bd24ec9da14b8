"""The JSON values of our own keys: both ways, what is refused, and where they stand."""

import errno
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.device.fake_interface import FakeInterface, connect, read_answers, served
from tests.unit.device.test_uapi_client import answering
from tests.unit.device.test_uapi_codec import prefixes
from wgpy.device import client
from wgpy.device.uapi import (
    ClaimsSummary,
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
    parse_errno,
    parse_state,
)
from wgpy.device.uapi_credentials import (
    format_authority,
    parse_authority,
    parse_claims,
    parse_expectation,
    parse_identity,
)
from wgpy.device.uapi_framing import BadRequest, Framer, SetRequest
from wgpy.device.uapi_json import MAX_JSON_LENGTH
from wgpy.identity.claims import Claims, Kind
from wgpy.identity.settings import (
    Anchor,
    AuthoritySettings,
    Expectation,
    IdentitySettings,
    Limits,
    TokenIssuer,
)
from wgpy.ip import parse_prefix
from wgpy.keys import PublicKey

KEY = PublicKey(bytes(range(32)))
NETWORK = bytes(range(16))
AUTHORITY = AuthoritySettings(
    NETWORK,
    (parse_prefix("10.7.0.0/16"), parse_prefix("fd07::/48")),
    anchors=(
        Anchor("/etc/wgpy/mesh.pem"),
        Anchor("/etc/wgpy/old.pem", Limits(("mesh",), (parse_prefix("10.7.0.0/16"),), ("a",))),
    ),
    revocations=("/etc/wgpy/crl",),
    issuers=(TokenIssuer("/etc/wgpy/keys.jwks", Limits(("ci.mesh",))),),
    require_groups=("laptops",),
    strict=True,
    rotations=(("0" * 64, "1" * 64),),
)
IDENTITY = IdentitySettings("/etc/wgpy/me.pem", "/etc/wgpy/issuing.pem")
CLAIMS = ClaimsSummary(
    Kind.CERTIFICATE, "laptop.mesh", ("laptops", "staff"), "1f2e", b"\xab" * 32, 1_800_000_000
)

# --- Values ---

paths = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])).map(
    lambda text: f"/{text}"
)
dns_names = st.sampled_from(["mesh", "laptop.mesh", "a-1.b"])
groups = st.sampled_from(["laptops", "staff", "a-1", "7"])
limits = st.builds(
    Limits,
    st.lists(dns_names, max_size=2).map(tuple),
    st.lists(prefixes(), max_size=2).map(tuple),
    st.lists(groups, max_size=2).map(tuple),
)
fingerprints = st.binary(min_size=32, max_size=32).map(bytes.hex)
authorities = st.builds(
    AuthoritySettings,
    st.binary(min_size=16, max_size=16),
    st.lists(prefixes(), max_size=3).map(tuple),
    st.lists(st.builds(Anchor, paths, st.none() | limits), max_size=3).map(tuple),
    st.lists(paths, max_size=2).map(tuple),
    st.lists(paths, max_size=2).map(tuple),
    st.lists(st.builds(TokenIssuer, paths, limits), max_size=2).map(tuple),
    st.lists(groups, max_size=2).map(tuple),
    st.booleans(),
    st.none() | paths,
    st.lists(st.tuples(fingerprints, fingerprints), max_size=2).map(tuple),
    st.booleans(),
).flatmap(
    # A port is said only where others enrol.
    lambda made: st.builds(
        replace, st.just(made), enrol_port=st.integers(1, 65_535) if made.enrol else st.just(7100)
    )
)
identities = st.builds(IdentitySettings, paths, st.none() | paths) | st.builds(
    IdentitySettings, token=paths
)
expectations = st.builds(Expectation, st.none() | dns_names, st.booleans())
claims = st.builds(
    ClaimsSummary,
    st.sampled_from(Kind),
    dns_names,
    st.lists(groups, max_size=16).map(tuple),
    st.sampled_from(["", "1f", "a" * 40]),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2**33),
)
cleared = st.just(Cleared.CLEARED)


@pytest.mark.parametrize("port", [0, 65_536, -1, True, "7100", 7100.5])
def test_a_port_to_enrol_at_is_one(port: object) -> None:
    text = json.dumps({**json.loads(format_authority(AUTHORITY)), "enrol_port": port})
    with pytest.raises(ValueError, match="enrol_port"):
        parse_authority(text)


def test_who_may_enrol_is_said_only_where_somebody_may() -> None:
    """An older daemon refuses what it does not know, and does not pass over it."""
    assert "enrol" not in format_authority(AUTHORITY)
    assert '"enrol":true,"enrol_port":7100' in format_authority(replace(AUTHORITY, enrol=True))


@given(
    st.none() | cleared | authorities,
    st.none() | cleared | identities,
    st.none() | cleared | expectations,
)
def test_a_request_means_what_was_written(authority, identity, expectation) -> None:
    change = DeviceChange(
        authority=authority,
        identity=identity,
        peers=[PeerChange(KEY, expectation=expectation)],
    )
    text = format_change(change)
    assert text.isascii()
    assert parse_change(text.split("\n")[1:-2]) == change


@given(
    st.none() | authorities,
    st.none() | identities,
    st.none() | claims,
    st.none() | expectations,
    st.booleans(),
)
def test_an_answer_means_what_was_written(authority, identity, said, expected, admitted) -> None:
    peer = PeerState(KEY, admitted=admitted, expectation=expected, claims=said)
    state = DeviceState(authority=authority, identity=identity, claims=said, peers=[peer])
    assert parse_state(format_state(state) + format_errno(0)) == state


def test_the_lines_as_documented() -> None:
    change = DeviceChange(
        authority=Cleared.CLEARED,
        identity=IDENTITY,
        peers=[PeerChange(KEY, expectation=Expectation("server.mesh"))],
    )
    assert format_change(change) == (
        "set=1\nwgpy_authority=off\n"
        'wgpy_identity={"certificate":"/etc/wgpy/me.pem","intermediate":"/etc/wgpy/issuing.pem"}\n'
        f"public_key={bytes(KEY).hex()}\n"
        'wgpy_credential={"expect":"certificate","name":"server.mesh"}\n\n'
    )
    value = json.loads(format_authority(AUTHORITY))
    assert value["network"] == NETWORK.hex()
    assert value["anchors"][0] == {"file": "/etc/wgpy/mesh.pem"}
    assert value["anchors"][1]["limits"]["names"] == ["mesh"]
    answer = format_state(DeviceState(peers=[PeerState(KEY, admitted=True, claims=CLAIMS)]))
    assert "\nwgpy_admitted=true\nwgpy_claims={" in answer


def test_the_summary_of_claims() -> None:
    whole = Claims(
        kind=Kind.CERTIFICATE,
        key=KEY,
        name="laptop.mesh",
        network=NETWORK,
        addresses=(),
        groups=frozenset(["staff", "laptops"]),
        prefixes=(),
        generation=3,
        not_before=0.0,
        not_after=1_800_000_000.7,
        issuer=b"\xab" * 32,
        serial="1f2e",
    )
    assert ClaimsSummary.of(whole) == CLAIMS


# --- What is refused ---

MINIMAL = {"network": "00" * 16}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "no JSON"),
        ("[" * 30_000, "no JSON"),
        ("1" * 5_000, "no JSON"),
        ("[]", "no JSON object"),
        ("{}", "network: it is no text"),
        ({"network": "0"}, "32 hexadecimal digits"),
        (MINIMAL | {"x": 1}, "'x' is no field"),
        (MINIMAL | {"strict": 1}, "strict is neither true nor false"),
        (MINIMAL | {"accept": "10.0.0.0/8"}, "accept is no list"),
        (MINIMAL | {"accept": ["10.0.0.0/8x"]}, "accept: "),
        (MINIMAL | {"accept": [7]}, "accept: it is no text"),
        (MINIMAL | {"anchors": ["/a"]}, "anchors: it is no JSON object"),
        (MINIMAL | {"anchors": [{"file": "a"}]}, "anchors: file: it is no absolute path"),
        (MINIMAL | {"anchors": [{"file": "/a\0"}]}, "no absolute path"),
        (MINIMAL | {"anchors": [{"file": "/\ud800"}]}, "anchors: file: "),
        (MINIMAL | {"anchors": [{"file": "/a", "limits": {"names": [".a"]}}]}, "no name in the"),
        (MINIMAL | {"anchors": [{"file": "/a", "limits": {"groups": ["A"]}}]}, "is no group"),
        (MINIMAL | {"anchors": [{"file": "/a", "limits": {"y": []}}]}, "'y' is no field"),
        (MINIMAL | {"issuers": [{"jwks": "/a"}]}, "issuers: it is no JSON object"),
        (MINIMAL | {"rotations": [["0" * 64]]}, "rotations: it is no pair"),
        (MINIMAL | {"rotations": [["0" * 64, "x"]]}, "rotations: it is no pair of SHA-256"),
        (MINIMAL | {"preshared_key_file": "psk"}, "no absolute path"),
        (MINIMAL | {"intermediates": ["/" + "a" * MAX_JSON_LENGTH]}, "over 60000 characters"),
        # Within the bound as it was written, and beyond it with its control characters escaped.
        ('{"network":"' + "00" * 16 + '","crl":[],"intermediates":["/', "no JSON"),
    ],
)
def test_an_authority_that_is_refused(value: object, reason: str) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse_authority(text)


def test_what_could_not_be_written_again_is_refused() -> None:
    text = json.dumps(MINIMAL | {"intermediates": ["/" + "\x7f" * 50_000]}, ensure_ascii=False)
    assert len(text) < MAX_JSON_LENGTH
    with pytest.raises(ValueError, match="names too many files"):
        parse_authority(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{}", "takes a certificate or a token"),
        ('{"certificate":"/a","token":"/b"}', "takes a certificate or a token"),
        ('{"token":"/b","intermediate":"/c"}', "goes with a certificate"),
        ('{"token":"eyJ"}', "token: it is no absolute path"),
        ('{"token":"/b","key":"/c"}', "'key' is no field"),
    ],
)
def test_an_identity_that_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_identity(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"name":"a"}',
        '{"expect":"x"}',
        '{"name":"A.b","expect":"key"}',
        '{"name":1,"expect":"key"}',
    ],
)
def test_an_expectation_that_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"name|neither certificate nor key|it is no text"):
        parse_expectation(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "pgp"},
        {"issuer": "00"},
        {"expiry": "1"},
        {"expiry": True},
        {"expiry": -1},
        {"expiry": 10**12},
        {"name": "a\x1b[2J"},
        {"groups": ["a"] * 17},
    ],
)
def test_claims_that_are_none(wrong: dict[str, object]) -> None:
    right = {"kind": "token", "name": "a", "serial": "", "issuer": "0" * 64, "expiry": 1}
    assert parse_claims(json.dumps(right | {"newer": 1})).kind is Kind.TOKEN
    (key,) = wrong
    with pytest.raises(ValueError, match="Kind" if key == "kind" else key.removesuffix("s")):
        parse_claims(json.dumps(right | wrong))


def test_a_newer_daemon_may_say_more() -> None:
    value = json.dumps({"network": "00" * 16, "later": [1], "anchors": [{"file": "/a", "b": 1}]})
    state = parse_state(f"wgpy_authority={value}\nerrno=0\n\n")
    assert state.authority == AuthoritySettings(bytes(16), (), anchors=(Anchor("/a"),))
    with pytest.raises(UapiError):
        parse_change([f"wgpy_authority={value}"])


@given(
    st.sampled_from(["wgpy_authority", "wgpy_identity", "wgpy_credential", "wgpy_claims"]),
    st.data(),
)
def test_nothing_else_is_raised(key: str, data: st.DataObject) -> None:
    json_values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("/a"),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["network", "accept", "anchors", "file", "limits", "names", "token", "expect"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
    text = data.draw(st.text(max_size=20) | json_values.map(json.dumps)).replace("\n", " ")
    lines = [f"public_key={bytes(KEY).hex()}"] if key in ("wgpy_credential",) else []
    try:
        change = parse_change([*lines, f"{key}={text}"])
    except UapiError as error:
        codes = {error.code}
    else:
        codes = {errno.EINVAL}
        assert parse_change(format_change(change).split("\n")[1:-2]) == change
    try:
        parse_state("\n".join([*lines, f"{key}={text}", "errno=0", "", ""]))
    except UapiError as error:
        codes.add(error.code)
    assert codes <= {errno.EINVAL, errno.EPROTO}


def test_the_longest_authority_fits_into_a_line() -> None:
    room = MAX_JSON_LENGTH - len(format_authority(replace(AUTHORITY, intermediates=("",))))
    longest = replace(AUTHORITY, intermediates=("/" + "a" * (room - 1),))
    assert len(format_authority(longest)) == MAX_JSON_LENGTH
    change = DeviceChange(authority=longest)
    assert Framer().feed(format_change(change).encode()) == [SetRequest(change, own=True)]
    with pytest.raises(UapiError, match="names too many files"):
        format_change(DeviceChange(authority=replace(longest, strict=False)))


# --- Reasons ---


def test_only_who_knows_our_keys_is_told_the_reason() -> None:
    framer = Framer()
    requests = framer.feed(
        b"set=1\nfoo=1\n\nset=1\nwgpy_identity={}\n\nset=1\nwgpy_authority=off\n\nset=1\n\n"
    )
    plain, wrong, ours, empty = requests
    assert isinstance(plain, BadRequest)
    assert isinstance(wrong, BadRequest)
    assert isinstance(ours, SetRequest)
    assert isinstance(empty, SetRequest)
    assert [plain.own, wrong.own, ours.own, empty.own] == [False, True, True, False]


def test_the_reason_comes_after_the_errno_where_wg_does_not_look(tmp_path: Path) -> None:
    with served(FakeInterface(), tmp_path / "wg0.sock"), connect(tmp_path / "wg0.sock") as plain:
        plain.sendall(b"set=1\nlisten_port=1\n\nset=1\nwgpy_identity=off\nlisten_port=1\n\n")
        assert read_answers(plain, 2) == ["errno=-98", "errno=-98\nwgpy_error=the port is taken"]


def test_a_reason_is_one_line() -> None:
    text = format_errno(errno.EINVAL, "a\nlisten_port=5\x1b" + "x" * 5000)
    assert text.count("\n") == 3
    with pytest.raises(UapiError) as caught:
        parse_errno(text)
    assert caught.value.code == errno.EINVAL
    assert caught.value.reason.startswith("a?listen_port=5?xxx")
    assert len(caught.value.reason) == 1000


# --- The client ---


@pytest.mark.parametrize(
    "change",
    [
        DeviceChange(authority=AUTHORITY),
        DeviceChange(identity=IDENTITY),
        DeviceChange(peers=[PeerChange(KEY, expectation=Expectation("a"))]),
    ],
)
def test_another_daemon_is_not_asked_for_credentials(tmp_path: Path, change: DeviceChange) -> None:
    with (
        answering(tmp_path / "wg1.sock", b"errno=0\n\n") as asked,
        pytest.raises(UapiError, match="its daemon knows no credentials; only wgpyd") as caught,
    ):
        client.apply("wg1", change, str(tmp_path))
    assert caught.value.code == errno.EOPNOTSUPP
    assert asked == [b"get=1\n\n"]


def test_what_a_daemon_lacks_is_not_cleared(tmp_path: Path) -> None:
    change = DeviceChange(
        listen_port=5,
        authority=Cleared.CLEARED,
        identity=Cleared.CLEARED,
        peers=[PeerChange(KEY, expectation=Cleared.CLEARED)],
    )
    with answering(tmp_path / "wg1.sock", b"errno=0\n\n") as asked:
        client.apply("wg1", change, str(tmp_path))
    assert asked[1] == f"set=1\nlisten_port=5\npublic_key={bytes(KEY).hex()}\n\n".encode()


def test_our_daemon_is_told(tmp_path: Path) -> None:
    interface = FakeInterface()
    interface.now.identity = IDENTITY
    change = DeviceChange(authority=AUTHORITY, identity=Cleared.CLEARED)
    with served(interface, tmp_path / "wg0.sock"):
        client.apply("wg0", change, str(tmp_path))
        change.authority = Cleared.CLEARED
        client.apply("wg0", change, str(tmp_path))
    assert interface.changes == [
        DeviceChange(authority=AUTHORITY, identity=Cleared.CLEARED),
        DeviceChange(identity=Cleared.CLEARED),
    ]


def test_a_refusal_tells_the_daemons_reason(tmp_path: Path) -> None:
    answer = b"wgpy_version=1\nerrno=-22\nwgpy_error=/etc/wgpy/mesh.pem: no constraints\n\n"
    with answering(tmp_path / "wg1.sock", answer), pytest.raises(UapiError) as caught:
        client.get("wg1", str(tmp_path))
    assert caught.value.reason == (
        "Unable to access interface wg1: /etc/wgpy/mesh.pem: no constraints"
    )


def test_an_edit_that_is_not_permitted_says_what_it_may_be(tmp_path: Path) -> None:
    with (
        answering(tmp_path / "wg1.sock", b"errno=-1\n\n"),
        pytest.raises(UapiError, match="by its credential can be removed, and not changed"),
    ):
        client.apply("wg1", DeviceChange(peers=[PeerChange(KEY)]), str(tmp_path))
