"""The roll answers as the store would, whatever has happened, and keeps its bounds."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.stores import SETTINGS, Office, key
from wgpy.mesh import wire
from wgpy.mesh.messages import Directory
from wgpy.mesh.records import NodeState
from wgpy.mesh.roll import Roll, of_changes
from wgpy.mesh.settings import Coordinator
from wgpy.mesh.store import Store


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """A network in a file."""
    store = Store(str(tmp_path / "store"))
    store.create_network(replace(SETTINGS, approval=False))
    yield Office(store)
    store.close()


def follow(roll: Roll, office: Office) -> None:
    """Take all that there is."""
    more = True
    while more:
        changes = office.store.changes(roll.revision, office.now)
        lists = {}
        for issuer, _ in changes.crl:
            found = office.store.last_list(issuer)
            assert found is not None
            lists[issuer] = found[1]
        roll.follow(changes, lists)
        more = changes.more


def page(roll: Roll, since: int, now: float, limit: int = wire.MAX_PAGE) -> Directory:
    """What it hands out, read as a node does."""
    return wire.decode(Directory, roll.page(since, now, limit))


def whole(roll: Roll, now: float, limit: int) -> tuple[dict[str, int], int]:
    """Names with revisions after all pages from the beginning, and how many pages there were."""
    names: dict[str, int] = {}
    found = page(roll, 0, now, limit)
    pages = 1
    assert found.reset
    while True:
        for node in found.nodes:
            if node.state is NodeState.REMOVED:
                names.pop(node.name, None)
            else:
                names[node.name] = node.revision
        if not found.more:
            return names, pages
        assert len(found.nodes) + len(found.revocations) == limit
        found = page(roll, found.revision, now, limit)
        pages += 1
        assert not found.reset


def test_it_says_what_the_store_says(office: Office) -> None:
    """A hundred things at random; every page since every revision is the store's."""
    chance = random.Random(7)
    roll = Roll()
    follow(roll, office)
    present: list[str] = []
    for number in range(100):
        match chance.randrange(5):
            case 0 | 1:
                present.append(office.join(number).name)
            case 2 if present:
                office.store.remove(present.pop(chance.randrange(len(present))), office.now)
            case 3 if present:
                office.store.set_rights(chance.choice(present), ("laptops",), ())
            case 4:
                office.store.sign_list(b"issuer", office.now, lambda n, _: b"list %d" % n)
        if chance.random() < 0.4:
            follow(roll, office)
    follow(roll, office)
    for since in range(roll.revision + 1):
        assert roll.knows(since)
        changes = office.store.changes(since, office.now)
        lists = [office.store.last_list(x) for x, _ in changes.crl]
        expected = of_changes(changes, since, SETTINGS, [x[1] for x in lists if x is not None])
        got = page(roll, since, office.now)
        # Lists and settings may come once more than needed, for their revision is the page's.
        assert got == replace(expected, settings=got.settings, crl=got.crl)
        assert set(expected.crl) <= set(got.crl)
        assert changes.settings is None or got.settings == changes.settings
    assert {x.name for x in roll.nodes()} == set(present)


@pytest.mark.parametrize("limit", [1, 3, 500])
def test_pages_make_a_whole(office: Office, limit: int) -> None:
    for number in range(8):
        office.join(number)
    office.store.remove("n3.mesh", office.now)
    roll = Roll()
    follow(roll, office)
    names, pages = whole(roll, office.now, limit)
    assert names == {x.name: x.revision for x in office.store.nodes()}
    assert (pages > 1) == (limit < 8)


def test_who_waits_is_not_in_it(office: Office) -> None:
    office.store.change_settings(replace(SETTINGS, approval=True))
    office.join(1)
    roll = Roll()
    follow(roll, office)
    assert page(roll, 0, office.now).nodes == ()
    waiting = roll.node(key(1))
    assert waiting is not None
    assert waiting.state is NodeState.PENDING
    assert roll.named("n1.mesh") == waiting
    office.store.approve("n1.mesh", office.now, office.clerk)
    follow(roll, office)
    assert [x.name for x in page(roll, 0, office.now).nodes] == ["n1.mesh"]


def test_who_coordinates_is_said_again_when_that_changes(office: Office) -> None:
    office.join(1)
    roll = Roll()
    follow(roll, office)
    assert [x.coordinator for x in page(roll, 0, office.now).nodes] == [False]
    coordinator = Coordinator("n1.mesh", key(1), ("192.0.2.1:51820",))
    office.store.change_settings(replace(SETTINGS, coordinators=(coordinator,)))
    follow(roll, office)
    found = page(roll, 0, office.now)
    assert [x.coordinator for x in found.nodes] == [True]
    assert found.settings is not None
    assert found.settings.coordinators == (coordinator,)


def test_one_that_begins_later_tells_who_was_removed_before(office: Office) -> None:
    early = Roll()
    office.join(1)
    follow(early, office)
    since = early.revision
    office.join(2)
    office.store.remove("n1.mesh", office.now)
    late = Roll()
    follow(late, office)
    assert [x.name for x in page(late, since, office.now).nodes] == ["n2.mesh"]
    late.remember(office.store.nodes(removed=True))
    told = page(late, since, office.now)
    assert {(x.name, x.state) for x in told.nodes} == {
        ("n2.mesh", NodeState.ACTIVE),
        ("n1.mesh", NodeState.REMOVED),
    }
    # Who begins need not hear of it.
    assert [x.name for x in page(late, 0, office.now).nodes] == ["n2.mesh"]


def test_a_copy_that_was_put_back_begins_anew(office: Office) -> None:
    roll = Roll()
    office.join(1)
    follow(roll, office)
    since = roll.revision
    office.store.restored(office.now)
    follow(roll, office)
    assert not roll.knows(since)
    assert roll.knows(roll.revision)
    assert not roll.knows(roll.revision + 1)
    assert [x.name for x in page(roll, 0, office.now).nodes] == ["n1.mesh"]


def test_what_was_replaced_is_forgotten(office: Office) -> None:
    office.join(1)
    roll = Roll()
    for number in range(400):
        groups = ("laptops",) if number % 2 else ()
        office.store.set_rights("n1.mesh", groups, ())
        follow(roll, office)
    assert len(roll._entries) < 150
    assert len(page(roll, 0, office.now).nodes) == 1
