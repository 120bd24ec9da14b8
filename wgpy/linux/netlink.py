"""Links and addresses through netlink: a small, typed face on pyroute2.

pyroute2 takes 0.2 s to import, so it is imported when a `Netlink` is opened and not before.
Everything here works on the network namespace of the process. `routes.py` uses the same socket.
"""

import errno
import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from wgpy.ip import address_text, parse_address

# rtnetlink(7), linux/if.h: the link is administratively up.
_IFF_UP = 0x1


class NetlinkError(Exception):
    """The kernel refused: an errno, what was asked, and the kernel's reason, in one line."""

    def __init__(self, code: int, what: str) -> None:
        super().__init__(f"{what}: {os.strerror(code)}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface: its index, name, MTU in bytes, and whether it is up."""

    index: int
    name: str
    mtu: int
    up: bool


# An interface's address: 4 or 16 bytes with their host bits, and the prefix length in bits.
LinkAddress = tuple[bytes, int]


def family_of(version: int) -> int:
    """AF_INET or AF_INET6 for 4 or 6."""
    return int(socket.AF_INET if version == 4 else socket.AF_INET6)


class Netlink:
    """One netlink socket, open while the `with` block runs. Methods raise NetlinkError."""

    def __init__(self) -> None:
        from pyroute2 import IPRoute

        self._ipr: Any = IPRoute()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ipr.close()

    def ask(self, what: str, method: str, *arguments: Any, **options: Any) -> list[Any]:
        """Call a method of pyroute2's IPRoute; `what` begins the message of a failure."""
        from pyroute2.netlink.exceptions import NetlinkError as KernelError

        call: Callable[..., Iterable[Any] | None] = getattr(self._ipr, method)
        try:
            return list(call(*arguments, **options) or ())
        except KernelError as error:
            raise NetlinkError(error.code or errno.EIO, what) from None
        except OSError as error:
            raise NetlinkError(error.errno or errno.EIO, what) from None

    def link(self, name: str) -> Link | None:
        """The link of that name, or None."""
        try:
            found = self.ask(f"link {name}", "link", "get", ifname=name)
        except NetlinkError as error:
            if error.code == errno.ENODEV:
                return None
            raise
        return _link(found[0]) if found else None

    def link_by_index(self, index: int) -> Link | None:
        """The link of that index, or None."""
        try:
            found = self.ask(f"link {index}", "link", "get", index=index)
        except NetlinkError as error:
            if error.code == errno.ENODEV:
                return None
            raise
        return _link(found[0]) if found else None

    def set_link(self, link: Link, *, mtu: int, up: bool) -> None:
        """Set the MTU in bytes, and bring the link up or down."""
        state = "up" if up else "down"
        what = f"ip link set mtu {mtu} {state} dev {link.name}"
        self.ask(what, "link", "set", index=link.index, mtu=mtu, state=state)

    def delete_link(self, link: Link) -> None:
        """Delete the link; a daemon that serves it sees its TUN go, and ends."""
        self.ask(f"ip link delete dev {link.name}", "link", "del", index=link.index)

    def addresses(self, link: Link) -> list[LinkAddress]:
        """The IPv4 and IPv6 addresses of a link, sorted; link-local ones too."""
        found = []
        for message in self.ask(f"addresses of {link.name}", "get_addr", index=link.index):
            text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            found.append((parse_address(text), message["prefixlen"]))
        return sorted(found)

    def add_address(self, link: Link, address: LinkAddress) -> None:
        """Give the link an address."""
        self._address("add", link, address)

    def delete_address(self, link: Link, address: LinkAddress) -> None:
        """Take an address from the link."""
        self._address("del", link, address)

    def _address(self, verb: str, link: Link, address: LinkAddress) -> None:
        raw, length = address
        text = address_text(raw)
        self.ask(
            f"ip address {verb} {text}/{length} dev {link.name}",
            "addr",
            verb,
            index=link.index,
            family=family_of(4 if len(raw) == 4 else 6),
            address=text,
            prefixlen=length,
        )


def _link(message: Any) -> Link:
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        mtu=message.get_attr("IFLA_MTU"),
        up=bool(message["flags"] & _IFF_UP),
    )
