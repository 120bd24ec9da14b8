"""A network in its store: settings, invitations, joining. Each test on SQLite and on PostgreSQL."""

from dataclasses import replace

import pytest

from tests.support.certificates import NETWORK, NOW, Peer
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
from wgpy.ip import parse_prefix
from wgpy.mesh.addresses import ula
from wgpy.mesh.fields import RecordError
from wgpy.mesh.records import InviteRecord, NodeRecord, NodeState
from wgpy.mesh.settings import Coordinator
from wgpy.mesh.store import (
    Enrolment,
    NoNetwork,
    Refusal,
    Refused,
    Store,
    StoreError,
    WrongCertificate,
)

LAPTOP, DESK = "laptop.mesh", "desk.mesh"


def refused(reason: Refusal) -> pytest.RaisesExc[Refused]:
    """The answer is no, for this reason, in one line."""
    return pytest.RaisesExc(
        Refused, check=lambda error: error.reason is reason and "\n" not in str(error)
    )


# --- The network ---


def test_an_empty_store_has_no_network(store: Store) -> None:
    for ask in (
        store.settings,
        store.turn_secret,
        store.nodes,
        store.revision,
        lambda: store.changes(0, NOW),
        lambda: store.create_invite(InviteRecord("jti", NOW + DAY), NOW),
        lambda: store.enrol(Enrolment("jti", key(1), LAPTOP), NOW, refuse_to_issue),
    ):
        with pytest.raises(NoNetwork):
            ask()


def test_a_network_is_created_once_and_is_there_again(store: Store, url: str) -> None:
    settings = replace(
        SETTINGS,
        approval=True,
        validity=3600,
        stun=("stun.example:3478", "[fd00::1]:3479"),
        turn=("turns:turn.example:443",),
        coordinators=(Coordinator("one.mesh", key(1), ("192.0.2.1:51820", "[2001:db8::1]:51820")),),
    )
    store.create_network(settings, "a secret of TURN")
    with refused(Refusal.EXISTS):
        store.create_network(SETTINGS)
    store.close()
    again = Store(url)
    assert again.settings() == settings
    assert again.turn_secret() == "a secret of TURN"
    again.set_turn_secret(None)
    assert again.turn_secret() is None
    again.close()


def test_what_certificates_have_of_a_network_stays(office: Office) -> None:
    for other in (
        replace(SETTINGS, id=bytes(16)),
        replace(SETTINGS, domain="other"),
        replace(SETTINGS, range4=parse_prefix("10.8.0.0/24")),
        replace(SETTINGS, range6=ula(bytes(16))),
    ):
        with refused(Refusal.FIXED):
            office.store.change_settings(other)
    assert office.store.settings() == SETTINGS


def test_other_settings_are_a_change(office: Office) -> None:
    before = office.store.revision()
    office.store.change_settings(replace(SETTINGS, approval=True))
    assert office.store.settings().approval
    assert office.store.revision() == before + 1
    found = office.store.changes(before, NOW)
    assert found.settings == replace(SETTINGS, approval=True)
    office.store.change_settings(replace(SETTINGS, approval=True))
    assert office.store.revision() == before + 1


# --- Invitations ---


def test_invitations_are_listed_and_taken_back(office: Office) -> None:
    first = InviteRecord("one", NOW + DAY, name=LAPTOP, groups=("laptops",), used=1, revoked=True)
    office.store.create_invite(first, NOW)
    office.store.create_invite(InviteRecord("two", NOW + DAY, uses=9), NOW + 1)
    office.store.revoke_invite("two")
    assert office.store.invites() == (
        InviteRecord("one", NOW + DAY, LAPTOP, ("laptops",), created=NOW),
        InviteRecord("two", NOW + DAY, uses=9, created=NOW + 1, revoked=True),
    )
    with refused(Refusal.UNKNOWN_INVITE):
        office.store.revoke_invite("three")


def test_invitations_that_cannot_be_are_not_made(office: Office) -> None:
    office.join(1, LAPTOP)
    good = InviteRecord("one", NOW + DAY)
    office.store.create_invite(good, NOW)
    for invite, reason in (
        (good, Refusal.EXISTS),
        (replace(good, jti="two", expires=NOW), Refusal.EXPIRED),
        (replace(good, jti="two", name="laptop.other"), Refusal.BAD_NAME),
        (replace(good, jti="two", name=LAPTOP), Refusal.NAME_TAKEN),
    ):
        with refused(reason):
            office.store.create_invite(invite, NOW)
    for invite in (
        replace(good, jti=""),
        replace(good, jti="x" * 129),
        replace(good, jti="two", uses=0),
        replace(good, jti="two", uses=1001),
        replace(good, jti="two", name="Laptop.mesh"),
        replace(good, jti="two", groups=("Laptops",)),
        replace(good, jti="two", expires=float("nan")),
    ):
        with pytest.raises(RecordError):
            office.store.create_invite(invite, NOW)
    assert {x.jti for x in office.store.invites()} == {"jti-0", "one"}


