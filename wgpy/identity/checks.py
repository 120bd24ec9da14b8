"""What a credential of either kind is held against: times and limits."""

from collections.abc import Iterable
from typing import Final

from wgpy.identity.claims import CredentialError
from wgpy.identity.profile import is_unicast, under, within
from wgpy.identity.settings import Limits
from wgpy.ip import Prefix

# A credential is accepted this many seconds before it begins, as if it had begun: clocks differ.
# There is no grace at its end.
EARLY_SECONDS: Final = 300


def is_host(prefix: Prefix) -> bool:
    """Whether `prefix` is one whole unicast address that a peer could have in a tunnel."""
    return prefix.length == len(prefix.address) * 8 and is_unicast(prefix.address)


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
