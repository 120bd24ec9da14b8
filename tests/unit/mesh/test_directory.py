"""A node's view of its network: what is believed, what is left out, and what is kept."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.certificates import NOW, ROOT, Authority, anchors, crl, signing_key
from tests.support.stores import key
from tests.support.views import Someone, page
from wgpy.identity.denylist import Denied
from wgpy.ip import parse_prefix
from wgpy.mesh.directory import Directory
from wgpy.mesh.messages import NodeView
from wgpy.mesh.records import NodeState, Revocation, RevocationKind

OWN = Someone(0)
LAPTOP = Someone(1)
PHONE = Someone(2)
OTHER_ROOT = Authority(name="another root", key=signing_key(7))


def directory() -> Directory:
    return Directory(OWN.key, anchors(ROOT))


def filled() -> Directory:
    found = directory()
    assert found.apply(page(OWN.view(), LAPTOP.view(), PHONE.view(), revision=5), NOW) is not None
    return found


def named(found: Directory) -> set[str]:
    return {node.name for node in found.nodes.values()}


def test_nodes_are_known_by_their_certificates() -> None:
    found = directory()
    news = found.apply(page(OWN.view(), LAPTOP.view(), PHONE.view(coordinator=True)), NOW)
    assert news is not None
    assert news.nodes
    assert named(found) == {"n1.mesh", "n2.mesh"}
    node = found.nodes[LAPTOP.key]
    assert node.addresses == LAPTOP.addresses
    assert node.groups == ("laptops",)
    assert [x.name for x in found.coordinators()] == ["n2.mesh"]
    assert found.me is not None
    assert found.me.name == "n0.mesh"
    assert found.counters == {}


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        (replace(LAPTOP.view(), name="phone.mesh"), "says-otherwise"),
        (replace(LAPTOP.view(), addresses=PHONE.addresses), "says-otherwise"),
        (replace(LAPTOP.view(), key=PHONE.key), "key-mismatch"),
        (replace(LAPTOP.view(), certificate=PHONE.peer().der()), "key-mismatch"),
        (replace(LAPTOP.view(), certificate=b"\x30\x03abc"), "malformed"),
        (Someone(1, authority=OTHER_ROOT).view(), "unknown-issuer"),
        (Someone(1, groups=("rulers",)).view(), "groups"),
    ],
)
def test_what_no_certificate_says_is_left_out(view: NodeView, reason: str) -> None:
    found = directory()
    assert found.apply(page(view, PHONE.view()), NOW) is not None
    assert named(found) == {"n2.mesh"}
    assert found.counters == {f"directory_{reason}": 1}


def test_a_lie_about_a_known_node_takes_it_out() -> None:
    found = filled()
    lie = replace(LAPTOP.view(6), addresses=(parse_prefix("10.7.0.77"),))
    news = found.apply(page(lie, since=5, revision=6), NOW)
    assert news is not None
    assert news.gone == {LAPTOP.key}
    assert named(found) == {"n2.mesh"}


def test_rights_of_the_view_count_no_more_than_the_certificate() -> None:
    routes = (parse_prefix("192.168.4.0/24"),)
    generous = replace(LAPTOP.view(), groups=("admins", "laptops"), routes=routes)
    found = directory()
    found.apply(page(generous), NOW)
    node = found.nodes[LAPTOP.key]
    assert (node.groups, node.routes) == (("laptops",), ())
    routed = Someone(2, routes=(*routes, parse_prefix("192.168.5.0/24")))
    found.apply(page(replace(routed.view(), routes=routes), since=1, revision=2), NOW)
    assert found.nodes[PHONE.key].routes == routes


def test_nobody_takes_the_place_of_another() -> None:
    found = filled()
    thief = Someone(3, name="n1.mesh")
    ours = Someone(4, name="n0.mesh")
    assert found.apply(page(thief.view(), ours.view(), since=5, revision=6), NOW) is not None
    assert found.nodes.keys() == {LAPTOP.key, PHONE.key}
    assert found.counters == {"directory_taken": 2}


def test_a_later_generation_has_the_name() -> None:
    found = filled()
    again = Someone(3, name="n1.mesh", generation=2)
    news = found.apply(page(again.view(), since=5, revision=6), NOW)
    assert news is not None
    assert news.gone == {LAPTOP.key}
    assert found.nodes.keys() == {again.key, PHONE.key}


def test_we_have_our_own_place() -> None:
    found = directory()
    thief = Someone(3, name="n0.mesh")
    found.apply(page(thief.view(), LAPTOP.view(), OWN.view()), NOW)
    assert found.nodes.keys() == {LAPTOP.key}


def test_a_certificate_that_has_ended_is_still_known() -> None:
    """Whoever was away, and everybody while no coordinator answers."""
    found = directory()
    found.apply(page(LAPTOP.view()), NOW + 30 * 86_400)
    assert named(found) == {"n1.mesh"}


@pytest.mark.parametrize("state", [NodeState.REMOVED, NodeState.PENDING])
def test_who_is_not_active_is_none_of_ours(state: NodeState) -> None:
    found = filled()
    gone = replace(LAPTOP.view(6), state=state, certificate=None)
    news = found.apply(page(gone, since=5, revision=6), NOW)
    assert news is not None
    assert (news.nodes, news.gone) == (True, {LAPTOP.key})


def test_pages_follow_on_each_other() -> None:
    found = filled()
    assert found.apply(page(since=6, revision=7), NOW) is None
    assert found.apply(page(since=3, revision=4), NOW) is None
    # One that begins before what we know, and ends after it, is the same again and more.
    assert found.apply(page(Someone(3).view(), since=3, revision=7), NOW) is not None
    assert found.revision == 7
    assert found.counters == {"directory_out_of_turn": 2}


def test_a_reset_in_pages_drops_nobody_meanwhile() -> None:
    found = filled()
    first = found.apply(page(PHONE.view(), revision=2, reset=True, more=True), NOW)
    assert first is not None
    assert not found.is_whole
    assert named(found) == {"n1.mesh", "n2.mesh"}
    last = found.apply(page(Someone(3).view(), since=2, revision=3), NOW)
    assert last is not None
    assert found.is_whole
    assert named(found) == {"n2.mesh", "n3.mesh"}
    assert last.gone == {LAPTOP.key}


def revocation(kind: RevocationKind, value: str, generation: int = 0) -> Revocation:
    return Revocation(kind, value, NOW, NOW + 86_400, generation=generation, revision=6)


@pytest.mark.parametrize(
    "what",
    [
        revocation(RevocationKind.KEY, LAPTOP.key.base64()),
        revocation(RevocationKind.NAME, "n1.mesh", 1),
        replace(
            revocation(RevocationKind.SERIAL, f"{LAPTOP.peer().serial:x}"),
            issuer=anchors(ROOT).anchors[0].spki,
        ),
    ],
)
def test_the_revoked_are_gone_and_stay_so(what: Revocation) -> None:
    found = filled()
    news = found.apply(page(since=5, revision=6, revocations=(what,)), NOW)
    assert news is not None
    assert news.gone == {LAPTOP.key}
    found.apply(page(LAPTOP.view(7), since=6, revision=7), NOW)
    assert named(found) == {"n2.mesh"}
    if what.kind is RevocationKind.NAME:
        fresh = Someone(1, generation=2)
        found.apply(page(fresh.view(8), since=7, revision=8), NOW)
        assert named(found) == {"n1.mesh", "n2.mesh"}


def test_lists_are_verified_and_only_go_forward() -> None:
    found = filled()
    denied = Denied(keys=frozenset([LAPTOP.key]))
    good = crl(number=2, denied=denied, pem=False)
    news = found.apply(page(since=5, revision=6, crl=(good,)), NOW)
    assert news is not None
    assert news.lists == {anchors(ROOT).anchors[0].spki: good}
    assert news.gone == {LAPTOP.key}
    older = crl(number=1, pem=False)
    forged = crl(number=3, authority=replace(ROOT, key=signing_key(9)), pem=False)
    foreign = crl(number=3, authority=OTHER_ROOT, pem=False)
    news = found.apply(page(since=6, revision=7, crl=(older, forged, foreign, b"\x30\x00")), NOW)
    assert news is not None
    assert news.lists == {}
    # After a restart the list is on the disk, and counts.
    again = Directory(OWN.key, anchors(ROOT), [good])
    again.apply(page(LAPTOP.view(), PHONE.view()), NOW)
    assert named(again) == {"n2.mesh"}


def test_new_anchors_are_asked_about_everybody() -> None:
    found = Directory(OWN.key, anchors(ROOT, OTHER_ROOT))
    found.apply(page(LAPTOP.view(), Someone(2, authority=OTHER_ROOT).view()), NOW)
    assert named(found) == {"n1.mesh", "n2.mesh"}
    found.set_anchors(anchors(OTHER_ROOT))
    assert named(found) == {"n2.mesh"}


@pytest.fixture(scope="module")
def many() -> Directory:
    found = directory()
    views = [Someone(number).view(number) for number in range(1100)]
    for start in range(0, 1100, 500):
        found.apply(page(*views[start : start + 500], since=start, revision=start + 500), NOW)
    return found


def test_it_is_the_same_after_a_restart(many: Directory) -> None:
    what = revocation(RevocationKind.KEY, key(5000).base64())
    many.apply(page(since=many.revision, revision=2000, revocations=(what,)), NOW)
    text = many.text()
    assert len(text.splitlines()) == 3
    again = directory()
    assert again.load(text, NOW)
    assert again.nodes == many.nodes
    assert (again.me, again.settings, again.revision) == (many.me, many.settings, 2000)
    assert again.text() == text


def test_an_empty_one_is_kept_too() -> None:
    again = directory()
    assert again.load(directory().text(), NOW)
    assert again.nodes == {}


@pytest.mark.parametrize("cut", [1, 100, -40, -1])
def test_one_that_was_cut_off_is_not_whole(cut: int) -> None:
    text = filled().text()
    assert not directory().load(text[:cut], NOW) or text[:cut] == text.rstrip()


@given(st.binary(max_size=300))
def test_whatever_is_on_the_disk_raises_nothing(text: bytes) -> None:
    assert not directory().load(text, NOW)


@given(st.data())
def test_a_changed_file_raises_nothing(data: st.DataObject) -> None:
    text = bytearray(FILLED)
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    found = directory()
    found.load(bytes(text), NOW)
    # Whatever it says now, who is in it has a certificate that says the same.
    for node in found.nodes.values():
        assert node.claims.name == node.name
        assert node.claims.key == node.key


FILLED = filled().text()
