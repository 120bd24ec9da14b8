"""Requests to one TURN server, signed as it wants them, and the answers that count.

What it does by itself: sends again, answers challenges with the credentials that there are, within
MAX_RETRIES, and drops what is not signed. What comes of a request is an Outcome, once.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from wgpy.nat.place import Place, Send
from wgpy.nat.stun import TRANSACTION_LENGTH, Class, Message, Method, ParseError, pack
from wgpy.nat.turn_auth import Challenge, read_challenge, sign
from wgpy.nat.turn_credentials import Credentials, Source
from wgpy.nat.turn_events import CredentialsNeeded, Event, Need, Reason
from wgpy.nat.turn_flight import DATAGRAMS, STREAM, Flight, Request
from wgpy.nat.turn_peers import Entry

# A request is repeated with another nonce or other credentials this often; an honest server needs
# two.
MAX_RETRIES: Final = 4
# New credentials are asked for this long before the old ones end, in seconds.
EXPIRY_MARGIN: Final = 60.0

# Errors that servers do not sign. RFC 8489 wants the first two so; coturn signs neither of the
# others, and no 437 to an Allocate. Who forges one has seen the request, and can keep us from an
# allocation in other ways.
UNSIGNED: Final = frozenset({401, 438, 300, 441})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request: an answer, whose error is `code` (0 for success), or with `reason`
    none that is of use."""

    request: Request
    message: Message | None = None
    code: int = 0
    reason: Reason | None = None


