"""A TURN client (RFC 8656), without a socket: one server, one allocation, channels to peers.

    start      begins; over a stream, whenever there is a connection
    bind       gives a peer a channel; permit, an address a permission
    receive    takes a datagram or a message of the stream; tick, what is due by the time
    take       what is to be sent, and what happened (turn_events.py)
    close      deletes the allocation

The data goes past it: the data path frames ChannelData by itself once it is told a channel. Send
indications are never used, and Data indications (from a peer without a channel) only come in.

A cold start with a peer takes two round trips: Allocate is answered with a challenge (401), then
Allocate goes out signed and the ChannelBinds behind it. A server that takes its nonce again,
which `remembered` holds, makes it one. Every other answer ends in a counter, and in a pause that
grows with each failure. Time is seconds of CLOCK_BOOTTIME.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final

from wgpy.nat.place import Place, Send
from wgpy.nat.stun import Class, Message, Method, ParseError, parse
from wgpy.nat.turn_auth import Challenge
from wgpy.nat.turn_channels import Channels
from wgpy.nat.turn_credentials import Credentials, Source
from wgpy.nat.turn_dialogue import Dialogue, Outcome
from wgpy.nat.turn_events import (
    Allocated,
    Arrived,
    Event,
    Lost,
    Reason,
    pause,
)
from wgpy.nat.turn_flight import Request
from wgpy.nat.turn_messages import (
    LIFETIME,
    MIN_LIFETIME,
    allocate_attributes,
    is_reachable,
    read_alternate,
    read_data,
    read_grant,
    read_lifetime,
    refresh_attributes,
)
from wgpy.nat.turn_peers import RENEW

# A Refresh over UDP is the keepalive of the NATs on the way too, and soon tells that one of them
# or the server forgot us: an indication would not. WireGuard's own interval.
KEEPALIVE: Final = 25.0
# What needs the allocation is sent this long after the signed Allocate, without its answer. A
# server reads one after the other; but coturn looks a password up in another thread, and refuses
# what it reads meanwhile.
FOLLOW_PAUSE: Final = 0.010
# coturn keeps the 5-tuple of a deleted allocation for a second.
CLEAR_PAUSE: Final = 2.0
# An allocation that lived this long was a success, and pauses begin anew.
GOOD_LIFE: Final = 60.0
# A refresh that is refused for no reason of ours is repeated after this, doubled each time, while
# the allocation lasts.
REFRESH_PAUSE: Final = 5.0
# `check` asks no more often, whoever calls it.
CHECK_PAUSE: Final = 1.0
# At the end the answer to the deletion is waited for so long: two retransmissions.
CLOSE_TIME: Final = 2.0
# Datagrams of peers without channels that the owner has not taken yet.
MAX_ARRIVALS: Final = 64

_REFUSALS: Final[Mapping[int, Reason]] = {
    300: Reason.REDIRECTED,
    403: Reason.FORBIDDEN,
    420: Reason.UNSUPPORTED,
    437: Reason.MISMATCH,
    440: Reason.UNSUPPORTED,
    441: Reason.UNAUTHORIZED,
    442: Reason.UNSUPPORTED,
    486: Reason.QUOTA,
    508: Reason.CAPACITY,
}
# After these the server forgot the allocation, and nothing of it stands in the way of the next.
_NOTHING_LEFT: Final = (Reason.GONE, Reason.EXPIRED, Reason.DISCONNECTED)


class State(Enum):
    """Where a client stands."""

    IDLE = "idle"
    ALLOCATING = "allocating"
    # What an earlier life of ours left at the server is being deleted.
    CLEARING = "clearing"
    ALLOCATED = "allocated"
    PAUSED = "paused"
    CLOSING = "closing"
    CLOSED = "closed"


class TurnClient:
    """One allocation at one server. `again` is when a paused client goes on; over a stream it waits
    for `start` then. `relayed` and `mapped` are those of Allocated. `counters` count everything."""

    def __init__(
        self,
        server: Place,
        source: Source,
        random: Callable[[int], bytes],
        *,
        stream: bool = False,
        family: int = 4,
        allowed: Callable[[str], bool] = is_reachable,
        remembered: Challenge | None = None,
        renew: float = RENEW,
        keepalive: float = KEEPALIVE,
    ) -> None:
        """`stream`: messages go over TCP or TLS, so nothing is repeated. `family`: 4 or 6, of the
        relayed address. `allowed` says whether an address may be the relay's. `renew` and
        `keepalive` are in seconds, the latter 0 for none."""
        self.server = server
        self.state = State.IDLE
        self.again: float | None = None
        self.relayed: Place | None = None
        self.mapped: Place | None = None
        # Whether the server has said that it relays for us since the network was another one.
        self.is_certain = False
        self.keepalive = keepalive
        self.counters: Counter[str] = Counter()
        self._random = random
        self._stream = stream
        self._family = family
        self._allowed = allowed
        self._out: list[Send | Event] = []
        self._dialogue = Dialogue(
            *(server, source, random, self.counters, self._out),
            stream=stream,
            remembered=remembered,
        )
        self._channels = Channels(
            self._dialogue, self.counters, self._out, family=family, renew=renew
        )
        self._arrivals = 0
        # Whether what stood in the way of this allocation was deleted already.
        self._is_cleared = False
        self._needs_credentials = False
        self._failures = 0
        self._refresh_failures = 0
        self._granted_at = 0.0
        self._expires = 0.0
        self._refresh_at = 0.0
        self._checked_at = float("-inf")
        # When to send what follows the Allocate that is under way.
        self._follow_at: float | None = None

    @property
    def challenge(self) -> Challenge | None:
        """What to remember of the server for its next client."""
        return self._dialogue.challenge

    @property
    def round_trip(self) -> float | None:
        """That of the last request that was answered without being repeated, in seconds."""
        return self._dialogue.round_trip

    # --- What the owner does ---

    def start(self, now: float) -> None:
        """Ask for an allocation: over UDP once, over a stream whenever there is a connection."""
        if self.state in (State.IDLE, State.PAUSED):
            self._begin(now)

    def disconnected(self, now: float) -> None:
        """The stream ended, or could not be made. In the midst of a pause that is no news."""
        is_resting = self.state is State.PAUSED and self.again is not None and now < self.again
        if self.state is State.CLOSING:
            self._end(State.CLOSED)
        elif self.state is not State.CLOSED and not is_resting:
            self._lose(Reason.DISCONNECTED, now)

    def bind(self, peer: Place, now: float) -> int | None:
        """The channel of a peer, from now on; Bound tells when it can be used. None if there are
        MAX_PEERS already, or if a relay of this family cannot reach such an address."""
        entry = self._channels.add(Place(peer.host, peer.port), now, channel=True)
        return None if entry is None else entry.channel

    def permit(self, host: str, now: float) -> bool:
        """Let the server relay what comes from an address, whatever the port: it Arrives. An
        address of a peer with a channel is permitted already. Whether it could be noted."""
        return self._channels.add(Place(host, 0), now, channel=False) is not None

    def release(self, peer: Place) -> None:
        """Let a channel end, or a permission (port 0). The server forgets it by itself."""
        self._channels.remove(Place(peer.host, peer.port))

    def set_credentials(self, credentials: Credentials, now: float) -> None:
        """Use these from the next allocation on, and ask for it at once if there is none for want
        of credentials."""
        is_news = self._dialogue.give(credentials)
        if self.state is State.PAUSED and self._needs_credentials and is_news:
            self.again = now

    def check(self, now: float) -> None:
        """Ask at once whether the allocation is still there: a path through it fell silent."""
        if self.state is State.ALLOCATED and now >= self._checked_at + CHECK_PAUSE:
            self._checked_at = now
            if not self._stream:
                self._dialogue.flight.hasten(Method.REFRESH, now)
            self._refresh(LIFETIME, now)

    def network_changed(self, now: float) -> None:
        """What failed before may work now: ask again at once."""
        self._failures = 0
        if self.state is State.ALLOCATED:
            self.is_certain = False
            self.check(now)
        elif self.state is State.ALLOCATING and not self._stream:
            self._begin(now)
        elif self.state is State.PAUSED:
            self.again = now

    def close(self, now: float) -> None:
        """Delete the allocation. `state` is CLOSED when the server did, or let CLOSE_TIME pass."""
        if self.state in (State.CLOSING, State.CLOSED):
            return
        # An Allocate on the way may be granted yet: what follows it deletes that.
        is_under_way = self.state is State.ALLOCATING and self._dialogue.is_signed
        is_there = self.state is State.ALLOCATED or is_under_way
        self._end(State.CLOSING if is_there else State.CLOSED)
        if is_there:
            self.again = now + CLOSE_TIME
            self._refresh(0, now)

    def take(self) -> list[Send | Event]:
        """What is to be sent, and what happened, since the last time."""
        taken = list(self._out)
        self._out.clear()
        self._arrivals = 0
        return taken

    def due(self) -> float | None:
        """When `tick` has something to do, if nothing comes before."""
        moments = [self._dialogue.flight.due()]
        if self.state is State.ALLOCATED:
            moments += [self._expires, self._dialogue.watch_due(), self._channels.due()]
            if not self._dialogue.flight.has(Method.REFRESH):
                moments.append(self._refresh_at)
        elif not (self._stream and self.state is State.PAUSED):
            moments += [self.again, self._follow_at]
        return min((x for x in moments if x is not None), default=None)

    def tick(self, now: float) -> None:
        """Do what is due: send again, give up, renew, begin again after a pause."""
        for outcome in self._dialogue.tick(now):
            self._failed(outcome, now)
        if self.again is not None and now >= self.again:
            if self.state is State.CLOSING:
                self._end(State.CLOSED)
            elif not (self._stream and self.state is State.PAUSED):
                self._begin(now)
        if self.state is State.ALLOCATED:
            self._keep(now)
        elif self._follow_at is not None and now >= self._follow_at:
            self._follow_at = None
            self._channels.ask(now)

    # --- What comes ---

    def receive(self, data: bytes, source: Place, now: float) -> bool:
        """Take a message from the server; whether it was one to wait for. Raises nothing."""
        if source != self.server:
            self.counters["wrong_source"] += 1
            return False
        try:
            message = parse(data)
            if message.kind is Class.INDICATION:
                return self._indication(message)
        except ParseError as error:
            self.counters[error.reason] += 1
            return False
        request = self._dialogue.find(message)
        if request is None:
            return False
        outcome = self._dialogue.answer(request, message, now)
        if outcome is None:
            self._follow(now)
        elif outcome.reason is not None:
            self._failed(outcome, now)
        elif outcome.code:
            self._refused(request, outcome.code, message, now)
        else:
            self._succeeded(request, message, now)
        return True

    def _indication(self, message: Message) -> bool:
        """A Data indication, from an address with a permission. Raises ParseError."""
        if message.method is not Method.DATA:
            self.counters["indication"] += 1
            return False
        peer, data = read_data(message)
        if not self._channels.permits(peer.host):
            self.counters["data_stranger"] += 1
            return False
        if self._arrivals >= MAX_ARRIVALS:
            self.counters["data_full"] += 1
            return False
        self._arrivals += 1
        self._out.append(Arrived(peer, data))
        return True

    def _succeeded(self, request: Request, message: Message, now: float) -> None:
        try:
            if request.method is Method.ALLOCATE:
                self._granted(request, message, now)
            elif request.method is Method.REFRESH:
                self._refreshed(request, message, now)
            elif request.entry is not None:
                self._channels.succeeded(request, request.entry)
        except ParseError as error:
            self.counters[error.reason] += 1
            self._lose(Reason.LIED, now)

    def _granted(self, request: Request, message: Message, now: float) -> None:
        grant = read_grant(message, self._family, self._allowed)
        self.counters["allocated"] += 1
        self.counters["lifetime_cut"] += grant.is_cut
        self.state, self.again, self._follow_at = State.ALLOCATED, None, None
        self.relayed, self.mapped = grant.relayed, grant.mapped
        self._is_cleared = False
        self._granted_at = now
        self._lives(request, grant.lifetime, now)
        self._out.append(Allocated(grant.relayed, grant.mapped, float(grant.lifetime)))
        self._channels.granted(now)

    def _refreshed(self, request: Request, message: Message, now: float) -> None:
        if self.state is State.CLOSING:
            self._end(State.CLOSED)
        elif self.state is State.CLEARING:
            self.again = now + CLEAR_PAUSE
        else:
            seconds, is_cut = read_lifetime(message)
            self.counters["refreshed"] += 1
            self.counters["lifetime_cut"] += is_cut
            if seconds == 0:
                self._lose(Reason.GONE, now)
            else:
                self._lives(request, seconds, now)

    def _lives(self, request: Request, seconds: int, now: float) -> None:
        # From when it was asked: the server's clock started later.
        self._expires = request.began + seconds
        interval = max(seconds, MIN_LIFETIME) / 2
        if self.keepalive and not self._stream:
            interval = min(interval, self.keepalive)
        self._refresh_at = now + interval
        self._refresh_failures = 0
        self.is_certain = True

    # --- What fails ---

    def _refused(self, request: Request, code: int, message: Message, now: float) -> None:
        """An error that no other signature would mend."""
        if request.method is Method.REFRESH:
            self._refresh_refused(code, now)
        elif request.entry is not None:
            if self._channels.refused(request, request.entry, code, now):
                self.check(now)
        elif code == 437 and not self._is_cleared:
            self._clear(now)
        else:
            alternate = read_alternate(message, self.server) if code == 300 else None
            self._lose(_reason(code), now, code, alternate)

    def _refresh_refused(self, code: int, now: float) -> None:
        if self.state is State.CLOSING:
            self._end(State.CLOSED)
        elif self.state is State.CLEARING:
            if code == 437:
                self.again = now + CLEAR_PAUSE
            else:
                self._lose(Reason.MISMATCH, now, code)
        elif code in (403, 437, 441):
            self._lose(Reason.GONE if code == 437 else _reason(code), now, code)
        else:
            # It may pass; until the allocation expires there is time. Ten doublings pass an hour.
            self._refresh_at = now + REFRESH_PAUSE * 2 ** min(self._refresh_failures, 10)
            self._refresh_failures += 1

    def _failed(self, outcome: Outcome, now: float) -> None:
        """Nothing that counts came of a request."""
        reason, entry = outcome.reason or Reason.SILENT, outcome.request.entry
        if self.state is State.CLOSING:
            self._end(State.CLOSED)
        elif self.state is State.CLEARING:
            self._lose(Reason.MISMATCH, now, outcome.code)
        elif entry is None:
            self._lose(reason, now, outcome.code)
        elif self._channels.failed(entry, now):
            self.check(now)

    def _lose(
        self, reason: Reason, now: float, code: int = 0, alternate: Place | None = None
    ) -> None:
        """There is no allocation: say so, and begin again after a pause."""
        self.counters[f"lost_{reason.value}"] += 1
        until = None
        if self.state is State.ALLOCATED:
            if now - self._granted_at >= GOOD_LIFE:
                self._failures = 0
            until = None if reason in _NOTHING_LEFT else self._expires
        self._end(State.PAUSED)
        self.again = now + pause(reason, self._failures, self._random(1)[0])
        self._failures += 1
        self._needs_credentials = reason in (Reason.NO_CREDENTIALS, Reason.UNAUTHORIZED)
        self._channels.forget(now)
        self._out.append(Lost(reason, code, self.again, until, alternate))

    def _end(self, state: State) -> None:
        self.state, self.again, self.relayed, self.mapped = state, None, None, None
        self._is_cleared = False
        self._follow_at = None
        self._dialogue.flight.clear()

    # --- What is asked ---

    def _begin(self, now: float) -> None:
        self.state, self.again, self._follow_at = State.ALLOCATING, None, None
        self._dialogue.begin(now)
        self._channels.forget(now)
        self._dialogue.ask(Method.ALLOCATE, allocate_attributes(self._family), now)
        self._follow(now)

    def _follow(self, now: float) -> None:
        """Send what needs the allocation behind a signed Allocate; what is read too early is asked
        for again."""
        if self.state is State.ALLOCATING and self._dialogue.is_signed:
            self._follow_at = now + FOLLOW_PAUSE

    def _clear(self, now: float) -> None:
        """Delete what stands in the way: most likely our own, from before a crash."""
        self.state, self.again, self._follow_at = State.CLEARING, None, None
        self._is_cleared = True
        self._dialogue.flight.clear()
        self._channels.forget(now)
        self._refresh(0, now)

    def _refresh(self, lifetime: int, now: float) -> None:
        if not self._dialogue.flight.has(Method.REFRESH):
            self._dialogue.ask(Method.REFRESH, refresh_attributes(lifetime, self._family), now)

    def _keep(self, now: float) -> None:
        """What an allocation needs: refreshes, channels, permissions."""
        if now >= self._expires:
            self._lose(Reason.EXPIRED, now)
            return
        if now >= self._refresh_at:
            self._refresh(LIFETIME, now)
        self._dialogue.watch(now)
        self._channels.ask(now)


def _reason(code: int) -> Reason:
    """What an error to an Allocate means (RFC 8656, section 7.4)."""
    return _REFUSALS.get(code, Reason.SERVER_ERROR if code >= 500 else Reason.BAD_REQUEST)