def test_invitations_are_forgotten_long_after_their_end(office: Office) -> None:
    office.join(1)
    office.store.create_invite(InviteRecord("later", NOW + 92 * DAY), NOW + 90 * DAY)
    assert [x.jti for x in office.store.invites()] == ["jti-0", "later"]
    office.store.create_invite(InviteRecord("last", NOW + 93 * DAY), NOW + 91 * DAY + 1)
    assert [x.jti for x in office.store.invites()] == ["later", "last"]


# --- Joining ---


def test_who_joins_has_a_name_addresses_and_a_certificate_that_says_so(office: Office) -> None:
    jti = office.invite(groups=("laptops",))
    node = office.join(1, LAPTOP, jti)
    assert node == NodeRecord(
        name=LAPTOP,
        key=key(1),
        addresses=addresses(1),
        state=NodeState.ACTIVE,
        groups=("laptops",),
        generation=1,
        certificate=node.certificate,
        created=NOW,
        expires=NOW + 7 * DAY,
        revision=office.store.revision(),
    )
    found = leaf(node)
    assert (found.name, found.key, found.addresses) == (LAPTOP, key(1), addresses(1))
    assert (found.rights.network, found.rights.generation) == (NETWORK, 1)
    assert found.rights.groups == ("laptops",)
    assert office.store.node(LAPTOP) == office.store.node_of(key(1)) == node
    assert office.store.invites()[0].used == 1


def test_the_lowest_address_that_is_free_is_taken(office: Office) -> None:
    assert [office.join(n).addresses for n in (1, 2, 3)] == [addresses(n) for n in (1, 2, 3)]
    assert [x.name for x in office.store.nodes()] == ["n1.mesh", "n2.mesh", "n3.mesh"]


def test_the_same_key_may_ask_again_and_gets_the_same(office: Office) -> None:
    jti = office.invite()
    first = office.join(1, LAPTOP, jti)
    assert office.join(1, LAPTOP, jti) == first
    assert office.store.enrol(Enrolment(jti, key(1)), NOW, office.clerk) == first
    assert len(office.clerk.asked) == 1
    assert office.store.invites()[0].used == 1
    with refused(Refusal.SPENT):
        office.join(2, DESK, jti)


def test_an_invitation_is_for_as_many_keys_as_it_says(office: Office) -> None:
    jti = office.invite(uses=2)
    office.join(1, jti=jti)
    office.join(2, jti=jti)
    with refused(Refusal.SPENT):
        office.join(3, jti=jti)
    assert office.store.invites()[0].used == 2


def test_invitations_end(office: Office) -> None:
    jti = office.invite(uses=3)
    office.join(1, jti=jti)
    office.store.revoke_invite(jti)
    with refused(Refusal.REVOKED):
        office.join(2, jti=jti)
    # Who has joined with it may still have lost the answer.
    assert office.join(1, jti=jti).state is NodeState.ACTIVE
    office.clerk.now = NOW + DAY
    for number in (1, 2):
        with refused(Refusal.EXPIRED):
            office.join(number, jti=jti)
    with refused(Refusal.UNKNOWN_INVITE):
        office.join(1, jti="another")


def test_one_name_is_one_node_and_a_refusal_costs_nothing(office: Office) -> None:
    office.join(1, LAPTOP)
    jti = office.invite()
    with refused(Refusal.NAME_TAKEN):
        office.join(2, LAPTOP, jti)
    assert office.store.invites()[1].used == 0
    assert office.join(2, DESK, jti).addresses == addresses(2)


@pytest.mark.parametrize(
    "name",
    ["laptop", "mesh", ".mesh", "Laptop.mesh", "laptop.mesh.", "a b.mesh", "-.mesh", "x.other"],
)
def test_names_of_a_network_are_below_its_domain(office: Office, name: str) -> None:
    jti = office.invite()
    with refused(Refusal.BAD_NAME):
        office.join(1, name, jti)
    assert office.store.invites()[0].used == 0


def test_an_invitation_may_name_the_node(office: Office) -> None:
    jti = office.invite(name=LAPTOP)
    with refused(Refusal.BAD_NAME):
        office.join(1, DESK, jti)
    assert office.store.enrol(Enrolment(jti, key(1)), NOW, office.clerk).name == LAPTOP
    with refused(Refusal.NAME_WANTED):
        office.store.enrol(Enrolment(office.invite(), key(2)), NOW, office.clerk)


def test_one_key_is_one_node(office: Office) -> None:
    office.join(1, LAPTOP)
    with refused(Refusal.KEY_IN_USE):
        office.join(1, DESK)
    with refused(Refusal.KEY_IN_USE):
        office.join(1, jti=office.invite(name=DESK))
    # Another invitation for the same name gives what it says.
    node = office.join(1, LAPTOP, office.invite(groups=("admins",)))
    assert (node.groups, node.generation, leaf(node).rights.groups) == (("admins",), 2, ("admins",))


def test_when_the_range_is_full_nobody_else_comes_in(store: Store) -> None:
    store.create_network(replace(SETTINGS, range4=parse_prefix("10.7.0.0/29")))
    office = Office(store)
    for number in range(1, 7):
        office.join(number)
    with refused(Refusal.FULL):
        office.join(7)
    # What was removed is still promised, and then it is not.
    store.remove("n3.mesh", NOW)
    with refused(Refusal.FULL):
        office.join(7)
    office.clerk.now = NOW + 7 * DAY + 1
    assert office.join(7).addresses == addresses(3)


