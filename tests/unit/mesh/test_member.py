"""A node as it knows itself: what it takes from a coordinator, and what it makes of that."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.certificates import NOW, ROOT, Authority, crl, signing_key
from tests.support.stores import SETTINGS, key
from tests.support.views import Someone, page
from wgpy.identity.denylist import Denied
from wgpy.identity.derived import quarantine_address
from wgpy.ip import parse_prefix
from wgpy.keys import PrivateKey, PublicKey
from wgpy.mesh.apply import KEEPALIVE
from wgpy.mesh.contacts import Attempt
from wgpy.mesh.line import Coordinator, Endpoint
from wgpy.mesh.member import Member, MemberError
from wgpy.mesh.messages import Joined
from wgpy.mesh.place import Membership, Place, PlaceError
from wgpy.mesh.settings import Coordinator as Told
from wgpy.mesh.settings import NetworkSettings

PRIVATE = PrivateKey(bytes(range(1, 33)))
GATE = Someone(9, name="gate.mesh")
AT = Endpoint("192.0.2.1", 51820)
GATE6 = GATE.addresses[1].address
NETWORK = replace(SETTINGS, coordinators=(Told("gate.mesh", GATE.key, (str(AT),)),))
SECOND = Authority(name="second root", key=signing_key(7))
LINE = "wgpy-join:abc"


class Us(Someone):
    """Our own node, whose key is PRIVATE's."""

    @property
    def key(self) -> PublicKey:
        return PRIVATE.public()


US = Us(1, name="laptop.mesh")


def joined(
    us: Someone = US,
    settings: NetworkSettings = NETWORK,
    cas: tuple[Authority, ...] = (ROOT,),
    between: tuple[Authority, ...] = (),
) -> Joined:
    view = us.view()
    assert view.certificate is not None
    return Joined(
        view.certificate,
        tuple(x.der() for x in between),
        tuple(x.der() for x in cas),
        settings,
        view,
    )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place("mesh0", tmp_path / "state", tmp_path / "run")
    contact = Coordinator(GATE.key, (AT, Endpoint("gate.example", 51820)), (GATE6,))
    made.make(
        PRIVATE,
        Membership("mesh0", SETTINGS.id, "mesh", line=LINE, wanted="laptop", contacts=(contact,)),
    )
    made.set_token(b"a token")
    return made


def member(place: Place) -> Member:
    found = Member(place, NOW)
    found.take_joined(joined(), NOW)
    return found


def test_who_joins_has_an_address_that_follows_from_its_key(place: Place) -> None:
    found = Member(place, NOW)
    assert found.papers is None
    assert found.addresses == (quarantine_address(SETTINGS.id, PRIVATE.public()),)
    (gate,) = found.whom()
    assert (gate.key, gate.name, gate.addresses) == (GATE.key, None, (GATE6,))
    wanted, shape = found.wanted(Attempt(gate, gate.endpoints[1]), is_connected=False)
    (contact,) = wanted.contacts
    assert (contact.endpoint, contact.keepalive) == (Endpoint("gate.example", 51820), KEEPALIVE)
    assert shape.addresses == found.addresses
    assert shape.routes == (GATE.addresses[1],)


def test_it_is_in_and_stays_so_after_a_restart(place: Place) -> None:
    member(place)
    again = Member(place, NOW)
    assert again.name == "laptop.mesh"
    assert again.membership.line is None
    assert again.addresses == US.addresses
    assert again.papers is not None
    # No page of the directory came before the restart: still it knows whom to ask.
    assert again.settings == NETWORK
    assert [x.name for x in again.whom()] == ["gate.mesh"]
    wanted, shape = again.wanted(None, is_connected=False)
    assert wanted.membership.name == "laptop.mesh"
    assert shape.addresses == US.addresses


def test_a_certificate_that_has_ended_still_says_who_we_are(place: Place) -> None:
    member(place)
    assert Member(place, NOW + 30 * 86_400).name == "laptop.mesh"


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (joined(settings=replace(NETWORK, id=bytes(16))), "another network"),
        (joined(settings=replace(NETWORK, domain="other", coordinators=())), "another network"),
        (joined(Someone(2)), "another key"),
        (joined(cas=(SECOND,)), "not known"),
        (joined(cas=()), "no authority"),
        (joined(Us(1, name="laptop.mesh", authority=SECOND)), "not known"),
        (replace(joined(), certificate=b"\x30\x00"), "cannot be read"),
        (replace(joined(), cas=(b"\x30\x00",)), "cannot be read"),
    ],
)
def test_what_is_not_for_us_is_not_taken(place: Place, what: Joined, why: str) -> None:
    found = Member(place, NOW)
    with pytest.raises(MemberError, match=why):
        found.take_joined(what, NOW)
    again = Member(place, NOW)
    assert again.papers is None
    assert again.membership.line == LINE


