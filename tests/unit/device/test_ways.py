"""The device keeps what it is told about ways through NATs, and tells whoever finds them."""

import errno

import pytest

from tests.support.fake_ways import OFFER, STATE, FakeWays
from tests.unit.device.kit import KEYS, Kit
from wgpy.datapath.contract import Endpoint
from wgpy.device.paths import NatSettings, PathKind, PathState
from wgpy.device.roads import Roads
from wgpy.device.uapi import Address, Cleared, DeviceChange, PeerChange, UapiError
from wgpy.device.ways import WayError

SETTINGS = NatSettings(stun=(("stun.example", 3478),), signal="/var/lib/shared")
KEY = KEYS[0]


@pytest.fixture
def kit() -> Kit:
    """A device that had settings and has none: whoever finds ways was made."""
    made = Kit(make_ways=FakeWays)
    made.device.apply(DeviceChange(nat=SETTINGS))
    made.device.apply(DeviceChange(nat=Cleared.CLEARED))
    return made


@pytest.fixture
def ways(kit: Kit) -> FakeWays:
    found = kit.device._ways._ways
    assert isinstance(found, FakeWays)
    found.said.clear()
    return found


# --- Settings ---


def test_the_first_settings_make_who_finds_ways() -> None:
    made: list[Roads] = []

    def make(roads: Roads) -> FakeWays:
        made.append(roads)
        return FakeWays(roads)

    kit = Kit(make_ways=make)
    kit.device.apply(DeviceChange(nat=Cleared.CLEARED, peers=[PeerChange(KEY, nat=True)]))
    with pytest.raises(UapiError, match="is no peer with `nat = true`"):
        kit.peer(KEY, offer=True)
    assert kit.shown()[KEY].nat
    kit.device.close()
    assert made == []
    kit = Kit(make_ways=make)
    for _ in range(2):
        kit.device.apply(DeviceChange(nat=SETTINGS))
    assert made == [kit.device.roads]


def test_settings_are_put_into_force_and_shown(kit: Kit, ways: FakeWays) -> None:
    state = kit.device.state()
    assert (state.nat, state.nat_state) == (None, None)
    kit.device.apply(DeviceChange(nat=SETTINGS))
    state = kit.device.state()
    assert (state.nat, state.nat_state) == (SETTINGS, STATE)
    assert state.counters["nat_probes"] == 7
    kit.device.apply(DeviceChange(listen_port=77))
    assert ways.said == [("configure", SETTINGS)]
    kit.device.apply(DeviceChange(nat=SETTINGS))
    kit.device.apply(DeviceChange(nat=Cleared.CLEARED))
    assert ways.said[1:] == [("configure", SETTINGS), ("configure", None)]
    kit.device.apply(DeviceChange(nat=Cleared.CLEARED))
    assert len(ways.said) == 3, "there was nothing to clear"
    assert kit.device.state().nat is None


@pytest.mark.parametrize(
    ("refusal", "code", "reason"),
    [
        (WayError("secret.txt: it is empty"), errno.EINVAL, "secret.txt: it is empty"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/a"), errno.ENOENT, "/a: No such file"),
        (OSError("disk"), errno.EIO, "disk"),
    ],
)
def test_settings_that_are_refused_change_nothing(
    kit: Kit, ways: FakeWays, refusal: Exception, code: int, reason: str
) -> None:
    ways.refusal = refusal
    with pytest.raises(UapiError) as caught:
        kit.device.apply(DeviceChange(listen_port=77, nat=SETTINGS, peers=[PeerChange(KEY)]))
    assert (caught.value.code, caught.value.reason) == (code, reason)
    state = kit.device.state()
    assert (state.listen_port, state.nat, state.peers) == (0, None, [])


def test_a_port_that_is_taken_leaves_the_settings_as_they_were(kit: Kit, ways: FakeWays) -> None:
    kit.up().taken.add(77)
    with pytest.raises(UapiError):
        kit.device.apply(DeviceChange(listen_port=77, nat=SETTINGS))
    assert ways.said == []
    assert kit.device.state().nat is None


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (DeviceChange(nat=SETTINGS), "take out [nat]"),
        (DeviceChange(peers=[PeerChange(KEY, nat=True)]), "take out `nat = true`"),
        (DeviceChange(peers=[PeerChange(KEY, offer=True)]), "take out `nat = true`"),
        (DeviceChange(peers=[PeerChange(KEY, answer=OFFER)]), "take out `nat = true`"),
    ],
)
def test_a_device_that_finds_no_ways_says_so(change: DeviceChange, what: str) -> None:
    kit = Kit()
    with pytest.raises(UapiError) as caught:
        kit.device.apply(change)
    assert caught.value.code == errno.EOPNOTSUPP
    assert what in caught.value.reason
    assert kit.shown() == {}
    kit.device.apply(DeviceChange(nat=Cleared.CLEARED, peers=[PeerChange(KEY, nat=False)]))
    assert not kit.shown()[KEY].nat


