"""The issuer: what it gives out verifies, what it refuses, and what outlives a kill."""

import base64
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.support.certificates import DAY, KEY, NETWORK, NOW, signing_key
from wgpy.identity.anchors import Anchors
from wgpy.identity.ca import (
    AuthorityRequest,
    Issuer,
    PeerRequest,
    create,
    create_request,
    extend,
)
from wgpy.identity.ca_files import CaError
from wgpy.identity.certificate import verify
from wgpy.identity.claims import Claims, CredentialError
from wgpy.identity.issued import Issued, transaction
from wgpy.identity.ledger import LedgerError
from wgpy.identity.profile import Rights
from wgpy.identity.revocation import Revocations
from wgpy.identity.settings import Limits
from wgpy.ip import parse_prefix
from wgpy.keys import PrivateKey, PublicKey

PASSPHRASE = b"correct horse"
LIMITS = Limits(
    ("mesh",), (parse_prefix("10.7.0.0/16"), parse_prefix("fd07::/64")), ("admins", "laptops")
)
ROOT = AuthorityRequest("a root", NETWORK, LIMITS, (parse_prefix("192.168.0.0/16"),))
MIDDLE = replace(
    ROOT,
    name="a coordinator",
    limits=Limits(("mesh",), (parse_prefix("10.7.0.0/16"),), ("laptops",)),
    prefixes=(),
    days=365,
)
PEER = PeerRequest(KEY, "laptop.mesh", (parse_prefix("10.7.0.2"),), ("laptops",))


def key(number: int) -> PublicKey:
    return PrivateKey(bytes([number] * 32)).public()


