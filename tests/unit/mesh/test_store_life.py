"""What becomes of nodes: renewal, rights, removal; and how others follow. On both databases."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.support.certificates import NOW, Authority, signing_key
from tests.support.stores import (
    DAY,
    SETTINGS,
    Clerk,
    Office,
    addresses,
    key,
    leaf,
    refuse_to_issue,
)
from wgpy.identity.profile import serial_text
from wgpy.ip import parse_prefix
from wgpy.mesh.fields import RecordError
from wgpy.mesh.records import NodeState, Revocation, RevocationKind
from wgpy.mesh.store import Enrolment, NotThisKey, Refusal, Refused

LAPTOP, DESK = "laptop.mesh", "desk.mesh"
LAN = parse_prefix("192.168.4.0/24")


def reason_of(error: pytest.ExceptionInfo[Refused]) -> Refusal:
    return error.value.reason


# --- Renewal ---


def test_a_renewed_certificate_has_the_next_generation(office: Office) -> None:
    first = office.join(1, LAPTOP)
    office.clerk.now = NOW + 5 * DAY
    node = office.store.renew(LAPTOP, key(1), office.now, office.clerk)
    assert node == replace(
        first,
        generation=2,
        expires=NOW + 12 * DAY,
        certificate=node.certificate,
        revision=first.revision + 1,
    )
    assert leaf(node).rights.generation == 2
    assert office.store.node(LAPTOP) == node


def test_a_name_is_renewed_for_its_own_key_only(office: Office) -> None:
    office.join(1, LAPTOP)
    office.join(2, DESK)
    for number in (2, 3):
        with pytest.raises(NotThisKey) as error:
            office.store.renew(LAPTOP, key(number), NOW, refuse_to_issue)
        assert reason_of(error) is Refusal.NOT_THIS_KEY
    with pytest.raises(Refused) as unknown:
        office.store.renew("no.mesh", key(1), NOW, refuse_to_issue)
    assert reason_of(unknown) is Refusal.UNKNOWN_NODE


def test_asking_in_vain_issues_nothing(office: Office) -> None:
    """A tenth of seven days, from five minutes before the certificate was made."""
    node = office.join(1, LAPTOP)
    fresh = NOW - 300 + 0.1 * (7 * DAY + 300)
    assert office.store.renew(LAPTOP, key(1), fresh - 1, refuse_to_issue) == node
    assert office.store.renew(LAPTOP, key(1), fresh - 1, office.clerk, force=True).generation == 2
    office.clerk.now = fresh + DAY
    assert office.store.renew(LAPTOP, key(1), office.now, office.clerk).generation == 3


def test_other_rights_are_in_the_next_certificate_which_may_come_at_once(office: Office) -> None:
    first = office.join(1, LAPTOP)
    offered = office.store.offer(key(1), (LAN,))
    assert (offered.offers, offered.routes) == ((LAN,), ())
    assert office.store.renew(LAPTOP, key(1), NOW, refuse_to_issue) == offered
    granted = office.store.set_rights(LAPTOP, ("admins", "laptops"), (LAN,))
    assert granted.certificate == first.certificate
    node = office.store.renew(LAPTOP, key(1), NOW, office.clerk)
    assert (leaf(node).rights.groups, leaf(node).rights.prefixes) == (("admins", "laptops"), (LAN,))
    before = office.store.revision()
    assert office.store.set_rights(LAPTOP, ("admins", "laptops"), (LAN,)) == node
    assert office.store.revision() == before


def test_rights_that_no_certificate_can_have_are_refused(office: Office) -> None:
    node = office.join(1, LAPTOP)
    for groups, routes in (
        (("Admins",), ()),
        (("a", "a"), ()),
        (tuple(f"g{n}" for n in range(17)), ()),
        ((), (LAN, LAN)),
        ((), tuple(parse_prefix(f"192.168.{n}.0/24") for n in range(17))),
    ):
        with pytest.raises(RecordError):
            office.store.set_rights(LAPTOP, groups, routes)
    with pytest.raises(RecordError):
        office.store.offer(key(1), (LAN, LAN))
    with pytest.raises(Refused):
        office.store.set_rights(DESK, (), ())
    with pytest.raises(Refused):
        office.store.offer(key(2), ())
    assert office.store.node(LAPTOP) == node


# --- Removal ---


def test_a_removed_node_is_revoked_by_key_by_serial_and_by_name(office: Office) -> None:
    first = office.join(1, LAPTOP)
    office.clerk.now = NOW + 5 * DAY
    second = office.store.renew(LAPTOP, key(1), office.now, office.clerk)
    gone = office.store.remove(LAPTOP, office.now)
    assert (gone.state, gone.certificate) == (NodeState.REMOVED, second.certificate)
    end = NOW + 12 * DAY
    assert gone.expires == end
    issuer = leaf(second).issuer_id
    found = {(x.kind, x.value): x for x in office.store.revocations(office.now)}
    assert found == {
        (x.kind, x.value): replace(x, revision=found[x.kind, x.value].revision)
        for x in (
            Revocation(RevocationKind.KEY, key(1).base64(), office.now, end),
            Revocation(RevocationKind.NAME, LAPTOP, office.now, end, generation=2),
            *(
                Revocation(
                    RevocationKind.SERIAL,
                    serial_text(leaf(x).certificate.serial_number),
                    office.now,
                    leaf(x).not_after,
                    issuer=issuer,
                )
                for x in (first, second)
            ),
        )
    }
    assert office.store.node(LAPTOP) is None
    assert office.store.node_of(key(1)) == gone
    assert office.store.nodes() == ()
    assert office.store.nodes(removed=True) == (gone,)
    # Until the certificates end by themselves.
    assert office.store.revocations(end + 1) == ()


def test_a_removed_key_never_comes_in_again(office: Office) -> None:
    jti = office.invite()
    office.join(1, LAPTOP, jti)
    office.store.leave(key(1), NOW)
    for ask in (
        lambda: office.store.enrol(Enrolment(jti, key(1), LAPTOP), NOW, refuse_to_issue),
        lambda: office.join(1, DESK),
        lambda: office.store.add(DESK, key(1), (), NOW, refuse_to_issue),
        lambda: office.store.renew(LAPTOP, key(1), NOW, refuse_to_issue),
        lambda: office.store.leave(key(1), NOW),
        lambda: office.store.offer(key(1), ()),
    ):
        with pytest.raises(Refused) as error:
            ask()
        assert reason_of(error) is Refusal.KEY_REMOVED
    for ask in (
        lambda: office.store.leave(key(2), NOW),
        lambda: office.store.remove(LAPTOP, NOW),
    ):
        with pytest.raises(Refused) as error:
            ask()
        assert reason_of(error) is Refusal.UNKNOWN_NODE


def test_the_name_may_come_again_with_another_key(office: Office) -> None:
    """Above the generation that is revoked, and at the same address."""
    office.join(1, LAPTOP)
    office.join(2, DESK)
    office.store.remove(LAPTOP, NOW)
    node = office.join(3, LAPTOP)
    assert (node.generation, node.addresses) == (2, addresses(1))
    [named] = [x for x in office.store.revocations(NOW) if x.kind is RevocationKind.NAME]
    assert named.generation == 1
    office.store.remove(LAPTOP, NOW)
    [named] = [x for x in office.store.revocations(NOW) if x.kind is RevocationKind.NAME]
    assert named.generation == 2


def test_an_address_is_not_given_away_while_a_certificate_has_it(office: Office) -> None:
    office.join(1, LAPTOP)
    office.clerk.now = NOW + DAY
    office.store.renew(LAPTOP, key(1), office.now, office.clerk)
    office.store.remove(LAPTOP, office.now)
    office.clerk.now = NOW + 8 * DAY - 1
    assert office.join(2).addresses == addresses(2)
    office.clerk.now = NOW + 8 * DAY + 1
    assert office.join(3).addresses == addresses(1)
    # And who has an old certificate keeps the address, since it may come back.
    office.clerk.now = NOW + 30 * DAY
    assert office.join(4).addresses == addresses(3)


# --- Seen ---


def test_when_nodes_were_seen_is_no_change(office: Office) -> None:
    office.join(1)
    office.join(2)
    before = office.store.revision()
    office.store.touch({key(1): NOW + 5, key(9): NOW})
    office.store.touch({key(1): NOW + 3, key(2): NOW + 4})
    assert [x.last_seen for x in office.store.nodes()] == [NOW + 5, NOW + 4]
    assert office.store.revision() == before
    # What else happens to a node leaves it as it is.
    assert office.store.offer(key(1), (LAN,)).last_seen == NOW + 5
    assert [x.last_seen for x in office.store.nodes()] == [NOW + 5, NOW + 4]
    for at in (-1.0, float("nan"), 1e18):
        with pytest.raises(RecordError):
            office.store.touch({key(1): at})


# --- Following ---


def test_changes_come_in_their_order_and_in_pages(office: Office) -> None:
    start = office.store.revision()
    office.join(1)
    office.join(2)
    office.store.offer(key(1), (LAN,))
    office.store.remove("n2.mesh", NOW)
    whole = office.store.changes(start, NOW)
    assert [x.name for x in whole.nodes] == ["n1.mesh", "n2.mesh"]
    assert [x.state for x in whole.nodes] == [NodeState.ACTIVE, NodeState.REMOVED]
    assert len(whole.revocations) == 3
    assert (whole.revision, whole.more, whole.settings) == (office.store.revision(), False, None)
    at, found = start, []
    for _ in range(5):
        page = office.store.changes(at, NOW, limit=1)
        found += [*page.nodes, *page.revocations]
        assert page.more == (len(found) < 5)
        assert at < page.revision
        at = page.revision
    assert at == whole.revision
    assert found == sorted([*whole.nodes, *whole.revocations], key=lambda x: x.revision)
    nothing = office.store.changes(at, NOW)
    assert (nothing.revision, nothing.nodes, nothing.revocations) == (at, (), ())


def test_who_knows_nothing_is_told_what_is(office: Office) -> None:
    office.join(1)
    office.join(2)
    office.store.remove("n1.mesh", NOW)
    found = office.store.changes(0, NOW)
    assert [x.name for x in found.nodes] == ["n2.mesh"]
    assert found.settings == SETTINGS
    assert len(found.revocations) == 3
    assert office.store.changes(0, NOW + 8 * DAY).revocations == ()


def test_who_knows_more_than_there_is_begins_anew(office: Office) -> None:
    office.join(1)
    found = office.store.changes(1_000, NOW)
    assert found.reset
    assert [x.name for x in found.nodes] == ["n1.mesh"]
    assert found.revision == office.store.revision()
    assert not office.store.changes(found.revision, NOW).reset


# --- Lists ---


def test_a_list_has_its_issuers_serials_and_the_next_number(office: Office) -> None:
    other = Clerk(authority=Authority(key=signing_key(2)))
    one = leaf(office.join(1)).issuer_id
    two = leaf(office.store.add("n2.mesh", key(2), (), NOW, other)).issuer_id
    office.store.remove("n1.mesh", NOW)
    office.store.remove("n2.mesh", NOW)
    seen: list[tuple[int, list[str]]] = []

    def sign(number: int, revocations: Sequence[Revocation]) -> bytes:
        kinds = [x.kind.value for x in revocations]
        seen.append((number, sorted(kinds)))
        return b"list %d" % number

    assert office.store.last_list(one) is None
    before = office.store.revision()
    assert office.store.sign_list(one, NOW, sign) == (1, b"list 1")
    assert office.store.sign_list(one, NOW, sign) == (2, b"list 2")
    assert office.store.sign_list(two, NOW, sign) == (1, b"list 1")
    assert seen[0] == (1, ["key", "key", "name", "name", "serial"])
    assert office.store.last_list(one) == (2, b"list 2")
    assert set(office.store.changes(before, NOW).crl) == {(one, 2), (two, 1)}

    def fail(number: int, _: Sequence[Revocation]) -> bytes:
        raise KeyError(number)

    with pytest.raises(KeyError):
        office.store.sign_list(one, NOW, fail)
    assert office.store.last_list(one) == (2, b"list 2")
    assert office.store.sign_list(one, NOW, sign)[0] == 3


# --- After a copy was put back ---


def test_after_a_copy_was_put_back_nothing_is_promised_twice(office: Office) -> None:
    issuer = leaf(office.join(1)).issuer_id
    open_to_all = office.invite(uses=9)
    office.join(2, jti=open_to_all)
    office.store.remove("n1.mesh", NOW)
    office.store.sign_list(issuer, NOW, lambda number, _: b"list")
    old = office.store.changes(0, NOW).revision
    office.store.restored(NOW, joined=3)
    assert office.store.changes(old, NOW).reset
    assert office.store.changes(old + 10, NOW).reset
    assert not office.store.changes(office.store.revision(), NOW).reset
    node = office.store.renew("n2.mesh", key(2), NOW, office.clerk, force=True)
    assert node.generation > 1_000
    assert office.store.sign_list(issuer, NOW, lambda number, _: b"list")[0] > 1_000
    with pytest.raises(Refused) as error:
        office.join(7, jti=open_to_all)
    assert reason_of(error) is Refusal.REVOKED
    assert office.join(2, jti=open_to_all) == node
    # Three may have come since the copy was made: they had the lowest free addresses.
    assert office.join(3).addresses == addresses(6)
    assert office.join(1001, "n1.mesh").addresses == addresses(1)
    office.clerk.now = NOW + 7 * DAY + 1
    assert office.join(4).addresses == addresses(3)
