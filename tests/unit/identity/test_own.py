"""The credential that we present: what is read, what is refused, when a new one is due."""

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support import certificates
from tests.support.certificates import KEY, ROOT, Authority, Peer
from tests.support.tokens import NETWORK, NOW, OTHER, PEER, cnf, enrol_payload, made
from wgpy.identity.claims import CredentialError, Kind
from wgpy.identity.derived import quarantine_address
from wgpy.identity.own import OwnCredential
from wgpy.identity.settings import IdentitySettings
from wgpy.keys import PublicKey


def written(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def test_a_token(tmp_path: Path) -> None:
    settings = IdentitySettings(token=written(tmp_path / "token", made() + b"\n"))
    own = OwnCredential.load(settings, PEER)
    assert (own.kind, own.body, own.intermediate) == (Kind.TOKEN, made(), None)
    assert (own.name, own.network, own.generation) == ("laptop.mesh", NETWORK, 3)
    assert own.groups == frozenset({"laptops"})


def test_a_token_to_enrol(tmp_path: Path) -> None:
    text = made(enrol_payload())
    settings = IdentitySettings(token=written(tmp_path / "token", text + b"\n"))
    own = OwnCredential.load(settings, OTHER)
    assert (own.kind, own.body, own.enrols) == (Kind.ENROLMENT, text, True)
    assert (own.name, own.network, own.serial) == ("laptop.mesh", NETWORK, "once")
    assert own.addresses == (quarantine_address(NETWORK, OTHER),)
    assert str(own) == "the token to enrol"
    assert own.is_over(NOW + 900)
    # It may be bound to a key, and may leave the name to the coordinator.
    settings = IdentitySettings(
        token=written(tmp_path / "bound", made(enrol_payload(), cnf=cnf(PEER), sub=None))
    )
    assert OwnCredential.load(settings, PEER).name == ""
    assert refusal(settings, OTHER)[0] == "key-mismatch"
    settings = IdentitySettings(token=written(tmp_path / "no", made(enrol_payload(), jti=None)))
    assert refusal(settings, OTHER)[0] == "no-jti"


@pytest.mark.parametrize("pem", [True, False])
def test_a_certificate(tmp_path: Path, pem: bool) -> None:
    made = Peer().certificate()
    der = made.public_bytes(Encoding.DER)
    data = made.public_bytes(Encoding.PEM) if pem else der
    settings = IdentitySettings(certificate=written(tmp_path / "own.pem", data))
    own = OwnCredential.load(settings, KEY)
    assert (own.kind, own.body, own.intermediate) == (Kind.CERTIFICATE, der, None)
    assert (own.name, own.serial, own.generation) == ("laptop.mesh", "1234", 1)


def test_an_intermediate_goes_along(tmp_path: Path) -> None:
    middle = Authority(name="an intermediate", key=certificates.signing_key(1), parent=ROOT)
    settings = IdentitySettings(
        certificate=written(tmp_path / "own.pem", Peer(parent=middle).pem()),
        intermediate=written(tmp_path / "middle.pem", der := middle.der()),
    )
    assert OwnCredential.load(settings, KEY).intermediate == der


def refusal(settings: IdentitySettings, key: PublicKey = KEY) -> tuple[str, str]:
    with pytest.raises(CredentialError) as caught:
        OwnCredential.load(settings, key)
    return caught.value.reason, str(caught.value)


def test_what_nobody_would_accept_is_refused_with_its_file(tmp_path: Path) -> None:
    leaf = written(tmp_path / "own.pem", Peer().pem())
    token = written(tmp_path / "token", made())
    both = written(tmp_path / "both.pem", Peer().pem() + ROOT.pem())
    root = written(tmp_path / "root.pem", ROOT.pem())
    text = written(tmp_path / "text", b"not one\n")
    absent = str(tmp_path / "absent")
    for settings, key, reason, place in (
        (IdentitySettings(certificate=leaf), OTHER, "key-mismatch", leaf),
        (IdentitySettings(token=token), KEY, "key-mismatch", token),
        (IdentitySettings(certificate=both), KEY, "malformed", both),
        (IdentitySettings(certificate=root), KEY, "key-kind", root),
        (IdentitySettings(certificate=text), KEY, "malformed", text),
        (IdentitySettings(certificate=token), KEY, "malformed", token),
        (IdentitySettings(token=leaf), KEY, "not-a-token", leaf),
        (IdentitySettings(token=text), KEY, "malformed", text),
        (IdentitySettings(token=absent), KEY, "unreadable", absent),
        (IdentitySettings(certificate=absent), KEY, "unreadable", absent),
        (IdentitySettings(certificate=leaf, intermediate=leaf), KEY, "critical", leaf),
        (IdentitySettings(certificate=leaf, intermediate=absent), KEY, "unreadable", absent),
        (IdentitySettings(certificate=leaf, intermediate=both), KEY, "malformed", both),
    ):
        found, words = refusal(settings, key)
        assert (found, words.count(place), "\n" in words) == (reason, 1, False)
        assert words.startswith(f"{place}: ")
    assert refusal(IdentitySettings(certificate=leaf, token=token))[0] == "identity"
    assert refusal(IdentitySettings())[0] == "identity"


def test_it_is_read_again_when_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "own.pem"
    settings = IdentitySettings(certificate=written(path, Peer().pem()))
    own = OwnCredential.load(settings, KEY)
    assert not own.changed(settings)
    renewed = replace(Peer(), serial=0x1235)
    (tmp_path / "new").write_bytes(renewed.pem())
    (tmp_path / "new").rename(path)
    assert own.changed(settings)
    own = OwnCredential.load(settings, KEY)
    assert (own.serial, own.changed(settings)) == ("1235", False)
    path.unlink()
    assert own.changed(settings)


def test_renewal_is_due_after_two_thirds(tmp_path: Path) -> None:
    text = made(nbf=NOW, exp=NOW + 300)
    own = OwnCredential.load(IdentitySettings(token=written(tmp_path / "token", text)), PEER)
    assert own.renew_at == NOW + 200
    assert not own.is_over(NOW + 299)
    assert own.is_over(NOW + 300)
    assert made().decode() not in repr(own)
