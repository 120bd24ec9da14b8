"""The authority: who comes in, with what, for how long, and who has to go."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import certificates
from tests.support.certificates import KEY, ROOT, Peer
from tests.support.tokens import (
    HEADER,
    LIMITS,
    NETWORK,
    NOW,
    OTHER,
    P256,
    PEER,
    SIGNER,
    cnf,
    compact,
    enrol_payload,
    jwks_file,
    made,
    peer_payload,
)
from tests.unit.identity.test_revocation import crl
from wgpy.identity import authority as module
from wgpy.identity.admissions import Admissions
from wgpy.identity.authority import Authority
from wgpy.identity.claims import Claims, CredentialError, Kind
from wgpy.identity.derived import quarantine_address
from wgpy.identity.jwks import fingerprint
from wgpy.identity.place import Surroundings
from wgpy.identity.profile import Rights
from wgpy.identity.settings import Anchor, AuthoritySettings, Limits, TokenIssuer
from wgpy.ip import Prefix, parse_prefix

ACCEPT = (parse_prefix("10.9.0.0/24"), parse_prefix("fd09::/64"), parse_prefix("10.7.0.0/16"))


class House:
    """An authority with files of its own, which tests change."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.jwks = directory / "jwks.json"
        jwks_file(self.jwks, SIGNER)
        root = directory / "root.pem"
        root.write_bytes(ROOT.pem())
        self.settings = AuthoritySettings(
            network=NETWORK,
            accept=(*ACCEPT, parse_prefix("fd07::/64")),
            anchors=(Anchor(str(root)),),
            issuers=(TokenIssuer(str(self.jwks), LIMITS),),
        )
        self.ledger = Admissions(directory / "ledger")
        self.authority = Authority(self.settings, self.ledger)

    def anew(self, **changes: Any) -> Authority:
        """The authority after a restart, with other settings."""
        self.ledger.close()
        self.ledger = Admissions(self.directory / "ledger")
        self.settings = replace(self.settings, **changes)
        self.authority = Authority(self.settings, self.ledger)
        return self.authority

    def examine(self, text: bytes, key: Any = PEER, wall: float = NOW, **more: Any) -> Claims:
        return self.authority.examine(key, Kind.TOKEN, text, None, wall, **more)

    def refused(self, text: bytes, key: Any = PEER, wall: float = NOW, **more: Any) -> str:
        before = sum(self.authority.refused.values())
        with pytest.raises(CredentialError) as caught:
            self.examine(text, key, wall, **more)
        assert sum(self.authority.refused.values()) == before + 1
        assert self.authority.refused[caught.value.reason] >= 1
        return caught.value.reason


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made_house = House(tmp_path)
    yield made_house
    made_house.ledger.close()


def text_of(
    name: str, addresses: list[str], key: Any = PEER, generation: int = 1, **more: Any
) -> bytes:
    own = {"addr": addresses, "gen": generation, "routes": None, **more}
    return made(own=own, sub=name, cnf=cnf(key))


# --- Who comes in ---


def test_a_token_and_a_certificate_come_in(house: House) -> None:
    claims = house.examine(made())
    assert (claims.kind, claims.name, claims.key) == (Kind.TOKEN, "laptop.mesh", PEER)
    found = house.authority.examine(KEY, Kind.CERTIFICATE, Peer().der(), None, NOW)
    assert (found.kind, found.name, found.key) == (Kind.CERTIFICATE, "laptop.mesh", KEY)


def test_one_in_the_place_of_the_other_is_refused(house: House) -> None:
    assert house.refused(Peer().der(), KEY) == "not-a-token"
    with pytest.raises(CredentialError) as caught:
        house.authority.examine(PEER, Kind.CERTIFICATE, made(), None, NOW)
    assert caught.value.reason == "malformed"
    with pytest.raises(CredentialError) as caught:
        house.authority.examine(PEER, Kind.TOKEN, made(), ROOT.der(), NOW)
    assert caught.value.reason == "malformed"


