"""`wgpy show`: the three forms of its output. interop/ holds them against the real wg."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.requirements import program
from tests.unit.device.fake_interface import FakeInterface, served
from wgpy.cli import main, show, style
from wgpy.cli.show_nat import path_text
from wgpy.device import client
from wgpy.device.paths import (
    NatSettings,
    NatState,
    PathKind,
    PathState,
    Transport,
    TurnSettings,
    TurnUri,
)
from wgpy.device.uapi import SOCKET_DIRECTORY, Address, ClaimsSummary, DeviceState, PeerState
from wgpy.identity.claims import Kind
from wgpy.identity.settings import Anchor, AuthoritySettings, Expectation, IdentitySettings
from wgpy.ip import parse_prefix
from wgpy.keys import PresharedKey, PrivateKey, PublicKey

PRIVATE = PrivateKey(bytes(range(32)))
PSK = PresharedKey(b"\x07" * 32)
QUIET = PeerState(PublicKey(b"\x01" * 32))
BUSY = PeerState(
    PublicKey(b"\x02" * 32),
    preshared_key=PSK,
    endpoint=Address("2001:db8::1", 51820),
    endpoint_name=("vpn.example.org", 51820),
    last_handshake=(1_700_000_000, 5),
    tx_bytes=148,
    rx_bytes=2048,
    persistent_keepalive=25,
    allowed_ips=[parse_prefix("10.0.0.0/8"), parse_prefix("::/0")],
)
STATE = DeviceState(
    private_key=PRIVATE,
    listen_port=51820,
    fwmark=0xCA6C,
    peers=[QUIET, BUSY],
    wgpy_version="1.2",
    datapath="portable",
    counters={"dropped_replay": 3},
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WG_COLOR_MODE", "never")
    monkeypatch.delenv("WG_HIDE_KEYS", raising=False)


def pretty(state: DeviceState, now: int = 1_700_000_061) -> str:
    return style.finish(show.pretty("wg0", state, now))


def test_the_form_for_people() -> None:
    assert (
        pretty(STATE)
        == f"""\
interface: wg0
  public key: {PRIVATE.public().base64()}
  private key: (hidden)
  listening port: 51820
  fwmark: 0xca6c
  daemon: wgpy 1.2
  data path: portable

peer: {BUSY.public_key.base64()}
  preshared key: (hidden)
  endpoint: [2001:db8::1]:51820
  endpoint name: vpn.example.org:51820
  allowed ips: 10.0.0.0/8, ::/0
  latest handshake: 1 minute, 1 second ago
  transfer: 2.00 KiB received, 148 B sent
  persistent keepalive: every 25 seconds

peer: {QUIET.public_key.base64()}
  allowed ips: (none)
