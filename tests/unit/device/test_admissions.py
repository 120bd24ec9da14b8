"""The device keeps what it is told about credentials, and protects who came in by one."""

import errno
from collections.abc import Callable, Mapping

import pytest

from tests.unit.device.kit import KEYS, PRIVATE, Kit, with_session
from tests.unit.device.test_uapi_credentials import AUTHORITY, CLAIMS, IDENTITY
from wgpy.device.admissions import CredentialSettings
from wgpy.device.device import Device
from wgpy.device.refusals import MAX_PEERS
from wgpy.device.uapi import (
    AllowedIpChange,
    ClaimsSummary,
    Cleared,
    DeviceChange,
    PeerChange,
    UapiError,
)
from wgpy.identity.claims import Claims, CredentialError, Kind
from wgpy.identity.settings import AuthoritySettings, Expectation, IdentitySettings
from wgpy.ip import parse_prefix
from wgpy.keys import PrivateKey, PublicKey

SERVER = Expectation("server.mesh")


class Recorder:
    """Admissions that write down what they are told."""

    def __init__(self) -> None:
        self.prepared: list[tuple[object, object, PublicKey | None]] = []
        self.committed: list[tuple[object, object, PublicKey | None]] = []
        self.expected: list[tuple[PublicKey, Expectation | None]] = []
        self.gone: list[PublicKey] = []
        self.peer_changes = 0
        self.refusal: Exception | None = None

    def configure(
        self,
        authority: AuthoritySettings | None,
        identity: IdentitySettings | None,
        own: PublicKey | None,
    ) -> Callable[[], None]:
        if self.refusal is not None:
            raise self.refusal
        told = (authority, identity, own)
        self.prepared.append(told)
        return lambda: self.committed.append(told)

    def peer_expectation(self, key: PublicKey, expectation: Expectation | None) -> None:
        self.expected.append((key, expectation))

    def peers_changed(self) -> None:
        self.peer_changes += 1

    def removed(self, key: PublicKey) -> None:
        self.gone.append(key)

    def describe(self, key: PublicKey) -> ClaimsSummary | None:
        return CLAIMS if key in (KEYS[0], PRIVATE.public()) else None

    def counters(self) -> Mapping[str, int]:
        return {"credential_admitted": 2}


@pytest.fixture
def told() -> Recorder:
    return Recorder()


@pytest.fixture
def kit(told: Recorder) -> Kit:
    kit = Kit()
    kit.device._credentials = CredentialSettings(told)
    return kit


def admit(device: Device, key: PublicKey, *allowed: str) -> None:
    """What the admission of a peer leaves in the device."""
    changes = [AllowedIpChange(parse_prefix(text)) for text in allowed]
    device.apply(DeviceChange(peers=[PeerChange(key, allowed_ips=changes)]))
    entry = device._peers.by_key[key]
    entry.admitted = True
    entry.claims = Claims(
        kind=Kind.CERTIFICATE,
        key=key,
        name="laptop.mesh",
        network=bytes(16),
        addresses=(),
        groups=frozenset(),
        prefixes=(),
        generation=1,
        not_before=0.0,
        not_after=1.0,
        issuer=bytes(32),
        serial="1",
    )


# --- Settings ---


def test_settings_are_put_into_force_and_shown(kit: Kit, told: Recorder) -> None:
    kit.device.apply(DeviceChange(authority=AUTHORITY))
    kit.device.apply(DeviceChange(identity=IDENTITY))
    own = PRIVATE.public()
    assert told.committed == [(AUTHORITY, None, own), (AUTHORITY, IDENTITY, own)]
    state = kit.device.state()
    assert (state.authority, state.identity, state.claims) == (AUTHORITY, IDENTITY, CLAIMS)
    assert state.counters["credential_admitted"] == 2
    kit.device.apply(DeviceChange(authority=Cleared.CLEARED, identity=Cleared.CLEARED))
    assert told.committed[-1] == (None, None, own)
    state = kit.device.state()
    assert (state.authority, state.identity, state.claims) == (None, None, None)