class Dialogue:
    """See above. `challenge` is the server's last; `round_trip` that of the last request that was
    answered without being sent again. What is sent and told is appended to `out`."""

    def __init__(
        self,
        server: Place,
        source: Source,
        random: Callable[[int], bytes],
        counters: Counter[str],
        out: list[Send | Event],
        *,
        stream: bool,
        remembered: Challenge | None,
    ) -> None:
        self.challenge = remembered
        self.round_trip: float | None = None
        self.used: Credentials | None = None
        self.flight = Flight(STREAM if stream else DATAGRAMS)
        self._out = out
        self._server = server
        self._source = source
        self._random = random
        self._counters = counters
        self._stream = stream
        self._given: Credentials | None = None
        self._refused: Credentials | None = None
        self._is_watched = True
        # What the owner was told last, since credentials were chosen or given.
        self._needed: Need | None = None

    @property
    def is_signed(self) -> bool:
        """Whether the next request will be."""
        return self.used is not None and self.challenge is not None

    def begin(self, now: float) -> None:
        """Nothing asked before counts any more; credentials are chosen anew."""
        self.flight.clear()
        self._refused = self._needed = None
        self._is_watched = True
        # Without a challenge nothing can be signed, and perhaps nothing need be.
        self.used = self._find(now) if self.challenge is not None else None

    def give(self, credentials: Credentials) -> bool:
        """Take these when some are chosen next; whether they are not those just refused."""
        self._given = credentials
        self._is_watched = True
        self._needed = None
        return not credentials.same_as(self._refused)

    def ask(
        self, method: Method, attributes: Mapping[str, Any], now: float, entry: Entry | None = None
    ) -> None:
        """Send a request, signed if there are a challenge and credentials."""
        self._ask(method, attributes, now, entry, 0)

    def find(self, message: Message) -> Request | None:
        """The request that a message answers; counts those that answer none of ours."""
        request = self.flight.get(message.transaction)
        is_answer = message.kind in (Class.RESPONSE, Class.ERROR)
        if request is None or not is_answer or message.method is not request.method:
            self._counters["unknown_transaction"] += 1
            return None
        return request

    def answer(self, request: Request, message: Message, now: float) -> Outcome | None:
        """What comes of the answer to a request; None if that is asked again, or still waits."""
        code = 0
        if message.kind is Class.ERROR:
            code = message.attributes.get("ERROR-CODE", (400, ""))[0]
        if request.key and not request.key.signed(message) and not _may_be_unsigned(request, code):
            self._counters["unauthentic"] += 1
            request.is_doubtful = True
            if not self._stream:
                return None
            # RFC 8489, section 9.2.5: nobody on the way has slipped that into a stream.
            self.flight.end(request)
            return Outcome(request, reason=Reason.LIED)
        self.flight.end(request)
        if request.sends == 1:
            self.round_trip = max(0.0, now - request.began)
        if code in (401, 438):
            reason = self._challenged(request, code, message, now)
            return None if reason is None else Outcome(request, None, code, reason)
        if code:
            self._counters[f"error_{code}"] += 1
        elif message.unknown:
            # RFC 8489, section 6.3.3: what must be understood and is not makes an answer useless.
            self._counters["unknown_attribute"] += 1
            return Outcome(request, reason=Reason.LIED)
        return Outcome(request, message, code)

    def tick(self, now: float) -> list[Outcome]:
        """Send again what is due, and give up what was sent often enough."""
        again, over = self.flight.tick(now)
        self._out += [Send(request.data, self._server) for request in again]
        self._counters["repeated"] += len(again)
        self._counters["unanswered"] += len(over)
        return [Outcome(x, reason=Reason.LIED if x.is_doubtful else Reason.SILENT) for x in over]

    def watch(self, now: float) -> None:
        """Say in time that the credentials in use end."""
        moment = self.watch_due()
        if moment is None or now < moment:
            return
        self._is_watched = False
        for found in (self._given, self._source(now)):
            if found is not None and found.good(now + EXPIRY_MARGIN):
                self._given = found
                return
        self._need(Need.EXPIRING)

    def watch_due(self) -> float | None:
        """When `watch` has something to say."""
        if self.used is None or self.used.expires is None or not self._is_watched:
            return None
        return self.used.expires - EXPIRY_MARGIN

    def _ask(
        self,
        method: Method,
        attributes: Mapping[str, Any],
        now: float,
        entry: Entry | None,
        retries: int,
    ) -> None:
        transaction = self._random(TRANSACTION_LENGTH)
        key = challenge = None
        if self.used is not None and self.challenge is not None:
            challenge = self.challenge
            data, key = sign(method, transaction, attributes, self.used, challenge)
        else:
            data = pack(Message(method, Class.REQUEST, transaction, attributes))
        request = Request(
            method, attributes, transaction, data, now, entry, key, challenge, retries
        )
        self.flight.add(request, now)
        self._out.append(Send(data, self._server))
        self._counters["sent"] += 1

    def _challenged(
        self, request: Request, code: int, message: Message, now: float
    ) -> Reason | None:
        """401 or 438: ask again as the challenge wants it, or say why that leads nowhere."""
        self._counters["stale" if code == 438 else "challenged"] += 1
        try:
            challenge = read_challenge(message, self.challenge)
        except ParseError as error:
            self._counters[error.reason] += 1
            return Reason.LIED
        before, self.challenge = request.challenge, challenge
        if request.retries >= MAX_RETRIES or (code == 438 and challenge == before):
            return Reason.NONCE
        if before is None:
            self.used = self.used or self._choose(now)
            if self.used is None:
                return Reason.NO_CREDENTIALS
        # A challenge of an earlier day may be answered by 401 as well as by 438.
        elif code == 401 and request.retries > 0 and before.realm == challenge.realm:
            reason = self._unauthorized(request, now)
            if reason is not None:
                return reason
        self._ask(request.method, request.attributes, now, request.entry, request.retries + 1)
        return None

    def _unauthorized(self, request: Request, now: float) -> Reason | None:
        """The credentials are wrong, or not good any more: take others, if there are."""
        self._counters["unauthorized"] += 1
        before, self._refused = self.used, self.used
        chosen = self._choose(now)
        if chosen is None:
            return Reason.UNAUTHORIZED
        # RFC 8656, section 5: an allocation belongs to the user that made it.
        is_same_user = before is not None and before.username == chosen.username
        if request.method is not Method.ALLOCATE and not is_same_user:
            return Reason.USER_CHANGED
        self.used = chosen
        return None

    def _choose(self, now: float) -> Credentials | None:
        """Credentials, or the owner is told that there are none."""
        found = self._find(now)
        if found is None:
            self._need(Need.REFUSED if self._refused else Need.NONE)
        return found

    def _need(self, why: Need) -> None:
        # Several requests may find it out, one after the other.
        if self._needed is not why:
            self._needed = why
            self._out.append(CredentialsNeeded(why))

    def _find(self, now: float) -> Credentials | None:
        """Credentials that are good, and were not refused just now."""
        for found in (self._given, self._source(now)):
            if found is not None and found.good(now) and not found.same_as(self._refused):
                return found
        return None


def _may_be_unsigned(request: Request, code: int) -> bool:
    return code in UNSIGNED or (code == 437 and request.method is Method.ALLOCATE)
