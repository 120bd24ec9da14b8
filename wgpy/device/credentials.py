"""What an interface does about credentials, as the device's settings ask for it (`Admissions`)."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from wgpy.datapath.contract import DataPath
from wgpy.device.admitter import Admitter
from wgpy.device.peer import PeerEntry, PeerTable
from wgpy.device.quarantine import LIFE, Quarantine
from wgpy.device.sessions import Gate, Sessions
from wgpy.device.trust import Trust
from wgpy.device.uapi import ClaimsSummary
from wgpy.identity.settings import AuthoritySettings, Expectation, IdentitySettings
from wgpy.ip import Prefix
from wgpy.keys import PresharedKey, PublicKey

_NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the device does for its credentials: `add` makes a peer that is in no table yet, `drop`
    takes one out of all, `drop_keys` ends the sessions of one that stays. `trust_changed` is called
    when our network or our own credential may be another, and `follow` with the files whose change
    `files_changed` is to be told of.
    """

    add: Callable[[PublicKey, PresharedKey | None], PeerEntry]
    drop: Callable[[PeerEntry], None]
    drop_keys: Callable[[PeerEntry], None]
    trust_changed: Callable[[], None]
    follow: Callable[[list[str]], None]


class Credentials:
    """Trust, sessions and handshakes of one device, together."""

    def __init__(
        self,
        datapath: DataPath,
        peers: PeerTable,
        trust: Trust,
        hooks: Hooks,
        *,
        clock: Callable[[], float],
        stamp_ns: Callable[[], int],
        random: Callable[[int], bytes],
        gate: Gate | None = None,
        quarantine_life: float = LIFE,
    ) -> None:
        self._clock = clock
        self._peers = peers
        self._trust = trust
        self._hooks = hooks
        self._sessions = Sessions(
            datapath,
            peers,
            trust,
            clock=clock,
            drop=hooks.drop,
            drop_keys=hooks.drop_keys,
            gate=gate,
        )
        self._quarantine = Quarantine(
            datapath, peers, trust, self._sessions, drop=hooks.drop, life=quarantine_life
        )
        self.admitter = Admitter(
            datapath,
            peers,
            trust,
            self._sessions,
            self._quarantine,
            stamp_ns=stamp_ns,
            random=random,
            add=hooks.add,
            drop=hooks.drop,
        )

    def close(self) -> None:
        """Close the ledger, and wipe what is secret."""
        for entry in self._peers.by_key.values():
            if entry.admitted:
                entry.set_psk(PresharedKey(bytes(32)))
        self._trust.close()

    # --- Settings ---

    def configure(
        self,
        authority: AuthoritySettings | None,
        identity: IdentitySettings | None,
        own: PublicKey | None,
    ) -> Callable[[], None]:
        """Read and check everything that these settings name; see Admissions."""
        commit = self._trust.prepare(authority, identity, own)

        def put_into_force() -> None:
            commit()
            psk = self._trust.psk or PresharedKey(bytes(32))
            for entry in self._peers.by_key.values():
                if entry.admitted:
                    entry.set_psk(psk)
            self._hooks.trust_changed()
            self._who_may_stay()
            self._hooks.follow(self._trust.paths())

        return put_into_force

    def _who_may_stay(self) -> None:
        self._sessions.trust_changed()
        self._quarantine.look(self._clock())

    def peer_expectation(self, key: PublicKey, expectation: Expectation | None) -> None:
        """What a configured peer proved until now is not what it has to prove."""
        entry = self._peers.by_key.get(key)
        if entry is not None:
            entry.claims, entry.ends_at = None, _NEVER

    def peers_changed(self) -> None:
        """Configured peers come before who was admitted."""
        self._who_may_stay()

    def removed(self, key: PublicKey) -> None:
        """An admitted peer has left the device."""
        self._sessions.removed(key)

    def describe(self, key: PublicKey) -> ClaimsSummary | None:
        """What the credential of a peer says, or our own for our own key."""
        entry = self._peers.by_key.get(key)
        if entry is not None:
            if entry.enrolment is not None:
                return ClaimsSummary.of_enrolment(entry.enrolment)
            return None if entry.claims is None else ClaimsSummary.of(entry.claims)
        own = self._trust.own
        if own is None or own.key != key:
            return None
        groups = tuple(sorted(own.groups))
        return ClaimsSummary(own.kind, own.name, groups, own.serial, None, int(own.not_after))

    def counters(self) -> Mapping[str, int]:
        """What was admitted, refused and dropped, by name."""
        counters = Counter(self.admitter.counters()) + Counter(self._sessions.counters())
        counters += Counter(self._quarantine.counters())
        return counters + Counter(self._trust.counters())

    def keys_dropped(self) -> None:
        """The data path holds no key any more: the link is down, we slept, or it failed."""
        self.admitter.keys_dropped()

    # --- What is around ---

    def set_addresses(self, own: tuple[Prefix, ...], links: tuple[Prefix, ...]) -> None:
        """The machine's addresses, and the networks that it is attached to."""
        self._sessions.set_addresses(own, links)
        self._quarantine.look(self._clock())

    def files_changed(self) -> list[PeerEntry]:
        """Read what has changed on disk. Returns the peers that should see our new credential:
        their session with us ends with the old one."""
        trusted, presented = self._trust.reload()
        if trusted or presented:
            self._hooks.trust_changed()
        if trusted:
            self._who_may_stay()
        entries = self._peers.by_key.values()
        return [x for x in entries if x.expectation is not None] if presented else []

    # --- Time ---

    def work(self, now: float) -> tuple[list[PeerEntry], list[PeerEntry]]:
        """Go on with handshakes, and with what rests on them.

        Returns the peers whose session began, and those that were answered.
        """
        began: list[PeerEntry] = []
        answered: list[PeerEntry] = []
        if not self.admitter.idle:
            began, answered = self.admitter.commit(now), self.admitter.work(now)
        if self._sessions.next_look is not None and now >= self._sessions.next_look:
            self._sessions.look(now)
        if self._quarantine.next_look is not None and now >= self._quarantine.next_look:
            self._quarantine.look(now)
        return began, answered

    def next_at(self, now: float) -> float | None:
        """When `work` has something to do."""
        when = self._sessions.next_look
        other = self._quarantine.next_look
        if other is not None and (when is None or other < when):
            when = other
        if not self.admitter.idle:
            other = self.admitter.next_at(now)
            if other is not None and (when is None or other < when):
                when = other
        return when
