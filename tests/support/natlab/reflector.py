"""What NAT is a host behind? Asked by a protocol of the lab's own, so that it can judge others.

A reflector has two addresses with two ports each, as a server for RFC 5780 has. It tells who asks
from where the question came, and answers from whichever of its four sockets it is asked to.

    question  token (8 bytes), number of the socket that shall answer (1)
    answer    token (8 bytes), number of the socket that was asked (1), address and port as text
"""

import itertools
import os
import select
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Self

from tests.support.natlab.host import LabHost

Address = tuple[str, int]

# Not those of STUN, which another server may have on the same host.
PORTS = (7001, 7002)
_TOKEN = 8
# Asked so often, and so long after each time, in seconds: a busy machine takes its time. After an
# answer that was sure to come, those that may be kept out are asked for so often again.
_TIMES = 8
_AGAIN = 2
_WAIT = 0.15
_LARGEST = 100


class Reach(Enum):
    """How much of a destination a NAT looks at: to map (RFC 4787, 4.1), or to filter (5)."""

    ENDPOINT_INDEPENDENT = "independent"
    ADDRESS = "address"
    ADDRESS_AND_PORT = "address and port"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a NAT does to the UDP of one host: `mapped` as three destinations saw one socket."""

    mapping: Reach
    filtering: Reach
    local: Address
    mapped: tuple[Address, Address, Address]

    @property
    def keeps_port(self) -> bool:
        """Whether the first mapping has the port of the socket."""
        return self.mapped[0][1] == self.local[1]


class Reflector:
    """Four sockets on a host with two addresses, and a thread that answers; a context manager."""

    def __init__(self, host: LabHost) -> None:
        first, second = host.addresses()[:2]
        # Number 0 is where questions go; 1 has another port, 2 another address, 3 both others.
        self.places: tuple[Address, ...] = tuple(itertools.product((first, second), PORTS))
        self._sockets: list[socket.socket] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        try:
            for place in self.places:
                made = host.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
                self._sockets.append(made)
                made.bind(place)
                made.setblocking(False)
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._thread.join()
        self._close()

    def _close(self) -> None:
        for made in self._sockets:
            made.close()

    def _run(self) -> None:
        while not self._ending.is_set():
            for ready in select.select(self._sockets, (), (), 0.05)[0]:
                data, source = ready.recvfrom(_LARGEST)
                if len(data) == _TOKEN + 1 and data[-1] < len(self._sockets):
                    asked = bytes([self._sockets.index(ready)])
                    told = f"{source[0]} {source[1]}".encode()
                    self._sockets[data[-1]].sendto(data[:_TOKEN] + asked + told, source)


# Who is asked, and who shall answer: numbers of the reflector's places.
_Question = tuple[int, int]


def _rounds(
    udp: socket.socket, reflector: Reflector, questions: Sequence[_Question]
) -> Iterator[dict[_Question, Address]]:
    """Ask from one socket, again and again, until all is answered; after each round what is known.

    The first question is asked first, which is when its mapping is made.
    """
    tokens = {os.urandom(_TOKEN): question for question in questions}
    found: dict[_Question, Address] = {}
    for _ in range(_TIMES):
        for token, (asked, answering) in tokens.items():
            if (asked, answering) not in found:
                udp.sendto(token + bytes([answering]), reflector.places[asked])
        deadline = time.monotonic() + _WAIT
        while len(found) < len(tokens) and (left := deadline - time.monotonic()) > 0:
            udp.settimeout(left)
            try:
                data, source = udp.recvfrom(_LARGEST)
            except TimeoutError:
                break
            question = tokens.get(data[:_TOKEN])
            if question and source == reflector.places[question[1]]:
                found[question] = _address(data)
        yield found
        if len(found) == len(tokens):
            return


def mapped(sockets: Sequence[socket.socket], reflector: Reflector) -> list[Address | None]:
    """What each socket looks like from the reflector's first place; None if there is no answer.

    All are asked at once.
    """
    tokens = {made: os.urandom(_TOKEN) for made in sockets}
    found: dict[socket.socket, Address] = {}
    for _ in range(_TIMES):
        waiting = [made for made in sockets if made not in found]
        for made in waiting:
            made.sendto(tokens[made] + b"\0", reflector.places[0])
        deadline = time.monotonic() + _WAIT
        while waiting and (left := deadline - time.monotonic()) > 0:
            for made in select.select(waiting, (), (), left)[0]:
                data, _source = made.recvfrom(_LARGEST)
                if data[:_TOKEN] == tokens[made]:
                    found[made] = _address(data)
                    waiting.remove(made)
    return [found.get(made) for made in sockets]


def _address(answer: bytes) -> Address:
    """What an answer tells."""
    address, port = answer[_TOKEN + 1 :].decode().split()
    return address, int(port)


def classify(host: LabHost, reflector: Reflector) -> Behaviour | None:
    """Find out what is between a host and the reflector; None where no UDP passes.

    Takes some tenths of a second, of waiting for what a filter keeps out; a second for None.
    """
    with host.udp() as first, host.udp() as second:
        *_, seen = _rounds(first, reflector, ((0, 0), (1, 1), (2, 2)))
        if len(seen) < 3:
            return None
        # A socket that has never sent anything but to the place that is asked. Its own answer is
        # sure to come, and the others were sent at the same moments.
        again = _AGAIN
        for let_in in _rounds(second, reflector, ((0, 0), (0, 1), (0, 3))):
            again -= (0, 0) in let_in
            if again < 0:
                break
        local = first.getsockname()
    one, port, address = seen[0, 0], seen[1, 1], seen[2, 2]
    mapping = Reach.ENDPOINT_INDEPENDENT
    if one != address:
        mapping = Reach.ADDRESS if one == port else Reach.ADDRESS_AND_PORT
    filtering = Reach.ADDRESS_AND_PORT
    if (0, 1) in let_in:
        filtering = Reach.ENDPOINT_INDEPENDENT if (0, 3) in let_in else Reach.ADDRESS
    return Behaviour(mapping, filtering, local, (one, port, address))
