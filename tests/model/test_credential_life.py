"""The life of a session that rests on a credential, on a fake clock, over both data paths."""

from pathlib import Path

import pytest

from tests.support import certificates, fake_network
from tests.support.certificates import NETWORK, Authority, names
from tests.support.fake_network import PORT, Machine, Weather, World, befriend
from tests.support.native_path import NativeFakeDataPath, needs_native
from tests.support.office import DAY, ROOT, START, Office, Recorder, admitted, counter
from wgpy.device.uapi import Address, AllowedIpChange, Cleared, DeviceChange, PeerChange
from wgpy.identity.profile import Rights
from wgpy.identity.settings import Expectation, IdentitySettings
from wgpy.ip import parse_prefix
from wgpy.keys import PresharedKey, PrivateKey, write_secret
from wgpy.protocol.constants import (
    TYPE_CREDENTIAL_INITIATION,
    TYPE_CREDENTIAL_RESPONSE,
    TYPE_INITIATION,
    TYPE_RESPONSE,
    TYPE_TRANSPORT,
)


@pytest.fixture(autouse=True, params=["portable", pytest.param("native", marks=needs_native)])
def datapath(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every life is lived on both data paths."""
    if request.param == "native":
        monkeypatch.setattr(fake_network, "FakeDataPath", NativeFakeDataPath)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(World(), tmp_path)


def test_a_stranger_comes_in_by_its_certificate(office: Office) -> None:
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    first = laptop.send(office.gate)
    office.world.run(1)
    (peer,) = admitted(office.gate).values()
    assert peer.public_key == laptop.private.public()
    assert peer.claims is not None
    assert (peer.claims.name, peer.claims.groups) == ("laptop.mesh", ("laptops",))
    assert peer.allowed_ips == [parse_prefix("10.7.0.2/32")]
    assert peer.endpoint == Address("192.0.2.2", PORT)
    assert office.gate.datapath.delivered == [first], "the packet that waited arrives"
    answer = office.gate.send(laptop)
    office.world.run(1)
    assert laptop.datapath.delivered == [answer]
    kinds = {sent.kind for sent in office.world.log}
    assert kinds == {TYPE_CREDENTIAL_INITIATION, TYPE_CREDENTIAL_RESPONSE, TYPE_TRANSPORT}
    sizes = {sent.kind: len(sent.data) for sent in office.world.log}
    assert sizes[TYPE_CREDENTIAL_INITIATION] == 1200
    assert sizes[TYPE_CREDENTIAL_RESPONSE] <= 1200
    # The gate's own claims are those of the laptop's configured peer.
    (seen,) = laptop.device.state().peers
    assert seen.claims is not None
    assert seen.claims.name == "gate.mesh"
    assert not seen.admitted


def test_it_gets_no_address_but_its_own(office: Office) -> None:
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    laptop.inner = "10.7.0.9"
    laptop.send(office.gate)
    office.world.run(1)
    assert len(admitted(office.gate)) == 1
    assert office.gate.datapath.delivered == []
    assert counter(office.gate, "wrong_source") == 1


def test_rekeys_lose_nothing_and_ask_the_ledger_once(office: Office) -> None:
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    sent = []
    for moment in range(400):
        office.world.at(moment, lambda: sent.append(laptop.send(office.gate)))
    office.world.run(401)
    assert office.gate.datapath.delivered == sent
    assert len(office.world.sent(TYPE_CREDENTIAL_INITIATION, laptop)) == 4, "at 0, 120, 240, 360 s"
    assert counter(office.gate, "credential_admitted") == 1


def test_a_renewed_certificate_takes_over_without_loss(office: Office) -> None:
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    sent = []
    for tenth in range(1000):
        office.world.at(tenth / 10, lambda: sent.append(laptop.send(office.gate)))

    def renew() -> None:
        office.give(laptop, "laptop.mesh", generation=2, not_after=START + 2 * DAY)
        laptop.device.files_changed()

    office.world.at(50.03, renew)
    office.world.run(101)
    assert office.gate.datapath.delivered == sent
    (peer,) = admitted(office.gate).values()
    assert peer.claims is not None
    assert peer.claims.expiry == int(START + 2 * DAY)
    assert len(office.world.sent(TYPE_CREDENTIAL_INITIATION, laptop)) == 2


def test_a_renewal_at_full_speed_loses_nothing(office: Office) -> None:
    """More comes with the next keys than a gate holds, before the ledger is written."""
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    sent = [laptop.send(office.gate)]
    office.world.run(1)
    gate, settle = office.gate, office.gate.settle

    def renew() -> None:
        office.give(laptop, "laptop.mesh", generation=2, not_after=START + 2 * DAY)
        laptop.device.files_changed()

    def stand_still() -> None:
        gate.settle = lambda: None  # type: ignore[method-assign]
        gate.wakes_at = None

    def go_on() -> None:
        gate.settle = settle  # type: ignore[method-assign]

    office.world.at(10.0, renew)
    # The answer is sent at 10.01, and there at 10.02.
    office.world.at(10.015, stand_still)
    for number in range(100):
        office.world.at(10.03 + number / 10_000, lambda: sent.append(laptop.send(office.gate)))
    office.world.at(10.1, go_on)
    office.world.run(20)
    assert office.gate.datapath.delivered == sent
    (peer,) = admitted(office.gate).values()
    assert peer.claims is not None
    assert peer.claims.expiry == int(START + 2 * DAY)
    assert counter(office.gate, "credential_admitted") == 1


@pytest.mark.parametrize("change", ["groups", "addresses"])
def test_a_credential_with_other_rights_is_gated(office: Office, change: str) -> None:
    """Nothing goes by the new ones before they are in force."""
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    laptop.send(office.gate)
    office.world.run(10)
    credentials = office.gate.device._admissions
    assert credentials is not None
    recorder = Recorder()
    recorder.fails = True
    credentials._sessions._gate = recorder  # type: ignore[assignment]
    if change == "groups":
        more = {"rights": Rights(NETWORK, 2, ("admins",), ())}
    else:
        more = {"names": names("laptop.mesh", "10.7.0.99"), "generation": 2}
        laptop.inner = "10.7.0.99"
    office.give(laptop, "laptop.mesh", **more)
    laptop.device.files_changed()
    before = len(office.gate.datapath.delivered)
    office.world.run(1)
    laptop.send(office.gate)
    office.world.run(3)
    assert len(office.gate.datapath.delivered) == before
    (peer,) = admitted(office.gate).values()
    assert peer.claims is not None
    assert peer.claims.groups == ("laptops",)
    assert counter(office.gate, "credential_firewall") == 1
    assert peer.allowed_ips == [parse_prefix("10.7.0.2/32")]


def test_the_session_ends_with_the_certificate(office: Office) -> None:
    laptop = office.machine("192.0.2.2", "laptop.mesh", not_after=START + 100)
    office.knows_gate(laptop)
    laptop.send(office.gate)
    office.world.run(99)
    assert len(admitted(office.gate)) == 1
    office.world.run(2)
    assert admitted(office.gate) == {}
    assert office.gate.session_count() == 0
    laptop.send(office.gate)
    office.world.run(30)
    assert len(office.gate.datapath.delivered) == 1
    assert admitted(office.gate) == {}
    assert counter(office.gate, "credential_ended_expired") == 1


def test_revocation_ends_a_live_session(office: Office) -> None:
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    laptop.send(office.gate)
    office.world.run(1)
    assert len(admitted(office.gate)) == 1
    (office.directory / "crl" / "one.pem").write_bytes(
        certificates.crl(0x1001, authority=ROOT, until=START + DAY)
    )
    office.gate.device.files_changed()
    assert admitted(office.gate) == {}
    assert office.gate.session_count() == 0
    laptop.send(office.gate)
    office.world.run(200)
    assert admitted(office.gate) == {}
    assert counter(office.gate, "credential_revoked") >= 1


def test_a_denied_key_is_not_let_in_even_if_it_is_configured(office: Office) -> None:
    plain = Machine(office.world, "192.0.2.3")
    plain.inner = "10.7.0.3"
    befriend(plain, office.gate)
    first = plain.send(office.gate)
    office.world.run(1)
    (office.directory / "crl" / "mine.deny").write_text(f"key {plain.private.public().base64()}\n")
    office.gate.device.files_changed()
    assert office.gate.session_count() == 0
    plain.send(office.gate)
    office.world.run(200)
    assert office.gate.datapath.delivered == [first]
    assert counter(office.gate, "denied_peer") >= 1
    (office.directory / "crl" / "mine.deny").unlink()
    office.gate.device.files_changed()
    last = plain.send(office.gate)
    office.world.run(30)
    assert office.gate.datapath.delivered[-1] == last


def test_whom_nobody_trusts_hears_nothing(office: Office) -> None:
    stranger = office.machine("192.0.2.2", "laptop.mesh")
    other = Authority(
        name="another root",
        key=certificates.signing_key(9),
        not_before=START - DAY,
        not_after=START + DAY * 9,
    )
    office.give(stranger, "laptop.mesh", parent=other)
    stranger.device.apply(
        DeviceChange(identity=IdentitySettings(certificate=str(office.directory / "192.0.2.2.pem")))
    )
    office.knows_gate(stranger)
    stranger.send(office.gate)
    office.world.run(30)
    assert [sent for sent in office.world.log if sent.source == office.gate.address] == []
    assert admitted(office.gate) == {}
    assert counter(office.gate, "credential_unknown-issuer") == 1
    assert counter(office.gate, "credential_refused_lately") >= 1


def test_a_name_that_is_not_the_one_asked_for_is_refused(office: Office) -> None:
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop, "other.mesh")
    laptop.send(office.gate)
    office.world.run(20)
    assert admitted(office.gate) == {}
    assert counter(office.gate, "credential_wrong_name") >= 1


def test_the_key_may_suffice_and_then_shows_nothing(office: Office) -> None:
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    gate = office.gate
    gate.device.apply(DeviceChange(identity=Cleared.CLEARED))
    office.knows_gate(laptop, None, key_suffices=True)
    packet = laptop.send(gate)
    office.world.run(2)
    assert gate.datapath.delivered == [packet]
    answers = [sent for sent in office.world.log if sent.kind == TYPE_CREDENTIAL_RESPONSE]
    assert [len(sent.data) for sent in answers] == [92], "an empty payload"


def test_without_a_credential_of_its_own_the_answer_is_refused(office: Office) -> None:
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.gate.device.apply(DeviceChange(identity=Cleared.CLEARED))
    office.knows_gate(laptop, None)
    laptop.send(office.gate)
    office.world.run(20)
    assert laptop.session_count() == 0
    assert counter(laptop, "credential_no-credential") >= 1
    assert admitted(office.gate) == {}, "nobody confirmed"


def test_a_key_of_the_configuration_has_one_mode(office: Office) -> None:
    """No downgrade: neither side falls back to types 1 and 2, nor answers them."""
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    laptop.send(office.gate)
    office.world.run(1)
    # The same key without its credential: plain WireGuard.
    office.gate.device.apply(DeviceChange(listen_port=PORT))
    plain = Machine(office.world, "192.0.2.9")
    plain.private = laptop.private
    plain.device.apply(DeviceChange(private_key=PrivateKey(bytes(laptop.private))))
    plain.add_peer(office.gate)
    plain.send(office.gate)
    office.world.run(30)
    assert office.world.sent(TYPE_INITIATION, plain)
    assert office.world.sent(TYPE_RESPONSE, office.gate) == []
    assert counter(office.gate, "not_by_key_alone") >= 1


def test_a_configured_peer_without_credential_refuses_0x10(office: Office) -> None:
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.gate.device.apply(
        DeviceChange(peers=[PeerChange(laptop.private.public())])  # an ordinary peer
    )
    office.knows_gate(laptop)
    laptop.send(office.gate)
    office.world.run(20)
    assert office.world.sent(TYPE_CREDENTIAL_RESPONSE, office.gate) == []
    assert counter(office.gate, "credential_not_by_credential") >= 1


def test_plain_peers_are_as_they_were(office: Office) -> None:
    plain = Machine(office.world, "192.0.2.3")
    plain.inner = "10.7.0.3"
    befriend(plain, office.gate)
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    packets = [plain.send(office.gate), laptop.send(office.gate)]
    office.world.run(2)
    assert sorted(office.gate.datapath.delivered) == sorted(packets)
    assert {sent.kind for sent in office.world.log if sent.source == plain.address} == {
        TYPE_INITIATION,
        TYPE_TRANSPORT,
    }


def test_an_address_of_a_configured_peer_is_refused(office: Office) -> None:
    plain = Machine(office.world, "192.0.2.3")
    plain.inner = "10.7.0.2"
    befriend(plain, office.gate)
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    laptop.send(office.gate)
    office.world.run(20)
    assert admitted(office.gate) == {}
    assert counter(office.gate, "credential_configured-address") == 1


def test_a_peer_that_is_configured_later_ends_who_has_its_address(office: Office) -> None:
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    laptop.send(office.gate)
    office.world.run(1)
    assert len(admitted(office.gate)) == 1
    plain = Machine(office.world, "192.0.2.3")
    plain.inner = "10.7.0.2"
    befriend(plain, office.gate)
    assert admitted(office.gate) == {}


def test_our_own_address_is_refused(office: Office) -> None:
    office.gate.device.set_addresses((parse_prefix("10.7.0.2/32"),), ())
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    laptop.send(office.gate)
    office.world.run(20)
    assert admitted(office.gate) == {}
    assert counter(office.gate, "credential_own-address") == 1


def test_a_newer_key_takes_the_name_and_ends_the_older(office: Office) -> None:
    old = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(old)
    old.send(office.gate)
    office.world.run(1)
    new = Machine(office.world, "192.0.2.4", ledger=office.directory / "new.ledger")
    new.inner = old.inner
    office.give(new, "laptop.mesh", generation=2)
    new.device.apply(
        DeviceChange(
            authority=office.authority(),
            identity=IdentitySettings(certificate=str(office.directory / "192.0.2.4.pem")),
        )
    )
    office.knows_gate(new)
    new.send(office.gate)
    office.world.run(1)
    assert set(admitted(office.gate)) == {new.private.public()}
    old.send(office.gate)
    office.world.run(200)
    assert set(admitted(office.gate)) == {new.private.public()}
    assert counter(office.gate, "credential_old-generation") >= 1


def test_the_pre_shared_key_of_strangers_must_be_the_same(office: Office) -> None:
    secret = PresharedKey(bytes(range(32)))
    path = office.directory / "psk"
    write_secret(path, secret.base64().encode() + b"\n")
    office.gate.device.apply(DeviceChange(authority=office.authority(preshared_key_file=str(path))))
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    laptop.send(office.gate)
    office.world.run(20)
    assert admitted(office.gate) == {}
    assert laptop.session_count() == 0
    laptop.device.apply(
        DeviceChange(peers=[PeerChange(office.gate.private.public(), preshared_key=secret)])
    )
    office.world.run(20)
    assert len(admitted(office.gate)) == 1


def test_a_replayed_initiation_gains_nothing(office: Office) -> None:
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    laptop.send(office.gate)
    office.world.run(2)
    (first,) = [x for x in office.world.log if x.kind == TYPE_CREDENTIAL_INITIATION]
    answers = len(office.world.sent(TYPE_CREDENTIAL_RESPONSE, office.gate))
    office.world.transmit("192.0.2.66", office.gate.address, first.data)
    office.world.run(10)
    assert len(office.world.sent(TYPE_CREDENTIAL_RESPONSE, office.gate)) == answers
    (peer,) = admitted(office.gate).values()
    assert peer.endpoint == Address("192.0.2.2", PORT)
    packet = office.gate.send(laptop)
    office.world.run(1)
    assert packet in laptop.datapath.delivered


def test_an_initiation_that_somebody_else_delivers_first_moves_nobody(office: Office) -> None:
    """It is answered to where it came from; the peer is where its own packets come from."""
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    laptop.send(office.gate)
    office.world.run(2)
    office.world.cut = True
    office.world.at(130, lambda: laptop.send(office.gate))
    office.world.run(140)
    late = [x for x in office.world.log if x.kind == TYPE_CREDENTIAL_INITIATION][-1]
    office.world.cut = False
    office.world.transmit("192.0.2.66", office.gate.address, late.data)
    office.world.run(0.5)
    (peer,) = admitted(office.gate).values()
    assert peer.endpoint == Address("192.0.2.2", PORT)


def test_both_begin_at_once(office: Office) -> None:
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    laptop.send(office.gate)
    office.world.run(200)
    office.world.run(400)
    assert office.gate.session_count() == 0
    packets = [laptop.send(office.gate), office.gate.send(laptop)]
    office.world.run(10)
    assert packets[0] in office.gate.datapath.delivered
    assert packets[1] in laptop.datapath.delivered


@pytest.mark.parametrize("psk", [None, bytes(range(32))])
def test_both_know_each_other_and_begin_at_once(office: Office, psk: bytes | None) -> None:
    """Each is in the other's configuration: its pre-shared key, its allowed IPs, and a name."""
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    office.gate.device.apply(
        DeviceChange(
            peers=[
                PeerChange(
                    laptop.private.public(),
                    endpoint=Address(laptop.address, PORT),
                    expectation=Expectation("laptop.mesh"),
                    allowed_ips=[AllowedIpChange(parse_prefix("10.7.0.2"))],
                )
            ]
        )
    )
    if psk is not None:
        for one, other in ((laptop, office.gate), (office.gate, laptop)):
            change = PeerChange(other.private.public(), preshared_key=PresharedKey(psk))
            one.device.apply(DeviceChange(peers=[change]))
    there, back = [], []
    for second in range(0, 300, 3):
        office.world.at(second, lambda: there.append(laptop.send(office.gate)))
        office.world.at(second, lambda: back.append(office.gate.send(laptop)))
    office.world.run(301)
    assert office.gate.datapath.delivered == there
    assert laptop.datapath.delivered == back
    assert admitted(office.gate) == {} == admitted(laptop)
    (peer,) = office.gate.device.state().peers
    assert peer.claims is not None
    assert peer.claims.name == "laptop.mesh"
    assert {sent.kind for sent in office.world.log} == {
        TYPE_CREDENTIAL_INITIATION,
        TYPE_CREDENTIAL_RESPONSE,
        TYPE_TRANSPORT,
    }


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_bad_weather(tmp_path: Path, seed: int) -> None:
    weather = Weather(delay=0.05, jitter=0.05, loss=0.1, duplication=0.1)
    office = Office(World(seed, weather), tmp_path)
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    for moment in range(300):
        office.world.at(moment, lambda: laptop.send(office.gate))
    office.world.run(320)
    assert len(admitted(office.gate)) == 1
    assert len(set(office.gate.datapath.delivered)) > 200


def test_names_and_addresses_outlive_a_restart(office: Office) -> None:
    laptop = office.machine("192.0.2.2", "laptop.mesh", generation=5)
    office.knows_gate(laptop)
    laptop.send(office.gate)
    office.world.run(1)
    assert len(admitted(office.gate)) == 1
    office.gate.device.close()
    again = Machine(office.world, "192.0.2.1", ledger=office.directory / "192.0.2.1.ledger")
    again.private = office.gate.private
    again.inner = office.gate.inner
    again.device.apply(
        DeviceChange(
            private_key=PrivateKey(bytes(again.private)),
            authority=office.authority(),
            identity=IdentitySettings(certificate=str(office.directory / "192.0.2.1.pem")),
        )
    )
    thief = office.machine("192.0.2.7", "laptop.mesh", generation=4)
    thief.inner = laptop.inner
    office.knows_gate(thief)
    thief.send(again)
    office.world.run(20)
    assert thief.private.public() not in admitted(again)
    assert counter(again, "credential_old-generation") == 1


def test_the_firewall_knows_a_peer_before_it_may_send(office: Office) -> None:
    recorder = office.firewall()
    laptop = office.machine("192.0.2.2", "laptop.mesh")
    office.knows_gate(laptop)
    recorder.fails = True
    laptop.send(office.gate)
    office.world.run(3)
    assert admitted(office.gate) == {}
    assert office.gate.datapath.delivered == [], "what was held is not let go"
    assert office.gate.session_count() == 0
    recorder.fails = False
    office.world.run(200)
    packet = laptop.send(office.gate)
    office.world.run(100)
    assert packet in office.gate.datapath.delivered
    assert recorder.told[0] == ("add", "laptop.mesh")
    office.gate.device.apply(DeviceChange(authority=Cleared.CLEARED))
    assert admitted(office.gate) == {}
    assert recorder.told[-1] == ("remove", laptop.private.public().base64())
