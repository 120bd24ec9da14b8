"""The types of the cross-platform userspace API (https://www.wireguard.com/xplatform/).

`uapi_codec.py` turns them into the protocol's text and back, `server.py` serves it, `client.py`
asks.
"""

import errno
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from wgpy.device.paths import NatSettings, NatState, PathState
from wgpy.firewall.rules import Settings as FirewallSettings
from wgpy.identity.claims import Claims, Kind
from wgpy.identity.settings import AuthoritySettings, Expectation, IdentitySettings
from wgpy.ip import Prefix
from wgpy.keys import PresharedKey, PrivateKey, PublicKey

# Where every implementation has its sockets, as IF.sock, and every client looks for them.
SOCKET_DIRECTORY: Final = "/var/run/wireguard"

if TYPE_CHECKING:
    from wgpy.identity.token import Enrolment


class UapiError(Exception):
    """A request that is refused, or an answer that reports a failure: an errno and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} ({errno.errorcode.get(code, code)})")
        self.code = code
        self.reason = reason


class Address(NamedTuple):
    """Where a peer is: a numeric IPv4 or IPv6 address (with %scope if link-local) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class AllowedIpChange(NamedTuple):
    """One prefix to give to a peer or, with `remove`, to take from it."""

    prefix: Prefix
    remove: bool = False


class Cleared(Enum):
    """What a change says of something that is to be no more, where None leaves it as it is."""

    CLEARED = "off"


@dataclass(frozen=True, slots=True)
class ClaimsSummary:
    """What is shown of a verified credential. `expiry` is in seconds since the epoch.

    Of a token to enrol, that of a peer in quarantine, `name` is the one that it asks for, "" where
    the coordinator chooses, and `groups` are those that it permits.
    """

    kind: Kind
    name: str
    groups: tuple[str, ...]
    # A certificate's serial number in hexadecimal, or a token's jti, which may be empty.
    serial: str
    # SHA-256 of the issuer's SubjectPublicKeyInfo, 32 bytes; None of our own, which others verify.
    issuer: bytes | None
    expiry: int

    @classmethod
    def of(cls, claims: Claims) -> Self:
        """The summary of verified claims, the groups in order."""
        return cls(
            claims.kind,
            claims.name,
            tuple(sorted(claims.groups)),
            claims.serial,
            claims.issuer,
            int(claims.not_after),
        )

    @classmethod
    def of_enrolment(cls, enrolment: "Enrolment") -> Self:
        """The summary of a verified token to enrol."""
        return cls(
            Kind.ENROLMENT,
            enrolment.name or "",
            tuple(sorted(enrolment.groups)),
            enrolment.jti,
            enrolment.issuer,
            int(enrolment.not_after),
        )


@dataclass(slots=True)
class PeerChange:
    """What a `set=1` request says of one peer; None leaves a value as it is."""

    public_key: PublicKey
    remove: bool = False
    update_only: bool = False
    preshared_key: PresharedKey | None = None
    endpoint: Address | None = None
    # wgpy's own key: the host name and port that the endpoint came from, to resolve again later.
    endpoint_name: tuple[str, int] | None = None
    persistent_keepalive: int | None = None
    # wgpy's own key, `wgpy_credential`: it shakes hands with credentials, and must prove this.
    expectation: Expectation | Cleared | None = None
    # wgpy's own keys: `wgpy_nat_peer`: the way to it is to be found; `wgpy_offer`: a fresh offer is
    # wanted, for a person to carry; `wgpy_answer`: the other side's offer.
    nat: bool | None = None
    offer: bool = False
    answer: str | None = None
    replace_allowed_ips: bool = False
    allowed_ips: list[AllowedIpChange] = field(default_factory=list)


@dataclass(slots=True)
class DeviceChange:
    """What a `set=1` request says. A key of zeros clears the key, a fwmark of 0 the mark.

    `replace_peers` removes the peers that were configured. Those that came in by a credential
    stay, unless the same request configures their key.
    """

    private_key: PrivateKey | None = None
    listen_port: int | None = None
    fwmark: int | None = None
    # wgpy's own keys, `wgpy_authority` and `wgpy_identity`: who may come in by credential, and
    # which one is presented. They hold names of files, and no secret.
    authority: AuthoritySettings | Cleared | None = None
    identity: IdentitySettings | Cleared | None = None
    # wgpy's own key, `wgpy_nat`: how ways through NATs are found.
    nat: NatSettings | Cleared | None = None
    replace_peers: bool = False
    peers: list[PeerChange] = field(default_factory=list)
    # wgpy's own key: the rules of the firewall, in the place of those that were.
    firewall: FirewallSettings | None = None


@dataclass(slots=True)
class PeerState:
    """What a `get=1` answer says of one peer."""

    public_key: PublicKey
    preshared_key: PresharedKey | None = None
    endpoint: Address | None = None
    endpoint_name: tuple[str, int] | None = None
    # Seconds since the epoch, and nanoseconds; 0, 0 means never.
    last_handshake: tuple[int, int] = (0, 0)
    tx_bytes: int = 0
    rx_bytes: int = 0
    persistent_keepalive: int = 0
    allowed_ips: list[Prefix] = field(default_factory=list)
    # wgpy's own keys: it came in by its credential and is in no configuration; what a configured
    # peer must prove; and what the credential says that the live session rests on.
    admitted: bool = False
    expectation: Expectation | None = None
    claims: ClaimsSummary | None = None
    # And of ways through NATs: whether its way is to be found, what that is now, and our offer for
    # a person to carry to it, while there is a fresh one.
    nat: bool = False
    path: PathState | None = None
    offer: str | None = None


@dataclass(slots=True)
class DeviceState:
    """What a `get=1` answer says."""

    private_key: PrivateKey | None = None
    # wgpy's own key: what follows from the private key, so that a client need not compute it.
    own_public_key: PublicKey | None = None
    listen_port: int = 0
    fwmark: int = 0
    peers: list[PeerState] = field(default_factory=list)
    # wgpy's own keys: the version of the daemon, and which data path serves the interface.
    wgpy_version: str | None = None
    datapath: str | None = None
    # wgpy's own counters, `wgpy_counter=NAME N`: what was dropped, and why.
    counters: dict[str, int] = field(default_factory=dict)
    # And its offloads, `wgpy_offload=NAME on|off`: what moves many packets in one system call.
    offloads: dict[str, bool] = field(default_factory=dict)
    # Who may come in by credential, which credential is presented, and what that one says.
    authority: AuthoritySettings | None = None
    identity: IdentitySettings | None = None
    claims: ClaimsSummary | None = None
    # How ways through NATs are found, and what is known of the way out.
    nat: NatSettings | None = None
    nat_state: NatState | None = None
    # The rules of the firewall.
    firewall: FirewallSettings = field(default_factory=FirewallSettings)
