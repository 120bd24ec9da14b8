"""The firewall of one interface, in force: its table in the kernel follows rules and members.

Every change is one transaction of nft, so no packet meets half a change. The order is the
caller's: `add` before the peer's addresses are given to it, `remove` after they were taken away.
"""

from collections.abc import Iterable

from wgpy.firewall.compile import build, changes, table_name
from wgpy.firewall.rules import Settings, named
from wgpy.firewall.sets import Contents, Names, contents, is_wide, overlap
from wgpy.firewall.verdict import Member
from wgpy.firewall.wall import Wall
from wgpy.ip import Prefix
from wgpy.linux import nft
from wgpy.linux.conntrack import ConntrackError, forget
from wgpy.linux.nft import FirewallError

# A daemon waits for nft: some milliseconds for a peer, two seconds for 10,000 on a busy machine.
# The watchdog of its systemd unit waits for 30.
TIMEOUT = 10.0


def clear(interface: str) -> None:
    """Delete the table of an interface if there is one, as after a crash. Raises FirewallError."""
    nft.delete_table("inet", table_name(interface), TIMEOUT)


class Firewall:
    """Rules and members of one interface, and the wall around those who enrol. Without rules and
    wall there is no table, and no nft is run."""

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._link = interface
        self._members: dict[str, Member] = {}
        self._wide: dict[Prefix, str] = {}
        self._settings = Settings()
        self._wall: Wall | None = None
        self._names = Names(())
        # What stands in the sets, as far as we know; None if a failure leaves that open.
        self._present: Contents | None = {}

    @property
    def settings(self) -> Settings:
        """The rules in force."""
        return self._settings

    @property
    def members(self) -> list[Member]:
        """Everybody who was added."""
        return list(self._members.values())

    @property
    def active(self) -> bool:
        """Whether there is a table."""
        return bool(self._settings.rules) or self._wall is not None

    @property
    def judges(self) -> bool:
        """Whether there are rules, so that members stand in sets."""
        return bool(self._settings.rules)

    @property
    def wall(self) -> Wall | None:
        """The wall that stands."""
        return self._wall

    def start(self, settings: Settings, link: str | None = None, wall: Wall | None = None) -> None:
        """Put rules and a wall in force in the place of those that were; with none, remove the
        table.

        `link` is the link's name now, if it is another than the interface's. From here on, what a
        member begins is denied unless a rule allows it. Members that there are stay, and
        connections that they have are looked at again. Raises FirewallError, and RulesError for
        rules that become too many; then the rules are those of before.
        """
        self._link = link or self._link
        if not settings.rules and wall is None:
            self.stop()
            self._settings = settings
            return
        names = Names(settings.rules)
        present = contents(names, self._members.values())
        commands = build(self._interface, self._link, settings.rules, names, present, wall)
        try:
            nft.apply(commands, TIMEOUT)
        except FirewallError:
            # It may have been too slow to answer and not to act: the next change makes it anew.
            self._present = None
            raise
        self._settings, self._names, self._present = settings, names, present
        self._wall = wall
        self._forget(self._members.values())

    def stop(self) -> None:
        """Remove the table. Raises FirewallError; the rules are then as they were."""
        if self.active:
            clear(self._interface)
        self._settings, self._names, self._present = Settings(), Names(()), {}
        self._wall = None

    def restore(self) -> None:
        """Make the table anew, for somebody removed it. Raises FirewallError."""
        if self.active:
            self._present = None
            self._rebuild()

    def speaks_of(self, name: str) -> bool:
        """Whether a rule names this peer: then a configured peer is a member."""
        return name in named(self._settings.rules)

    def add(self, member: Member) -> None:
        """Let the rules know a peer, before it may send. Raises FirewallError: admit nobody."""
        self.change(add=(member,))

    def remove(self, key: str) -> None:
        """Forget a peer, once it cannot send any more. Raises FirewallError; it is forgotten all
        the same, and the sets are made anew at the next change."""
        self.change(remove=(key,))

    def change(self, add: Iterable[Member] = (), remove: Iterable[str] = ()) -> None:
        """Add and remove many in one transaction. A member that is there is replaced.

        Raises FirewallError; then everybody of `remove` is out, and nobody of `add` is in, but that
        a member which was to be replaced stays what it was.
        """
        remove = tuple(remove)
        added = {member.key: member for member in add if self._members.get(member.key) != member}
        gone = [
            self._members[key] for key in dict.fromkeys((*remove, *added)) if key in self._members
        ]
        if not added and not gone:
            return
        near = self._near_wide((*added.values(), *gone))
        for member in gone:
            self._drop(member)
        for member in added.values():
            self._keep(member)
        try:
            if self.judges:
                self._update(gone, list(added.values()), whole=near)
            self._forget(gone)
        except FirewallError:
            for member in added.values():
                self._drop(member)
            # Who is still here must not be out of the sets: the rules would not speak of it.
            for member in gone:
                if member.key not in remove:
                    self._keep(member)
            self._present = None
            raise

    def _keep(self, member: Member) -> None:
        self._members[member.key] = member
        self._wide.update({p: member.key for p in member.addresses if is_wide(p)})

    def _drop(self, member: Member) -> None:
        del self._members[member.key]
        for prefix in member.addresses:
            self._wide.pop(prefix, None)

    def _near_wide(self, members: Iterable[Member]) -> bool:
        """Whether a change of these changes what wide prefixes own."""
        return any(
            is_wide(prefix) or any(overlap(wide, prefix) for wide in self._wide)
            for member in members
            for prefix in member.addresses
        )

    def _update(self, gone: list[Member], added: list[Member], *, whole: bool) -> None:
        """Bring the sets to what they are to be; a table that somebody removed is made anew."""
        present = self._present
        if present is None:
            self._rebuild()
            return
        if whole:
            before, after = present, contents(self._names, self._members.values())
        else:
            before, after = contents(self._names, gone), contents(self._names, added)
        commands = changes(self._interface, before, after)
        if not commands:
            return
        try:
            nft.apply(commands, TIMEOUT)
        except FirewallError:
            self._rebuild()
            return
        if whole:
            self._present = after
            return
        for name, parts in before.items():
            present.get(name, set()).difference_update(parts)
        for name, parts in after.items():
            present.setdefault(name, set()).update(parts)

    def _rebuild(self) -> None:
        present = contents(self._names, self._members.values())
        rules = self._settings.rules
        commands = build(self._interface, self._link, rules, self._names, present, self._wall)
        nft.apply(commands, TIMEOUT)
        self._present = present

    def _forget(self, members: Iterable[Member]) -> None:
        """Delete the tracked connections of members."""
        prefixes = [prefix for member in members for prefix in member.addresses]
        if not prefixes:
            return
        try:
            forget(prefixes)
        except ConntrackError as error:
            raise FirewallError(f"{self._interface}: {error}") from None
