"""A namespace of a lab: what is done inside in few steps, for a lab has many."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.support.commands import RUN_TIMEOUT, run
from tests.support.natlab.rules import cut_rules
from tests.support.netns import Namespace
from tests.support.requirements import program

# Of a namespace without duplicate address detection, addresses can be used at once. Routers are
# told to hosts, not found; a host with two ways out may answer on either.
_HOST: Mapping[str, int] = {
    "net/ipv4/conf/all/rp_filter": 0,
    "net/ipv4/conf/default/rp_filter": 0,
    "net/ipv6/conf/default/accept_dad": 0,
    "net/ipv6/conf/default/accept_ra": 0,
}
_ROUTER: Mapping[str, int] = {
    **_HOST,
    "net/ipv4/ip_forward": 1,
    "net/ipv6/conf/all/forwarding": 1,
    "net/ipv6/conf/default/forwarding": 1,
}
# Of a namespace whose links only carry frames.
_CARRIER: Mapping[str, int] = {"net/ipv6/conf/default/disable_ipv6": 1}


class Node:
    """One namespace, with its loopback up; closed by `close`."""

    def __init__(self, name: str, settings: Mapping[str, int]) -> None:
        self.name = name
        # Part of a file's name, so only what such a name may have.
        self.namespace = Namespace(re.sub(r"[^\w]", "_", name))
        self._cut: set[str] = set()
        try:
            self.set(settings)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End what runs inside, and remove it with its links."""
        self.namespace.close()

    def ip(self, commands: Iterable[str]) -> None:
        """Commands of ip(8), one after the other; CommandError at the first that fails."""
        shown = ("ip", "-n", self.namespace.name, "-batch", "-")
        # What failed is on the first line, which `run` does not show.
        done = run(list(shown), shown, RUN_TIMEOUT, False, "\n".join(commands) + "\n", None)
        assert done.returncode == 0, f"{self.name}: ip -batch: {done.stderr.strip()}"

    def set(self, settings: Mapping[str, int]) -> None:
        """Write numbers into files of /proc/sys, which shows those of the namespace."""

        def write() -> None:
            for name, value in settings.items():
                Path("/proc/sys", name).write_text(f"{value}\n")

        self.namespace.inside(write)

    def nft(self, transaction: str) -> None:
        """Change the rules all at once, or not at all."""
        self.namespace.run(program("nft"), "-f", "-", stdin=transaction)

    def cut(self, interface: str, cut: bool) -> None:
        """Let nothing in by this interface any more, or again; the link stays up."""
        change = self._cut | {interface} if cut else self._cut - {interface}
        if change != self._cut:
            self.nft(cut_rules(sorted(change)))
            self._cut = change

    def forget(self, interface: str) -> None:
        """The interface is gone."""
        self._cut.discard(interface)


def host_node(name: str) -> Node:
    return Node(name, _HOST)


def router_node(name: str) -> Node:
    return Node(name, _ROUTER)


def wires_node() -> Node:
    return Node("wires", _CARRIER)
