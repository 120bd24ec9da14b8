"""What the coordinator's handlers share: the store, the issuer, the roll, the hub; and refusals."""

import asyncio
import logging
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, ParamSpec, TypeVar

from wgpy.identity.derived import quarantine_range
from wgpy.ip import Prefix
from wgpy.keys import PrivateKey, PublicKey
from wgpy.mesh import events
from wgpy.mesh.callers import Callers, CallersError
from wgpy.mesh.hub import Hub
from wgpy.mesh.issuer import Issuer, IssuerError
from wgpy.mesh.rates import Rates
from wgpy.mesh.records import NodeRecord, Revocation
from wgpy.mesh.reports import Reports
from wgpy.mesh.roll import Roll
from wgpy.mesh.settings import NetworkSettings
from wgpy.mesh.store import Refusal, Refused, Store, StoreError, StoreUnavailable

_log = logging.getLogger(__name__)

# The store has four connections, and writers follow one another: more would only wait.
THREADS: Final = 8
# Who comes when so many wait is told to come again: at 50 joins a second that is five seconds.
MAX_WAITING: Final = 256
# Some seconds' worth.
MAX_RECENT: Final = 256

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Refuse(Exception):  # noqa: N818 - nothing failed: the answer is no
    """A request is refused: an HTTP status, a word for programs, a sentence for a person."""

    def __init__(self, status: int, word: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.word = word


# What a store refuses, as an HTTP status. The words are the store's own, but for these.
_STATUS: Final = {
    Refusal.UNKNOWN_INVITE: 410,
    Refusal.EXPIRED: 410,
    Refusal.SPENT: 410,
    Refusal.REVOKED: 410,
    Refusal.NAME_WANTED: 400,
    Refusal.BAD_NAME: 400,
    Refusal.NAME_TAKEN: 409,
    Refusal.KEY_IN_USE: 409,
    Refusal.KEY_REMOVED: 403,
    Refusal.FULL: 503,
    Refusal.PENDING: 409,
    Refusal.UNKNOWN_NODE: 404,
    Refusal.NOT_THIS_KEY: 403,
    Refusal.EXISTS: 409,
    Refusal.FIXED: 409,
}
_REMOVED: Final = "removed"


def refusal_of(error: Exception) -> Refuse | None:
    """A failure of the store, the issuer or the daemon as the refusal of a request."""
    if isinstance(error, Refuse):
        return error
    if isinstance(error, Refused):
        word = _REMOVED if error.reason is Refusal.KEY_REMOVED else error.reason.value
        return Refuse(_STATUS[error.reason], word, str(error))
    if isinstance(error, StoreUnavailable):
        return Refuse(503, "store", f"the coordinator's store is away, try again: {error}")
    if isinstance(error, StoreError):
        return Refuse(503, "store", f"the coordinator's store has a fault: {error}")
    if isinstance(error, IssuerError):
        return Refuse(503, "issuer", f"no certificate can be issued now: {error}")
    if isinstance(error, CallersError):
        return Refuse(503, "daemon", f"the coordinator's daemon does not say who asks: {error}")
    return None


@dataclass
class Desk:
    """The parts of one coordinator. `wall` is the wall clock, `clock` one that never goes back."""

    store: Store
    issuer: Issuer
    callers: Callers
    own: PrivateKey
    # Where callers come from; None for the ranges of the network, and of those in quarantine.
    ranges: tuple[Prefix, ...] | None = None
    wall: Callable[[], float] = time.time
    # Intermediates (DER) that nodes shall know besides the one that signs.
    others: tuple[bytes, ...] = ()
    clock: Callable[[], float] = time.monotonic
    counters: Counter[str] = field(default_factory=Counter)
    roll: Roll = field(default_factory=Roll)
    reports: Reports = field(default_factory=Reports)
    hub: Hub = field(init=False)
    # Whom we have let in and the roll may not know yet.
    recent: "OrderedDict[PublicKey, NodeRecord]" = field(default_factory=OrderedDict)
    # 20 signals a second and 40 at once: a node that punches with a few others sends some a second.
    signal_rate: Rates = field(default_factory=lambda: Rates(20.0, 40.0, 16_384))
    # Tells what another coordinator posts from what we do.
    origin: str = field(default_factory=lambda: secrets.token_hex(8))

    def __post_init__(self) -> None:
        self.public = self.own.public()
        self.hub = Hub(self.counters)
        self._threads = ThreadPoolExecutor(THREADS, "coordinator")
        self._waiting = 0

    async def call(self, function: Callable[_P, _T], *args: _P.args, **named: _P.kwargs) -> _T:
        """Run what blocks in a thread. Raises Refuse where too much waits already."""
        if self._waiting >= MAX_WAITING:
            self.counters["busy"] += 1
            raise Refuse(503, "busy", "the coordinator has too much to do, try again")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, lambda: function(*args, **named))
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the threads; what they do is finished first."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def remember(self, node: NodeRecord) -> None:
        """A node that has just been let in, for its next request."""
        self.recent[node.key] = node
        if len(self.recent) > MAX_RECENT:
            self.recent.popitem(last=False)

    @property
    def settings(self) -> NetworkSettings:
        """What holds for the network. Raises Refuse before it is known."""
        if self.roll.settings is None:
            raise Refuse(503, "store", "the coordinator has yet to read its store, try again")
        return self.roll.settings

    def come_from(self) -> tuple[Prefix, ...]:
        """The ranges that callers come from. Raises Refuse before they are known."""
        settings = self.settings
        return self.ranges or (settings.range4, settings.range6, quarantine_range(settings.id))

    def issue(self, record: NodeRecord) -> bytes:
        """A certificate, counted; called by the store, in a thread."""
        der = self.issuer.issue(record)
        self.counters["certificates"] += 1
        return der

    async def sign_list(self) -> None:
        """Sign the next list of revocations, and have everybody told."""
        entries = 0

        def sign(number: int, revocations: Sequence[Revocation]) -> bytes:
            nonlocal entries
            entries = len(revocations)
            return self.issuer.sign_list(number, revocations)

        key_id = self.issuer.authority.key_id
        number, _ = await self.call(self.store.sign_list, key_id, self.wall(), sign)
        self.counters["lists"] += 1
        _log.info("%s", events.list_written(number, entries))

    def shown(self) -> dict[str, Any]:
        """What there is to count, for the operator."""
        return {
            **self.counters,
            **{f"store_{name}": count for name, count in self.store.counters().items()},
            "connected": len(self.hub),
            "reported_paths": len(self.reports),
            "waiting": self._waiting,
        }