"""
    )


def test_another_daemon_has_none_of_our_lines() -> None:
    assert pretty(DeviceState(listen_port=5)) == "interface: wg0\n  listening port: 5\n"


def test_secrets_are_shown_to_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WG_HIDE_KEYS", "never")
    text = pretty(STATE)
    assert f"private key: {PRIVATE.base64()}\n" in text
    assert f"preshared key: {PSK.base64()}\n" in text


@pytest.mark.parametrize(
    ("field", "lines"),
    [
        ("public-key", [PRIVATE.public().base64()]),
        ("private-key", [PRIVATE.base64()]),
        ("listen-port", ["51820"]),
        ("fwmark", ["0xca6c"]),
        ("peers", ["Q", "B"]),
        ("preshared-keys", ["Q\t(none)", f"B\t{PSK.base64()}"]),
        ("endpoints", ["Q\t(none)", "B\t[2001:db8::1]:51820"]),
        ("allowed-ips", ["Q\t(none)", "B\t10.0.0.0/8 ::/0"]),
        ("latest-handshakes", ["Q\t0", "B\t1700000000"]),
        ("transfer", ["Q\t0\t0", "B\t2048\t148"]),
        ("persistent-keepalive", ["Q\toff", "B\t25"]),
        (
            "dump",
            [
                f"{PRIVATE.base64()}\t{PRIVATE.public().base64()}\t51820\t0xca6c",
                "Q\t(none)\t(none)\t(none)\t0\t0\t0\toff",
                f"B\t{PSK.base64()}\t[2001:db8::1]:51820\t10.0.0.0/8,::/0\t1700000000\t2048\t148\t25",
            ],
        ),
    ],
)
def test_the_form_for_scripts(field: str, lines: list[str]) -> None:
    keys = {"Q": QUIET.public_key.base64(), "B": BUSY.public_key.base64()}
    wanted = ["\t".join(keys.get(word, word) for word in line.split("\t")) + "\n" for line in lines]
    assert show.script(STATE, field, None) == "".join(wanted)
    assert show.script(STATE, field, "wg0") == "".join(f"wg0\t{line}" for line in wanted)


def test_nothing_set_in_scripts() -> None:
    assert show.script(DeviceState(), "dump", None) == "(none)\t(none)\t0\toff\n"
    assert show.script(DeviceState(), "peers", "wg0") == ""


def test_json_has_everything_and_hides_secrets() -> None:
    whole = show.as_json(STATE)
    assert whole["publicKey"] == PRIVATE.public().base64()
    assert (whole["privateKey"], whole["fwmark"]) == ("(hidden)", 0xCA6C)
    assert (whole["version"], whole["datapath"]) == ("1.2", "portable")
    assert whole["counters"] == {"dropped_replay": 3}
    busy, quiet = (whole["peers"][p.public_key.base64()] for p in (BUSY, QUIET))
    assert busy == {
        "presharedKey": "(hidden)",
        "endpoint": "[2001:db8::1]:51820",
        "endpointName": "vpn.example.org:51820",
        "latestHandshake": 1_700_000_000,
        "transferRx": 2048,
        "transferTx": 148,
        "persistentKeepalive": 25,
        "allowedIps": ["10.0.0.0/8", "::/0"],
        "admitted": False,
        "expects": None,
        "nat": False,
        "path": None,
        "offer": None,
        "quarantine": False,
        "name": None,
        "groups": None,
        "credential": None,
    }
    assert (quiet["presharedKey"], quiet["endpoint"], quiet["latestHandshake"]) == (None,) * 3


# --- Credentials ---

CLAIMS = ClaimsSummary(
    Kind.CERTIFICATE,
    "laptop.mesh",
    ("laptops", "staff"),
    "1f2e",
    b"\xab" * 32,
    1_700_000_061 + 6 * 86_400 + 3_600,
)
GUEST = PeerState(
    PublicKey(b"\x03" * 32), allowed_ips=[parse_prefix("10.7.0.2/32")], admitted=True, claims=CLAIMS
)
WANTED = PeerState(PublicKey(b"\x04" * 32), expectation=Expectation("server.mesh"))
TRUSTED = PeerState(PublicKey(b"\x05" * 32), expectation=Expectation(None, key_suffices=True))
MESH = DeviceState(
    listen_port=5,
    peers=[GUEST, WANTED, TRUSTED],
    authority=AuthoritySettings(
        bytes(16), (parse_prefix("10.7.0.0/16"),), anchors=(Anchor("/etc/wgpy/ca.pem"),)
    ),
    identity=IdentitySettings("/etc/wgpy/me.pem"),
)


def test_who_came_in_is_shown_by_name() -> None:
    assert (
        pretty(MESH)
        == f"""\
interface: wg0
  listening port: 5
  network: {"00" * 16}
  accepts: 10.7.0.0/16 by credential
  identity: /etc/wgpy/me.pem

peer: {GUEST.public_key.base64()}
  name: laptop.mesh
  groups: laptops, staff
  certificate: serial 1f2e, expires in 6 days
  allowed ips: 10.7.0.2/32

peer: {WANTED.public_key.base64()}
  expected: a credential of server.mesh
  allowed ips: (none)

peer: {TRUSTED.public_key.base64()}
  expected: the key, or a credential
  allowed ips: (none)
