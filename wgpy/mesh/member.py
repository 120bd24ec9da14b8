"""A node as it knows itself: its files, its directory, its rights, and what follows for the tunnel.

It has no clock and no network: it is told what coordinators say, judges that, puts it down, and
tells what is to be. Whatever is acknowledged to a coordinator is on the disk before.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from wgpy.device.servers import parse_stun_server
from wgpy.identity import certificate
from wgpy.identity.anchors import Anchors, CertificateAuthority, check_signed_by, read_authority
from wgpy.identity.claims import Claims, CredentialError
from wgpy.identity.derived import quarantine_address
from wgpy.identity.leaf import read_leaf
from wgpy.ip import Prefix
from wgpy.keys import PublicKey
from wgpy.mesh import messages
from wgpy.mesh.apply import KEEPALIVE, Contact, Other, Turn, Wanted, routes_of
from wgpy.mesh.contacts import Attempt, Whom
from wgpy.mesh.directory import Directory, News, Node
from wgpy.mesh.line import Endpoint, JoinLine, LineError, parse_line
from wgpy.mesh.messages import Joined
from wgpy.mesh.place import Membership, Place, PlaceError
from wgpy.mesh.records import NodeState
from wgpy.mesh.settings import NetworkSettings, is_under
from wgpy.mesh.tunnel import Shape

# On a coordinator, in coordinator/: the keys of those whose tokens let others enrol.
ISSUERS: Final = "issuers.jwks"


class MemberError(Exception):
    """What a coordinator gave us is not to be believed: one line."""


@dataclass(frozen=True, slots=True)
class Papers:
    """What we were issued: the certificate (DER), what it says, and whom we trust."""

    der: bytes = field(repr=False)
    claims: Claims
    anchors: Anchors


class Member:
    """The node of one interface. Raises PlaceError where its files are none of a node's."""

    def __init__(self, place: Place, wall: float) -> None:
        self.place = place
        self.key = place.key()
        self.public = self.key.public()
        self.membership = place.membership()
        self.papers: Papers | None = None
        self.directory: Directory | None = None
        self.turn: Turn | None = None
        # Routes that were chosen here, by the name of the node that they go through.
        self.routed: dict[str, tuple[Prefix, ...]] = {}
        # What the disk has not taken yet.
        self._unsaved = False
        self._unsaved_lists: dict[bytes, bytes] = {}
        # The UDP port of the last time, where none is asked for: others remember it.
        self.port = place.port()
        # Where nodes were found before.
        self.places = place.places()
        # Seconds between keepalives to the coordinator that we turn to.
        self.keepalive = KEEPALIVE
        if self.membership.name is not None:
            self._load(wall)

    def _load(self, wall: float) -> None:
        own, between, cas = self.place.papers()
        try:
            anchors = _anchors(self.membership.network, cas, between)
            leaf = read_leaf(own)
            # One that has ended is still ours: it says who we are, and what to ask for.
            moment = min(max(wall, leaf.not_before), leaf.not_after)
            claims = certificate.verify(own, None, anchors, moment, self.public)
        except CredentialError as error:
            raise PlaceError(f"{self.place.certificate}: {error}") from None
        self.papers = Papers(own, claims, anchors)
        self.directory = Directory(self.public, anchors, self.place.lists().values())
        text = self.place.directory_text()
        if text is not None and not self.directory.load(text, wall):
            # It was cut off or is of another time: the next answer brings all of it.
            self.directory.revision = 0

    # --- Who we are ---

    @property
    def name(self) -> str:
        """Our whole name; before there is one, the one that we asked for."""
        return self.membership.name or self.membership.wanted or "this machine"

    @property
    def settings(self) -> NetworkSettings | None:
        """The network's, as far as they were told."""
        return None if self.directory is None else self.directory.settings

    @property
    def addresses(self) -> tuple[Prefix, ...]:
        """Our addresses in the tunnel: in quarantine the one that follows from our key."""
        if self.papers is None:
            return (quarantine_address(self.membership.network, self.public),)
        return self.papers.claims.addresses

    def line(self) -> JoinLine:
        """The line that we join by. Raises LineError."""
        if self.membership.line is None:
            raise LineError("there is no joining line here")
        return parse_line(self.membership.line)

    # --- What coordinators say ---

    def take_joined(self, joined: Joined, wall: float) -> None:
        """We are let in, or have the next certificate: judge it, and put it down.

        Raises MemberError and changes nothing, if it is not for us or by nobody that we trust. At
        first the coordinator's word counts for whom to trust, for its key was in the line. Later a
        new authority has to be vouched for by one of those that we know.
        """
        settings, network = joined.settings, self.membership.network
        if settings.id != network or settings.domain != self.membership.domain:
            raise MemberError("the coordinator speaks of another network")
        try:
            if self.papers is not None:
                _check_vouched(self.papers.anchors, joined.cas, joined.intermediates)
            anchors = _anchors(network, joined.cas, joined.intermediates)
            claims = certificate.verify(joined.certificate, None, anchors, wall, self.public)
        except CredentialError as error:
            raise MemberError(f"the certificate that came is not good: {error}") from None
        if not is_under(claims.name, settings.domain):
            raise MemberError(f"the certificate that came is for {claims.name}")
        if self.papers is not None and claims.name != self.papers.claims.name:
            raise MemberError(f"the certificate that came is for {claims.name}, another name")
        self.place.set_papers(joined.certificate, joined.intermediates, joined.cas)
        self.papers = Papers(joined.certificate, claims, anchors)
        self._take_anchors(anchors)
        assert self.directory is not None
        self.directory.settings = settings
        if self.directory.is_whole:
            # Without the settings a restart would know neither whom to ask nor whom to trust.
            self.place.set_directory(self.directory.text())
        if self.membership.name is None:
            # Who has a name needs the line no more; the daemon shows the token a moment longer.
            self.set_membership(replace(self.membership, name=claims.name, line=None, wanted=None))

    def _take_anchors(self, anchors: Anchors) -> None:
        if self.directory is None:
            self.directory = Directory(self.public, anchors, self.place.lists().values())
        else:
            self.directory.set_anchors(anchors)

    def take_page(self, page: messages.Directory, wall: float) -> News | None:
        """A page of the directory; None if it does not follow on what we have. `save` puts down
        what is new of it."""
        assert self.directory is not None, "nobody tells a directory to who has not joined"
        news = self.directory.apply(page, wall)
        if news is not None:
            self._unsaved_lists.update(news.lists)
            self._unsaved = True
        return news

    @property
    def is_saved(self) -> bool:
        """Whether all that we were told is on the disk."""
        return not self._unsaved

    def save(self) -> None:
        """Put down what we were told: revocation lists, which the daemon waits for, and then the
        directory, if it is whole. Raises OSError of a full disk; the next call tries again."""
        for issuer, der in list(self._unsaved_lists.items()):
            self.place.set_list(issuer.hex(), der)
            del self._unsaved_lists[issuer]
        if self._unsaved and self.directory is not None and self.directory.is_whole:
            self.place.set_directory(self.directory.text())
            self._unsaved = False

    def found(self, places: Mapping[PublicKey, Endpoint]) -> None:
        """Nodes were reached directly there: kept for when nobody tells where they are."""
        nodes = {} if self.directory is None else self.directory.nodes
        merged = {key: at for key, at in (self.places | dict(places)).items() if key in nodes}
        if merged != self.places:
            self.places = merged
            self.place.set_places(merged)

    def listens(self, port: int) -> None:
        """The tunnel listens there. Raises OSError."""
        if port and port != self.port:
            self.port = port
            self.place.set_port(port)

    def set_membership(self, membership: Membership) -> None:
        """Put down who we are."""
        self.place.set_membership(membership)
        self.membership = membership

    def end(self, reason: str) -> None:
        """We never come in again with this key; `reason` is a sentence."""
        self.set_membership(replace(self.membership, ended=reason, line=None))

    @property
    def is_removed(self) -> bool:
        """Whether the directory says that we are no node any more."""
        me = None if self.directory is None else self.directory.me
        return me is not None and me.state is NodeState.REMOVED

    def new_rights(self) -> tuple[frozenset[str], frozenset[Prefix]] | None:
        """What we may have now, groups and routes; None where our certificate says the same."""
        me = None if self.directory is None else self.directory.me
        if me is None or self.papers is None or me.state is not NodeState.ACTIVE:
            return None
        claims, found = self.papers.claims, (frozenset(me.groups), frozenset(me.routes))
        return None if found == (claims.groups, frozenset(claims.prefixes)) else found

    # --- What is to be ---

    def whom(self) -> tuple[Whom, ...]:
        """The coordinators that we can turn to: ours among them, if we are one."""
        settings = self.settings
        told = {x.key: x for x in self.membership.contacts}
        found = []
        for each in () if settings is None else settings.coordinators:
            addresses = self._addresses_of(each.key)
            if not addresses and each.key in told:
                addresses = told[each.key].addresses
            if addresses:
                places = tuple(Endpoint(*parse_stun_server(text)) for text in each.endpoints)
                found.append(Whom(each.key, each.name, places, tuple(addresses)))
        # Those of the line, while nothing else is known.
        return tuple(found) or tuple(
            Whom(x.key, None, x.endpoints, x.addresses) for x in told.values()
        )

    def _addresses_of(self, key: PublicKey) -> tuple[bytes, ...]:
        if key == self.public:
            return tuple(x.address for x in self.addresses)
        node = None if self.directory is None else self.directory.nodes.get(key)
        return () if node is None else tuple(x.address for x in node.addresses)

    def wanted(self, attempt: Attempt | None, *, is_connected: bool) -> tuple[Wanted, Shape]:
        """What the daemon and the link are to have, while we turn to a coordinator at a place."""
        contacts = [
            self._contact(whom, attempt, is_connected)
            for whom in self.whom()
            if whom.key != self.public
        ]
        others = [
            Other(x.key, x.name, x.addresses, self.routed.get(x.name, ()), self.places.get(x.key))
            for x in self._others()
        ]
        between = self.place.intermediates
        wanted = Wanted(
            key=self.key,
            membership=self.membership,
            settings=self.settings,
            contacts=tuple(contacts),
            others=tuple(others),
            anchors=tuple(str(path) for path in self.place.anchors()),
            intermediates=(str(between),) if between.exists() else (),
            turn=self.turn,
            issuers=self._issuers(),
            rotations=self._rotations(),
        )
        return wanted, Shape(self.addresses, routes_of(wanted))

    def _others(self) -> Iterable[Node]:
        return () if self.directory is None else self.directory.nodes.values()

    def _issuers(self) -> str | None:
        path = self.place.directory / "coordinator" / ISSUERS
        return str(path) if self.membership.coordinator and path.exists() else None

    def _rotations(self) -> tuple[tuple[str, str], ...]:
        """From each issuer to each later one: the roots that we trust signed them all, so whoever
        was named by one may be named by the next."""
        if self.papers is None:
            return ()
        issuers = sorted(self.papers.anchors.intermediates, key=lambda x: x.not_before)
        pairs = [(x.spki.hex(), y.spki.hex()) for x, y in itertools.combinations(issuers, 2)]
        return tuple(dict.fromkeys((x, y) for x, y in pairs if x != y))

    def _contact(self, whom: Whom, attempt: Attempt | None, is_connected: bool) -> Contact:
        is_current = attempt is not None and attempt.whom.key == whom.key
        endpoint = whom.endpoints[0] if whom.endpoints else None
        if is_current and attempt is not None:
            # Where it answers the daemon knows best.
            endpoint = None if is_connected else attempt.endpoint
        name = whom.name if self.membership.name is not None else None
        node = None if self.directory is None else self.directory.nodes.get(whom.key)
        routes = () if node is None else self.routed.get(node.name, ())
        return Contact(
            key=whom.key,
            name=name,
            addresses=(*(Prefix(x, 8 * len(x)) for x in whom.addresses), *routes),
            endpoint=endpoint,
            keepalive=self.keepalive if is_current else 0,
        )


def _anchors(network: bytes, cas: Iterable[bytes], between: Iterable[bytes]) -> Anchors:
    """Raises CredentialError for authorities that nobody may trust."""
    found = Anchors(network, map(read_authority, cas), map(read_authority, between))
    if not found.anchors:
        raise CredentialError("no-anchor", "there is no authority to trust")
    return found


def _check_vouched(known: Anchors, cas: Iterable[bytes], between: Iterable[bytes]) -> None:
    """Raise CredentialError for an authority that is new and that none of the known ones signed.

    RFC 4210 section 4.4: who replaces its root signs the new key with the old one, and that
    certificate comes among the intermediates. Without it a coordinator could name any root, and be
    the authority itself from then on.
    """
    held = {anchor.spki for anchor in known.anchors}
    links: list[CertificateAuthority] = list(map(read_authority, between))
    for anchor in map(read_authority, cas):
        if anchor.spki in held:
            continue
        for link in links:
            if link.spki == anchor.spki:
                for parent in known.parents(link):
                    check_signed_by(link.certificate, parent.certificate)
                    held.add(anchor.spki)
        if anchor.spki not in held:
            raise CredentialError(
                "unknown-issuer", "it names an authority that none of those that are known signed"
            )