def test_the_same_settings_are_read_again_and_others_leave_them_alone(
    kit: Kit, told: Recorder
) -> None:
    kit.device.apply(DeviceChange(authority=Cleared.CLEARED))
    assert told.committed == [], "there was nothing to clear"
    kit.device.apply(DeviceChange(authority=AUTHORITY))
    kit.device.apply(DeviceChange(listen_port=7, private_key=PRIVATE))
    assert len(told.committed) == 1
    kit.device.apply(DeviceChange(authority=AUTHORITY))
    assert len(told.committed) == 2


def test_a_new_key_is_checked_against_the_credential(kit: Kit, told: Recorder) -> None:
    kit.device.apply(DeviceChange(private_key=PrivateKey(b"n" * 32)))
    assert told.prepared == [], "without a setting there is nothing to check"
    kit.device.apply(DeviceChange(identity=IDENTITY))
    kit.device.apply(DeviceChange(private_key=PRIVATE))
    assert told.committed[-1] == (None, IDENTITY, PRIVATE.public())
    kit.device.apply(DeviceChange(private_key=PrivateKey(bytes(32))))
    assert told.committed[-1] == (None, IDENTITY, None)


@pytest.mark.parametrize(
    ("refusal", "code", "reason"),
    [
        (CredentialError("constraints", "mesh.pem: no constraints"), errno.EINVAL, "mesh.pem: no"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/a"), errno.ENOENT, "/a: No such file"),
        (OSError("disk"), errno.EIO, "disk"),
    ],
)
def test_settings_that_are_refused_change_nothing(
    kit: Kit, told: Recorder, refusal: Exception, code: int, reason: str
) -> None:
    kit.device.apply(DeviceChange(authority=AUTHORITY))
    told.refusal = refusal
    with pytest.raises(UapiError) as caught:
        kit.device.apply(
            DeviceChange(listen_port=77, authority=Cleared.CLEARED, peers=[PeerChange(KEYS[0])])
        )
    assert caught.value.code == code
    assert caught.value.reason.startswith(reason)
    state = kit.device.state()
    assert (state.listen_port, state.authority, state.peers) == (0, AUTHORITY, [])


def test_a_port_that_is_taken_leaves_the_settings_as_they_were(kit: Kit, told: Recorder) -> None:
    kit.up().taken.add(77)
    with pytest.raises(UapiError):
        kit.device.apply(DeviceChange(listen_port=77, authority=AUTHORITY))
    assert len(told.prepared) == 1
    assert told.committed == []
    assert kit.device.state().authority is None


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (DeviceChange(authority=AUTHORITY), "take out [authority]"),
        (DeviceChange(identity=IDENTITY), "take out [identity]"),
        (DeviceChange(peers=[PeerChange(KEYS[0], expectation=SERVER)]), "`credential = true`"),
    ],
)
def test_a_device_that_admits_nobody_says_so(change: DeviceChange, what: str) -> None:
    kit = Kit()
    with pytest.raises(UapiError) as caught:
        kit.device.apply(change)
    assert caught.value.code == errno.EOPNOTSUPP
    assert what in caught.value.reason
    assert kit.shown() == {}
    kit.device.apply(DeviceChange(authority=Cleared.CLEARED, identity=Cleared.CLEARED))


# --- What a configured peer must prove ---


def test_an_expectation_is_told_shown_and_taken_back(kit: Kit, told: Recorder) -> None:
    key = KEYS[0]
    kit.peer(key, expectation=SERVER)
    kit.peer(key, expectation=SERVER)
    kit.peer(key, persistent_keepalive=5)
    assert told.expected == [(key, SERVER)]
    assert kit.shown()[key].expectation == SERVER
    assert kit.shown()[key].claims == CLAIMS
    kit.peer(key, expectation=Cleared.CLEARED)
    assert told.expected[1:] == [(key, None)]
    kit.peer(key, expectation=SERVER)
    kit.device.apply(DeviceChange(replace_peers=True))
    assert told.expected[2:] == [(key, SERVER), (key, None)]
    assert told.gone == []


