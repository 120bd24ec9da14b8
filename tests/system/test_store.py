"""A store whose database goes away and comes back, and many that join at once: real databases."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.commands import wait_until
from tests.support.postgres import Postgres
from tests.support.requirements import ROOT
from tests.support.stores import BOTH, SETTINGS, Clerk, Office, addresses, database, key
from wgpy.mesh.records import InviteRecord, NodeState
from wgpy.mesh.store import Enrolment, Refusal, Refused, Store, StoreUnavailable
from wgpy.mesh.store_engine import ANSWER_SECONDS, CONNECTIONS, STATEMENT_SECONDS

# A statement's own bound, several times: for machines that are busy, and for hangs to be seen.
PATIENCE = 60.0
NODES = 200


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    with database(request.param, tmp_path, lambda: request.getfixturevalue("postgres")) as made:
        yield made


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A PostgreSQL that may be stopped."""
    with Postgres() as made:
        yield made


@pytest.fixture
def office(server: Postgres) -> Iterator[Office]:
    """A network in a database of it."""
    with server.database() as url:
        store = Store(url)
        store.create_network(SETTINGS)
        yield Office(store)
        store.close()


def unavailable(office: Office) -> str:
    """What reading, changing, and a coordinator that starts say; one line each, and bounded."""
    said = []
    begun = time.monotonic()
    for ask in (office.store.nodes, lambda: office.join(99), lambda: office.store.touch({})):
        try:
            ask()
        except StoreUnavailable as error:
            said.append(str(error))
    assert time.monotonic() - begun < PATIENCE
    assert said
    assert not any("\n" in x for x in said)
    return " | ".join(said)


# --- PostgreSQL goes away ---


@pytest.mark.tool("pg_ctl")
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_server_that_goes_away_and_comes_back(server: Postgres, office: Office, how: str) -> None:
    node = office.join(1)
    getattr(server, how)()
    said = unavailable(office)
    assert "No such file" in said or "refused" in said or "closed" in said, said
    server.start()
    # At once, and by itself; what was acknowledged is there, what was not is not.
    assert office.store.nodes() == (node,)
    assert office.join(2).addresses == addresses(2)


@pytest.mark.tool("pg_ctl")
def test_a_server_that_restarts_between_two_calls_is_not_noticed(
    server: Postgres, office: Office
) -> None:
    for number in (1, 2, 3):
        office.join(number)
        server.stop("immediate")
        server.start()
    assert len(office.store.nodes()) == 3
    assert office.store.counters()["unavailable"] == 0


@pytest.mark.tool("pg_ctl")
def test_a_server_that_says_nothing_holds_nobody_for_long(server: Postgres, office: Office) -> None:
    """A paused one takes connections and questions, and answers none: no error ever comes."""
    node = office.join(1)
    server.pause()
    with ThreadPoolExecutor(2 * CONNECTIONS) as threads:
        # More than there are connections: who waits for one is bounded as well.
        asking = [threads.submit(office.store.nodes) for _ in range(2 * CONNECTIONS)]
        said = {str(x.exception(timeout=PATIENCE)) for x in asking}
    assert any("has not answered" in x or "in use" in x or "timeout" in x for x in said), said
    server.resume()
    assert office.store.nodes() == (node,)
    assert office.join(2).addresses == addresses(2)


@pytest.mark.tool("pg_ctl")
def test_who_is_in_the_middle_when_the_server_dies_has_done_nothing(
    server: Postgres, office: Office
) -> None:
    jti = office.invite()

    def die(record: object) -> bytes:
        server.kill()
        return office.clerk(record)  # type: ignore[arg-type]

    with pytest.raises(StoreUnavailable):
        office.store.enrol(Enrolment(jti, key(1), "n1.mesh"), office.now, die)
    server.start()
    assert office.store.nodes() == ()
    assert office.store.invites()[0].used == 0
    assert office.join(1, jti=jti).generation == 1