def test_asking_changes_nothing(house: House) -> None:
    house.examine(made())
    assert house.ledger.holder("laptop.mesh", NOW) is None
    other = text_of("laptop.mesh", ["10.9.0.2"], OTHER, 3)
    house.examine(other, OTHER)


def test_whom_we_asked_for(house: House) -> None:
    house.examine(made(), wanted_name="laptop.mesh")
    assert house.refused(made(), wanted_name="server.mesh") == "wrong-name"


def test_another_network_than_ours(house: House) -> None:
    assert house.refused(made(aud=bytes(16).hex(), own={"net": None})) == "wrong-aud"
    root = replace(ROOT, rights=Rights(bytes(16), 0, certificates.GROUPS, certificates.PREFIXES))
    (house.directory / "root.pem").write_bytes(root.pem())
    with pytest.raises(CredentialError, match=r"root\.pem: it is the CA of another network"):
        house.authority.reload()


PLACES: list[tuple[str, list[str], str | None]] = [
    ("inside", ["10.9.0.2"], None),
    ("outside accept, inside the issuer's", ["10.9.1.2"], "not-accepted"),
    ("one of two outside accept", ["10.9.0.2", "10.9.1.2"], "not-accepted"),
    ("our own", ["10.9.0.1"], "own-address"),
    ("in our own network of another link", ["10.9.0.66"], "own-address"),
    ("a configured peer's address", ["10.9.0.9"], "configured-address"),
    ("in a configured peer's network", ["10.9.0.130"], "configured-address"),
    ("one of two a configured peer's", ["10.9.0.2", "fd09::9"], "configured-address"),
]


@pytest.mark.parametrize(
    ("addresses", "reason"), [x[1:] for x in PLACES], ids=[x[0] for x in PLACES]
)
def test_addresses(house: House, addresses: list[str], reason: str | None) -> None:
    house.authority.set_surroundings(
        Surroundings(
            own=(parse_prefix("10.9.0.1"), parse_prefix("10.9.0.64/30")),
            configured={
                OTHER: (parse_prefix("10.9.0.9"), parse_prefix("fd09::8/125")),
                KEY: (parse_prefix("10.9.0.128/25"),),
            },
        )
    )
    text = text_of("laptop.mesh", addresses)
    if reason is None:
        house.examine(text)
    else:
        assert house.refused(text) == reason


def test_required_groups(house: House) -> None:
    house.anew(require_groups=("laptops", "servers"))
    assert house.refused(made()) == "group-required"
    house.examine(made(own={"groups": ["servers", "laptops"]}))


def test_a_configured_peer_has_the_addresses_of_the_configuration(house: House) -> None:
    house.anew(accept=(), require_groups=("servers",))
    assert house.refused(made()) == "group-required"
    around = Surroundings(configured={PEER: (parse_prefix("0.0.0.0/0"),)})
    house.authority.set_surroundings(around)
    claims = house.examine(made())
    house.authority.confirm(claims, NOW)
    assert house.ledger.reserved(claims.addresses[0], NOW) is None
    assert house.ledger.holder("laptop.mesh", NOW) is not None
    assert house.authority.ended([claims], NOW) == []


def test_nobody_takes_a_reserved_address_or_a_name(house: House) -> None:
    house.authority.confirm(house.examine(made()), NOW)
    thief = text_of("thief.mesh", ["10.9.0.2"], OTHER)
    assert house.refused(thief, OTHER) == "address-reserved"
    assert house.refused(text_of("laptop.mesh", ["10.9.0.2"], OTHER, 3), OTHER) == "key-conflict"
    assert house.refused(text_of("laptop.mesh", ["10.9.0.2"], OTHER, 2), OTHER) == "old-generation"
    house.examine(text_of("laptop.mesh", ["10.9.0.2"], OTHER, 4), OTHER)


def test_the_first_to_confirm_gets_it(house: House) -> None:
    first = house.examine(text_of("a.mesh", ["10.9.0.2"]))
    second = house.examine(text_of("b.mesh", ["10.9.0.2"], OTHER), OTHER)
    house.authority.confirm(first, NOW)
    with pytest.raises(CredentialError) as caught:
        house.authority.confirm(second, NOW)
    assert caught.value.reason == "address-reserved"
    assert house.authority.refused["address-reserved"] == 1


