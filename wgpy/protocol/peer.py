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
    (CVE-2021-46873).
    """

    __slots__ = (
        "_greatest_stamp",
        "_initiator",
        "_last_accepted",
        "cookie",
        "initiation_index",
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
        # Our index of the handshake that we began and that is under way.
        self.initiation_index: int | None = None
        self.last_stamp: bytes | None = None
        self._initiator: Initiator | CredentialInitiator | None = None
        self._greatest_stamp: bytes | None = None
        self._last_accepted: float | None = None

    # --- We begin ---

    def initiation(self, *, index: int, ephemeral: bytes, wall_ns: int, now: float) -> bytes:
        """A new initiation, 148 bytes. Raises HandshakeError if the peer's key is of low order.

        The previous handshake under way is forgotten; its index was in `initiation_index` before
        the call and is the caller's to free. `ephemeral` is 32 random bytes, used once.
        """
        stamp = self._begin(wall_ns, now)
        initiator = initiate(self.remote, sender=index, timestamp=stamp, ephemeral=ephemeral)
        self.last_stamp = stamp
        self._initiator = initiator
        self.initiation_index = index
        return self.cookie.add_macs(initiator.message, now)

    def consume_response(self, message: Response, now: float) -> tuple[TransportKeys, int]:
        """The session's keys and the peer's index. Our index belongs to the session from then on.

        Raises HandshakeError, and the handshake stays under way for the right response.
        """
        if not isinstance(self._initiator, Initiator):
            raise HandshakeError("a response to no handshake of ours")
        keys = self._initiator.finish(message)
        self.forget_handshake()
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
        stamp = self._begin(wall_ns, now)
        payload = InitiationPayload(stamp, network, wanted, offer)
        initiator = initiate_with_credential(
            self.remote, sender=index, payload=payload, random=random
        )
        self.last_stamp = stamp
        self._initiator = initiator
        self.initiation_index = index
        return self.cookie.add_macs(initiator.message, now)

    def consume_credential_response(
        self, message: CredentialResponse
    ) -> tuple[TransportKeys, int, ResponsePayload | None]:
        """The session's keys, the peer's index, and what it offers, unverified.

        The caller examines the offer and then calls `credential_accepted`, or wipes the keys and
        calls `forget_handshake`. Raises HandshakeError, and the handshake stays under way; raises
        ParseError for an authentic response that is malformed, and it does not.
        """
        if not isinstance(self._initiator, CredentialInitiator):
            raise HandshakeError("a response to no handshake of ours")
        keys, payload = self._initiator.finish(message)
        return keys, message.sender, payload

    def credential_accepted(self, now: float) -> None:
        """Called when the offer in a response was accepted. Our index belongs to the session."""
        self.forget_handshake()
        self.timers.session_derived(now)
        self.timers.handshake_complete(now)

    def _begin(self, wall_ns: int, now: float) -> bytes:
        """Forget the handshake under way; returns the stamp of the next one."""
        # Counted as sent even if the key cannot be used: the next try is then 5 s away as well.
        self.timers.initiation_sent(now)
        self.forget_handshake()
        return tai64n.next_stamp(self.last_stamp, wall_ns)

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
        """Drop the secrets of the handshake that we began. The caller frees its index."""
        self._initiator = None
        self.initiation_index = None

    def set_psk(self, psk: PresharedKey | None) -> None:
        """From now on, handshakes under way included."""
        self.remote.psk = psk

    def rebind(self, local: Local) -> None:
        """Called when the interface's private key changed: our handshake is forgotten, and the
        static-static secret is made anew when next needed. The caller drops the key pairs."""
        self.remote = Remote(local, self.remote.public_key, self.remote.psk)
        self.forget_handshake()
        self.timers.clear_after_keys_dropped()
