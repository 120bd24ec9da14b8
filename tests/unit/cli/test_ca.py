"""`wgpy ca` and `wgpy cert`: what they print, and how they ask for a passphrase."""

import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Peer
from wgpy.cli import main
from wgpy.identity.x509der import certificates_in
from wgpy.keys import PrivateKey

KEY = PrivateKey(bytes([7] * 32)).public().base64()
OTHER = PrivateKey(bytes([8] * 32)).public().base64()
LIMITS = ("--domain", "mesh", "--range", "10.7.0.0/16", "--range", "fd07::/64")


class Ca:
    """A directory for CAs, and the command."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self.capsys = capsys
        self.file = path / "passphrase"
        self.file.write_text("correct horse\n")
        self.file.chmod(0o600)

    def __call__(self, *words: str) -> str:
        """Run `wgpy ca`, which must succeed without a word on standard error."""
        assert main(["ca", *words]) == 0
        out, err = self.capsys.readouterr()
        assert err == ""
        return out

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json"))

    def refused(self, *words: str) -> str:
        """Run `wgpy ca`, which must fail; returns its one line."""
        assert main(["ca", *words]) == 1
        out, err = self.capsys.readouterr()
        assert out == ""
        assert err.startswith("wgpy: ")
        assert err.count("\n") == 1
        return err

    def secret(self) -> tuple[str, str]:
        return ("--passphrase-file", str(self.file))

    def init(self, name: str = "ca", *more: str) -> str:
        directory = str(self.path / name)
        self(
            *("init", directory, "--name", "our network", *LIMITS, "--group", "laptops"),
            *(*self.secret(), *more),
        )
        return directory

    def issue(self, directory: str, *more: str) -> Any:
        return self.json(
            *("issue", directory, KEY, "laptop.mesh", "--address", "10.7.0.2", *self.secret()),
            *more,
        )


@pytest.fixture
def ca(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ca:
    return Ca(tmp_path, capsys)


def test_a_root_from_beginning_to_end(ca: Ca) -> None:
    directory = ca.init()
    shown = ca.json("show", directory)
    assert shown["kind"] == "ca"
    assert shown["subject"] == "CN=our network"
    assert shown["names"] == ["mesh"]
    assert shown["addresses"] == ["10.7.0.0/16", "fd07::/64"]
    assert shown["groups"] == ["laptops"]
    assert (shown["fault"], shown["issued"]) == (None, [])

    issued = ca.issue(directory, "--group", "laptops", "--days", "2")
    assert issued["generation"] == 1
    assert issued["fits_beside_intermediate"] is None
    (der,) = certificates_in(issued["certificate"].encode())
    assert len(der) == issued["length"]
    renewed = ca.json("renew", directory, "laptop.mesh", *ca.secret())
    assert renewed["generation"] == 2
    assert renewed["key"] == KEY
    assert round(renewed["not_after"] - renewed["not_before"]) in range(
        2 * 86_400, 2 * 86_400 + 310
    )

    revoked = ca.json("revoke", directory, "--name", "laptop.mesh", *ca.secret())
    assert sorted(revoked["revoked"]) == sorted([issued["serial"], renewed["serial"]])
    assert revoked["number"] == 1
    assert Path(revoked["crl"]).exists()
    assert ca.json("crl", directory, *ca.secret(), "--days", "3")["number"] == 2
    assert all(x["revoked"] for x in ca.json("show", directory)["issued"])
    assert "serial" in ca("show", directory)


def test_certificates_go_to_a_file_or_to_the_output(ca: Ca) -> None:
    directory = ca.init()
    words = ("issue", directory, KEY, "laptop.mesh", "--address", "10.7.0.2", *ca.secret())
    assert ca(*words).startswith("-----BEGIN CERTIFICATE-----\n")
    path = ca.path / "laptop.pem"
    assert "laptop.mesh, generation 2" in ca(*words, "--out", str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert main(["cert", "show", str(path)]) == 0
    assert "peer: laptop.mesh\n" in ca.capsys.readouterr().out
    assert main(["cert", "show", str(path), "--json"]) == 0
    (shown,) = json.loads(ca.capsys.readouterr().out)
    assert (shown["key"], shown["generation"], shown["fault"]) == (KEY, 2, None)


def test_an_intermediate_and_a_request(ca: Ca) -> None:
    root = ca.init("root", "--network", "00" * 16)
    middle = ca.init("middle", "--parent", root, "--parent-passphrase-file", str(ca.file))
    shown = ca.json("show", middle)
    assert shown["network"] == "00" * 16
    assert [x["kind"] for x in ca.json("show", root)["issued"]] == ["ca"]
    assert ca.issue(middle)["fits_beside_intermediate"] is False
    made = ca.json(
        *("init", str(ca.path / "request"), "--name", "another", *LIMITS, "--request"),
        *ca.secret(),
    )
    assert Path(made["request"]).read_text().startswith("-----BEGIN CERTIFICATE REQUEST-----")
    assert "there is none" in ca.refused("show", str(ca.path / "request"))


def test_revoking_by_key_and_serial(ca: Ca) -> None:
    directory = ca.init()
    issued = ca.issue(directory)
    serial = ":".join(issued["serial"][i : i + 2] for i in range(0, 32, 2)).upper()
    said = ca("revoke", directory, "--serial", serial, *ca.secret())
    assert f"revoked: {issued['serial']}" in said
    assert "CRL number 1" in said
    assert ca.json("revoke", directory, "--key", OTHER, *ca.secret())["revoked"] == []
    words = ("issue", directory, OTHER, "other.mesh", "--address", "10.7.0.9", *ca.secret())
    assert "this key was revoked" in ca.refused(*words)


def test_what_is_wrong_is_one_line(ca: Ca) -> None:
    directory = ca.init()
    issue = ("issue", directory, KEY, "laptop.mesh")
    for words, text in (
        ((*issue, "--address", "10.9.0.2", *ca.secret()), "10.9.0.2/32 is outside"),
        ((*issue, "--address", "here", *ca.secret()), "'here' is not an IP address"),
        ((*issue, "--address", "10.7.0.2", "--days", "no"), "a number above 0"),
        ((*issue, "--address", "10.7.0.2"), "no terminal to ask"),
        ((*issue, *ca.secret()), "required: --address"),
        (("issue", directory, "short", "a.mesh", "--address", "10.7.0.2"), "44 characters"),
        (("init", directory, "--name", "x", *LIMITS, *ca.secret()), "has a CA already"),
        (
            ("init", f"{directory}2", "--name", "x", *LIMITS, "--network", "00", *ca.secret()),
            "32 hexadecimal digits",
        ),
        (
            ("init", f"{directory}2", "--name", "x", *LIMITS, "--parent-passphrase-file", "f"),
            "belongs to --parent",
        ),
        (("revoke", directory, *ca.secret()), "one of the arguments"),
        (("revoke", directory, "--name", "nobody.mesh", *ca.secret()), "never issued"),
        (("show", str(ca.path)), "ca.pem: there is none"),
        (("crl", directory, "--passphrase-file", "/nonexistent"), "/nonexistent: No such file"),
        ((), "required: ACTION"),
    ):
        assert text in ca.refused(*words)
    ca.file.write_text("battery staple\n")
    assert "the passphrase is wrong" in ca.refused("crl", directory, *ca.secret())


def test_a_passphrase_that_others_can_read_is_warned_of(
    ca: Ca, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = ca.init()
    ca.path.chmod(0o755)
    ca.file.chmod(0o644)
    assert main(["ca", "crl", directory, *ca.secret()]) == 0
    assert "run `chmod 600` on it" in capsys.readouterr().err


TYPED = """
import os, pty, sys
answers = sys.argv[1].split(",")
child, terminal = pty.fork()
if not child:
    main = "import sys; from wgpy.cli import main; sys.exit(main())"
    os.execv(sys.executable, [sys.executable, "-c", main, *sys.argv[2:]])