def test_all_that_wait_are_confirmed_at_once(house: House) -> None:
    first = house.examine(text_of("a.mesh", ["10.9.0.2"]))
    second = house.examine(text_of("b.mesh", ["10.9.0.2"], OTHER), OTHER)
    third = house.examine(text_of("c.mesh", ["10.9.0.3"], KEY), KEY)
    house.authority.set_surroundings(Surroundings(own=(parse_prefix("10.9.0.3"),)))
    done = house.authority.confirm_all([first, second, third], NOW)
    assert [x.reason if isinstance(x, CredentialError) else x.changed for x in done] == [
        True,
        "address-reserved",
        "own-address",
    ]
    assert house.authority.refused == {"address-reserved": 1, "own-address": 1}
    assert house.authority.counts["confirmed"] == 1


# --- Who enrols ---


def test_a_token_to_enrol_is_spent_by_one_key(house: House) -> None:
    authority, text = house.authority, made(enrol_payload())
    found = authority.examine_enrolment(PEER, text, NOW)
    assert authority.examine_enrolment(OTHER, text, NOW) == found, "to ask spends nothing"
    assert authority.spend(found, PEER, NOW) is True
    assert authority.spend(found, PEER, NOW + 1) is False, "its answer may have been lost"
    authority.examine_enrolment(PEER, text, NOW)
    for ask in (
        lambda: house.authority.examine_enrolment(OTHER, text, NOW),
        lambda: house.authority.spend(found, OTHER, NOW),
    ):
        with pytest.raises(CredentialError) as caught:
            ask()
        assert caught.value.reason == "spent"
    with pytest.raises(CredentialError) as caught:
        authority.spend(found, PEER, NOW + 900)
    assert caught.value.reason == "expired"
    house.anew()
    with pytest.raises(CredentialError):
        house.authority.examine_enrolment(OTHER, text, NOW)


def test_a_denied_key_does_not_enrol(house: House) -> None:
    path = house.directory / "a.deny"
    path.write_text(f"key {PEER}\n")
    house.anew(revocations=(str(path),))
    with pytest.raises(CredentialError) as caught:
        house.authority.examine_enrolment(PEER, made(enrol_payload()), NOW)
    assert caught.value.reason == "denied-key"


def test_who_enrols_may_lose_the_right_to(house: House) -> None:
    found = house.anew(enrol=True).examine_enrolment(PEER, made(enrol_payload()), NOW)
    house.authority.check_enrolment(found, PEER, NOW)
    path = house.directory / "a.deny"
    path.write_text("")
    here = quarantine_address(NETWORK, PEER)

    def reason(wall: float = NOW, **changes: Any) -> str:
        house.anew(**changes)
        with pytest.raises(CredentialError) as caught:
            house.authority.check_enrolment(found, PEER, wall)
        return caught.value.reason

    assert reason(NOW + 900) == "expired"
    assert reason(enrol=False) == "no-enrolment"
    few = (TokenIssuer(str(house.jwks), replace(LIMITS, groups=())),)
    assert reason(enrol=True, issuers=few) == "group-not-permitted"
    whole = (TokenIssuer(str(house.jwks), LIMITS),)
    assert reason(issuers=whole, anchors=(), network=bytes(16)) == "wrong-network"
    path.write_text(f"key {PEER}\n")
    assert reason(network=NETWORK, revocations=(str(path),)) == "denied-key"
    path.write_text("")
    house.anew().set_surroundings(Surroundings(own=(here,)))
    with pytest.raises(CredentialError, match="meets our own"):
        house.authority.check_enrolment(found, PEER, NOW)
    with pytest.raises(CredentialError, match="meets our own"):
        house.authority.examine_enrolment(PEER, made(enrol_payload()), NOW)
    house.authority.set_surroundings(Surroundings())
    jwks_file(house.jwks, P256)
    house.authority.reload()
    with pytest.raises(CredentialError, match="not trusted any more"):
        house.authority.check_enrolment(found, PEER, NOW)


