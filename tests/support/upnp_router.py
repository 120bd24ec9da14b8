"""A home's router with a real miniupnpd, which speaks PCP, NAT-PMP and UPnP, in namespaces.

    with Home() as home:
        home.daemon.start()
        ...
        assert home.daemon.forwards()[41_000] == ("192.168.77.2", 41_000)
        assert home.reaches(Place("11.77.0.1", 41_000), listening)

      namespace host                    namespace router                     namespace outside
    ┌───────────────────┐          ┌────────────────────────┐             ┌────────────────────┐
    │ eth0              ├── veth ──┤ lan0              wan0 ├──── veth ───┤ eth0               │
    │ 192.168.77.2, .3  │          │ 192.168.77.1           │             │ 11.77.0.2          │
    │ 2a00:77:0:1::2    │          │ 2a00:77:0:1::1  the v6 │             │ 2a00:77:0:2::2     │
    └───────────────────┘          │ router is its fe80::   │             └────────────────────┘
                                   │   11.77.0.1, 2a00:77:0:2::1          nothing leaves these
                                   └────────────────────────┘

miniupnpd forwards only from addresses of the Internet, not from private ones nor from those for
documentation; hence 11.77.0.1 and 2a00:77::, which lead nowhere from here.

`Miniupnpd` alone runs the daemon in a router that somebody else has made. Its rules stand in a
table of their own. With `drops_new` that table also drops whatever new comes from the WAN to be
forwarded and has no rule there; without it, it drops nothing, and the router's own chains must let
pass what was forwarded: `ct status dnat accept` (ports of IPv6 that are open cannot be told there).
"""

import re
import socket
import tempfile
from ipaddress import IPv6Address
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.commands import Process, wait_until
from tests.support.netns import Namespace
from tests.support.requirements import program
from wgpy.nat.place import Place

LAN, WAN = "lan0", "wan0"
HOST, SECOND_HOST, ROUTER = "192.168.77.2", "192.168.77.3", "192.168.77.1"
EXTERNAL, OUTSIDE = "11.77.0.1", "11.77.0.2"
HOST_V6, ROUTER_V6 = "2a00:77:0:1::2", "2a00:77:0:1::1"
EXTERNAL_V6, OUTSIDE_V6 = "2a00:77:0:2::1", "2a00:77:0:2::2"

# The chains that miniupnpd writes its rules into; it makes none itself.
_TABLE = """
table inet miniupnpd {
  chain c_pre { type nat hook prerouting priority dstnat; jump prerouting_miniupnpd; }
  chain c_post { type nat hook postrouting priority srcnat - 1; jump postrouting_miniupnpd; }
  chain c_fwd { type filter hook forward priority filter; jump miniupnpd; DROP }
  chain miniupnpd { }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
}
"""
# An ordinary home's router, but for what is forwarded.
_RULES = f"""
table inet home {{
  chain c_in {{ type filter hook input priority filter; iifname {WAN} ct state new drop; }}
  chain c_post {{ type nat hook postrouting priority srcnat
    oifname {WAN} meta nfproto ipv4 masquerade
  }}
}}
"""
_CHAINS = ("miniupnpd", "prerouting_miniupnpd", "postrouting_miniupnpd")
_FORWARD = re.compile(r"0x11 th dport (\d+) dnat ip to ([\d.]+):(\d+)")
_OPENED = re.compile(r"th dport (\d+) @nh,192,128 0x([0-9a-f]{1,32}) @nh,48,8 0x11 accept")


