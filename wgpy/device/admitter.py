"""Peers that shake hands by credential: from a 0x10 or a 0x11 to a session, and out again.

    0x10 ─► Intake ─► Trust.examine ─► 0x11, next key pair: gated while the claims are new
                                         │ the first packet opened with it (KeyConfirmed)
                                         └─► commit ─► Sessions: what takes effect, and what ends

The handshaker keeps indices and sends what we begin; the device keeps the peers.
"""

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wgpy.datapath.contract import Datagram, DataPath, Slot
from wgpy.datapath.endpoint import source_of
from wgpy.device.pairs import key_pair
from wgpy.device.peer import PeerEntry, PeerTable, Shown
from wgpy.device.quarantine import Quarantine
from wgpy.device.refusals import MAX_PEERS
from wgpy.device.sessions import Sessions
from wgpy.device.trust import Trust
from wgpy.identity.claims import Claims, CredentialError
from wgpy.keys import PresharedKey, PublicKey
from wgpy.protocol.cookie import CookieChecker
from wgpy.protocol.credential_bounds import Budget
from wgpy.protocol.credential_intake import (
    UNDER_LOAD_DEPTH,
    Intake,
    Ours,
    Presented,
    Standing,
)
from wgpy.protocol.credential_payload import Offer, ResponsePayload
from wgpy.protocol.handshake import HandshakeError, Local, Remote
from wgpy.protocol.load import LoadMeter

if TYPE_CHECKING:
    from wgpy.identity.token import Enrolment

_log = logging.getLogger(__name__)

# Handshakes taken from the queue in one go: 0.6 ms each with a signature, so packets of the
# portable data path wait no longer than 20 ms.
TAKE_LIMIT: Final = 32
# Refusals a second that are told in the log; all of them are in the counters.
TOLD_PER_SECOND: Final = 10

# What the intake refuses after a peer has proved its key, by reason, as an operator reads it.
_ASKED: Final = {
    "future_timestamp": "its clock is over 5 minutes ahead of ours",
    "malformed": "its message has no meaning",
    "version": "it speaks another version of the handshake",
    "wrong_network": "it asks for another network",
    "wrong_name": "it asks for another name than ours",
    "no_credential": "it shows no credential",
    "no_enrolment": "it wants to enrol, and may not do so here",
}


@dataclass(slots=True, eq=False)
class Waiting:
    """A peer that was answered, with what takes effect once it proves that it got the answer."""

    entry: PeerEntry
    claims: "Claims | Enrolment"
    index: int
    # Its packets are held until then.
    gated: bool


