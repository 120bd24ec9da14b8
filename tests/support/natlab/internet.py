"""The internet of a lab: one router with a cable to everyone, that has no opinion on any packet.

It routes, and so makes TTLs smaller by one, and says what it cannot deliver by ICMP. What is for an
address that nobody has ends here, and so do private ones.
"""

from tests.support.natlab import addresses
from tests.support.natlab.link import End, Link
from tests.support.natlab.node import router_node
from tests.support.natlab.plan import PlanError
from tests.support.natlab.uplink import Grant, bare


class Internet:
    """The namespace in the middle; with `ipv6` its hosts have both families."""

    def __init__(self, ipv6: bool) -> None:
        self.node = router_node("internet")
        self._ipv6 = ipv6
        self._cables = 0
        self._servers = 0
        # The interface by which an address is reached.
        self._ways: dict[str, str] = {}
        try:
            # No cable has an IPv4 address of its own here.
            self.node.ip((f"address add {addresses.GATEWAY}/32 dev lo",))
        except BaseException:
            self.node.close()
            raise

    def socket_for(self) -> End:
        self._cables += 1
        return End(self.node, f"to{self._cables}")

    def grant(self, count: int) -> Grant:
        self._servers += 1
        number = self._servers
        if number > addresses.MAX_SERVERS or count > addresses.MAX_ADDRESSES:
            raise PlanError("the internet has no more addresses for hosts")
        v6 = addresses.server6(number, count) if self._ipv6 else []
        return self._grant(addresses.server(number, count), v6)

    def grant_router(self, number: int, *, ipv4: bool, ipv6: bool) -> Grant:
        """Addresses for the WAN side of a router."""
        v4 = [addresses.wan(number)] if ipv4 else []
        return self._grant(v4, [addresses.wan6(number)] if ipv6 else [])

    def _grant(self, v4: list[str], v6: list[str]) -> Grant:
        return Grant(
            tuple(f"{address}/32" for address in v4),
            tuple(f"{address}/128" for address in v6),
            addresses.GATEWAY,
            addresses.GATEWAY6,
        )

    def plugged(self, link: Link, grant: Grant) -> None:
        interface = link.far.interface
        commands = [f"address add {addresses.GATEWAY6}/64 dev {interface} nodad"]
        for address in map(bare, (*grant.v4, *grant.v6)):
            commands.append(f"route replace {address} dev {interface}")
            self._ways[address] = interface
        self.node.ip(commands)

    def renumber(self, old: str, new: str) -> None:
        """The one at an IPv4 address has another one now."""
        interface = self._ways[new] = self._ways.pop(old)
        self.node.ip((f"route delete {old}", f"route add {new} dev {interface}"))

    def announce(self, network: str, via: str) -> None:
        way = f"via {via} dev {self._ways[via]} onlink"
        self.node.ip((f"route replace {network} {way}",))