@pytest.mark.tool("pg_ctl")
def test_a_session_that_is_cut_is_begun_again(server: Postgres, office: Office) -> None:
    """An administrator ends it in the middle: the whole is done once more, from the beginning."""
    jti, cut = office.invite(), []

    def issue(record: object) -> bytes:
        if not cut:
            cut.append(1)
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND datname LIKE 'test%'"
            )
        return office.clerk(record)  # type: ignore[arg-type]

    node = office.store.enrol(Enrolment(jti, key(1), "n1.mesh"), office.now, issue)
    assert (node.generation, len(office.clerk.asked)) == (1, 2)
    assert office.store.nodes() == (node,)
    assert office.store.counters()["retried"] == 1


@pytest.mark.tool("pg_ctl")
def test_a_coordinator_that_stands_still_holds_the_others_for_a_while_only(
    server: Postgres, office: Office
) -> None:
    """One stops inside its transaction, with the network locked."""
    name = server.execute("SELECT datname FROM pg_database WHERE datname LIKE 'test%'")[0][0]
    other = Store(server.url(str(name)))
    held, go = threading.Event(), threading.Event()

    def hang(record: object) -> bytes:
        held.set()
        go.wait(PATIENCE)
        return office.clerk(record)  # type: ignore[arg-type]

    jti = office.invite()
    with ThreadPoolExecutor(1) as thread:
        hanging = thread.submit(
            office.store.enrol, Enrolment(jti, key(1), "n1.mesh"), office.now, hang
        )
        assert held.wait(PATIENCE)
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            other.add("n2.mesh", key(2), (), office.now, office.clerk)
        # Readers wait for nobody.
        assert other.nodes() == ()
        assert STATEMENT_SECONDS - 1 < time.monotonic() - begun < PATIENCE
        go.set()
        assert hanging.result(PATIENCE).addresses == addresses(1)
    assert other.add("n2.mesh", key(2), (), office.now, office.clerk).addresses == addresses(2)
    other.close()


@pytest.mark.tool("pg_ctl")
def test_wake_ups_go_on_after_a_server_was_away(server: Postgres, office: Office) -> None:
    name = server.execute("SELECT datname FROM pg_database WHERE datname LIKE 'test%'")[0][0]
    other = Store(server.url(str(name)))
    heard = threading.Event()
    wakeups = other.wakeups(heard.set)
    wait_until(lambda: wakeups.listening, "the listener", timeout=PATIENCE)
    server.kill()
    wait_until(lambda: not wakeups.listening, "the listener to notice", timeout=PATIENCE)
    heard.clear()
    # While nobody can listen, who follows is told to look.
    assert heard.wait(PATIENCE)
    server.start()
    wait_until(lambda: wakeups.listening, "the listener to be back", timeout=PATIENCE)
    time.sleep(0.2)
    heard.clear()
    office.join(1)
    assert heard.wait(PATIENCE)
    assert [x.name for x in other.nodes()] == ["n1.mesh"]
    wakeups.close()
    other.close()


# --- A disk is full ---

# Run in a mount namespace of its own: nothing is left to be unmounted.
FULL_DISK = """
import os, subprocess, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.support.stores import SETTINGS, Office, key
from wgpy.mesh.store import Store, StoreUnavailable

folder = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
store = Store(str(folder / "store"))
store.create_network(SETTINGS)
office = Office(store)
before = [office.join(n) for n in (1, 2, 3)]
with (folder / "ballast").open("wb", buffering=0) as ballast:
    try:
        while True:
            ballast.write(bytes(4096))
    except OSError:
        pass
joined, said = [], set()
for number in range(4, 60):
    try:
        joined.append(office.join(number))
    except StoreUnavailable as error:
        said.add(str(error))
print(said)
assert said and all("\\n" not in x and "full" in x for x in said), said
assert store.nodes() == tuple(sorted([*before, *joined], key=lambda x: x.name))
(folder / "ballast").unlink()
later = office.join(100)
assert store.nodes() == tuple(sorted([*before, *joined, later], key=lambda x: x.name))
assert len({{x.addresses for x in store.nodes()}}) == len(store.nodes())
store.close()
again = Store(str(folder / "store"))
assert len(again.nodes()) == len(before) + len(joined) + 1
again.close()
print("done")
"""


@pytest.mark.root
@pytest.mark.tool("unshare")
def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "private", sys.executable),
            *("-c", FULL_DISK.format(root=str(ROOT)), str(folder)),
        ],
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "done"
    assert "full" in done.stdout


