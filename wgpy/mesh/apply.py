"""From what a node knows of its network to what its tunnel's daemon is told. Pure.

Every other node is a peer that must show a certificate with its name, whose way is found through
NATs, and whose allowed IPs are its addresses. A coordinator is one with an endpoint; the one that
we are connected to is kept alive. What the daemon has already is not sent again.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from wgpy.config.model import Config, EndpointSpec, InterfaceConfig, PeerConfig
from wgpy.config.sync import Resolve, sync_change
from wgpy.device.paths import (
    MAX_TURN_SERVERS,
    MAX_TURN_URIS,
    NatSettings,
    TurnSettings,
    TurnUri,
)
from wgpy.device.servers import parse_stun_server, parse_turn_uri
from wgpy.device.uapi import DeviceChange, DeviceState, PeerChange
from wgpy.identity.derived import quarantine_range
from wgpy.identity.settings import (
    Anchor,
    AuthoritySettings,
    Expectation,
    IdentitySettings,
    Limits,
    TokenIssuer,
)
from wgpy.ip import Prefix
from wgpy.keys import PrivateKey, PublicKey
from wgpy.mesh.addresses import nodes_range6
from wgpy.mesh.line import Endpoint
from wgpy.mesh.place import Membership, Place
from wgpy.mesh.settings import NetworkSettings

# Until the daemon knows its NAT better: under the 30 s after which some forget (RFC 4787 has 120 s,
# and not all keep to it).
KEEPALIVE: Final = 25


@dataclass(frozen=True, slots=True)
class Turn:
    """What opens the network's relays: URIs, a user's name, and the file with the password."""

    uris: tuple[str, ...]
    username: str
    password_file: str


@dataclass(frozen=True, slots=True)
class Contact:
    """A coordinator as a peer. `name` is None while nobody has told it; `endpoint` None leaves
    where it is as the daemon has it; `keepalive` is in seconds, 0 for none."""

    key: PublicKey
    name: str | None
    addresses: tuple[Prefix, ...]
    endpoint: Endpoint | None = None
    keepalive: int = 0


@dataclass(frozen=True, slots=True)
class Other:
    """Another node as a peer. `routes` are what is routed through it by our own choice; `hint` is
    where it was found before."""

    key: PublicKey
    name: str
    addresses: tuple[Prefix, ...]
    routes: tuple[Prefix, ...] = ()
    hint: Endpoint | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """All that the daemon is to be told. `issuers` is a file with the keys of tokens' issuers: it
    is there where others enrol, on a coordinator."""

    key: PrivateKey = field(repr=False)
    membership: Membership
    settings: NetworkSettings | None
    contacts: tuple[Contact, ...]
    others: tuple[Other, ...] = ()
    anchors: tuple[str, ...] = ()
    intermediates: tuple[str, ...] = ()
    turn: Turn | None = None
    issuers: str | None = None
    rotations: tuple[tuple[str, str], ...] = ()


def config_of(wanted: Wanted, place: Place) -> Config:
    """The configuration that says so."""
    known = {contact.key for contact in wanted.contacts}
    peers = [_contact_peer(contact) for contact in wanted.contacts]
    peers += [_other_peer(other) for other in wanted.others if other.key not in known]
    if wanted.membership.name is None:
        identity = IdentitySettings(token=str(place.token))
    else:
        identity = IdentitySettings(certificate=str(place.certificate))
    return Config(
        interface=InterfaceConfig(
            private_key=wanted.key, listen_port=wanted.membership.port or None
        ),
        peers=tuple(peers),
        authority=_authority(wanted, place),
        identity=identity,
        nat=None if wanted.membership.name is None else _nat(wanted, place),
        says_all=True,
    )


def difference(config: Config, state: DeviceState, resolve: Resolve) -> DeviceChange | None:
    """What to send to a daemon that is in this state; None for nothing.

    Who came in by its certificate, or is enrolling, while it is no peer of ours yet, stays as it is
    until its session ends: to make it a peer would end that session, and whatever it is about to be
    told. Where a peer is that the daemon finds by itself, it is told once. A peer that is to prove
    something else is a new one: its session is over, and the next handshake need not wait for the
    5 s in which there is only one. Raises what `resolve` raises.
    """
    present = {peer.public_key: peer for peer in state.peers}
    peers, anew = [], set()
    for peer in config.peers:
        now = present.get(peer.public_key)
        if now is not None and now.admitted and not _asks_more(peer, now.allowed_ips):
            continue
        if now is not None and not now.admitted and now.expectation != peer.expectation:
            anew.add(peer.public_key)
        known = now is not None and now.nat and peer.public_key not in anew
        peers.append(replace(peer, endpoint=None) if known and peer.nat else peer)
    change = sync_change(
        replace(config, peers=tuple(peers)),
        replace(state, peers=[x for x in state.peers if x.public_key not in anew]),
        resolve,
        names=True,
        keep_fwmark=True,
    )
    change.peers = [PeerChange(key, remove=True) for key in sorted(anew, key=bytes)] + change.peers
    return None if change == DeviceChange() else change


def _asks_more(peer: PeerConfig, allowed: Iterable[Prefix]) -> bool:
    """Whether it is to have prefixes that nobody is let in with: routes that we chose. Somebody in
    quarantine has none of its addresses yet."""
    has = set(allowed)
    return bool(has & set(peer.allowed_ips)) and not set(peer.allowed_ips) <= has


def _contact_peer(contact: Contact) -> PeerConfig:
    return PeerConfig(
        public_key=contact.key,
        allowed_ips=contact.addresses,
        endpoint=None if contact.endpoint is None else EndpointSpec(*contact.endpoint),
        persistent_keepalive=contact.keepalive,
        # Whole, and from the line: it proves the key, and we trust nobody yet to vouch for a name.
        expectation=Expectation(contact.name, key_suffices=contact.name is None),
    )


def _other_peer(other: Other) -> PeerConfig:
    return PeerConfig(
        public_key=other.key,
        allowed_ips=(*other.addresses, *other.routes),
        endpoint=None if other.hint is None else EndpointSpec(*other.hint),
        persistent_keepalive=0,
        expectation=Expectation(other.name),
        nat=True,
    )


def _authority(wanted: Wanted, place: Place) -> AuthoritySettings | None:
    settings = wanted.settings
    if settings is None or wanted.membership.name is None:
        return None
    ranges = (settings.range4, nodes_range6(settings.range6))
    issuers: tuple[TokenIssuer, ...] = ()
    if wanted.issuers is not None:
        # What a token to enrol may say beyond this the coordinator decides, by its invitation.
        limits = Limits(names=(settings.domain,), networks=ranges)
        issuers = (TokenIssuer(wanted.issuers, limits),)
    return AuthoritySettings(
        network=settings.id,
        accept=ranges,
        anchors=tuple(map(Anchor, wanted.anchors)),
        intermediates=wanted.intermediates,
        revocations=(str(place.crl),),
        issuers=issuers,
        rotations=wanted.rotations,
        enrol=wanted.issuers is not None,
    )


def _nat(wanted: Wanted, place: Place) -> NatSettings:
    settings, turn = wanted.settings, wanted.turn
    servers: tuple[TurnSettings, ...] = ()
    if turn is not None and turn.uris:
        # Ways to one host are one server.
        hosts: dict[str, list[TurnUri]] = {}
        for uri in map(parse_turn_uri, turn.uris):
            hosts.setdefault(uri.host, []).append(uri)
        servers = tuple(
            TurnSettings(
                uris=tuple(uris[:MAX_TURN_URIS]),
                username=turn.username,
                password_file=turn.password_file,
            )
            for uris in list(hosts.values())[:MAX_TURN_SERVERS]
        )
    return NatSettings(
        stun=() if settings is None else tuple(map(parse_stun_server, settings.stun)),
        turn=servers,
        signal=str(place.signals),
    )


def routes_of(wanted: Wanted) -> tuple[Prefix, ...]:
    """The prefixes that go through the tunnel, but for those that are somebody's choice."""
    settings = wanted.settings
    if settings is None or wanted.membership.name is None:
        return tuple(x for contact in wanted.contacts for x in contact.addresses)
    enrolling = () if wanted.issuers is None else (quarantine_range(settings.id),)
    return (settings.range4, nodes_range6(settings.range6), *enrolling)
