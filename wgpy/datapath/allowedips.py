"""Allowed IPs: which peer owns an address, by the longest prefix (whitepaper section 2).

One table for a prefix length, looked at from the longest to the shortest, and a cache of addresses
before them: a plain structure that is fast enough, and that can be read in a minute.
"""

from collections.abc import Iterable

from wgpy.datapath.contract import AllowedIpOperation, Handle
from wgpy.ip import Prefix

# Addresses whose answer is remembered. At 4,096 the cache is emptied: a scan through a large
# network costs lookups then, never memory.
CACHE_LENGTH = 4096

# Handles start at 1: this stands in the cache for "no peer has it".
_NOBODY = 0


class AllowedIps:
    """Prefixes to owners. A prefix has one owner; adding it elsewhere moves it."""

    def __init__(self) -> None:
        # By address length in bytes: prefix length in bits to a table of leading bits to owner.
        self._tables: dict[int, dict[int, dict[int, Handle]]] = {4: {}, 16: {}}
        self._lengths: dict[int, list[int]] = {4: [], 16: []}
        self._owned: dict[Handle, set[Prefix]] = {}
        self._cache: dict[bytes, Handle] = {}

    def lookup(self, address: bytes) -> Handle | None:
        """The owner of an address of 4 or 16 bytes, or None."""
        owner = self._cache.get(address)
        if owner is None:
            owner = self._find(address)
            if len(self._cache) >= CACHE_LENGTH:
                self._cache.clear()
            self._cache[address] = owner
        return owner or None

    def _find(self, address: bytes) -> Handle:
        size = len(address)
        bits = size * 8
        value = int.from_bytes(address, "big")
        tables = self._tables[size]
        for length in self._lengths[size]:
            owner = tables[length].get(value >> (bits - length))
            if owner is not None:
                return owner
        return _NOBODY

    def apply(self, changes: Iterable[AllowedIpOperation]) -> None:
        """Carry out a batch; no lookup sees half of it, since nothing else runs meanwhile."""
        for operation, peer, prefix in changes:
            if operation == "replace":
                self.forget(peer)
            elif prefix is None:
                raise ValueError(f"{operation} needs a prefix")
            elif operation == "add":
                self._remove(prefix)
                self._add(prefix, peer)
            elif self.owner(prefix) == peer:
                self._remove(prefix)
        self._cache.clear()

    def forget(self, peer: Handle) -> None:
        """Take every prefix from a peer."""
        for prefix in list(self._owned.get(peer, ())):
            self._remove(prefix)
        self._owned.pop(peer, None)
        self._cache.clear()

    def owner(self, prefix: Prefix) -> Handle | None:
        """Who owns exactly this prefix."""
        size = len(prefix.address)
        table = self._tables[size].get(prefix.length)
        return None if table is None else table.get(_leading(prefix))

    def of(self, peer: Handle) -> list[Prefix]:
        """The prefixes of a peer, sorted."""
        return sorted(self._owned.get(peer, ()), key=lambda prefix: (len(prefix[0]), *prefix))

    def _add(self, prefix: Prefix, peer: Handle) -> None:
        size = len(prefix.address)
        tables = self._tables[size]
        if prefix.length not in tables:
            tables[prefix.length] = {}
            self._lengths[size] = sorted(tables, reverse=True)
        tables[prefix.length][_leading(prefix)] = peer
        self._owned.setdefault(peer, set()).add(prefix)

    def _remove(self, prefix: Prefix) -> None:
        size = len(prefix.address)
        tables = self._tables[size]
        table = tables.get(prefix.length)
        owner = None if table is None else table.pop(_leading(prefix), None)
        if table is None or owner is None:
            return
        self._owned[owner].discard(prefix)
        if not table:
            del tables[prefix.length]
            self._lengths[size] = sorted(tables, reverse=True)


def _leading(prefix: Prefix) -> int:
    return int.from_bytes(prefix.address, "big") >> (len(prefix.address) * 8 - prefix.length)
