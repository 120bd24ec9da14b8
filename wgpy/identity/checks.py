"""What a credential of either kind is held against: times, limits, and the addresses of others."""

from collections.abc import Iterable
from typing import Final

from wgpy.identity.claims import CredentialError
from wgpy.identity.profile import is_unicast, under, within
from wgpy.identity.settings import Limits
from wgpy.ip import Prefix, mask

# A credential is accepted this many seconds before it begins, as if it had begun: clocks differ.
# There is no grace at its end.
EARLY_SECONDS: Final = 300


def is_host(prefix: Prefix) -> bool:
    """Whether `prefix` is one whole unicast address that a peer could have in a tunnel."""
    return prefix.length == len(prefix.address) * 8 and is_unicast(prefix.address)


class PrefixTable:
    """Which of many prefixes covers an address, at a cost that grows with their lengths alone."""

    __slots__ = ("_by_length",)

    def __init__(self, prefixes: Iterable[Prefix] = ()) -> None:
        self._by_length: dict[tuple[int, int], set[bytes]] = {}
        for prefix in prefixes:
            key = (len(prefix.address), prefix.length)
            self._by_length.setdefault(key, set()).add(prefix.address)

    def overlapping(self, prefix: Prefix) -> Prefix | None:
        """A prefix of the table that has an address in common with `prefix`, or None."""
        for (size, length), addresses in self._by_length.items():
            if size != len(prefix.address):
                continue
            if length <= prefix.length:
                covering = mask(prefix.address, length)
                if covering in addresses:
                    return Prefix(covering, length)
            else:
                for address in addresses:
                    if mask(address, prefix.length) == prefix.address:
                        return Prefix(address, length)
        return None


def check_times(not_before: float, not_after: float, wall: float) -> None:
    """Raise CredentialError if a credential is not valid at `wall`: a little early, never late."""
    if wall >= not_after:
        raise CredentialError("expired", f"it ended {wall - not_after:.0f} s ago")
    if wall < not_before - EARLY_SECONDS:
        raise CredentialError("not-yet-valid", f"it begins in {not_before - wall:.0f} s")


def check_limits(
    limits: Limits,
    name: str | None,
    addresses: Iterable[Prefix],
    prefixes: Iterable[Prefix],
    groups: Iterable[str],
) -> None:
    """Raise CredentialError where a credential says more than its issuer may sign for."""
    if name is not None and not under(name, limits.names):
        raise CredentialError("name-not-permitted", f"its issuer may not sign for the name {name}")
    for prefix in (*addresses, *prefixes):
        if not within(prefix, limits.networks):
            raise CredentialError(
                "network-not-permitted", f"its issuer may not sign for the network {prefix}"
            )
    for group in groups:
        if group not in limits.groups:
            raise CredentialError(
                "group-not-permitted", f"its issuer may not sign for the group {group}"
            )
