"""Answer Binding requests: tell whoever asks where he is seen (RFC 8489 and 5780), with no socket.

It runs on a port of its own, never on a tunnel's, and is made so that nobody is hurt by answers
that he did not ask for:

- A request must have the cookie and a FINGERPRINT, and the answer is never longer than it; what has
  no room is left out, and a request too short for the least answer gets none. So a made-up source
  gets no more bytes than its forger spends, and who looks for open servers finds none here.
- With `any_client` these rules are not asked of the clients of others, which send 20 bytes, some as
  RFC 3489 had it. An answer has then at most SHORT_V4 or SHORT_V6 bytes, or as many as the request:
  with the headers of IP and UDP 80 for 48, or 124 for 68.
- Answers to one source, and in all, are limited.
- The answer goes to where the request came from, whatever it says: RESPONSE-PORT is not known here.

From a second port, a second address or both, CHANGE-REQUEST is served and OTHER-ADDRESS told.

ANSWER-AFTER is ours: a number of seconds, of 32 bits, after which the one answer is to be sent. So
a client learns whether its router still knows it after so long a silence (lifetime.py). From asking
again it could not, for a router may give the same port again. A server that does not know the
attribute answers at once.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from wgpy.ip import parse_address
from wgpy.nat.place import Place
from wgpy.nat.stun import (
    CHANGE_ADDRESS,
    CHANGE_PORT,
    CLASSIC_TRANSACTION_LENGTH,
    Class,
    Message,
    Method,
    ParseError,
    is_stun,
    pack,
    parse,
)
from wgpy.protocol.ratelimit import RateLimiter, source_of

# Longer than any request that asks for something here; nobody has reason to send more.
MAX_REQUEST: Final = 548
# Header 20, two addresses of 12 or 24, FINGERPRINT 8: the address seen, and the server's other one.
SHORT_V4: Final = 52
SHORT_V6: Final = 76

# A machine that looks what NAT it has sends a dozen at once; a household shares an address.
PER_SOURCE: Final = 20
# 10,000 machines that ask every 25 s are 400 a second; more than twice as many are answered, and a
# flood makes no more than 100 KB/s of answers.
IN_ALL: Final = 1000
# With no more in all than 1,000 a second, and a source forgotten after two: made-up ones fill it in
# a flood of four times that.
MAX_SOURCES: Final = 8192

# Answers that wait, in all and for one source: a measurement takes nine at once. 300 bytes each.
MAX_WAITING: Final = 4096
MAX_WAITING_SOURCE: Final = 36
# RFC 4787, 4.3, recommends that a mapping lives for 300 s; longer is not looked for.
MAX_DELAY: Final = 300

# Of unknown attributes, so many are named: what fits in any answer.
_MAX_NAMED: Final = 4
_UNKNOWN_ATTRIBUTE: Final = 420


class Reply(NamedTuple):
    """An answer to be sent to `to`, from our own address and port `at`."""

    data: bytes
    to: Place
    at: Place


class Responder:
    """The server behind one or more bound sockets, each known by its address and port.

    Of one version of IP there are at most two addresses, each with the same ports, at most two.
    """

    def __init__(self, bound: Sequence[Place], *, any_client: bool = False) -> None:
        """Raises ValueError for sockets that make no such square."""
        self._partners = partners(bound)
        self._any_client = any_client
        self._sources = RateLimiter(MAX_SOURCES, per_second=PER_SOURCE, burst=PER_SOURCE)
        self._all = RateLimiter(1, per_second=IN_ALL, burst=IN_ALL)
        self._waiting: list[tuple[float, int, Reply]] = []
        self._waiting_of: Counter[bytes] = Counter()
        self._numbers: Iterator[int] = itertools.count()
        self._out: list[Reply] = []
        self.counters: Counter[str] = Counter()

    def receive(self, data: bytes, source: Place, at: Place, now: float) -> None:
        """Take a datagram from `source` that came to the socket `at`. Nothing is raised."""
        refused = self._serve(data, source, at, now)
        self.counters["answered" if refused is None else refused] += 1

    def tick(self, now: float) -> None:
        """Send the answers whose time has come."""
        while self._waiting and self._waiting[0][0] <= now:
            _, _, reply = heapq.heappop(self._waiting)
            source = _source(reply.to)
            self._waiting_of[source] -= 1
            if not self._waiting_of[source]:
                del self._waiting_of[source]
            self._out.append(reply)

    def due(self) -> float | None:
        """When the next answer that waits is to be sent."""
        return self._waiting[0][0] if self._waiting else None

    def take(self) -> list[Reply]:
        """What is to be sent, since the last time."""
        taken, self._out = self._out, []
        return taken

    def _serve(self, data: bytes, source: Place, at: Place, now: float) -> str | None:
        """Answer, or say as the name of a counter why not. What is cheap to look at comes first."""
        if len(data) > MAX_REQUEST:
            return "too_long"
        if not (is_stun(data) or self._any_client):
            return "no_stun"
        if not source.port:
            return "no_port"
        if not self._sources.allow(parse_address(source.host), now):
            return "too_many_of_source"
        try:
            request = parse(data, classic=self._any_client)
        except ParseError as error:
            return error.reason
        if request.method is not Method.BINDING or request.kind is not Class.REQUEST:
            return "no_request"
        if not (request.has_fingerprint or self._any_client):
            return "no_fingerprint"
        if not self._all.allow(bytes(4), now):
            return "too_many"
        return self._answer(request, len(data), source, at, now)

    def _answer(
        self, request: Message, length: int, source: Place, at: Place, now: float
    ) -> str | None:
        limit = max(length, _short(source)) if self._any_client else length
        partners = self._partners[at]
        change = request.attributes.get("CHANGE-REQUEST", 0) & (CHANGE_ADDRESS | CHANGE_PORT)
        unknown = request.unknown
        if change and change not in partners:
            # RFC 5780, 6.1: as if the attribute were not known.
            unknown = (*unknown, 0x0003)
        if unknown:
            data = _refusal(request, unknown)
            if len(data) <= limit:
                self._out.append(Reply(data, source, at))
            return "unknown_attribute"
        answer_from = partners[change] if change else at
        data = _answer(request, source, answer_from, _other(partners), limit)
        if len(data) > limit:
            return "too_short"
        self._send(Reply(data, source, answer_from), request.attributes.get("ANSWER-AFTER", 0), now)
        return None

    def _send(self, reply: Reply, delay: int, now: float) -> None:
        """Send an answer, or keep it; at once if there is no room, which a client can tell."""
        source = _source(reply.to)
        if not 0 < delay <= MAX_DELAY:
            self._out.append(reply)
        elif len(self._waiting) >= MAX_WAITING or self._waiting_of[source] >= MAX_WAITING_SOURCE:
            self.counters["too_many_waiting"] += 1
            self._out.append(reply)
        else:
            self.counters["waited"] += 1
            self._waiting_of[source] += 1
            heapq.heappush(self._waiting, (now + delay, next(self._numbers), reply))


def partners(bound: Sequence[Place]) -> dict[Place, dict[int, Place]]:
    """For each socket, which one answers in its place for each value of CHANGE-REQUEST.

    Raises ValueError if a version of IP has three addresses or ports, or a corner is missing.
    """
    found: dict[Place, dict[int, Place]] = {}
    for is_v6 in (False, True):
        family = [x for x in bound if x.is_v6 == is_v6]
        hosts = {x.host for x in family}
        ports = {x.port for x in family}
        whole = {(host, port) for host in hosts for port in ports}
        if len(hosts) > 2 or len(ports) > 2 or {x[:2] for x in family} != whole:
            version = "IPv6" if is_v6 else "IPv4"
            raise ValueError(f"{version}: at most two addresses, with the same ports, at most two")
        for here in family:
            found[here] = {
                CHANGE_ADDRESS * (x.host != here.host) | CHANGE_PORT * (x.port != here.port): x
                for x in family
                if x != here
            }
    return found


def _other(partners: Mapping[int, Place]) -> Place | None:
    """What OTHER-ADDRESS says: the socket that differs in most."""
    for change in (CHANGE_ADDRESS | CHANGE_PORT, CHANGE_PORT, CHANGE_ADDRESS):
        if change in partners:
            return partners[change]
    return None


def _source(place: Place) -> bytes:
    return source_of(parse_address(place.host))


def _short(source: Place) -> int:
    return SHORT_V6 if source.is_v6 else SHORT_V4


def _answer(request: Message, source: Place, at: Place, other: Place | None, limit: int) -> bytes:
    """The address that was seen, and of the rest, in this order, what `limit` has room for."""
    seen = source[:2]
    rest: list[tuple[str, tuple[str, int] | None]]
    if len(request.transaction) == CLASSIC_TRANSACTION_LENGTH:
        attributes: dict[str, Any] = {"MAPPED-ADDRESS": seen}
        rest = [("CHANGED-ADDRESS", other and other[:2]), ("SOURCE-ADDRESS", at[:2])]
    else:
        attributes = {"XOR-MAPPED-ADDRESS": seen}
        rest = [
            ("OTHER-ADDRESS", other and other[:2]),
            ("RESPONSE-ORIGIN", at[:2]),
            # RFC 5780, 6.1, wants it as well, for clients that only read this one.
            ("MAPPED-ADDRESS", seen),
        ]
    data = _response(request, attributes)
    for name, value in rest:
        if value is None:
            continue
        longer = _response(request, {**attributes, name: value})
        if len(longer) > limit:
            break
        attributes[name] = value
        data = longer
    return data


def _response(request: Message, attributes: Mapping[str, Any]) -> bytes:
    return pack(Message(Method.BINDING, Class.RESPONSE, request.transaction, attributes))


def _refusal(request: Message, unknown: Sequence[int]) -> bytes:
    """420, with the first of the unknown attributes, and no words."""
    attributes = {
        "ERROR-CODE": (_UNKNOWN_ATTRIBUTE, ""),
        "UNKNOWN-ATTRIBUTES": tuple(unknown[:_MAX_NAMED]),
    }
    return pack(Message(Method.BINDING, Class.ERROR, request.transaction, attributes))
