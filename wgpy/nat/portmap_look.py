"""Which services of port mapping a gateway has: asked without mapping anything.

PCP and NAT-PMP are asked at once, twice, 250 ms apart: they are one datagram each, and whoever
speaks them answers in a few milliseconds. UPnP is asked by multicast, for which devices may take a
second; so by default only where the two are silent.

    0.00 s   PCP ANNOUNCE and NAT-PMP address request to port 5351 of the gateway
    0.25 s   again, whichever did not answer
    0.50 s   the end of these, or as soon as PCP is found; where both were silent, searches by SSDP
    +0.50 s  again
    +2.00 s  the end of those
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, NamedTuple

from wgpy.nat.candidates import is_private
from wgpy.nat.mapping import (
    SERVER_PORT,
    Answer,
    Present,
    Refused,
    Service,
    is_public,
)
from wgpy.nat.natpmp import NatPmpClient, is_natpmp
from wgpy.nat.pcp import NONCE_LENGTH, PcpClient
from wgpy.nat.place import Place, Send
from wgpy.nat.upnp import SSDP, TARGETS, Deed, Order, Outcome, pack_search, parse_answer

UDP_RETRY: Final = 0.25
UDP_END: Final = 0.5
SSDP_RETRY: Final = 0.5
# The second that the search allows, half of one for the second search, and half for the network.
SSDP_END: Final = 2.0

# ANNOUNCE has none.
_NO_NONCE: Final = bytes(NONCE_LENGTH)


class Extent(Enum):
    """How far a look goes."""

    # PCP and NAT-PMP; UPnP where both are silent.
    NEEDED = auto()
    # All three at once, and UPnP is asked for the external address, as people want to know it.
    EVERYTHING = auto()
    # What is left where PCP was found and of no use.
    REST = auto()


class _Step(Enum):
    """What a look has still to do."""

    ASK = auto()
    END_ASKING = auto()
    SEARCH = auto()
    END_SEARCH = auto()


class Network(NamedTuple):
    """A router and our address towards it, as text; `link` is the interface's index."""

    gateway: str
    own: str
    link: int = 0

    @property
    def is_v6(self) -> bool:
        """Whether these are addresses of IPv6."""
        return ":" in self.gateway

    @property
    def may_have_upnp(self) -> bool:
        """Whether a search may be of use: gateways of UPnP stand in homes, before private IPv4
        addresses, and a multicast in somebody's datacentre is a nuisance."""
        return not self.is_v6 and not is_public(self.own)


class Found(NamedTuple):
    """One service that answered. `epoch` is since how many seconds the router remembers mappings,
    None where the service does not say; `external` its external address, empty if not known.
    `refusal` says in words what it refused."""

    epoch: int | None = None
    external: str = ""
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class AtGateway:
    """What was found at one gateway. `upnp` is the URL of its description, empty for none;
    `upnp_refusal` says why UPnP was not asked, empty if it was."""

    network: Network
    found: dict[Service, Found] = field(default_factory=dict)
    upnp: str = ""
    upnp_refusal: str = ""

    @property
    def external(self) -> str:
        """The external address that the router tells, empty if it tells none."""
        return next((x.external for x in self.found.values() if x.external), "")

    @property
    def is_double_nat(self) -> bool:
        """Whether the router stands behind another NAT itself."""
        return bool(self.external) and is_private(self.external)


@dataclass(frozen=True, slots=True)
class Services:
    """What was found at the routers of a machine, None where a family has no router."""

    v4: AtGateway | None
    v6: AtGateway | None


