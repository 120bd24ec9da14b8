"""What an interface trusts and presents, in force: files, ledger and clock together."""

import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import certificates, tokens
from tests.support.certificates import NETWORK, Authority
from tests.support.office import DAY, ROOT, START, leaf
from wgpy.device.trust import EARLIEST, Trust
from wgpy.identity.admissions import Admissions
from wgpy.identity.claims import CredentialError
from wgpy.identity.profile import Rights
from wgpy.identity.settings import Anchor, AuthoritySettings, IdentitySettings, TokenIssuer
from wgpy.ip import parse_prefix
from wgpy.keys import PresharedKey, PrivateKey, write_secret
from wgpy.protocol.credential_payload import Offer, OfferKind


class Owner:
    """Somebody whom `leaf` can make a certificate for."""

    def __init__(self, number: int) -> None:
        self.private = PrivateKey(bytes([number]) * 32)
        self.inner = f"10.7.0.{number}"

    def offer(self, name: str = "laptop.mesh", **changes: object) -> Offer:
        made = leaf(self, name, **changes)  # type: ignore[arg-type]
        return Offer(OfferKind.CERTIFICATE, made.der())


GATE, LAPTOP = Owner(1), Owner(2)
OWN = GATE.private.public()


class Home:
    """A Trust with its files in a directory, at a time that tests set."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = START
        self.opened: list[Admissions] = []
        (directory / "root.pem").write_bytes(ROOT.pem())
        (directory / "crl").mkdir()
        self.present()
        self.trust = Trust(self.open, lambda: int(self.now * 1e9))

    def open(self) -> Admissions:
        self.opened.append(Admissions(self.directory / "ledger"))
        return self.opened[-1]

    def present(self, **changes: object) -> None:
        """Write our own certificate."""
        made = leaf(GATE, "gate.mesh", **changes)  # type: ignore[arg-type]
        self.replace("own.pem", made.pem())

    def replace(self, name: str, data: bytes) -> None:
        """Put a file into place as programs do, so that it is another inode."""
        new = self.directory / f"{name}.new"
        new.write_bytes(data)
        os.replace(new, self.directory / name)

    def authority(self, **changes: object) -> AuthoritySettings:
        made = AuthoritySettings(
            network=NETWORK,
            accept=(parse_prefix("10.7.0.0/16"),),
            anchors=(Anchor(str(self.directory / "root.pem")),),
            revocations=(str(self.directory / "crl"),),
        )
        return replace(made, **changes)  # type: ignore[arg-type]

    @property
    def identity(self) -> IdentitySettings:
        return IdentitySettings(certificate=str(self.directory / "own.pem"))

    def begin(self, **changes: object) -> Trust:
        self.trust.prepare(self.authority(**changes), self.identity, OWN)()
        return self.trust

    def refused(self, *settings: object) -> CredentialError:
        before = (self.trust.authority, self.trust.own, self.trust.network, self.trust.psk)
        with pytest.raises(CredentialError) as caught:
            self.trust.prepare(*settings)  # type: ignore[arg-type]
        assert before == (
            self.trust.authority,
            self.trust.own,
            self.trust.network,
            self.trust.psk,
        )
        return caught.value


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


# --- Settings ---


def test_nothing_is_trusted_before_it_is_put_into_force(home: Home) -> None:
    commit = home.trust.prepare(home.authority(), home.identity, OWN)
    assert (home.trust.authority, home.trust.own, home.trust.network) == (None, None, None)
    with pytest.raises(CredentialError) as caught:
        home.trust.examine(LAPTOP.private.public(), LAPTOP.offer(), None)
    assert caught.value.reason == "no-authority"
    commit()
    assert home.trust.network == NETWORK
    claims = home.trust.examine(LAPTOP.private.public(), LAPTOP.offer(), None)
    assert claims.name == "laptop.mesh"


def test_what_is_wrong_is_refused_and_changes_nothing(home: Home) -> None:
    home.begin()
    (home.directory / "psk").write_text("not a key\n")
    psk = home.authority(preshared_key_file=str(home.directory / "psk"))
    assert home.refused(psk, home.identity, OWN).reason == "preshared-key"
    gone = home.authority(anchors=(Anchor(str(home.directory / "gone.pem")),))
    assert home.refused(gone, home.identity, OWN).reason == "unreadable"
    assert home.refused(home.authority(), home.identity, LAPTOP.private.public()).reason == (
        "key-mismatch"
    )
    rights = Rights(bytes(16), 1, ("laptops",), ())
    home.present(rights=rights)
    assert home.refused(home.authority(), home.identity, OWN).reason == "wrong-network"


def test_a_ledger_that_cannot_be_opened_refuses_the_settings(home: Home) -> None:
    home.trust = Trust(lambda: Admissions(home.directory / "gone" / "ledger"), lambda: 0)
    error = home.refused(home.authority(), None, OWN)
    assert error.reason == "ledger"
    assert "the ledger cannot be used" in str(error)


def test_one_ledger_for_all_settings_and_it_is_closed(home: Home) -> None:
    home.begin()
    home.begin(accept=())
    (ledger,) = home.opened
    home.trust.close()
    assert home.trust.authority is None
    with pytest.raises(Exception, match="closed"):
        ledger.crl_numbers[bytes(32)] = 1
    home.trust.close()


def test_without_an_authority_no_ledger_is_opened(home: Home) -> None:
    home.trust.prepare(None, home.identity, OWN)()
    assert home.opened == []
    assert home.trust.network == NETWORK, "that of our own credential"
    assert home.trust.knows(LAPTOP.private.public(), LAPTOP.offer())
    assert home.trust.denied([LAPTOP.private.public()]) == set()


def test_without_a_key_there_is_nothing_to_present_yet(home: Home) -> None:
    home.trust.prepare(None, home.identity, None)()
    assert (home.trust.own, home.trust.network, home.trust.offer()) == (None, None, None)


def test_the_pre_shared_key_is_wiped_when_it_is_replaced_and_at_the_end(home: Home) -> None:
    paths = []
    for number in (1, 2):
        paths.append(str(home.directory / f"psk{number}"))
        write_secret(paths[-1], PresharedKey(bytes([number]) * 32).base64().encode())
    first = home.begin(preshared_key_file=paths[0]).psk
    assert first == PresharedKey(bytes([1]) * 32)
    second = home.begin(preshared_key_file=paths[1]).psk
    assert first is not None
    assert first.is_zero()
    home.trust.close()
    assert second is not None
    assert second.is_zero()
    assert home.trust.psk is None


def test_zeros_are_no_pre_shared_key(home: Home) -> None:
    path = home.directory / "psk"
    write_secret(path, PresharedKey(bytes(32)).base64().encode())
    assert home.begin(preshared_key_file=str(path)).psk is None


def test_every_file_is_followed(home: Home) -> None:
    jwks = tokens.jwks_file(home.directory / "jwks.json", tokens.SIGNER)
    middle = home.directory / "middle"
    middle.mkdir()
    home.begin(intermediates=(str(middle),), issuers=(TokenIssuer(jwks, tokens.LIMITS),))
    found = {Path(path).name for path in home.trust.paths()}
    assert found == {"root.pem", "middle", "crl", "jwks.json", "own.pem"}
    home.trust.close()
    assert home.trust.paths() == []


# --- Files ---


def test_nothing_is_read_again_that_did_not_change(home: Home) -> None:
    home.begin()
    assert home.trust.reload() == (False, False)


def test_a_new_crl_and_a_new_certificate_are_told_apart(home: Home) -> None:
    home.begin()
    (home.directory / "crl" / "mine.deny").write_text(f"key {LAPTOP.private.public().base64()}\n")
    assert home.trust.reload() == (True, False)
    assert home.trust.denied([OWN, LAPTOP.private.public()]) == {LAPTOP.private.public()}
    home.present(generation=2, not_after=START + 2 * DAY)
    assert home.trust.reload() == (False, True)
    assert home.trust.own is not None
    assert home.trust.own.generation == 2
    assert home.trust.reload() == (False, False)


def test_a_file_that_is_broken_keeps_what_was_read_before(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    home.begin()
    root, own = home.trust.authority, home.trust.own
    home.replace("root.pem", b"nothing\n")
    home.replace("own.pem", b"nothing\n")
    for _ in range(3):
        assert home.trust.reload() == (False, False)
    assert (home.trust.authority, home.trust.own) == (root, own)
    home.trust.examine(LAPTOP.private.public(), LAPTOP.offer(), None)
    assert caplog.text.count("what was trusted before stays in force") == 1
    assert caplog.text.count("the credential presented before stays") == 1
    home.replace("root.pem", ROOT.pem())
    home.present(generation=3)
    assert home.trust.reload() == (True, True)


def test_a_certificate_for_another_key_or_network_is_not_presented(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    home.begin()
    home.replace("own.pem", leaf(LAPTOP, "gate.mesh").pem())  # type: ignore[arg-type]
    assert home.trust.reload() == (False, False)
    assert "it was issued for the key" in caplog.text
    home.present(rights=Rights(bytes(16), 9, ("laptops",), ()))
    assert home.trust.reload() == (False, False)
    assert "another network now" in caplog.text
    assert home.trust.own is not None
    assert home.trust.own.generation == 1


def test_a_ledger_that_fails_while_files_are_read_keeps_what_was(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    home.begin()
    path = home.directory / "crl" / "one.pem"
    path.write_bytes(certificates.crl(0x1001, authority=ROOT, until=START + DAY))
    home.opened[0].close()
    assert home.trust.reload() == (False, False)
    assert "the ledger fails" in caplog.text


def test_a_list_that_is_out_of_date_is_told_of_once(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    path = home.directory / "crl" / "one.pem"
    path.write_bytes(certificates.crl(0x9999, authority=ROOT, until=START - 60))
    home.begin()
    home.begin()
    assert caplog.text.count("is out of date; fetch the next one") == 1


# --- Time ---


def test_a_clock_that_was_never_set_judges_nobody(home: Home) -> None:
    home.begin()
    home.now = 60.0
    assert home.trust.own is not None
    assert home.trust.wall() == home.trust.own.not_before
    home.trust.prepare(home.authority(), None, OWN)()
    assert home.trust.wall() == EARLIEST
    home.now = START + 60
    assert home.trust.wall() == START + 60


def test_our_own_credential_is_not_shown_when_it_is_over(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    home.begin()
    offer = home.trust.offer()
    assert offer is not None
    assert (offer.kind, offer.intermediate) == (OfferKind.CERTIFICATE, None)
    home.now = START + DAY
    assert [home.trust.offer() for _ in range(3)] == [None] * 3
    assert caplog.text.count("our own credential, gate.mesh, is over") == 1
    home.present(not_after=START + 3 * DAY)
    assert home.trust.reload() == (False, True)
    assert home.trust.offer() is not None


# --- Questions ---


def test_a_verdict_is_known_after_it_was_given(home: Home) -> None:
    home.begin()
    key, offer = LAPTOP.private.public(), LAPTOP.offer()
    assert not home.trust.knows(key, offer)
    home.trust.examine(key, offer, None)
    assert home.trust.knows(key, offer)
    assert not home.trust.knows(OWN, offer)


def test_an_authority_that_is_replaced_keeps_the_surroundings(home: Home) -> None:
    home.begin()
    home.trust.set_surroundings((parse_prefix("10.7.0.2/32"),), {}, ())
    home.begin(strict=False)
    with pytest.raises(CredentialError) as caught:
        home.trust.examine(LAPTOP.private.public(), LAPTOP.offer(), None)
    assert caught.value.reason == "own-address"


def test_another_root_of_the_same_name_is_not_ours(home: Home) -> None:
    home.begin()
    other = Authority(
        key=certificates.signing_key(9), not_before=START - DAY, not_after=START + 9 * DAY
    )
    with pytest.raises(CredentialError) as caught:
        home.trust.examine(LAPTOP.private.public(), LAPTOP.offer(parent=other), None)
    assert caught.value.reason == "unknown-issuer"
