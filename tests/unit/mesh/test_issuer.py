"""Who signs: in this process, and in one of its own; and what neither signs."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.coordinating import PASSPHRASE, SETTINGS, authorities
from tests.support.requirements import program
from tests.support.stores import key
from wgpy.identity.crl import read_crl
from wgpy.identity.leaf import read_leaf
from wgpy.ip import parse_prefix
from wgpy.mesh.addresses import addresses_of
from wgpy.mesh.issuer import Issuer, IssuerError, LocalIssuer, RemoteIssuer, SignerServer
from wgpy.mesh.records import NodeRecord, NodeState, Revocation, RevocationKind

WALL = 1_800_000_000.0
RECORD = NodeRecord(
    "laptop.mesh",
    key(1),
    addresses_of(5, SETTINGS.range4, SETTINGS.range6),
    NodeState.ACTIVE,
    groups=("laptops",),
    routes=(parse_prefix("192.168.4.0/24"),),
    generation=7,
    expires=WALL + 86_400,
)
REVOCATIONS = (
    Revocation(RevocationKind.KEY, key(1).base64(), WALL, WALL + 9),
    Revocation(RevocationKind.NAME, "laptop.mesh", WALL, WALL + 9, generation=7),
    Revocation(RevocationKind.SERIAL, "0a1b", WALL, WALL + 9, issuer=b"\1\2"),
)


@pytest.fixture(scope="module")
def issuing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An intermediate."""
    return authorities(tmp_path_factory.mktemp("authorities"), WALL)


@pytest.fixture
def local(issuing: Path) -> LocalIssuer:
    """Its key, open here."""
    return LocalIssuer(issuing, PASSPHRASE, lambda: WALL)


@contextlib.contextmanager
def serving(server: SignerServer) -> Iterator[None]:
    """A signer in a thread, for as many connections as come."""
    stopped = threading.Event()

    def run() -> None:
        while not stopped.is_set():
            server.serve_one()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(server._path)
        thread.join(10)
        server.close()


@pytest.fixture(params=["local", "remote"])
def issuer(request: pytest.FixtureRequest, local: LocalIssuer, tmp_path: Path) -> Iterator[Issuer]:
    """Either."""
    if request.param == "local":
        yield local
        return
    path = str(tmp_path / "signer.sock")
    with serving(SignerServer(local, path)):
        yield RemoteIssuer(path)


def test_a_certificate_is_what_the_record_says(issuer: Issuer) -> None:
    leaf = read_leaf(issuer.issue(RECORD))
    assert (leaf.name, leaf.key) == (RECORD.name, RECORD.key)
    assert set(leaf.addresses) == set(RECORD.addresses)
    assert leaf.rights.generation == 7
    assert leaf.rights.groups == RECORD.groups
    assert leaf.rights.prefixes == RECORD.routes
    assert leaf.not_after == RECORD.expires
    assert leaf.issuer_id == issuer.authority.key_id
    assert issuer.root.constraints.permits_name("laptop.mesh")


def test_a_list_denies_what_is_revoked(issuer: Issuer) -> None:
    (found,) = read_crl(issuer.sign_list(3, REVOCATIONS), [issuer.authority])
    assert found is not None
    assert found.number == 3
    assert found.serials == {0x0A1B}
    assert found.denied.keys == {key(1)}
    assert found.denied.names == {("laptop.mesh", None): 7}


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "laptop.elsewhere"},
        {"addresses": (parse_prefix("10.8.0.1"), parse_prefix("fd00::1"))},
        {"groups": ("emperors",)},
        {"routes": (parse_prefix("0.0.0.0/0"),)},
        {"expires": None},
        {"generation": 0},
    ],
)
def test_what_its_own_certificate_does_not_permit(
    issuer: Issuer, changed: dict[str, object]
) -> None:
    with pytest.raises(IssuerError) as refused:
        issuer.issue(replace(RECORD, **changed))  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


def test_no_certificate_outlives_its_authority(issuer: Issuer) -> None:
    leaf = read_leaf(issuer.issue(replace(RECORD, expires=WALL + 400 * 86_400)))
    assert leaf.not_after == issuer.authority.not_after


def test_an_authority_that_has_ended_signs_nothing(issuing: Path) -> None:
    late = LocalIssuer(issuing, PASSPHRASE, lambda: WALL + 400 * 86_400)
    with pytest.raises(IssuerError, match="expired"):
        late.issue(replace(RECORD, expires=WALL + 401 * 86_400))


def test_another_passphrase_opens_nothing(issuing: Path, tmp_path: Path) -> None:
    with pytest.raises(IssuerError, match="passphrase"):
        LocalIssuer(issuing, b"incorrect pony")
    with pytest.raises(IssuerError):
        LocalIssuer(tmp_path, PASSPHRASE)


def test_a_signer_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(IssuerError, match="does not answer"):
        RemoteIssuer(str(tmp_path / "signer.sock"))


@pytest.mark.parametrize(
    "asked",
    [
        b"\n",
        b"{}\n",
        b"[]\n",
        b'{"do":"everything"}\n',
        b'{"do":"issue"}\n',
        b'{"do":"issue","node":{}}\n',
        b'{"do":"list","number":0,"revocations":[]}\n',
        b'{"do":"list","number":1,"revocations":[{}]}\n',
        b"\xff\n",
    ],
)
def test_nonsense_is_refused_in_words(local: LocalIssuer, tmp_path: Path, asked: bytes) -> None:
    path = str(tmp_path / "signer.sock")
    server = SignerServer(local, path)
    assert os.stat(path).st_mode & 0o777 == 0o600
    with serving(server):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(asked)
            answer = json.loads(client.makefile("rb").readline())
        assert answer["error"] == "refused"
        # It signs for others afterwards.
        assert read_leaf(RemoteIssuer(path).issue(RECORD)).name == "laptop.mesh"
    assert server.counters["refused"] >= 1


@pytest.mark.tool("wgpy")
def test_the_command_signs_until_a_signal_ends_it(issuing: Path, tmp_path: Path) -> None:
    path, secret = str(tmp_path / "signer.sock"), tmp_path / "passphrase"
    secret.write_bytes(PASSPHRASE + b"\n")
    secret.chmod(0o600)
    words = (program("wgpy"), "ca", "signer", str(issuing), "--socket", path)
    with subprocess.Popen(
        [sys.executable, *words, "--passphrase-file", str(secret)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"signer: listening at {path}\n"
            remote = RemoteIssuer(path)
            assert remote.authority.key_id == LocalIssuer(issuing, PASSPHRASE).authority.key_id
            # The CA is of a network of the future: it says so, and goes on.
            with pytest.raises(IssuerError, match="not yet valid"):
                remote.issue(RECORD)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 0
    assert said == "signer: issued 0, lists 0, refused 1\n"
    assert not os.path.exists(path)