def desktop(number: int = 2, address: str = "10.7.0.3") -> PeerRequest:
    return replace(PEER, key=key(number), name="desktop.mesh", addresses=(parse_prefix(address),))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root that nothing was issued from: encrypting its key takes a while."""
    directory = tmp_path_factory.mktemp("ca") / "root"
    create(directory, ROOT, PASSPHRASE, NOW)
    return directory


@pytest.fixture
def issuer(tmp_path: Path, root: Path) -> Iterator[Issuer]:
    shutil.copytree(root, tmp_path / "root")
    with Issuer(tmp_path / "root") as opened:
        opened.unlock(PASSPHRASE)
        yield opened


@pytest.fixture
def middle(tmp_path: Path, issuer: Issuer) -> Iterator[Issuer]:
    create(tmp_path / "middle", MIDDLE, PASSPHRASE, NOW, issuer)
    with Issuer(tmp_path / "middle") as opened:
        opened.unlock(PASSPHRASE)
        yield opened


def trust(*roots: Issuer, between: tuple[Issuer, ...] = ()) -> Anchors:
    return Anchors(NETWORK, [x.authority for x in roots], [x.authority for x in between])


def claims_of(issued: Issued, anchors: Anchors, wall: float = NOW) -> Claims:
    return verify(issued.der, None, anchors, wall, PublicKey(issued.key))


def test_what_is_issued_is_accepted(issuer: Issuer) -> None:
    request = replace(
        PEER,
        addresses=(parse_prefix("10.7.0.2"), parse_prefix("fd07::2")),
        prefixes=(parse_prefix("192.168.4.0/24"),),
    )
    issued = issuer.issue(request, NOW)
    claims = claims_of(issued, trust(issuer))
    assert claims.name == request.name
    assert claims.addresses == request.addresses
    assert claims.groups == frozenset(request.groups)
    assert claims.prefixes == request.prefixes
    assert claims.generation == 1
    assert claims.serial == issued.serial
    assert (claims.not_before, claims.not_after) == (NOW - 300, NOW + 7 * DAY)


def test_an_intermediate_issues_too(issuer: Issuer, middle: Issuer) -> None:
    issued = middle.issue(PEER, NOW)
    assert claims_of(issued, trust(issuer, between=(middle,))).chain == (
        (issuer.authority.spki, middle.authority.serial),
    )
    carried = verify(issued.der, middle.authority.der, trust(issuer), NOW, KEY)
    assert carried.name == "laptop.mesh"
    assert middle.parent == issuer.authority
    with pytest.raises(CaError, match="no other CA"):
        create(middle.directory / "below", MIDDLE, PASSPHRASE, NOW, middle)
    assert not (middle.directory / "below").exists()


def test_an_intermediate_is_extended_with_its_key(
    tmp_path: Path, issuer: Issuer, middle: Issuer
) -> None:
    before = middle.issue(PEER, NOW)
    later = NOW + 300 * DAY
    prefix = parse_prefix("192.168.7.0/24")
    more = Rights(NETWORK, 0, ("admins", "laptops"), (prefix,))
    made = extend(middle.directory, PASSPHRASE, later, issuer, more)
    old = middle.authority
    assert (made.spki, made.key_id, made.subject) == (old.spki, old.key_id, old.subject)
    assert made.constraints == old.constraints
    assert made.rights == Rights(NETWORK, 0, ("laptops", "admins"), (prefix,))
    assert made.not_after == later + 365 * DAY > old.not_after
    assert made.serial != old.serial
    # What either issued is accepted by who knows only the other.
    knows_old = Anchors(NETWORK, [issuer.authority], [old])
    knows_new = Anchors(NETWORK, [issuer.authority], [made])
    with Issuer(middle.directory) as again:
        again.unlock(PASSPHRASE)
        after = again.renew(PEER.name, later)
    assert made.not_before == old.not_before
    assert extend(middle.directory, PASSPHRASE, later, issuer).rights == made.rights
    for anchors in (knows_old, knows_new):
        assert claims_of(after, anchors, later).name == PEER.name
        assert claims_of(before, anchors, NOW + DAY).name == PEER.name


def test_only_who_signed_it_extends_it_and_only_within_its_own(
    tmp_path: Path, issuer: Issuer, middle: Issuer
) -> None:
    before = (middle.directory / "ca.pem").read_bytes()
    other = tmp_path / "other"
    create(other, replace(ROOT, name="another root"), PASSPHRASE, NOW)
    with Issuer(other) as stranger:
        stranger.unlock(PASSPHRASE)
        with pytest.raises(CaError, match="was not signed by"):
            extend(middle.directory, PASSPHRASE, NOW, stranger)
    with pytest.raises(CaError):
        extend(middle.directory, b"another", NOW, issuer)
    with pytest.raises(CaError):
        extend(middle.directory, PASSPHRASE, NOW, issuer, Rights(NETWORK, 0, ("wheel",)))
    assert (middle.directory / "ca.pem").read_bytes() == before


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (replace(MIDDLE, limits=replace(LIMITS, names=("other",))), "a name of the new CA"),
        (
            replace(MIDDLE, limits=replace(LIMITS, networks=(parse_prefix("10.0.0.0/8"),))),
            "a network of the new CA",
        ),
        (replace(MIDDLE, limits=replace(LIMITS, groups=("root",))), "the group root"),
        (replace(MIDDLE, prefixes=(parse_prefix("0.0.0.0/0"),)), "the prefix"),
        (replace(MIDDLE, network=bytes(16)), "another network"),
    ],
)
def test_an_intermediate_is_never_more_than_its_root(
    issuer: Issuer, request_: AuthorityRequest, text: str
) -> None:
    with pytest.raises(CaError, match=text):
        create(issuer.directory / "below", request_, PASSPHRASE, NOW, issuer)
    assert not (issuer.directory / "below").exists()


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (replace(PEER, name="Laptop.mesh"), "is no name"),
        (replace(PEER, name="*.mesh"), "is no name"),
        (replace(PEER, name="laptop.other"), "laptop.other is outside"),
        (replace(PEER, addresses=()), "one address, or two"),
        (replace(PEER, addresses=PEER.addresses * 2), "one address, or two"),
        (replace(PEER, addresses=(parse_prefix("10.8.0.2"),)), "outside what this CA"),
        (replace(PEER, addresses=(parse_prefix("10.7.0.0/24"),)), "one machine can have"),
        (replace(PEER, addresses=(parse_prefix("224.0.0.1"),)), "one machine can have"),
        (replace(PEER, groups=("root",)), "may not give the group root"),
        (replace(PEER, groups=("laptops", "laptops")), "twice"),
        (replace(PEER, prefixes=(parse_prefix("172.16.0.0/12"),)), "may not give the prefix"),
        (replace(PEER, key=PublicKey(bytes(32))), "low order"),
        (replace(PEER, key=PublicKey(b"\xff" * 32)), "canonical"),
        (replace(PEER, days=0), "more than 0"),
        (replace(PEER, days=1e9), "36,500"),
        (replace(PEER, name=".".join(["a" * 60] * 4) + ".mesh"), "room for 741"),
    ],
)
def test_what_is_against_the_rules_is_not_issued(
    issuer: Issuer, request_: PeerRequest, text: str
) -> None:
    if "741" in text:  # long only together with everything else that is long
        groups = tuple(f"{i:032}" for i in range(16))
        limits = replace(LIMITS, groups=groups)
        create(issuer.directory / "wide", replace(ROOT, limits=limits), PASSPHRASE, NOW)
        with Issuer(issuer.directory / "wide") as wide:
            wide.unlock(PASSPHRASE)
            with pytest.raises(CaError, match=text):
                wide.issue(replace(request_, groups=groups), NOW)
            assert wide.ledger.all() == []
        return
    with pytest.raises(CaError, match=text):
        issuer.issue(request_, NOW)
    assert issuer.ledger.all() == []


def test_generations_rise_and_addresses_stay_reserved(issuer: Issuer) -> None:
    first = issuer.issue(PEER, NOW)
    with pytest.raises(LedgerError, match=r"10\.7\.0\.2 is reserved for laptop\.mesh"):
        issuer.issue(desktop(address="10.7.0.2"), NOW)
    # What was refused took no generation.
    assert issuer.issue(desktop(), NOW).generation == 1
    moved = issuer.issue(replace(PEER, addresses=(parse_prefix("10.7.0.9"),)), NOW)
    assert (first.generation, moved.generation) == (1, 2)
    with pytest.raises(LedgerError, match="reserved"):
        issuer.issue(desktop(address="10.7.0.2"), first.not_after)
    assert issuer.issue(desktop(address="10.7.0.2"), first.not_after + 1).generation == 2


def test_one_key_is_one_peer(issuer: Issuer) -> None:
    issued = issuer.issue(PEER, NOW)
    with pytest.raises(CaError, match=r"that of laptop\.mesh"):
        issuer.issue(replace(desktop(), key=KEY), NOW)
    assert issuer.issue(replace(desktop(), key=KEY), issued.not_after + 1).generation == 1


def test_a_renewal_is_the_same_and_newer(issuer: Issuer) -> None:
    request = replace(PEER, prefixes=(parse_prefix("192.168.4.0/24"),), days=2)
    first = claims_of(issuer.issue(request, NOW), trust(issuer))
    later = NOW + DAY
    second = claims_of(issuer.renew("laptop.mesh", later), trust(issuer), later)
    assert second == replace(
        first,
        generation=2,
        serial=second.serial,
        not_before=later - 300,
        not_after=later + 2 * DAY,
    )
    assert issuer.renew("laptop.mesh", later, days=1).not_after == later + DAY
    with pytest.raises(CaError, match="has no certificate"):
        issuer.renew("nobody.mesh", NOW)


def test_nothing_outlives_a_ca(tmp_path: Path, issuer: Issuer, middle: Issuer) -> None:
    assert issuer.issue(replace(PEER, days=9_000), NOW).not_after == issuer.authority.not_after
    assert middle.issue(replace(PEER, days=9_000), NOW).not_after == middle.authority.not_after
    create(tmp_path / "long", replace(MIDDLE, days=9_000), PASSPHRASE, NOW, issuer)
    with Issuer(tmp_path / "long") as long:
        assert long.authority.not_after == issuer.authority.not_after
    with pytest.raises(CaError, match="the CA is expired"):
        middle.issue(PEER, middle.authority.not_after + 1)


# --- Revoking ---


def revocations(path: Path, issuer: Issuer, wall: float = NOW) -> Revocations:
    issuer.crl(wall)
    return Revocations.load(
        [str(issuer.directory / "crl.pem")], trust(issuer).known(), {}, strict=True
    )


def reason(found: Revocations, claims: Claims, wall: float = NOW) -> str | None:
    try:
        found.check(claims, wall)
    except CredentialError as error:
        return error.reason
    return None


def test_a_serial_number_is_revoked(tmp_path: Path, issuer: Issuer) -> None:
    first, second = issuer.issue(PEER, NOW), issuer.issue(PEER, NOW)
    issuer.revoke_serial(first.serial, NOW)
    found = revocations(tmp_path, issuer)
    assert reason(found, claims_of(first, trust(issuer))) == "revoked"
    assert reason(found, claims_of(second, trust(issuer))) is None
    with pytest.raises(CaError, match="nothing with the serial number 00"):
        issuer.revoke_serial("00", NOW)


def test_a_key_is_revoked_for_good(tmp_path: Path, issuer: Issuer) -> None:
    claims = claims_of(issuer.issue(PEER, NOW), trust(issuer))
    assert [x.name for x in issuer.revoke_key(KEY, NOW)] == ["laptop.mesh"]
    found = revocations(tmp_path, issuer)
    assert reason(found, claims) == "revoked"
    assert reason(found, replace(claims, serial="77", generation=9)) == "denied-key"
    with pytest.raises(CaError, match="this key was revoked"):
        issuer.issue(PEER, NOW)
    assert issuer.issue(replace(PEER, key=key(3)), NOW).generation == 2


def test_a_name_is_revoked_with_whoever_renewed_it(tmp_path: Path, issuer: Issuer) -> None:
    issuer.issue(PEER, NOW)
    stolen = claims_of(issuer.renew("laptop.mesh", NOW), trust(issuer))
    assert len(issuer.revoke_name("laptop.mesh", NOW)) == 2
    found = revocations(tmp_path, issuer)
    assert reason(found, stolen) == "revoked"
    assert reason(found, replace(stolen, serial="77")) == "denied-name"
    with pytest.raises(CaError, match="is revoked"):
        issuer.renew("laptop.mesh", NOW)
    again = claims_of(issuer.issue(replace(PEER, key=key(3)), NOW), trust(issuer))
    assert again.generation == 3
    assert reason(revocations(tmp_path, issuer), again) is None
    with pytest.raises(LedgerError, match="never issued"):
        issuer.revoke_name("nobody.mesh", NOW)


def test_an_intermediate_is_revoked_by_its_root(
    tmp_path: Path, issuer: Issuer, middle: Issuer
) -> None:
    issued = middle.issue(PEER, NOW)
    issuer.revoke_serial(middle.authority.serial, NOW)
    claims = claims_of(issued, trust(issuer, between=(middle,)))
    issuer.crl(NOW)
    middle.crl(NOW)
    found = Revocations.load(
        [str(x.directory / "crl.pem") for x in (issuer, middle)],
        trust(issuer, between=(middle,)).known(),
        {},
        strict=True,
    )
    assert reason(found, claims) == "ca-revoked"


def test_crl_numbers_rise_and_ended_certificates_leave(tmp_path: Path, issuer: Issuer) -> None:
    issued = issuer.issue(PEER, NOW)
    issuer.revoke_serial(issued.serial, NOW)
    assert [issuer.crl(NOW)[0] for _ in range(3)] == [1, 2, 3]
    assert revocations(tmp_path, issuer).crls[issuer.authority.spki].serials
    late = issued.not_after + 1
    assert not revocations(tmp_path, issuer, late).crls[issuer.authority.spki].serials
    with pytest.raises(CaError, match="more than 0"):
        issuer.crl(NOW, 0)


# --- The directory ---


def test_a_ca_that_is_there_is_left_alone(issuer: Issuer) -> None:
    before = {x.name: x.read_bytes() for x in issuer.directory.iterdir()}
    for make in (create, create_request):
        arguments = (NOW,) if make is create else ()
        with pytest.raises(CaError, match="has a CA already"):
            make(issuer.directory, ROOT, PASSPHRASE, *arguments)  # type: ignore[operator]
    assert {x.name: x.read_bytes() for x in issuer.directory.iterdir()} == before


def test_what_is_secret_is_kept_so(issuer: Issuer) -> None:
    assert stat.S_IMODE(issuer.directory.stat().st_mode) == 0o700
    modes = {x.name: stat.S_IMODE(x.stat().st_mode) for x in issuer.directory.iterdir()}
    assert modes == {"ca.key": 0o600, "ledger": 0o600, "ca.pem": 0o644}
    pem = (issuer.directory / "ca.key").read_bytes()
    assert pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    with pytest.raises(ValueError, match=r"[Ii]ncorrect password|decrypt"):
        load_pem_private_key(pem, b"another")
    assert (600_000).to_bytes(3, "big") in base64.b64decode(b"".join(pem.split(b"\n")[1:-2]))


def test_the_key_must_be_encrypted_and_the_cas_own(tmp_path: Path, issuer: Issuer) -> None:
    for short in (b"", b"seven77"):
        with pytest.raises(CaError, match="8 to 1,024 bytes"):
            create(tmp_path / "short", ROOT, short, NOW)
    assert not (tmp_path / "short").exists()
    with Issuer(issuer.directory) as locked:
        with pytest.raises(CaError, match="the passphrase is wrong"):
            locked.unlock(b"battery staple")
        with pytest.raises(CaError, match="locked"):
            locked.issue(PEER, NOW)
        create(tmp_path / "other", ROOT, PASSPHRASE, NOW)
        path = issuer.directory / "ca.key"
        path.write_bytes((tmp_path / "other" / "ca.key").read_bytes())
        with pytest.raises(CaError, match=r"ca\.key and ca\.pem differ"):
            locked.unlock(PASSPHRASE)
        plain = signing_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(plain)
        with pytest.raises(CaError, match="not encrypted"):
            locked.unlock(PASSPHRASE)


def test_no_ca_is_told_as_that(tmp_path: Path) -> None:
    with pytest.raises(CaError, match="`wgpy ca init` makes a CA"):
        Issuer(tmp_path)


# --- After a kill ---

KILLED = """
import os, signal, sys
from pathlib import Path
from tests.unit.identity import test_ca as t
from wgpy.identity import ca
from wgpy.identity.issued import IssuedLedger

