"""A lock that is taken in turn, for the writers of one process.

`threading.Lock` goes to whoever is quickest, which is the thread that has just given it back: of
eight busy writers one may wait for seconds.
"""

import threading
from collections import deque


class Turns:
    """Who waits is served in the order of coming."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._taken = False
        # Each waits for a lock of its own, which is released when its turn has come.
        self._waiting: deque[threading.Lock] = deque()

    def take(self, timeout: float) -> bool:
        """Wait for one's turn; False if it has not come in `timeout` seconds."""
        with self._guard:
            if not self._taken:
                self._taken = True
                return True
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        if mine.acquire(timeout=timeout):
            return True
        with self._guard:
            if mine in self._waiting:
                self._waiting.remove(mine)
                return False
        # It came just now.
        return True

    def give(self) -> None:
        """It is the next one's turn."""
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False
