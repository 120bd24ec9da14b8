"""A store against a naive one in memory: nodes come, renew, go and come again, in any order."""

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.support.certificates import NOW
from tests.support.stores import DAY, SETTINGS, Clerk, addresses, key, leaf
from wgpy.ip import Prefix, parse_prefix
from wgpy.mesh.records import InviteRecord, NodeRecord, NodeState, RevocationKind
from wgpy.mesh.store import Enrolment, Refusal, Refused, Store

# Few of each, so that they meet; a range for six nodes, so that it is full now and then.
KEYS = st.integers(0, 7)
NAMES = st.sampled_from(["a.mesh", "b.mesh", "c.mesh", "d.mesh"])
RANGE = parse_prefix("10.7.0.0/29")
VALIDITY = 7 * DAY


@dataclass
class Kept:
    """A node as the naive store has it."""

    name: str
    number: int
    state: str = "pending"
    generation: int = 0
    # The ends of all certificates of this key.
    ends: list[float] = field(default_factory=list)
    newest: float = 0.0
    groups: tuple[str, ...] = ()
    said: tuple[str, ...] = ()


@dataclass
class Invited:
    uses: int
    expires: float
    name: str | None
    keys: set[int] = field(default_factory=set)
    revoked: bool = False


class NaiveError(Exception):
    """The naive store refuses, for this reason."""


