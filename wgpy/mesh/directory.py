"""A node's view of its network: who else there is, as far as their certificates say so.

A coordinator tells it page by page (`messages.Directory`). It is believed nothing that no
certificate says: each is verified here, by this node's own anchors, for the key, the name and the
addresses that it is said to have. What fails is left out and counted.

The end of a certificate is not looked at. A node that was away for long, and everybody while no
coordinator answers, is known by its last one; whoever it is must show a certificate of now in its
handshake, which the tunnel's daemon demands.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from wgpy.identity.anchors import Anchors
from wgpy.identity.certificate import verify
from wgpy.identity.claims import Claims, CredentialError
from wgpy.identity.crl import RevocationList, read_crl
from wgpy.identity.leaf import read_leaf
from wgpy.identity.revocation import Revocations
from wgpy.ip import Prefix
from wgpy.keys import PublicKey
from wgpy.mesh import messages, wire
from wgpy.mesh.messages import NodeView
from wgpy.mesh.records import NodeState, Revocation, RevocationKind
from wgpy.mesh.settings import NetworkSettings
from wgpy.mesh.wire import WireError

# What an address plan has room for.
MAX_NODES: Final = 65_536
# As many as a CRL of ours holds (identity/denylist.py).
MAX_REVOCATIONS: Final = 10_000

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Node:
    """Another node; all but `coordinator` and `view` is what its certificate says. `routes` are
    those that are both approved and in the certificate."""

    name: str
    key: PublicKey
    addresses: tuple[Prefix, ...]
    groups: tuple[str, ...]
    routes: tuple[Prefix, ...]
    coordinator: bool
    claims: Claims = field(repr=False)
    view: NodeView = field(repr=False)


@dataclass(frozen=True, slots=True)
class News:
    """What a page changed. `lists` are the revocation lists that are new, by the hash of their
    issuer's key; `gone` the keys that are no peers any more."""

    nodes: bool = False
    settings: bool = False
    lists: dict[bytes, bytes] = field(default_factory=dict)
    gone: frozenset[PublicKey] = frozenset()