"""
    )


def test_our_own_credential_and_one_that_is_over() -> None:
    token = replace(CLAIMS, kind=Kind.TOKEN, serial="", groups=(), expiry=1_700_000_061)
    text = pretty(replace(MESH, claims=token, peers=[]))
    assert text.endswith("  name: laptop.mesh\n  groups: (none)\n  token: expired\n")
    assert "/etc/wgpy/me.pem" not in text


def test_who_enrols_is_in_quarantine() -> None:
    found = replace(CLAIMS, kind=Kind.ENROLMENT, serial="once")
    key = GUEST.public_key
    state = replace(MESH, claims=None, identity=None, peers=[replace(GUEST, claims=found)])
    state.authority = replace(state.authority, enrol=True, enrol_port=7200)
    text = pretty(state)
    assert "  enrols: by token, at port 7200/tcp\n" in text
    assert text.endswith(
        f"\npeer: {key.base64()}\n  quarantine: as laptop.mesh, by the token once\n"
        "  allowed ips: 10.7.0.2/32\n"
    )
    state.peers = [replace(GUEST, claims=replace(found, name=""))]
    assert "  quarantine: as any name, by the token once\n" in pretty(state)
    whole = show.as_json(state)
    assert whole["authority"]["enrolPort"] == 7200
    peer = whole["peers"][key.base64()]
    assert (peer["quarantine"], peer["name"]) == (True, None)
    assert peer["credential"]["kind"] == "enrolment"
    # And what we show ourselves.
    own = pretty(DeviceState(claims=replace(found, issuer=None)))
    assert own.endswith("  enrols: as laptop.mesh, by the token once\n")


def test_json_tells_whose_credentials() -> None:
    whole = show.as_json(replace(MESH, claims=CLAIMS))
    guest, wanted, trusted = (whole["peers"][p.public_key.base64()] for p in MESH.peers)
    told = {
        "name": "laptop.mesh",
        "groups": ["laptops", "staff"],
        "credential": {
            "kind": "certificate",
            "serial": "1f2e",
            "issuer": "ab" * 32,
            "expires": CLAIMS.expiry,
        },
    }
    assert told.items() <= guest.items()
    assert told.items() <= whole.items()
    assert (guest["admitted"], wanted["admitted"]) == (True, False)
    assert wanted["expects"] == {"name": "server.mesh", "expect": "certificate"}
    assert trusted["expects"] == {"name": None, "expect": "key"}
    assert whole["authority"]["ca"] == ["/etc/wgpy/ca.pem"]
    assert whole["identity"]["certificate"] == "/etc/wgpy/me.pem"
    json.dumps(whole)


def test_a_dump_has_the_columns_of_wg_and_no_others() -> None:
    rows = show.script(MESH, "dump", None).splitlines()
    assert rows[1] == f"{GUEST.public_key.base64()}\t(none)\t(none)\t10.7.0.2/32\t0\t0\t0\toff"
    assert {len(row.split("\t")) for row in rows[1:]} == {8}


# --- Ways through NATs ---

PLACE = Address("203.0.113.7", 51820)
DIRECT = PathState(PathKind.DIRECT, PLACE, round_trip=0.0231, mtu=1420, reason="proved")
RELAYED = PathState(
    PathKind.RELAY, PLACE, TurnUri("turn.example", 443, Transport.TLS), 0.061, reason="both random"
)
NAT = DeviceState(
    listen_port=5,
    nat=NatSettings(
        stun=(("2001:db8::5", 3478),),
        turn=(TurnSettings((RELAYED.relay,), "me", password_file="/etc/wgpy/p"),),
    ),
    nat_state=NatState(
        (("host", Address("10.0.0.5", 5)), ("reflexive", PLACE)),
        "endpoint independent",
        "PCP",
        keepalive=57.5,
    ),
    peers=[
        PeerState(PublicKey(b"\x06" * 32), endpoint=PLACE, nat=True, path=DIRECT),
        PeerState(PublicKey(b"\x07" * 32), endpoint=PLACE, nat=True, path=RELAYED, offer="blob"),
    ],
)


def test_the_ways_are_shown() -> None:
    direct, relayed = (peer.public_key.base64() for peer in NAT.peers)
    assert (
        pretty(NAT)
        == f"""\
interface: wg0
  listening port: 5
  found at: 10.0.0.5:5 (host), 203.0.113.7:51820 (seen from outside)
  nat: endpoint independent mapping, a port by PCP, kept by a packet each 57.5 s

peer: {direct}
  endpoint: 203.0.113.7:51820
  path: direct 203.0.113.7:51820, 23 ms
  allowed ips: (none)

peer: {relayed}
  endpoint: 203.0.113.7:51820
  path: relay turn.example:443 by TLS, 61 ms (both random)
  allowed ips: (none)