# --- Many at once ---

# A coordinator of its own process. Its numbers, and a few that the other one has as well.
COORDINATOR = """
import sys
from concurrent.futures import ThreadPoolExecutor
sys.path.insert(0, {root!r})
from tests.support.certificates import NOW
from tests.support.stores import Clerk, key
from wgpy.mesh.store import Enrolment, Refused, Store
import itertools

url, first, last, serials = sys.argv[1], *map(int, sys.argv[2:])
store = Store(url)
clerk = Clerk(_serials=itertools.count(serials))

def join(number):
    name = f"n{{number}}.mesh" if number % 10 else f"shared{{number % 100}}.mesh"
    try:
        return store.enrol(Enrolment("all", key(number), name), NOW, clerk).name
    except Refused as error:
        return error.reason.value

sys.stdin.readline()
with ThreadPoolExecutor(8) as threads:
    print(*threads.map(join, range(first, last)), sep="\\n")
print(store.counters(), file=sys.stderr)
store.close()
"""


def test_two_coordinators_never_give_a_name_or_an_address_twice(url: str) -> None:
    """Each enrols half of the nodes by eight threads; every tenth node wants a name of few."""
    store = Store(url)
    store.create_network(SETTINGS)
    store.create_invite(InviteRecord("all", Office(store).now + 60, uses=NODES), Office(store).now)
    code = COORDINATOR.format(root=str(ROOT))
    halves = ((0, NODES // 2, 1 << 20), (NODES // 2, NODES, 1 << 21))
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, url, *map(str, half)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for half in halves
    ]
    said: list[str] = []
    try:
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in running:
            out, err = process.communicate(timeout=4 * PATIENCE)
            assert process.returncode == 0, err[-3000:]
            said += out.split()
    finally:
        for process in running:
            process.kill()
            process.wait()
    nodes = store.nodes()
    # Ten names are shared, each by two; the rest have one each.
    assert len(said) == NODES
    assert said.count(Refusal.NAME_TAKEN.value) == NODES // 10 - 10
    assert len(nodes) == NODES - (NODES // 10 - 10)
    assert sorted(x.name for x in nodes) == sorted(set(said) - {Refusal.NAME_TAKEN.value})
    assert all(x.state is NodeState.ACTIVE and x.generation == 1 for x in nodes)
    # None twice, and none left out.
    taken = sorted(x.addresses for x in nodes)
    assert taken == sorted(addresses(n) for n in range(1, len(nodes) + 1))
    assert store.invites()[0].used == len(nodes)
    revisions = [x.revision for x in nodes]
    assert len(set(revisions)) == len(revisions)
    store.close()


def test_who_follows_misses_nothing_while_others_write(url: str) -> None:
    """A change with a lower revision never comes after one with a higher."""
    store = Store(url)
    store.create_network(SETTINGS)
    office = Office(store)
    jtis = [office.invite() for _ in range(40)]
    clerk, ended = Clerk(), threading.Event()

    def join(number: int) -> None:
        store.enrol(Enrolment(jtis[number], key(number), f"n{number}.mesh"), office.now, clerk)

    def follow() -> dict[str, int]:
        other, known, at = Store(url), dict[str, int](), 0
        while True:
            last = ended.is_set()
            page = other.changes(at, office.now, limit=3)
            assert page.revision >= at
            at = page.revision
            known |= {x.name: x.revision for x in page.nodes}
            if last and not page.more:
                other.close()
                return known

    with ThreadPoolExecutor(5) as threads:
        following = threads.submit(follow)
        for done in [threads.submit(join, n) for n in range(40)]:
            done.result(PATIENCE)
        ended.set()
        known = following.result(PATIENCE)
    assert known == {x.name: x.revision for x in store.nodes()}
    store.close()


def test_only_one_coordinator_brings_the_schema_forward(url: str) -> None:
    with ThreadPoolExecutor(6) as threads:
        stores = list(threads.map(lambda _: Store(url), range(6)))
    stores[0].create_network(SETTINGS)
    for store in stores[1:]:
        with pytest.raises(Refused):
            store.create_network(SETTINGS)
    for store in stores:
        store.close()
    assert ANSWER_SECONDS > STATEMENT_SECONDS
