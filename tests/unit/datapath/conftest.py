"""Both engines, for the tests of what either does."""

import pytest

from tests.support.memory_path import MemoryPath
from tests.support.native_path import NativeMemoryPath, needs_native


@pytest.fixture(
    params=[
        pytest.param(MemoryPath, id="portable"),
        pytest.param(NativeMemoryPath, id="native", marks=needs_native),
    ]
)
def engine(request: pytest.FixtureRequest) -> type[MemoryPath] | type[NativeMemoryPath]:
    """The class of an engine in memory."""
    chosen: type[MemoryPath] | type[NativeMemoryPath] = request.param
    return chosen