class Model:
    """Lists and loops; the answers are what the rules say, one after the other."""

    def __init__(self) -> None:
        self.now = NOW
        self.nodes: dict[int, Kept] = {}
        self.invites: list[Invited] = []
        self.generations: dict[str, int] = {}
        self.approval = False
        # Each name's numbers, and until when other names must not have them.
        self.promised: dict[int, tuple[str, float]] = {}

    def live(self) -> dict[str, int]:
        return {x.name: k for k, x in self.nodes.items() if x.state != "removed"}

    def enrol(self, at: int, who: int, name: str | None) -> Kept:
        node = self.nodes.get(who)
        if node is not None and node.state == "removed":
            raise NaiveError(Refusal.KEY_REMOVED)
        invite = self.invites[at]
        if self.now >= invite.expires:
            raise NaiveError(Refusal.EXPIRED)
        first = who not in invite.keys
        if first and invite.revoked:
            raise NaiveError(Refusal.REVOKED)
        if first and len(invite.keys) >= invite.uses:
            raise NaiveError(Refusal.SPENT)
        if node is None:
            if invite.name is not None and name not in (None, invite.name):
                raise NaiveError(Refusal.BAD_NAME)
            wanted = invite.name or name
            if wanted is None:
                raise NaiveError(Refusal.NAME_WANTED)
            if wanted in self.live():
                raise NaiveError(Refusal.NAME_TAKEN)
            node = Kept(wanted, self.number(wanted))
        else:
            wanted = invite.name if first and invite.name else name
            if wanted not in (None, node.name):
                raise NaiveError(Refusal.KEY_IN_USE)
        self.nodes[who] = node
        invite.keys.add(who)
        if first:
            node.groups = ()
        if not (self.approval and node.state == "pending"):
            self.issue(node)
        return node

    def number(self, name: str) -> int:
        """The one that was promised to the name, or the lowest that nobody else was promised."""
        held = {x.number for x in self.nodes.values() if x.state != "removed"}
        for number, (owner, until) in self.promised.items():
            if owner == name and until >= self.now and number not in held:
                return number
        for number in range(1, 7):
            promised = self.promised.get(number, ("", 0.0))[1] >= self.now
            if number not in held and not promised:
                return number
        raise NaiveError(Refusal.FULL)

    def issue(self, node: Kept, *, force: bool = False) -> None:
        fresh = node.ends and self.now < node.newest - 300 + 0.1 * (VALIDITY + 300)
        if fresh and node.said == node.groups and not force:
            return
        self.generations[node.name] = self.generations.get(node.name, 0) + 1
        node.generation = self.generations[node.name]
        node.state, node.newest, node.said = "active", self.now, node.groups
        node.ends.append(self.now + VALIDITY)

    def of(self, name: str) -> int:
        if name not in self.live():
            raise NaiveError(Refusal.UNKNOWN_NODE)
        return self.live()[name]

    def renew(self, name: str, who: int, force: bool) -> Kept:
        mine = self.nodes.get(who)
        if mine is not None and mine.name == name and mine.state == "removed":
            raise NaiveError(Refusal.KEY_REMOVED)
        if self.of(name) != who:
            raise NaiveError(Refusal.NOT_THIS_KEY)
        node = self.nodes[who]
        if node.state == "pending":
            raise NaiveError(Refusal.PENDING)
        self.issue(node, force=force)
        return node

    def remove(self, name: str) -> None:
        node = self.nodes[self.of(name)]
        node.state = "removed"
        # Also what was issued to this name for another key before.
        ends = [e for x in self.nodes.values() if x.name == name for e in x.ends if e >= self.now]
        if ends:
            self.promised[node.number] = (name, max(ends))


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(str(Path(self.folder.name) / "store"))
        self.model, self.clerk = Model(), Clerk()
        self.known: dict[str, NodeRecord] = {}
        self.at = 0

    @initialize()
    def begin(self) -> None:
        self.store.create_network(replace(SETTINGS, range4=RANGE))

    def both(self, theirs, ours) -> None:
        """The same answer from both: a record, or a refusal with the same reason."""
        try:
            wanted = ours()
        except NaiveError as error:
            [reason] = error.args
            with pytest.raises(Refused) as refused:
                theirs()
            assert refused.value.reason is reason
            return
        record = theirs()
        if wanted is not None:
            assert record.name == wanted.name
            assert record.addresses == addresses(wanted.number)
            assert record.state.value == wanted.state
            assert record.generation == wanted.generation

    @rule(uses=st.integers(1, 3), name=st.none() | NAMES, days=st.sampled_from([1, 30]))
    def invite(self, uses: int, name: str | None, days: int) -> None:
        if name in self.model.live():
            name = None
        expires = self.model.now + days * DAY
        self.model.invites.append(Invited(uses, expires, name))
        jti = str(len(self.model.invites) - 1)
        self.store.create_invite(InviteRecord(jti, expires, name, uses=uses), self.model.now)

    @rule(data=st.data(), who=KEYS, name=st.none() | NAMES)
    def enrol(self, data, who: int, name: str | None) -> None:
        if not self.model.invites:
            return
        at = data.draw(st.integers(0, len(self.model.invites) - 1))
        self.both(
            lambda: self.store.enrol(Enrolment(str(at), key(who), name), self.now, self.clerk),
            lambda: self.model.enrol(at, who, name),
        )

    @rule(name=NAMES)
    def join(self, name: str) -> None:
        """With a new key and an invitation of its own: what usually succeeds."""
        if name not in self.model.live():
            who = 100 + len(self.model.nodes)
            self.invite(1, None, 1)
            at = len(self.model.invites) - 1
            self.both(
                lambda: self.store.enrol(Enrolment(str(at), key(who), name), self.now, self.clerk),
                lambda: self.model.enrol(at, who, name),
            )

    @rule(data=st.data())
    def take_an_invitation_back(self, data) -> None:
        if self.model.invites:
            at = data.draw(st.integers(0, len(self.model.invites) - 1))
            self.model.invites[at].revoked = True
            self.store.revoke_invite(str(at))

    @rule(name=NAMES, who=KEYS, force=st.booleans())
    def renew(self, name: str, who: int, force: bool) -> None:
        self.both(
            lambda: self.store.renew(name, key(who), self.now, self.clerk, force=force),
            lambda: self.model.renew(name, who, force),
        )

    @rule(name=NAMES)
    def renew_by_the_right_key(self, name: str) -> None:
        who = self.model.live().get(name)
        if who is not None:
            self.renew(name, who, False)

    @rule(name=NAMES)
    def approve(self, name: str) -> None:
        def ours() -> Kept:
            node = self.model.nodes[self.model.of(name)]
            if node.state == "pending":
                self.model.issue(node)
            return node

        self.both(lambda: self.store.approve(name, self.now, self.clerk), ours)

    @rule(name=NAMES, groups=st.sampled_from([(), ("admins",)]))
    def set_rights(self, name: str, groups: tuple[str, ...]) -> None:
        def ours() -> None:
            self.model.nodes[self.model.of(name)].groups = groups

        self.both(lambda: self.store.set_rights(name, groups, ()), ours)

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        self.both(lambda: self.store.remove(name, self.now), lambda: self.model.remove(name))

    @rule(on=st.booleans())
    def want_approval(self, on: bool) -> None:
        self.model.approval = on
        self.store.change_settings(replace(SETTINGS, range4=RANGE, approval=on))

    @rule(days=st.sampled_from([0.01, 0.5, 3, 8]))
    def wait(self, days: float) -> None:
        self.model.now += days * DAY
        self.clerk.now = self.model.now

    @rule(limit=st.integers(1, 4))
    def follow(self, limit: int) -> None:
        """Pages until there are no more: then what is known is what there is."""
        for _ in range(1_000):
            page = self.store.changes(self.at, self.now, limit)
            assert not page.reset
            assert len(page.nodes) + len(page.revocations) <= limit
            self.at = page.revision
            for node in page.nodes:
                self.known[node.key.base64()] = node
            if not page.more:
                break
        live = {x.name: x for x in self.known.values() if x.state is not NodeState.REMOVED}
        assert live == {x.name: x for x in self.store.nodes()}

    @property
    def now(self) -> float:
        return self.model.now

    @invariant()
    def nobody_has_what_is_anothers(self) -> None:
        """Of live nodes, and of every certificate that is still valid and was not revoked."""
        nodes = self.store.nodes()
        assert {x.name for x in nodes} == set(self.model.live())
        assert len({x.addresses for x in nodes}) == len(nodes)
        for name, who in self.model.live().items():
            [node] = [x for x in nodes if x.name == name]
            assert node.key == key(who)
            assert (node.certificate is None) == (node.state is NodeState.PENDING)

    @invariant()
    def an_address_has_one_name_while_a_certificate_says_so(self) -> None:
        owners: dict[tuple[Prefix, ...], set[str]] = {}
        for record in self.clerk.asked:
            assert record.expires is not None
            if record.expires >= self.now:
                owners.setdefault(record.addresses, set()).add(record.name)
        assert all(len(names) == 1 for names in owners.values()), owners

    @invariant()
    def generations_are_never_given_twice(self) -> None:
        given = [(x.name, x.generation) for x in self.clerk.asked]
        assert len(set(given)) == len(given)

    @invariant()
    def who_was_removed_is_revoked(self) -> None:
        revoked = self.store.revocations(self.now)
        keys = {x.value for x in revoked if x.kind is RevocationKind.KEY}
        names = {x.value: x.generation for x in revoked if x.kind is RevocationKind.NAME}
        for who, node in self.model.nodes.items():
            valid = any(end >= self.now for end in node.ends)
            if node.state == "removed" and valid:
                assert key(who).base64() in keys
                assert names[node.name] >= node.generation
            if node.state != "removed":
                assert key(who).base64() not in keys
                assert names.get(node.name, 0) < node.generation or node.generation == 0

    @invariant()
    def invitations_are_counted(self) -> None:
        used = {x.jti: x.used for x in self.store.invites()}
        for at, invite in enumerate(self.model.invites):
            # Long after its end it is forgotten.
            assert used.get(str(at), len(invite.keys)) == len(invite.keys)

    def teardown(self) -> None:
        for record in self.store.nodes(removed=True):
            if record.certificate is not None:
                assert leaf(record).key == record.key
        self.store.close()
        self.folder.cleanup()


TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