def test_it_hears_that_the_device_ends(kit: Kit, ways: FakeWays) -> None:
    kit.device.close()
    assert ways.said == [("close",)]


# --- Managed peers ---


def test_a_peer_is_managed_while_there_are_settings(kit: Kit, ways: FakeWays) -> None:
    kit.peer(KEY, nat=True)
    assert ways.said == []
    assert (kit.shown()[KEY].nat, kit.shown()[KEY].path) == (True, None)
    kit.device.apply(DeviceChange(nat=SETTINGS))
    kit.peer(KEY, nat=True)
    assert ways.said == [("configure", SETTINGS), ("manage", KEY, True)]
    assert kit.shown()[KEY].path == PathState(PathKind.NONE, reason="nothing is tried")
    ways.said.clear()
    kit.device.apply(DeviceChange(nat=Cleared.CLEARED))
    assert ways.said == [("manage", KEY, False), ("configure", None)]
    assert (kit.shown()[KEY].nat, kit.shown()[KEY].path) == (True, None)


def test_a_peer_becomes_an_ordinary_one(kit: Kit, ways: FakeWays) -> None:
    kit.device.apply(DeviceChange(nat=SETTINGS, peers=[PeerChange(KEY, nat=True)]))
    kit.peer(KEY, nat=False)
    assert ways.said[1:] == [("manage", KEY, True), ("manage", KEY, False)]
    assert not kit.shown()[KEY].nat


def test_who_leaves_is_told_of(kit: Kit, ways: FakeWays) -> None:
    change = DeviceChange(nat=SETTINGS, peers=[PeerChange(KEY, nat=True), PeerChange(KEYS[1])])
    kit.device.apply(change)
    ways.said.clear()
    kit.peer(KEY, remove=True)
    kit.peer(KEYS[1], remove=True)
    assert ways.said == [("removed", KEY)]
    kit.device.apply(change)
    ways.said.clear()
    kit.device.apply(DeviceChange(replace_peers=True, peers=[PeerChange(KEY, nat=True)]))
    assert ways.said == [("removed", KEY), ("manage", KEY, True)]


def test_an_endpoint_is_a_hint_for_a_managed_peer(kit: Kit, ways: FakeWays) -> None:
    place, other = Address("192.0.2.1", 1000), Address("2001:db8::1", 2000)
    peer = PeerChange(KEY, nat=True, endpoint=place, persistent_keepalive=25)
    kit.up().device.apply(DeviceChange(nat=SETTINGS, peers=[peer]))
    kit.peer(KEY, endpoint=other)
    kit.pass_time(1)
    assert [said for said in ways.said if said[0] == "hint"] == [
        ("hint", KEY, Endpoint("192.0.2.1", 1000)),
        ("hint", KEY, Endpoint("2001:db8::1", 2000)),
    ]
    assert kit.shown()[KEY].endpoint is None
    assert kit.path.sent == [], "nothing goes to a place that was not proved"


