"""The markers and fixtures that tests/ and interop/ share; both conftests import them."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

import wgpy
from tests.support import requirements
from tests.support.netns import Pair, pair, remove_leftovers, remove_own_files
from tests.support.postgres import Postgres
from wgpy.datapath.choose import chosen_name

# Set by `make interop`: run also what waits for minutes, and what is against built peers.
ALL = "WGPY_INTEROP"
_ASK_FOR_IT = f"only in `make interop`, or where {ALL}=1"

MARKERS = (
    "root: needs root and namespaces",
    "tool(name): needs an external program",
    f"slow: waits for minutes of real time; runs {_ASK_FOR_IT}",
)


# No test asserts a time, and a busy machine must not fail one for taking it.
settings.register_profile("wgpy", deadline=None, suppress_health_check=[HealthCheck.too_slow])


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known to --strict-markers, and choose hypothesis's settings."""
    settings.load_profile("wgpy")
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)


def pytest_report_header() -> str:
    """Which wgpy is tested, and on which data path: what a run proves."""
    return f"wgpy: {wgpy.__file__}, data path: {chosen_name()}"


def require(name: str) -> None:
    """Skip the running test, or fail it in CI, if the tool `name` is not there."""
    if name in requirements.BUILT and not os.environ.get(ALL):
        pytest.skip(f"{name}: {_ASK_FOR_IT}")
    if requirements.find(name) is None:
        _refuse(requirements.why_missing(name), requirements.must_have(name))


def _refuse(reason: str, failure: bool) -> None:
    if failure:
        pytest.fail(f"in CI this must be there: {reason}", pytrace=False)
    pytest.skip(reason)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test, or fail it in CI, whose markers ask for what is not there."""
    if item.get_closest_marker("slow") and not os.environ.get(ALL):
        pytest.skip(f"slow: {_ASK_FOR_IT}")
    if item.get_closest_marker("root") and not requirements.is_root():
        _refuse("needs root (namespaces and TUN devices)", requirements.in_ci())
    for marker in item.iter_markers("tool"):
        for name in marker.args:
            require(name)


@pytest.fixture(scope="session")
def clean_machine() -> Iterator[None]:
    """Once a session: remove what test runs that crashed left behind, and at the end our own."""
    for name in remove_leftovers():
        print(f"removed what a dead test run left behind: {name}")
    yield
    remove_own_files()


@pytest.fixture
def net(clean_machine: None) -> Iterator[Pair]:
    """Two namespaces joined by a veth, for one test: `net.left`, `net.right`."""
    with pair() as made:
        yield made


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for all tests that want a database; who stops it has one of its own."""
    with Postgres() as server:
        yield server
