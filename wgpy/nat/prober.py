"""Questions to places and answers from them: what two nodes know of a path is made of these.

It counts, seals, opens, matches transactions and looks for replays. It sends nothing and decides
nothing: what a question or an answer means is the pathfinder's to say.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from wgpy.nat import probe as codec
from wgpy.nat.path_ids import IdSet, OurIds, TheirIds
from wgpy.nat.place import Place, Send
from wgpy.nat.sealed import NONCE_LENGTH, Box
from wgpy.protocol.constants import PROBE_MIN_LENGTH, TYPE_PROBE
from wgpy.protocol.messages import ParseError, message_type

# A reply that comes later tells nothing of the path as it is now.
TRANSACTION_SECONDS: Final = 10.0
# Room for those of the birthday method (1,024, or 256 sockets), and for everything else.
MAX_TRANSACTIONS: Final = 1280


class Purpose(Enum):
    """Why a probe was sent."""

    # Is anybody there?
    CHECK = "check"
    # The same of a path that has answered before.
    WATCH = "watch"
    # Does one of this length get through?
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class _Asked:
    place: Place
    when: float
    purpose: Purpose
    length: int


@dataclass(frozen=True, slots=True)
class Question:
    """An authentic probe, for the first time. `ids` and `index` are how it called us."""

    source: Place
    transaction: bytes
    length: int
    ids: IdSet
    index: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A probe of ours was answered by the place that it went to. `asked_at` is when it was sent,
    `seen_as` the address and port that it came from, as they saw it."""

    place: Place
    asked_at: float
    purpose: Purpose
    length: int
    seen_as: tuple[str, int]
    ids: IdSet
    index: int


class Prober:
    """One peer's probes, in both directions. `random(n)` gives n unpredictable bytes."""

    __slots__ = ("_asked", "_box", "_counter", "_random", "counters", "ours", "theirs")

    def __init__(
        self, box: Box, random: Callable[[int], bytes], counters: Counter[str] | None = None
    ) -> None:
        self.ours = OurIds(random)
        self.theirs = TheirIds()
        self.counters: Counter[str] = Counter() if counters is None else counters
        self._box = box
        self._random = random
        self._counter = 0
        # Transaction -> what was asked, the oldest first.
        self._asked: dict[bytes, _Asked] = {}

    @property
    def can_ask(self) -> bool:
        """Whether the peer has told how it is to be called."""
        return self.theirs.current is not None

    def ask(
        self,
        to: Place,
        now: float,
        purpose: Purpose,
        *,
        length: int = PROBE_MIN_LENGTH,
        ttl: int = 0,
        whole: bool = False,
    ) -> Send | None:
        """A probe to be sent, None before the peer's first signal."""
        called = self.theirs.current
        if called is None:
            return None
        self._forget(now)
        transaction = self._random(codec.TRANSACTION_LENGTH)
        self._asked[transaction] = _Asked(to, now, purpose, length)
        asked = codec.Probe(transaction, self._next(), length)
        nonce = self._random(NONCE_LENGTH)
        self.counters["probes_sent"] += 1
        return Send(codec.pack_probe(asked, self._box, called, nonce), to, ttl, whole)

    def answer(self, question: Question) -> Send | None:
        """The reply to a question, to where it came from."""
        called = self.theirs.current
        if called is None:
            return None
        source = question.source
        reply = codec.Reply(
            question.transaction, self._next(), source.host, source.port, question.length
        )
        nonce = self._random(NONCE_LENGTH)
        self.counters["replies_sent"] += 1
        return Send(codec.pack_reply(reply, self._box, called, nonce), source)

    def receive(self, data: bytes, source: Place, now: float) -> Question | Answer | None:
        """What a datagram of type 0x12 or 0x13 is; None, and counted, if it is of no use."""
        try:
            return self._receive(data, source, now)
        except ParseError as error:
            self.counters[f"probe_{error.reason}"] += 1
            return None

    def _receive(self, data: bytes, source: Place, now: float) -> Question | Answer | None:
        known = self.ours.find(codec.path_id(data))
        if known is None:
            raise ParseError("a path id that is none of ours", "unknown_path_id")
        ids, index = known
        if message_type(data) == TYPE_PROBE:
            probe = codec.parse_probe(data, self._box)
            self._check_counter(ids, probe.counter)
            self.counters["probes_received"] += 1
            return Question(source, probe.transaction, probe.length, ids, index)
        reply = codec.parse_reply(data, self._box)
        self._check_counter(ids, reply.counter)
        asked = self._asked.get(reply.transaction)
        if asked is None or now - asked.when > TRANSACTION_SECONDS:
            raise ParseError("a reply to nothing that we asked", "late_reply")
        if asked.place != source:
            # Whoever answers for another place proves nothing of either.
            raise ParseError("a reply from elsewhere", "reply_from_elsewhere")
        if asked.length != reply.arrived:
            raise ParseError("a reply to another length", "wrong_length")
        del self._asked[reply.transaction]
        self.counters["replies_received"] += 1
        return Answer(
            source,
            asked.when,
            asked.purpose,
            asked.length,
            (reply.host, reply.port),
            ids,
            index,
        )

    def _check_counter(self, ids: IdSet, counter: int) -> None:
        if not ids.window.accept(counter):
            raise ParseError("a counter that was seen before", "replayed")

    def _next(self) -> int:
        self._counter += 1
        return self._counter

    def _forget(self, now: float) -> None:
        while self._asked:
            first = next(iter(self._asked))
            old = now - self._asked[first].when > TRANSACTION_SECONDS
            if not old and len(self._asked) < MAX_TRANSACTIONS:
                return
            del self._asked[first]