class Look:
    """One look at one gateway; `finished` once there is nothing more to wait for.

    `known` are services that need not be asked for. `upnp_refusal` says why UPnP cannot be asked,
    and is empty if it can.
    """

    def __init__(
        self,
        network: Network,
        now: float,
        *,
        counters: Counter[str],
        extent: Extent = Extent.NEEDED,
        known: Iterable[Service] = (),
        upnp_refusal: str = "",
    ) -> None:
        self.network = network
        self._counters = counters
        self.extent = extent
        self._found: dict[Service, Found] = {}
        self._upnp = ""
        self._refusal = upnp_refusal
        if not upnp_refusal and not network.may_have_upnp:
            self._refusal = "it is only for private IPv4 addresses"
        self._pcp = PcpClient(network.own, 0, _NO_NONCE)
        self._natpmp = NatPmpClient(0)
        # The server does not know one of the two versions that we asked in.
        self._complained = False
        self._out: list[Send | Order] = []
        self._ordered: Order | None = None
        # What PCP and NAT-PMP are still asked for.
        self._wanted = {Service.PCP} if network.is_v6 else {Service.PCP, Service.NAT_PMP}
        self._wanted -= set(known)
        self._asking = bool(self._wanted)
        # What is still to be done, and when.
        self._plan: dict[_Step, float] = {}
        if self._asking:
            self._plan = {_Step.ASK: now + UDP_RETRY, _Step.END_ASKING: now + UDP_END}
            self._ask()
        if extent is not Extent.NEEDED and not self._refusal:
            self._start_search(now)

    @property
    def finished(self) -> bool:
        """Whether `seen` will not change any more."""
        return not self._plan and self._ordered is None

    @property
    def seen(self) -> AtGateway:
        """What is known so far."""
        return AtGateway(self.network, dict(self._found), self._upnp, self._refusal)

    def due(self) -> float | None:
        """When `tick` is to be called next."""
        return min(self._plan.values(), default=None)

    def take(self) -> list[Send | Order]:
        """What is to be sent, and an order whose outcome is waited for."""
        out, self._out = self._out, []
        return out

    def tick(self, now: float) -> None:
        """Do what is due."""
        for step in [step for step, when in self._plan.items() if when <= now]:
            # A step before it may have ended this one, or put it off.
            if self._plan.get(step, now + 1) > now:
                continue
            del self._plan[step]
            if step is _Step.ASK:
                # Whoever calls late still waits for the answers.
                self._plan[_Step.END_ASKING] = now + UDP_END - UDP_RETRY
                self._ask()
            elif step is _Step.END_ASKING:
                self._end_asking(now)
            elif step is _Step.SEARCH:
                self._plan[_Step.END_SEARCH] = now + SSDP_END - SSDP_RETRY
                self._search()
            else:
                self._end_search()

    def receive(self, data: bytes, source: Place, now: float) -> None:
        """Take a datagram from the gateway. Raises ParseError."""
        if source.port != SERVER_PORT:
            self._take_place(data)
        elif is_natpmp(data):
            self._take_natpmp(self._natpmp.read(data))
            self._settle(now)
        else:
            self._take_pcp(self._pcp.read(data))
            self._settle(now)

    def outcome(self, order: Order, outcome: Outcome) -> None:
        """Take what came of the order for the external address."""
        if order is self._ordered:
            self._ordered = None
            found = Found(None, outcome.host, outcome.refusal)
            self._found[Service.UPNP] = found

    # --- PCP and NAT-PMP ---

    def _ask(self) -> None:
        server = Place(self.network.gateway, SERVER_PORT)
        if Service.PCP in self._wanted:
            self._out.append(Send(self._pcp.check(), server))
        if Service.NAT_PMP in self._wanted:
            self._out.append(Send(self._natpmp.check(), server))

    def _take_pcp(self, answer: Answer) -> None:
        self._wanted.discard(Service.PCP)
        if isinstance(answer.content, Present):
            self._found[Service.PCP] = Found(answer.epoch)

    def _take_natpmp(self, answer: Answer) -> None:
        content = answer.content
        if isinstance(content, Refused) and content.absent:
            # Which of our two questions it means cannot be told (RFC 6886, 3.5; RFC 6887, 9).
            self._complained = True
            return
        self._wanted.discard(Service.NAT_PMP)
        if isinstance(content, Present):
            self._found[Service.NAT_PMP] = Found(answer.epoch, content.host)
        elif isinstance(content, Refused):
            self._found[Service.NAT_PMP] = Found(answer.epoch, "", content.reason)

    def _settle(self, now: float) -> None:
        """End early, if nothing that could still come would matter."""
        if self._complained and Service.NAT_PMP in self._found:
            # So it was PCP that the server does not know.
            self._wanted.clear()
        enough = self.extent is Extent.NEEDED and Service.PCP in self._found
        if enough or not self._wanted:
            self._end_asking(now)
        if not self._asking and self._found and self.extent is Extent.NEEDED:
            self._end_search()

    def _end_asking(self, now: float) -> None:
        if not self._asking:
            return
        self._asking = False
        self._plan.pop(_Step.ASK, None)
        self._plan.pop(_Step.END_ASKING, None)
        if self.extent is Extent.NEEDED and not (self._found or self._refusal):
            self._start_search(now)

    # --- UPnP ---

    def _start_search(self, now: float) -> None:
        self._plan[_Step.SEARCH] = now + SSDP_RETRY
        self._plan[_Step.END_SEARCH] = now + SSDP_END
        self._search()

    def _search(self) -> None:
        for target in TARGETS:
            self._out.append(Send(pack_search(target), SSDP))
        # Some gateways hear no multicast in a Wi-Fi, and answer a question of their own.
        one = self.network.gateway
        self._out.append(Send(pack_search(TARGETS[0], one), Place(one, SSDP.port)))

    def _take_place(self, data: bytes) -> None:
        if _Step.END_SEARCH not in self._plan:
            self._counters["unasked"] += 1
            return
        self._upnp = parse_answer(data, self.network.gateway)
        self._end_search()

    def _end_search(self) -> None:
        self._plan.pop(_Step.SEARCH, None)
        self._plan.pop(_Step.END_SEARCH, None)
        if self._upnp and self.extent is Extent.EVERYTHING:
            order = Order(Deed.LOOK, self._upnp, self.network.gateway, self.network.own)
            self._ordered = order
            self._out.append(order)