def test_a_crash_half_way_leaves_it_joining(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Papers are there, and who we are was not put down: it asks again, with the same key."""
    found = Member(place, NOW)
    monkeypatch.setattr(Place, "set_membership", _full_disk)
    with pytest.raises(OSError, match="no room"):
        found.take_joined(joined(), NOW)
    monkeypatch.undo()
    again = Member(place, NOW)
    assert again.papers is None
    again.take_joined(joined(), NOW)
    assert Member(place, NOW).name == "laptop.mesh"


def _full_disk(place: Place, membership: Membership) -> None:
    raise OSError("no room")


def test_the_next_certificate_is_for_the_same_name(place: Place) -> None:
    found = member(place)
    later = Us(1, name="laptop.mesh", generation=2, groups=("admins", "laptops"))
    found.take_joined(joined(later), NOW)
    assert found.papers is not None
    assert found.papers.claims.generation == 2
    with pytest.raises(MemberError, match="another name"):
        found.take_joined(joined(Us(1, name="gate.mesh")), NOW)
    assert Member(place, NOW).papers is not None


def test_a_coordinator_cannot_name_an_authority(place: Place) -> None:
    found = member(place)
    stolen = Us(1, name="laptop.mesh", generation=2, authority=SECOND)
    for cas in ((SECOND,), (ROOT, SECOND)):
        with pytest.raises(MemberError, match="none of those that are known signed"):
            found.take_joined(joined(stolen, cas=cas), NOW)
    # Signed by itself once more, or by another one of nobody's.
    forged = replace(SECOND, parent=Authority(name="a root", key=signing_key(11)))
    with pytest.raises(MemberError):
        found.take_joined(joined(stolen, cas=(SECOND,), between=(forged,)), NOW)
    assert found.papers is not None
    assert found.papers.claims.generation == 1


def test_an_authority_is_replaced_by_the_one_before(place: Place) -> None:
    found = member(place)
    link = replace(SECOND, parent=ROOT)
    found.take_joined(joined(cas=(ROOT, SECOND), between=(link,)), NOW)
    renewed = Us(1, name="laptop.mesh", generation=2, authority=SECOND)
    found.take_joined(joined(renewed, cas=(SECOND,)), NOW)
    again = Member(place, NOW)
    assert again.papers is not None
    assert [x.certificate.subject for x in again.papers.anchors.anchors] == [
        SECOND.certificate().subject
    ]


def test_what_a_page_brings_is_on_the_disk(place: Place) -> None:
    found = member(place)
    denied = crl(number=2, denied=Denied(keys=frozenset([key(77)])), pem=False)
    news = found.take_page(page(GATE.view(coordinator=True), Someone(3).view(), crl=(denied,)), NOW)
    assert news is not None
    assert not found.is_saved
    found.save()
    assert found.is_saved
    assert list(place.lists().values()) == [denied]
    again = Member(place, NOW)
    assert again.directory is not None
    assert again.directory.nodes.keys() == {GATE.key, key(3)}
    assert again.directory.revision == 1
    others = {x.name for x in again.wanted(None, is_connected=False)[0].others}
    assert others == {"gate.mesh", "n3.mesh"}


def test_half_a_directory_is_not_put_down(place: Place) -> None:
    found = member(place)
    found.take_page(page(Someone(3).view(), revision=1), NOW)
    found.save()
    found.take_page(page(Someone(4).view(), revision=2, reset=True, more=True), NOW)
    found.save()
    assert not found.is_saved
    again = Member(place, NOW)
    assert again.directory is not None
    assert again.directory.nodes.keys() == {key(3)}


def test_a_directory_that_was_cut_off_is_asked_for_anew(place: Place) -> None:
    found = member(place)
    found.take_page(page(Someone(3).view(), revision=7), NOW)
    found.save()
    path = place.directory / "directory.json"
    path.write_bytes(path.read_bytes()[:-20])
    again = Member(place, NOW)
    assert again.directory is not None
    assert again.directory.revision == 0


def test_a_full_disk_is_tried_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list must come to the disk, where the daemon looks for it."""
    found = member(place)
    denied = crl(number=2, denied=Denied(keys=frozenset([key(77)])), pem=False)
    found.take_page(page(Someone(3).view(), crl=(denied,)), NOW)
    monkeypatch.setattr(Place, "set_list", _no_room)
    for _ in range(2):
        with pytest.raises(OSError, match="no room"):
            found.save()
    monkeypatch.undo()
    found.take_page(page(Someone(4).view(), since=1, revision=2), NOW)
    found.save()
    assert list(place.lists().values()) == [denied]
    assert found.is_saved
    again = Member(place, NOW)
    assert again.directory is not None
    assert again.directory.nodes.keys() == {key(3), key(4)}


def _no_room(place: Place, issuer: str, der: bytes) -> None:
    raise OSError("no room")


def test_coordinators_are_those_of_the_settings(place: Place) -> None:
    found = member(place)
    # Its address is that of the line until the directory has its node.
    assert [x.addresses for x in found.whom()] == [(GATE6,)]
    found.take_page(page(GATE.view(coordinator=True), settings=None), NOW)
    (gate,) = found.whom()
    assert gate.name == "gate.mesh"
    assert gate.addresses == tuple(x.address for x in GATE.addresses)
    assert gate.endpoints == (AT,)
    # What our NAT needs.
    found.keepalive = 57
    wanted, _ = found.wanted(Attempt(gate, AT), is_connected=True)
    (contact,) = wanted.contacts
    assert (contact.endpoint, contact.keepalive, contact.name) == (None, 57, "gate.mesh")


def test_settings_without_coordinators_leave_those_of_the_line(place: Place) -> None:
    found = member(place)
    found.take_page(page(GATE.view(), settings=replace(NETWORK, coordinators=())), NOW)
    assert [x.key for x in found.whom()] == [GATE.key]


def test_routes_go_where_somebody_chose(place: Place) -> None:
    found = member(place)
    found.take_page(page(Someone(3).view(), GATE.view(), settings=None), NOW)
    chosen = (parse_prefix("192.168.4.0/24"),)
    found.routed = {"n3.mesh": chosen, "gate.mesh": (parse_prefix("192.168.9.0/24"),)}
    wanted, _ = found.wanted(None, is_connected=False)
    assert {x.name: x.routes for x in wanted.others}["n3.mesh"] == chosen
    assert parse_prefix("192.168.9.0/24") in wanted.contacts[0].addresses


def test_rights_that_differ_are_noticed(place: Place) -> None:
    found = member(place)
    assert found.new_rights() is None
    found.take_page(page(US.view()), NOW)
    assert found.new_rights() is None
    more = replace(US.view(2), groups=("admins", "laptops"))
    found.take_page(page(more, since=1, revision=2), NOW)
    assert found.new_rights() == ({"admins", "laptops"}, set())


def test_where_others_were_is_kept_while_they_are_there(place: Place) -> None:
    found = member(place)
    found.take_page(page(Someone(3).view()), NOW)
    found.save()
    found.found({key(3): AT, key(4): AT})
    again = Member(place, NOW)
    (other,) = again.wanted(None, is_connected=False)[0].others
    assert other.hint == AT
    assert again.places == {key(3): AT}


def test_the_port_is_that_of_the_last_time(place: Place) -> None:
    found = member(place)
    assert found.port == 0
    found.listens(40_123)
    found.listens(0)
    assert Member(place, NOW).port == 40_123
    for text in ("", "a", "99999", "-1"):
        (place.directory / "port").write_text(text)
        assert Member(place, NOW).port == 0


def test_the_end_is_put_down(place: Place) -> None:
    found = Member(place, NOW)
    found.end("the line was used by another machine")
    again = Member(place, NOW)
    assert again.membership.ended == "the line was used by another machine"
    assert again.membership.line is None


def test_papers_of_another_key_are_refused(place: Place) -> None:
    member(place)
    place.make(PrivateKey.generate(), place.membership())
    with pytest.raises(PlaceError, match="another key"):
        Member(place, NOW)
