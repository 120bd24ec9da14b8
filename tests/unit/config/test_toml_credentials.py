"""[authority], [identity] and `credential` in wgpy.toml, and what the requests make of them."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.config.samples import OTHER, PEER, PRIVATE, PSK
from tests.unit.config.test_sync import apply, no_resolve
from wgpy.cli import main
from wgpy.config import conf
from wgpy.config.errors import ConfigError
from wgpy.config.model import Config
from wgpy.config.sync import add_change, set_change, sync_change
from wgpy.config.toml import parse
from wgpy.config.write import conf_text, from_state, left_out
from wgpy.device.uapi import Cleared, DeviceChange, DeviceState, PeerChange, PeerState
from wgpy.device.uapi_codec import format_change, parse_change
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

NETWORK = "000102030405060708090a0b0c0d0e0f"
OLD, NEW = "0a" * 32, "0b" * 32
FILES = ("ca.pem", "office.pem", "issuing.pem", "a.crl", "keys.jwks", "me.pem", "me.jwt")

# Five lines: an authority that is enough.
LEAST = f"""[authority]
network = "{NETWORK}"
accept = "10.7.0.0/16"
ca = "ca.pem"
"""
WHOLE = f"""[authority]
network = "{NETWORK.upper()}"
accept = ["10.7.0.0/16", "fd07::/48", "10.7.0.0/16"]
ca = ["ca.pem", {{ file = "office.pem", names = ["office.mesh"],
  networks = "10.7.8.0/24", groups = ["staff"] }}]
intermediates = "issuing.pem"
crl = ["a.crl", "crls"]
require_groups = ["laptops"]
strict = true
preshared_key_file = "psk"
rotation = [{{ old = "{OLD}", new = "{":".join(["0B"] * 32)}" }}]

[[authority.token_issuer]]
jwks = "keys.jwks"
names = ["ci.mesh"]
networks = ["10.7.9.0/24"]

[identity]
certificate = "me.pem"
intermediate = "issuing.pem"

[[peer]]
public_key = "{PEER}"
credential = true
name = "server.mesh"

[[peer]]
public_key = "{OTHER}"
credential = true
expect = "key"
"""
ENROLS = (
    f'{LEAST}enrol = true\nenrol_port = 7200\n[[authority.token_issuer]]\njwks = "keys.jwks"\n'
    'names = ["mesh"]\nnetworks = []\n'
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the configuration would be, with the files that it names beside it."""
    for name in FILES:
        (tmp_path / name).touch()
    (tmp_path / "crls").mkdir()
    (tmp_path / "psk").write_text(PSK)
    (tmp_path / "psk").chmod(0o600)
    return tmp_path / "wg0.toml"


def test_everything(place: Path) -> None:
    config, said = parse(WHOLE, "quick", place)
    assert said == []
    here = place.parent
    assert config.authority == AuthoritySettings(
        network=bytes(range(16)),
        accept=(parse_prefix("10.7.0.0/16"), parse_prefix("fd07::/48")),
        anchors=(
            Anchor(f"{here}/ca.pem"),
            Anchor(
                f"{here}/office.pem",
                Limits(("office.mesh",), (parse_prefix("10.7.8.0/24"),), ("staff",)),
            ),
        ),
        intermediates=(f"{here}/issuing.pem",),
        revocations=(f"{here}/a.crl", f"{here}/crls"),
        issuers=(
            TokenIssuer(f"{here}/keys.jwks", Limits(("ci.mesh",), (parse_prefix("10.7.9.0/24"),))),
        ),
        require_groups=("laptops",),
        strict=True,
        preshared_key_file=f"{here}/psk",
        rotations=((OLD, NEW),),
    )
    assert config.identity == IdentitySettings(f"{here}/me.pem", f"{here}/issuing.pem")
    assert [peer.expectation for peer in config.peers] == [
        Expectation("server.mesh"),
        Expectation(None, key_suffices=True),
    ]
    # What is read here is what the daemon reads.
    change = set_change(config, no_resolve, names=True)
    assert parse_change(format_change(change).split("\n")[1:-2]) == change


def test_the_least(place: Path) -> None:
    config, said = parse(LEAST + '[identity]\ntoken = "me.jwt"\n', "quick", place)
    assert said == []
    assert config.authority == AuthoritySettings(
        bytes(range(16)),
        (parse_prefix("10.7.0.0/16"),),
        anchors=(Anchor(f"{place.parent}/ca.pem"),),
    )
    assert config.identity == IdentitySettings(token=f"{place.parent}/me.jwt")


