"""With the openssl command: it reads and verifies what we make, and makes what we accept."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.certificates import NETWORK
from tests.support.openssl import (
    ROOT_EXTENSIONS,
    make_root,
    openssl,
    peer_extensions,
    sign_request,
)
from tests.support.openssl import make_leaf as openssl_leaf
from wgpy.identity.anchors import Anchors, read_authority
from wgpy.identity.ca import AuthorityRequest, Issuer, PeerRequest, create, create_request
from wgpy.identity.ca_files import pem
from wgpy.identity.certificate import verify
from wgpy.identity.claims import Claims, CredentialError
from wgpy.identity.profile import PEER_PURPOSE, RIGHTS
from wgpy.identity.revocation import Revocations
from wgpy.identity.settings import Limits
from wgpy.identity.x509der import certificates_in
from wgpy.ip import parse_prefix
from wgpy.keys import PrivateKey

pytestmark = pytest.mark.tool("openssl")

PASSPHRASE = b"correct horse"
LIMITS = Limits(("mesh",), (parse_prefix("10.7.0.0/16"), parse_prefix("fd07::/64")), ("laptops",))
REQUEST = AuthorityRequest("a root", NETWORK, LIMITS)
KEY = PrivateKey(bytes(range(1, 33))).public()
PEER = PeerRequest(KEY, "laptop.mesh", (parse_prefix("10.7.0.2"), parse_prefix("fd07::2")))
NOW = float(int(time.time()))

PEER_EXTENSIONS = peer_extensions("laptop.mesh", "10.7.0.2", "fd07::2")


def make_leaf(path: Path, extensions: str, *more: str) -> bytes:
    return openssl_leaf(path, KEY, extensions, *more)


def anchors(path: Path, limits: Limits | None = None) -> Anchors:
    return Anchors(NETWORK, [read_authority(certificates_in(path.read_bytes())[0], limits)])


def claims_of(leaf: bytes, trust: Anchors, intermediate: bytes | None = None) -> Claims:
    return verify(leaf, intermediate, trust, time.time(), KEY)


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[Issuer]:
    create(tmp_path / "root", REQUEST, PASSPHRASE, NOW)
    with Issuer(tmp_path / "root") as opened:
        opened.unlock(PASSPHRASE)
        yield opened


# --- openssl reads what we make ---


def test_openssl_prints_and_verifies_a_leaf(tmp_path: Path, issuer: Issuer) -> None:
    path = tmp_path / "leaf.pem"
    path.write_bytes(pem(issuer.issue(PEER, NOW).der, "CERTIFICATE"))
    text = openssl("x509", "-in", path, "-noout", "-text")
    for word in (
        "Public Key Algorithm: X25519",
        "X509v3 Key Usage: critical\n                Key Agreement\n",
        f"TLS Web Client Authentication, {PEER_PURPOSE.dotted_string}",
        "DNS:laptop.mesh, IP Address:10.7.0.2, IP Address:FD07:0:0:0:0:0:0:2",
        RIGHTS.dotted_string,
    ):
        assert word in text
    root = issuer.directory / "ca.pem"
    assert "OK" in openssl("verify", "-x509_strict", "-CAfile", root, path)
    assert "OK" in openssl("verify", "-purpose", "sslclient", "-CAfile", root, path)


def test_openssl_verifies_a_leaf_below_an_intermediate(tmp_path: Path, issuer: Issuer) -> None:
    request = replace(REQUEST, name="a coordinator", days=30)
    create(tmp_path / "middle", request, PASSPHRASE, NOW, issuer)
    with Issuer(tmp_path / "middle") as middle:
        middle.unlock(PASSPHRASE)
        (tmp_path / "leaf.pem").write_bytes(pem(middle.issue(PEER, NOW).der, "CERTIFICATE"))
    said = openssl(
        *("verify", "-x509_strict", "-CAfile", issuer.directory / "ca.pem"),
        *("-untrusted", tmp_path / "middle" / "ca.pem", tmp_path / "leaf.pem"),
    )
    assert "OK" in said


def test_openssl_sees_what_a_crl_revokes(tmp_path: Path, issuer: Issuer) -> None:
    path, root = tmp_path / "leaf.pem", issuer.directory / "ca.pem"
    issued = issuer.issue(PEER, NOW)
    path.write_bytes(pem(issued.der, "CERTIFICATE"))
    crl = issuer.directory / "crl.pem"
    check = ("verify", "-crl_check", "-CRLfile", crl, "-CAfile", root, path)
    issuer.crl(NOW)
    assert "OK" in openssl(*check)
    issuer.revoke_name("laptop.mesh", NOW)
    issuer.crl(NOW)
    assert "certificate revoked" in openssl(*check, ok=False)
    said = openssl("crl", "-in", crl, "-noout", "-text", "-CAfile", root)
    assert "verify OK" in said
    assert issued.serial.upper() in said


def test_openssl_opens_the_key_with_the_passphrase(tmp_path: Path, issuer: Issuer) -> None:
    (tmp_path / "passphrase").write_bytes(PASSPHRASE)
    key = issuer.directory / "ca.key"
    said = openssl("pkey", "-in", key, "-passin", f"file:{tmp_path / 'passphrase'}", "-noout")
    assert said == ""


# --- We accept what openssl makes ---


@pytest.mark.parametrize("subject", [(), ("-subj", "/")])
def test_a_leaf_of_openssl_is_accepted(tmp_path: Path, subject: tuple[str, ...]) -> None:
    root = make_root(tmp_path, ROOT_EXTENSIONS)
    extensions = PEER_EXTENSIONS
    if subject:
        extensions = extensions.replace("subjectAltName = ", "subjectAltName = critical, ")
    leaf = make_leaf(tmp_path, extensions, *subject)
    claims = claims_of(leaf, anchors(root))
    assert claims.name == "laptop.mesh"
    assert claims.groups == {"laptops"}
    assert claims.addresses == PEER.addresses


def test_an_rsa_root_of_openssl_is_accepted(tmp_path: Path) -> None:
    root = make_root(tmp_path, ROOT_EXTENSIONS, "rsa:2048")
    assert claims_of(make_leaf(tmp_path, PEER_EXTENSIONS), anchors(root)).name == "laptop.mesh"


@pytest.mark.parametrize(
    ("extensions", "reason"),
    [
        ("", "malformed"),  # a certificate of version 1
        (PEER_EXTENSIONS.replace("critical, keyAgreement", "keyAgreement"), "usage"),
        (PEER_EXTENSIONS.replace("clientAuth, ", ""), "purpose"),
        (PEER_EXTENSIONS.replace("laptop.mesh", "*.mesh"), "name"),
        (PEER_EXTENSIONS.replace("DNS:", "critical, DNS:"), "name-critical"),
        (PEER_EXTENSIONS.replace("IP:10.7.0.2", "IP:10.9.0.2"), "constraints"),
        (PEER_EXTENSIONS + "1.2.3.4 = critical, DER:05:00\n", "critical"),
    ],
)
def test_a_leaf_of_openssl_that_is_not_to_the_profile_is_refused(
    tmp_path: Path, extensions: str, reason: str
) -> None:
    root = make_root(tmp_path, ROOT_EXTENSIONS)
    with pytest.raises(CredentialError) as caught:
        claims_of(make_leaf(tmp_path, extensions), anchors(root))
    assert caught.value.reason == reason


def test_a_serial_number_of_21_bytes_is_refused(tmp_path: Path) -> None:
    root = make_root(tmp_path, ROOT_EXTENSIONS)
    leaf = make_leaf(tmp_path, PEER_EXTENSIONS, "-set_serial", "0x7f" + 20 * "00")
    with pytest.raises(CredentialError) as caught:
        claims_of(leaf, anchors(root))
    assert caught.value.reason == "serial"


def test_a_weak_root_of_openssl_is_no_anchor(tmp_path: Path) -> None:
    root = make_root(tmp_path, ROOT_EXTENSIONS, "rsa:1024")
    with pytest.raises(CredentialError) as caught:
        anchors(root)
    assert caught.value.reason == "ca-key"


def test_a_plain_root_of_openssl_needs_stated_limits(tmp_path: Path) -> None:
    plain = ROOT_EXTENSIONS.split("nameConstraints")[0]
    root = make_root(tmp_path, plain)
    leaf = make_leaf(tmp_path, PEER_EXTENSIONS)
    with pytest.raises(CredentialError, match="no critical name constraints"):
        anchors(root)
    assert claims_of(leaf, anchors(root, LIMITS)).name == "laptop.mesh"


@pytest.mark.parametrize("plain", [False, True])
def test_an_intermediate_signed_by_openssl_is_a_ca_directory(tmp_path: Path, plain: bool) -> None:
    """As under a root in a hardware module: the request is all that goes there and back."""
    kept = ROOT_EXTENSIONS.split("nameConstraints")[0] if plain else ROOT_EXTENSIONS
    root = make_root(tmp_path, kept)
    directory = tmp_path / "middle"
    request = create_request(directory, replace(REQUEST, name="a coordinator"), PASSPHRASE)
    assert "2.25." in openssl("req", "-in", request, "-noout", "-text", "-verify")
    sign_request(tmp_path, request, directory / "ca.pem")
    (directory / "parent.pem").write_bytes(root.read_bytes())
    with Issuer(directory) as issuer:
        issuer.unlock(PASSPHRASE)
        issued = issuer.issue(replace(PEER, groups=("laptops",)), time.time())
        trust = anchors(root, LIMITS if plain else None)
        claims = claims_of(issued.der, trust, issuer.authority.der)
        assert claims.groups == {"laptops"}
        assert claims.not_after <= issuer.authority.not_after
        (tmp_path / "leaf.pem").write_bytes(pem(issued.der, "CERTIFICATE"))
    said = openssl(
        *("verify", "-CAfile", root, "-untrusted", directory / "ca.pem", tmp_path / "leaf.pem")
    )
    assert "OK" in said


def test_a_crl_of_openssl_is_read(tmp_path: Path) -> None:
    root = make_root(tmp_path, ROOT_EXTENSIONS)
    leaf = make_leaf(tmp_path, PEER_EXTENSIONS)
    (tmp_path / "index.txt").write_text("")
    (tmp_path / "crlnumber").write_text("0A\n")
    (tmp_path / "ca.cnf").write_text(
        f"[ca]\ndefault_ca = d\n[d]\ndatabase = {tmp_path}/index.txt\n"
        f"crlnumber = {tmp_path}/crlnumber\ndefault_md = sha256\ncrl_extensions = c\n"
        "[c]\nauthorityKeyIdentifier = keyid\n"
    )
    words = ("ca", "-config", tmp_path / "ca.cnf", "-cert", root, "-keyfile", tmp_path / "root.key")
    openssl(*words, "-revoke", tmp_path / "peer.pem")
    openssl(*words, "-gencrl", "-crldays", "7", "-out", tmp_path / "openssl.crl")
    trust = anchors(root)
    numbers: dict[bytes, int] = {}
    found = Revocations.load([str(tmp_path / "openssl.crl")], trust.known(), numbers)
    assert list(numbers.values()) == [10]
    with pytest.raises(CredentialError) as caught:
        found.check(claims_of(leaf, trust), NOW)
    assert caught.value.reason == "revoked"
