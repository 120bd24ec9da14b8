"""Who follows a network is woken: by this process, and by another one. On both databases."""

import threading
from collections.abc import Callable

from tests.support.stores import Office
from wgpy.mesh.store import Store

# For what happens within a second; a machine that is busy takes longer.
PATIENCE = 30.0


class Ear:
    """Hears wake-ups, from whatever thread."""

    def __init__(self) -> None:
        self._heard = threading.Semaphore(0)

    def wake(self) -> None:
        self._heard.release()

    def hears(self, done: Callable[[], bool]) -> bool:
        """Look after each wake-up, and only then."""
        while self._heard.acquire(timeout=PATIENCE):
            if done():
                return True
        return False


def test_a_change_of_this_process_is_heard_before_it_returns(office: Office) -> None:
    ear = threading.Event()
    wakeups = office.store.wakeups(ear.set)
    here = threading.get_ident()
    callers: list[int] = []
    mine = office.store.wakeups(lambda: callers.append(threading.get_ident()))
    office.join(1)
    assert here in callers
    mine.close()
    wakeups.close()
    callers.clear()
    office.join(2)
    assert callers == []
    assert ear.is_set()


def test_a_change_of_another_process_is_heard(office: Office, url: str) -> None:
    """As good as: another store on the same database knows nothing of this one."""
    ear, other = Ear(), Store(url)
    wakeups = other.wakeups(ear.wake)
    assert ear.hears(lambda: True)
    for number in (1, 2, 3):
        office.join(number)
        assert ear.hears(lambda number=number: len(other.nodes()) == number)
    wakeups.close()
    other.close()


def test_what_changes_nothing_wakes_nobody(office: Office) -> None:
    node = office.join(1)
    heard: list[int] = []
    wakeups = office.store.wakeups(lambda: heard.append(threading.get_ident()))
    office.store.touch({node.key: 1.0})
    office.store.set_rights(node.name, node.groups, node.routes)
    assert threading.get_ident() not in heard
    wakeups.close()
