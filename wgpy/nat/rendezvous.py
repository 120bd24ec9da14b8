"""Offer, answer, punch: what makes a signal one that may be acted on.

       A                                     B
       offer, transaction a        ──►       an offer proves nothing yet: it is answered, no more
       ◄──   answer, echo a, transaction b
       punch, echo b               ──►       B knows that A is there now
       waits half a round trip               begins at once

An offer could be an old one, kept back by whoever carries signals. So nobody sends a datagram to a
candidate before the other side has repeated a transaction that is 60 s old at the most, by the
clock of who made it: no two clocks are compared. The sequence number, which only rises, keeps
doubles and old messages out before that.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Final, NamedTuple

from wgpy.nat.sealed import NONCE_LENGTH, PathKeys
from wgpy.nat.signal_message import (
    LIFE,
    MAX_DELAY_MS,
    TRANSACTION_LENGTH,
    SignalKind,
    SignalMessage,
    pack_signal,
    parse_signal,
)
from wgpy.protocol.messages import ParseError

# Offers that were sent and not answered, each of which may still be.
MAX_OPEN_OFFERS: Final = 8
# Answers that were given and not acted on: to offers that were repeated while one was on its way.
MAX_OPEN_ANSWERS: Final = 4
# Offers are answered as often as honest peers repeat them; each costs the seal of an answer.
OFFERS_AT_ONCE: Final = 4
OFFERS_PER_SECOND: Final = 1.0
# The sequence starts at the sender's clock. Where that was set back, the peer is heard again after
# this time: what is older than a minute can do nothing anyway.
MARK_SECONDS: Final = 300.0


class Offered(NamedTuple):
    """The peer wants to meet; `message` is to be answered."""

    message: SignalMessage


class Answered(NamedTuple):
    """The peer has answered an offer of ours. `round_trip` is that of the signals, in seconds."""

    message: SignalMessage
    round_trip: float


class Punched(NamedTuple):
    """The peer has our answer, and begins: `message` is its offer; begin in `delay` seconds."""

    message: SignalMessage
    delay: float


class _Pending(NamedTuple):
    """What we answered, and when."""

    offer: SignalMessage
    when: float


class Rendezvous:
    """One peer's signals. `sequence` starts the numbers: milliseconds since 1970, by a clock that
    does not go back. `life` is that of our messages, in seconds."""

    __slots__ = (
        "_keys",
        "_life",
        "_mark",
        "_marked",
        "_offers",
        "_pending",
        "_random",
        "_sequence",
        "_tokens",
        "_tokens_at",
        "counters",
    )

    def __init__(
        self,
        keys: PathKeys,
        random: Callable[[int], bytes],
        sequence: int,
        *,
        life: int = LIFE,
        counters: Counter[str] | None = None,
    ) -> None:
        self.counters: Counter[str] = Counter() if counters is None else counters
        self._keys = keys
        self._random = random
        self._sequence = sequence
        self._life = life
        self._mark = -1
        self._marked = 0.0
        self._offers: dict[bytes, float] = {}
        # By the transactions of our answers, the oldest first.
        self._pending: dict[bytes, _Pending] = {}
        self._tokens = float(OFFERS_AT_ONCE)
        self._tokens_at: float | None = None

    # --- What we say ---

    def offer(self, content: SignalMessage, now: float) -> bytes:
        """Our offer, sealed: of `content` its method, facts, path ids and candidates."""
        transaction = self._random(TRANSACTION_LENGTH)
        while len(self._offers) >= MAX_OPEN_OFFERS:
            del self._offers[next(iter(self._offers))]
        self._offers[transaction] = now
        return self._seal(replace(content, kind=SignalKind.OFFER, transaction=transaction))

    def answer(
        self, offer: SignalMessage, content: SignalMessage, waited: float, now: float
    ) -> bytes:
        """Our answer to an offer that came `waited` seconds ago."""
        transaction = self._random(TRANSACTION_LENGTH)
        while len(self._pending) >= MAX_OPEN_ANSWERS:
            del self._pending[next(iter(self._pending))]
        self._pending[transaction] = _Pending(offer, now)
        return self._seal(
            replace(
                content,
                kind=SignalKind.ANSWER,
                transaction=transaction,
                echo=offer.transaction,
                delay_ms=_milliseconds(waited),
            )
        )

    def punch(self, answer: SignalMessage, delay: float) -> bytes:
        """Our word to begin, in `delay` seconds from when it arrives."""
        return self._seal(
            SignalMessage(
                SignalKind.PUNCH, 0, echo=answer.transaction, delay_ms=_milliseconds(delay)
            )
        )

    def _seal(self, message: SignalMessage) -> bytes:
        self._sequence += 1
        message = replace(message, sequence=self._sequence, life=self._life)
        nonce = self._random(NONCE_LENGTH)
        self.counters["signals_sent"] += 1
        return pack_signal(message, self._keys.signal, self._keys.ours, nonce)

    def withdraw(self) -> None:
        """Our open offers are void: whoever answers them is too late."""
        self._offers.clear()

    # --- What we hear ---

    def receive(self, data: bytes, now: float) -> Offered | Answered | Punched | None:
        """What a sealed signal is; None, and counted, if there is nothing to be done about it."""
        try:
            message = parse_signal(data, self._keys.signal)
            self._check_sequence(message, now)
            self.counters["signals_received"] += 1
            if message.kind is SignalKind.OFFER:
                return self._offered(message, now)
            if message.kind is SignalKind.ANSWER:
                return self._answered(message, now)
            return self._punched(message, now)
        except ParseError as error:
            self.counters[f"signal_{error.reason}"] += 1
            return None

    def implied(self, now: float) -> Punched | None:
        """Called when the peer used path ids that stand in our answers alone: it has one of them,
        which is all that a punch says. What it offered last is what counts."""
        offer = self.answered_offer(now)
        self._pending.clear()
        if offer is None:
            return None
        self.counters["punches_implied"] += 1
        return Punched(offer, 0.0)

    def answered_offer(self, now: float) -> SignalMessage | None:
        """The last offer that we have answered and whose punch may still come."""
        pending = next(reversed(self._pending.values()), None)
        if pending is None or now - pending.when > self._life:
            return None
        return pending.offer

    def _check_sequence(self, message: SignalMessage, now: float) -> None:
        if message.sequence <= self._mark and now - self._marked < MARK_SECONDS:
            raise ParseError("a sequence number that was seen before", "replayed")
        self._mark, self._marked = message.sequence, now

    def _offered(self, message: SignalMessage, now: float) -> Offered:
        if self._tokens_at is not None:
            gained = max(0.0, now - self._tokens_at) * OFFERS_PER_SECOND
            self._tokens = min(float(OFFERS_AT_ONCE), self._tokens + gained)
        self._tokens_at = now
        if self._tokens < 1.0:
            raise ParseError("too many offers", "offers_shed")
        self._tokens -= 1.0
        return Offered(message)

    def _answered(self, message: SignalMessage, now: float) -> Answered:
        sent = self._offers.get(message.echo)
        if sent is None:
            raise ParseError("an answer to no offer of ours", "unasked")
        self._offers.clear()
        if now - sent > self._life:
            raise ParseError("an answer that comes too late", "stale")
        round_trip = now - sent - message.delay_ms / 1000
        return Answered(message, max(0.0, round_trip))

    def _punched(self, message: SignalMessage, now: float) -> Punched:
        pending = self._pending.get(message.echo)
        if pending is None:
            raise ParseError("a punch for no answer of ours", "unasked")
        self._pending.clear()
        if now - pending.when > self._life:
            raise ParseError("a punch that comes too late", "stale")
        return Punched(pending.offer, message.delay_ms / 1000)


def _milliseconds(seconds: float) -> int:
    return min(max(round(seconds * 1000), 0), MAX_DELAY_MS)