where, at = Path(sys.argv[1]), sys.argv[2]

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

with ca.Issuer(where) as issuer:
    issuer.unlock(t.PASSPHRASE)
    print(issuer.issue(t.PEER, t.NOW).serial, flush=True)
    if at == "before":
        IssuedLedger.add = die
    else:
        done = ca.transaction
        class Then:
            def __init__(self, connection):
                self.inner = done(connection)
            def __enter__(self):
                return self.inner.__enter__()
            def __exit__(self, *error):
                self.inner.__exit__(*error)
                die()
        ca.transaction = Then
    issuer.issue(t.desktop(), t.NOW)
"""


@pytest.mark.parametrize("at", ["before", "after"])
def test_a_kill_while_issuing_leaves_all_or_nothing(issuer: Issuer, at: str) -> None:
    issuer.close()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(issuer.directory), at],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -9, done.stderr
    with Issuer(issuer.directory) as again:
        again.unlock(PASSPHRASE)
        names = sorted(x.name for x in again.ledger.all())
        assert names == (["laptop.mesh"] if at == "before" else ["desktop.mesh", "laptop.mesh"])
        assert again.issue(desktop(), NOW).generation == (1 if at == "before" else 2)
        with pytest.raises(LedgerError, match="reserved for laptop"):
            again.issue(desktop(4, "10.7.0.2"), NOW)
        assert again.issue(PEER, NOW).generation == 2


def test_two_issuers_at_once_take_turns(issuer: Issuer) -> None:
    with Issuer(issuer.directory) as second:
        second.unlock(PASSPHRASE)
        generations = [x.issue(PEER, NOW).generation for x in (issuer, second, issuer, second)]
    assert generations == [1, 2, 3, 4]
    with transaction(issuer.ledger.connection):
        assert issuer.ledger.next_generation("laptop.mesh") == 5