@pytest.mark.parametrize(
    "changes", [{"issuers": ()}, {"accept": (parse_prefix("fd00::/8"), *ACCEPT)}]
)
def test_settings_by_which_nobody_should_enrol(house: House, changes: dict[str, Any]) -> None:
    house.anew(**changes)
    with pytest.raises(CredentialError) as caught:
        house.anew(enrol=True)
    assert caught.value.reason == "enrolment"


def test_a_token_to_enrol_does_not_let_a_peer_in(house: House) -> None:
    assert house.refused(made(enrol_payload())) == "wrong-use"


# --- Names across issuers and restarts ---


def test_another_issuer_does_not_take_a_name_but_by_rotation(house: House) -> None:
    jwks_file(house.jwks, SIGNER, P256)
    house.authority.reload()
    house.authority.confirm(house.examine(made()), NOW)
    moved = compact({**HEADER, "alg": "ES256", "kid": "p256"}, peer_payload(), P256)
    assert house.refused(moved) == "other-issuer"
    pair = (fingerprint(SIGNER.public).hex(), fingerprint(P256.public).hex())
    house.anew(rotations=(pair,))
    done = house.authority.confirm(house.examine(moved), NOW)
    assert done.former_issuer == fingerprint(SIGNER.public)
    assert house.refused(made(own={"gen": 99})) == "other-issuer"


def test_a_changed_key_is_told(house: House) -> None:
    house.authority.confirm(house.examine(made()), NOW)
    text = text_of("laptop.mesh", ["10.9.0.2"], OTHER, 4)
    done = house.authority.confirm(house.examine(text, OTHER), NOW)
    assert (done.changed, done.former_key) == (True, PEER)


def test_names_and_addresses_survive_a_restart(house: House) -> None:
    house.authority.confirm(house.examine(made()), NOW)
    house.anew()
    assert house.refused(text_of("laptop.mesh", ["10.9.0.3"], OTHER, 2), OTHER) == "old-generation"
    assert house.refused(text_of("thief.mesh", ["10.9.0.2"], OTHER), OTHER) == "address-reserved"


def test_a_ledger_that_fails_lets_nobody_in_and_throws_nobody_out(house: House) -> None:
    claims = house.examine(made())
    house.ledger.close()
    assert house.refused(text_of("a.mesh", ["10.9.0.3"])) == "ledger"
    with pytest.raises(CredentialError) as caught:
        house.authority.confirm(claims, NOW)
    assert caught.value.reason == "ledger"
    assert house.authority.ended([claims], NOW) == []
    assert house.authority.counts["ledger-failures"] == 1
    house.ledger = Admissions(house.directory / "ledger")


# --- Verdicts that are remembered ---


def test_a_verdict_is_remembered_for_the_key_and_the_bytes(house: House) -> None:
    authority = house.authority
    assert not authority.knows(PEER, Kind.TOKEN, made())
    first = house.examine(made())
    assert authority.knows(PEER, Kind.TOKEN, made())
    assert house.examine(made()) is first
    assert authority.counts["cached"] == 1
    for key, kind, body, intermediate in (
        (OTHER, Kind.TOKEN, made(), None),
        (PEER, Kind.CERTIFICATE, made(), None),
        (PEER, Kind.TOKEN, made()[:-1], made()[-1:]),
        (PEER, Kind.TOKEN, made(), b""),
    ):
        assert not authority.knows(key, kind, body, intermediate)
    assert house.refused(made(), OTHER) == "wrong-cnf"


def test_a_remembered_verdict_ends_with_the_credential(house: House) -> None:
    house.examine(made())
    house.examine(made(), wall=NOW + 3599)
    assert house.refused(made(), wall=NOW + 3600) == "expired"
    assert house.refused(made(), wall=NOW - 301) == "not-yet-valid"


