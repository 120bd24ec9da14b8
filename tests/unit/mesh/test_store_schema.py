"""The schema: made once, brought forward from every older version, and never taken back."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect, select

from tests.support.certificates import NOW
from tests.support.stores import SETTINGS, Office
from wgpy.mesh import store_work
from wgpy.mesh.store import SchemaError, Store
from wgpy.mesh.store_engine import Database, StoreUnavailable, parse_url
from wgpy.mesh.store_migrations import MIGRATIONS, migrate
from wgpy.mesh.store_schema import METADATA, NODE, SCHEMA

# One that there might be: a column, and what it has for those that are there.
NEXT = (
    *MIGRATIONS,
    (
        "ALTER TABLE mesh_node ADD COLUMN colour TEXT",
        "UPDATE mesh_node SET colour = 'green'",
        "CREATE TABLE mesh_colour (colour TEXT PRIMARY KEY, since {real} NOT NULL)",
    ),
)
BROKEN = (
    *MIGRATIONS,
    ("ALTER TABLE mesh_node ADD COLUMN colour TEXT", "UPDATE mesh_nothing SET colour = 'red'"),
)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    made = Database(parse_url(url))
    yield made
    made.close()


def columns(database: Database, table: str) -> set[str]:
    return database.read(
        lambda connection: {str(x["name"]) for x in inspect(connection).get_columns(table)}
    )


def version(database: Database) -> int:
    return database.read(lambda x: x.execute(select(SCHEMA.c.version)).scalar_one())


def test_the_tables_are_those_that_the_code_knows(store: Store, database: Database) -> None:
    def look(connection: Connection) -> dict[str, dict[str, tuple[bool, bool]]]:
        found = inspect(connection)
        return {
            name: {
                x["name"]: (
                    # Of a key no column is null, whether or not the database says so.
                    x["nullable"] and x["name"] not in keys,
                    x["name"] in keys,
                )
                for x in found.get_columns(name)
            }
            for name in found.get_table_names()
            for keys in (found.get_pk_constraint(name)["constrained_columns"],)
        }

    assert database.read(look) == {
        table.name: {x.name: (bool(x.nullable), bool(x.primary_key)) for x in table.columns}
        for table in METADATA.tables.values()
    }


def test_opening_it_again_changes_nothing(office: Office, url: str) -> None:
    node = office.join(1)
    again = Store(url)
    assert again.nodes() == (node,)
    again.close()


@pytest.mark.parametrize("begin", range(len(MIGRATIONS) + 1))
def test_every_older_version_is_brought_forward(database: Database, begin: int) -> None:
    database.write(lambda connection: migrate(connection, MIGRATIONS[:begin]))
    assert version(database) == begin
    database.write(lambda connection: migrate(connection, NEXT))
    assert version(database) == len(NEXT)
    assert "colour" in columns(database, "mesh_node")


def test_what_was_there_is_there_in_the_next_version(office: Office, database: Database) -> None:
    office.join(1)
    database.write(lambda connection: migrate(connection, NEXT))
    found = database.read(lambda x: x.exec_driver_sql("SELECT name, colour FROM mesh_node").one())
    assert tuple(found) == ("n1.mesh", "green")


def test_a_step_that_fails_is_not_taken_in_part(office: Office, database: Database) -> None:
    node = office.join(1)
    with pytest.raises(StoreUnavailable, match="mesh_nothing"):
        database.write(lambda connection: migrate(connection, BROKEN))
    assert version(database) == len(MIGRATIONS)
    assert columns(database, "mesh_node") == {x.name for x in NODE.columns}
    assert office.store.nodes() == (node,)


def test_a_newer_schema_is_refused_and_left_alone(
    office: Office, database: Database, url: str
) -> None:
    database.write(lambda connection: migrate(connection, NEXT))
    with pytest.raises(SchemaError, match="version 2, and this wgpy knows 1"):
        Store(url)
    # Also by who had it open before.
    with pytest.raises(SchemaError, match="has become version 2"):
        office.join(1)
    with pytest.raises(SchemaError):
        office.store.changes(0, NOW)
    assert version(database) == len(NEXT)


def test_a_file_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE words (word TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(SchemaError, match="another program"):
        Store(str(path))
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("words",)]
    connection.close()
    text = tmp_path / "text"
    text.write_text("not a database at all, but long enough to look at\n" * 40)
    with pytest.raises(StoreUnavailable, match="not a database"):
        Store(str(text))
    assert text.read_text().startswith("not a database at all")


def test_the_channel_and_the_settings_are_what_they_were() -> None:
    """They are part of what an older coordinator beside this one relies on."""
    assert store_work.CHANNEL == "wgpy_mesh"
    assert store_work.read_settings(store_work.write_settings(SETTINGS)) == SETTINGS
