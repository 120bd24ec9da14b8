"""Finds the ways to one peer, proves them, uses the best, watches it, and replaces it when it dies.

How a shell drives it (agent.py; the fake one of the tests, tests/support/fake_node.py, is short):

- One object for each peer, one `Budget` for all of them. Call `local` when candidates are known,
  and again whenever they or the NAT's facts change. That begins everything.
- Bytes from the peer's `Signal` go to `signal`; datagrams of types 0x12 and 0x13 to `receive`: the
  path id at offset 4 says to whose, by the last `PathIds` of each.
- `relay` when a channel is bound to one of the RELAYED candidates of `Remote`; `gone` when a relay
  or a socket is closed.
- `active` when packets pass for the peer, and `heard` when authentic ones came from a place: once a
  second is often enough. Every `Roamed` goes to `heard` as well; the data path does not apply it.
- `network_changed` as soon as addresses or routes have changed, and after sleep; then `local`.
- After each of these calls, and at the time of `due`, which changes with each: `tick`, `take`, and
  do what it says in order.

Nothing here has a socket or a clock. Times are seconds that never go back; `random(n)` gives
unpredictable bytes. Bytes from the network raise nothing; `counters` says what came of them.

A probe from the peer changes nothing: the place it came from is asked, and only an answer proves a
path. Packets go to proved paths only.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from wgpy.nat import candidates
from wgpy.nat.budget import Budget
from wgpy.nat.candidates import NOTHING, Candidate, Kind, Rank, Refused
from wgpy.nat.facts import UNKNOWN, NatFacts, why_relayed
from wgpy.nat.meeting import Begin, Meeting, Stage
from wgpy.nat.mtu import LINK_MTU
from wgpy.nat.orders import (
    DEFAULTS,
    Carrier,
    DropSockets,
    Opened,
    Options,
    Order,
    PathIds,
    Remote,
    Report,
    Status,
)
from wgpy.nat.place import Place
from wgpy.nat.prober import Prober, Purpose, Question
from wgpy.nat.rendezvous import Answered, Offered, Rendezvous
from wgpy.nat.round import Random, Round
from wgpy.nat.sealed import PathKeys
from wgpy.nat.signal_message import LIFE, MAX_LIFE
from wgpy.nat.ways import Ways

_DIRECT: Final = {
    Rank.LAN: "direct, in the same network",
    Rank.V6: "direct, by IPv6",
    Rank.V4: "direct, by IPv4",
}


class Pathfinder:
    """The ways to one peer. `sequence` starts the numbers of its signals: milliseconds since 1970,
    by a clock that does not go back over restarts either (device/wallclock.py)."""

    def __init__(
        self,
        keys: PathKeys,
        random: Random,
        budget: Budget,
        sequence: int,
        options: Options = DEFAULTS,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._options = options
        self._random = random
        self._budget = budget
        self._orders: list[Order] = []
        self._now = 0.0
        self._prober = Prober(keys.probe, random, self.counters)
        self._rendezvous = Rendezvous(
            keys,
            random,
            sequence,
            life=MAX_LIFE if options.patient else LIFE,
            counters=self.counters,
        )
        self._meeting = Meeting(keys, self._rendezvous, self._prober.ours, budget, options)
        self._ways = Ways(self._prober, budget, options, self._orders, self.counters)
        self._round: Round | None = None
        self._told_ids: tuple[bytes, ...] = ()
        self._their_facts: NatFacts = UNKNOWN
        self._report: Report | None = None

    # --- What the shell says ---

    def local(
        self,
        found: Iterable[Candidate],
        facts: NatFacts,
        now: float,
        *,
        refused: Refused = NOTHING,
        link_mtu: int = LINK_MTU,
    ) -> None:
        """Where we may be found, and what is known of our NAT. With none nothing is offered.

        `link_mtu` is that of the link by which packets leave.
        """
        before = _signature(self._meeting.local, self._meeting.facts)
        self._meeting.local, self._meeting.facts = tuple(found), facts
        self._meeting.refused = self._ways.refused = refused
        self._ways.lengths.link_mtu = link_mtu
        if self._meeting.local and _signature(self._meeting.local, facts) != before:
            self._meeting.want(now, found=True)
        self._settle(now)

    def sockets(self, opened: Sequence[Opened], now: float) -> None:
        """The sockets that `WantSockets` asked for, as many as there are."""
        self._ways.sockets.update(each.via for each in opened)
        self._meeting.sockets(tuple(opened), now)
        self._settle(now)

    def signal(self, data: bytes, now: float) -> None:
        """A sealed signal came, from whomever."""
        heard = self._rendezvous.receive(data, now)
        if heard is None:
            return
        if isinstance(heard, Offered | Answered):
            self._their_facts = heard.message.facts
            told = candidates.theirs(heard.message.candidates, self._ways.refused, self.counters)
            self._orders.append(Remote(told))
        self._meeting.signal(heard, now)
        self._settle(now)

    def receive(self, data: bytes, source: Place, now: float) -> None:
        """A datagram of type 0x12 or 0x13 came from there."""
        if not self._ways.accepts(source):
            self.counters["probe_from_refused"] += 1
            return
        heard = self._prober.receive(data, source, now)
        if heard is None:
            return
        if isinstance(heard, Question):
            if heard.ids in self._meeting.answered_with:
                direct = self._ways.paths.rank(source) is not Rank.RELAY
                called = self._meeting.implied(now, direct=direct)
                if called:
                    self._prober.theirs.told(called)
                self._settle(now)
            self._ways.question(heard, now)
        else:
            self._ways.answer(heard, now)
        self._settle(now)

    def heard(self, place: Place, now: float) -> None:
        """Authentic packets of the tunnel came from there. They prove nothing, for whoever gets
        hold of one can send it from elsewhere first; but a path that they come by is not given up
        so soon, and a place that is not known yet is asked."""
        self._ways.heard(place, now)
        self._settle(now)

    def active(self, now: float) -> None:
        """Packets pass between us and the peer, in either direction."""
        self._ways.watch.active(now)
        self._settle(now)

    def keepalive(self, seconds: float) -> None:
        """How often an idle path is asked: less than the lifetime of the NAT's mappings."""
        self._ways.watch.keepalive = seconds

    def relay(self, place: Place, now: float) -> None:
        """This channel of a relay of ours leads to the peer."""
        self._ways.relay(place, now)
        self._settle(now)

    def released(self, place: Place, now: float) -> None:
        """This channel leads nowhere any more."""
        self._ways.released(place, now)
        self._settle(now)

    def gone(self, via: int, now: float) -> None:
        """A relay or a socket of ours is closed, for another reason than `DropSockets`. Orders that
        were taken before may still name it."""
        self._ways.gone(via, now)
        self._settle(now)

    def network_changed(self, now: float) -> None:
        """Our addresses or routes are others: call `local` when it is known which. Until then
        packets go where they went, for a moment: that may do where only our address is new."""
        self.counters["network_changes"] += 1
        self._meeting.local = ()
        self._meeting.moved()
        self._round = None
        self._ways.network_changed(now)
        self._settle(now)

    def stop(self, now: float) -> None:
        """The peer is removed. What `take` gives then is the last."""
        self._meeting.stop()
        self._round = None
        if self._ways.sockets:
            self._orders.append(DropSockets(tuple(sorted(self._ways.sockets))))
        self._orders.append(PathIds(()))

    def tick(self, now: float) -> None:
        """Do what is due."""
        self._step_round(now)
        self._ways.tick(now)
        self._settle(now)
        # Last: a round that ended, or a path that died, may be followed by a meeting at once.
        self._meeting.tick(now)
        self._settle(now)

    # --- What the shell asks ---

    def take(self) -> list[Order]:
        """What is to be done, in this order."""
        taken = list(self._orders)
        self._orders.clear()
        return taken

    def due(self) -> float | None:
        """When `tick` has something to do, if nothing happens before."""
        moments = [self._meeting.due(), self._ways.due(self._now)]
        if self._round is not None:
            moments.append(self._round.due())
        return min((each for each in moments if each is not None), default=None)

    def status(self) -> Status:
        """How things are, for people."""
        carrier, why = self._report or Report(Carrier.SEARCHING, "looking for a way")
        used = self._ways.used
        if used is None:
            return Status(carrier, None, None, 0.0, 0, why)
        measured = used.round_trip if used.last_answer is not None else None
        return Status(carrier, used.place, measured, used.loss, self._ways.lengths.found, why)

    # --- Meetings and rounds ---

    def _settle(self, now: float) -> None:
        """What one part did is told to the others."""
        self._now = now
        ways, meeting = self._ways, self._meeting
        meeting.see(now, has_way=ways.has_way, is_direct=ways.is_direct)
        if self._round is not None:
            for rank in ways.news:
                self._round.proved(rank, now)
        ways.news.clear()
        if ways.wants_meeting:
            meeting.want(now, burnt=ways.is_burnt)
            ways.wants_meeting = ways.is_burnt = False
        if self._prober.ours.all() != self._told_ids:
            # Before the signal that tells them to the peer.
            self._told_ids = self._prober.ours.all()
            self._orders.append(PathIds(self._told_ids))
        for order in meeting.take():
            if isinstance(order, Begin):
                self._begin(order, now)
            else:
                self._orders.append(order)
        self._drop_sockets()
        self._tell(now)

    def _begin(self, begin: Begin, now: float) -> None:
        """A round begins, soon."""
        self._prober.theirs.told(begin.message.path_ids)
        told = candidates.theirs(begin.message.candidates, self._ways.refused, Counter())
        relayed = [(each.host, each.port) for each in told if each.kind is Kind.RELAYED]
        self._ways.paths.told_relayed(frozenset(relayed))
        self._ways.forget_unproved()
        self._ways.ask_relays(now)
        # Who meets anew has mostly moved.
        self._ways.doubt(now)
        if self._options.relay_only:
            told = ()
        self._round = Round(
            begin, told, self._meeting.facts, self._random, patient=self._options.patient
        )
        for target in self._round.targets:
            self._ways.paths.add(target.place, told=True)

    def _step_round(self, now: float) -> None:
        current = self._round
        if current is None:
            return
        for shot in current.step(now, lambda place: self._spend(place, now)):
            path = self._ways.paths.get(shot.place)
            if path is None or not path.proved:
                self._ways.send(shot.place, now, Purpose.CHECK, ttl=shot.ttl)
            if path is not None and not path.proved:
                path.last_asked = now
        if not current.is_over(now):
            return
        self._round = None
        self._ways.paths.forget_spare(self._ways.used)
        if self._meeting.stage is Stage.ROUND:
            success = self._ways.is_direct or self._options.relay_only
            self._meeting.finished(now, success=success)

    def _spend(self, place: Place, now: float) -> float:
        """Seconds until a probe may go to a place; 0 if it may now, and then it is counted."""
        path = self._ways.paths.get(place)
        if path is not None and path.proved:
            return 0.0
        to = (place.host, place.port)
        seconds = self._budget.probe_wait(to, now)
        if seconds <= 0:
            self._budget.probe(to, now)
        return seconds

    def _drop_sockets(self) -> None:
        """Sockets that no path, round or meeting needs any more are closed."""
        if not self._ways.sockets:
            return
        needed = set(self._meeting.vias)
        if self._round is not None:
            needed |= self._round.vias
        used = self._ways.used
        needed |= {x.place.via for x in self._ways.paths if x.proved or x is used}
        unneeded = self._ways.sockets - needed
        if unneeded:
            self._ways.dropped(frozenset(unneeded))
            self._orders.append(DropSockets(tuple(sorted(unneeded))))

    def _tell(self, now: float) -> None:
        """What people are told, when it has changed."""
        used = self._ways.used
        # Without candidates nobody looks, but `local` is about to bring some.
        busy = self._meeting.is_busy(now) or not self._meeting.local
        if used is None and busy:
            report = Report(Carrier.SEARCHING, "looking for a way")
        elif used is None:
            report = Report(Carrier.NONE, "no way was found; the next attempt is later")
        elif used.rank is not Rank.RELAY:
            report = Report(Carrier.DIRECT, _DIRECT[used.rank])
        elif self._options.relay_only:
            report = Report(Carrier.RELAY, "through a relay, as the settings say")
        elif busy:
            report = Report(Carrier.RELAY, "through a relay, while a direct way is looked for")
        else:
            why = why_relayed(self._meeting.facts, self._their_facts)
            report = Report(Carrier.RELAY, f"through a relay: {why}")
        if report != self._report:
            self._report = report
            self._orders.append(report)


def _signature(found: Iterable[Candidate], facts: NatFacts) -> object:
    """What of our candidates matters: a NAT that takes a port for each destination shows another
    one each time that a STUN server is asked."""
    what = frozenset(
        each._replace(port=0) if each.kind is Kind.REFLEXIVE and facts.depends else each
        for each in found
    )
    return what, facts
