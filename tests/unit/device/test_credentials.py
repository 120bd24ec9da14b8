"""Trust, sessions and handshakes of one device together: what the device asks of them."""

from pathlib import Path

import pytest

from tests.support.fake_network import World
from tests.support.office import DAY, START, Caller, Office, admitted, counter
from wgpy.device.credentials import Credentials
from wgpy.device.uapi import Cleared, DeviceChange, PeerChange, UapiError
from wgpy.identity.settings import Anchor, Expectation, IdentitySettings
from wgpy.protocol.constants import TYPE_CREDENTIAL_INITIATION


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(World(), tmp_path)


def credentials(office: Office) -> Credentials:
    found = office.gate.device._admissions
    assert found is not None
    return found


def test_our_own_credential_is_described_by_our_own_key(office: Office) -> None:
    own = credentials(office).describe(office.gate.private.public())
    assert own is not None
    assert (own.name, own.groups, own.expiry) == ("gate.mesh", ("laptops",), START + DAY)
    assert credentials(office).describe(Caller(office).key) is None
    office.gate.device.apply(DeviceChange(identity=Cleared.CLEARED))
    assert credentials(office).describe(office.gate.private.public()) is None


def test_settings_that_are_wrong_leave_everything_as_it_was(office: Office) -> None:
    caller = Caller(office)
    caller.enter()
    before = office.gate.device.state()
    gone = office.authority(anchors=(Anchor(str(office.directory / "gone.pem")),))
    with pytest.raises(UapiError, match=r"gone\.pem"):
        office.gate.device.apply(DeviceChange(authority=gone, listen_port=7))
    after = office.gate.device.state()
    assert (after.authority, after.listen_port) == (before.authority, before.listen_port)
    assert set(admitted(office.gate)) == {caller.key}
    office.world.run(1)
    caller.enter()


def test_files_are_followed_from_when_the_settings_are_in_force(office: Office) -> None:
    told: list[list[str]] = []
    hooks = credentials(office)._hooks
    object.__setattr__(hooks, "follow", told.append)
    office.gate.device.apply(DeviceChange(authority=office.authority()))
    assert [Path(path).name for path in told[-1]] == ["root.pem", "crl", "192.0.2.1.pem"]
    office.gate.device.apply(DeviceChange(authority=Cleared.CLEARED, identity=Cleared.CLEARED))
    assert told[-1] == []


def test_who_must_see_our_new_credential(office: Office) -> None:
    """Those that we call by credential: their session with us rests on the old one."""
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    laptop.device.apply(DeviceChange(peers=[PeerChange(Caller(office).key)]))
    mine = laptop.device._admissions
    assert mine is not None
    assert mine.files_changed() == []
    office.give(laptop, "laptop.mesh", generation=2)
    assert [entry.key for entry in mine.files_changed()] == [office.gate.private.public()]
    assert mine.files_changed() == []


def test_a_new_credential_begins_no_handshake_on_a_link_that_is_down(office: Office) -> None:
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    laptop.send(office.gate)
    office.world.run(1)
    laptop.device.set_up(False)
    office.give(laptop, "laptop.mesh", generation=2)
    laptop.device.files_changed()
    office.world.run(20)
    assert len(office.world.sent(TYPE_CREDENTIAL_INITIATION, laptop)) == 1
    assert not laptop.device._peers.by_key[
        office.gate.private.public()
    ].protocol.timers.handshake_under_way


def test_a_new_expectation_forgets_what_was_proved(office: Office) -> None:
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    laptop.send(office.gate)
    office.world.run(1)
    entry = laptop.device._peers.by_key[office.gate.private.public()]
    assert entry.claims is not None
    office.knows_gate(laptop, "other.mesh")
    assert entry.claims is None
    assert laptop.session_count() == 0
    laptop.device.apply(DeviceChange(peers=[PeerChange(entry.key, expectation=Cleared.CLEARED)]))
    assert not entry.by_credential


def test_counters_of_all_three_are_shown(office: Office) -> None:
    caller = Caller(office)
    caller.enter()
    caller.call(caller.certificate(), network=bytes(16))
    (office.directory / "crl" / "mine.deny").write_text("name laptop.mesh all\n")
    office.gate.device.files_changed()
    for name in ("admitted", "wrong_network", "ended_denied-name"):
        assert counter(office.gate, f"credential_{name}") == 1
    authority = credentials(office)._trust.authority
    assert authority is not None
    authority.counts["verdicts-evicted"] = 7
    assert counter(office.gate, "credential_verdicts-evicted") == 7


def test_it_wakes_for_what_is_next_and_sleeps_without(office: Office) -> None:
    found = credentials(office)
    now = office.world.now
    assert found.next_at(now) is None
    caller = Caller(office)
    caller.call(caller.certificate(not_after=START + 30))
    assert found.next_at(office.world.now) == pytest.approx(now + 5, abs=0.1)
    caller.confirm()
    assert found.next_at(office.world.now) == pytest.approx(now + 30, abs=0.1)
    office.world.run(31)
    assert found.next_at(office.world.now) is None


def test_an_identity_alone_lets_nobody_in(office: Office) -> None:
    """It has no authority: it answers who is configured, and judges nobody."""
    office.gate.device.apply(DeviceChange(authority=Cleared.CLEARED))
    caller = Caller(office)
    caller.call(caller.certificate())
    assert caller.answers() == []
    expected = PeerChange(caller.key, expectation=Expectation(None, key_suffices=True))
    office.gate.device.apply(DeviceChange(peers=[expected]))
    caller.call(caller.certificate())
    assert len(caller.answers()) == 1


def test_without_both_no_credential_datagram_passes_the_filter(office: Office) -> None:
    caller = Caller(office)
    data = caller.initiation(caller.certificate())
    office.gate.device.apply(DeviceChange(authority=Cleared.CLEARED, identity=Cleared.CLEARED))
    before = counter(office.gate, "unknown_type")
    caller.send(data)
    office.world.run(0.1)
    assert caller.answers() == []
    assert counter(office.gate, "unknown_type") == before + 1
    office.gate.device.apply(
        DeviceChange(
            authority=office.authority(),
            identity=IdentitySettings(certificate=str(office.directory / "192.0.2.1.pem")),
        )
    )
    caller.enter()
    assert len(admitted(office.gate)) == 1
