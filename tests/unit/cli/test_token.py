"""`wgpy token`: from a key to a token that a peer shows, in files and pipes."""

import json
import os
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.requirements import program
from wgpy.keys import PrivateKey

NETWORK = "000102030405060708090a0b0c0d0e0f"
KEY = PrivateKey(bytes(range(32))).public().base64()
OTHER = PrivateKey(bytes(range(32, 64))).public().base64()
PEER = ("--network", NETWORK, "--name", "laptop.mesh", "--public-key", KEY, "--address", "10.9.0.2")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command in this process; its output, which must be that of success."""
    from wgpy.cli import main

    assert main(["token", *words]) == 0
    done = capsys.readouterr()
    assert done.err == ""
    return done.out


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line in which a command is refused."""
    from wgpy.cli import main

    assert main(["token", *words]) == 1
    done = capsys.readouterr()
    assert done.out == ""
    assert done.err.startswith("wgpy: ")
    assert done.err.count("\n") == 1
    return done.err


@pytest.fixture
def key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    path = str(tmp_path / "signing.key")
    assert len(run(capsys, "genkey", path)) == 44
    return path


@pytest.fixture
def jwks(tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]) -> str:
    path = tmp_path / "jwks.json"
    path.write_text(run(capsys, "jwks", key))
    return str(path)


def issued(tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, *words: str) -> str:
    path = tmp_path / "token"
    path.write_text(run(capsys, "issue", "--key", key, *words))
    return str(path)


def said(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(capsys, *words, "--json"))
    return found


def test_from_a_key_to_a_verified_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, jwks: str
) -> None:
    more = ("--group", "laptops", "--group", "staff", "--prefix", "192.168.7.0/24", "--valid", "2h")
    token = issued(tmp_path, capsys, key, *PEER, "--address", "fd09::2", *more)
    verify = ("verify", "--issuers", jwks, "--network", NETWORK, "--public-key", KEY)
    found = said(capsys, *verify, token)
    begins, ends = (datetime.fromisoformat(found.pop(x)) for x in ("not_before", "not_after"))
    assert (ends - begins).total_seconds() == 2 * 3600 + 300
    assert len(found.pop("issuer")) == 64
    assert found == {
        "use": "peer",
        "name": "laptop.mesh",
        "public_key": KEY,
        "network": NETWORK,
        "addresses": ["10.9.0.2/32", "fd09::2/128"],
        "groups": ["laptops", "staff"],
        "prefixes": ["192.168.7.0/24"],
        "generation": 1,
    }
    text = run(capsys, *verify, token)
    assert text.startswith("good; ")
    assert "groups: laptops staff\n" in text
    assert "bound to another key" in refused(capsys, *verify[:-1], OTHER, token)
    other = ("verify", "--issuers", jwks, "--network", "f" * 32, token)
    assert "another network" in refused(capsys, *other)


def test_generations_and_addresses_are_given_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    made = [said(capsys, "issue", "--key", key, *PEER) for _ in range(2)]
    assert [x["payload"]["wgpy"]["gen"] for x in made] == [1, 2]
    words = ("--network", NETWORK, "--name", "other.mesh", "--public-key", OTHER)
    line = refused(capsys, "issue", "--key", key, *words, "--address", "10.9.0.2")
    assert "10.9.0.2 is reserved for laptop.mesh" in line
    assert said(capsys, "issue", "--key", key, *PEER)["payload"]["wgpy"]["gen"] == 3
    Path(f"{key}.ledger").unlink()
    fixed = said(capsys, "issue", "--key", key, *PEER, "--generation", "77")
    assert fixed["payload"]["wgpy"]["gen"] == 77
    assert not Path(f"{key}.ledger").exists()


def test_a_token_that_is_refused_takes_no_generation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    line = refused(capsys, "issue", "--key", key, *PEER, "--group", "Upper")
    assert "no verifier would take this token" in line
    assert said(capsys, "issue", "--key", key, *PEER)["payload"]["wgpy"]["gen"] == 1


def test_a_token_to_enrol(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, jwks: str
) -> None:
    token = issued(tmp_path, capsys, key, "--network", NETWORK, "--enrol", "--group", "laptops")
    found = said(capsys, "verify", "--issuers", jwks, "--network", NETWORK, token)
    assert (found["use"], found["groups"]) == ("enrol", ["laptops"])
    assert len(found["jti"]) == 22
    assert "generation" not in found


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256"])
def test_an_encrypted_key_of_either_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], algorithm: str
) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse\nand a second line\n")
    words = ("--passphrase-file", str(secret))
    key = str(tmp_path / "key")
    kid = run(capsys, "genkey", "--algorithm", algorithm, *words, key).strip()
    (jwk,) = json.loads(run(capsys, "jwks", *words, key))["keys"]
    assert (jwk["kid"], jwk["alg"]) == (kid, algorithm)
    header = said(capsys, "issue", "--key", key, *words, *PEER)["header"]
    assert header == {"alg": algorithm, "kid": kid, "typ": "wgpy+jwt"}
    assert "--passphrase-file" in refused(capsys, "jwks", key)
    secret.write_text("\n")
    assert "no passphrase" in refused(capsys, "jwks", *words, key)
    secret.write_text("wrong")
    line = refused(capsys, "jwks", *words, key)
    assert "another passphrase" in line
    assert "wrong" not in line


