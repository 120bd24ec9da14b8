"""The schema of a store, version by version: forward only, one transaction, under a lock.

A version is a list of statements that is never changed once it was given out; what comes later is
the next version. Words in braces are types that the two databases call differently.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, insert, inspect, select, text, update

from wgpy.mesh.store_engine import StoreError
from wgpy.mesh.store_schema import SCHEMA

# Of the lock that coordinators which start at once take one after the other: "wgpM" in ASCII.
_LOCK: Final = 0x7767704D
# The same letters mark the SQLite file as ours (PRAGMA application_id).
APPLICATION_ID: Final = 0x7767704D

_WORDS: Final = {
    "sqlite": {"bytes": "BLOB", "integer": "INTEGER", "real": "REAL", "flag": "INTEGER"},
    "postgresql": {
        "bytes": "BYTEA",
        "integer": "BIGINT",
        "real": "DOUBLE PRECISION",
        "flag": "BOOLEAN",
    },
}


class SchemaError(StoreError):
    """A database that this wgpy must not touch: another program's, or a newer wgpy's."""


Migration = tuple[str, ...]

MIGRATIONS: Final[tuple[Migration, ...]] = (
    (
        """CREATE TABLE mesh_network (
            one {integer} PRIMARY KEY CHECK (one = 1), settings TEXT NOT NULL,
            settings_revision {integer} NOT NULL, turn_secret TEXT, revision {integer} NOT NULL,
            floor {integer} NOT NULL)""",
        """CREATE TABLE mesh_node (
            key {bytes} PRIMARY KEY, name TEXT NOT NULL, number {integer} NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('pending', 'active', 'removed')),
            groups TEXT NOT NULL, routes TEXT NOT NULL, offers TEXT NOT NULL,
            generation {integer} NOT NULL, certificate {bytes}, created {real} NOT NULL,
            last_seen {real}, expires {real}, revision {integer} NOT NULL)""",
        # One name is one node and one address is one node, whatever else goes wrong.
        "CREATE UNIQUE INDEX mesh_node_name ON mesh_node (name) WHERE state <> 'removed'",
        "CREATE UNIQUE INDEX mesh_node_number ON mesh_node (number) WHERE state <> 'removed'",
        "CREATE INDEX mesh_node_revision ON mesh_node (revision)",
        "CREATE TABLE mesh_name (name TEXT PRIMARY KEY, generation {integer} NOT NULL)",
        """CREATE TABLE mesh_place (
            number {integer} PRIMARY KEY CHECK (number > 0), name TEXT NOT NULL UNIQUE,
            until {real})""",
        """CREATE TABLE mesh_certificate (
            issuer {bytes}, serial TEXT, name TEXT NOT NULL, key {bytes} NOT NULL,
            generation {integer} NOT NULL, not_after {real} NOT NULL,
            PRIMARY KEY (issuer, serial), UNIQUE (name, generation))""",
        "CREATE INDEX mesh_certificate_key ON mesh_certificate (key)",
        "CREATE INDEX mesh_certificate_end ON mesh_certificate (not_after)",
        """CREATE TABLE mesh_invite (
            jti TEXT PRIMARY KEY, name TEXT, groups TEXT NOT NULL, uses {integer} NOT NULL,
            used {integer} NOT NULL CHECK (used <= uses), created {real} NOT NULL,
            expires {real} NOT NULL, revoked {flag} NOT NULL)""",
        """CREATE TABLE mesh_spent (
            jti TEXT REFERENCES mesh_invite (jti) ON DELETE CASCADE, key {bytes},
            at {real} NOT NULL, PRIMARY KEY (jti, key))""",
        """CREATE TABLE mesh_revocation (
            kind TEXT CHECK (kind IN ('key', 'serial', 'name')), value TEXT, issuer {bytes},
            generation {integer} NOT NULL, at {real} NOT NULL, until {real} NOT NULL,
            revision {integer} NOT NULL, PRIMARY KEY (kind, value, issuer))""",
        "CREATE INDEX mesh_revocation_revision ON mesh_revocation (revision)",
        """CREATE TABLE mesh_crl (
            issuer {bytes} PRIMARY KEY, number {integer} NOT NULL, der {bytes},
            revision {integer} NOT NULL)""",
    ),
)


def migrate(connection: Connection, migrations: Sequence[Migration] = MIGRATIONS) -> int:
    """Bring a database to the last version, inside the caller's transaction; returns the version.

    Raises SchemaError for a database of a newer wgpy or of another program, which is left alone.
    On SQLite the transaction must have begun with BEGIN IMMEDIATE.
    """
    dialect = connection.dialect.name
    if dialect == "postgresql":
        # Until the end of the transaction; who comes second finds everything done.
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    else:
        _check_application(connection)
    version = _version(connection)
    if version > len(migrations):
        raise SchemaError(
            f"the schema is of version {version}, and this wgpy knows {len(migrations)}; use the "
            "wgpy that wrote it, or a newer one"
        )
    for migration in migrations[version:]:
        for statement in migration:
            connection.exec_driver_sql(statement.format(**_WORDS[dialect]))
    if version < len(migrations):
        connection.execute(update(SCHEMA).values(version=len(migrations)))
    return len(migrations)


def _check_application(connection: Connection) -> None:
    found = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
    if found == APPLICATION_ID:
        return
    if found or inspect(connection).get_table_names():
        raise SchemaError("this is a database of another program")
    connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")


def _version(connection: Connection) -> int:
    """The version that there is; a new database gets the table that says 0."""
    if not inspect(connection).has_table(SCHEMA.name):
        words = _WORDS[connection.dialect.name]
        connection.exec_driver_sql(
            f"CREATE TABLE {SCHEMA.name} (version {words['integer']} NOT NULL)"
        )
        connection.execute(insert(SCHEMA).values(version=0))
    version = connection.execute(select(SCHEMA.c.version)).scalar_one()
    return int(version)
