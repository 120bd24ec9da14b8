"""Stores on both databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stores import BOTH, SETTINGS, Office, database
from wgpy.mesh.store import Store


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    with database(request.param, tmp_path, lambda: request.getfixturevalue("postgres")) as made:
        yield made


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """A store in it, with no network yet."""
    made = Store(url)
    yield made
    made.close()


@pytest.fixture
def office(store: Store) -> Office:
    """A network of 254 addresses, 10.7.0.0/24."""
    store.create_network(SETTINGS)
    return Office(store)