class Admitter:
    """The handshakes with credentials of one device.

    `add` makes a peer that is in no table yet, `drop` takes one out of all. `stamp_ns` is the clock
    of the timestamps, `random(n)` gives n unpredictable bytes.
    """

    def __init__(
        self,
        datapath: DataPath,
        peers: PeerTable,
        trust: Trust,
        sessions: Sessions,
        quarantine: Quarantine,
        *,
        stamp_ns: Callable[[], int],
        random: Callable[[int], bytes],
        add: Callable[[PublicKey, PresharedKey | None], PeerEntry],
        drop: Callable[[PeerEntry], None],
    ) -> None:
        self._datapath = datapath
        self._peers = peers
        self._trust = trust
        self._sessions = sessions
        self._quarantine = quarantine
        self._stamp_ns = stamp_ns
        self._random = random
        self._add = add
        self._drop = drop
        self._local: Local | None = None
        self._intake: Intake[Datagram, Waiting] = Intake(self._standing, trust.knows, self._refused)
        self._load = LoadMeter(UNDER_LOAD_DEPTH)
        self._under_load = False
        self._confirmed: list[Waiting] = []
        # Whether `commit` and `work` have nothing to do, now or later: asked several times for each
        # packet that wakes us.
        self.idle = True
        self._told = Budget(TOLD_PER_SECOND)
        self._counters: Counter[str] = Counter()

    def set_local(self, local: Local | None, checker: CookieChecker | None) -> bool:
        """Our static key is another, or what we trust or present is. Whether 0x10 is answered."""
        self._local = local
        network = self._trust.network
        if local is None or checker is None or network is None:
            self._intake.set_ours(None)
            return False
        self._intake.set_ours(
            Ours(local, checker, network, self._trust.name, enrols=self._trust.enrols)
        )
        return True

    def leaves(self, entry: PeerEntry) -> None:
        """Called before a peer is removed: its mark outlives the session, and whoever recorded it
        gains nothing."""
        stamp = entry.protocol.greatest_stamp
        if entry.by_credential and stamp is not None:
            self._intake.stamps.record(entry.key, stamp)

    def greatest_stamp(self, key: PublicKey) -> bytes | None:
        """The mark of a key that came by credential, for when it enters the configuration."""
        return self._intake.stamps.greatest(key)

    def counters(self) -> Mapping[str, int]:
        """Everything that was dropped or refused, by reason."""
        return {f"credential_{name}": n for name, n in self._intake.counts().items()} | dict(
            self._counters
        )

    # --- The responder ---

    def look_at_load(self, depth: int, now: float) -> None:
        """Called for each batch of datagrams, with how many 0x10 wait in the data path."""
        self._under_load = self._load.under_load(depth, now)

    def receive(self, datagram: Datagram, *, under_load: bool, now: float) -> bytes | None:
        """Take in a 0x10. Returns a cookie reply to send back, or None; `work` goes on with it."""
        under_load = under_load or self._under_load
        self.idle = False
        address, source = source_of(datagram.endpoint)
        return self._intake.arrive(
            datagram.data, address, source, datagram, under_load=under_load, now=now
        )

    def work(self, now: float) -> list[PeerEntry]:
        """Answer what waits, as far as the budgets allow, and forget who never confirmed.

        Returns the peers that were answered, whose timers want a look.
        """
        answered: list[PeerEntry] = []
        intake = self._intake
        for waiting in intake.pending.expire(now):
            self._forget(waiting)
        left = len(intake)
        for _ in range(min(TAKE_LIMIT, left)):
            stamp_ns = self._stamp_ns()
            presented = intake.take(now, stamp_ns)
            if presented is not None:
                entry = self._decide(presented, self._trust.wall(stamp_ns), now)
                if entry is not None:
                    answered.append(entry)
            elif len(intake) == left:
                # None was dropped: the budget is spent.
                break
            left -= 1
        self.idle = not (self._confirmed or left or len(intake.pending))
        return answered

    def next_at(self, now: float) -> float | None:
        """When `commit` or `work` has something to do."""
        if self._confirmed:
            return now
        moments = (self._intake.next_at(now), self._intake.pending.next_deadline())
        return min((moment for moment in moments if moment is not None), default=None)

    def _standing(self, key: PublicKey) -> Standing | None:
        entry = self._peers.by_key.get(key)
        if entry is not None:
            if entry.denied or not entry.by_credential:
                return None
            suffices = entry.expectation is not None and entry.expectation.key_suffices
            shown, state = entry.shown, self._trust.state
            known = shown is not None and state is not None and shown.state is state
            return Standing(
                entry.protocol.remote,
                entry.protocol.greatest_stamp,
                suffices,
                may_enrol=entry.admitted,
                known=shown.offer if shown is not None and known else None,
                owner=entry,
            )
        if self._local is None or self._trust.authority is None:
            return None
        return Standing(Remote(self._local, key, self._trust.psk), may_enrol=True)

    def _refused(self, key: PublicKey, origin: Datagram, reason: str) -> None:
        self._tell_refused(key, origin, _ASKED.get(reason, "it cannot be read"), reason)

    def _decide(self, presented: Presented[Datagram], wall: float, now: float) -> PeerEntry | None:
        key = presented.static
        entry: PeerEntry | None = presented.standing.owner
        claims: Claims | Enrolment | None
        try:
            if presented.enrols:
                claims = self._judge_enrolment(key, presented.asked.offer)
                if claims is None:
                    return None
            else:
                claims = self._judge(entry, key, presented.asked.offer, wall)
            if entry is None and len(self._peers) >= MAX_PEERS:
                raise CredentialError("peers-full", f"there are {MAX_PEERS} peers already")
        except CredentialError as error:
            self._intake.refuse(presented, error.reason, now)
            self._tell_refused(key, presented.origin, str(error), error.reason)
            return None
        if entry is None:
            entry = self._add(key, None)
            entry.admitted = True
            if self._trust.psk is not None:
                entry.set_psk(self._trust.psk)
        try:
            return entry if self._answer(presented, entry, claims, wall, now) else None
        except (HandshakeError, ValueError) as error:
            # Our credential is too long, or its key is of low order: nothing was installed.
            self._counters["credential_unanswerable"] += 1
            self._tell(f"{key.base64()} cannot be answered: {error}", now)
            self._drop_unknown(entry)
            return None

    def _judge(
        self, entry: PeerEntry | None, key: PublicKey, offer: Offer | None, wall: float
    ) -> Claims | None:
        """What a peer proved: None only where its key suffices. Raises CredentialError."""
        if (
            entry is not None
            and (shown := entry.shown) is not None
            # What is in force was held against the name that we want.
            and shown.claims is entry.claims
            and shown.still_holds(offer, self._trust.state, wall)
        ):
            return shown.claims
        expectation = None if entry is None else entry.expectation
        suffices = expectation is not None and expectation.key_suffices
        if suffices and (offer is None or self._trust.authority is None):
            return None
        if offer is None:
            raise CredentialError("no-credential", "it showed no credential")
        claims = self._trust.examine(key, offer, _wanted(entry), wall)
        if entry is not None:
            entry.shown = Shown(offer, claims, self._trust.state)
        return claims

    def _judge_enrolment(self, key: PublicKey, offer: Offer | None) -> "Enrolment | None":
        """What a peer may become. None where there is no room: it need not wait for a minute then.

        Raises CredentialError.
        """
        if offer is None:
            raise CredentialError("no-credential", "it showed no credential")
        full = self._quarantine.fault(key, None)
        if full is None:
            enrolment = self._trust.examine_enrolment(key, offer)
            full = self._quarantine.fault(key, enrolment)
            if full is None:
                return enrolment
        self._intake.put_off(full)
        return None

    def _answer(
        self,
        presented: Presented[Datagram],
        entry: PeerEntry,
        claims: "Claims | Enrolment | None",
        wall: float,
        now: float,
    ) -> bool:
        """Install the next key pair, gated where something new could pass, and send the 0x11."""
        responder, datagram = presented.responder, presented.origin
        index = self._datapath.reserve_index()
        payload = self._trust.answer(wall)
        try:
            reply, keys = entry.protocol.credential_response(
                responder, index=index, payload=payload, random=self._random, now=now
            )
        except (HandshakeError, ValueError):
            self._datapath.free_index(index)
            raise
        gated = False
        if claims is not None and claims not in (entry.claims, entry.enrolment):
            # A renewal lets nothing pass that does not pass now. So none of it waits: at full speed
            # more comes while the ledger is written than a gate can hold.
            gated = entry.claims is None or _place(claims) != _place(entry.claims)
            waiting = Waiting(entry, claims, index, gated)
            if self._intake.accept(presented, waiting, now) is waiting:
                keys.wipe()
                self._datapath.free_index(index)
                self._drop_unknown(entry)
                return False
            if not gated:
                self._datapath.refuse(entry.handle)
            entry.waiting = index
        entry.protocol.raise_stamp(presented.stamp)
        self._peers.answered(entry, index)
        self._datapath.heard(entry.handle, len(datagram.data), datagram.when)
        pair = key_pair(keys, index, responder.sender, now, initiator=False)
        self._datapath.install(entry.handle, Slot.NEXT, pair, kick=False, gated=gated)
        # To where it came from, and no more: only a packet of the session moves a peer.
        if self._datapath.send(reply, to=datagram.endpoint, peer=entry.handle) is not None:
            self._counters["credential_send_error"] += 1
        return True

    # --- Confirmation ---

    def confirmed(self, entry: PeerEntry, index: int) -> bool:
        """The first packet of a key pair was opened. Whether `commit` has to release it first."""
        if entry.waiting != index:
            return False
        entry.waiting = None
        waiting = self._intake.pending.remove(entry.key)
        if waiting is not None:
            self._confirmed.append(waiting)
            self.idle = False
        return waiting is None or waiting.gated

    def commit(self, now: float) -> list[PeerEntry]:
        """Let take effect what was confirmed, all of it in one go. Returns whose session began."""
        if not self._confirmed:
            return []
        confirmed, self._confirmed = self._confirmed, []
        batch = [x for x in confirmed if self._peers.by_key.get(x.entry.key) is x.entry]
        if not batch:
            return []
        failed = self._sessions.commit(
            [(x.entry, x.claims) for x in batch if isinstance(x.claims, Claims)], now
        )
        failed |= self._quarantine.commit(
            [(x.entry, x.claims) for x in batch if not isinstance(x.claims, Claims)], now
        )
        began = []
        for waiting in batch:
            entry = waiting.entry
            error = failed.get(entry.key)
            if error is not None:
                self._counters[f"credential_{error.reason}"] += 1
                # What a renewal cannot continue goes on as it was, until that ends.
                what = "let in" if waiting.gated else "renewed"
                who = waiting.claims.name or entry.key.base64()
                self._tell(f"{who} is not {what}: {error} ({error.reason})", now)
            if self._peers.by_key.get(entry.key) is not entry:
                # Another of the batch has its name now, and it was dropped with its session.
                continue
            if error is not None:
                self._datapath.refuse(entry.handle)
                self._drop_unknown(entry)
            elif waiting.gated and self._datapath.release(entry.handle):
                began.append(entry)
            # Else we were too slow, and its keys are gone. What took effect stays so: its next
            # handshake finds the claims in force, and needs no gate.
        return began

    def keys_dropped(self) -> None:
        """Every key pair is gone, and perhaps the sockets: who was answered has to begin again."""
        self._intake.forget_queue()
        for waiting in self._intake.pending.expire(math.inf):
            self._forget(waiting)

    def _forget(self, waiting: Waiting) -> None:
        """It never confirmed: a replay, or somebody who has gone again."""
        entry = waiting.entry
        if entry.waiting == waiting.index and self._peers.by_key.get(entry.key) is entry:
            entry.waiting = None
            self._datapath.refuse(entry.handle)
            self._drop_unknown(entry)

    def _drop_unknown(self, entry: PeerEntry) -> None:
        """Drop a peer that was made for a handshake which came to nothing."""
        if not entry.is_shown and entry.waiting is None:
            self._drop(entry)

    # --- The initiator ---

    def initiation(self, entry: PeerEntry, index: int, now: float) -> bytes:
        """A 0x10 for a peer that shakes hands by credential. Raises HandshakeError."""
        network = self._trust.network
        if network is None:
            self._tell(f"no handshake with {entry.key.base64()}: we are in no network", now)
            raise HandshakeError("no network is configured", "no_network")
        stamp_ns = self._stamp_ns()
        try:
            return entry.protocol.credential_initiation(
                index=index,
                network=network,
                wanted=_wanted(entry),
                offer=self._trust.offer(self._trust.wall(stamp_ns)),
                random=self._random,
                wall_ns=stamp_ns,
                now=now,
            )
        except ValueError as error:
            self._tell(f"no handshake with {entry.key.base64()}: {error}", now)
            raise HandshakeError(str(error), "credential_too_long") from None

    def accept(self, entry: PeerEntry, payload: ResponsePayload | None, now: float) -> None:
        """Let an authentic 0x11 take effect. Raises CredentialError: then it must not."""
        try:
            if payload is not None and payload.network != self._trust.network:
                raise CredentialError("wrong-network", "it is in another network")
            offer = None if payload is None else payload.offer
            claims = self._judge(entry, entry.key, offer, self._trust.wall())
            if claims is not None and claims is not entry.claims and claims != entry.claims:
                failed = self._sessions.commit([(entry, claims)], now)
                if entry.key in failed:
                    raise failed[entry.key]
        except CredentialError as error:
            self._counters[f"credential_{error.reason}"] += 1
            answer = f"the answer of {entry.key.base64()} is refused"
            self._tell(f"{answer}: {error} ({error.reason})", now)
            raise

    def _tell_refused(self, key: PublicKey, origin: Datagram, text: str, reason: str) -> None:
        who = f"{key.base64()} at {origin.endpoint.address}"
        self._tell(f"{who} is not let in: {text} ({reason})", origin.when)

    def _tell(self, text: str, now: float) -> None:
        if self._told.take(now):
            _log.info("%s", text)


def _place(claims: "Claims | Enrolment") -> tuple[object, ...]:
    """What claims say that decides which packets pass."""
    kind = isinstance(claims, Claims)
    return kind, claims.network, claims.name, claims.addresses, claims.groups


def _wanted(entry: PeerEntry | None) -> str | None:
    """The name that a peer has to have: that of the configuration, or the one it came in with."""
    if entry is None:
        return None
    if entry.expectation is not None:
        return entry.expectation.name
    return None if entry.claims is None else entry.claims.name
