"""What a node and a coordinator say to each other, as immutable messages; wire.py has their JSON.

Times are seconds of the coordinator's wall clock since 1970; certificates and lists are DER.
"""

from dataclasses import dataclass, field
from enum import Enum

from wgpy.ip import Prefix
from wgpy.keys import PublicKey
from wgpy.mesh.records import NodeState, Revocation
from wgpy.mesh.settings import NetworkSettings


class PathKind(Enum):
    """How a node reaches another."""

    DIRECT = "direct"
    RELAY = "relay"
    NONE = "none"


# --- Questions and answers ---


@dataclass(frozen=True, slots=True)
class Clock:
    """The coordinator's wall clock, in seconds since 1970: of GET /v1/time."""

    time: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request was refused: a word for programs, a sentence for a person, and with a 401 the
    coordinator's wall clock."""

    error: str
    message: str
    time: float | None = None


@dataclass(frozen=True, slots=True)
class EnrolRequest:
    """What a machine calls itself, and the name that its user wants for it, whole or one label.

    Without a name it gets one like its host name. Everything else is in the token that its session
    was opened with.
    """

    hostname: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class RenewRequest:
    """`force` asks for a new certificate though the last is fresh."""

    force: bool = False


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node as others are told of it. They believe none of it that `certificate` (DER) does not
    say; a removed node has none."""

    name: str
    key: PublicKey
    addresses: tuple[Prefix, ...]
    groups: tuple[str, ...]
    routes: tuple[Prefix, ...]
    certificate: bytes | None = field(repr=False)
    state: NodeState
    expires: float | None
    coordinator: bool
    revision: int


@dataclass(frozen=True, slots=True)
class Joined:
    """What a node is given when it is let in, and each time it renews: certificates in DER."""

    certificate: bytes = field(repr=False)
    intermediates: tuple[bytes, ...] = field(repr=False)
    cas: tuple[bytes, ...] = field(repr=False)
    settings: NetworkSettings
    node: NodeView


@dataclass(frozen=True, slots=True)
class Waiting:
    """An operator has yet to let the node in: `state` is pending. It asks again every 5 s."""

    state: NodeState = NodeState.PENDING


@dataclass(frozen=True, slots=True)
class Directory:
    """One page of what changed after the revision `since`.

    With `reset` it begins from nothing: whatever was known is forgotten. With `more` the next page
    is asked for at once, since `revision`. `settings` are there if they changed; `crl` has whole
    lists, in DER, of issuers whose list changed.
    """

    since: int
    revision: int
    reset: bool
    more: bool
    nodes: tuple[NodeView, ...]
    revocations: tuple[Revocation, ...]
    crl: tuple[bytes, ...] = field(repr=False)
    settings: NetworkSettings | None


@dataclass(frozen=True, slots=True)
class SignalRequest:
    """A sealed signal of 353 bytes, which only `to` can open."""

    to: PublicKey
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignalAnswer:
    """Whether the other was connected, to the best that this coordinator knows."""

    delivered: bool


@dataclass(frozen=True, slots=True)
class OfferRequest:
    """The prefixes that a node would route, all of them; an operator approves."""

    offers: tuple[Prefix, ...]


@dataclass(frozen=True, slots=True)
class Path:
    """How the sender reaches a node: through which address or relay, in how many milliseconds, and
    what part of probes is lost (0 to 1)."""

    key: PublicKey
    kind: PathKind
    via: str | None = None
    rtt_ms: float | None = None
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Paths, those of 250 nodes at most; they take the place of what was said of the same nodes."""

    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class MapNode:
    """A node in the map: whether it is connected to the coordinator that answers."""

    name: str
    key: PublicKey
    connected: bool


@dataclass(frozen=True, slots=True)
class MapPath:
    """What one node said of its path to another, at a time of the coordinator's clock."""

    of: PublicKey
    path: Path
    at: float


@dataclass(frozen=True, slots=True)
class Map:
    """Who reaches whom, and how."""

    nodes: tuple[MapNode, ...]
    paths: tuple[MapPath, ...]


@dataclass(frozen=True, slots=True)
class TurnCredentials:
    """What opens a relay until `expires`."""

    username: str
    password: str = field(repr=False)
    expires: float
    uris: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """It was done, and there is nothing to say of it."""


# --- Between two coordinators, by their database ---


@dataclass(frozen=True, slots=True)
class Passed:
    """A signal for a node that is not connected to the coordinator `origin`, a random text."""

    origin: str
    to: PublicKey
    sender: PublicKey
    data: bytes = field(repr=False)


# --- Events on a WebSocket ---


@dataclass(frozen=True, slots=True)
class Changed:
    """The directory has a new revision. `page` is what changed, where that is short: who is at
    `page.since` or later uses it, and everybody else asks."""

    revision: int
    page: Directory | None = None


@dataclass(frozen=True, slots=True)
class Signalled:
    """A sealed signal from a node."""

    sender: PublicKey
    data: bytes = field(repr=False)
