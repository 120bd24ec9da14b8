"""What a peer showed last: a renewal that brings the same is not judged again, until something that
decides about it is another."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import certificates
from tests.support.fake_network import World
from tests.support.office import DAY, ROOT, START, Caller, Office, counter
from wgpy.device.peer import Shown
from wgpy.device.uapi import AllowedIpChange, DeviceChange, PeerChange
from wgpy.identity.authority import Authority
from wgpy.identity.settings import Expectation
from wgpy.ip import parse_prefix
from wgpy.protocol.credential_payload import Offer


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(World(), tmp_path)


def authority(office: Office) -> Authority:
    credentials = office.gate.device._admissions
    assert credentials is not None
    assert credentials._trust.authority is not None
    return credentials._trust.authority


def configured(office: Office) -> Caller:
    """A caller that the gate has as a peer, which stays when its session ends."""
    caller = Caller(office)
    peer = PeerChange(
        caller.key,
        expectation=Expectation("laptop.mesh"),
        allowed_ips=[AllowedIpChange(parse_prefix("10.7.0.66"))],
    )
    office.gate.device.apply(DeviceChange(peers=[peer]))
    return caller


def shown(office: Office, caller: Caller) -> Shown:
    found = office.gate.device._peers.by_key[caller.key].shown
    assert found is not None
    return found


def renewing(office: Office, caller: Caller) -> Offer:
    """Let it in and renew its keys twice; what it shows each time."""
    offer = caller.certificate()
    for _ in range(3):
        caller.enter(offer)
        office.world.run(6)
    assert len(caller.answers()) == 3
    return offer


@pytest.mark.parametrize("known", [True, False])
def test_a_renewal_asks_the_authority_nothing(office: Office, known: bool) -> None:
    caller = configured(office) if known else Caller(office)
    offer = renewing(office, caller)
    examined = authority(office).counts["examined"]
    for _ in range(3):
        caller.enter(offer)
        office.world.run(6)
    assert len(caller.answers()) == 6
    assert authority(office).counts["examined"] == examined
    entry = office.gate.device._peers.by_key[caller.key]
    assert entry.claims is shown(office, caller).claims


def test_what_was_read_again_is_the_same(office: Office) -> None:
    """Another message of the key came between, and the bytes were forgotten."""
    caller = configured(office)
    offer = renewing(office, caller)
    before = shown(office, caller)
    office.gate.device._peers.by_key[caller.key].protocol.remote.asked = None
    examined = authority(office).counts["examined"]
    caller.enter(offer)
    assert len(caller.answers()) == 4
    assert authority(office).counts["examined"] == examined
    assert shown(office, caller) is before


def test_another_credential_is_judged(office: Office) -> None:
    caller = configured(office)
    renewing(office, caller)
    second = caller.certificate(generation=2, not_after=START + 2 * DAY)
    caller.enter(second)
    assert len(caller.answers()) == 4
    assert shown(office, caller).offer == second
    entry = office.gate.device._peers.by_key[caller.key]
    assert entry.claims is not None
    assert entry.claims.not_after == START + 2 * DAY


def revoke(office: Office, caller: Caller) -> None:
    (office.directory / "crl" / "one.pem").write_bytes(
        certificates.crl(0x1001, authority=ROOT, until=START + DAY)
    )
    office.gate.device.files_changed()


def deny_the_name(office: Office, caller: Caller) -> None:
    (office.directory / "crl" / "mine.deny").write_text("name laptop.mesh all\n")
    office.gate.device.files_changed()


def trust_another_root(office: Office, caller: Caller) -> None:
    other = certificates.Authority(
        name="another root",
        key=certificates.signing_key(9),
        not_before=START - DAY,
        not_after=START + 9 * DAY,
    )
    (office.directory / "root.pem").write_bytes(other.pem())
    office.gate.device.files_changed()


def let_it_end(office: Office, caller: Caller) -> None:
    office.world.run(DAY)


def give_the_name_away(office: Office, caller: Caller) -> None:
    other = Caller(office, 67)
    other.enter(other.certificate(generation=2))
    assert len(other.answers()) == 1


def expect_another_name(office: Office, caller: Caller) -> None:
    peer = PeerChange(caller.key, expectation=Expectation("desk.mesh"))
    office.gate.device.apply(DeviceChange(peers=[peer]))


CHANGES: dict[str, tuple[Callable[[Office, Caller], None], str]] = {
    "it is revoked": (revoke, "revoked"),
    "its name is denied": (deny_the_name, "denied-name"),
    "its root is trusted no more": (trust_another_root, "unknown-issuer"),
    "it is over": (let_it_end, "expired"),
    "its name is another key": (give_the_name_away, "old-generation"),
    "another name is expected": (expect_another_name, "wrong-name"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_decides_about_it_is_another(office: Office, change: str) -> None:
    caller = configured(office)
    offer = renewing(office, caller)
    happen, reason = CHANGES[change]
    happen(office, caller)
    caller.call(offer)
    assert len(caller.answers()) == 3
    assert counter(office.gate, f"credential_{reason}") == 1


def test_another_root_beside_it_changes_nothing_for_it(office: Office) -> None:
    """It is judged anew, and let in."""
    caller = configured(office)
    offer = renewing(office, caller)
    before = shown(office, caller)
    (office.directory / "root.pem").write_bytes(ROOT.pem() + b"\n")
    office.gate.device.files_changed()
    caller.enter(offer)
    assert len(caller.answers()) == 4
    assert shown(office, caller) is not before


def test_a_strict_interface_judges_each_time(office: Office) -> None:
    """Its lists refuse by being out of date, which nothing tells."""
    (office.directory / "crl" / "one.pem").write_bytes(
        certificates.crl(0x9999, authority=ROOT, until=START + 600)
    )
    office.gate.device.apply(DeviceChange(authority=office.authority(strict=True)))
    caller = configured(office)
    offer = renewing(office, caller)
    examined = authority(office).counts["examined"]
    caller.enter(offer)
    assert authority(office).counts["examined"] == examined + 1
    office.world.run(600)
    caller.call(offer)
    assert len(caller.answers()) == 4
    assert counter(office.gate, "credential_crl-stale") == 1


def test_an_address_that_became_a_configured_peer_s_is_refused(office: Office) -> None:
    caller = Caller(office)
    offer = renewing(office, caller)
    other = PeerChange(
        Caller(office, 67).key, allowed_ips=[AllowedIpChange(parse_prefix("10.7.0.66"))]
    )
    office.gate.device.apply(DeviceChange(peers=[other]))
    caller.call(offer)
    assert len(caller.answers()) == 3
    assert counter(office.gate, "credential_configured-address") == 1


def test_the_mark_of_a_renewal_outlives_the_session(office: Office) -> None:
    """Who recorded it, and plays it back when the session is gone, is not answered."""
    caller = Caller(office)
    offer = renewing(office, caller)
    recorded = caller.initiation(offer)
    caller.send(recorded)
    office.world.run(0.1)
    assert len(caller.answers()) == 4
    office.gate.device.apply(DeviceChange(peers=[PeerChange(caller.key, remove=True)]))
    assert caller.key not in office.gate.device._peers.by_key
    caller.send(recorded)
    office.world.run(0.1)
    assert len(caller.answers()) == 4
    assert counter(office.gate, "credential_replayed_timestamp") == 1
