"""What may reach Python: control datagrams of a known type and length, with a good mac1.

A flood of junk costs one length check, and at the most one keyed BLAKE2s, and fills no queue. Types
with a budget are bounded in number as well (shed.py).
"""

import hmac
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from wgpy.datapath.contract import Datagram, DataPathError, FilterRule
from wgpy.datapath.demux import is_channel
from wgpy.datapath.endpoint import Route, source_of, to_endpoint
from wgpy.datapath.shed import MAC_LENGTH, Lane, Places, is_proven, mac
from wgpy.protocol.constants import CONTROL_QUEUE_LENGTH

SECRET_LENGTH = 32
PATH_ID_LENGTH = 8
# Four for each of 10,000 peers, and room for as many again while they are replaced.
MAX_PATH_IDS = 65_536


def check_rules(rules: Sequence[FilterRule]) -> None:
    """Whether all that the rules look at lies within the least length. Raises DataPathError."""
    for rule in rules:
        if not _fits(rule):
            raise DataPathError(f"the rule of type {rule.type} looks past its length")
        if is_channel(rule.type & 0xFF):
            raise DataPathError(f"the type {rule.type} would be taken for ChannelData")
        if not _affords(rule):
            raise DataPathError(f"the budget of type {rule.type} has a bound that bounds nothing")


def _fits(rule: FilterRule) -> bool:
    span = MAC_LENGTH if rule.budget is None else 2 * MAC_LENGTH
    at, index, path = rule.mac1_offset, rule.index_offset, rule.path_offset
    return (
        rule.length >= 4
        and (rule.longest is None or (not rule.exact and rule.longest >= rule.length))
        and (index is None or 0 <= index <= rule.length - 4)
        and (path is None or 0 <= path <= rule.length - PATH_ID_LENGTH)
        and (at is None or (0 <= at <= rule.length - span) or (span <= -at <= rule.length))
        and not (at is None and rule.budget is not None)
    )


def _affords(rule: FilterRule) -> bool:
    budget = rule.budget
    return budget is None or (
        1 <= budget.queue <= CONTROL_QUEUE_LENGTH
        and min(budget.proven_rate, budget.peer_rate, budget.unproven_rate) > 0
        and budget.source_rate > 0
        and min(budget.unproven_burst, budget.source_burst) >= 1
    )


def check_secrets(*secrets: bytes) -> list[bytes]:
    """The secrets that are there. Raises DataPathError for another length than 32."""
    present = [secret for secret in secrets if secret]
    if any(len(secret) != SECRET_LENGTH for secret in present):
        raise DataPathError(f"a cookie secret has {SECRET_LENGTH} bytes")
    return present


def check_path_ids(ids: Iterable[bytes]) -> frozenset[bytes]:
    """The identifiers as a set. Raises DataPathError for another length than 8, or too many."""
    found = frozenset(ids)
    if any(len(path) != PATH_ID_LENGTH for path in found):
        raise DataPathError(f"a path identifier has {PATH_ID_LENGTH} bytes")
    if len(found) > MAX_PATH_IDS:
        raise DataPathError(f"{len(found)} path identifiers are more than {MAX_PATH_IDS}")
    return found


class ControlFilter:
    """The rules of `DataPath.set_filter`, and the queues of the types that have a budget."""

    def __init__(self) -> None:
        self._rules: dict[int, FilterRule] = {}
        self._lanes: dict[int, Lane] = {}
        self._mac1_key = bytes(32)
        self._secrets: list[bytes] = []
        self._paths: frozenset[bytes] = frozenset()
        self.places = Places()

    def set(self, rules: Sequence[FilterRule], mac1_key: bytes, seed: bytes) -> int:
        """Replace the rules; the key is that of LABEL_MAC1 under our public key.

        A queue whose type has no budget any more is dropped. Returns how many datagrams were in it.
        """
        check_rules(rules)
        former = self._lanes
        self._rules = {rule.type: rule for rule in rules}
        self._mac1_key = mac1_key
        self._lanes = {}
        for kind, rule in self._rules.items():
            if rule.budget is not None:
                self._lanes[kind] = former.pop(kind) if kind in former else Lane(seed)
                self._lanes[kind].set(rule.budget)
        return sum(len(lane.queue) for lane in former.values())

    def set_secrets(self, current: bytes, previous: bytes) -> None:
        """What cookies are made with; an empty one is none."""
        self._secrets = check_secrets(current, previous)

    def set_paths(self, ids: Iterable[bytes]) -> None:
        """The identifiers of paths that are ours."""
        self._paths = check_path_ids(ids)

    def queue_of(self, kind: int) -> deque[Datagram] | None:
        """The queue of a type that has one of its own."""
        lane = self._lanes.get(kind)
        return None if lane is None else lane.queue

    def queues(self) -> list[deque[Datagram]]:
        """The queues of the types that have one of their own, in the order of the types."""
        return [self._lanes[kind].queue for kind in sorted(self._lanes)]

    def refusal(
        self, data: bytes, route: Route, now: float, is_ours: Callable[[int], bool]
    ) -> str | None:
        """Why a datagram is dropped, as the name of a counter, or None if it may pass.

        `is_ours` tells whether an index is one of ours.
        """
        if len(data) < 4:
            return "too_short"
        kind = int.from_bytes(data[:4], "little")
        rule = self._rules.get(kind)
        if rule is None:
            return "unknown_type"
        longest = rule.length if rule.exact else rule.longest
        if len(data) < rule.length or (longest is not None and len(data) > longest):
            return "wrong_length"
        at = rule.index_offset
        if at is not None and not is_ours(int.from_bytes(data[at : at + 4], "little")):
            return "unknown_index"
        at = rule.path_offset
        if at is not None and data[at : at + PATH_ID_LENGTH] not in self._paths:
            return "unknown_path"
        lane = self._lanes.get(kind)
        if lane is not None and lane.is_full:
            return "shed_queue"
        at = rule.mac1_offset
        if at is None:
            return None
        if at < 0:
            at += len(data)
        end = at + MAC_LENGTH
        proven = False
        if lane is not None:
            address, source = source_of(to_endpoint(route))
            is_peer = self.places.has(route)
            if lane.is_dry(now) and not is_peer:
                # In a flood mac1 need not be looked at: only who proved its address could pass.
                proven = is_proven(self._secrets, source, data, end)
                if not proven:
                    return "shed_unproven"
        if not hmac.compare_digest(mac(self._mac1_key, data[:at]), data[at:end]):
            return "bad_mac1"
        if lane is None:
            return None
        proven = proven or is_proven(self._secrets, source, data, end)
        return lane.refusal(address, proven=proven, is_peer=is_peer, now=now)
