"""Handshakes: control datagrams in, answers and installed key pairs out (whitepaper 5.4, 5.3).

Everything that came here passed the data path's filter: its type, length and mac1 are right.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final

from wgpy.datapath.contract import (
    Budget,
    Datagram,
    DataPath,
    Endpoint,
    FilterRule,
    Handle,
    Slot,
)
from wgpy.datapath.endpoint import source_of
from wgpy.device.admitter import Admitter
from wgpy.device.keylog import KeyLog
from wgpy.device.pairs import key_pair
from wgpy.device.peer import PeerEntry, PeerTable
from wgpy.device.roads import Roads
from wgpy.identity.claims import CredentialError
from wgpy.keys import PrivateKey
from wgpy.protocol.constants import (
    COOKIE_REPLY_LENGTH,
    CREDENTIAL_INITIATION_LENGTH,
    CREDENTIAL_RESPONSE_MAX_LENGTH,
    CREDENTIAL_RESPONSE_MIN_LENGTH,
    INITIATION_LENGTH,
    INITIATION_MAC1_OFFSET,
    MAC_LENGTH,
    REKEY_TIMEOUT,
    RESPONSE_LENGTH,
    RESPONSE_MAC1_OFFSET,
    TYPE_COOKIE_REPLY,
    TYPE_CREDENTIAL_INITIATION,
    TYPE_CREDENTIAL_RESPONSE,
    TYPE_INITIATION,
    TYPE_RESPONSE,
)
from wgpy.protocol.cookie import CookieChecker
from wgpy.protocol.credential import parse_credential_response
from wgpy.protocol.handshake import HandshakeError, Local, TransportKeys, read_initiation
from wgpy.protocol.load import LoadMeter
from wgpy.protocol.messages import (
    ParseError,
    message_type,
    parse_cookie_reply,
    parse_initiation,
    parse_response,
)
from wgpy.protocol.ratelimit import RateLimiter

# Type and receiver index stand before everything else in a response and a cookie reply; in the
# response, our index is the second.
_RULES = (
    FilterRule(TYPE_INITIATION, INITIATION_LENGTH, mac1_offset=INITIATION_MAC1_OFFSET),
    FilterRule(TYPE_RESPONSE, RESPONSE_LENGTH, mac1_offset=RESPONSE_MAC1_OFFSET, index_offset=8),
    FilterRule(TYPE_COOKIE_REPLY, COOKIE_REPLY_LENGTH, index_offset=4),
)
# Let through while we have a network: both macs stand at the end.
_CREDENTIAL_RULES = (
    FilterRule(
        TYPE_CREDENTIAL_INITIATION,
        CREDENTIAL_INITIATION_LENGTH,
        mac1_offset=-2 * MAC_LENGTH,
        budget=Budget(),
    ),
    FilterRule(
        TYPE_CREDENTIAL_RESPONSE,
        CREDENTIAL_RESPONSE_MIN_LENGTH,
        exact=False,
        longest=CREDENTIAL_RESPONSE_MAX_LENGTH,
        mac1_offset=-2 * MAC_LENGTH,
        index_offset=8,
    ),
)


# As many as a peer may have candidates.
MAX_CALLS: Final = 10


class Handshaker:
    """The responder's and the initiator's side of every handshake of one interface.

    `wall_ns` gives nanoseconds since the epoch as they are shown, `stamp_ns` as they are sent in
    initiations. `moved` is called with a peer whose authenticated handshake came from a new place.
    """

    def __init__(
        self,
        datapath: DataPath,
        peers: PeerTable,
        *,
        wall_ns: Callable[[], int],
        stamp_ns: Callable[[], int],
        random: Callable[[int], bytes],
        moved: Callable[[PeerEntry, Endpoint], None],
        roads: Roads,
        keylog: KeyLog | None = None,
        admitter: Admitter | None = None,
    ) -> None:
        self._datapath = datapath
        self._peers = peers
        self._wall_ns = wall_ns
        self._stamp_ns = stamp_ns
        self._random = random
        self._moved = moved
        self._roads = roads
        self._keylog = keylog
        self._admitter = admitter
        self._secrets: tuple[bytes, ...] = ()
        # Peers with calls under way, and until when they are.
        self._calls: dict[Handle, float] = {}
        self._load = LoadMeter()
        # None until it was looked at for this batch; the other is of 0x10's own queue.
        self._under_load: bool | None = None
        self._looked = False
        self._limiter = RateLimiter()
        self._checker: CookieChecker | None = None
        self.local: Local | None = None
        self.private: PrivateKey | None = None
        self.counters: Counter[str] = Counter()

    def set_private_key(self, private: PrivateKey | None) -> None:
        """Take on a key, or none: then nobody is answered. The key is ours to wipe from now on."""
        if self.local is not None:
            self.local.wipe()
        if self.private is not None:
            self.private.wipe()
        self.private = private
        if private is None:
            self.local = self._checker = None
        else:
            self.local = Local(private)
            self._checker = CookieChecker(self.local.public, self._random)
        self._secrets = ()
        self._datapath.set_cookie_secret(b"")
        self.trust_changed()

    def trust_changed(self) -> None:
        """Whether there is a network, which credential is ours, or whether ways are looked for, may
        be another now."""
        admitter, local = self._admitter, self.local
        listens = admitter is not None and admitter.set_local(local, self._checker)
        if local is None:
            self._datapath.set_filter((), bytes(32))
        else:
            rules = _RULES + _CREDENTIAL_RULES if listens else _RULES
            self._datapath.set_filter(rules + self._roads.rules(), local.mac1_key)

    # --- Initiator ---

    def initiate(self, entry: PeerEntry, now: float, to: Endpoint | None = None) -> bool:
        """Send a first or a repeated initiation: a fresh one each time. False if it cannot be.

        It goes to where the peer is, and what was under way is over. With `to` it goes there, and
        those to other places go on: up to MAX_CALLS, until 5 s after the last; then the oldest is
        given up for the next. With a credential one is under way, wherever it goes.
        """
        # Who is in quarantine comes to us, or does not: its session is shorter than a rekey away.
        if self.local is None or entry.denied or entry.enrolment is not None:
            return False
        if entry.endpoint is None and to is None:
            self._roads.wanted(entry)
            return False
        beside = to is not None and not entry.by_credential
        if not beside:
            self.forget(entry)
        elif len(entry.protocol.begun) >= MAX_CALLS:
            self._forget_index(entry, entry.protocol.begun[0])
        index = self._datapath.reserve_index()
        try:
            data = self._initiation_for(entry, index, now, beside=beside)
        except HandshakeError as error:
            self._datapath.free_index(index)
            self.counters[error.reason] += 1
            return False
        self._peers.by_index[index] = entry
        if beside:
            self._calls[entry.handle] = now + REKEY_TIMEOUT
        entry.unanswered += 1
        if self._datapath.send(data, to=to, peer=entry.handle) is not None:
            self.counters["send_error"] += 1
            return False
        return True

    def _initiation_for(self, entry: PeerEntry, index: int, now: float, *, beside: bool) -> bytes:
        """A key shakes hands in one way only. Raises HandshakeError."""
        if entry.by_credential and self._admitter is not None:
            return self._admitter.initiation(entry, index, now)
        ephemeral = self._random(32)
        begin = entry.protocol.call if beside else entry.protocol.initiation
        data = begin(index=index, ephemeral=ephemeral, wall_ns=self._stamp_ns(), now=now)
        self._log_keys(entry, ephemeral)
        return data

    def forget(self, entry: PeerEntry) -> None:
        """Give up what we began, if there is anything."""
        self._calls.pop(entry.handle, None)
        for index in entry.protocol.begun:
            self._forget_index(entry, index)

    def _forget_index(self, entry: PeerEntry, index: int) -> None:
        self._peers.by_index.pop(index, None)
        self._datapath.free_index(index)
        entry.protocol.forget_call(index)

    def expire_calls(self, now: float) -> None:
        """Give up calls that nobody answered. Where a handshake is still wanted, its own timer
        begins it anew."""
        for handle in [handle for handle, until in self._calls.items() if until <= now]:
            entry = self._peers.by_handle.get(handle)
            if entry is None:
                del self._calls[handle]
            else:
                self.forget(entry)

    def next_at(self) -> float | None:
        """When `expire_calls` has something to do."""
        return min(self._calls.values(), default=None)

    # --- Datagrams ---

    def begin_batch(self) -> None:
        """Called before the datagrams of one `drain`: what waits behind them is load."""
        self._under_load = None
        self._looked = False

    def _is_under_load(self, now: float) -> bool:
        """Looked at once for a batch: each look has to wait for the data path."""
        if self._under_load is None:
            self._under_load = self._load.under_load(self._datapath.queue_depth(), now)
        return self._under_load

    def receive(self, datagram: Datagram, now: float) -> PeerEntry | None:
        """Act on one control datagram. Returns the peer whose timers it concerns, if any."""
        # Read first: a moment without load must not be missed.
        under_load = self._is_under_load(now)
        if self.local is None or self._checker is None:
            return None
        kind = message_type(datagram.data)
        try:
            if kind == TYPE_COOKIE_REPLY:
                self._cookie_reply(datagram, now)
                return None
            if kind == TYPE_CREDENTIAL_INITIATION:
                self._credential_initiation(datagram, under_load, now)
                return None
            if under_load and not self._admit(self._checker, datagram, now):
                return None
            if kind == TYPE_INITIATION:
                return self._initiation(self.local, datagram, now)
            if kind == TYPE_CREDENTIAL_RESPONSE:
                return self._credential_response(datagram, now)
            return self._response(datagram, now)
        except ParseError:
            self.counters["malformed"] += 1
        except HandshakeError as error:
            self.counters[error.reason] += 1
        return None

    def _admit(self, checker: CookieChecker, datagram: Datagram, now: float) -> bool:
        """Under load: ask for a cookie, and bound what each source that has one may cost."""
        address, source = source_of(datagram.endpoint)
        if not checker.check_mac2(datagram.data, source, now):
            self.counters["cookie_replies_sent"] += 1
            self._send_cookie(checker.reply(datagram.data, source, now), datagram.endpoint)
            return False
        if not self._limiter.allow(address, now):
            self.counters["rate_limited"] += 1
            return False
        return True

    def _send_cookie(self, reply: bytes, to: Endpoint) -> None:
        """Send a cookie, after the data path was told what it is made with."""
        checker = self._checker
        if checker is not None and checker.secrets != self._secrets:
            self._secrets = checker.secrets
            self._datapath.set_cookie_secret(*self._secrets)
        self._datapath.send(reply, to=to)

    def _cookie_reply(self, datagram: Datagram, now: float) -> None:
        reply = parse_cookie_reply(datagram.data)
        entry = self._peers.by_index.get(reply.receiver)
        # A cookie proves who answered, not where it is: it never moves the endpoint.
        if entry is None or not entry.protocol.consume_cookie(reply, now):
            self.counters["bad_cookie_reply"] += 1

    def _initiation(self, local: Local, datagram: Datagram, now: float) -> PeerEntry | None:
        responder = read_initiation(local, parse_initiation(datagram.data))
        entry = self._peers.by_key.get(responder.static)
        if entry is None:
            self.counters["unknown_peer"] += 1
            return None
        if entry.denied or entry.by_credential:
            # One way for each key: who holds a credential is not let in without it.
            self.counters["denied_peer" if entry.denied else "not_by_key_alone"] += 1
            return None
        entry.protocol.accept_initiation(responder, now)
        self._authenticated(entry, datagram)
        index = self._datapath.reserve_index()
        ephemeral = self._random(32)
        try:
            reply, keys = entry.protocol.response(
                responder, index=index, ephemeral=ephemeral, now=now
            )
        except HandshakeError:
            self._datapath.free_index(index)
            raise
        self._peers.answered(entry, index)
        self._log_keys(entry, ephemeral)
        pair = key_pair(keys, index, responder.sender, now, initiator=False)
        self._datapath.install(entry.handle, Slot.NEXT, pair, kick=False)
        # A managed peer may be somewhere else for us, or nowhere yet.
        to = datagram.endpoint if entry.managed else None
        if self._datapath.send(reply, to=to, peer=entry.handle) is not None:
            self.counters["send_error"] += 1
        return entry

    def _response(self, datagram: Datagram, now: float) -> PeerEntry | None:
        message = parse_response(datagram.data)
        entry = self._peers.by_index.get(message.receiver)
        if entry is None or message.receiver not in entry.protocol.begun:
            self.counters["unexpected_response"] += 1
            return None
        begun = entry.protocol.begun
        keys, remote_index = entry.protocol.consume_response(message, now)
        self._peers.by_index.pop(message.receiver, None)
        for index in begun[: begun.index(message.receiver)]:
            self._forget_index(entry, index)
        self._authenticated(entry, datagram)
        return self._install_current(entry, keys, message.receiver, remote_index, now)

    def _credential_initiation(self, datagram: Datagram, under_load: bool, now: float) -> None:
        if self._admitter is None:
            return
        if not self._looked:
            depth = self._datapath.queue_depth(TYPE_CREDENTIAL_INITIATION)
            self._admitter.look_at_load(depth, now)
            self._looked = True
        reply = self._admitter.receive(datagram, under_load=under_load, now=now)
        if reply is not None:
            self._send_cookie(reply, datagram.endpoint)

    def _credential_response(self, datagram: Datagram, now: float) -> PeerEntry | None:
        message = parse_credential_response(datagram.data)
        entry = self._peers.by_index.get(message.receiver)
        if entry is None or self._admitter is None or message.receiver not in entry.protocol.begun:
            self.counters["unexpected_response"] += 1
            return None
        try:
            keys, remote_index, payload = entry.protocol.consume_credential_response(message)
        except ParseError:
            # It is authentic, and none will follow.
            self.forget(entry)
            raise
        try:
            self._admitter.accept(entry, payload, now)
        except CredentialError:
            keys.wipe()
            self.forget(entry)
            return None
        entry.protocol.credential_accepted(now)
        self._peers.by_index.pop(message.receiver, None)
        self._authenticated(entry, datagram)
        return self._install_current(entry, keys, message.receiver, remote_index, now)

    def _install_current(
        self, entry: PeerEntry, keys: TransportKeys, local: int, remote: int, now: float
    ) -> PeerEntry:
        """The handshake that we began is over: its keys are used from now on."""
        entry.last_handshake_ns = self._wall_ns()
        pair = key_pair(keys, local, remote, now, initiator=True)
        self._datapath.install(entry.handle, Slot.CURRENT, pair, kick=True)
        self._roads.began(entry)
        return entry

    def _authenticated(self, entry: PeerEntry, datagram: Datagram) -> None:
        entry.unanswered = 0
        self._datapath.heard(entry.handle, len(datagram.data), datagram.when)
        if entry.endpoint != datagram.endpoint and not self._roads.roamed(entry, datagram.endpoint):
            self._moved(entry, datagram.endpoint)

    def _log_keys(self, entry: PeerEntry, ephemeral: bytes) -> None:
        if self._keylog is not None and self.private is not None:
            self._keylog.write(self.private, entry.protocol.remote, ephemeral)
