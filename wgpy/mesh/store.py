"""The store of one network: every method is one transaction, and what it returns is on disk.

    store = Store("/var/lib/wgpy/wg0.mesh/store")       # or postgresql://USER@HOST/DATABASE
    store.create_network(settings)
    store.create_invite(InviteRecord(jti, expires=..., groups=("laptops",)), now)
    node = store.enrol(Enrolment(jti, key, "laptop.mesh"), now, issue)

Any thread may call, and several coordinators may share a database. `now` is the wall clock, in
seconds since 1970. Each method may raise StoreUnavailable, and then nothing is acknowledged and the
next call tries afresh; what else is raised stands with it. All of it is StoreError, one line each.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Select, delete, func, insert, or_, select, update

from wgpy.ip import Prefix
from wgpy.keys import PublicKey
from wgpy.mesh import store_changes, store_nodes, store_revoke, store_rows
from wgpy.mesh.fields import MAX_TIME, RecordError
from wgpy.mesh.records import (
    InviteRecord,
    NodeRecord,
    NodeState,
    Revocation,
    invite_from_json,
    invite_to_json,
    node_from_json,
    node_to_json,
)
from wgpy.mesh.settings import NetworkSettings
from wgpy.mesh.store_changes import PAGE, Changes
from wgpy.mesh.store_engine import Database, StoreError, StoreUnavailable, parse_url
from wgpy.mesh.store_migrations import SchemaError, migrate
from wgpy.mesh.store_nodes import Enrolment, Issue, WrongCertificate
from wgpy.mesh.store_notify import Bell, Hear, Wake, Wakeups, wakeups
from wgpy.mesh.store_restore import advance, backup
from wgpy.mesh.store_revoke import KEEP_SECONDS, SignList
from wgpy.mesh.store_schema import INVITE, NETWORK, NODE
from wgpy.mesh.store_work import (
    MAX_POST,
    POST,
    NoNetwork,
    NotThisKey,
    Refusal,
    Refused,
    Work,
    changing,
    read_settings,
    write_settings,
)

__all__ = [
    "Changes",
    "Enrolment",
    "Issue",
    "NoNetwork",
    "NotThisKey",
    "Refusal",
    "Refused",
    "SchemaError",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "Wakeups",
    "WrongCertificate",
]

# Operators look at all of them, and a token that nobody used is forgotten when it has expired.
MAX_INVITES: Final = 10_000

_T = TypeVar("_T")


class Store:
    """A network's database. Threads share it; an event loop calls it in threads."""

    def __init__(self, url: str) -> None:
        """Connect, and bring the schema up to date. Raises SchemaError, StoreError."""
        self._database = Database(parse_url(url))
        self._bell = Bell()
        self._revision = 0
        try:
            self._database.write(migrate)
        except BaseException:
            self._database.close()
            raise

    @property
    def place(self) -> str:
        """Where it is, without a password."""
        return self._database.place

    def close(self) -> None:
        """Close every connection. Wake-ups are closed on their own."""
        self._database.close()

    def counters(self) -> dict[str, int]:
        """Transactions since the start: committed, refused, retried, unavailable."""
        return asdict(self._database.counters)

    def wakeups(self, wake: Wake, hear: Hear = lambda _text: None) -> Wakeups:
        """Have `wake` called, from any thread, when something may have changed, and once at first;
        and `hear` with each text that a coordinator on this database has `post`ed.

        They must neither raise nor block: `loop.call_soon_threadsafe(event.set)` will do.
        """
        return wakeups(self._database, self._bell, wake, hear)

    def post(self, text: str) -> bool:
        """Say something short to every coordinator that listens now, ourselves too; it is kept
        nowhere. False where nobody can: an SQLite file has one coordinator. Raises ValueError for
        more than PostgreSQL takes."""
        if len(text.encode()) > MAX_POST:
            raise ValueError(f"more than {MAX_POST:,} bytes cannot be posted")
        if self._database.is_sqlite:
            return False
        self._database.read(
            lambda connection: connection.execute(select(func.pg_notify(POST, text))).close()
        )
        return True

    def _change(self, action: Callable[[Work], _T]) -> _T:
        result, revision = self._database.write(lambda connection: changing(connection, action))
        if revision != self._revision:
            self._revision = revision
            self._bell.ring()
        return result

    # --- The network ---

    def create_network(self, settings: NetworkSettings, turn_secret: str | None = None) -> None:
        """Write down what holds for the network. Raises Refused (EXISTS)."""

        def create(connection: Connection) -> None:
            if connection.execute(select(NETWORK.c.one)).first() is not None:
                raise Refused(Refusal.EXISTS, f"{self.place} has a network already")
            values = {"settings": write_settings(settings), "turn_secret": turn_secret}
            counters = {"one": 1, "settings_revision": 1, "revision": 1, "floor": 0}
            connection.execute(insert(NETWORK).values({**values, **counters}))

        self._database.write(create)
        self._bell.ring()

    def settings(self) -> NetworkSettings:
        """What holds for the network. Raises NoNetwork."""

        def read(connection: Connection) -> NetworkSettings:
            return _settings(connection)

        return self._database.read(read)

    def change_settings(self, settings: NetworkSettings) -> None:
        """Put other settings into force. Raises Refused (FIXED) for another id, domain or range."""

        def change(work: Work) -> None:
            old = work.settings
            for what in ("id", "domain", "range4", "range6"):
                if getattr(old, what) != getattr(settings, what):
                    raise Refused(
                        Refusal.FIXED, f"a network's {what} stays; certificates and nodes have it"
                    )
            if old != settings:
                values = {"settings": write_settings(settings), "settings_revision": work.revise()}
                work.connection.execute(update(NETWORK).values(values))

        self._change(change)

    def turn_secret(self) -> str | None:
        """What coordinators share with the TURN server; nodes are never told. Raises NoNetwork."""

        def read(connection: Connection) -> str | None:
            row = connection.execute(select(NETWORK.c.turn_secret)).one_or_none()
            if row is None:
                raise NoNetwork
            found: str | None = row.turn_secret
            return found

        return self._database.read(read)

    def set_turn_secret(self, secret: str | None) -> None:
        """Another one, or none."""
        self._change(
            lambda work: work.connection.execute(update(NETWORK).values(turn_secret=secret))
        )

    # --- Invitations ---

    def create_invite(self, invite: InviteRecord, now: float) -> InviteRecord:
        """Write down an invitation, as created now and unused.

        Raises RecordError for what cannot be one; Refused: EXISTS for a jti that is there, EXPIRED,
        BAD_NAME, NAME_TAKEN, FULL.
        """
        invite = replace(invite, used=0, created=now, revoked=False)
        invite_from_json(invite_to_json(invite))

        def create(work: Work) -> InviteRecord:
            execute = work.connection.execute
            execute(delete(INVITE).where(INVITE.c.expires < now - KEEP_SECONDS))
            if execute(select(INVITE.c.jti).where(INVITE.c.jti == invite.jti)).first():
                raise Refused(Refusal.EXISTS, "there is an invitation with this jti")
            if invite.expires <= now:
                raise Refused(Refusal.EXPIRED, "an invitation must expire later than now")
            name = invite.name
            if name is not None:
                store_nodes.check_name(work, name)
                if store_nodes.by_name(work, name) is not None:
                    raise Refused(
                        Refusal.NAME_TAKEN, f"{name} is taken; remove it first, or choose another"
                    )
            if execute(select(func.count()).select_from(INVITE)).scalar_one() >= MAX_INVITES:
                raise Refused(Refusal.FULL, f"there are {MAX_INVITES:,} invitations already")
            execute(insert(INVITE).values(store_rows.invite_values(invite)))
            return invite

        return self._change(create)

    def invites(self) -> tuple[InviteRecord, ...]:
        """All that are kept, the newest last: those that expired for 90 days."""

        def read(connection: Connection) -> tuple[InviteRecord, ...]:
            rows = connection.execute(select(INVITE).order_by(INVITE.c.created, INVITE.c.jti))
            return tuple(store_rows.invite(row) for row in rows)

        return self._database.read(read)

    def revoke_invite(self, jti: str) -> InviteRecord:
        """Nobody else joins with it; who has joined stays. Raises Refused (UNKNOWN_INVITE)."""

        def revoke(work: Work) -> InviteRecord:
            mine = INVITE.c.jti == jti
            row = work.connection.execute(
                update(INVITE).where(mine).values(revoked=True).returning(INVITE)
            ).one_or_none()
            if row is None:
                raise Refused(Refusal.UNKNOWN_INVITE, "there is no such invitation")
            return store_rows.invite(row)

        return self._change(revoke)

    # --- Nodes ---

    def enrol(self, request: Enrolment, now: float, issue: Issue) -> NodeRecord:
        """Let a node in by an invitation: a name, addresses, a certificate; or PENDING.

        The same key may ask again until the invitation expires, and gets the same answer. Raises
        Refused: UNKNOWN_INVITE, EXPIRED, REVOKED, SPENT, NAME_WANTED, BAD_NAME, NAME_TAKEN,
        KEY_IN_USE, KEY_REMOVED, FULL; WrongCertificate; whatever `issue` raises.
        """
        return self._change(lambda work: store_nodes.enrol(work, request, now, issue))

    def add(
        self, name: str, key: PublicKey, groups: tuple[str, ...], now: float, issue: Issue
    ) -> NodeRecord:
        """Let a node in without an invitation or approval, as an operator may: a coordinator.

        Raises Refused: BAD_NAME, NAME_TAKEN, KEY_IN_USE, KEY_REMOVED, FULL; WrongCertificate.
        """
        return self._change(lambda work: store_nodes.add(work, name, key, groups, now, issue))

    def renew(
        self, name: str, key: PublicKey, now: float, issue: Issue, *, force: bool = False
    ) -> NodeRecord:
        """The next certificate of a name, for the key that has it.

        In the first tenth of a certificate's life the one that there is, unless rights have changed
        or with `force`. Raises NotThisKey; Refused: UNKNOWN_NODE, KEY_REMOVED, PENDING;
        WrongCertificate.
        """
        return self._change(lambda work: store_nodes.renew(work, name, key, now, issue, force))

    def approve(self, name: str, now: float, issue: Issue) -> NodeRecord:
        """Let a node in that waits; one that is in stays so. Raises Refused (UNKNOWN_NODE)."""
        return self._change(
            lambda work: store_nodes.approve(work, store_nodes.known(work, name), now, issue)
        )

    def remove(self, name: str, now: float) -> NodeRecord:
        """Take a node out for good: its key, its certificates, its name up to now are revoked.

        The name is free for another key; its addresses stay reserved for it until its last
        certificate ends. Raises Refused (UNKNOWN_NODE).
        """
        return self._change(
            lambda work: store_nodes.remove(work, store_nodes.known(work, name), now)
        )

    def leave(self, key: PublicKey, now: float) -> NodeRecord:
        """The same, because the node itself says so. Raises Refused: UNKNOWN_NODE, KEY_REMOVED."""
        return self._change(
            lambda work: store_nodes.remove(work, store_nodes.of_key(work, key), now)
        )

    def set_rights(
        self, name: str, groups: tuple[str, ...], routes: tuple[Prefix, ...]
    ) -> NodeRecord:
        """What the node's next certificate shall grant. Raises RecordError, Refused (UNKNOWN_NODE).

        `renew` issues at once when this differs from the certificate that there is.
        """
        return self._rewrite(
            lambda work: store_nodes.known(work, name), {"groups": groups, "routes": routes}
        )

    def offer(self, key: PublicKey, offers: tuple[Prefix, ...]) -> NodeRecord:
        """What a node would route, for an operator to approve by `set_rights`.

        Raises RecordError; Refused: UNKNOWN_NODE, KEY_REMOVED.
        """
        return self._rewrite(lambda work: store_nodes.of_key(work, key), {"offers": offers})

    def _rewrite(self, find: Callable[[Work], NodeRecord], values: dict[str, Any]) -> NodeRecord:
        def rewrite(work: Work) -> NodeRecord:
            old = find(work)
            new = replace(old, **values)
            node_from_json(node_to_json(new))
            return old if new == old else work.save(new)

        return self._change(rewrite)

    def touch(self, seen: Mapping[PublicKey, float]) -> None:
        """When nodes were last seen; earlier than what is known changes nothing, nor do strangers.

        It is no change of the network: nobody is woken, and there is no revision.
        """

        def write(connection: Connection) -> None:
            # In one order, so that two coordinators never wait for each other.
            for key, at in sorted((bytes(key), at) for key, at in seen.items()):
                if not 0 <= at <= MAX_TIME:
                    raise RecordError("a node was last seen at no time")
                older = or_(NODE.c.last_seen.is_(None), NODE.c.last_seen < at)
                connection.execute(
                    update(NODE).where(NODE.c.key == key, older).values(last_seen=at)
                )

        self._database.write(write)

    def nodes(self, *, removed: bool = False) -> tuple[NodeRecord, ...]:
        """Every node by name; with `removed` also those that are no more. Raises NoNetwork."""
        query = select(NODE).order_by(NODE.c.name, NODE.c.created)
        if not removed:
            query = query.where(NODE.c.state != NodeState.REMOVED.value)
        return self._database.read(lambda connection: _nodes(connection, query))

    def node(self, name: str) -> NodeRecord | None:
        """The node that has a name now. Raises NoNetwork."""
        live = NODE.c.state != NodeState.REMOVED.value
        query = select(NODE).where(NODE.c.name == name, live)
        return next(iter(self._database.read(lambda connection: _nodes(connection, query))), None)

    def node_of(self, key: PublicKey) -> NodeRecord | None:
        """The node of a static key, also one that was removed. Raises NoNetwork."""
        query = select(NODE).where(NODE.c.key == bytes(key))
        return next(iter(self._database.read(lambda connection: _nodes(connection, query))), None)

    # --- What others follow ---

    def revision(self) -> int:
        """The number of the network's last change. Raises NoNetwork."""

        def read(connection: Connection) -> int:
            revision = connection.execute(select(NETWORK.c.revision)).scalar_one_or_none()
            if revision is None:
                raise NoNetwork
            return int(revision)

        return self._database.read(read)

    def changes(self, since: int, now: float, limit: int = PAGE) -> Changes:
        """One page of what has changed after revision `since`, 0 for all. Raises NoNetwork."""
        return self._database.read(
            lambda connection: store_changes.changes(connection, since, now, limit)
        )

    def revocations(self, now: float) -> tuple[Revocation, ...]:
        """Every revocation that is of use, the oldest first."""
        return self._database.read(lambda connection: store_revoke.in_force(connection, now))

    def sign_list(self, issuer: bytes, now: float, sign: SignList) -> tuple[int, bytes]:
        """An issuer's next list (CRL), made by `sign(number, revocations)`: number and DER.

        `issuer` is the key identifier in its certificates. Serial numbers of others are left out.
        """
        return self._change(lambda work: store_revoke.sign_list(work, issuer, now, sign))

    def last_list(self, issuer: bytes) -> tuple[int, bytes] | None:
        """The last list that was signed for an issuer."""
        return self._database.read(lambda connection: store_revoke.last_list(connection, issuer))

    # --- Copies ---

    def backup(self, path: str) -> None:
        """Copy an SQLite store into a new file; pg_dump copies PostgreSQL's. Raises StoreError."""
        backup(self._database, path)

    def restored(self, now: float, joined: int = 100) -> None:
        """To be called once after a copy was put back: see store_restore.py.

        `joined` is how many nodes may have joined after the copy was made. Who was removed after it
        must be removed again.
        """
        self._change(lambda work: advance(work, now, joined))


def _settings(connection: Connection) -> NetworkSettings:
    row = connection.execute(select(NETWORK.c.settings)).one_or_none()
    if row is None:
        raise NoNetwork
    return read_settings(row.settings)


def _nodes(connection: Connection, query: Select[Any]) -> tuple[NodeRecord, ...]:
    settings = _settings(connection)
    return tuple(store_rows.node(row, settings) for row in connection.execute(query))
