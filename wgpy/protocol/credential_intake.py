"""The order in which a 0x10 is checked, each step cheaper than what it keeps away.

The data path's filter comes before: steps 1 to 3 are done there, and most of a flood is shed.
`arrive` takes a datagram that passed it, `take` one from the queue. What passes both is handed to
the authority; its answer comes back by `accept` or `refuse`. docs/protocol.md gives the reasons.

    filter   1 length  2 authority  3 mac1
    arrive   4 the source's bucket  5 mac2 if under load  6 queue
    take     7 budget of exchanges  8 es: whose static key  9 refused lately
             10 one mode for each key  11 ss and the tag  12 timestamp  13 version and fields
             14 network and name  15 room to wait  16 known verdict, else budget of signatures

Silence is the answer to everything but step 5, and to step 4 where the source is unproved: there,
and where the table of sources is full, a cookie is asked for, so that who writes another's address
on its datagrams cannot use up that other's bucket. Each refusal is counted under its reason.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar

from wgpy.keys import PublicKey
from wgpy.protocol.constants import CREDENTIAL_INITIATION_LENGTH, MAC_LENGTH
from wgpy.protocol.cookie import CookieChecker
from wgpy.protocol.credential import parse_credential_initiation
from wgpy.protocol.credential_bounds import (
    COOKIES_AT_ONCE,
    COOKIES_PER_SECOND,
    HANDSHAKES_PER_SECOND,
    SIGNATURES_PER_SECOND,
    Budget,
    Pending,
    RefusedLately,
    Stamps,
)
from wgpy.protocol.credential_handshake import CredentialResponder, read
from wgpy.protocol.credential_payload import Asked, Offer, OfferKind
from wgpy.protocol.handshake import HandshakeError, Local, Remote
from wgpy.protocol.load import LoadMeter
from wgpy.protocol.messages import ParseError
from wgpy.protocol.ratelimit import RateLimiter

# What the sender of a datagram is to its owner: an endpoint, a socket.
Origin = TypeVar("Origin")
# What the caller keeps of a handshake that is not confirmed.
Waiting = TypeVar("Waiting")

# A quarter of a second at the budget of exchanges.
QUEUE_LENGTH: Final = 128
# An eighth, as of the queue of all control datagrams.
UNDER_LOAD_DEPTH: Final = QUEUE_LENGTH // 8

_NO_MAC: Final = bytes(MAC_LENGTH)
# RFC 7748: the prime of the field. Keys from there on, or with bit 255 set, are second spellings.
_PRIME: Final = 2**255 - 19


@dataclass(frozen=True, slots=True)
class Ours:
    """Who we are to an initiator. `name` is that of our own credential; None without one.

    `enrols`: who has no name yet, and shows a token, may name nobody.
    """

    local: Local
    checker: CookieChecker
    network: bytes
    name: str | None
    enrols: bool = False


class Standing(NamedTuple):
    """What we know of a static key that may come by credential.

    `remote` holds its pre-shared key: its own if the key is in the configuration, else the
    interface's for strangers. `floor` is the mark of a key in the configuration. Where
    `key_suffices`, it need not offer a credential. `may_enrol` is true of no configured key.
    `known` is an offer of this key that costs no signature any more, and `owner` is whatever the
    caller wants back with what passes.
    """

    remote: Remote
    floor: bytes | None = None
    key_suffices: bool = False
    may_enrol: bool = False
    known: Offer | None = None
    owner: Any = None


@dataclass(slots=True, eq=False)
class Presented(Generic[Origin]):
    """A 0x10 that is worth the authority's attention. The `offer` in it is unverified.

    `enrols`: it names nobody, and its offer has to be a token to enrol.
    """

    static: PublicKey
    stamp: bytes
    asked: Asked
    responder: CredentialResponder
    standing: Standing
    origin: Origin
    address: bytes
    enrols: bool


class _DropError(Exception):
    """Drop this datagram; the argument names the counter. Never leaves this module."""


class Intake(Generic[Origin, Waiting]):
    """The checks of every 0x10 of one interface, and their bounds.

    `standing(key)` says what is known of a static key that nobody has proved yet, and None if it
    may not come by credential: a key of the configuration without `credential = true`, our own.
    `verdict_known(key, offer)` says whether the authority can decide without a signature.
    `refused(key, origin, reason)` is told of each key that proved itself and asked for what it
    cannot have.
    """

    def __init__(
        self,
        standing: Callable[[PublicKey], Standing | None],
        verdict_known: Callable[[PublicKey, Offer], bool],
        refused: Callable[[PublicKey, Origin, str], None] = lambda key, origin, reason: None,
    ) -> None:
        self._standing = standing
        self._verdict_known = verdict_known
        self._refused = refused
        self._ours: Ours | None = None
        self._queue: deque[tuple[bytes, bytes, Origin]] = deque()
        self._load = LoadMeter(UNDER_LOAD_DEPTH)
        self.unproved = RateLimiter()
        self.proved = RateLimiter()
        self.cookies = Budget(COOKIES_PER_SECOND, COOKIES_AT_ONCE)
        self.handshakes = Budget(HANDSHAKES_PER_SECOND)
        self.signatures = Budget(SIGNATURES_PER_SECOND)
        self.refused_lately = RefusedLately()
        self.stamps = Stamps()
        self.pending: Pending[Waiting] = Pending()
        self.counters: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._queue)

    def set_ours(self, ours: Ours | None) -> None:
        """Called with None while there is no key or no authority: then nobody is answered.

        What waits was meant for who we were, and what was refused may now be welcome.
        """
        self._ours = ours
        self._queue.clear()
        self.refused_lately.clear()

    def forget_queue(self) -> None:
        """Called when the sockets are gone: who waits here waits for no answer any more."""
        self._queue.clear()

    # --- Steps 4 to 6 ---

    def arrive(
        self,
        data: bytes,
        address: bytes,
        source: bytes,
        origin: Origin,
        *,
        under_load: bool,
        now: float,
    ) -> bytes | None:
        """Queue a datagram, or drop it. Its mac1 is right: whoever reads the network has checked
        that. Rates count by its `address`, of 4 or 16 bytes, and cookies are made over its
        `source`, the address and the port; the caller packs both.

        Returns a cookie reply to send to where it came from, or None. `under_load` is the
        interface's; a deep queue of our own counts as well.
        """
        # Read first: a moment without load must not be missed.
        deep = self._load.under_load(len(self._queue), now)
        if len(data) != CREDENTIAL_INITIATION_LENGTH:
            self._drop("malformed")
            return None
        if self._ours is None:
            self._drop("no_authority")
            return None
        checker = self._ours.checker
        proved = data[-MAC_LENGTH:] != _NO_MAC and checker.check_mac2(data, source, now)
        allowed = (self.proved if proved else self.unproved).allow(address, now)
        if not allowed:
            self._drop("rate_limited")
        if not proved and (under_load or deep or not allowed):
            if not self.cookies.take(now):
                self._drop("cookie_budget")
                return None
            self.counters["cookie_replies_sent"] += 1
            return checker.reply(data, source, now)
        if allowed and len(self._queue) < QUEUE_LENGTH:
            self._queue.append((data, address, origin))
        elif allowed:
            self._drop("queue_full")
        return None

    def _drop(self, reason: str) -> None:
        self.counters[reason] += 1

    # --- Steps 7 to 16 ---

    def next_at(self, now: float) -> float | None:
        """When `take` has something to do: now, when the budget allows, or None."""
        return now + self.handshakes.wait(now) if self._queue else None

    def take(self, now: float, wall_ns: int) -> Presented[Origin] | None:
        """Work on the first datagram of the queue, if the budget allows.

        None if it was dropped, or nothing was done: `next_at` tells.
        """
        if not self._queue or self._ours is None or not self.handshakes.take(now):
            return None
        data, address, origin = self._queue.popleft()
        try:
            return self._examine(self._ours, data, address, origin, now, wall_ns)
        except _DropError as refused:
            self.counters[str(refused)] += 1
        except (ParseError, HandshakeError) as error:
            self.counters[error.reason] += 1
        return None

    def _examine(
        self,
        ours: Ours,
        data: bytes,
        address: bytes,
        origin: Origin,
        now: float,
        wall_ns: int,
    ) -> Presented[Origin]:
        responder = read(ours.local, parse_credential_initiation(data))
        static = responder.static
        # The one spelling of its point: K and K with bit 255 set share one secret.
        if int.from_bytes(bytes(static), "little") >= _PRIME:
            raise _DropError("second_spelling")
        if self.refused_lately.has(static, address, now):
            raise _DropError("refused_lately")
        standing = self._standing(static)
        if standing is None or static == ours.local.public:
            raise _DropError("not_by_credential")
        stamp = responder.authenticate(standing.remote)
        # From here on the sender is known, or it replays; the stamp tells which.
        fault = self.stamps.fault(static, stamp, wall_ns, standing.floor)
        if fault is not None:
            if fault == "future_timestamp":
                self._refused(static, origin, fault)
            raise _DropError(fault)
        try:
            asked = responder.asked()
            enrols = _check_asked(ours, standing, asked)
        except (ParseError, _DropError) as error:
            self.refused_lately.add(static, address, now)
            reason = error.reason if isinstance(error, ParseError) else str(error)
            self._refused(static, origin, reason)
            raise
        if not self.pending.has_room(static):
            raise _DropError("pending_full")
        offer = asked.offer
        known = offer is None or offer is standing.known or self._verdict_known(static, offer)
        if not known and not self.signatures.take(now):
            raise _DropError("signature_budget")
        return Presented(static, stamp, asked, responder, standing, origin, address, enrols)

    # --- What the authority said ---

    def refuse(self, presented: Presented[Origin], reason: str, now: float) -> None:
        """The credential was not accepted: the key is not listened to for a minute."""
        self.counters[reason] += 1
        self.refused_lately.add(presented.static, presented.address, now)

    def put_off(self, reason: str) -> None:
        """There is no room for it now: it is not answered, and may ask again at once."""
        self.counters[reason] += 1

    def accept(self, presented: Presented[Origin], item: Waiting, now: float) -> Waiting | None:
        """The credential was accepted: its stamp counts, and `item` waits for confirmation.

        Called before the response is sent. Returns what has to be wiped, or None: the item of the
        key's handshake before, if that still waited, or `item` itself where there is no room any
        more; then nothing is sent.
        """
        before = self.pending.remove(presented.static)
        if not self.pending.add(presented.static, item, now):
            return item
        self.stamps.record(presented.static, presented.stamp)
        return before

    def counts(self) -> dict[str, int]:
        """Every reason that something was dropped for, and what each bound held back."""
        return {
            **self.counters,
            "waited_for_budget": self.handshakes.refused,
            "sources_full": self.unproved.table_full + self.proved.table_full,
            "refused_lately_evicted": self.refused_lately.evicted,
            "stamps_evicted": self.stamps.evicted,
            "pending_expired": self.pending.expired,
        }


def _check_asked(ours: Ours, standing: Standing, asked: Asked) -> bool:
    """Whether it wants to enrol: it names nobody, though we have a name, and shows a token."""
    if asked.network != ours.network:
        raise _DropError("wrong_network")
    nameless = asked.wanted is None and ours.name is not None
    if nameless and asked.offer is not None and asked.offer.kind is OfferKind.TOKEN:
        if not ours.enrols or not standing.may_enrol:
            raise _DropError("no_enrolment")
        return True
    if asked.wanted != ours.name:
        raise _DropError("wrong_name")
    if asked.offer is None and not standing.key_suffices:
        raise _DropError("no_credential")
    return False
