"""Links and addresses of the demo, by netlink: the cable between the machines, and the tunnel."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wgpy.demo.machines import (
    ALICE,
    BOB,
    CABLE,
    CABLE_PREFIX,
    MACHINES,
    TUNNEL_MTU,
    TUNNEL_PREFIX_V4,
    TUNNEL_PREFIX_V6,
    DemoError,
    Machine,
)
from wgpy.demo.namespace import inside


def lay_cable() -> None:
    """Join the two namespaces by a veth with an address at each end. Raises DemoError, OSError."""
    with _netlink(ALICE) as netlink:
        far_end = {"ifname": CABLE, "net_ns_fd": BOB.namespace}
        netlink.link("add", ifname=CABLE, kind="veth", peer=far_end)
    for machine in MACHINES:
        with _netlink(machine) as netlink:
            netlink.link("set", index=_index(netlink, "lo"), state="up")
            index = _index(netlink, CABLE)
            netlink.addr("add", index=index, address=machine.outer, prefixlen=CABLE_PREFIX)
            netlink.link("set", index=index, state="up")


def dress_tunnel(machine: Machine) -> bool:
    """Bring a machine's interface up with its addresses; false if it can have no IPv6 one.

    Raises DemoError, OSError.
    """
    with _netlink(machine) as netlink:
        index = _index(netlink, machine.interface)
        netlink.addr("add", index=index, address=machine.inner_v4, prefixlen=TUNNEL_PREFIX_V4)
        has_v6 = _allow_v6(machine.interface)
        if has_v6:
            netlink.addr("add", index=index, address=machine.inner_v6, prefixlen=TUNNEL_PREFIX_V6)
        netlink.link("set", index=index, mtu=TUNNEL_MTU, state="up")
    return has_v6


@contextlib.contextmanager
def _netlink(machine: Machine) -> Iterator[Any]:
    """A netlink socket in a machine's namespace, the calling thread inside as well."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with inside(machine.namespace), IPRoute() as netlink:
            yield netlink
    except NetlinkError as error:
        raise DemoError(
            f"the kernel refused a link or an address of {machine.name}: {error.args[-1]}; does "
            "it have the veth driver (`modprobe veth`)?"
        ) from None


def _index(netlink: Any, name: str) -> int:
    found: list[int] = netlink.link_lookup(ifname=name)
    if not found:
        raise DemoError(f"the interface {name} is not there; `wgpy doctor` may say why")
    return found[0]


def _allow_v6(interface: str) -> bool:
    """Switch IPv6 on, which a machine may have switched off for every new interface."""
    switch = Path("/proc/sys/net/ipv6/conf", interface, "disable_ipv6")
    # A kernel without IPv6 has no such file, and a container may show it read-only.
    with contextlib.suppress(OSError):
        if switch.read_text().strip() != "0":
            switch.write_text("0")
    try:
        return switch.read_text().strip() == "0"
    except OSError:
        return False