"""
    )
    assert "  found at: (none)\n" in pretty(replace(NAT, nat_state=NatState()))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (PathState(PathKind.NONE), "none"),
        (PathState(PathKind.NONE, reason="nobody has asked"), "none (nobody has asked)"),
        (PathState(PathKind.SEARCHING, reason="round 2"), "searching (round 2)"),
        (PathState(PathKind.DIRECT), "direct"),
        (PathState(PathKind.DIRECT, PLACE, round_trip=0.00042), f"direct {PLACE}, 0.4 ms"),
        (PathState(PathKind.DIRECT, PLACE, loss=0.04), f"direct {PLACE}"),
        (PathState(PathKind.DIRECT, PLACE, loss=0.5), f"direct {PLACE}, 50% lost"),
        (PathState(PathKind.RELAY), "relay"),
        (PathState(PathKind.RELAY, relay=TurnUri("a", 3478)), "relay a:3478"),
        (
            PathState(PathKind.RELAY, relay=TurnUri("2001:db8::1", 80, Transport.TCP)),
            "relay [2001:db8::1]:80 by TCP",
        ),
    ],
)
def test_a_path_in_words(path: PathState, text: str) -> None:
    assert style.finish(path_text(path)) == text


def test_json_tells_the_ways() -> None:
    whole = show.as_json(NAT)
    assert whole["nat"] == {
        "stun": ["[2001:db8::5]:3478"],
        "turn": [
            {
                "uris": ["turns:turn.example:443"],
                "username": "me",
                "passwordFile": "/etc/wgpy/p",
                "secretFile": None,
                "ca": None,
            }
        ],
        "portmap": True,
        "signal": None,
        "birthday": False,
        "relayOnly": False,
    }
    assert whole["way"] == {
        "candidates": [
            {"kind": "host", "address": "10.0.0.5:5"},
            {"kind": "reflexive", "address": "203.0.113.7:51820"},
        ],
        "mapping": "endpoint independent",
        "portmap": "PCP",
        "keepalive": 57.5,
    }
    relayed = whole["peers"][NAT.peers[1].public_key.base64()]
    assert (relayed["nat"], relayed["offer"]) == (True, "blob")
    assert relayed["path"] == {
        "kind": "relay",
        "place": "203.0.113.7:51820",
        "relay": "turns:turn.example:443",
        "roundTrip": 0.061,
        "loss": 0.0,
        "mtu": None,
        "reason": "both random",
    }
    json.dumps(whole)


@pytest.mark.root
@pytest.mark.tool("wg")
@pytest.mark.tool("unshare")
def test_the_real_wg_takes_our_answer(tmp_path: Path) -> None:
    """wg(8) reads a socket in its own directory only, so it looks into a mount of its own."""
    interface = FakeInterface()
    interface.now = replace(
        MESH,
        private_key=PRIVATE,
        claims=CLAIMS,
        nat=NAT.nat,
        nat_state=NAT.nat_state,
        peers=[*MESH.peers, *NAT.peers],
    )
    with served(interface, tmp_path / "wg0.sock"):
        done = subprocess.run(
            [
                *(program("unshare"), "--mount", "sh", "-c"),
                f"set -e; mount -t tmpfs none {Path(SOCKET_DIRECTORY).parent}; "
                f'mkdir {SOCKET_DIRECTORY}; mount --bind "$0" {SOCKET_DIRECTORY}; '
                'exec "$1" show wg0 dump',
                *(str(tmp_path), program("wg")),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert done.stdout == show.script(interface.now, "dump", None)
    assert done.stderr == ""


def test_json_shows_secrets_to_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert show.as_json(STATE, "private-key") == {"privateKey": PRIVATE.base64()}
    monkeypatch.setenv("WG_HIDE_KEYS", "never")
    assert show.as_json(STATE)["privateKey"] == PRIVATE.base64()


@pytest.mark.parametrize("field", show.FIELDS)
def test_every_field_has_json(field: str) -> None:
    part = show.as_json(STATE, field)
    whole = show.as_json(STATE)
    assert part.keys() <= whole.keys()
    json.dumps(part)


class TestCommand:
    @pytest.fixture
    def directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A directory of sockets that the command takes for the system's."""
        get, listed = client.get, client.list_interfaces
        monkeypatch.setattr(client, "get", lambda name: get(name, str(tmp_path)))
        monkeypatch.setattr(client, "list_interfaces", lambda: listed(str(tmp_path)))
        return tmp_path

    def test_no_interfaces(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["show"]) == 0
        assert main(["show", "interfaces"]) == 0
        assert capsys.readouterr() == ("", "")
        assert main(["show", "all", "--json"]) == 0
        assert main(["show", "interfaces", "--json"]) == 0
        assert capsys.readouterr() == ("{}\n[]\n", "")

    def test_one_of_two_out_of_reach(
        self, directory: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (broken := FakeInterface()).now.datapath = "x\nbroken"
        with (
            served(FakeInterface(), directory / "wg0.sock"),
            served(broken, directory / "wg1.sock"),
        ):
            assert main(["show", "all", "listen-port"]) == 0
            out, err = capsys.readouterr()
            assert out == "wg0\t51820\n"
            assert err.startswith("wgpy: Unable to access interface wg1: ")
            assert main(["show", "wg0", "listen-port"]) == 0
            assert capsys.readouterr().out == "51820\n"
            assert main(["show", "wg1"]) == 1
        with served(broken, directory / "wg1.sock"):
            assert main(["show"]) == 1

    def test_interfaces_are_separated_by_an_empty_line(
        self, directory: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with (
            served(FakeInterface(), directory / "wg0.sock"),
            served(FakeInterface(), directory / "wg1.sock"),
        ):
            assert main([]) == 0
            blocks = capsys.readouterr().out.split("\n\n")
            assert sorted(block.split("\n")[0] for block in blocks) == [
                "interface: wg0",
                "interface: wg1",
            ]
            assert main(["show", "interfaces"]) == 0
            assert sorted(capsys.readouterr().out.rstrip("\n").split(" ")) == ["wg0", "wg1"]

    @pytest.mark.parametrize(
        "words",
        [["show", "wg0", "colour"], ["show", "interfaces", "peers"], ["show", "a", "b", "c"]],
    )
    def test_bad_words(
        self, words: list[str], directory: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(words) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert "see `wgpy show --help`" in err