seen = b""
while True:
    try:
        got = os.read(terminal, 4096)
    except OSError:
        break
    if not got:
        break
    seen += got
    if answers and seen.endswith(b": "):
        os.write(terminal, answers.pop(0).encode() + b"\\n")
        seen += b"|"
sys.stdout.write(seen.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize(
    ("answers", "good"), [("correct horse,correct horse", True), ("one passphrase,another", False)]
)
def test_the_passphrase_is_asked_for_twice(tmp_path: Path, answers: str, good: bool) -> None:
    """At a real terminal, which does not show it."""
    directory = tmp_path / "ca"
    words = ["ca", "init", str(directory), "--name", "x", *LIMITS]
    done = subprocess.run(
        [sys.executable, "-c", TYPED, answers, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "The same again: " in done.stdout
    assert (done.returncode == 0) == good, done.stdout
    assert "horse" not in done.stdout
    assert (directory / "ca.pem").exists() == good
    if not good:
        assert "the two passphrases differ" in done.stdout


def test_a_certificate_that_is_not_to_the_profile_is_shown_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "web.pem"
    path.write_bytes(Peer(purposes=None, rights=None, subject="a\nb").pem())
    assert main(["cert", "show", str(path), "--json"]) == 1
    (shown,) = json.loads(capsys.readouterr().out)
    assert shown["fault"]["reason"] == "purpose"
    assert shown["network"] is None
    assert main(["cert", "show", str(path)]) == 1
    out = capsys.readouterr().out
    assert "not to the profile: its extendedKeyUsage" in out
    assert "CN=a\nb" not in out
    path.write_text("nothing")
    assert main(["cert", "show", str(path)]) == 1
    assert capsys.readouterr().err == f"wgpy: {path}: the certificate cannot be read\n"


def test_help_needs_no_crypto() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from wgpy.cli import main; main(['ca', 'issue', '--help']);"
            "print([m for m in ('asyncio', 'cryptography', 'sqlite3') if m in sys.modules])",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.endswith("[]\n")
