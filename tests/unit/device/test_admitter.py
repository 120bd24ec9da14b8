"""From a 0x10 to a session and out again: what an answered peer is, and what ends it."""

import errno
import logging
from pathlib import Path

import pytest

from tests.support.fake_network import Machine, World, befriend
from tests.support.office import DAY, START, Caller, Office, admitted, counter
from wgpy.datapath.contract import Failed
from wgpy.device.admitter import Admitter
from wgpy.device.uapi import Address, Cleared, DeviceChange, PeerChange, UapiError
from wgpy.identity.settings import Expectation
from wgpy.keys import PresharedKey, PrivateKey, write_secret
from wgpy.protocol.constants import TYPE_CREDENTIAL_RESPONSE
from wgpy.protocol.credential_bounds import Budget


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(World(), tmp_path)


def admitter(machine: Machine) -> Admitter:
    credentials = machine.device._admissions
    assert credentials is not None
    return credentials.admitter


def peers(machine: Machine) -> int:
    """How many peers there are, those included that nobody is shown."""
    return len(machine.device._peers)


def nothing_is_left(machine: Machine) -> bool:
    pending = admitter(machine)._intake.pending
    return (peers(machine), machine.session_count(), len(pending)) == (0, 0, 0)


# --- Who was answered, and is nobody yet ---


def test_who_was_answered_is_shown_to_nobody_and_forgotten_after_5_s(office: Office) -> None:
    caller = Caller(office)
    caller.call(caller.certificate())
    assert len(caller.answers()) == 1
    assert peers(office.gate) == 1
    assert office.gate.device.state().peers == []
    office.world.run(6)
    assert nothing_is_left(office.gate)
    assert counter(office.gate, "credential_pending_expired") == 1


def test_the_next_initiation_of_a_key_takes_the_place_of_its_last(office: Office) -> None:
    caller = Caller(office)
    for _ in range(3):
        caller.call(caller.certificate())
    assert len(caller.answers()) == 3
    assert (peers(office.gate), office.gate.session_count()) == (1, 1)
    caller.confirm()
    assert len(admitted(office.gate)) == 1


@pytest.mark.parametrize("end", ["down", "sleep", "failed"])
def test_nothing_of_it_outlives_the_keys(office: Office, end: str) -> None:
    caller, waiting = Caller(office, 61), Caller(office, 62)
    caller.call(caller.certificate())
    office.world.transmit(waiting.address, office.gate.address, b"\x10\0\0\0")
    gate = office.gate.device
    if end == "down":
        gate.set_up(False)
    elif end == "sleep":
        gate.forget_keys()
    else:
        gate.process([Failed("it failed")])
    assert nothing_is_left(office.gate)


def test_what_waits_in_the_queue_is_not_answered_on_a_link_that_is_down(office: Office) -> None:
    caller = Caller(office)
    intake = admitter(office.gate)._intake
    intake.handshakes = Budget(1)
    intake.handshakes.take(office.world.now)
    caller.call(caller.certificate())
    assert len(intake) == 1
    office.gate.device.set_up(False)
    assert len(intake) == 0
    office.world.run(2)
    assert office.gate.session_count() == 0
    assert caller.answers() == []


def test_a_key_that_was_only_answered_is_in_nobody_s_way(office: Office) -> None:
    """Whoever replays a 0x10 must not keep an operator from configuring its key."""
    caller = Caller(office)
    for change in (
        PeerChange(caller.key, endpoint=Address("192.0.2.3", 1)),
        PeerChange(caller.key, update_only=True, persistent_keepalive=25),
        PeerChange(caller.key, remove=True),
    ):
        caller.call(caller.certificate())
        assert peers(office.gate) == 1
        office.gate.device.apply(DeviceChange(peers=[change]))
        shown = office.gate.device.state().peers
        configured = not change.update_only and not change.remove
        assert [peer.admitted for peer in shown] == ([False] if configured else [])
        office.gate.device.apply(DeviceChange(replace_peers=True))
        office.world.run(1)


def test_who_came_in_cannot_be_edited(office: Office) -> None:
    caller = Caller(office)
    caller.enter()
    with pytest.raises(UapiError) as caught:
        office.gate.device.apply(DeviceChange(peers=[PeerChange(caller.key)]))
    assert caught.value.code == errno.EPERM
    office.gate.device.apply(DeviceChange(peers=[PeerChange(caller.key, remove=True)]))
    assert nothing_is_left(office.gate)


# --- What changes while it waits ---


