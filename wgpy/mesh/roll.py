"""The roll: the directory as it is handed out, in memory, written once for everybody who asks.

It follows the store (`Store.changes`). Who is at a revision that it does not know yet, or that was
before a copy was put back, is answered from the store (`of_changes`).
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from wgpy.keys import PublicKey
from wgpy.mesh import wire
from wgpy.mesh.messages import Directory, NodeView
from wgpy.mesh.records import NodeRecord, NodeState, Revocation
from wgpy.mesh.settings import NetworkSettings
from wgpy.mesh.store_changes import Changes


@dataclass(slots=True)
class _Entry:
    """A node or a revocation in JSON. `until` is when it is history to who begins; 0 for one that
    is that already. One that was replaced by a later one has no text."""

    revision: int
    until: float
    is_node: bool
    text: bytes | None


def view(record: NodeRecord, settings: NetworkSettings) -> NodeView:
    """A node as others are told of it."""
    gone = record.state is NodeState.REMOVED
    return NodeView(
        name=record.name,
        key=record.key,
        addresses=record.addresses,
        groups=record.groups,
        routes=record.routes,
        certificate=None if gone else record.certificate,
        state=record.state,
        expires=None if gone else record.expires,
        coordinator=any(x.key == record.key for x in settings.coordinators),
        revision=record.revision,
    )


def of_changes(
    changes: Changes, since: int, settings: NetworkSettings, lists: Iterable[bytes]
) -> Directory:
    """One page of the store as a message; `lists` are those of `changes.crl`."""
    nodes = tuple(view(x, settings) for x in changes.nodes if x.state is not NodeState.PENDING)
    return Directory(
        since=0 if changes.reset else since,
        revision=changes.revision,
        reset=changes.reset or since == 0,
        more=changes.more,
        nodes=nodes,
        revocations=changes.revocations,
        crl=tuple(lists),
        settings=changes.settings,
    )


class Roll:
    """What the network is now, and what changed since this process began to follow it."""

    def __init__(self) -> None:
        self.revision = 0
        self.settings: NetworkSettings | None = None
        # Who knows an older revision begins from nothing: a copy was put back there.
        self._floor = 0
        self._settings_revision = 0
        self._lists: dict[bytes, tuple[int, bytes]] = {}
        self._nodes: dict[PublicKey, NodeRecord] = {}
        self._names: dict[str, PublicKey] = {}
        self._entries: list[_Entry] = []
        self._at: dict[object, _Entry] = {}
        self._stale = 0

    def __len__(self) -> int:
        return len(self._nodes)

    # --- Following ---

    def follow(self, changes: Changes, lists: Mapping[bytes, bytes]) -> None:
        """Take the page that comes after `revision`; `lists` by issuer, those of `changes.crl`."""
        if changes.reset:
            self._forget()
        self._floor = changes.floor
        if changes.settings is not None:
            self.settings = changes.settings
            self._settings_revision = changes.revision
            self._rewrite_coordinators()
        assert self.settings is not None, "the first page of a store has its settings"
        items: list[NodeRecord | Revocation] = [*changes.nodes, *changes.revocations]
        for item in sorted(items, key=lambda x: x.revision):
            if isinstance(item, NodeRecord):
                self._take_node(item, self.settings)
            else:
                self._take_revocation(item)
        for issuer, der in lists.items():
            self._lists[issuer] = (changes.revision, der)
        self.revision = changes.revision
        if self._stale > 64 and self._stale > len(self._entries) // 2:
            self._entries = [x for x in self._entries if x.text is not None]
            self._stale = 0

    def remember(self, removed: Iterable[NodeRecord]) -> None:
        """Take nodes that were removed before we began: who was away has yet to hear of them."""
        assert self.settings is not None, "there was a first page"
        for node in removed:
            if node.state is NodeState.REMOVED and node.key not in self._nodes:
                self._take_node(node, self.settings)
        self._entries.sort(key=lambda x: x.revision)

    def _forget(self) -> None:
        self._nodes.clear()
        self._names.clear()
        self._entries.clear()
        self._at.clear()
        self._lists.clear()
        self._stale = 0

    def _take_node(self, node: NodeRecord, settings: NetworkSettings) -> None:
        gone = node.state is NodeState.REMOVED
        self._nodes[node.key] = node
        if not gone:
            self._names[node.name] = node.key
        elif self._names.get(node.name) == node.key:
            del self._names[node.name]
        if node.state is not NodeState.PENDING:
            until = 0.0 if gone else float("inf")
            text = wire.encode(view(node, settings))
            self._add(node.key, _Entry(node.revision, until, True, text))

    def _take_revocation(self, found: Revocation) -> None:
        text = wire.encode_revocation(found)
        self._add(
            (found.kind, found.value, found.issuer),
            _Entry(found.revision, found.until, False, text),
        )

    def _add(self, key: object, entry: _Entry) -> None:
        old = self._at.get(key)
        if old is not None:
            old.text = None
            self._stale += 1
        self._at[key] = entry
        self._entries.append(entry)

    def _rewrite_coordinators(self) -> None:
        """Who coordinates is in the settings, and said of each node too."""
        assert self.settings is not None
        for key, node in self._nodes.items():
            entry = self._at.get(key)
            if entry is not None:
                entry.text = wire.encode(view(node, self.settings))

    # --- What is asked ---

    def node(self, key: PublicKey) -> NodeRecord | None:
        """The node of a key, also one that waits, or was removed since we began."""
        return self._nodes.get(key)

    def named(self, name: str) -> NodeRecord | None:
        """The node that has a name."""
        key = self._names.get(name)
        return None if key is None else self._nodes.get(key)

    def nodes(self) -> list[NodeRecord]:
        """Everybody who has been let in, by name."""
        found = (self._nodes[key] for _, key in sorted(self._names.items()))
        return [x for x in found if x.state is NodeState.ACTIVE]

    def list_of(self, issuer: bytes) -> bytes | None:
        """The last list (DER) of an issuer."""
        found = self._lists.get(issuer)
        return None if found is None else found[1]

    def knows(self, since: int) -> bool:
        """Whether `page` can answer; else the store has to."""
        return since == 0 or self._floor <= since <= self.revision

    def page(self, since: int, now: float, limit: int = wire.MAX_PAGE) -> bytes:
        """A page of the directory in JSON, as wire.py would write it."""
        begin = bisect_right(self._entries, since, key=lambda x: x.revision)
        found: list[_Entry] = []
        more = False
        for at in range(begin, len(self._entries)):
            entry = self._entries[at]
            if entry.text is None or (since == 0 and entry.until < now):
                continue
            if len(found) == limit:
                more = True
                break
            found.append(entry)
        upto = found[-1].revision if more else self.revision
        # What has changed since `since`, and will not come with a later page.
        lists = [der for at, der in self._lists.values() if since < at and (not more or at <= upto)]
        settings = None
        if since < self._settings_revision and (not more or self._settings_revision <= upto):
            settings = self.settings
        head = wire.encode(
            Directory(
                since, upto, since == 0, more, (), (), tuple(lists[: wire.MAX_LISTS]), settings
            )
        )
        nodes = b",".join(x.text for x in found if x.is_node and x.text is not None)
        revoked = b",".join(x.text for x in found if not x.is_node and x.text is not None)
        return head.replace(
            b'"nodes":[],"revocations":[]',
            b'"nodes":[%b],"revocations":[%b]' % (nodes, revoked),
            1,
        )