def test_a_coordinator_lets_others_enrol(place: Path) -> None:
    config, said = parse(ENROLS + '[identity]\ncertificate = "me.pem"\n', "quick", place)
    assert said == []
    assert config.authority is not None
    assert (config.authority.enrol, config.authority.enrol_port) == (True, 7200)
    plain, _ = parse(LEAST, "quick", place)
    assert plain.authority is not None
    assert (plain.authority.enrol, plain.authority.enrol_port) == (False, 7100)
    # What is added to a running interface may leave our credential to what it has.
    parse(ENROLS, "wg", place)


def test_names_start_from_where_the_file_is(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.parent)
    config, _ = parse(LEAST, "quick", Path("wg0.toml"))
    assert config.authority is not None
    assert config.authority.anchors[0].path == f"{place.parent}/ca.pem"
    assert parse(LEAST, "quick")[0].authority == config.authority


def test_a_network_with_host_bits_is_taken_with_a_warning(place: Path) -> None:
    config, said = parse(LEAST.replace("10.7.0.0/16", "10.7.0.1/16"), "quick", place)
    assert config.authority is not None
    assert config.authority.accept == (parse_prefix("10.7.0.0/16"),)
    (warning,) = said
    assert warning == (
        f"{place}:3: accept: '10.7.0.1/16' has bits beyond its prefix length; "
        "it is taken as 10.7.0.0/16"
    )


# --- What is refused ---


def _with(line: str) -> str:
    return LEAST + line


K = f'[[peer]]\npublic_key = "{PEER}"\n'
ME = '[identity]\ncertificate = "me.pem"\n'

BAD = [
    ("authority = 1", 1, "authority", "write [authority]"),
    ("[[authority]]", 1, "authority", "write [authority]"),
    ("[authority]", 1, "authority", "names no network"),
    (f'[authority]\nnetwork = "{NETWORK}"', 1, "authority", "accepts no addresses"),
    (LEAST.replace('ca = "ca.pem"', "ca = []"), 1, "authority", "trusts nobody"),
    ('[authority]\nnetwork = "00"', 2, "network", "32 hexadecimal digits"),
    ("[authority]\nnetwork = 7", 2, "network", "is not a text"),
    ('[authority]\naccept = ["10.0.0.0/8",\n"10.0.0.0/33"]', 3, "accept", "from 0 to 32"),
    ('[authority]\naccept = "::/0"', 2, "accept", "take any address"),
    ('[authority]\ncas = "ca.pem"', 2, "cas", "did you mean ca?"),
    ('[authority]\nca = ["ca.pem",\n"none.pem"]', 3, "ca", "No such file"),
    ('[authority]\nca = "crls"', 2, "ca", "is no file"),
    (
        LEAST + 'enrol = true\n[identity]\ncertificate = "me.pem"',
        5,
        "enrol",
        "there is no issuer of tokens",
    ),
    (LEAST + 'enrol = "yes"', 5, "enrol", "is neither true nor false"),
    (LEAST + "enrol_port = 7200", 5, "enrol_port", "goes with enrol = true"),
    (LEAST + "enrol_port = 65536", 5, "enrol_port", "is no port"),
    (LEAST + "enrol_port = 0", 5, "enrol_port", "is no port"),
    (LEAST + 'enrol_port = "http"', 5, "enrol_port", "is no port"),
    (ENROLS, 5, "enrol", "where we have no credential ourselves"),
    ('[authority]\nca = "a\\u0000b"', 2, "ca", "is no file's name"),
    ("[authority]\nca = 1", 2, "ca", "is not a file's name"),
    ("[authority]\nca = [" + '"ca.pem",' * 65 + "]", 2, "ca", "more than 64"),
    ('[authority]\nca = { names = ["a"] }', 2, "ca", "has no file"),
    ('[authority]\nca = { file = "none" }', 2, "file", "No such file"),
    ('[authority]\nca = { file = "ca.pem", name = ["a"] }', 2, "name", "did you mean names?"),
    ('[authority]\nca = { file = "ca.pem", groups = ["a"] }', 2, "ca", "has no names"),
    ('[[authority.ca]]\nfile = "ca.pem"\nnames = ["a"]', 1, "ca", "has no networks"),
    ('[[authority.ca]]\nfile = "ca.pem"\nnames = [\n".a"]', 4, "names", "is no ending of names"),
    ('[[authority.ca]]\nfile = "ca.pem"\nnames = ["A"]', 3, "names", "is no ending of names"),
    (_with('crl = "none"'), 5, "crl", "No such file"),
    (_with('token_issuer = "keys.jwks"'), 5, "token_issuer", "is no table"),
    (_with('[[authority.token_issuer]]\njwks = "keys.jwks"'), 5, "token_issuer", "has no names"),
    (_with('[[authority.token_issuer]]\nnames = ["a"]'), 5, "token_issuer", "has no jwks"),
    (_with('require_groups = ["a", "B"]'), 5, "require_groups", "is no group"),
    (_with("strict = 1"), 5, "strict", "neither true nor false"),
    (_with('preshared_key_file = "ca.pem"'), 5, "preshared_key_file", "this has 0 char"),
    (_with('rotation = [["a", "b"]]'), 5, "rotation", "is no table"),
    (_with(f'rotation = {{ old = "{OLD}" }}'), 5, "rotation", "has no new"),
    (_with(f'rotation = {{ old = "{OLD}", new = "x" }}'), 5, "new", "is no SHA-256"),
    (_with(f'rotation = {{ old = "{OLD}", new = "{OLD}" }}'), 5, "rotation", "to itself"),
    ("[identity]", 1, "identity", "presents nothing"),
    (ME + 'token = "me.jwt"', 1, "identity", "both a certificate and a token"),
    ('[identity]\ntoken = "me.jwt"\nintermediate = "ca.pem"', 3, "intermediate", "has none"),
    ('[identity]\ntoken = "eyJhbGciOi"', 2, "token", "is a token itself"),
    ('[identity]\nkey = "me.key"', 2, "key", "is no key"),
    (LEAST + K + "credential = true", 7, "credential", "this peer has no name"),
    (LEAST + K + 'credential = true\nname = "the gate"', 8, "name", "as in the credential"),
    (LEAST + K + "credential = 1", 7, "credential", "neither true nor false"),
    (LEAST + K + 'expect = "key"', 7, "expect", "goes with credential = true"),
    (LEAST + K + 'credential = true\nexpect = "x"', 8, "expect", "neither certificate nor key"),
    (ME + K + 'credential = true\nname = "a"', 5, "credential", "there is no [authority]"),
    (LEAST + K + 'credential = true\nexpect = "key"', 7, "credential", "there is no [identity]"),
]


