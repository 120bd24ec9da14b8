"""Where an admitted peer finds its place: which addresses are free for it, and which routes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from wgpy.identity.claims import Claims, CredentialError
from wgpy.identity.profile import within
from wgpy.identity.settings import AuthoritySettings
from wgpy.ip import Prefix, mask
from wgpy.keys import PublicKey


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an interface has beside its admitted peers, and what they can never take."""

    # The interface's own addresses, and those of other interfaces that are not to be shadowed.
    own: tuple[Prefix, ...] = ()
    # Peers of the configuration, with their allowed IPs.
    configured: Mapping[PublicKey, Sequence[Prefix]] = field(default_factory=dict)
    # The prefixes of the networks that this machine is attached to by other links.
    links: tuple[Prefix, ...] = ()


@dataclass(frozen=True, slots=True)
class Routes:
    """A peer's routed prefixes: which could be installed by local choice, and which never."""

    possible: tuple[Prefix, ...]
    withheld: tuple[tuple[Prefix, str], ...]


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


class Place:
    """The addresses of one interface, as its operator has given them out."""

    __slots__ = ("_accept", "_configured", "_links", "_own", "_settings", "_surroundings")

    def __init__(self, settings: AuthoritySettings, surroundings: Surroundings) -> None:
        self._settings = settings
        self._surroundings = surroundings
        self._accept = PrefixTable(settings.accept)
        self._own = PrefixTable(surroundings.own)
        self._links = PrefixTable(surroundings.links)
        self._configured = PrefixTable(
            prefix for prefixes in surroundings.configured.values() for prefix in prefixes
        )

    def decides(self, claims: Claims) -> bool:
        """Not for a configured peer: it has the addresses of the configuration."""
        return claims.key not in self._surroundings.configured

    def check(self, claims: Claims) -> None:
        """Whether a key that is not configured may have its addresses here, by its groups too.

        Raises CredentialError.
        """
        if not self.decides(claims):
            return
        for group in self._settings.require_groups:
            if group not in claims.groups:
                raise CredentialError("group-required", f"it is not in the group {group}")
        if not claims.addresses:
            raise CredentialError("no-address", "it gives no address")
        for address in claims.addresses:
            if not within(address, self._settings.accept):
                raise CredentialError("not-accepted", f"{address} is in no `accept` network")
            self.check_free(address)

    def check_free(self, address: Prefix) -> None:
        """Raise CredentialError for an address that meets ours or a configured peer's."""
        if (own := self._own.overlapping(address)) is not None:
            raise CredentialError("own-address", f"{address} meets our own {own}")
        if (taken := self._configured.overlapping(address)) is not None:
            raise CredentialError(
                "configured-address", f"{address} meets {taken} of a configured peer"
            )

    def routes(self, claims: Claims) -> Routes:
        """Which routed prefixes could be installed by local choice.

        A prefix that meets an `accept` network could answer for every name that is away, so none
        does; nor what is ours, a configured peer's, or a network that this machine is attached to.
        """
        possible, withheld = [], []
        for prefix in claims.prefixes:
            for word, table in (
                ("an accept network", self._accept),
                ("our own address", self._own),
                ("a configured peer's", self._configured),
                ("a local link's", self._links),
            ):
                if (other := table.overlapping(prefix)) is not None:
                    withheld.append((prefix, f"it meets {word} {other}"))
                    break
            else:
                possible.append(prefix)
        return Routes(tuple(possible), tuple(withheld))