def test_a_remembered_verdict_is_held_against_what_has_changed(house: House) -> None:
    house.examine(made())
    house.authority.set_surroundings(Surroundings(own=(parse_prefix("10.9.0.2"),)))
    assert house.refused(made()) == "own-address"
    house.authority.set_surroundings(Surroundings())
    house.examine(made())
    text = text_of("laptop.mesh", ["10.9.0.9"], OTHER, 9)
    house.authority.confirm(house.examine(text, OTHER), NOW)
    assert house.refused(made()) == "old-generation"
    assert house.authority.counts["cached"] == 3


def test_verdicts_are_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_VERDICTS", 2)
    texts = [text_of(f"n{number}.mesh", [f"10.9.0.{number}"]) for number in range(2, 5)]
    for text in (texts[0], texts[1], texts[0], texts[2]):
        house.examine(text)
    known = [house.authority.knows(PEER, Kind.TOKEN, text) for text in texts]
    assert known == [True, False, True], "the one that was not used for longest goes"
    assert house.authority.counts["verdicts-evicted"] == 1


def test_what_is_refused_is_not_remembered(house: House) -> None:
    house.refused(made(exp=NOW))
    assert not house.authority.knows(PEER, Kind.TOKEN, made(exp=NOW))


# --- Files ---


def rewrite(path: Path, write: Callable[[], object]) -> None:
    """Write a file and make sure that its time of change is another, however coarse the clock."""
    write()
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def test_an_issuer_that_goes_takes_its_sessions_along(house: House) -> None:
    claims = house.examine(made())
    assert not house.authority.changed()
    rewrite(house.jwks, lambda: jwks_file(house.jwks, P256))
    assert house.authority.changed()
    house.authority.reload()
    assert not house.authority.changed()
    assert house.refused(made()) == "unknown-kid"
    (ended,) = house.authority.ended([claims], NOW)
    assert (ended.claims, ended.error.reason) == (claims, "issuer-gone")


def test_a_broken_file_changes_nothing_and_is_told_of_once(house: House) -> None:
    house.examine(made())
    rewrite(house.jwks, lambda: house.jwks.write_text("{"))
    with pytest.raises(CredentialError, match=r"jwks\.json: not JSON"):
        house.authority.reload()
    assert not house.authority.changed()
    house.examine(made(exp=NOW + 5000))
    house.jwks.unlink()
    assert house.authority.changed()
    with pytest.raises(CredentialError, match=r"jwks\.json: No such file"):
        house.authority.reload()
    house.examine(made(exp=NOW + 6000))


def test_a_root_that_goes_takes_its_sessions_along(house: House) -> None:
    claims = house.authority.examine(KEY, Kind.CERTIFICATE, Peer().der(), None, NOW)
    other = replace(ROOT, name="another", key=certificates.signing_key(7))
    (house.directory / "root.pem").write_bytes(other.pem())
    house.authority.reload()
    (ended,) = house.authority.ended([claims], NOW)
    assert ended.error.reason == "issuer-gone"
    with pytest.raises(CredentialError) as caught:
        house.authority.examine(KEY, Kind.CERTIFICATE, Peer().der(), None, NOW)
    assert caught.value.reason == "unknown-issuer"


def test_a_failed_reload_does_not_keep_old_verdicts_alive(house: House) -> None:
    """Trust and revocations change at once, and the second is broken at first."""
    lists = house.directory / "lists"
    lists.mkdir()
    house.anew(revocations=(str(lists),))
    house.examine(made())
    rewrite(house.jwks, lambda: jwks_file(house.jwks, SIGNER, P256))
    (lists / "a.deny").write_text("key\n")
    with pytest.raises(CredentialError, match=r"a\.deny: line 1"):
        house.authority.reload()
    assert house.authority.knows(PEER, Kind.TOKEN, made())
    (lists / "a.deny").write_text("")
    house.authority.reload()
    assert not house.authority.knows(PEER, Kind.TOKEN, made())


# --- Who has to go ---