class Directory:
    """The nodes of one network but for the one whose key is `own`, by their keys.

    `lists` are the revocation lists that this node has on its disk already.
    """

    def __init__(self, own: PublicKey, anchors: Anchors, lists: Iterable[bytes] = ()) -> None:
        self.own = own
        self.revision = 0
        self.settings: NetworkSettings | None = None
        self.nodes: dict[PublicKey, Node] = {}
        # This node as the coordinators have it: rights that its certificate does not have yet.
        self.me: NodeView | None = None
        self.counters: Counter[str] = Counter()
        # Of a reset that comes in several pages, the nodes that no page has named so far.
        self._unseen: set[PublicKey] | None = None
        # Who has a name or an address, ourselves among them.
        self._holders: dict[str | Prefix, PublicKey] = {}
        self._anchors = anchors
        self._lists: dict[bytes, RevocationList] = {}
        self._revoked: dict[tuple[RevocationKind, str, bytes], Revocation] = {}
        for der in lists:
            self._take_list(der)

    @property
    def is_whole(self) -> bool:
        """Whether the last page that was applied said that there is no more."""
        return self._unseen is None

    def set_anchors(self, anchors: Anchors) -> None:
        """Trust others from now on; what they do not vouch for is left out at the next look."""
        self._anchors = anchors
        for node in list(self.nodes.values()):
            if self._verified(node.view) is None:
                self._remove(node.key)

    def apply(self, page: messages.Directory, wall: float) -> News | None:
        """Take in a page. None for one that does not follow on what is known: ask anew."""
        if not page.reset and not page.since <= self.revision <= page.revision:
            self.counters["directory_out_of_turn"] += 1
            return None
        before = set(self.nodes)
        if page.reset:
            self._unseen, self._revoked = before.copy(), {}
        lists = {}
        for der in page.crl:
            found = self._take_list(der)
            if found is not None:
                lists[found] = der
        for revocation in page.revocations:
            self._take_revocation(revocation, wall)
        changed = [self._take_node(view) for view in page.nodes]
        if self._unseen is not None and not page.more:
            for key in self._unseen:
                self._remove(key)
            self._unseen = None
        if lists or page.revocations:
            self._drop_revoked(wall)
        has_settings = page.settings is not None and page.settings != self.settings
        if page.settings is not None:
            self.settings = page.settings
        self.revision = page.revision
        gone = frozenset(before - set(self.nodes))
        return News(any(changed) or bool(gone), has_settings, lists, gone)

    # --- What a page has ---

    def _take_node(self, view: NodeView) -> bool:
        """Whether it changed anything. Who is not among the active ones is none of ours."""
        key = view.key
        if self._unseen is not None:
            self._unseen.discard(key)
        if key == self.own:
            self._take_me(view)
            return True
        former = self.nodes.get(key)
        if view.state is not NodeState.ACTIVE or view.certificate is None:
            return self._remove(key)
        if former is not None and replace(former.view, revision=view.revision) == view:
            return False
        node = self._verified(view)
        if node is None or not self._make_room(node):
            return self._remove(key)
        self._put(node)
        return True

    def _verified(self, view: NodeView) -> Node | None:
        """The node that a view tells of, if its certificate says the same; None and counted."""
        assert view.certificate is not None
        try:
            leaf = read_leaf(view.certificate)
            # As of a time within its life: see the head of this file.
            claims = verify(view.certificate, None, self._anchors, leaf.not_before, view.key)
            Revocations(self._lists).check(claims, leaf.not_before)
        except CredentialError as error:
            self.counters[f"directory_{error.reason}"] += 1
            return None
        if claims.name != view.name or set(claims.addresses) != set(view.addresses):
            self.counters["directory_says-otherwise"] += 1
            return None
        if self._is_revoked(claims):
            self.counters["directory_revoked"] += 1
            return None
        return Node(
            name=claims.name,
            key=view.key,
            addresses=claims.addresses,
            groups=tuple(sorted(claims.groups)),
            routes=tuple(x for x in view.routes if x in claims.prefixes),
            coordinator=view.coordinator,
            claims=claims,
            view=view,
        )

    def _make_room(self, node: Node) -> bool:
        """Whether it takes nobody's place. A name goes with its greatest generation."""
        others = {self._holders[x] for x in _held(node) if x in self._holders} - {node.key}
        for key in others:
            other = self.nodes.get(key)
            if (
                other is None  # that is ourselves
                or other.name != node.name
                or other.claims.generation >= node.claims.generation
            ):
                self.counters["directory_taken"] += 1
                return False
        if len(self.nodes) >= MAX_NODES and node.key not in self.nodes:
            self.counters["directory_full"] += 1
            return False
        for key in others:
            self._remove(key)
        return True

    def _put(self, node: Node) -> None:
        self._remove(node.key)
        self.nodes[node.key] = node
        self._holders.update(dict.fromkeys(_held(node), node.key))

    def _remove(self, key: PublicKey) -> bool:
        """Whether it was there."""
        node = self.nodes.pop(key, None)
        for held in () if node is None else _held(node):
            del self._holders[held]
        return node is not None

    def _take_me(self, view: NodeView) -> None:
        """Nobody else has our name or our addresses, whatever its certificate says."""
        for held in () if self.me is None else _held(self.me):
            self._holders.pop(held, None)
        for held in _held(view):
            key = self._holders.get(held)
            if key is not None and self._remove(key):
                self.counters["directory_taken"] += 1
        self._holders.update(dict.fromkeys(_held(view), self.own))
        self.me = view

    def _take_list(self, der: bytes) -> bytes | None:
        """Whose list it is, if it is newer than what is there."""
        try:
            found = list(read_crl(der, tuple(self._anchors.known())))
        except CredentialError as error:
            self.counters[f"directory_list_{error.reason}"] += 1
            return None
        if len(found) != 1 or found[0] is None:
            self.counters["directory_list_unknown-issuer"] += 1
            return None
        issuer, former = found[0].issuer, self._lists.get(found[0].issuer)
        if former is not None and found[0].number <= former.number:
            return None
        self._lists[issuer] = found[0]
        return issuer

    def _take_revocation(self, revocation: Revocation, wall: float) -> None:
        if revocation.until < wall:
            return
        if len(self._revoked) >= MAX_REVOCATIONS:
            self.counters["directory_revocations_full"] += 1
            return
        self._revoked[revocation.kind, revocation.value, revocation.issuer] = revocation

    def _is_revoked(self, claims: Claims) -> bool:
        named = self._revoked.get((RevocationKind.NAME, claims.name, b""))
        return (
            (RevocationKind.KEY, claims.key.base64(), b"") in self._revoked
            or (RevocationKind.SERIAL, claims.serial, claims.issuer) in self._revoked
            or (named is not None and claims.generation <= named.generation)
        )

    def _drop_revoked(self, wall: float) -> None:
        lists = Revocations(self._lists)
        for node in list(self.nodes.values()):
            try:
                lists.check(node.claims, wall)
            except CredentialError:
                self._remove(node.key)
                continue
            if self._is_revoked(node.claims):
                self._remove(node.key)

    # --- On the disk ---

    def text(self) -> bytes:
        """All of it, one page a line, as `load` reads it."""
        views = [node.view for node in self.nodes.values()]
        if self.me is not None:
            views.insert(0, self.me)
        revoked = list(self._revoked.values())
        count = max(1, _chunks(views), _chunks(revoked))
        return b"".join(
            wire.encode(
                messages.Directory(
                    since=0,
                    revision=self.revision if number == count - 1 else 0,
                    reset=number == 0,
                    more=number < count - 1,
                    nodes=_chunk(views, number),
                    revocations=_chunk(revoked, number),
                    crl=(),
                    settings=self.settings if number == 0 else None,
                )
            )
            + b"\n"
            for number in range(count)
        )

    def load(self, text: bytes, wall: float) -> bool:
        """Take in what `text` wrote; whether that was a directory, and a whole one.

        What of it cannot be verified is left out, as everywhere.
        """
        for line in text.splitlines():
            try:
                page = wire.decode(messages.Directory, line)
            except WireError:
                self.counters["directory_file_broken"] += 1
                return False
            if self.apply(page, wall) is None:
                return False
        return bool(text) and self.is_whole

    # --- Questions ---

    def coordinators(self) -> Iterator[Node]:
        """Those that coordinate, but for ourselves."""
        return (node for node in self.nodes.values() if node.coordinator)

    def named(self, name: str) -> Node | None:
        """The node of that whole name."""
        return next((node for node in self.nodes.values() if node.name == name), None)


def first_text(settings: NetworkSettings) -> bytes:
    """What a node has of a directory before anybody told it one: how a network is founded."""
    first = messages.Directory(0, 0, True, False, (), (), (), settings)
    return wire.encode(first) + b"\n"


def _held(node: Node | NodeView) -> tuple[str | Prefix, ...]:
    """What only one node has: its name, and its whole addresses."""
    return (node.name, *node.addresses)


def _chunks(values: Sequence[object]) -> int:
    return -(-len(values) // wire.MAX_PAGE)


def _chunk(values: Sequence[_T], number: int) -> tuple[_T, ...]:
    start = number * wire.MAX_PAGE
    return tuple(values[start : start + wire.MAX_PAGE])