def test_what_was_given_before_is_a_hint_too(kit: Kit, ways: FakeWays) -> None:
    kit.peer(KEY, endpoint=Address("192.0.2.1", 1000))
    kit.device.apply(DeviceChange(nat=SETTINGS, peers=[PeerChange(KEY, nat=True)]))
    assert ways.said[-1] == ("hint", KEY, Endpoint("192.0.2.1", 1000))
    assert kit.shown()[KEY].endpoint == Address("192.0.2.1", 1000), "it stays where it is"


def test_a_peer_that_is_nowhere_goes_where_the_operator_said(kit: Kit, ways: FakeWays) -> None:
    place = Address("192.0.2.1", 1000)
    kit.device.apply(DeviceChange(nat=SETTINGS, peers=[PeerChange(KEY, nat=True, endpoint=place)]))
    kit.device.apply(DeviceChange(nat=Cleared.CLEARED))
    assert kit.shown()[KEY].endpoint == place


def test_the_addresses_of_a_name_are_hints(kit: Kit, ways: FakeWays) -> None:
    kit.device.apply(DeviceChange(nat=SETTINGS, peers=[PeerChange(KEY, nat=True)]))
    kit.device.resolved(KEY, [Address("192.0.2.1", 1000), Address("192.0.2.2", 1000)])
    assert ways.said[-2:] == [
        ("hint", KEY, Endpoint("192.0.2.1", 1000)),
        ("hint", KEY, Endpoint("192.0.2.2", 1000)),
    ]
    assert kit.shown()[KEY].endpoint is None


# --- Offers that a person carries ---


def test_an_offer_is_made_shown_and_answered(kit: Kit, ways: FakeWays) -> None:
    kit.device.apply(DeviceChange(nat=SETTINGS, peers=[PeerChange(KEY, nat=True)]))
    assert kit.shown()[KEY].offer is None
    kit.peer(KEY, offer=True)
    assert kit.shown()[KEY].offer == OFFER
    kit.peer(KEY, answer="wgpy-offer-1:dGhlaXJz")
    assert ways.said[-2:] == [("offer", KEY), ("answer", KEY, "wgpy-offer-1:dGhlaXJz")]
    del ways.offers[KEY]
    assert kit.shown()[KEY].offer is None


def test_an_answer_that_is_none_changes_nothing(kit: Kit, ways: FakeWays) -> None:
    kit.device.apply(DeviceChange(nat=SETTINGS, peers=[PeerChange(KEY, nat=True)]))
    said = list(ways.said)
    peers = [
        PeerChange(KEYS[1]),
        PeerChange(KEY, answer=OFFER, offer=True),
        PeerChange(KEY, answer="hello"),
    ]
    with pytest.raises(UapiError, match="this is no offer of wgpy") as caught:
        kit.device.apply(DeviceChange(listen_port=7, peers=peers))
    assert caught.value.code == errno.EINVAL
    assert ways.said == said
    assert set(kit.shown()) == {KEY}
    assert kit.device.state().listen_port == 0


@pytest.mark.parametrize("settings", [None, SETTINGS])
def test_offers_are_for_managed_peers(
    kit: Kit, ways: FakeWays, settings: NatSettings | None
) -> None:
    kit.device.apply(DeviceChange(nat=settings, peers=[PeerChange(KEY, nat=settings is None)]))
    for change in (
        PeerChange(KEY, offer=True),
        PeerChange(KEY, answer=OFFER),
        PeerChange(KEYS[2], offer=True),
    ):
        with pytest.raises(UapiError, match="is no peer with `nat = true`"):
            kit.device.apply(DeviceChange(peers=[change]))
    assert set(kit.shown()) == {KEY}


def test_no_offer_is_made_for_who_leaves_by_the_same_request(kit: Kit, ways: FakeWays) -> None:
    kit.device.apply(DeviceChange(nat=SETTINGS, peers=[PeerChange(KEY, nat=True)]))
    kit.device.apply(DeviceChange(peers=[PeerChange(KEY, offer=True, remove=True)]))
    assert ("offer", KEY) not in ways.said
