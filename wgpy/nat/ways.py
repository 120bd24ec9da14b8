"""The ways to one peer as they are: asked, proved, used, watched, replaced.

It does not look for new ones. That is a matter of meetings and rounds, which the pathfinder joins
to this; `wants_meeting` says that there is a reason for one.
"""

from collections import Counter
from typing import Final

from wgpy.nat import candidates
from wgpy.nat.budget import Budget
from wgpy.nat.candidates import NOTHING, Rank, Refused, place_fault
from wgpy.nat.mtu import Lengths
from wgpy.nat.orders import DoubtRelay, Observed, Options, Order, Unuse, Use
from wgpy.nat.path import Health, Path
from wgpy.nat.paths import Paths
from wgpy.nat.place import Place
from wgpy.nat.prober import Answer, Prober, Purpose, Question
from wgpy.nat.watch import Checks, Watch

# A probe of theirs is a reason to ask there at once, unless that was done just now.
TRIGGER_GAP: Final = 0.05
# Packets of the tunnel come in thousands; so often they are a reason to ask where they come from.
HEARD_GAP: Final = 0.5
# After the network changed, the path in use has this long to answer from the new one: it does where
# only our side's address is another one.
SUSPECT_SECONDS: Final = 1.5


class Ways:
    """The paths of one peer. `orders` is the pathfinder's list, which this adds to."""

    def __init__(
        self,
        prober: Prober,
        budget: Budget,
        options: Options,
        orders: list[Order],
        counters: Counter[str],
    ) -> None:
        self.counters = counters
        self.paths = Paths(counters)
        self.watch = Watch(options.keepalive)
        self.checks = Checks()
        self.lengths = Lengths(orders)
        self.used: Path | None = None
        self.refused: Refused = NOTHING
        # Those that were opened for us and not dropped, beside the tunnel's own.
        self.sockets: set[int] = set()
        # There is a reason for a meeting, until the pathfinder has taken note of it; and the NATs'
        # mappings that the path in use rested on may be gone.
        self.wants_meeting = False
        self.is_burnt = False
        # The ranks of paths that were proved since the pathfinder looked.
        self.news: list[Rank] = []
        self._prober = prober
        self._budget = budget
        self._relay_only = options.relay_only
        self._orders = orders
        self._relays: set[Place] = set()
        self._suspect_until: float | None = None
        self._seen_as: dict[int, tuple[str, int]] = {}
        # When there was a reason to think that the other side has left its network.
        self._doubted_at: float | None = None
        # Places that sent us a probe, and are to be asked as soon as the bounds allow.
        self._owed: dict[Place, None] = {}

    @property
    def has_way(self) -> bool:
        """Whether packets reach the peer, as far as is known."""
        return self.used is not None and self.used.proved

    @property
    def is_direct(self) -> bool:
        """Whether packets reach the peer without a relay."""
        return self.used is not None and self.used.rank is not Rank.RELAY

    # --- What comes in ---

    def accepts(self, source: Place) -> bool:
        """Whether a datagram from there may be looked at: from an address that may be a peer's, by
        a socket or a relay that is still ours."""
        if self._relay_only and not source.channel:
            return False
        fault = place_fault(source.host, source.port, self.refused)
        return self._is_ours(source) and fault is None

    def _is_ours(self, place: Place) -> bool:
        """Whether the socket or relay of a place is one that we have now."""
        if place.channel:
            return place in self._relays
        return place.via == 0 or place.via in self.sockets

    def question(self, question: Question, now: float) -> None:
        """A probe came: it is answered, and the place is asked in turn."""
        self._called(question, now)
        path = self.paths.add(question.source, told=False)
        if path is None:
            return
        path.last_heard = now
        if path.proved or self._budget.answer(path.destination, now):
            reply = self._prober.answer(question)
            if reply is not None:
                self._orders.append(reply)
        if not path.proved and _is_older(path.last_asked, TRIGGER_GAP, now):
            self.ask_unproved(path, now)

    def answer(self, answer: Answer, now: float) -> None:
        """A probe of ours was answered: the path is proved."""
        self._called(answer, now)
        path = self.paths.add(answer.place, told=True)
        if path is None:
            return
        if not path.proved:
            self.news.append(path.rank)
            if path is self.used:
                # After a change of the network it may carry less.
                self.lengths.begin(path, now)
        path.answered(answer.asked_at, now)
        self.checks.end(path.place)
        self._owed.pop(path.place, None)
        via = path.place.via
        if path.rank is not Rank.RELAY and self._seen_as.get(via) != answer.seen_as:
            self._seen_as[via] = answer.seen_as
            self._orders.append(Observed(*answer.seen_as, via))
        if answer.purpose is Purpose.LENGTH:
            self.lengths.arrived(path.place, answer.length, now)
        self._consider(path, now)

    def _called(self, heard: Question | Answer, now: float) -> None:
        self._prober.ours.confirm(heard.ids)
        if self._prober.theirs.follow(heard.index):
            # The other side is on another network: where it was it may not be any more.
            self.doubt(now)

    def doubt(self, now: float) -> None:
        """The other side may be on another network: the path in use answers now, or makes room for
        one that does."""
        self._doubted_at = now
        if self.used is not None and self.used.proved and not self.used.waiting:
            self.ask(self.used, now)

    def _look_after(self, used: Path | None, now: float) -> None:
        """There is a reason to ask the path in use now, and not at its time."""
        if used is None or not used.proved or used.waiting:
            return
        if _is_older(used.last_answer, used.spacing, now):
            self.ask(used, now)

    def heard(self, place: Place, now: float) -> None:
        """Authentic packets of the tunnel came from there."""
        self.watch.active(now)
        if not self.accepts(place):
            return
        path = self.paths.add(place, told=False)
        if path is None:
            return
        path.last_heard = now
        if not path.proved and _is_older(path.last_asked, HEARD_GAP, now):
            self.ask_unproved(path, now)
        if path is not self.used:
            # The other side uses another path: ours may be dead.
            self._look_after(self.used, now)

    # --- What goes out ---

    def ask_unproved(self, path: Path, now: float) -> None:
        """Ask a place that has not answered, now or as soon as the bounds allow."""
        if not self._prober.can_ask:
            return
        if not self._budget.probe(path.destination, now):
            self._owed[path.place] = None
            return
        self.send(path.place, now, Purpose.CHECK)
        path.last_asked = now

    def ask(self, path: Path, now: float) -> None:
        """Ask a path that is proved."""
        self.send(path.place, now, Purpose.WATCH)
        path.asked(now)

    def send(self, place: Place, now: float, purpose: Purpose, *, ttl: int = 0) -> None:
        """A probe that nothing holds back."""
        if not self._is_ours(place):
            return
        sent = self._prober.ask(place, now, purpose, ttl=ttl)
        if sent is not None:
            self._orders.append(sent)

    # --- Relays, sockets, networks ---

    def relay(self, place: Place, now: float) -> None:
        """This channel of a relay of ours leads to the peer."""
        path = self.paths.add(place, told=True)
        if path is not None:
            self._relays.add(place)
            if not path.proved:
                self.checks.soon(place, now)

    def ask_relays(self, now: float) -> None:
        """Called when the peer may have told its own relay to let us in."""
        for place in self._relays:
            path = self.paths.get(place)
            if path is not None and not path.proved:
                self.checks.soon(place, now)
                if self.used is None:
                    self._doubt_relay(place)

    def _doubt_relay(self, place: Place) -> None:
        order = DoubtRelay(place.via)
        if order not in self._orders:
            self._orders.append(order)

    def gone(self, via: int, now: float) -> None:
        """A relay or a socket of ours is closed."""
        self.dropped(frozenset({via}))
        for place in [place for place in self._relays if place.via == via]:
            self._relays.discard(place)
            self.checks.end(place)
        used = self.used
        if used is not None and used.place.via == via:
            used.forget()
            self._replace(now)

    def dropped(self, vias: frozenset[int]) -> None:
        """These sockets are not ours any more."""
        self.sockets -= vias
        for path in [path for path in self.paths if path.place.via in vias]:
            self.checks.end(path.place)
            self.paths.remove(path)
        for via in vias:
            self._seen_as.pop(via, None)

    def released(self, place: Place, now: float) -> None:
        """A channel leads nowhere any more."""
        self._relays.discard(place)
        self.checks.end(place)
        path = self.paths.get(place)
        if path is None:
            return
        self.paths.remove(path)
        if path is self.used:
            path.forget()
            self._replace(now)

    def network_changed(self, now: float) -> None:
        """What was measured is void; what is in use may still do, for a moment."""
        self._prober.theirs.advance()
        for path in self.paths:
            path.forget()
        self.ask_relays(now)
        if self.used is not None:
            self._suspect_until = now + SUSPECT_SECONDS
            if self.used.place not in self._relays:
                self.checks.revive(self.used.place, now)

    def forget_unproved(self) -> None:
        """Called when a round begins: what earlier ones tried in vain goes."""
        keep = set(self._relays) | self.checks.places()
        if self.used is not None:
            keep.add(self.used.place)
        self.paths.forget_unproved(frozenset(keep))

    # --- Which one is used ---

    def _consider(self, path: Path, now: float) -> None:
        """A path has just answered: is it the one to use?"""
        used = self.used
        if used is None or not used.proved:
            self._use(path, 0.0, now)
        elif path is used:
            return
        elif self._gives_way(used, path):
            self._use(path, 0.0, now)
        elif candidates.clearly_better(path.cost, used.cost):
            wait = candidates.hold(path.round_trip, used.round_trip, used.variation)
            self._use(path, wait, now)

    def _gives_way(self, used: Path, path: Path) -> bool:
        """Whether the path in use is silent so long that one that answers is preferred: one of the
        same sort soon, and a relay when it is dead, or when the other side has moved as well."""
        answer = used.last_answer
        is_left = self._doubted_at is not None and (answer is None or answer < self._doubted_at)
        if path.cost[0] <= used.cost[0]:
            return used.falters or is_left
        return used.falters and is_left

    def _use(self, path: Path, hold: float, now: float) -> None:
        self._suspect_until = self._doubted_at = None
        if path is self.used:
            return
        self.used = path
        if path.rank is not Rank.RELAY:
            self.checks.end_revivals()
        self._orders.append(Use(path.place, hold))
        self.lengths.begin(path, now)
        self.counters["path_changes"] += 1

    def _replace(self, now: float) -> None:
        """The path in use is dead: the next best, or none, and a meeting."""
        self.counters["paths_lost"] += 1
        self.wants_meeting = True
        self.is_burnt = self.used is not None and self.used.rank is Rank.V4
        self._suspect_until = None
        # What killed one may have killed the others: they are asked now, and not at their time.
        self._ask_spare(now)
        best = self.paths.best()
        if best is not None:
            self._use(best, 0.0, now)
            return
        self.used = None
        self.lengths.end()
        self._orders.append(Unuse())

    def _ask_spare(self, now: float) -> None:
        for path in self.paths:
            if path is not self.used and path.proved and not path.waiting:
                self.ask(path, now)

    # --- Time ---

    def due(self, now: float) -> float | None:
        """When `tick` has something to do."""
        moments = [self.checks.due(), self._suspect_until]
        if self.used is not None and self.used.proved:
            moments.append(self.lengths.due(busy=self.watch.is_busy(now)))
        moments += [
            self.watch.due(path, used=path is self.used, now=now)
            for path in self.paths
            if path.proved
        ]
        moments += [
            now + self._budget.probe_wait((place.host, place.port), now) for place in self._owed
        ]
        return min((each for each in moments if each is not None), default=None)

    def tick(self, now: float) -> None:
        """Do what is due."""
        for path in list(self.paths):
            if path.proved:
                self._look(path, now)
        owed, self._owed = self._owed, {}
        for place in [*self.checks.step(now), *owed]:
            known = self.paths.get(place)
            if known is not None and not known.proved:
                self.ask_unproved(known, now)
        used = self.used
        if self._suspect_until is not None and now >= self._suspect_until:
            self._suspect_until = None
            if used is not None and not used.proved:
                self._replace(now)
        self._try_length(now)

    def _look(self, path: Path, now: float) -> None:
        health = self.watch.look(path, used=path is self.used, now=now)
        if health is Health.ASK:
            if path is self.used and path.waiting:
                # Should it be dead, it is known by then which others are not.
                self._ask_spare(now)
            self.ask(path, now)
        elif health is Health.DEAD:
            path.forget()
            if path.place in self._relays:
                self.checks.soon(path.place, now)
                self._doubt_relay(path.place)
            elif path is self.used:
                self.checks.revive(path.place, now)
            else:
                self.paths.remove(path)
            if path is self.used:
                self._replace(now)

    def _try_length(self, now: float) -> None:
        used = self.used
        if used is None or not used.proved:
            return
        length = self.lengths.step(used, now, busy=self.watch.is_busy(now))
        if length is not None:
            sent = self._prober.ask(used.place, now, Purpose.LENGTH, length=length, whole=True)
            if sent is not None:
                self._orders.append(sent)


def _is_older(when: float | None, seconds: float, now: float) -> bool:
    """Whether something was never done, or is this long ago."""
    return when is None or now - when >= seconds
