"""The tables of a store, as SQLAlchemy sees them; store_migrations.py makes them.

mesh_network      one row: what holds for the whole network, and the counters that only rise
mesh_node         every node that ever was; what is not removed has a name of its own
mesh_name         each name's last generation: never goes back, is never forgotten
mesh_place        node numbers, thus addresses: held by a live node, or reserved until a time
mesh_certificate  those that are still valid, for their serial numbers and their ends
mesh_invite       invitations
mesh_spent        which static key has used which invitation
mesh_revocation   what is revoked
mesh_crl          each issuer's last list, and its number
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

METADATA: Final = MetaData()

SCHEMA: Final = Table("mesh_schema", METADATA, Column("version", BigInteger, nullable=False))

NETWORK: Final = Table(
    "mesh_network",
    METADATA,
    # Always 1: a store has one network.
    Column("one", BigInteger, primary_key=True),
    Column("settings", Text, nullable=False),  # JSON
    Column("settings_revision", BigInteger, nullable=False),
    # What coordinators share with the TURN server; never told to nodes.
    Column("turn_secret", Text),
    Column("revision", BigInteger, nullable=False),
    # Who knows less than this begins anew.
    Column("floor", BigInteger, nullable=False),
)

NODE: Final = Table(
    "mesh_node",
    METADATA,
    Column("key", LargeBinary, primary_key=True),
    Column("name", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("groups", Text, nullable=False),  # JSON, as are the next two
    Column("routes", Text, nullable=False),
    Column("offers", Text, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("certificate", LargeBinary),
    Column("created", Double, nullable=False),
    Column("last_seen", Double),
    Column("expires", Double),
    Column("revision", BigInteger, nullable=False),
)

NAME: Final = Table(
    "mesh_name",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("generation", BigInteger, nullable=False),
)

PLACE: Final = Table(
    "mesh_place",
    METADATA,
    Column("number", BigInteger, primary_key=True),
    Column("name", Text, nullable=False),
    # None: for as long as a live node has the name.
    Column("until", Double),
)

CERTIFICATE: Final = Table(
    "mesh_certificate",
    METADATA,
    Column("issuer", LargeBinary, primary_key=True),
    Column("serial", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("not_after", Double, nullable=False),
)

INVITE: Final = Table(
    "mesh_invite",
    METADATA,
    Column("jti", Text, primary_key=True),
    Column("name", Text),
    Column("groups", Text, nullable=False),  # JSON
    Column("uses", BigInteger, nullable=False),
    Column("used", BigInteger, nullable=False),
    Column("created", Double, nullable=False),
    Column("expires", Double, nullable=False),
    Column("revoked", Boolean, nullable=False),
)

SPENT: Final = Table(
    "mesh_spent",
    METADATA,
    Column("jti", Text, ForeignKey("mesh_invite.jti", ondelete="CASCADE"), primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("at", Double, nullable=False),
)

REVOCATION: Final = Table(
    "mesh_revocation",
    METADATA,
    Column("kind", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("issuer", LargeBinary, primary_key=True),
    Column("generation", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Column("until", Double, nullable=False),
    Column("revision", BigInteger, nullable=False),
)

CRL: Final = Table(
    "mesh_crl",
    METADATA,
    Column("issuer", LargeBinary, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("der", LargeBinary),
    Column("revision", BigInteger, nullable=False),
)