def test_the_authority_is_cleared_while_it_waits(office: Office) -> None:
    caller = Caller(office)
    caller.call(caller.certificate())
    office.gate.device.apply(DeviceChange(authority=Cleared.CLEARED))
    caller.confirm()
    assert nothing_is_left(office.gate)
    assert counter(office.gate, "credential_no-authority") == 1


def test_it_is_revoked_while_it_waits(office: Office) -> None:
    caller = Caller(office)
    caller.call(caller.certificate())
    (office.directory / "crl" / "mine.deny").write_text(f"key {caller.key.base64()}\n")
    office.gate.device.files_changed()
    caller.confirm()
    assert nothing_is_left(office.gate)
    assert counter(office.gate, "credential_denied-key") == 1


def test_its_address_is_taken_by_a_configured_peer_while_it_waits(office: Office) -> None:
    caller = Caller(office)
    caller.call(caller.certificate())
    plain = Machine(office.world, "192.0.2.3")
    plain.inner = caller.inner
    befriend(plain, office.gate)
    caller.confirm()
    assert admitted(office.gate) == {}
    assert peers(office.gate) == 1
    assert counter(office.gate, "credential_configured-address") == 1


def test_a_configured_peer_is_removed_while_its_initiation_waits(office: Office) -> None:
    caller = Caller(office)
    expected = PeerChange(caller.key, expectation=Expectation("laptop.mesh"))
    office.gate.device.apply(DeviceChange(peers=[expected]))
    caller.call(caller.certificate())
    office.gate.device.apply(DeviceChange(peers=[PeerChange(caller.key, remove=True)]))
    caller.confirm()
    assert (peers(office.gate), office.gate.session_count()) == (0, 0)
    office.world.run(1)
    caller.enter()
    assert len(admitted(office.gate)) == 1, "it is a stranger like any other now"


def test_what_a_configured_peer_must_prove_changes_while_it_waits(office: Office) -> None:
    caller = Caller(office)
    expected = PeerChange(caller.key, expectation=Expectation("laptop.mesh"))
    office.gate.device.apply(DeviceChange(peers=[expected]))
    caller.call(caller.certificate())
    expected = PeerChange(caller.key, expectation=Expectation("tower.mesh"))
    office.gate.device.apply(DeviceChange(peers=[expected]))
    caller.confirm()
    (peer,) = office.gate.device.state().peers
    assert peer.claims is None
    assert office.gate.session_count() == 0
    caller.call(caller.certificate())
    assert counter(office.gate, "credential_wrong-name") == 1


def test_our_private_key_changes_while_peers_live(office: Office) -> None:
    caller, other = Caller(office, 61), Caller(office, 62)
    caller.enter()
    other.call(other.certificate("other.mesh"))
    office.gate.device.apply(
        DeviceChange(private_key=PrivateKey(bytes([9]) * 32), identity=Cleared.CLEARED)
    )
    assert office.gate.session_count() == 0
    office.world.run(6)
    assert set(admitted(office.gate)) == {caller.key}, "until its credential ends"
    assert peers(office.gate) == 1