def test_a_session_of_the_other_kind_ends(kit: Kit) -> None:
    stranger = with_session(kit.up())
    assert kit.sessions() == 1
    kit.peer(stranger.key, expectation=Cleared.CLEARED)
    assert kit.sessions() == 1, "it was an ordinary peer already"
    kit.peer(stranger.key, expectation=SERVER)
    assert kit.sessions() == 0


# --- Who was admitted ---


def test_a_whole_configuration_leaves_who_was_admitted(kit: Kit, told: Recorder) -> None:
    kit.peer(KEYS[0])
    admit(kit.device, KEYS[1], "10.7.0.2/32")
    kit.device.apply(DeviceChange(replace_peers=True, peers=[PeerChange(KEYS[2])]))
    assert set(kit.shown()) == {KEYS[1], KEYS[2]}
    assert kit.shown()[KEYS[1]].admitted
    assert told.gone == []


def test_a_whole_configuration_may_have_who_was_admitted(kit: Kit, told: Recorder) -> None:
    admit(kit.device, KEYS[1], "10.7.0.2/32")
    kit.device.apply(DeviceChange(replace_peers=True, peers=[PeerChange(KEYS[1])]))
    peer = kit.shown()[KEYS[1]]
    assert not peer.admitted
    assert peer.allowed_ips == [], "nothing of the admission is left"
    assert told.gone == [KEYS[1]]


@pytest.mark.parametrize("replace", [False, True])
def test_who_was_admitted_is_not_edited(kit: Kit, told: Recorder, replace: bool) -> None:
    admit(kit.device, KEYS[1], "10.7.0.2/32")
    edit = PeerChange(KEYS[1], persistent_keepalive=9, update_only=replace)
    with pytest.raises(UapiError, match="can be removed, not changed") as caught:
        kit.device.apply(DeviceChange(listen_port=9, replace_peers=replace, peers=[edit]))
    assert caught.value.code == errno.EPERM
    state = kit.device.state()
    assert (state.listen_port, state.peers[0].persistent_keepalive) == (0, 0)
    assert told.gone == []


def test_who_was_admitted_can_be_removed_and_then_configured(kit: Kit, told: Recorder) -> None:
    admit(kit.device, KEYS[1])
    kit.device.apply(DeviceChange(peers=[PeerChange(KEYS[1], remove=True)]))
    assert kit.shown() == {}
    assert told.gone == [KEYS[1]]
    admit(kit.device, KEYS[1])
    both = [PeerChange(KEYS[1], remove=True), PeerChange(KEYS[1], persistent_keepalive=9)]
    kit.device.apply(DeviceChange(peers=both))
    assert kit.shown()[KEYS[1]].persistent_keepalive == 9
    assert not kit.shown()[KEYS[1]].admitted


def test_changes_of_configured_peers_are_told(kit: Kit, told: Recorder) -> None:
    kit.device.apply(DeviceChange(listen_port=5, authority=AUTHORITY))
    assert told.peer_changes == 0
    kit.peer(KEYS[0])
    kit.device.apply(DeviceChange(replace_peers=True))
    assert told.peer_changes == 2


def test_who_was_admitted_takes_room(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wgpy.device.refusals.MAX_PEERS", 2)
    assert MAX_PEERS > 2
    admit(kit.device, KEYS[0])
    two = [PeerChange(KEYS[1]), PeerChange(KEYS[2])]
    with pytest.raises(UapiError) as caught:
        kit.device.apply(DeviceChange(replace_peers=True, peers=two))
    assert caught.value.code == errno.ENOSPC
    kit.device.apply(DeviceChange(replace_peers=True, peers=[PeerChange(KEYS[0]), two[0]]))
    assert set(kit.shown()) == {KEYS[0], KEYS[1]}