class Miniupnpd:
    """The daemon in a router's namespace; `start` gives it a configuration of its own each time."""

    def __init__(
        self, router: Namespace, lan: str = LAN, wan: str = WAN, *, drops_new: bool = False
    ) -> None:
        self._router = router
        self._lan, self._wan = lan, wan
        self._directory = tempfile.TemporaryDirectory(prefix="wgpy-upnp-")
        self._process: Process | None = None
        self._options: dict[str, str] = {}
        self._permissions: tuple[str, ...] = ()
        drop = f"iifname {wan} ct state new drop;" if drops_new else ""
        router.run("nft", "-f", "-", stdin=_TABLE.replace("DROP", drop))

    def start(
        self,
        *,
        udp: bool = True,
        upnp: bool = True,
        permissions: tuple[str, ...] = ("allow 1024-65535 0.0.0.0/0 1024-65535",),
        **options: str,
    ) -> None:
        """Start it with PCP and NAT-PMP (`udp`), with UPnP, and with other options of its file.

        What `permissions` do not allow is denied.
        """
        self._options = {
            "ext_ifname": self._wan,
            "listening_ip": self._lan,
            "enable_natpmp": "yes" if udp else "no",
            "enable_upnp": "yes" if upnp else "no",
            "secure_mode": "yes",
            # What the epoch counts from: the daemon's start, as a reboot would be.
            "system_uptime": "no",
            "upnp_table_name": "miniupnpd",
            "upnp_nat_table_name": "miniupnpd",
            "uuid": "5f1a9a4e-0f6e-4cf0-8b5e-0c3a2f6f7d01",
            **options,
        }
        self._permissions = permissions
        self._run()

    def stop(self) -> None:
        """End it; its rules stay, as they do where nobody cleans up."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def reboot(self, **options: str) -> None:
        """What a router's restart does: the rules are gone, and the epoch begins anew."""
        self.stop()
        for chain in _CHAINS:
            self._router.run("nft", "flush", "chain", "inet", "miniupnpd", chain)
        self._options.update(options)
        self._run()

    def close(self) -> None:
        """End it, and remove its files."""
        self.stop()
        self._directory.cleanup()

    def log(self) -> str:
        """What it has said since it was started."""
        return self._process.output() if self._process else ""

    def forwards(self) -> dict[int, tuple[str, int]]:
        """External UDP ports, and the addresses and ports that they lead to."""
        return {int(m[1]): (m[2], int(m[3])) for m in _FORWARD.finditer(self._rules())}

    def opened(self) -> set[tuple[str, int]]:
        """IPv6 addresses, and UDP ports at them, that may be reached from outside."""
        found = _OPENED.finditer(self._rules())
        return {(str(IPv6Address(int(m[2], 16))), int(m[1])) for m in found}

    def _rules(self) -> str:
        return self._router.run("nft", "list", "table", "inet", "miniupnpd").stdout

    def _run(self) -> None:
        directory = Path(self._directory.name)
        lines = [f"{key}={value}" for key, value in self._options.items()]
        lines += [*self._permissions, "deny 0-65535 0.0.0.0/0 0-65535", ""]
        (directory / "miniupnpd.conf").write_text("\n".join(lines))
        pid_file = directory / "miniupnpd.pid"
        pid_file.unlink(missing_ok=True)
        process = self._router.popen(
            # -d: in the foreground.
            *(program("miniupnpd"), "-d", "-f", str(directory / "miniupnpd.conf")),
            *("-P", str(pid_file)),
        )
        self._process = process

        def ready() -> bool:
            assert process.running(), process.output()
            return "HTTP listening" in process.output() or "on port 5351" in process.output()

        wait_until(ready, "miniupnpd to be ready")


class Home:
    """The three namespaces of the drawing, with a daemon that is not started yet."""

    def __init__(self) -> None:
        self.host = Namespace("host")
        self.router = Namespace("router")
        self.outside = Namespace("outside")
        self._spaces = (self.host, self.router, self.outside)
        try:
            self._build()
            self.daemon = Miniupnpd(self.router, drops_new=True)
        except BaseException:
            for space in self._spaces:
                space.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.daemon.close()
        for space in self._spaces:
            space.close()

    def _build(self) -> None:
        for space in self._spaces:
            # Nobody else has these addresses: they are of use at once.
            for links in ("all", "default"):
                space.run("sysctl", "-qw", f"net.ipv6.conf.{links}.accept_dad=0")
        for link, space in ((LAN, self.host), (WAN, self.outside)):
            peer = ("type", "veth", "peer", "name", "eth0", "netns", space.name)
            self.router.ip("link", "add", link, *peer)
            self.router.ip("link", "set", link, "up")
            space.ip("link", "set", "eth0", "up")
        self.router.add_address(LAN, f"{ROUTER}/24", f"{ROUTER_V6}/64")
        self.router.add_address(WAN, f"{EXTERNAL}/24", f"{EXTERNAL_V6}/64")
        self.host.add_address("eth0", f"{HOST}/24", f"{SECOND_HOST}/24", f"{HOST_V6}/64")
        self.outside.add_address("eth0", f"{OUTSIDE}/24", f"{OUTSIDE_V6}/64")
        for space, link in ((self.host, "eth0"), (self.router, LAN), (self.outside, "eth0")):
            wait_until(lambda s=space, n=link: self._settled(s, n), f"the addresses of {link}")
        local = self.router.ip("-6", "-o", "address", "show", "dev", LAN, "scope", "link")
        self.router_link_local = local.split("inet6 ")[1].split("/")[0]
        self.host.ip("route", "add", "default", "via", ROUTER)
        self.host.ip("-6", "route", "add", "default", "via", self.router_link_local, "dev", "eth0")
        self.outside.ip("-6", "route", "add", "default", "via", EXTERNAL_V6)
        self.router.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.router.run("nft", "-f", "-", stdin=_RULES)

    def _settled(self, space: Namespace, link: str) -> bool:
        shown = space.ip("-6", "-o", "address", "show", "dev", link)
        return "scope link" in shown and "tentative" not in shown

    def hide_pcp(self) -> None:
        """Let the router's server be silent to PCP, as one is that is older; it is told by the
        first byte of what is asked."""
        rule = f"iifname {LAN} udp dport 5351 @th,64,8 2 drop"
        self.router.run("nft", "add", "rule", "inet", "home", "c_in", *rule.split())

    def listen(self, address: str = HOST, port: int = 0) -> socket.socket:
        """A UDP socket of the host's."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        made = self.host.socket(family, socket.SOCK_DGRAM)
        made.bind((address, port))
        made.settimeout(5.0)
        return made

    def reaches(self, external: Place, listening: socket.socket, wait: float = 0.5) -> bool:
        """Whether a datagram from outside to an external address comes to this socket."""
        family = socket.AF_INET6 if external.is_v6 else socket.AF_INET
        listening.settimeout(wait)
        with self.outside.socket(family, socket.SOCK_DGRAM) as sending:
            sending.sendto(b"from outside", (external.host, external.port))
            try:
                return listening.recv(100) == b"from outside"
            except TimeoutError:
                return False
