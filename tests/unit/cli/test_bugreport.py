"""`wgpy bugreport`: secrets are planted wherever it looks, and none is in what it writes."""

import base64
import datetime
import json
from pathlib import Path

import pytest

from tests.unit.device.fake_interface import FakeInterface, served
from wgpy.cli import bugreport, main, status
from wgpy.cli.redact import forms_of_key
from wgpy.device import client
from wgpy.device.paths import NatSettings, TurnSettings, TurnUri
from wgpy.device.uapi import DeviceState, PeerState
from wgpy.identity.settings import IdentitySettings
from wgpy.keys import PresharedKey, PrivateKey
from wgpy.mesh import ask

NOW = datetime.datetime(2026, 11, 28, 8, 0, tzinfo=datetime.UTC)
# Each different from all others.
LIVE, FILED, PSK, FILED_PSK, NODE, UNUSED = (bytes([n]) + bytes(range(n, n + 31)) for n in range(6))
PEER = PrivateKey(b"\x77" * 32).public()
NODE_PUBLIC = PrivateKey(b"\x78" * 32).public()
OFFER = "wgpy1:" + "oFfEr_-9" * 50
JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJwbGFudGVkIn0.cGxhbnRlZA"
ENROL = "eyJhbGciOiJFUzI1NiJ9.eyJqdGkiOiJlbnJvbG1lbnQifQ.ZW5yb2xtZW50"
LINE = "wgpy-join:" + "LiNe_-7" * 60
WORDS = {
    "turn": "turn-password-planted",
    "turn-secret": "turn-secret-planted",
    "store": "store-password-planted",
    "hook": "hook-password-planted",
    "agent": "agent-secret-planted",
    "ca": "passphrase-of-the-intermediate",
}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose every file and answer has a secret in it."""
    etc, state = tmp_path / "etc", tmp_path / "state"
    mesh = state / "wg0.mesh"
    for directory in (etc, mesh / "crl", mesh / "coordinator"):
        directory.mkdir(parents=True)
    b64 = {key: base64.b64encode(key).decode() for key in (FILED, FILED_PSK, NODE, UNUSED)}
    (etc / "wg0.conf").write_text(
        f"[Interface]\nPrivateKey = {b64[FILED]}\nListenPort = 51820\n"
        f"PostUp = curl -u me:{WORDS['hook']} http://192.0.2.1/\n"
        f"[Peer]\nPublicKey = {PEER.base64()}\nPreshared Key={b64[FILED_PSK]} # ours\n"
        f"# formerly {b64[UNUSED]}\n"
    )
    (etc / "wg1.toml").write_text('private_key_file = "other.key"\n[[nat.turn]]\n')
    (etc / "other.key").write_text(b64[UNUSED] + "\n")
    (etc / "turn").write_text(WORDS["turn"] + "\n")
    (etc / "turn-secret").write_text(WORDS["turn-secret"] + "\n")
    (etc / "token").write_text(JWT)
    (mesh / "node.key").write_text(b64[NODE] + "\n")
    (mesh / "enrol.jwt").write_text(ENROL)
    (mesh / "coordinator" / "passphrase").write_text(WORDS["ca"] + "\n")
    (mesh / "mesh.json").write_text(json.dumps({"version": 1, "line": LINE, "domain": "mesh"}))
    (mesh / "coordinator.json").write_text(
        json.dumps({"store": f"postgresql://wgpy:{WORDS['store']}@db.example/wgpy"})
    )
    # What a program, or the journal, may say of all that, with no name before it that warns.
    said = tmp_path / "said"
    known = [WORDS[name] for name in ("turn", "turn-secret", "store", "ca")]
    secrets = [form for key in (LIVE, FILED, PSK, NODE) for form in forms_of_key(key)]
    said.write_text("\n".join(["\x1b[2J", *secrets, JWT, ENROL, LINE, OFFER, *known]))
    monkeypatch.setattr(bugreport, "_COMMANDS", (("cat", str(said)), ("no-such-program",)))
    monkeypatch.setattr(bugreport, "_DIRECTORIES", (str(etc), str(etc)))
    monkeypatch.setattr(status, "STATE_DIRECTORY", str(state))
    monkeypatch.setattr(ask, "interfaces", lambda: ["wg0"])
    monkeypatch.setattr(ask, "ask_agent", lambda name, question: _agent(question["ask"]))
    monkeypatch.setenv("WG_HIDE_KEYS", "never")
    real, names = client.get, client.list_interfaces
    monkeypatch.setattr(client, "get", lambda name: real(name, str(tmp_path)))
    monkeypatch.setattr(client, "list_interfaces", lambda: names(str(tmp_path)))
    return tmp_path


def _agent(what: str) -> dict[str, object]:
    if what == "status":
        nodes = [{"name": "b.mesh", "key": NODE_PUBLIC.base64()}]
        return {"state": "joining", "line": LINE, "turn_secret": WORDS["agent"], "nodes": nodes}
    raise ask.AskError("the coordinator is away", "away")


def _daemon(directory: Path) -> FakeInterface:
    interface = FakeInterface()
    turn = (TurnUri("turn.example.org", 3478),)
    etc = directory / "etc"
    interface.now = DeviceState(
        private_key=PrivateKey(LIVE),
        listen_port=51820,
        peers=[PeerState(PEER, preshared_key=PresharedKey(PSK), offer=OFFER, nat=True)],
        wgpy_version="1.2",
        counters={"dropped_replay": 3},
        identity=IdentitySettings(token=str(etc / "token")),
        nat=NatSettings(
            turn=(
                TurnSettings(turn, "user", password_file=str(etc / "turn")),
                TurnSettings(turn, secret_file=str(etc / "turn-secret")),
            )
        ),
    )
    return interface


def test_no_secret_gets_into_it(machine: Path) -> None:
    with served(_daemon(machine), machine / "wg0.sock"):
        text = bugreport.report(NOW)
    keys = (LIVE, FILED, PSK, FILED_PSK, NODE, UNUSED)
    secrets = {form for key in keys for form in forms_of_key(key)} | set(WORDS.values())
    secrets |= {part for token in (JWT, ENROL) for part in token.split(".")}
    secrets |= {LINE[12:40], OFFER[8:40], "\x1b"}
    assert [secret for secret in secrets if secret in text] == []


def test_what_helps_is_in_it(machine: Path) -> None:
    with served(_daemon(machine), machine / "wg0.sock"):
        text = bugreport.report(NOW)
    for wanted in (
        "wgpy bugreport of 2026-11-28 08:00:00 UTC",
        "cryptography ",
        "privileges",
        PrivateKey(LIVE).public().base64(),
        PEER.base64(),
        NODE_PUBLIC.base64(),
        '"dropped_replay": 3',
        "ListenPort = 51820",
        "PostUp = (command removed)",
        'private_key_file = "other.key"',
        "postgresql://wgpy:",
        "@db.example/wgpy",
        "AskError: the coordinator is away",
        "=== wg1: daemon ===\nUnable to access interface wg1",
        "FileNotFoundError: [Errno 2] No such file or directory: 'no-such-program'",
        " node.key",
        "=== journal ===",
    ):
        assert wanted in text, wanted


def test_a_part_is_bounded_and_cut_only_after_its_secrets_are_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bugreport, "MAX_PART", 30)
    secret = base64.b64encode(LIVE).decode()
    text = bugreport.part(lambda: secret + "." * 28, bugreport.Redactor(keys=[LIVE]))
    assert len(text.split("\n", 1)[1]) == 30
    assert not any(secret[-n:] in text for n in range(3, 44))


def test_the_file_is_new_and_private(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = machine / "report.txt"
    assert main(["bugreport", "-o", str(place)]) == 0
    assert place.stat().st_mode & 0o777 == 0o600
    assert "Read it before you give it away" in capsys.readouterr().out
    assert main(["bugreport", "-o", str(place)]) == 1
    assert "is there already" in capsys.readouterr().err
    monkeypatch.chdir(machine)
    assert main(["bugreport"]) == 0
    assert [x.stat().st_mode & 0o777 for x in machine.glob("wgpy-bugreport-*.txt")] == [0o600]