def test_revocation_ends_live_sessions_and_keeps_verdicts(house: House) -> None:
    lists = house.directory / "lists"
    lists.mkdir()
    authority = house.anew(revocations=(str(lists),))
    by_token = house.examine(made())
    leaf = Peer(names=certificates.names("server.mesh", "10.7.0.3")).der()
    by_certificate = authority.examine(KEY, Kind.CERTIFICATE, leaf, None, NOW)
    live = [by_token, by_certificate]
    assert authority.ended(live, NOW) == []
    (lists / "a.deny").write_text(f"key {PEER}\n")
    assert authority.changed()
    authority.reload()
    assert [(x.claims, x.error.reason) for x in authority.ended(live, NOW)] == [
        (by_token, "denied-key")
    ]
    assert authority.knows(PEER, Kind.TOKEN, made())
    assert house.refused(made()) == "denied-key"
    # The deny list holds for configured keys as well, which show nothing.
    with pytest.raises(CredentialError):
        authority.check_configured(PEER)
    authority.check_configured(KEY)
    (lists / "root.crl").write_bytes(crl(0x1234, number=5))
    (lists / "a.deny").write_text("name laptop.mesh 2\n")
    authority.reload()
    assert [(x.claims, x.error.reason) for x in authority.ended(live, NOW)] == [
        (by_certificate, "revoked")
    ]
    (lists / "a.deny").write_text("name laptop.mesh 3\n")
    authority.reload()
    assert [x.error.reason for x in authority.ended(live, NOW)] == ["denied-name", "revoked"]


def test_an_older_crl_is_refused_after_a_restart(house: House) -> None:
    path = house.directory / "root.crl"
    path.write_bytes(crl(0x1234, number=5))
    house.anew(revocations=(str(path),))
    path.write_bytes(crl(number=4))
    with pytest.raises(CredentialError, match="5 was seen before"):
        house.authority.reload()
    with pytest.raises(CredentialError) as caught:
        house.authority.examine(KEY, Kind.CERTIFICATE, Peer().der(), None, NOW)
    assert caught.value.reason == "revoked", "what was read before stays"
    with pytest.raises(CredentialError, match="5 was seen before"):
        house.anew()


def test_a_stale_crl_warns_or_refuses_and_is_a_deadline(house: House) -> None:
    path = house.directory / "root.crl"
    path.write_bytes(crl(number=1, until=NOW + 60))
    authority = house.anew(revocations=(str(path),))
    claims = authority.examine(KEY, Kind.CERTIFICATE, Peer().der(), None, NOW)
    assert authority.remarks(NOW) == ()
    assert len(authority.remarks(NOW + 61)) == 1
    assert authority.next_deadline([claims], NOW) == claims.not_after
    assert authority.ended([claims], NOW + 61) == []
    authority = house.anew(strict=True)
    assert authority.next_deadline([claims], NOW) == NOW + 60
    (ended,) = authority.ended([claims], NOW + 61)
    assert ended.error.reason == "crl-stale"


def test_sessions_end_when_the_credential_does(house: House) -> None:
    short, long = house.examine(made(exp=NOW + 10)), house.examine(made())
    authority = house.authority
    assert authority.ended([short, long], NOW + 9.9) == []
    (ended,) = authority.ended([short, long], NOW + 10)
    assert (ended.claims, ended.error.reason) == (short, "expired")
    assert authority.counts["ended-expired"] == 1
    assert authority.next_deadline([short, long], NOW) == NOW + 10
    assert authority.next_deadline([long], NOW) == NOW + 3600
    assert authority.next_deadline([], NOW) is None


def test_sessions_end_when_another_key_has_the_name(house: House) -> None:
    claims = house.examine(made())
    house.authority.confirm(claims, NOW)
    renewed = house.examine(made(own={"gen": 4}))
    house.authority.confirm(renewed, NOW)
    assert house.authority.ended([claims, renewed], NOW) == [], "a renewal ends nothing"
    text = text_of("laptop.mesh", ["10.9.0.2"], OTHER, 5)
    house.authority.confirm(house.examine(text, OTHER), NOW)
    (ended,) = house.authority.ended([renewed], NOW)
    assert ended.error.reason == "superseded"


