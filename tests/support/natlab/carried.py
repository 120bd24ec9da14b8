"""A process that carries frames between two packet sockets: carrier/, which says how.

It ends with its control socket, so it cannot outlive the tests.
"""

import contextlib
import dataclasses
import socket
import subprocess
import threading
from dataclasses import dataclass

from tests.support.commands import GRACE, contents, memory_file
from tests.support.natlab.plan import Line
from tests.support.requirements import program

# linux/if_ether.h and linux/if_packet.h.
ETH_P_ALL = 0x0003
SOL_PACKET = 263
PACKET_IGNORE_OUTGOING = 23
# An order is followed at once; this is a machine that stands still.
_TIMEOUT = 20.0
_ANSWER = 1024

# Which way an order is about: frames that come in at the near end, or at the far end.
OUT, BACK = 0, 1


@dataclass(frozen=True, slots=True)
class Counts:
    """What happened to frames, one way.

    `lost` by chance, `dropped` by the full queue of a rate, `expired` as their TTL was too small,
    `oversize` as they were longer than the line's MTU, `overflow` as too many were on their way or
    the link was down. ARP and the like count too.
    """

    carried: int
    lost: int
    repeated: int
    reordered: int
    dropped: int
    expired: int
    oversize: int
    overflow: int


class Carrier:
    """The process. Raises FileNotFoundError, with the reason, if it is not built."""

    def __init__(self, ends: tuple[socket.socket, socket.socket], seed: int) -> None:
        command = program("carrier")
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(_TIMEOUT)
        self._log = memory_file("carrier")
        passed = (theirs.fileno(), *(end.fileno() for end in ends))
        try:
            self._child = subprocess.Popen(
                [command, *map(str, passed), str(seed)],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=passed,
            )
        except BaseException:
            self._control.close()
            self._log.close()
            raise
        finally:
            theirs.close()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._child.pid

    def set(self, way: int, line: Line) -> None:
        """Other conditions, from now on; what is on its way keeps its time."""
        words = (f"{field.name}={getattr(line, field.name)}" for field in dataclasses.fields(line))
        answer = self._order(f"line {way} {' '.join(words)}")
        if answer != "ok":
            raise ValueError(f"{line}: {answer}")

    def counts(self, way: int) -> Counts:
        """What happened so far."""
        answer = self._order(f"counts {way}")
        pairs = (word.split("=") for word in answer.split())
        return Counts(**{name: int(number) for name, number in pairs})

    def _order(self, text: str) -> str:
        with self._lock:
            try:
                self._control.send(text.encode())
                answer = self._control.recv(_ANSWER).decode()
            except OSError as error:
                answer, reason = "", str(error)
            else:
                reason = "it ended"
        if not answer:
            # It closes the control socket before it says why.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(GRACE)
            said = reason if self._log.closed else contents(self._log).strip() or reason
            raise AssertionError(f"the carrier does not answer: {said}")
        return answer

    def close(self) -> None:
        """End it; what is on its way is lost. Harmless when it has ended."""
        self._control.close()
        try:
            self._child.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._log.close()


def packet_socket(interface: str) -> socket.socket:
    """A socket for the whole frames of an interface of this thread's namespace."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        # What is sent on the interface from here does not come back.
        made.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        made.bind((interface, ETH_P_ALL))
    except BaseException:
        made.close()
        raise
    return made
