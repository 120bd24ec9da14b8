"""What a machine has that matters to a network it founds: its routes, and where others reach it."""

from wgpy.identity.profile import is_unicast
from wgpy.ip import Prefix, address_text, parse_prefix
from wgpy.linux.addresses import link_addresses
from wgpy.linux.netlink import Netlink
from wgpy.linux.routes import destinations

# Not an address that others reach this machine at, unless they are in the same place.
_PRIVATE = tuple(
    parse_prefix(x)
    for x in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)


def taken() -> tuple[Prefix, ...]:
    """Every destination that this machine has a route to, and the networks that it is in.

    Raises OSError, NetlinkError.
    """
    found = {Prefix(x.address, 8 * len(x.address)) for x in link_addresses()}
    with Netlink() as net:
        found.update(destinations(net))
    return tuple(sorted(found))


def own_addresses() -> tuple[str, ...]:
    """This machine's addresses, those first that others are likely to reach. Raises OSError."""
    found = [x.address for x in link_addresses() if is_unicast(x.address)]
    public = [x for x in found if not is_private(x)]
    return tuple(address_text(x) for x in (*public, *(x for x in found if is_private(x))))


def is_private(address: bytes) -> bool:
    """Whether an address (4 or 16 bytes) means something only in one place."""
    return any(
        len(address) == len(prefix.address)
        and int.from_bytes(address, "big") >> (8 * len(address) - prefix.length)
        == int.from_bytes(prefix.address, "big") >> (8 * len(address) - prefix.length)
        for prefix in _PRIVATE
    )
