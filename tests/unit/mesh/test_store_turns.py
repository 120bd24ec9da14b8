"""Writers of one process have their turns in the order in which they came."""

import threading

from tests.support.commands import wait_until
from wgpy.mesh.store_turns import Turns


def test_who_came_first_is_served_first() -> None:
    turns, served = Turns(), list[int]()
    assert turns.take(0)

    def write(number: int) -> None:
        assert turns.take(30)
        served.append(number)
        turns.give()

    threads = []
    for number in range(5):
        threads.append(threading.Thread(target=write, args=(number,)))
        threads[-1].start()
        wait_until(lambda number=number: len(turns._waiting) == number + 1, "a writer to wait")
    turns.give()
    # Quick as it is, it is behind the others.
    assert turns.take(30)
    for thread in threads:
        thread.join()
    assert served == list(range(5))
    turns.give()
    assert turns.take(0)


def test_who_has_waited_in_vain_is_passed_over() -> None:
    turns = Turns()
    assert turns.take(0)
    assert not turns.take(0)
    assert not turns.take(0.01)
    turns.give()
    assert turns.take(0)
