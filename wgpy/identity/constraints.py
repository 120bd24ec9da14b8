"""Name constraints: which names and addresses a CA may sign for (RFC 5280 section 4.2.1.10)."""

import ipaddress
from dataclasses import dataclass

from cryptography import x509

from wgpy.identity.profile import is_name, under, within
from wgpy.identity.settings import Limits
from wgpy.ip import Prefix

# All of IPv4 and of IPv6: a CA for one of the two excludes the other.
EVERYTHING = (Prefix(bytes(4), 0), Prefix(bytes(16), 0))

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Constraints:
    """A CA's permitted and excluded subtrees of the two kinds that we use.

    As in RFC 5280, no permitted subtree of a kind means that the kind is not restricted: whether
    that is good enough is asked with `bounds_names` and `bounds_addresses`.
    """

    names: tuple[str, ...] = ()
    networks: tuple[Prefix, ...] = ()
    excluded_names: tuple[str, ...] = ()
    excluded_networks: tuple[Prefix, ...] = ()

    def bounds_names(self) -> bool:
        """Whether names are restricted."""
        return bool(self.names)

    def bounds_addresses(self) -> bool:
        """Whether IPv4 and IPv6 are both restricted: permitted in part, or excluded whole."""
        return all(
            any(len(x.address) == len(every.address) for x in self.networks)
            or every in self.excluded_networks
            for every in EVERYTHING
        )

    def permits_name(self, name: str) -> bool:
        """Whether a leaf may have this name."""
        if self.names and not under(name, self.names):
            return False
        return not (self.excluded_names and under(name, self.excluded_names))

    def permits_address(self, address: Prefix) -> bool:
        """Whether a leaf may have this address (or a CA below permit this network)."""
        if self.networks and not within(address, self.networks):
            return False
        return not (self.excluded_networks and within(address, self.excluded_networks))


def read(extension: x509.NameConstraints) -> Constraints:
    """The subtrees of an extension. Raises ValueError for a name that we do not understand."""
    permitted, excluded = extension.permitted_subtrees or (), extension.excluded_subtrees or ()
    names, networks = _split(permitted)
    excluded_names, excluded_networks = _split(excluded)
    return Constraints(names, networks, excluded_names, excluded_networks)


def _split(
    subtrees: tuple[()] | list[x509.GeneralName],
) -> tuple[tuple[str, ...], tuple[Prefix, ...]]:
    names, networks = [], []
    for subtree in subtrees:
        if isinstance(subtree, x509.DNSName):
            # A leading dot is what only some programs understand; letters have one case for us.
            if not is_name(subtree.value.lower()):
                raise ValueError("a constraint names what is no domain")
            names.append(subtree.value.lower())
        elif isinstance(subtree, x509.IPAddress):
            value = subtree.value
            if not isinstance(value, IpNetwork):
                raise ValueError("a constraint has an address without a mask")
            networks.append(Prefix(value.network_address.packed, value.prefixlen))
    return tuple(names), tuple(networks)


def write(limits: Limits) -> x509.NameConstraints:
    """The extension for a CA with these limits, which have a name and a network at least.

    A version of IP that no network has is excluded whole, for absence would permit it.
    """
    permitted: list[x509.GeneralName] = [x509.DNSName(name) for name in limits.names]
    permitted += [x509.IPAddress(ipaddress.ip_network(str(x))) for x in limits.networks]
    versions = {x.version for x in limits.networks}
    excluded = [
        x509.IPAddress(ipaddress.ip_network(str(every)))
        for every in EVERYTHING
        if every.version not in versions
    ]
    return x509.NameConstraints(permitted, excluded or None)
