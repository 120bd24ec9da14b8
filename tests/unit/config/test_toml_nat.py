"""[nat] and `nat` in wgpy.toml, and what the requests and the other forms make of them."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.config.samples import OTHER, PEER, PRIVATE
from tests.unit.config.test_sync import no_resolve
from wgpy.cli import main
from wgpy.config import conf
from wgpy.config.errors import ConfigError
from wgpy.config.model import Config
from wgpy.config.sync import add_change, set_change, sync_change
from wgpy.config.toml import parse
from wgpy.config.write import conf_text, from_state, left_out
from wgpy.device.paths import (
    NatSettings,
    PathKind,
    PathState,
    Transport,
    TurnSettings,
    TurnUri,
)
from wgpy.device.uapi import Address, Cleared, DeviceChange, DeviceState, PeerChange, PeerState
from wgpy.device.uapi_codec import format_change, parse_change
from wgpy.keys import PublicKey, read_password

KEY = PublicKey.from_base64(PEER)
WHOLE = f"""[nat]
stun = ["stun.example", "[2001:db8::5]:19302", "stun.example:3478"]
portmap = false
signal = "shared"
birthday = true

[[nat.turn]]
uris = ["turn:turn.example", "turn:turn.example?transport=tcp", "turns:turn.example:443"]
username = "wg0"
password_file = "turn.password"
ca = "ca.pem"

[[nat.turn]]
uris = "turn:192.0.2.9"
secret_file = "turn.secret"

[[peer]]
public_key = "{PEER}"
nat = true