def test_a_gate_that_expired_before_the_commit(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claims are in force, and the next handshake needs no gate and no confirmation."""
    caller = Caller(office)
    path = office.gate.datapath
    release = path.release
    monkeypatch.setattr(path, "release", lambda peer: path.refuse(peer) or release(peer))
    caller.enter()
    (peer,) = admitted(office.gate).values()
    assert peer.last_handshake == (0, 0), "no session began"
    assert office.gate.session_count() == 0
    monkeypatch.undo()
    office.world.run(1)
    caller.enter()
    (peer,) = admitted(office.gate).values()
    assert peer.last_handshake != (0, 0)
    assert counter(office.gate, "credential_admitted") == 1


# --- Stamps ---


def test_a_mark_outlives_the_session_with_its_renewals(office: Office) -> None:
    """What was recorded of a session that has ended is not even answered."""
    caller = Caller(office)
    recorded = []
    for _ in range(3):
        recorded.append(caller.initiation(caller.certificate()))
        caller.send(recorded[-1])
        office.world.run(0.1)
        caller.confirm()
        office.world.run(1)
    office.gate.device.apply(DeviceChange(peers=[PeerChange(caller.key, remove=True)]))
    answers = len(caller.answers())
    for data in recorded:
        caller.send(data)
        office.world.run(1)
    assert len(caller.answers()) == answers
    assert counter(office.gate, "credential_replayed_timestamp") == 3


def test_a_mark_goes_with_the_key_into_the_configuration(office: Office) -> None:
    caller = Caller(office)
    data = caller.initiation(caller.certificate())
    caller.send(data)
    office.world.run(0.1)
    caller.confirm()
    office.gate.device.apply(
        DeviceChange(
            replace_peers=True,
            peers=[PeerChange(caller.key, expectation=Expectation("laptop.mesh"))],
        )
    )
    caller.send(data)
    office.world.run(1)
    assert len(caller.answers()) == 1


# --- Pre-shared keys ---


def test_the_pre_shared_key_of_strangers_changes_under_live_peers(office: Office) -> None:
    caller = Caller(office)
    caller.enter()
    secret = PresharedKey(bytes(range(32)))
    path = office.directory / "psk"
    write_secret(path, secret.base64().encode() + b"\n")
    settings = office.authority(preshared_key_file=str(path))
    office.gate.device.apply(DeviceChange(authority=settings))
    assert len(admitted(office.gate)) == 1
    office.world.run(1)
    caller.peer.set_psk(secret)
    caller.call(caller.certificate())
    caller.confirm()
    entry = office.gate.device._peers.by_key[caller.key]
    copy = entry.protocol.remote.psk
    assert copy == secret
    office.gate.device.apply(DeviceChange(peers=[PeerChange(caller.key, remove=True)]))
    assert copy is not None
    assert copy.is_zero(), "the copy was wiped with its peer"
    office.world.run(1)
    caller.enter()
    copy = office.gate.device._peers.by_key[caller.key].protocol.remote.psk
    assert copy == secret
    office.gate.device.close()
    assert copy.is_zero(), "and with the device"


def test_no_copy_of_it_is_made_for_who_is_refused(office: Office) -> None:
    path = office.directory / "psk"
    write_secret(path, PresharedKey(bytes(range(32))).base64().encode() + b"\n")
    settings = office.authority(preshared_key_file=str(path))
    office.gate.device.apply(DeviceChange(authority=settings))
    standing = admitter(office.gate)._standing(Caller(office).key)
    credentials = office.gate.device._admissions
    assert standing is not None
    assert credentials is not None
    psk = standing.remote.psk
    assert psk is credentials._trust.psk
    office.gate.device.apply(DeviceChange(authority=office.authority()))
    assert psk is not None
    assert psk.is_zero()


# --- What is told ---


def test_the_log_has_the_reason_and_no_secret(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caller = Caller(office)
    caller.call(caller.certificate(not_after=START - 10))
    expected = f"{caller.key.base64()} at {caller.address} is not let in: it expired at "
    assert expected in caplog.text
    assert "(expired)" in caplog.text


def test_a_flood_of_refusals_does_not_flood_the_log(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for number in range(100, 150):
        caller = Caller(office, number)
        caller.send(caller.initiation(caller.certificate(), network=bytes(16)))
        office.world.run(0.01)
    office.world.run(1)
    assert counter(office.gate, "credential_wrong_network") == 50
    assert 1 <= caplog.text.count("is not let in") <= 11


def test_a_socket_that_refuses_is_counted_beside_the_plain_handshake_s(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = Caller(office)
    office.gate.device._handshaker.counters["send_error"] = 3
    monkeypatch.setattr(
        office.gate.datapath, "_transmit_control", lambda data, route, *manner: errno.ENETUNREACH
    )
    caller.call(caller.certificate())
    assert counter(office.gate, "credential_send_error") == 1
    assert counter(office.gate, "send_error") >= 3


def test_who_is_in_no_network_says_why_it_calls_nobody(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    laptop.device.apply(DeviceChange(authority=Cleared.CLEARED, identity=Cleared.CLEARED))
    laptop.send(office.gate)
    office.world.run(1)
    assert f"no handshake with {office.gate.private.public().base64()}: we are in" in caplog.text
    assert counter(laptop, "no_network") == 1


# --- Both ways ---


def test_who_came_in_is_called_back_by_its_credential(office: Office) -> None:
    """It lost its keys, and we have something to send: 0x10, for the name that it came by."""
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    laptop.send(office.gate)
    office.world.run(1)
    office.gate.device.forget_keys()
    packet = office.gate.send(laptop)
    office.world.run(1)
    assert packet in laptop.datapath.delivered
    assert office.world.sent(TYPE_CREDENTIAL_RESPONSE, laptop)


def test_a_name_is_kept_for_a_session(office: Office) -> None:
    caller = Caller(office)
    caller.enter()
    office.world.run(1)
    caller.inner = "10.7.0.99"
    caller.call(caller.certificate("tower.mesh", generation=2, not_after=START + 2 * DAY))
    assert counter(office.gate, "credential_wrong-name") == 1
    (peer,) = admitted(office.gate).values()
    assert peer.claims is not None
    assert peer.claims.name == "laptop.mesh"