# --- Issuing ---


def test_when_nothing_is_issued_nothing_has_happened(office: Office) -> None:
    jti, before = office.invite(), office.store.revision()

    def fail(record: NodeRecord) -> bytes:
        raise KeyError(record.name)

    with pytest.raises(KeyError):
        office.store.enrol(Enrolment(jti, key(1), LAPTOP), NOW, fail)
    assert (office.store.nodes(), office.store.revision()) == ((), before)
    assert office.store.invites()[0].used == 0
    node = office.join(2, LAPTOP, jti)
    assert (node.generation, node.addresses) == (1, addresses(1))


@pytest.mark.parametrize(
    "change",
    [
        {"key": key(9)},
        {"name": DESK},
        {"addresses": addresses(2)},
        {"generation": 7},
        {"groups": ("admins",)},
        {"routes": (parse_prefix("192.168.4.0/24"),)},
        {"expires": NOW - 60},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_certificate_that_says_something_else_is_not_recorded(
    office: Office, change: dict[str, object]
) -> None:
    jti = office.invite()

    def wrong(record: NodeRecord) -> bytes:
        return office.clerk(replace(record, **change))  # type: ignore[arg-type]

    with pytest.raises(WrongCertificate):
        office.store.enrol(Enrolment(jti, key(1), LAPTOP), NOW, wrong)
    assert office.store.nodes() == ()
    assert office.store.invites()[0].used == 0


def test_what_is_no_certificate_is_not_recorded(office: Office) -> None:
    for der in (b"", b"\x30\x00", Peer().der()[:-1]):
        with pytest.raises(WrongCertificate):
            office.store.enrol(
                Enrolment(office.invite(), key(1), LAPTOP), NOW, lambda record, der=der: der
            )
    assert office.store.nodes() == ()


def test_a_coordinator_is_let_in_without_an_invitation(office: Office) -> None:
    office.store.change_settings(replace(SETTINGS, approval=True))
    node = office.store.add("one.mesh", key(1), ("servers",), NOW, office.clerk)
    assert (node.state, node.addresses, node.groups) == (
        NodeState.ACTIVE,
        addresses(1),
        ("servers",),
    )
    assert office.store.add("one.mesh", key(1), ("servers",), NOW, refuse_to_issue) == node
    for name, number, reason in (
        ("one.mesh", 2, Refusal.NAME_TAKEN),
        ("two.mesh", 1, Refusal.KEY_IN_USE),
        ("two.other", 2, Refusal.BAD_NAME),
    ):
        with refused(reason):
            office.store.add(name, key(number), (), NOW, refuse_to_issue)


# --- Approval ---


def test_where_an_operator_approves_a_node_waits(office: Office) -> None:
    office.store.change_settings(replace(SETTINGS, approval=True))
    jti = office.invite()
    ask = Enrolment(jti, key(1), LAPTOP)
    waiting = office.store.enrol(ask, NOW, refuse_to_issue)
    assert (waiting.state, waiting.certificate, waiting.expires) == (NodeState.PENDING, None, None)
    assert waiting.addresses == addresses(1)
    assert office.store.enrol(ask, NOW, refuse_to_issue) == waiting
    with refused(Refusal.PENDING):
        office.store.renew(LAPTOP, key(1), NOW, refuse_to_issue)
    with refused(Refusal.NAME_TAKEN):
        office.join(2, LAPTOP)
    node = office.store.approve(LAPTOP, NOW, office.clerk)
    assert (node.state, leaf(node).name) == (NodeState.ACTIVE, LAPTOP)
    assert office.store.approve(LAPTOP, NOW, refuse_to_issue) == node
    assert office.store.enrol(ask, NOW, refuse_to_issue) == node
    with refused(Refusal.UNKNOWN_NODE):
        office.store.approve(DESK, NOW, refuse_to_issue)


def test_who_waits_may_be_turned_away(office: Office) -> None:
    office.store.change_settings(replace(SETTINGS, approval=True))
    office.join(1, LAPTOP)
    before = office.store.revision()
    office.store.remove(LAPTOP, NOW)
    # It was promised nothing, so there is nothing to revoke and its address is free.
    assert office.store.revocations(NOW) == ()
    assert [x.state for x in office.store.changes(before, NOW).nodes] == [NodeState.REMOVED]
    with refused(Refusal.KEY_REMOVED):
        office.join(1, LAPTOP)
    assert office.join(2, DESK).addresses == addresses(1)


def test_who_waits_comes_in_when_approval_is_wanted_no_more(office: Office) -> None:
    office.store.change_settings(replace(SETTINGS, approval=True))
    jti = office.invite()
    office.join(1, LAPTOP, jti)
    office.store.change_settings(SETTINGS)
    assert office.join(1, LAPTOP, jti).state is NodeState.ACTIVE


def test_errors_are_one_kind() -> None:
    assert issubclass(Refused, StoreError)
    assert Clerk().now == NOW
