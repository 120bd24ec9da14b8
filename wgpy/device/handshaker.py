"""Handshakes: control datagrams in, answers and installed key pairs out (whitepaper 5.4, 5.3).

Everything that came here passed the data path's filter: its type, length and mac1 are right.
"""

import ipaddress
import math
from collections import Counter
from collections.abc import Callable

from wgpy.datapath.contract import (
    Datagram,
    DataPath,
    Endpoint,
    FilterRule,
    NewKeyPair,
    Slot,
)
from wgpy.device.keylog import KeyLog
from wgpy.device.peer import PeerEntry, PeerTable
from wgpy.keys import PrivateKey
from wgpy.protocol.constants import (
    COOKIE_REPLY_LENGTH,
    INITIATION_LENGTH,
    INITIATION_MAC1_OFFSET,
    REJECT_AFTER_TIME,
    REKEY_AFTER_TIME,
    REKEY_AFTER_TIME_RECEIVING,
    RESPONSE_LENGTH,
    RESPONSE_MAC1_OFFSET,
    TYPE_COOKIE_REPLY,
    TYPE_INITIATION,
    TYPE_RESPONSE,
)
from wgpy.protocol.cookie import CookieChecker
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
        keylog: KeyLog | None = None,
    ) -> None:
        self._datapath = datapath
        self._peers = peers
        self._wall_ns = wall_ns
        self._stamp_ns = stamp_ns
        self._random = random
        self._moved = moved
        self._keylog = keylog
        self._load = LoadMeter()
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
            self._datapath.set_filter((), bytes(32))
            return
        self.local = Local(private)
        self._checker = CookieChecker(self.local.public, self._random)
        self._datapath.set_filter(_RULES, self.local.mac1_key)

    # --- Initiator ---

    def initiate(self, entry: PeerEntry, now: float) -> None:
        """Send a first or a repeated initiation: a fresh one each time."""
        if self.local is None or entry.endpoint is None:
            return
        self.forget(entry)
        index = self._datapath.reserve_index()
        ephemeral = self._random(32)
        try:
            data = entry.protocol.initiation(
                index=index, ephemeral=ephemeral, wall_ns=self._stamp_ns(), now=now
            )
        except HandshakeError as error:
            self._datapath.free_index(index)
            self.counters[error.reason] += 1
            return
        self._peers.by_index[index] = entry
        entry.unanswered += 1
        self._log_keys(entry, ephemeral)
        if self._datapath.send(data, peer=entry.handle) is not None:
            self.counters["send_error"] += 1

    def forget(self, entry: PeerEntry) -> None:
        """Give up the handshake under way, if any."""
        index = entry.protocol.initiation_index
        if index is not None:
            self._peers.by_index.pop(index, None)
            self._datapath.free_index(index)
            entry.protocol.forget_handshake()

    # --- Datagrams ---

    def receive(self, datagram: Datagram, now: float) -> PeerEntry | None:
        """Act on one control datagram. Returns the peer whose timers it concerns, if any."""
        # Read first: a moment without load must not be missed.
        under_load = self._load.under_load(self._datapath.queue_depth(), now)
        if self.local is None or self._checker is None:
            return None
        kind = message_type(datagram.data)
        try:
            if kind == TYPE_COOKIE_REPLY:
                self._cookie_reply(datagram, now)
                return None
            if under_load and not self._admit(self._checker, datagram, now):
                return None
            if kind == TYPE_INITIATION:
                return self._initiation(self.local, datagram, now)
            return self._response(datagram, now)
        except ParseError:
            self.counters["malformed"] += 1
        except HandshakeError as error:
            self.counters[error.reason] += 1
        return None

    def _admit(self, checker: CookieChecker, datagram: Datagram, now: float) -> bool:
        """Under load: ask for a cookie, and bound what each source that has one may cost."""
        address = ipaddress.ip_address(datagram.endpoint.address).packed
        source = address + datagram.endpoint.port.to_bytes(2, "big")
        if not checker.check_mac2(datagram.data, source, now):
            self.counters["cookie_replies_sent"] += 1
            reply = checker.reply(datagram.data, source, now)
            self._datapath.send(reply, to=datagram.endpoint)
            return False
        if not self._limiter.allow(address, now):
            self.counters["rate_limited"] += 1
            return False
        return True

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
        if entry.response_index is not None:
            self._peers.by_index.pop(entry.response_index, None)
        entry.response_index = index
        self._peers.by_index[index] = entry
        self._log_keys(entry, ephemeral)
        pair = _key_pair(keys, index, responder.sender, now, initiator=False)
        self._datapath.install(entry.handle, Slot.NEXT, pair, kick=False)
        if self._datapath.send(reply, peer=entry.handle) is not None:
            self.counters["send_error"] += 1
        return entry

    def _response(self, datagram: Datagram, now: float) -> PeerEntry | None:
        message = parse_response(datagram.data)
        entry = self._peers.by_index.get(message.receiver)
        if entry is None or entry.protocol.initiation_index != message.receiver:
            self.counters["unexpected_response"] += 1
            return None
        keys, remote_index = entry.protocol.consume_response(message, now)
        self._peers.by_index.pop(message.receiver, None)
        self._authenticated(entry, datagram)
        entry.last_handshake_ns = self._wall_ns()
        pair = _key_pair(keys, message.receiver, remote_index, now, initiator=True)
        self._datapath.install(entry.handle, Slot.CURRENT, pair, kick=True)
        return entry

    def _authenticated(self, entry: PeerEntry, datagram: Datagram) -> None:
        entry.unanswered = 0
        self._datapath.heard(entry.handle, len(datagram.data), datagram.when)
        if entry.endpoint != datagram.endpoint:
            self._moved(entry, datagram.endpoint)

    def _log_keys(self, entry: PeerEntry, ephemeral: bytes) -> None:
        if self._keylog is not None and self.private is not None:
            self._keylog.write(self.private, entry.protocol.remote, ephemeral)


def _key_pair(
    keys: TransportKeys, local: int, remote: int, now: float, *, initiator: bool
) -> NewKeyPair:
    """Only the initiator renews by time, so that the two sides do not both start (6.2)."""
    return NewKeyPair(
        send_key=keys.send,
        receive_key=keys.receive,
        local_index=local,
        remote_index=remote,
        created=now,
        reject_after=now + REJECT_AFTER_TIME,
        notify_send_after=now + REKEY_AFTER_TIME if initiator else math.inf,
        notify_receive_after=now + REKEY_AFTER_TIME_RECEIVING if initiator else math.inf,
    )