[[peer]]
public_key = "{OTHER}"
endpoint = "192.0.2.1:51820"
nat = true
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the configuration would be, with the files that it names beside it."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "ca.pem").touch()
    for name, text in (
        ("turn.password", "correct horse\n"),
        ("turn.secret", "north"),
        ("empty", "\n"),
        ("two", "a\nb\n"),
        ("long", "x" * 1025),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    (tmp_path / "latin").write_bytes(b"\xe9\n")
    return tmp_path / "wg0.toml"


def test_everything(place: Path) -> None:
    config, said = parse(WHOLE, "quick", place)
    assert said == []
    here = place.parent
    assert config.nat == NatSettings(
        stun=(("stun.example", 3478), ("2001:db8::5", 19302)),
        turn=(
            TurnSettings(
                (
                    TurnUri("turn.example", 3478),
                    TurnUri("turn.example", 3478, Transport.TCP),
                    TurnUri("turn.example", 443, Transport.TLS),
                ),
                username="wg0",
                password_file=f"{here}/turn.password",
                ca_file=f"{here}/ca.pem",
            ),
            TurnSettings((TurnUri("192.0.2.9", 3478),), secret_file=f"{here}/turn.secret"),
        ),
        portmap=False,
        signal=f"{here}/shared",
        birthday=True,
    )
    assert [peer.nat for peer in config.peers] == [True, True]
    # What is read here is what the daemon reads.
    change = set_change(config, no_resolve, names=True)
    assert change.peers[1].endpoint == Address("192.0.2.1", 51820)
    assert parse_change(format_change(change).split("\n")[1:-2]) == change


def test_the_least() -> None:
    config, said = parse(f'[nat]\n[[peer]]\npublic_key = "{PEER}"\nnat = false\n', "quick")
    assert (config.nat, said) == (NatSettings(), [])
    assert not config.peers[0].nat
    assert parse("", "quick")[0].nat is None


def test_relay_only(place: Path) -> None:
    turn = '[[nat.turn]]\nuris = "turn:a"\nsecret_file = "turn.secret"\n'
    config, _ = parse(f"[nat]\nrelay_only = true\n{turn}", "quick", place)
    assert config.nat is not None
    assert config.nat.relay_only


def test_names_start_from_where_the_file_is(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.parent)
    config, _ = parse('[nat]\nsignal = "shared"', "quick", Path("wg0.toml"))
    assert config.nat is not None
    assert config.nat.signal == f"{place.parent}/shared"
    config, _ = parse(f'[nat]\nsignal = "{place.parent}/shared"', "quick", Path("wg0.toml"))
    assert config.nat is not None
    assert config.nat.signal == f"{place.parent}/shared"


@pytest.mark.parametrize("key", ["password_file", "secret_file"])
def test_a_secret_that_others_can_read_is_told_of(place: Path, key: str) -> None:
    place.parent.chmod(0o755)
    (place.parent / "turn.secret").chmod(0o644)
    text = f'[nat]\n[[nat.turn]]\nuris = "turn:a"\nusername = "u"\n{key} = "turn.secret"\n'
    config, said = parse(text, "quick", place)
    assert config.nat is not None
    (warning,) = said
    assert warning == (
        f"{place}:5: {key}: {place.parent}/turn.secret holds secrets and is open to every user; "
        f"run `chmod 600` on it"
    )


# --- What is refused ---

TURN = '[[nat.turn]]\nuris = "turn:a"\n'
SECRET = TURN + 'secret_file = "turn.secret"\n'
K = f'[[peer]]\npublic_key = "{PEER}"\n'

BAD = [
    ("nat = true", 1, "nat", "write [nat]"),
    ("[[nat]]", 1, "nat", "write [nat]"),
    ("[nat]\nstuns = []", 2, "stuns", "did you mean stun?"),
    ("[nat]\nstun = 1", 2, "stun", "is no list of texts"),
    ('[nat]\nstun = ["a",\n"b:0"]', 3, "stun", "'0' is no port"),
    ('[nat]\nstun = "stun:a"', 2, "stun", "'a' is no port"),
    ("[nat]\nstun = [" + '"a",' * 9 + "]", 2, "stun", "more than 8 servers"),
    ("[nat]\nportmap = 1", 2, "portmap", "neither true nor false"),
    ('[nat]\nsignal = "none"', 2, "signal", "is no directory; make it"),
    ('[nat]\nsignal = "ca.pem"', 2, "signal", "is no directory"),
    ('[nat]\nsignal = "a\\u0000b"', 2, "signal", "is no file's name"),
    ('[nat]\nbirthday = "yes"', 2, "birthday", "neither true nor false"),
    ("[nat]\nrelay_only = true", 2, "relay_only", "there is no relay in this file"),
    (f"[nat]\nbirthday = true\nrelay_only = true\n{SECRET}", 2, "birthday", "for direct ways"),
    ("[nat]\nturn = 1", 2, "turn", "is no table"),
    ('[nat]\nturn = ["turn:a"]', 2, "turn", "is no table"),
    ("[nat]\n" + SECRET * 5, 2, "turn", "more than 4 servers"),
    ('[[nat.turn]]\nusername = "a"', 1, "turn", "has no uris"),
    ("[[nat.turn]]\nuris = []", 2, "uris", "has 0 URIs; write 1 to 4"),
    ("[[nat.turn]]\nuris = [" + '"turn:a",' * 5 + "]", 2, "uris", "has 5 URIs"),
    ('[[nat.turn]]\nuris = ["turn:a",\n"a"]', 3, "uris", "'a' begins neither with turn: nor"),
    ('[[nat.turn]]\nuri = "turn:a"', 2, "uri", "did you mean uris?"),
    (TURN, 1, "turn", "has neither password_file nor secret_file"),
    (SECRET + 'password_file = "turn.password"', 1, "turn", "has both"),
    (TURN + 'password_file = "turn.password"', 1, "turn", "and no username"),
    (TURN + 'password = "correct horse"', 3, "password", "did you mean password_file?"),
    (TURN + 'secret = "north"', 3, "secret", "did you mean secret_file?"),
    (SECRET + "username = 7", 4, "username", "is not a text"),
    (SECRET + 'username = ""', 4, "username", "is no user's name"),
    (SECRET + f'username = "{"é" * 255}"', 4, "username", "up to 508 bytes"),
    (SECRET + 'ca = "none.pem"', 4, "ca", "No such file"),
    (TURN + 'secret_file = "none"', 3, "secret_file", "No such file"),
    (TURN + 'secret_file = "shared"', 3, "secret_file", "is no file"),
    (TURN + 'secret_file = "empty"', 3, "secret_file", "a password has 1 to 1024 bytes"),
    (TURN + 'secret_file = "long"', 3, "secret_file", "a password has 1 to 1024 bytes"),
    (TURN + 'secret_file = "two"', 3, "secret_file", "is one line of printable characters"),
    (TURN + 'secret_file = "latin"', 3, "secret_file", "is UTF-8, and this is not"),
    (K + "nat = 1", 3, "nat", "neither true nor false"),
    (K + "nat = true", 3, "nat", "there is no [nat] to find the way to this peer by"),
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
    for secret in ("correct horse", "north"):
        assert secret not in str(caught.value)


def test_a_conf_file_has_none_of_it() -> None:
    for text in ("[Nat]\n", "[Interface]\nNat = true\n", f"[Peer]\nPublicKey = {PEER}\nNat = on\n"):
        with pytest.raises(ConfigError):
            conf.parse(text, "quick")


WORDS = st.sampled_from(
    [
        *("[nat]\n", "[[nat.turn]]\n", "[[peer]]\n", f'public_key = "{PEER}"\n', "nat = true\n"),
        *(" = ", "\n", "{", "}", "[", "]", ",", "true", "1", '"turn:a"', '"a"', '"a:1"', '"/"'),
        *("stun", "turn", "portmap", "signal", "birthday", "relay_only", "nat"),
        *("uris", "username", "password_file", "secret_file", "ca", '"/dev/null"', '"/etc/passwd"'),
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


@given(st.binary(max_size=1100))
def test_any_file_is_a_password_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "password"
    path.write_bytes(data)
    try:
        text = read_password(path)
    except ValueError as error:
        assert str(error).startswith("a password ")  # noqa: PT017
        return
    assert data in (text.encode() + end for end in (b"", b"\n", b"\r\n", b"\r"))
    assert text.isprintable()


# --- Requests ---


def read(text: str, place: Path) -> Config:
    return parse(text, "wg", place)[0]


def test_setconf_sets_or_clears(place: Path) -> None:
    config = read(WHOLE, place)
    change = set_change(config, no_resolve)
    assert change.nat == config.nat
    assert [peer.nat for peer in change.peers] == [True, True]
    change = set_change(read(K, place), no_resolve)
    assert (change.nat, change.peers[0].nat) == (Cleared.CLEARED, None)
    # A .conf file cannot say that there is none.
    assert set_change(conf.parse("[Interface]\n", "wg")[0], no_resolve).nat is None


def test_addconf_sets_what_there_is(place: Path) -> None:
    config = read("[nat]\n" + K + "nat = true\n", place)
    change = add_change(config, no_resolve)
    assert (change.nat, change.peers[0].nat) == (NatSettings(), True)
    change = add_change(read(K + "nat = true\n", place), no_resolve)
    assert (change.nat, change.peers[0].nat) == (None, True)


def test_syncconf_sends_what_differs(place: Path) -> None:
    config = read("[nat]\n" + K + "nat = true\n", place)
    state = DeviceState(nat=NatSettings(), peers=[PeerState(KEY, nat=True)])
    assert sync_change(config, state, no_resolve) == DeviceChange()
    # Where the peer is by now is nobody's mistake.
    state.peers[0].endpoint = Address("203.0.113.7", 62001)
    state.peers[0].path = PathState(PathKind.DIRECT, Address("203.0.113.7", 62001))
    assert sync_change(config, state, no_resolve) == DeviceChange()
    state.nat = replace(NatSettings(), birthday=True)
    state.peers[0].nat = False
    assert sync_change(config, state, no_resolve) == DeviceChange(
        nat=NatSettings(), peers=[PeerChange(KEY, update_only=True, nat=True)]
    )
    state.peers[0].nat = True
    assert sync_change(read(K, place), state, no_resolve) == DeviceChange(
        nat=Cleared.CLEARED, peers=[PeerChange(KEY, update_only=True, nat=False)]
    )
    same = conf.parse(f"[Peer]\nPublicKey = {PEER}\n", "wg")[0]
    assert sync_change(same, state, no_resolve) == DeviceChange()


# --- Text ---


def test_strip_says_what_it_leaves_out(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place.write_text(f'[interface]\nprivate_key = "{PRIVATE}"\n\n{WHOLE}')
    place.chmod(0o600)
    assert main(["strip", str(place)]) == 0
    out, err = capsys.readouterr()
    assert out == (
        f"[Interface]\nPrivateKey = {PRIVATE}\n\n[Peer]\nPublicKey = {PEER}\n\n"
        f"[Peer]\nPublicKey = {OTHER}\nEndpoint = 192.0.2.1:51820\n"
    )
    assert err == (
        f"wgpy: warning: {place}: a .conf file knows no ways through NATs: left out [nat], "
        "nat = true of 2 peers; `wgpy syncconf --strip` takes the whole file\n"
    )


def test_the_address_that_a_relay_calls_a_peer_by_is_not_saved() -> None:
    place = Address("203.0.113.7", 62001)
    relayed = PathState(PathKind.RELAY, place, TurnUri("turn.example", 3478))
    direct = PathState(PathKind.DIRECT, place)
    peers = [
        PeerState(KEY, nat=True, endpoint=place, path=relayed),
        PeerState(PublicKey.from_base64(OTHER), nat=True, endpoint=place, path=direct),
    ]
    config = from_state(DeviceState(nat=NatSettings(), peers=peers))
    assert conf_text(config, quick=False) == (
        f"[Interface]\n\n[Peer]\nPublicKey = {PEER}\n\n"
        f"[Peer]\nPublicKey = {OTHER}\nEndpoint = 203.0.113.7:62001\n"
    )
    assert left_out(config) == (
        "a .conf file knows no ways through NATs: left out [nat], nat = true of 2 peers"
    )


def test_both_kinds_of_things_that_are_left_out() -> None:
    text = '[identity]\ntoken = "/etc/passwd"\n[nat]\n' + K + "nat = true\n"
    assert left_out(parse(text, "quick")[0]) == (
        "a .conf file knows no credentials: left out [identity]; "
        "a .conf file knows no ways through NATs: left out [nat], nat = true of 1 peer"
    )
