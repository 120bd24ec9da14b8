"""The protocol's side of one peer: its handshakes, its replay protection, its cookie, its timers.

The device finds the peer, keeps the indices and moves the datagrams; what may be believed is
decided here. The handshake that we began and one that the peer began are separate objects, so
neither order of events can make one overwrite the other (both sides may begin at once).
"""

from collections.abc import Callable

from wgpy.keys import PresharedKey, PublicKey
from wgpy.protocol import tai64n
from wgpy.protocol.constants import MIN_INITIATION_INTERVAL
from wgpy.protocol.cookie import CookieGenerator
from wgpy.protocol.credential import CredentialResponse
from wgpy.protocol.credential_bounds import MAX_AHEAD_NS
from wgpy.protocol.credential_handshake import (
    CredentialInitiator,
    CredentialResponder,
    Random,
)
from wgpy.protocol.credential_handshake import initiate as initiate_with_credential
from wgpy.protocol.credential_payload import InitiationPayload, Offer, ResponsePayload
from wgpy.protocol.handshake import (
    HandshakeError,
    Initiator,
    Local,
    Remote,
    Responder,
    TransportKeys,
    initiate,
)
from wgpy.protocol.messages import CookieReply, Response
from wgpy.protocol.timers import Timers


class Peer:
    """One peer of one interface. Times are seconds; `wall_ns` is nanoseconds since 1970.

    `jitter` is that of Timers. `last_stamp` is the timestamp of our last initiation, 12 bytes or
    None. A peer refuses every stamp that is not above the greatest it has seen, so the next is
    made above `last_stamp` whatever the clock says. A device that stores it and sets it again
    after a restart stays welcome even when a wrong clock once made it stamp a far future
    (CVE-2021-46873). A 0x10 is refused if it is far ahead, so there it is not that simple.
    """

    __slots__ = (
        "_begun",
        "_by_clock",
        "_credential_stamp",
        "_greatest_stamp",
        "_last_accepted",
        "cookie",
        "last_stamp",
        "remote",
        "timers",
    )

    def __init__(
        self,
        local: Local,
        public_key: PublicKey,
        psk: PresharedKey | None,
        jitter: Callable[[], float],
    ) -> None:
        self.remote = Remote(local, public_key, psk)
        self.timers = Timers(jitter)
        self.cookie = CookieGenerator(public_key)
        self.last_stamp: bytes | None = None
        # What we began and what is under way, by our indices, in the order of its stamps. It is one
        # handshake, or several `calls`.
        self._begun: dict[int, Initiator | CredentialInitiator] = {}
        self._greatest_stamp: bytes | None = None
        self._last_accepted: float | None = None
        # Of 0x10: the stamp of the last one, and whether it was the clock's though that is low.
        self._credential_stamp: bytes | None = None
        self._by_clock = True

    # --- We begin ---

    @property
    def initiation_index(self) -> int | None:
        """Our index of the handshake that we began last and that is under way."""
        return next(reversed(self._begun), None)

    @property
    def begun(self) -> tuple[int, ...]:
        """Our indices of everything that we began and that is under way, the oldest first."""
        return tuple(self._begun)

    def initiation(self, *, index: int, ephemeral: bytes, wall_ns: int, now: float) -> bytes:
        """A new initiation, 148 bytes. Raises HandshakeError if the peer's key is of low order.

        What was under way is forgotten; its indices were in `begun` before the call and are the
        caller's to free. `ephemeral` is 32 random bytes, used once.
        """
        self.forget_handshake()
        return self.call(index=index, ephemeral=ephemeral, wall_ns=wall_ns, now=now)

    def call(self, *, index: int, ephemeral: bytes, wall_ns: int, now: float) -> bytes:
        """An initiation beside those that are under way; otherwise as `initiation`.

        It is for a peer that may be at one of several places, and that knows no other way to be
        found: each place gets an initiation of its own, for a copy would be taken for a replay.
        Those that reach the peer must be 20 ms apart (MIN_INITIATION_INTERVAL).
        """
        stamp = self._stamp(wall_ns, now)
        initiator = initiate(self.remote, sender=index, timestamp=stamp, ephemeral=ephemeral)
        self._began(index, initiator, stamp)
        return self.cookie.add_macs(initiator.message, now)

    def consume_response(self, message: Response, now: float) -> tuple[TransportKeys, int]:
        """The session's keys and the peer's index. Our index belongs to the session from then on.

        What was begun before it is forgotten: those indices were in `begun`, up to this one, and
        are the caller's to free. Of calls that came after it the peer may have answered another,
        and then only the keys of the last one are good. Raises HandshakeError, and the handshake
        stays under way for the right response.
        """
        initiator = self._begun.get(message.receiver)
        if not isinstance(initiator, Initiator):
            raise HandshakeError("a response to no handshake of ours")
        keys = initiator.finish(message)
        for index in self.begun:
            del self._begun[index]
            if index == message.receiver:
                break
        self.timers.session_derived(now)
        self.timers.handshake_complete(now)
        return keys, message.sender

    def consume_cookie(self, reply: CookieReply, now: float) -> bool:
        """Take a cookie, if it answers our last message. It is used at the next retry, not before
        (whitepaper 6.6), and says nothing about where the peer is."""
        return self.cookie.consume(reply, now)

    def credential_initiation(
        self,
        *,
        index: int,
        network: bytes,
        wanted: str | None,
        offer: Offer | None,
        random: Random,
        wall_ns: int,
        now: float,
    ) -> bytes:
        """A new initiation with a credential, 1,200 bytes; otherwise as `initiation`.

        Also raises ValueError for what cannot be sent. `random(n)` returns n unpredictable bytes.
        """
        self.forget_handshake()
        stamp = self._stamp(wall_ns, now)
        if tai64n.to_ns(stamp) > wall_ns + MAX_AHEAD_NS:
            # Our clock was ahead and is right now: a responder refused what it made us send, and
            # wants the time. Or it was right and was set back: the mark is where we were. Both are
            # tried in turns.
            self._by_clock = not self._by_clock
            if self._by_clock:
                stamp = tai64n.stamp(wall_ns)
        self._credential_stamp = stamp
        payload = InitiationPayload(stamp, network, wanted, offer)
        initiator = initiate_with_credential(
            self.remote, sender=index, payload=payload, random=random
        )
        self._began(index, initiator, stamp)
        return self.cookie.add_macs(initiator.message, now)

    def consume_credential_response(
        self, message: CredentialResponse
    ) -> tuple[TransportKeys, int, ResponsePayload | None]:
        """The session's keys, the peer's index, and what it offers, unverified.

        The caller examines the offer and then calls `credential_accepted`, or wipes the keys and
        calls `forget_handshake`. Raises HandshakeError, and the handshake stays under way; raises
        ParseError for an authentic response that is malformed, and it does not.
        """
        initiator = self._begun.get(message.receiver)
        if not isinstance(initiator, CredentialInitiator):
            raise HandshakeError("a response to no handshake of ours")
        keys, payload = initiator.finish(message)
        return keys, message.sender, payload

    def credential_accepted(self, now: float) -> None:
        """Called when the offer in a response was accepted. Our index belongs to the session."""
        self.forget_handshake()
        # Stamps above it, if there were any, were refused.
        self.last_stamp, self._by_clock = self._credential_stamp, True
        self.timers.session_derived(now)
        self.timers.handshake_complete(now)

    def _stamp(self, wall_ns: int, now: float) -> bytes:
        """The stamp of the next initiation."""
        # Counted as sent even if the key cannot be used: the next try is then 5 s away as well.
        self.timers.initiation_sent(now)
        return tai64n.next_stamp(self.last_stamp, wall_ns)

    def _began(self, index: int, initiator: Initiator | CredentialInitiator, stamp: bytes) -> None:
        if self.last_stamp is None or stamp > self.last_stamp:
            self.last_stamp = stamp
        self._begun[index] = initiator

    # --- The peer begins ---

    def accept_initiation(self, responder: Responder, now: float) -> None:
        """Decide whether an initiation with the peer's static key is answered.

        Raises HandshakeError with the `reason` unauthenticated, replayed_timestamp or flood.
        """
        stamp = responder.authenticate(self.remote)
        if self._greatest_stamp is not None and stamp <= self._greatest_stamp:
            raise HandshakeError("an initiation was replayed", "replayed_timestamp")
        last = self._last_accepted
        if last is not None and now - last < MIN_INITIATION_INTERVAL:
            raise HandshakeError("initiations follow each other too closely", "flood")
        self._greatest_stamp = stamp
        self._last_accepted = now

    def response(
        self, responder: Responder, *, index: int, ephemeral: bytes, now: float
    ) -> tuple[bytes, TransportKeys]:
        """The response to an accepted initiation, 92 bytes, and the session's keys.

        They are installed as the next key pair before the response is sent. The peer's index is
        `responder.sender`. Raises HandshakeError. `ephemeral` is 32 random bytes, used once.
        """
        message, keys = responder.respond(sender=index, ephemeral=ephemeral)
        self.timers.session_derived(now)
        return self.cookie.add_macs(message, now), keys

    def credential_response(
        self,
        responder: CredentialResponder,
        *,
        index: int,
        payload: ResponsePayload | None,
        random: Random,
        now: float,
    ) -> tuple[bytes, TransportKeys]:
        """The response to an initiation whose credential was accepted, and the session's keys.

        As `response`, but the next key pair is installed gated. Raises HandshakeError, and
        ValueError for what cannot be sent.
        """
        message, keys = responder.respond(sender=index, payload=payload, random=random)
        self.timers.session_derived(now)
        return self.cookie.add_macs(message, now), keys

    @property
    def greatest_stamp(self) -> bytes | None:
        """The greatest stamp of the peer's that we accepted, of either kind of initiation."""
        return self._greatest_stamp

    def raise_stamp(self, stamp: bytes) -> None:
        """Accept no stamp up to this one, of 12 bytes, from now on: there is one mark for each
        key, whichever kind of initiation raised it."""
        if self._greatest_stamp is None or stamp > self._greatest_stamp:
            self._greatest_stamp = stamp

    # --- Changes ---

    def forget_handshake(self) -> None:
        """Drop the secrets of what we began. The caller frees the indices in `begun`."""
        self._begun.clear()

    def forget_call(self, index: int) -> None:
        """Drop the secrets of one of several. The caller frees its index."""
        self._begun.pop(index, None)

    def set_psk(self, psk: PresharedKey | None) -> None:
        """From now on, handshakes under way included."""
        self.remote.psk = psk

    def rebind(self, local: Local) -> None:
        """Called when the interface's private key changed: our handshake is forgotten, and the
        static-static secret is made anew when next needed. The caller drops the key pairs."""
        self.remote = Remote(local, self.remote.public_key, self.remote.psk)
        self.forget_handshake()
        self.timers.clear_after_keys_dropped()
