"""What takes effect when a session by credential begins, in which order, and when it ends."""

import logging
from pathlib import Path

import pytest

from tests.support.fake_network import Machine, Sent, World, befriend
from tests.support.office import DAY, START, Caller, Office, admitted, counter
from wgpy.device.peer import PeerEntry
from wgpy.device.sessions import Sessions
from wgpy.device.uapi import Cleared, DeviceChange
from wgpy.identity.claims import Claims
from wgpy.ip import parse_prefix


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(World(), tmp_path)


def sessions(office: Office) -> Sessions:
    credentials = office.gate.device._admissions
    assert credentials is not None
    return credentials._sessions


def examined(office: Office, caller: Caller, **changes: object) -> tuple[PeerEntry, Claims]:
    """A peer that was answered, and what it proved, as they are before confirmation."""
    device = office.gate.device
    assert device._admissions is not None
    offer = caller.certificate(**changes)  # type: ignore[arg-type]
    claims = device._admissions._trust.examine(caller.key, offer, None)
    entry = device._add(caller.key, None)
    entry.admitted = True
    return entry, claims


class Order:
    """Writes down what a machine's data path and firewall are told, in one order."""

    def __init__(self, office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[str] = []
        path = office.gate.datapath
        for name in ("set_allowed_ips", "release", "remove_peer"):
            monkeypatch.setattr(path, name, self._noting(name, getattr(path, name)))
        recorder = office.firewall()
        monkeypatch.setattr(recorder, "change", self._noting("firewall", recorder.change))

    def _noting(self, name, call):
        def noted(*args, **more):
            self.steps.append(name)
            return call(*args, **more)

        return noted


def test_the_firewall_comes_first_and_goes_last(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = Order(office, monkeypatch)
    caller = Caller(office)
    caller.enter()
    assert len(admitted(office.gate)) == 1
    assert order.steps == ["firewall", "set_allowed_ips", "release"]
    order.steps.clear()
    office.gate.device.apply(DeviceChange(authority=Cleared.CLEARED))
    assert order.steps == ["remove_peer", "firewall"]


def test_many_leave_in_one_transaction(office: Office) -> None:
    recorder = office.firewall()
    callers = [Caller(office, number) for number in (61, 62, 63)]
    for caller in callers:
        caller.enter(caller.certificate(f"laptop{caller.address[-2:]}.mesh"))
    assert len(admitted(office.gate)) == 3
    recorder.calls = 0
    office.gate.device.apply(DeviceChange(authority=Cleared.CLEARED))
    assert admitted(office.gate) == {}
    assert recorder.calls == 1
    gone = {key for what, key in recorder.told if what == "remove"}
    assert gone == {caller.key.base64() for caller in callers}


def test_of_two_keys_with_one_name_in_a_batch_the_newer_stays(office: Office) -> None:
    """Both confirmed before the device looked: one name is never two peers, not for a moment."""
    old, new = Caller(office, 61), Caller(office, 62)
    new.inner = old.inner
    batch = [examined(office, old), examined(office, new, generation=2)]
    failed = sessions(office).commit(batch, office.world.now)
    assert {key: error.reason for key, error in failed.items()} == {old.key: "superseded"}
    assert set(admitted(office.gate)) == {new.key}
    assert batch[0][0].claims is None
    assert office.gate.datapath.allowed_ips(batch[0][0].handle) == []
    assert office.gate.datapath.allowed_ips(batch[1][0].handle) == [parse_prefix("10.7.0.61/32")]


def test_a_live_peer_that_loses_its_name_in_its_own_batch(office: Office) -> None:
    """It renews and is superseded at once: its session ends, and nothing is asked of its handle."""
    old, new = Caller(office, 61), Caller(office, 62)
    new.inner = old.inner
    old.enter()
    old.call(old.certificate(generation=2, not_after=START + 2 * DAY))
    new.call(new.certificate(generation=3))
    gate = office.gate.device
    admitter = gate._admissions.admitter  # type: ignore[union-attr]
    for caller in (old, new):
        entry = gate._peers.by_key[caller.key]
        assert entry.waiting is not None
        admitter.confirmed(entry, entry.waiting)
    office.gate.settle()
    assert set(admitted(office.gate)) == {new.key}
    assert counter(office.gate, "credential_superseded") == 1
    assert counter(office.gate, "credential_ended_superseded") == 1


def test_only_the_session_by_that_name_is_superseded(office: Office) -> None:
    """A key that had the name once, and has come by another one since, stays."""
    caller, other = Caller(office, 61), Caller(office, 62)
    caller.enter()
    office.gate.device._remove(office.gate.device._peers.by_key[caller.key])
    office.world.run(1)
    caller.inner = "10.7.0.99"
    caller.enter(caller.certificate("tower.mesh"))
    assert admitted(office.gate)[caller.key].claims.name == "tower.mesh"  # type: ignore[union-attr]
    other.inner = "10.7.0.61"
    other.enter(other.certificate(generation=2))
    assert set(admitted(office.gate)) == {caller.key, other.key}


def test_a_renewal_that_the_firewall_refuses_leaves_what_was(office: Office) -> None:
    caller = Caller(office)
    recorder = office.firewall()
    caller.enter()
    before = admitted(office.gate)[caller.key]
    recorder.fails = True
    office.world.run(1)
    caller.enter(caller.certificate(generation=2, not_after=START + 2 * DAY))
    after = admitted(office.gate)[caller.key]
    assert (after.claims, after.allowed_ips) == (before.claims, before.allowed_ips)
    assert counter(office.gate, "credential_firewall") == 1
    recorder.fails = False
    office.world.run(1)
    caller.enter(caller.certificate(generation=3, not_after=START + 2 * DAY))
    assert admitted(office.gate)[caller.key].claims.expiry == START + 2 * DAY  # type: ignore[union-attr]


def test_a_session_ends_by_the_boot_clock_when_the_wall_clock_goes_back(office: Office) -> None:
    caller = Caller(office)
    caller.enter(caller.certificate(not_after=START + 600))
    office.world.wall_step = -300.0
    office.world.run(598)
    assert len(admitted(office.gate)) == 1
    office.world.run(3)
    assert admitted(office.gate) == {}
    assert counter(office.gate, "credential_ended_expired") == 1


def test_a_session_ends_soon_after_the_wall_clock_went_on(office: Office) -> None:
    caller = Caller(office)
    caller.enter(caller.certificate(not_after=START + 6000))
    office.world.wall_step = 7000.0
    office.world.run(61)
    assert admitted(office.gate) == {}
    assert counter(office.gate, "credential_ended_expired") == 1


def test_a_peer_that_ends_in_the_moment_it_is_answered(office: Office) -> None:
    """Its wall clock says that it may come, the boot clock that it must go."""
    caller = Caller(office)
    caller.enter(caller.certificate(not_after=START + 600))
    office.world.wall_step = -300.0
    office.world.run(590)
    entry = office.gate.device._peers.by_key[caller.key]
    office.gate.settle()
    data = caller.initiation(caller.certificate(not_after=START + 600))
    # It arrives when the session is over, and nobody has looked yet.
    office.world.now = entry.ends_at + 0.001
    office.gate.datapath.arrive(Sent(0.0, caller.address, office.gate.address, data))
    office.gate.settle()
    assert len(caller.answers()) == 2
    assert caller.key not in admitted(office.gate)


def test_the_log_says_who_came_who_went_and_why(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    caller = Caller(office)
    caller.enter()
    assert "laptop.mesh came in: 10.7.0.66, until 2026-09-22 14:13:20Z" in caplog.text
    (office.directory / "crl" / "mine.deny").write_text("name laptop.mesh 1\n")
    office.gate.device.files_changed()
    assert "the session of laptop.mesh ends:" in caplog.text
    assert "(denied-name)" in caplog.text


def test_addresses_of_ours_end_who_has_them(office: Office) -> None:
    caller = Caller(office)
    caller.enter()
    office.gate.device.set_addresses((parse_prefix("10.7.0.66/32"),), ())
    assert admitted(office.gate) == {}
    assert counter(office.gate, "credential_ended_own-address") == 1


def test_who_is_configured_is_no_matter_of_the_firewall_s_here(office: Office) -> None:
    """Its allowed IPs and its place in the rules are those of the configuration."""
    recorder = office.firewall()
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    peer = laptop.device._peers.by_key[office.gate.private.public()]
    before = laptop.datapath.allowed_ips(peer.handle)
    laptop.send(office.gate)
    office.world.run(1)
    assert peer.claims is not None
    assert peer.claims.name == "gate.mesh"
    assert laptop.datapath.allowed_ips(peer.handle) == before
    assert recorder.told == [("add", "laptop.mesh")]


def test_a_denied_configured_peer_is_told_of_once(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    plain = Machine(office.world, "192.0.2.3")
    befriend(plain, office.gate)
    deny = office.directory / "crl" / "mine.deny"
    deny.write_text(f"key {plain.private.public().base64()}\n")
    office.gate.device.files_changed()
    deny.write_text(f"key {plain.private.public().base64()}\nname other.mesh all\n")
    office.gate.device.files_changed()
    assert caplog.text.count("is denied") == 1