def test_sessions_that_stay_are_looked_at_again_when_something_changes(house: House) -> None:
    """A look at a session that nothing has happened to is cheap, and misses nothing."""
    lists = house.directory / "lists"
    lists.mkdir()
    authority = house.anew(revocations=(str(lists),))
    claims = [
        house.examine(text_of(f"n{number}.mesh", [f"10.9.0.{number}"])) for number in range(2, 6)
    ]
    for one in claims:
        authority.confirm(one, NOW)

    def reasons(wall: float = NOW) -> list[tuple[str, str]]:
        for _ in range(2):
            found = [(x.claims.name, x.error.reason) for x in authority.ended(claims, wall)]
        return found

    assert reasons() == []
    text = text_of("n2.mesh", ["10.9.0.2"], OTHER, 2)
    authority.confirm(house.examine(text, OTHER), NOW)
    assert reasons() == [("n2.mesh", "superseded")]
    authority.set_surroundings(Surroundings(own=(parse_prefix("10.9.0.3"),)))
    assert reasons() == [("n2.mesh", "superseded"), ("n3.mesh", "own-address")]
    (lists / "a.deny").write_text("name n4.mesh all\n")
    authority.reload()
    assert [name for name, _ in reasons()] == ["n2.mesh", "n3.mesh", "n4.mesh"]
    assert [reason for _, reason in reasons(NOW + 3600)] == ["expired"] * 4


def test_sessions_end_when_the_operator_takes_their_address(house: House) -> None:
    claims = house.examine(made())
    around = Surroundings(configured={OTHER: (parse_prefix("10.9.0.0/25"),)})
    house.authority.set_surroundings(around)
    (ended,) = house.authority.ended([claims], NOW)
    assert ended.error.reason == "configured-address"


def test_limits_that_become_narrower_end_sessions(house: House) -> None:
    claims = house.examine(made())
    narrow = replace(LIMITS, groups=())
    house.anew(issuers=(TokenIssuer(str(house.jwks), narrow),))
    (ended,) = house.authority.ended([claims], NOW)
    assert ended.error.reason == "group-not-permitted"


# --- Routed prefixes ---


def test_routed_prefixes_never_meet_what_is_here(house: House) -> None:
    wide = Limits(
        LIMITS.names, (parse_prefix("0.0.0.0/0"), parse_prefix("fd09::/64")), LIMITS.groups
    )
    house.anew(issuers=(TokenIssuer(str(house.jwks), wide),))
    house.authority.set_surroundings(
        Surroundings(
            own=(parse_prefix("172.16.0.1"),),
            configured={OTHER: (parse_prefix("192.168.9.0/24"),)},
            links=(parse_prefix("192.168.1.0/24"),),
        )
    )
    routes = [
        "0.0.0.0/0",
        "10.9.0.128/25",
        "172.16.0.0/12",
        "192.168.9.7/32",
        "192.168.0.0/23",
        "192.168.7.0/24",
    ]
    found = house.authority.routes(
        house.examine(made(own={"routes": routes, "net": None, "groups": None}))
    )
    assert found.possible == (parse_prefix("192.168.7.0/24"),)
    assert {str(prefix): why.split(" 1")[0].split(" f")[0] for prefix, why in found.withheld} == {
        "0.0.0.0/0": "it meets an accept network",
        "10.9.0.128/25": "it meets an accept network",
        "172.16.0.0/12": "it meets our own address",
        "192.168.9.7/32": "it meets a configured peer's",
        "192.168.0.0/23": "it meets a local link's",
    }


def test_overlap_is_found_both_ways() -> None:
    from wgpy.identity.place import PrefixTable

    table = PrefixTable([parse_prefix("10.0.0.0/8"), parse_prefix("fd00::1")])
    for text, other in (
        ("10.1.2.3", "10.0.0.0/8"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("0.0.0.0/0", "10.0.0.0/8"),
        ("fd00::/8", "fd00::1/128"),
        ("fd00::2", None),
        ("11.0.0.0/8", None),
    ):
        found: Prefix | None = table.overlapping(parse_prefix(text))
        assert (str(found) if found else None) == other
