"""One change of a network: a transaction that holds the network, counts changes, and may refuse.

Whoever changes something locks the network's row first. So writers follow one another, also those
of several coordinators, and a change with a lower revision is never seen after one with a higher.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Row, insert, select, text, update

from wgpy.identity.jose import JsonError, load_object
from wgpy.identity.profile import MAX_GENERATION
from wgpy.mesh import store_rows
from wgpy.mesh.records import NodeRecord
from wgpy.mesh.settings import NetworkSettings, settings_from_json, settings_to_json
from wgpy.mesh.store_engine import StoreError
from wgpy.mesh.store_migrations import MIGRATIONS, SchemaError
from wgpy.mesh.store_schema import NAME, NETWORK, NODE, SCHEMA

# PostgreSQL's channel (LISTEN); what is said on it is the revision.
CHANNEL: Final = "wgpy_mesh"
# And the one on which coordinators pass on what is for a node that another may have.
POST: Final = "wgpy_mesh_post"
# PostgreSQL takes under 8,000 bytes (NOTIFY).
MAX_POST: Final = 7_900

_T = TypeVar("_T")


class Refusal(Enum):
    """Why something is not done; the text beside it says more."""

    UNKNOWN_INVITE = "unknown-invite"
    EXPIRED = "expired"
    SPENT = "spent"
    REVOKED = "revoked"  # the invitation was
    NAME_WANTED = "name-wanted"
    BAD_NAME = "bad-name"
    NAME_TAKEN = "name-taken"
    KEY_IN_USE = "key-in-use"  # it is another name's
    KEY_REMOVED = "key-removed"
    FULL = "full"
    PENDING = "pending"
    UNKNOWN_NODE = "unknown-node"
    NOT_THIS_KEY = "not-this-key"
    EXISTS = "exists"
    FIXED = "fixed"  # it cannot be changed


class Refused(StoreError):  # noqa: N818 - nothing failed: the answer is no
    """The answer is no. `reason` is for programs, the text for people; nothing was changed."""

    def __init__(self, reason: Refusal, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class NotThisKey(Refused):
    """A name was asked for with another key than its own."""

    def __init__(self, name: str) -> None:
        super().__init__(
            Refusal.NOT_THIS_KEY, f"{name} has another key; with a new key, enrol again"
        )


class NoNetwork(StoreError):  # noqa: N818 - it says how the store is
    """The store is empty: `create_network` comes first."""

    def __init__(self) -> None:
        super().__init__("the store has no network yet")


class Work:
    """The transaction of one change."""

    def __init__(self, connection: Connection, row: Row[Any]) -> None:
        self.connection = connection
        self.settings = read_settings(row.settings)
        self.revision = int(row.revision)
        self._before = self.revision

    def revise(self) -> int:
        """The next revision, for one row that changes."""
        self.revision += 1
        return self.revision

    def finish(self) -> None:
        """Write the revision down, and let the others know when this is committed."""
        if self.revision == self._before:
            return
        self.connection.execute(update(NETWORK).values(revision=self.revision))
        if self.connection.dialect.name == "postgresql":
            self.connection.execute(
                text("SELECT pg_notify(:channel, :revision)"),
                {"channel": CHANNEL, "revision": str(self.revision)},
            )

    def next_generation(self, name: str) -> int:
        """The next generation of a name, taken."""
        last = self.connection.execute(
            select(NAME.c.generation).where(NAME.c.name == name)
        ).scalar_one_or_none()
        if last is None:
            self.connection.execute(insert(NAME).values(name=name, generation=1))
            return 1
        if last >= MAX_GENERATION:
            raise StoreError(f"{name} has no generation left")
        self.connection.execute(update(NAME).where(NAME.c.name == name).values(generation=last + 1))
        return int(last) + 1

    def save(self, node: NodeRecord) -> NodeRecord:
        """Write a node that is there, at the next revision; returns it with that."""
        node = replace(node, revision=self.revise())
        self.connection.execute(
            update(NODE).where(NODE.c.key == bytes(node.key)).values(store_rows.node_values(node))
        )
        return node


def changing(connection: Connection, action: Callable[[Work], _T]) -> tuple[_T, int]:
    """Run `action` with the network locked; its result, and the revision afterwards."""
    check_version(connection)
    row = connection.execute(select(NETWORK).with_for_update()).one_or_none()
    if row is None:
        raise NoNetwork
    opened = Work(connection, row)
    result = action(opened)
    opened.finish()
    return result, opened.revision


def check_version(connection: Connection) -> None:
    """Raise SchemaError where a newer wgpy has changed the tables under us."""
    version = connection.execute(select(SCHEMA.c.version)).scalar_one()
    if version != len(MIGRATIONS):
        raise SchemaError(
            f"the schema has become version {version}, and this wgpy knows {len(MIGRATIONS)}; "
            "start the newer one"
        )


def write_settings(settings: NetworkSettings) -> str:
    """The settings as they stand in the table."""
    return json.dumps(settings_to_json(settings))


def read_settings(written: str) -> NetworkSettings:
    """The same, read."""
    try:
        return settings_from_json(load_object(written.encode()))
    except (JsonError, ValueError) as error:
        raise StoreError(f"the settings in the store cannot be read: {error}") from None
