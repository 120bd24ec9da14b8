"""A router of a lab: a WAN side, a LAN with sockets for hosts, and rules between them."""

from ipaddress import IPv4Network, IPv6Network

from tests.support.natlab import addresses, conntrack
from tests.support.natlab.internet import Internet
from tests.support.natlab.link import End, Link
from tests.support.natlab.node import router_node
from tests.support.natlab.plan import V6, Block, Nat, PlanError, Router
from tests.support.natlab.rules import CONE_LIFE, Sides, block_rules, nat_rules, v6_rules
from tests.support.natlab.uplink import Grant, Uplink

WAN = "wan"
LAN = "lan"


class LabRouter:
    """A running router. `wan` and `lan` are its interfaces; the LAN is a bridge.

    `plan` says what it was made from; `nat` and `block` what it does now. Another program may have
    nftables of its own here (a table of any name but natlab...), and what it translates the lab's
    rules let in: `Miniupnpd(router.namespace, router.lan, router.wan)`. It has IPv6 ports to open
    only where V6.OPEN leaves the dropping to it.
    """

    wan = WAN
    lan = LAN

    def __init__(self, plan: Router, number: int, lan: IPv4Network) -> None:
        self.plan = plan
        self.name = plan.name
        self.node = router_node(plan.name)
        self.namespace = self.node.namespace
        self.nat = plan.nat
        self.block = plan.block
        self.network = lan
        self.network6: IPv6Network = addresses.lan6(number)
        self.wan_ip = ""
        self.wan_ip6 = ""
        self.lan_ip = "" if plan.nat is None else str(lan[1])
        self.lan_ip6 = "" if plan.v6 is V6.NONE else str(self.network6[1])
        self._number = number
        self._ways: tuple[Uplink, Link] | None = None
        self._ports = 0
        self._hosts = 0
        self._life = max(plan.udp_timeouts) if plan.udp_timeouts else CONE_LIFE

    # --- Building ---

    def build(self, uplink: Uplink, link: Link, grant: Grant) -> None:
        """Bring up both sides, and the rules; `link` lies on the WAN side."""
        self._ways = (uplink, link)
        self.wan_ip, self.wan_ip6 = grant.first(4), grant.first(6)
        commands = [f"link add {LAN} type bridge", f"link set {LAN} up"]
        if self.lan_ip:
            commands.append(f"address add {self.lan_ip}/{self.network.prefixlen} dev {LAN}")
        if self.lan_ip6:
            commands.append(f"address add {self.lan_ip6}/64 dev {LAN} nodad")
            commands.append(f"address add {addresses.GATEWAY6}/64 dev {LAN} nodad")
        self.node.ip([*grant.commands(WAN), *commands])
        uplink.plugged(link, grant)
        self.node.nft(self._nat_rules() + self._block_rules())
        if self.plan.udp_timeouts is not None:
            self._set_timeouts(*self.plan.udp_timeouts)
        if self.nat is Nat.OPEN:
            uplink.announce(str(self.network), self.wan_ip)
        if self.lan_ip6:
            uplink.announce(str(self.network6), self.wan_ip6)

    @property
    def uplink(self) -> Uplink:
        """What it hangs on."""
        assert self._ways is not None
        return self._ways[0]

    @property
    def link(self) -> Link:
        """The cable of the WAN side."""
        assert self._ways is not None
        return self._ways[1]

    def _sides(self) -> Sides:
        return Sides(WAN, LAN, self.wan_ip)

    def _nat_rules(self) -> str:
        sides = self._sides()
        return nat_rules(self.nat, sides, self._life) + v6_rules(self.plan.v6, sides)

    def _block_rules(self) -> str:
        block = self.block
        if self.nat is Nat.BLOCKED and block is Block.NOTHING:
            block = Block.UDP
        return block_rules(block, self._sides())

    # --- What hosts are plugged into ---

    def socket_for(self) -> End:
        self._ports += 1
        return End(self.node, f"{LAN}{self._ports}")

    def grant(self, count: int = 1) -> Grant:
        """The next addresses of the LAN. Raises PlanError if there are no more."""
        first = addresses.FIRST_HOST + self._hosts
        self._hosts += count
        if first + count >= self.network.num_addresses:
            raise PlanError(f"router {self.name!r}: no more addresses on its LAN")
        length = self.network.prefixlen
        numbers = range(first, first + count) if self.lan_ip else ()
        v4 = tuple(f"{self.network[number]}/{length}" for number in numbers)
        numbers = range(first, first + count) if self.lan_ip6 else ()
        v6 = tuple(f"{self.network6[number]}/64" for number in numbers)
        return Grant(v4, v6, self.lan_ip, addresses.GATEWAY6)

    def plugged(self, link: Link, grant: Grant) -> None:
        self.node.ip((f"link set {link.far.interface} master {LAN}",))

    def announce(self, network: str, via: str) -> None:
        """The network is behind `via`, a router on the LAN.

        The outside is told if it is one of IPv6, or nothing is translated here.
        """
        v6 = ":" in via
        self.node.ip((f"route replace {network} via {via} dev {LAN}",))
        if v6 or self.nat is Nat.OPEN:
            self.uplink.announce(network, self.wan_ip6 if v6 else self.wan_ip)

    # --- What befalls it ---

    def set_nat(self, nat: Nat) -> None:
        """Other rules. What is mapped already stays so; only a cone forgets whom it lets in."""
        if self.nat is None or (nat is Nat.OPEN) != (self.nat is Nat.OPEN):
            raise PlanError(f"router {self.name!r}: its LAN is not made for {nat.value}")
        self.nat = nat
        self.node.nft(self._nat_rules() + self._block_rules())

    def set_block(self, block: Block) -> None:
        """Block something, or nothing any more; the NAT goes on as before."""
        self.block = block
        self.node.nft(self._block_rules())

    def set_udp_timeouts(self, unreplied: int, replied: int) -> None:
        """Forget a mapping after so many seconds of silence: one without an answer, and others.

        One that is there gets its new time with its next packet. A cone forgets whom it lets in.
        """
        self._set_timeouts(unreplied, replied)
        self._life = max(unreplied, replied)
        self.node.nft(self._nat_rules())

    def _set_timeouts(self, unreplied: int, replied: int) -> None:
        names = ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream")
        values = zip(names, (unreplied, replied), strict=True)
        self.node.set({f"net/netfilter/{name}": value for name, value in values})

    def reboot(self) -> None:
        """Forget every mapping and every connection, all at once."""
        self.node.nft(self._nat_rules())
        self.namespace.inside(conntrack.flush)

    def renumber(self) -> None:
        """A reboot after which the provider gives another IPv4 address.

        Raises PlanError behind another router, or without IPv4.
        """
        internet = self.uplink
        if not isinstance(internet, Internet) or not self.wan_ip:
            raise PlanError(f"router {self.name!r}: it gets no other address")
        old, numbers = self.wan_ip, (self._number, self._number + addresses.STEP)
        new = next(x for x in map(addresses.wan, numbers) if x != old)
        self.node.ip((f"address add {new}/32 dev {WAN}", f"address delete {old}/32 dev {WAN}"))
        internet.renumber(old, new)
        self.wan_ip = new
        self.reboot()

    def cut(self) -> None:
        """Let nothing through on the WAN side; nobody is told."""
        self.link.cut()

    def heal(self) -> None:
        """Let everything through again."""
        self.link.heal()