@pytest.mark.tool("openssl")
@pytest.mark.parametrize(
    "kind", [("ed25519",), ("EC", "-pkeyopt", "ec_paramgen_curve:P-256")], ids=lambda x: x[0]
)
def test_a_key_of_openssl_signs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: tuple[str, ...]
) -> None:
    key = tmp_path / "key"
    making = [program("openssl"), "genpkey", "-algorithm", *kind, "-out", str(key)]
    subprocess.run(making, check=True, capture_output=True)
    key.chmod(0o600)
    jwks = tmp_path / "jwks.json"
    jwks.write_text(run(capsys, "jwks", str(key)))
    token = issued(tmp_path, capsys, str(key), *PEER)
    verify = ("verify", "--issuers", str(jwks), "--network", NETWORK, token)
    assert said(capsys, *verify)["name"] == "laptop.mesh"


def test_inspect_shows_what_nobody_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    token = issued(tmp_path, capsys, key, *PEER)
    assert said(capsys, "inspect", token)["payload"]["sub"] == "laptop.mesh"
    text = run(capsys, "inspect", token)
    assert text.startswith("not verified: ")
    assert 'payload sub: "laptop.mesh"\n' in text
    # Forged, with what would move a terminal's cursor.
    from tests.support.tokens import HEADER, compact

    (tmp_path / "evil").write_bytes(compact(HEADER, {"sub": "\x1b[2J", "\x1b]": "\u202e"}))
    assert "\x1b" not in run(capsys, "inspect", str(tmp_path / "evil"))


def test_a_token_comes_by_a_pipe(tmp_path: Path, key: str, jwks: str) -> None:
    making = [program("wgpy"), "token", "issue", "--key", key, *PEER]
    token = subprocess.run(making, capture_output=True, check=True).stdout
    verify = [program("wgpy"), "token", "verify", "--issuers", jwks, "--network", NETWORK]
    done = subprocess.run(verify, input=token, capture_output=True, check=True)
    assert b"name: laptop.mesh\n" in done.stdout
    bad = subprocess.run(verify, input=b"no token", capture_output=True, check=False)
    assert (bad.returncode, bad.stderr.count(b"\n")) == (1, 1)
    closed = subprocess.run(
        ["/bin/sh", "-c", f"exec '{program('wgpy')}' token inspect <&-"],
        capture_output=True,
        check=False,
    )
    assert closed.stderr.startswith(b"wgpy: standard input is closed")


def test_wrong_words_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, jwks: str
) -> None:
    issue = ("issue", "--key", key)
    for words, reason in (
        ((), "required: ACTION"),
        (("burn",), "invalid choice"),
        (("genkey", key), "never written over"),
        (("genkey", "--algorithm", "RS256", str(tmp_path / "x")), "invalid choice"),
        (("jwks", str(tmp_path / "absent")), "No such file"),
        (("jwks", jwks), "no private key in PEM"),
        ((*issue, "--network", "xyz", "--enrol"), "32 hexadecimal digits"),
        ((*issue, "--network", NETWORK), "--name and --public-key"),
        ((*issue, *PEER, "--public-key", "short"), "44 characters"),
        ((*issue, *PEER, "--address", "here"), "not an IP address"),
        ((*issue, *PEER, "--valid", "1y"), "duration"),
        ((*issue, *PEER, "--valid", "0s"), "duration"),
        ((*issue, *PEER, "--generation", "-1"), "--generation"),
        ((*issue, *PEER, "--generation", "0"), "no verifier would take"),
        (("verify", "--issuers", jwks, "--network", NETWORK, key), "not three parts"),
        (("verify", "--issuers", key, "--network", NETWORK, jwks), "not three parts"),
    ):
        assert reason in refused(capsys, *words)


def test_an_open_key_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    from wgpy.cli import main

    os.chmod(tmp_path, 0o755)
    os.chmod(key, 0o644)
    assert main(["token", "jwks", key]) == 0
    done = capsys.readouterr()
    assert "open to every user" in done.err
    assert json.loads(done.out)["keys"]
