"""Who is woken when a network has changed: at once by this process, soon by others.

PostgreSQL tells (LISTEN). Where its connection is lost, and for SQLite's file, somebody looks every
half second. A wake-up says only that it is worth to look: `Store.changes` says what there is. One
too many is harmless, and after each time that nobody could listen there is one.
"""

import contextlib
import select
import socket
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import psycopg

from wgpy.mesh.store_engine import BoundedConnection, Database, connect
from wgpy.mesh.store_work import CHANNEL, POST

Wake = Callable[[], None]
Hear = Callable[[str], None]

# Changes are to be known within a second. One look costs a page of shared memory.
POLL_SECONDS: Final = 0.5
# A listener hears nothing from a server that has lost its power: it is asked now and then.
CHECK_SECONDS: Final = 10.0
# Between attempts to connect; each is also a look, so it is not longer than a poll would be.
RECONNECT_SECONDS: Final = 0.5


class Wakeups(Protocol):
    """Calls somebody back, from any thread, when the network may have changed."""

    @property
    def listening(self) -> bool:
        """Whether others' changes are told at once; else somebody looks, every half second."""

    def close(self) -> None:
        """Call nobody any more, and end the thread."""


class Bell:
    """Wakes everybody who asked for it in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wakes: list[Wake] = []

    def add(self, wake: Wake) -> None:
        """Ring for this one too."""
        with self._lock:
            self._wakes.append(wake)

    def remove(self, wake: Wake) -> None:
        """Not any more."""
        with self._lock, contextlib.suppress(ValueError):  # it was removed before
            self._wakes.remove(wake)

    def ring(self) -> None:
        """Call everybody, in this thread."""
        with self._lock:
            wakes = tuple(self._wakes)
        for wake in wakes:
            wake()


class _Thread:
    """A thread that looks or listens, and ends at once when it is told to."""

    def __init__(self, bell: Bell, wake: Wake, name: str) -> None:
        self._bell = bell
        self._wake = wake
        self._ending, self._end = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.listening = False
        bell.add(wake)
        self._thread.start()

    def close(self) -> None:
        """Call nobody any more, and end the thread."""
        self._bell.remove(self._wake)
        self._end.close()
        self._thread.join()
        self._ending.close()

    def _run(self) -> None:
        raise AssertionError("a subclass says what it does")

    def _ends(self, seconds: float, *others: int) -> bool:
        """Wait, until one of the other descriptors can be read; whether the end has come."""
        end = self._ending.fileno()
        ready, _, _ = select.select([end, *others], [], [], seconds)
        return end in ready


class Poll(_Thread):
    """Looks whether another connection has written into an SQLite file."""

    def __init__(self, database: Database, bell: Bell, wake: Wake) -> None:
        self._place = Path(database.place).absolute().as_uri()
        super().__init__(bell, wake, "mesh store poll")

    def _run(self) -> None:
        last: object = None
        connection: sqlite3.Connection | None = None
        while not self._ends(POLL_SECONDS):
            try:
                if connection is None:
                    connection = sqlite3.connect(f"{self._place}?mode=rw", uri=True)
                found = connection.execute("PRAGMA data_version").fetchone()
            except sqlite3.Error:
                # Nobody knows what has happened; whoever looks will be told why it fails.
                connection, found = None, None
            if found is None or found != last:
                self._wake()
            last = found
        if connection is not None:
            connection.close()


class Listen(_Thread):
    """Listens to PostgreSQL, and connects again when that was lost."""

    def __init__(self, database: Database, bell: Bell, wake: Wake, hear: Hear) -> None:
        self._url = database.url
        self._hear = hear
        super().__init__(bell, wake, "mesh store listen")

    def _run(self) -> None:
        while True:
            try:
                connection = connect(self._url)
            except psycopg.Error:
                self._wake()
                if self._ends(RECONNECT_SECONDS):
                    return
                continue
            with contextlib.closing(connection):
                if self._listen(connection):
                    return
            self.listening = False
            if self._ends(RECONNECT_SECONDS):
                return

    def _listen(self, connection: BoundedConnection) -> bool:
        """Until the connection is lost (False), or the end (True)."""
        try:
            connection.execute(f"LISTEN {CHANNEL}")
            connection.execute(f"LISTEN {POST}")
            self.listening = True
            # Something may have changed before.
            self._wake()
            while not self._ends(CHECK_SECONDS, connection.fileno()):
                # With a question on top, since silence may be a server's that is gone.
                connection.execute("SELECT 1")
                told = list(connection.notifies(timeout=0))
                for notification in told:
                    if notification.channel == POST:
                        self._hear(notification.payload)
                if any(x.channel == CHANNEL for x in told):
                    self._wake()
        except psycopg.Error:
            return False
        return True


def wakeups(database: Database, bell: Bell, wake: Wake, hear: Hear) -> Wakeups:
    """What fits the database. `wake` and `hear` must not raise, and not block."""
    return Poll(database, bell, wake) if database.is_sqlite else Listen(database, bell, wake, hear)
