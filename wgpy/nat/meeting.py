"""When the two sides punch, and from which ports: the meetings of one peer.

Both sides run this, and neither is special: either may offer. Where offers cross, the one of the
lesser public key stands. What a meeting leads to is a round (punch.py, birthday.py), of which the
pathfinder says how it went.

    REST ─► GATHER (fresh sockets) ─► OFFERED ── answer ──► ROUND ─► REST, and when to try again
       └─── their offer ─► GATHER ──► ANSWERED ─ punch ──► ROUND
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from wgpy.nat import candidates
from wgpy.nat.budget import BIRTHDAY_SOCKETS, Budget
from wgpy.nat.candidates import (
    MAX_HOSTS,
    MAX_HOSTS_WITH_GUESSES,
    NOTHING,
    Candidate,
    Kind,
    Refused,
)
from wgpy.nat.facts import UNKNOWN, Role, birthday_role
from wgpy.nat.orders import Ask, Opened, Options, Order, WantSockets
from wgpy.nat.path_ids import IdSet, OurIds
from wgpy.nat.predict import guesses
from wgpy.nat.rendezvous import MAX_OPEN_ANSWERS, Answered, Offered, Punched, Rendezvous
from wgpy.nat.sealed import PathKeys
from wgpy.nat.signal_message import MAX_LIFE, Method, SignalKind, SignalMessage

# A STUN server answers within this, or the round goes without.
GATHER_SECONDS: Final = 1.0
# An offer is repeated after these; then the peer is not there, and calls when it is.
REPEAT: Final = (1.0, 2.0, 2.0, 2.0)
# A punch comes one round trip of the signals after our answer; a slow directory takes seconds.
PUNCH_SECONDS: Final = 10.0
# Other people's offers are not waited for while ours is this young: they cross.
CROSSING_SECONDS: Final = 1.0
# Too many rounds of other peers: look again, and twice as late each time, for those who look may be
# hundreds. A round takes about three seconds.
PUT_OFF: Final = 0.5
MAX_PUT_OFF: Final = 4.0
# Offers of ours, whatever reason there is: the other side answers one a second, and four at once.
# On a new network what servers say and what relays lend comes one after the other, and soon.
MIN_GAP: Final = 1.0
OFFERS_IN_A_ROW: Final = 3

# Rounds that follow each other at once; the first one is from the tunnel's own port.
QUICK_ROUNDS: Final = 3
# Side by side both see a round fail. The greater key gives the lesser one this much to offer first.
GIVE_WAY: Final = 1.0
# From the same port only after what was burnt is forgotten: conntrack keeps an entry without an
# answer for 30 s, others for up to a minute.
SILENCE: Final = 60.0
# While a relay carries packets, nobody waits: a minute, then twice as long each time.
RETRY_RELAYED: Final = 60.0
MAX_RETRY_RELAYED: Final = 900.0
# With no way at all there is nothing to lose: for five minutes, a router's reboot and more, a round
# follows the other, so that the peers find each other within 3 s of the network being back. Then
# something else is wrong.
RETRY_LOST: Final = 2.0
LOST_SECONDS: Final = 300.0
RETRY_LOST_LONG: Final = 30.0
# Candidates that are one port's, and not the machine's or a relay's.
_OF_A_PORT: Final = (Kind.REFLEXIVE, Kind.PREDICTED)
# The longest that two signals take to and fro; more is a mistake, and the round would be too late.
MAX_ROUND_TRIP: Final = 10.0


class Stage(Enum):
    """Where a meeting is."""

    REST = "rest"
    GATHER = "gather"
    OFFERED = "offered"
    ANSWERED = "answered"
    ROUND = "round"


class Begin(NamedTuple):
    """A round begins at `start`: the peer's message, how, from which sockets. For the pathfinder.

    `role` is set for the birthday method, which both sides have agreed to. `early`: the other side
    will begin later, when a person has brought it our answer.
    """

    start: float
    message: SignalMessage
    opened: tuple[Opened, ...]
    role: Role | None
    early: bool = False


@dataclass(frozen=True, slots=True)
class _ToAnswer:
    offer: SignalMessage
    came: float


class Meeting:
    """The signals of one peer, and the time of its rounds. `take` gives orders, and `Begin`s.

    `local`, `facts`, `refused` are the pathfinder's to set.
    """

    def __init__(
        self,
        keys: PathKeys,
        rendezvous: Rendezvous,
        ids: OurIds,
        budget: Budget,
        options: Options,
    ) -> None:
        self.local: tuple[Candidate, ...] = ()
        self.facts = UNKNOWN
        self.refused: Refused = NOTHING
        # Whether packets reach the peer now, and whether they do without a relay (`see`).
        self.has_way = False
        self.is_direct = False
        self.stage = Stage.REST
        self.failures = 0
        # What our answers gave out: whoever uses it has one of them.
        self.answered_with: tuple[IdSet, ...] = ()
        self._keys = keys
        self._rendezvous = rendezvous
        self._ids = ids
        self._budget = budget
        self._options = options
        self._yields = bytes(keys.ours) > bytes(keys.theirs)
        self._orders: list[Order | Begin] = []
        self._their_facts = UNKNOWN
        self._method = Method.PLAIN
        self._opened: tuple[Opened, ...] = ()
        self._to_answer: _ToAnswer | None = None
        self._deadline: float | None = None
        self._offers = 0
        self._offered_at = 0.0
        self._burnt_at: float | None = None
        self._lost_since: float | None = None
        self._put_off = PUT_OFF
        # When the last offers were made.
        self._offered: deque[float] = deque(maxlen=OFFERS_IN_A_ROW)
        self._moved = False
        # An offer came before we knew anything of ourselves.
        self._awaits_local = False

    # --- What the pathfinder says ---

    def take(self) -> list[Order | Begin]:
        """What is to be done, in this order."""
        taken, self._orders = self._orders, []
        return taken

    def due(self) -> float | None:
        """When `tick` has something to do."""
        return self._deadline

    def is_busy(self, now: float) -> bool:
        """Whether a way is looked for now, or will be in a moment."""
        soon = self._deadline is not None and self._deadline - now <= RETRY_LOST + GIVE_WAY
        return self.stage is not Stage.REST or soon

    def see(self, now: float, *, has_way: bool, is_direct: bool) -> None:
        """How things are."""
        if has_way:
            self._lost_since = None
        elif self.has_way or self._lost_since is None:
            self._lost_since = now
        self.has_way, self.is_direct = has_way, is_direct

    def want(self, now: float, *, burnt: bool = False, found: bool = False) -> None:
        """There is a reason to meet, and a new one: earlier failures do not count. `burnt`: a path
        died, so the mappings of the tunnel's own port may be others than we know. `found`: there
        are other candidates of ours."""
        self.failures = 0
        if burnt:
            self._burnt_at = now
        if found and not self.has_way and self.stage in (Stage.ANSWERED, Stage.ROUND):
            # What goes on lacks what is known now, and may lead nowhere.
            self._end()
        # A shell that has news all the time is listened to once in a while.
        soonest = now
        if len(self._offered) == OFFERS_IN_A_ROW:
            soonest = max(now, self._offered[0] + OFFERS_IN_A_ROW * MIN_GAP)
        if self.stage is Stage.REST:
            self._deadline = soonest
        elif self.stage is Stage.OFFERED:
            # What was offered is no longer true, and nor is what would be answered to it.
            if soonest <= now:
                self._rendezvous.withdraw()
            self._offers, self._deadline = 0, soonest
        elif self._to_answer is not None and self._awaits_local and self.local:
            self._gather(self._choose(self._to_answer.offer.method, now), now)

    def moved(self) -> None:
        """The local network is another one: what was burnt was burnt there, and what is under way
        is void. `want` comes again with the candidates."""
        self._end()
        self._rendezvous.withdraw()
        self._deadline = None
        self._burnt_at = self._lost_since = None
        self._moved = True
        self.failures = 0

    def stop(self) -> None:
        """Nothing more is offered."""
        self._end()
        self._deadline = None

    def sockets(self, opened: tuple[Opened, ...], now: float) -> bool:
        """The sockets that were wanted are there. False if nobody waits for them any more."""
        if self.stage is not Stage.GATHER:
            return False
        self._opened = opened
        self._gathered(now)
        return True

    def signal(self, heard: Offered | Answered | Punched, now: float) -> None:
        """A signal that may be acted on."""
        if isinstance(heard, Offered):
            self._on_offer(heard.message, now)
        elif isinstance(heard, Answered):
            self._on_answer(heard, now)
        else:
            self._begin(heard.message, now + heard.delay)

    def implied(self, now: float, *, direct: bool) -> tuple[bytes, ...]:
        """The peer used path ids that stand in our answer and nowhere else, so it has the answer;
        returns how it wants to be called. If it came by a direct path, the round has begun: by a
        relay it asks as soon as it can, and the punch that says when is still under way."""
        offer = self._rendezvous.answered_offer(now)
        if offer is None:
            return ()
        if not direct:
            return offer.path_ids
        punched = self._rendezvous.implied(now)
        if punched is not None:
            self._begin(punched.message, now)
        return offer.path_ids

    @property
    def vias(self) -> frozenset[int]:
        """The sockets that were opened for this meeting."""
        return frozenset(each.via for each in self._opened)

    def finished(self, now: float, *, success: bool) -> None:
        """The round is over."""
        if self._method is Method.PLAIN and not success:
            self._burnt_at = now
        self._end()
        if success:
            self.failures = 0
            self._deadline = None
            return
        self.failures += 1
        self._deadline = None if self._options.patient else now + self._pause(now)

    def tick(self, now: float) -> None:
        """Called when `due` says so."""
        if self._is_due(now) and self.stage is Stage.ANSWERED:
            # The punch never came. The next try may be at once.
            self.finished(now, success=self.is_direct)
        if not self._is_due(now):
            return
        if self.stage is Stage.REST:
            self._start(now)
        elif self.stage is Stage.GATHER:
            self._gathered(now)
        elif self.stage is Stage.OFFERED:
            self._repeat(now)

    def _is_due(self, now: float) -> bool:
        return self._deadline is not None and now >= self._deadline

    # --- Offering ---

    def _pause(self, now: float) -> float:
        give_way = GIVE_WAY if self._yields else 0.0
        if self.failures < QUICK_ROUNDS:
            return give_way
        if self.has_way:
            later = min(self.failures - QUICK_ROUNDS, 10)
            return min(RETRY_RELAYED * 2.0**later, MAX_RETRY_RELAYED) + give_way
        lost = self._lost_since is not None and now - self._lost_since < LOST_SECONDS
        return (RETRY_LOST if lost else RETRY_LOST_LONG) + give_way

    def _start(self, now: float) -> None:
        self._deadline = None
        if not self.local:
            # `want` comes again with the candidates.
            return
        if not self._budget.begin_round(self._keys.theirs, now, asked=False):
            self._deadline = now + self._put_off
            self._put_off = min(2 * self._put_off, MAX_PUT_OFF)
            return
        self._put_off = PUT_OFF
        self._to_answer = None
        self._offers = 0
        self._gather(self._choose(Method.PLAIN, now), now)

    def _choose(self, theirs: Method, now: float) -> Method:
        """How to punch; `theirs` is what the other side will do, if it has said so."""
        if self._options.relay_only:
            return Method.PLAIN
        burnt = self._burnt_at is not None and now - self._burnt_at < SILENCE
        wanted = theirs is Method.BIRTHDAY or (self._to_answer is None and self.failures > 0)
        wanted = wanted and self._role() is not None
        if wanted and self._budget.begin_birthday(self._keys.theirs, now):
            return Method.BIRTHDAY
        if burnt or self.facts.is_sequential or theirs is not Method.PLAIN:
            return Method.FRESH
        return Method.PLAIN

    def _gather(self, method: Method, now: float) -> None:
        self._method = method
        self._opened = ()
        self._awaits_local = False
        wanted = 0
        if method is Method.FRESH:
            wanted = 1
        elif method is Method.BIRTHDAY and self._role() is Role.MANY:
            wanted = BIRTHDAY_SOCKETS
        if not wanted:
            self._gathered(now)
            return
        self._await(now)
        self._orders.append(WantSockets(wanted, 4))

    def _await(self, now: float) -> None:
        self.stage = Stage.GATHER
        self._deadline = now + GATHER_SECONDS

    def _gathered(self, now: float) -> None:
        if self._to_answer is None:
            self._offer(now)
        else:
            self._answer(self._to_answer, now)

    def _offer(self, now: float) -> None:
        self.stage = Stage.OFFERED
        self._offered_at = now
        self._offered.append(now)
        told = self._ids.to_tell(new=self._moved)
        self._orders.append(Ask(self._rendezvous.offer(self._content(told), now)))
        if self._options.patient:
            self._deadline = now + MAX_LIFE
        else:
            self._deadline = now + REPEAT[min(self._offers, len(REPEAT) - 1)]
        self._offers += 1

    def _repeat(self, now: float) -> None:
        if self._offers < len(REPEAT) and not self._options.patient:
            self._offer(now)
            return
        # Nobody is there. It is not a round that failed, so no port is burnt.
        self._end()
        self.failures = max(self.failures + 1, QUICK_ROUNDS)
        self._deadline = None if self._options.patient else now + self._pause(now)

    def _content(self, told: IdSet) -> SignalMessage:
        self._moved = False
        return SignalMessage(
            SignalKind.OFFER,
            0,
            method=self._method,
            facts=self.facts,
            path_ids=told.ids,
            candidates=self._candidates(),
        )

    def _candidates(self) -> tuple[Candidate, ...]:
        if self._options.relay_only:
            relayed = [each for each in self.local if each.kind is Kind.RELAYED]
            return candidates.ours(relayed, self.refused)
        fresh = self._opened[0] if self._method is Method.FRESH and self._opened else None
        if fresh is None or fresh.reflexive is None:
            return candidates.ours([*self.local, *self._guess_of_old_port()], self.refused)
        # What STUN said of the old port is of no use to the new one.
        kept = [each for each in self.local if ":" in each.host or each.kind not in _OF_A_PORT]
        kept.append(Candidate(Kind.REFLEXIVE, *fresh.reflexive))
        guessed = list(guesses(self.facts, fresh.reflexive, fresh.local_port))
        hosts = MAX_HOSTS_WITH_GUESSES if guessed else MAX_HOSTS
        return candidates.ours([*kept, *guessed], self.refused, hosts)

    def _guess_of_old_port(self) -> list[Candidate]:
        """Of an older mapping nobody knows what came after it; but the port may have been kept."""
        v4 = [each for each in self.local if ":" not in each.host]
        seen = [(each.host, each.port) for each in v4 if each.kind is Kind.REFLEXIVE]
        bound = [each.port for each in v4 if each.kind is Kind.HOST]
        if not seen or not bound or self.facts.is_sequential:
            return []
        return list(guesses(self.facts, seen[0], bound[0]))

    # --- Answering ---

    def _on_offer(self, offer: SignalMessage, now: float) -> None:
        # Where people carry them, whoever is given one answers it.
        ours_stands = self.stage is Stage.OFFERED and not (self._yields or self._options.patient)
        if ours_stands and self._offers == 1 and now - self._offered_at < CROSSING_SECONDS:
            return  # they cross, and the other side answers ours
        if self.stage is Stage.ROUND and offer.method is Method.PLAIN and not self.has_way:
            # It has a relay now, and has not waited for the end (`want`).
            self._end()
        elif self.stage is Stage.ROUND:
            # The other side has seen it fail before us.
            self.finished(now, success=self.is_direct)
        if not self._budget.begin_round(self._keys.theirs, now, asked=True):
            return
        self._their_facts = offer.facts
        self._to_answer = _ToAnswer(offer, now)
        if ours_stands:
            # Ours may have been lost: both are open, and the first to be answered counts.
            self._answer(self._to_answer, now)
        elif not self.local:
            # We have just begun, or come to another network: in a moment there are some.
            self._rendezvous.withdraw()
            self._method = Method.PLAIN
            self._await(now)
            self._awaits_local = True
        elif self.stage is not Stage.GATHER:
            self._rendezvous.withdraw()
            self._gather(self._choose(offer.method, now), now)

    def _answer(self, asked: _ToAnswer, now: float) -> None:
        self._to_answer = None
        # Ids that nobody was ever told before: whoever uses one has this answer.
        told = self._ids.to_tell(new=True)
        self.answered_with = (*self.answered_with, told)[-MAX_OPEN_ANSWERS:]
        content = self._content(told)
        data = self._rendezvous.answer(asked.offer, content, now - asked.came, now)
        self._orders.append(Ask(data))
        if self._options.patient:
            # Nobody brings us the punch. That the offer is not an old one is the person's to know.
            self._begin(asked.offer, now, early=True)
        elif self.stage is not Stage.OFFERED:
            self.stage = Stage.ANSWERED
            self._deadline = now + PUNCH_SECONDS

    def _on_answer(self, heard: Answered, now: float) -> None:
        if self.stage is not Stage.OFFERED:
            return
        self._their_facts = heard.message.facts
        self._orders.append(Ask(self._rendezvous.punch(heard.message, 0.0)))
        wait = min(heard.round_trip, MAX_ROUND_TRIP) / 2
        self._begin(heard.message, now if self._options.patient else now + wait)

    # --- Beginning and ending ---

    def _begin(self, message: SignalMessage, start: float, *, early: bool = False) -> None:
        self.stage = Stage.ROUND
        self._deadline = None
        self._their_facts = message.facts
        self.answered_with = ()
        both = self._method is Method.BIRTHDAY and message.method is Method.BIRTHDAY
        role = self._role() if both else None
        self._orders.append(Begin(start, message, self._opened, role, early))

    def _role(self) -> Role | None:
        return birthday_role(self.facts, self._their_facts)

    def _end(self) -> None:
        self.stage = Stage.REST
        self.answered_with = ()
        self._to_answer = None
        self._opened = ()
        self._awaits_local = False
        self._budget.end_round(self._keys.theirs)
        self._budget.end_birthday(self._keys.theirs)
