"""Ask STUN servers where we are seen: Binding transactions (RFC 8489, 6), without a socket.

    ask        begins a transaction with a server, which is sent again until it is answered
    receive    takes a datagram that came; tick, what is due by the time
    take       what is to be sent, and what came of transactions

An answer counts if its transaction id is one of ours, which nobody off the path can guess, and if
it comes from where it must. The rest is counted and changes nothing.
"""

import ipaddress
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple

from wgpy.nat.place import Place, Send
from wgpy.nat.stun import (
    TRANSACTION_LENGTH,
    Class,
    Message,
    Method,
    ParseError,
    mapped_address,
    pack,
    parse,
)

# Outstanding at once in all: eight servers, asked over a few sockets each.
MAX_TRANSACTIONS: Final = 64
# Outstanding at once with one server: RFC 8489, 6.2.1.
MAX_PER_SERVER: Final = 10
# Ids of transactions that ended, by which a late second answer is told from a forged one.
MAX_ENDED: Final = 64

# What a request is filled up to, for IPv4 and IPv6: as long as the answer that says all
# that we want. So a server of ours, which never answers with more than it got, can say it.
REQUEST_LENGTH_V4: Final = 64
REQUEST_LENGTH_V6: Final = 100
_FILLER: Final = "SOFTWARE"
_FILLER_HEADER: Final = 4


class Schedule(NamedTuple):
    """When a request is sent again: after `first` seconds, then twice as long each time, `sends`
    times in all; the last is waited for `last` seconds."""

    first: float
    sends: int
    last: float


