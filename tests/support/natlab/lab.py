"""A lab: built from its description, and gone at the end whatever happens."""

import contextlib
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network
from types import TracebackType
from typing import Self

from tests.support.natlab import addresses
from tests.support.natlab.host import LabHost
from tests.support.natlab.internet import Internet
from tests.support.natlab.link import End
from tests.support.natlab.places import Places
from tests.support.natlab.plan import V6, Host, Line, Nat, PlanError, Router, check
from tests.support.natlab.router import WAN, LabRouter


class Lab:
    """Routers and hosts around an internet of their own; a context manager.

    With `ipv6` the hosts of the internet have both families, and so do those behind routers whose
    `v6` says so. `routers` and `hosts` are found by name. Raises PlanError at once for what cannot
    be built.
    """

    def __init__(
        self, routers: Iterable[Router] = (), hosts: Iterable[Host] = (), *, ipv6: bool = False
    ) -> None:
        self._routers = tuple(routers)
        self._hosts = tuple(hosts)
        self._ipv6 = ipv6
        check(self._routers, self._hosts)
        if len(self._routers) > addresses.MAX_ROUTERS:
            raise PlanError(f"more than {addresses.MAX_ROUTERS} routers")
        if not ipv6 and any(router.v6 is not V6.NONE for router in self._routers):
            raise PlanError("a router has IPv6, and the lab has not")
        self._stack = contextlib.ExitStack()
        self.routers: dict[str, LabRouter] = {}
        self.hosts: dict[str, LabHost] = {}

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def closing(self, call: Callable[[], object]) -> None:
        """Call it at the end, before what is there already is taken away."""
        self._stack.callback(call)

    def _build(self) -> None:
        internet = Internet(self._ipv6)
        self.closing(internet.node.close)
        places = Places(internet, self.routers)
        self.closing(places.close)
        for number, plan in enumerate(self._routers, start=1):
            self._build_router(plan, number, places)
        for host_plan in self._hosts:
            host = LabHost(host_plan, places)
            self.closing(host.node.close)
            self.hosts[host_plan.name] = host
            host.build()

    def _build_router(self, plan: Router, number: int, places: Places) -> None:
        router = LabRouter(plan, number, self._lan(plan, number))
        self.closing(router.node.close)
        uplink = places.uplink(plan.behind)
        if isinstance(uplink, Internet):
            has4, has6 = plan.nat is not None, plan.v6 is not V6.NONE
            grant = uplink.grant_router(number, ipv4=has4, ipv6=has6)
        else:
            grant = uplink.grant(1)
        if (plan.nat is not None and not grant.v4) or (plan.v6 is not V6.NONE and not grant.v6):
            raise PlanError(f"router {plan.name!r}: {plan.behind!r} has not got what it passes on")
        link = places.lay(End(router.node, WAN), uplink, plan.line, plan.back, plan.mtu)
        router.build(uplink, link, grant)
        self.routers[plan.name] = router

    def _lan(self, plan: Router, number: int) -> IPv4Network:
        """The network that the plan names, or one of the kind that it needs."""
        if plan.lan:
            return IPv4Network(plan.lan)
        if any(router.behind == plan.name for router in self._routers):
            return addresses.carrier_lan(number)
        if plan.nat is Nat.OPEN:
            if number > addresses.MAX_OPEN:
                raise PlanError(f"router {plan.name!r}: no public network is left for its LAN")
            return addresses.open_lan(number)
        return addresses.home_lan(number)


def two_homes(one: Nat, other: Nat, *, delay: float | None = None, hops: int = 3) -> Lab:
    """The lab of most tests: "alice" at "home", "bob" at the "office", and a "server".

    `one` is the NAT of the home, `other` that of the office. The server has two addresses. With
    `delay`, packets take so many seconds one way between any two of the three, and pass the
    internet and twice as many routers as `hops` says; that needs the carrier.
    """
    line = None if delay is None else Line(delay=delay / 2, hops=hops)
    return Lab(
        [Router("home", one, line=line), Router("office", other, line=line)],
        [Host("alice", "home"), Host("bob", "office"), Host("server", addresses=2, line=line)],
    )
