"""The firewall of a device: rules as the userspace API gives them, and the configured peers that
they name.

Peers with a credential are not this module's: who admits one calls `firewall.add` before the peer
gets its addresses, and `firewall.remove` after they were taken from it.
"""

import errno
import logging
from collections.abc import Callable, Iterable

from wgpy.device.uapi import UapiError
from wgpy.firewall.compile import table_name
from wgpy.firewall.rules import RulesError, Settings
from wgpy.firewall.table import Firewall, clear
from wgpy.firewall.verdict import Member
from wgpy.firewall.wall import Wall
from wgpy.ip import Prefix
from wgpy.keys import PublicKey
from wgpy.linux.nft import FirewallError, have_nft
from wgpy.linux.nft_watch import TableWatch

_log = logging.getLogger(__name__)


class Guard:
    """The firewall of one interface. `link` gives the name of its link now."""

    def __init__(self, interface: str, link: Callable[[], str]) -> None:
        self._interface = interface
        self._link = link
        self._configured: frozenset[str] = frozenset()
        self.firewall = Firewall(interface)
        self.watch = TableWatch(table_name(interface))

    @property
    def settings(self) -> Settings:
        """The rules in force."""
        return self.firewall.settings

    @property
    def wall(self) -> Wall | None:
        """The wall around those who enrol."""
        return self.firewall.wall

    @property
    def active(self) -> bool:
        """Whether there are rules, or a wall."""
        return self.firewall.active

    def clean(self) -> None:
        """Remove the table that a daemon of this interface left behind when it was killed."""
        if have_nft():
            try:
                clear(self._interface)
            except FirewallError as error:
                _log.warning("%s: an old table may be left: %s", self._interface, error)

    def start(self, settings: Settings, wall: Wall | None = None) -> None:
        """Put rules and a wall in force. Raises UapiError; then those of before are."""
        if (settings, wall) == (self.settings, self.wall):
            return
        try:
            self.firewall.start(settings, self._link(), wall)
        except (FirewallError, RulesError) as error:
            _log.error("%s: the rules are not in force: %s", self._interface, error)
            raise UapiError(errno.EIO, f"the rules are not in force: {error}") from None

    def follow(self, peers: Iterable[tuple[PublicKey, list[Prefix]]]) -> None:
        """The configured peers, and their allowed IPs, are these now. Raises UapiError.

        Without rules nothing is kept of them.
        """
        members = {}
        if self.firewall.judges:
            names = {key: name for name, key in self.settings.peers.items()}
            for public, prefixes in peers:
                key = public.base64()
                name = names.get(key)
                members[key] = Member(
                    key, name or "", frozenset(), tuple(prefixes), judged=name is not None
                )
        gone = self._configured - members.keys()
        self._configured = frozenset(members)
        try:
            self.firewall.change(add=members.values(), remove=gone)
        except FirewallError as error:
            raise UapiError(errno.EIO, f"the firewall does not know its peers: {error}") from None

    def watch_ready(self) -> None:
        """The watch has something to read: a table that somebody deleted is made anew."""
        if self.watch.deleted() and self.active:
            _log.warning("%s: somebody deleted its table; it is made anew", self._interface)
            try:
                self.firewall.restore()
            except FirewallError as error:
                _log.error("%s: its rules are not in force: %s", self._interface, error)

    def stop(self) -> None:
        """Remove the table: the interface ends."""
        self.watch.close()
        try:
            self.firewall.stop()
        except FirewallError as error:
            _log.warning("%s: its table is left: %s", self._interface, error)