# RFC 8489, 6.2.1, begins with 500 ms as well, for a path whose round trip is not known, and goes on
# for 39.5 s. Here it is sent at 0, 0.5, 1.5 and 3.5 s and given up after 5 s, as WireGuard takes a
# handshake for lost then: three lost ones in a row are survived, and who waits asks another server.
USUAL: Final = Schedule(first=0.5, sends=4, last=1.5)


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer. `mapped` is where it saw us come from.

    `other` is the server's other address and port, if it has one and says so. `round_trip` is in
    seconds, from the first of `sends` requests: an upper bound if it was sent more than once.
    """

    transaction: bytes
    server: Place
    mapped: tuple[str, int]
    other: tuple[str, int] | None
    round_trip: float
    sends: int


class Reason(Enum):
    """Why a transaction gave nothing."""

    TIMEOUT = "no answer"
    REFUSED = "refused"
    UNUSABLE = "an answer of no use"


@dataclass(frozen=True, slots=True)
class Failure:
    """A transaction that gave nothing. `code` is the ERROR-CODE of one that was refused, else 0."""

    transaction: bytes
    server: Place
    reason: Reason
    code: int = 0


@dataclass(slots=True)
class _Transaction:
    server: Place
    # Where the answer must come from.
    source: Place
    request: bytes
    schedule: Schedule
    began: float
    sends: int
    due: float


class StunClient:
    """Transactions with any number of servers at once, over any sockets of ours.

    `random` gives so many random bytes, `counters` count what was done and what was ignored.
    """

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._transactions: dict[bytes, _Transaction] = {}
        self._ended: dict[bytes, None] = {}
        self._out: list[Send | Answer | Failure] = []
        self.counters: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._transactions)

    def ask(
        self,
        server: Place,
        now: float,
        attributes: Mapping[str, Any] | None = None,
        *,
        source: Place | None = None,
        schedule: Schedule = USUAL,
    ) -> bytes | None:
        """Begin a transaction, and return its id; None if there are as many as may be.

        Addresses are in their usual text, as sockets give them. `source` is where the answer must
        come from, if that is not the server's own address and port (CHANGE-REQUEST).
        """
        with_server = sum(x.server[:2] == server[:2] for x in self._transactions.values())
        if len(self._transactions) >= MAX_TRANSACTIONS or with_server >= MAX_PER_SERVER:
            self.counters["too_many"] += 1
            return None
        transaction = self._random(TRANSACTION_LENGTH)
        self._transactions[transaction] = _Transaction(
            server=server,
            source=server if source is None else source,
            request=_request(transaction, server, dict(attributes or {})),
            schedule=schedule,
            began=now,
            sends=0,
            due=now,
        )
        self._send(self._transactions[transaction], now)
        return transaction

    def cancel(self) -> None:
        """End every transaction; nothing is told of them."""
        for transaction in self._transactions:
            self._note_ended(transaction)
        self._transactions.clear()
        self._out.clear()

    def receive(self, data: bytes, source: Place, now: float) -> bool:
        """Take a datagram; whether it answered one of our transactions. Whatever it is, nothing is
        raised."""
        try:
            message = parse(data)
        except ParseError as error:
            self.counters[error.reason] += 1
            return False
        if message.method is not Method.BINDING or message.kind not in (
            Class.RESPONSE,
            Class.ERROR,
        ):
            self.counters["no_answer_to_binding"] += 1
            return False
        found = self._transactions.get(message.transaction)
        if found is None:
            known = message.transaction in self._ended
            self.counters["late" if known else "unknown_transaction"] += 1
            return False
        # A server that cannot answer from elsewhere says so from where it was asked.
        is_refusal = message.kind is Class.ERROR and source == found.server
        if source != found.source and not is_refusal:
            self.counters["wrong_source"] += 1
            return False
        self._end(message.transaction, _result(message, found, now))
        return True

    def tick(self, now: float) -> None:
        """Send again what is not answered, and give up what was sent often enough."""
        for transaction, found in list(self._transactions.items()):
            if found.due > now:
                continue
            if found.sends < found.schedule.sends:
                self._send(found, now)
            else:
                self._end(transaction, Failure(transaction, found.server, Reason.TIMEOUT))

    def due(self) -> float | None:
        """When `tick` has something to do, if nothing comes before."""
        return min((x.due for x in self._transactions.values()), default=None)

    def take(self) -> list[Send | Answer | Failure]:
        """What is to be sent, and what came of transactions, since the last time."""
        taken, self._out = self._out, []
        return taken

    def _send(self, found: _Transaction, now: float) -> None:
        self._out.append(Send(found.request, found.server))
        self.counters["sent"] += 1
        is_last = found.sends + 1 == found.schedule.sends
        # From now and not from when it was due: after a sleep they do not all leave at once.
        wait = found.schedule.last if is_last else found.schedule.first * 2**found.sends
        found.due = now + wait
        found.sends += 1

    def _end(self, transaction: bytes, result: Answer | Failure) -> None:
        del self._transactions[transaction]
        self._note_ended(transaction)
        self._out.append(result)
        self.counters["answered" if isinstance(result, Answer) else result.reason.name.lower()] += 1

    def _note_ended(self, transaction: bytes) -> None:
        self._ended[transaction] = None
        if len(self._ended) > MAX_ENDED:
            del self._ended[next(iter(self._ended))]


def _request(transaction: bytes, server: Place, attributes: dict[str, Any]) -> bytes:
    """A Binding request, filled up. The filler is blanks: it says nothing of who asks."""
    wanted = REQUEST_LENGTH_V6 if server.is_v6 else REQUEST_LENGTH_V4
    bare = len(pack(Message(Method.BINDING, Class.REQUEST, transaction, attributes)))
    if bare + _FILLER_HEADER < wanted:
        attributes[_FILLER] = " " * (wanted - bare - _FILLER_HEADER)
    return pack(Message(Method.BINDING, Class.REQUEST, transaction, attributes))


def _result(message: Message, found: _Transaction, now: float) -> Answer | Failure:
    """What an answer from where it must come from means."""
    if message.kind is Class.ERROR:
        code = message.attributes.get("ERROR-CODE", (0, ""))[0]
        return Failure(message.transaction, found.server, Reason.REFUSED, code)
    mapped = mapped_address(message)
    # What must be understood and is not makes an answer useless (RFC 8489, 6.3.3).
    if mapped is None or message.unknown or not is_usable(mapped):
        return Failure(message.transaction, found.server, Reason.UNUSABLE)
    return Answer(
        transaction=message.transaction,
        server=found.server,
        mapped=mapped,
        # RFC 3489 called it CHANGED-ADDRESS.
        other=message.attributes.get("OTHER-ADDRESS") or message.attributes.get("CHANGED-ADDRESS"),
        round_trip=max(0.0, now - found.began),
        sends=found.sends,
    )


def is_usable(address: tuple[str, int]) -> bool:
    """Whether one machine can be at a numeric address and port at all."""
    found = ipaddress.ip_address(address[0])
    broadcast = "255.255.255.255"
    return bool(address[1]) and not (
        found.is_unspecified or found.is_multicast or str(found) == broadcast
    )
