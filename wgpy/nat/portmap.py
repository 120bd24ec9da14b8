"""Keeps one UDP port of ours reachable through the router of one address family.

PCP is taken before NAT-PMP, and that before UPnP. One mapping is asked for, and no other before it
is known that the first is not to be had. What is held is renewed at half of its lifetime, and
looked after each ten minutes: a router that was started anew tells it by its epoch. Where there is
nothing the pauses grow, up to an hour. Only the gateway that was asked is believed, and only what
could be true: an external address at which nobody can reach us is given back.

    IDLE ──router and port──> LOOKING ──found──> ASKING ──granted──> HELD ──> renewed, checked
                                │ ^                │                  │
                          nothing │             refused        silent or lost
                                v │                v                  v
                              PAUSING <────────────┘               LOOKING

No socket and no clock: datagrams, outcomes of orders for UPnP, and moments of CLOCK_BOOTTIME in
seconds come in; datagrams, orders and changes go out by `take`.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto
from typing import Final, assert_never

from wgpy.nat.candidates import is_private
from wgpy.nat.mapping import (
    MIN_LIFETIME,
    SERVER_PORT,
    Changed,
    Epoch,
    Granted,
    Mapping,
    Present,
    Refused,
    Removed,
    Service,
    why_unusable,
)
from wgpy.nat.place import Place, Send
from wgpy.nat.portmap_look import AtGateway, Extent, Found, Look, Network
from wgpy.nat.portmap_ways import (
    LIFETIME,
    Errand,
    Lost,
    Pauses,
    Result,
    Silent,
    Way,
    check_announcement,
    make_way,
    undone,
    wanted_ports,
)
from wgpy.nat.upnp import Order, Outcome
from wgpy.protocol.messages import ParseError

# How often what is held is looked after.
CHECK_INTERVAL: Final = 600.0
# A renewal that falls into the same second on every machine of a network is put off by up to this
# part of the lifetime (RFC 6887, 11.2.1, allows an eighth).
_SPREAD: Final = 1 / 16
# Routes may change many times a second; a router is not asked more often than this.
BETWEEN_LOOKS: Final = 2.0
# What a router says unasked, or whoever takes its address, costs one question in this time; and it
# waits up to 5 s, lest every machine of a network ask at once (RFC 6887, 14.1.3).
BETWEEN_ALARMS: Final = 10.0
ALARM_DELAY: Final = 5.0


class State(Enum):
    """Where a PortMap stands."""

    # There is no router, or no port.
    IDLE = auto()
    LOOKING = auto()
    ASKING = auto()
    HELD = auto()
    # There is nothing to be had; it is tried again later.
    PAUSING = auto()
    ENDED = auto()


class PortMap:
    """The port of one family. `set` says which; after each call `take` and `due` are asked.

    `random` returns so many random bytes. `secret`, 32 bytes, is the same after a restart, so that
    a mapping of a process that crashed is found again. `upnp_refusal` says why UPnP is not used,
    and is empty if it is.
    """

    def __init__(
        self, random: Callable[[int], bytes], secret: bytes, *, upnp_refusal: str = ""
    ) -> None:
        self._random = random
        self._secret = secret
        self._upnp_refusal = upnp_refusal
        self.counters: Counter[str] = Counter()
        self.state = State.IDLE
        self.mapping: Mapping | None = None
        # Why there is none, in words; and what was last seen at the gateway.
        self.reason = "there is no router"
        self.seen: AtGateway | None = None
        # The router's external address, if it stands behind a NAT too.
        self.double_nat = ""
        self._network: Network | None = None
        self._port = 0
        # The external port that we had at this gateway.
        self._remembered = 0
        self._epochs: dict[Service, Epoch] = {}
        self._out: list[Send | Order | Changed] = []
        self._look: Look | None = None
        self._way: Way | None = None
        # The services that are still to be tried, the best last.
        self._services: list[Service] = []
        # The last look ended before everything was asked for.
        self._rest_is_unknown = False
        self._pauses = Pauses()
        self._renew_at = self._check_at = self._paused_until = 0.0
        self._looked_at = self._alarmed_at = float("-inf")

    # --- What is wanted ---

    def set(self, network: Network | None, port: int, now: float) -> None:
        """The router and our address, None where there is none; and the port, 0 for none."""
        if self.state is State.ENDED or (network, port) == (self._network, self._port):
            return
        if network == self._network:
            self._part()
            reason = "the port changed"
        else:
            # From another address nothing can be given back.
            reason = "the network changed"
            self.seen, self.double_nat = None, ""
            self._epochs = {
                Service.PCP: Epoch(strict=True),
                Service.NAT_PMP: Epoch(strict=False),
            }
        self._drop(reason)
        self._leave_way()
        self._look = None
        self._network, self._port, self._pauses = network, port, Pauses()
        self._remembered = 0
        self.state = State.IDLE
        if network is None or not port:
            self.reason = "no port is wanted" if network else "there is no router"
        else:
            self._begin(now)

    def again(self, now: float) -> None:
        """Routes changed, and the router has the address that it had: it may be another one."""
        self._alarm(now, 0.0)

    def release(self, now: float) -> None:
        """Give back what is held. `ended` follows within a second, or with an order's outcome."""
        if self.state is State.ENDED:
            return
        self.state, self.reason = State.ENDED, "it was given back"
        self._look = None
        way = self._way
        if way is not None and (self.mapping or way.errand is Errand.ASK):
            way.remove(self.mapping.external if self.mapping else None, now)
        else:
            self._leave_way()
        self._drop(self.reason)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of `release`."""
        return self.state is State.ENDED and (self._way is None or self._way.errand is None)

    # --- What comes in ---

    def receive(self, data: bytes, source: Place, now: float) -> None:
        """A datagram on the socket that what `take` gave was sent by."""
        if self._network is None or source.host != self._network.gateway:
            self.counters["stranger"] += 1
            return
        try:
            if self._look is not None:
                self._look.receive(data, source, now)
                self._after_look(now)
                return
            asked = self._way is not None and source.port == SERVER_PORT
            result = self._way.receive(data, now) if self._way and asked else None
        except ParseError as error:
            self.counters[error.reason] += 1
            return
        if result is None:
            self.counters["unasked"] += 1
        else:
            self._take(result, now)

    def heard(self, data: bytes, source: Place, now: float) -> None:
        """A datagram to the group and port where routers say that they forgot their mappings. It
        proves nothing, so it only makes us ask."""
        if self._network is None or source.host != self._network.gateway:
            self.counters["stranger"] += 1
            return
        try:
            check_announcement(data)
        except ParseError as error:
            self.counters[error.reason] += 1
            return
        self.counters["announced"] += 1
        self._alarm(now, self._fraction() * ALARM_DELAY)

    def outcome(self, order: Order, outcome: Outcome, now: float) -> None:
        """What came of an order that `take` gave. Each order has exactly one."""
        result = self._way.outcome(order, outcome) if self._way else None
        if result is None or (self.state is State.ENDED and isinstance(result, Granted)):
            undo = undone(order, outcome)
            if undo is not None:
                self._out.append(undo)
        else:
            self._take(result, now)

    def tick(self, now: float) -> None:
        """Do what is due."""
        mapping, way = self.mapping, self._way
        if mapping is not None and mapping.expires is not None and now >= mapping.expires:
            self.counters["expired"] += 1
            self._drop("it expired")
            if self.state is State.HELD:
                self._leave_way()
                self._begin(now)
        elif self._look is not None:
            self._look.tick(now)
            self._after_look(now)
        elif way is not None and way.errand is not None:
            result = way.tick(now)
            if result is not None:
                self._take(result, now)
        elif self.state is State.PAUSING and now >= self._paused_until:
            self._start_look(Extent.NEEDED, now)
        elif self.state is State.HELD and mapping is not None and way is not None:
            if now >= self._renew_at:
                way.ask((mapping.external.port,), mapping.external, now)
            elif now >= self._check_at:
                way.check(mapping.external, now)

    # --- What goes out ---

    def due(self) -> float | None:
        """When `tick` is to be called next; None if nothing is planned."""
        moments: list[float | None] = [self.mapping.expires if self.mapping else None]
        if self._look is not None:
            moments.append(self._look.due())
        elif self._way is not None and self._way.errand is not None:
            moments.append(self._way.due())
        elif self.state is State.PAUSING:
            moments.append(self._paused_until)
        elif self.state is State.HELD:
            moments += [self._renew_at, self._check_at]
        return min((moment for moment in moments if moment is not None), default=None)

    def take(self) -> list[Send | Order | Changed]:
        """What is to be sent, done and told, in this order."""
        if self._way is not None:
            self._out += self._way.take()
        if self._look is not None:
            self._out += self._look.take()
        out, self._out = self._out, []
        return out

    # --- Looking ---

    def _begin(self, now: float) -> None:
        """Look, or as soon as the last look is long enough ago."""
        when = self._looked_at + BETWEEN_LOOKS
        if when > now:
            self.counters["held back"] += 1
            self._leave_way()
            self.state, self._paused_until = State.PAUSING, when
        else:
            self._start_look(Extent.NEEDED, now)

    def _start_look(self, extent: Extent, now: float) -> None:
        if self._network is None:
            return
        self._leave_way()
        self.state, self._looked_at = State.LOOKING, now
        known = self.seen.found if self.seen and extent is Extent.REST else ()
        self._look = Look(
            self._network,
            now,
            counters=self.counters,
            extent=extent,
            known=known,
            upnp_refusal=self._upnp_refusal,
        )
        # There may be nothing to ask for.
        self._after_look(now)

    def _after_look(self, now: float) -> None:
        """Go on once the look has seen everything."""
        look = self._look
        if look is None or not look.finished:
            return
        self._out += look.take()
        self._look = None
        seen = look.seen
        if look.extent is Extent.REST and self.seen is not None:
            self.seen = replace(seen, found={**self.seen.found, **seen.found})
        else:
            self.seen, self.double_nat = seen, ""
            self.reason = "the router has no service for it"
        self._rest_is_unknown = look.extent is Extent.NEEDED and bool(seen.found)
        self._services = [Service.UPNP] if seen.upnp else []
        for service in (Service.NAT_PMP, Service.PCP):
            if service in seen.found:
                self._note(service, seen.found[service], now)
        self._next(now)

    def _note(self, service: Service, found: Found, now: float) -> None:
        """A service that answered will be tried, or says already why that is of no use."""
        if found.epoch is not None and self._epochs[service].note(found.epoch, now):
            self.counters["lost"] += 1
        if found.refusal:
            self.reason = f"{service.value}: {found.refusal}"
        # NAT-PMP tells the address before anything is mapped; the port is not known yet.
        elif service is not Service.NAT_PMP or self._is_usable(service, found.external, 1):
            self._services.append(service)

    # --- Asking ---

    def _next(self, now: float) -> None:
        """Try the best service that is left."""
        self._leave_way()
        # Another service may know better, but for what stands before the router.
        if self.seen is None or self.double_nat:
            self._fail(now)
            return
        if not self._services:
            if self._rest_is_unknown:
                self._start_look(Extent.REST, now)
            else:
                self._fail(now)
            return
        service = self._services.pop()
        self._way = make_way(service, self.seen, self._port, self._secret, self._epochs)
        self.state = State.ASKING
        held = self.mapping.external if self.mapping and self.mapping.service is service else None
        self._way.ask(wanted_ports(self._remembered, self._port, self._random), held, now)

    # --- What came of it ---

    def _take(self, result: Result, now: float) -> None:
        if self.state is State.ENDED:
            return
        if isinstance(result, Granted):
            self._grant(result, now)
        elif isinstance(result, Present):
            self._found_well(result.host, now)
        elif isinstance(result, Lost):
            self._ask_again(result.reason, now)
        elif isinstance(result, Removed):
            self._refuse(Refused("the router grants no time"), now)
        elif isinstance(result, Refused):
            self._refuse(result, now)
        elif isinstance(result, Silent):
            self._give_up(now)
        else:
            assert_never(result)

    def _grant(self, granted: Granted, now: float) -> None:
        way, network = self._way, self._network
        if way is None or network is None:
            return
        external = Place(granted.host, granted.port)
        limited = way.service is not Service.UPNP or granted.lifetime > 0
        if limited and granted.lifetime < MIN_LIFETIME:
            way.part(external)
            self._refuse(Refused(f"the router grants only {granted.lifetime} s"), now)
            return
        if not self._is_usable(way.service, granted.host, granted.port):
            way.part(external)
            self._next(now)
            return
        expires = now + granted.lifetime if limited else None
        # Some routers say that a lease has no end, and end it all the same.
        lifetime = granted.lifetime or LIFETIME
        self._renew_at = now + lifetime / 2 + self._fraction() * lifetime * _SPREAD
        self._check_at = now + CHECK_INTERVAL
        self.state, self.reason, self._pauses = State.HELD, "", Pauses()
        self._remembered = external.port
        self.counters["granted"] += 1
        self._hold(Mapping(external, way.service, expires, network.gateway), "the router grants it")

    def _hold(self, mapping: Mapping, reason: str) -> None:
        """Hold this mapping, and tell it if it is another one."""
        before, self.mapping = self.mapping, mapping
        if before is None or replace(before, expires=mapping.expires) != mapping:
            self._out.append(Changed(mapping, reason))

    def _drop(self, reason: str) -> None:
        """Hold none any more."""
        if self.mapping is not None:
            self.mapping = None
            self._out.append(Changed(None, reason))

    def _is_usable(self, service: Service, host: str, port: int) -> bool:
        """Whether others could reach us there; if not, it is noted why not."""
        why = why_unusable(host, port) if host else "the router tells no external address"
        if why:
            self.counters["unusable"] += 1
            self.reason = f"{service.value}: {why}"
            self.double_nat = host if host and is_private(host) else ""
        return not why

    def _found_well(self, host: str, now: float) -> None:
        """A check was answered."""
        self.counters["checked"] += 1
        self._check_at = now + CHECK_INTERVAL
        mapping, way = self.mapping, self._way
        if mapping is None or way is None or host in ("", mapping.external.host):
            return
        if not self._is_usable(way.service, host, mapping.external.port):
            way.part(mapping.external)
            self._fail(now)
            return
        # RFC 6886, 3.2.1: the mapping goes on, at the new address; it is asked for again, for not
        # every router has read that.
        moved = replace(mapping, external=Place(host, mapping.external.port))
        self._hold(moved, "the router's address changed")
        self._renew_at = now

    def _ask_again(self, reason: str, now: float) -> None:
        """The router forgot what it granted."""
        self.counters["lost"] += 1
        self.reason = reason
        mapping, way = self.mapping, self._way
        if mapping is None or way is None or way.service is Service.UPNP:
            # After a restart a description is somewhere else.
            self._begin(now)
        else:
            way.ask((mapping.external.port,), mapping.external, now)

    def _refuse(self, refused: Refused, now: float) -> None:
        self.counters["refused"] += 1
        self._pauses.heed(refused.pause)
        if self._way is not None:
            self.reason = f"{self._way.service.value}: {refused.reason}"
        if self.state is State.HELD:
            self._begin(now)
        else:
            self._next(now)

    def _give_up(self, now: float) -> None:
        """Nobody answered."""
        self.counters["silent"] += 1
        if self._way is not None:
            self.reason = f"{self._way.service.value}: the router does not answer any more"
        if self.state is State.HELD:
            self._begin(now)
        else:
            # The answer may have been lost, and not the request.
            self._part()
            self._next(now)

    def _fail(self, now: float) -> None:
        """There is nothing to be had; the pauses grow."""
        self._leave_way()
        self._drop(self.reason)
        pause = self._pauses.next(self._fraction())
        self.state, self._paused_until = State.PAUSING, now + pause

    # --- Small things ---

    def _alarm(self, now: float, delay: float) -> None:
        """Something may have happened to the router: ask it, after `delay` seconds."""
        if self.state not in (State.HELD, State.PAUSING):
            return
        when, soonest = now + delay, self._alarmed_at + BETWEEN_ALARMS
        if is_early := now < soonest:
            self.counters["held back"] += 1
        if now < self._alarmed_at:
            return  # Another was held back, and asks for this one too.
        when = max(when, soonest)
        self._alarmed_at = when if is_early else now
        if self.state is State.HELD:
            self._check_at = min(self._check_at, when)
        else:
            when = max(when, self._looked_at + BETWEEN_LOOKS)
            self._paused_until = min(self._paused_until, when)

    def _part(self) -> None:
        """Give back what is held, or may have been granted; nothing is waited for."""
        way = self._way
        if way is not None and (self.mapping is not None or self.state is State.ASKING):
            way.part(self.mapping.external if self.mapping else None)

    def _leave_way(self) -> None:
        """Drop the way; what it has still to send is sent."""
        if self._way is not None:
            self._out += self._way.take()
            self._way = None

    def _fraction(self) -> float:
        """A random number from 0 to just under 1."""
        return int.from_bytes(self._random(2), "big") / 0x1_0000