@pytest.mark.parametrize(("text", "line", "key", "reason"), BAD)
def test_refused_with_line_and_key(
    place: Path, text: str, line: int, key: str, reason: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "quick", place)
    assert reason in str(caught.value)
    assert (caught.value.line, caught.value.key) == (line, key)
    assert str(caught.value).isprintable()


def test_no_part_of_a_token_is_repeated(place: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        parse('[identity]\ntoken = "eyJhbGciOiJFZERTQSJ9.x.y"', "quick", place)
    assert "eyJ" not in str(caught.value)


def test_a_conf_file_has_no_such_tables() -> None:
    for section in ("[Authority]", "[Identity]"):
        with pytest.raises(ConfigError):
            conf.parse(f"{section}\nNetwork = {NETWORK}\n", "quick")


WORDS = st.sampled_from(
    [
        *("[authority]\n", "[identity]\n", "[[authority.ca]]\n", "[[authority.token_issuer]]\n"),
        *("[[peer]]\n", f'public_key = "{PEER}"\n', " = ", "\n", "{", "}", "[", "]", ","),
        *("network", "accept", "ca", "crl", "file", "names", "networks", "groups", "jwks", "old"),
        *("certificate", "token", "strict", "rotation", "credential", "expect", "name"),
        *('"/dev/null"', '"/"', f'"{NETWORK}"', '"10.7.0.0/16"', "true", '"mesh"', f'"{OLD}"', "1"),
    ]
)


@given(st.lists(WORDS, max_size=30).map("".join), st.booleans())
def test_any_text_is_a_configuration_or_a_config_error(text: str, quick: bool) -> None:
    try:
        config, said = parse(text, "quick" if quick else "wg")
    except ConfigError as error:
        said = [str(error)]
    else:
        assert isinstance(config, Config)
    assert all(line.isprintable() for line in said)


# --- Requests ---


def read(text: str, place: Path) -> Config:
    return parse(text, "wg", place)[0]


def test_setconf_sets_or_clears(place: Path) -> None:
    config = read(LEAST + K, place)
    change = set_change(config, no_resolve)
    assert (change.authority, change.identity) == (config.authority, Cleared.CLEARED)
    change = set_change(read(K, place), no_resolve)
    assert (change.authority, change.identity) == (Cleared.CLEARED, Cleared.CLEARED)
    # A .conf file cannot say that there are none.
    change = set_change(conf.parse("[Interface]\n", "wg")[0], no_resolve)
    assert (change.authority, change.identity) == (None, None)


def test_addconf_sets_what_there_is(place: Path) -> None:
    config = read(ME + K + 'credential = true\nname = "a.mesh"\n', place)
    change = add_change(config, no_resolve)
    assert (change.authority, change.identity) == (None, config.identity)
    assert change.peers[0].expectation == Expectation("a.mesh")
    assert add_change(read(K, place), no_resolve).peers[0].expectation is None


def test_syncconf_sends_what_differs(place: Path) -> None:
    config = read(LEAST + ME + K + 'credential = true\nname = "a.mesh"\n', place)
    key = config.peers[0].public_key
    state = DeviceState(
        authority=config.authority,
        identity=config.identity,
        peers=[PeerState(key, expectation=Expectation("a.mesh"))],
    )
    assert sync_change(config, state, no_resolve) == DeviceChange()
    assert config.authority is not None
    state.authority = replace(config.authority, strict=True)
    state.identity = None
    state.peers[0].expectation = None
    assert sync_change(config, state, no_resolve) == DeviceChange(
        authority=config.authority,
        identity=config.identity,
        peers=[PeerChange(key, update_only=True, expectation=Expectation("a.mesh"))],
    )
    state.peers[0].expectation = Expectation("a.mesh")
    assert sync_change(read(K, place), state, no_resolve) == DeviceChange(
        authority=Cleared.CLEARED,
        peers=[PeerChange(key, update_only=True, expectation=Cleared.CLEARED)],
    )
    same = conf.parse(f"[Peer]\nPublicKey = {PEER}\n", "wg")[0]
    assert sync_change(same, state, no_resolve) == DeviceChange()


def test_who_came_in_stays_unless_the_file_has_it(place: Path) -> None:
    guest = PublicKey.from_base64(OTHER)
    guests = [PeerState(guest, allowed_ips=[parse_prefix("10.7.0.9/32")], admitted=True)]
    state = DeviceState(peers=[PeerState(PublicKey.from_base64(PEER)), *guests])
    assert sync_change(read(K, place), state, no_resolve) == DeviceChange()
    config = read(f'[[peer]]\npublic_key = "{OTHER}"\nallowed_ips = "10.9.0.1"\n', place)
    change = sync_change(config, state, no_resolve)
    assert [(peer.public_key.base64(), peer.remove) for peer in change.peers] == [
        (PEER, True),
        (OTHER, True),
        (OTHER, False),
    ]
    (now,) = apply(state, change).peers
    assert (now.public_key, now.admitted) == (guest, False)
    assert now.allowed_ips == [parse_prefix("10.9.0.1/32")]


# --- Text ---


def test_who_came_in_is_written_to_no_file() -> None:
    guest = PeerState(PublicKey.from_base64(OTHER), admitted=True)
    state = DeviceState(peers=[PeerState(PublicKey.from_base64(PEER)), guest])
    text = conf_text(from_state(state), quick=True)
    assert PEER in text
    assert OTHER not in text


def test_strip_is_for_wg_and_says_what_it_leaves_out(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place.write_text(f'[interface]\nprivate_key = "{PRIVATE}"\n\n{WHOLE}')
    place.chmod(0o600)
    assert main(["strip", str(place)]) == 0
    out, err = capsys.readouterr()
    assert out == f"[Interface]\nPrivateKey = {PRIVATE}\n\n"
    assert err == (
        f"wgpy: warning: {place}: a .conf file knows no credentials: left out [authority], "
        "[identity], 2 peers with credential = true; `wgpy syncconf --strip` takes the whole file\n"
    )
    assert left_out(parse(K, "quick")[0]) is None


def test_a_peer_that_must_prove_itself_does_not_become_an_ordinary_one() -> None:
    peers = [
        PeerState(PublicKey.from_base64(PEER), expectation=Expectation("a.mesh")),
        PeerState(PublicKey.from_base64(OTHER)),
    ]
    config = from_state(DeviceState(peers=peers))
    assert conf_text(config, quick=False) == f"[Interface]\n\n[Peer]\nPublicKey = {OTHER}\n"
    assert left_out(config) == (
        "a .conf file knows no credentials: left out 1 peer with credential = true"
    )
