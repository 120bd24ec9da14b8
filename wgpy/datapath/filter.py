"""What may reach Python: control datagrams of a known type and length, with a good mac1.

A flood of junk costs one length check, and at the most one keyed BLAKE2s, and fills no queue.
"""

import hmac
from collections.abc import Callable, Sequence
from hashlib import blake2s

from wgpy.datapath.contract import FilterRule

_MAC_LENGTH = 16


class ControlFilter:
    """The rules of `DataPath.set_filter`. Returns the name of the counter to raise, or None."""

    def __init__(self) -> None:
        self._rules: dict[int, FilterRule] = {}
        self._mac1_key = bytes(32)

    def set(self, rules: Sequence[FilterRule], mac1_key: bytes) -> None:
        """Replace the rules; the key is that of LABEL_MAC1 under our public key."""
        self._rules = {rule.type: rule for rule in rules}
        self._mac1_key = mac1_key

    def refusal(self, data: bytes, is_ours: Callable[[int], bool]) -> str | None:
        """Why a datagram is dropped, as the name of a counter, or None if it may pass.

        `is_ours` tells whether an index is one of ours.
        """
        if len(data) < 4:
            return "too_short"
        rule = self._rules.get(int.from_bytes(data[:4], "little"))
        if rule is None:
            return "unknown_type"
        if len(data) < rule.length or (rule.exact and len(data) != rule.length):
            return "wrong_length"
        at = rule.index_offset
        if at is not None and not is_ours(int.from_bytes(data[at : at + 4], "little")):
            return "unknown_index"
        at = rule.mac1_offset
        if at is not None:
            mac = blake2s(data[:at], key=self._mac1_key, digest_size=_MAC_LENGTH).digest()
            if not hmac.compare_digest(mac, data[at : at + _MAC_LENGTH]):
                return "bad_mac1"
        return None
