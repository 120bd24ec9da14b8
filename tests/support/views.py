"""Nodes as a coordinator tells of them, with real certificates, for tests of a node's side."""

from dataclasses import dataclass, field

from tests.support.certificates import NETWORK, NOW, ROOT, Authority, Peer, names
from tests.support.stores import SETTINGS, key
from wgpy.identity.profile import Rights
from wgpy.ip import Prefix, address_text, parse_prefix
from wgpy.keys import PublicKey
from wgpy.mesh.messages import Directory, NodeView
from wgpy.mesh.records import NodeState, Revocation
from wgpy.mesh.settings import NetworkSettings


@dataclass(frozen=True)
class Someone:
    """Node number `number`, n<NUMBER>.mesh at 10.7.0.<NUMBER>, unless a test says otherwise."""

    number: int
    name: str = ""
    generation: int = 1
    groups: tuple[str, ...] = ("laptops",)
    routes: tuple[Prefix, ...] = ()
    authority: Authority = field(default=ROOT)
    not_after: float = NOW + 7 * 86_400

    @property
    def key(self) -> PublicKey:
        return key(self.number)

    @property
    def addresses(self) -> tuple[Prefix, ...]:
        return (
            parse_prefix(f"10.7.{self.number // 250}.{self.number % 250 + 1}"),
            parse_prefix(f"fd07::{self.number + 1:x}"),
        )

    @property
    def whole_name(self) -> str:
        return self.name or f"n{self.number}.mesh"

    def peer(self) -> Peer:
        """What goes into its certificate."""
        return Peer(
            parent=self.authority,
            key=self.key,
            names=names(self.whole_name, *(address_text(x.address) for x in self.addresses)),
            rights=Rights(NETWORK, self.generation, self.groups, self.routes),
            not_after=self.not_after,
            serial=0x1000 + 100 * self.number + self.generation,
        )

    def view(self, revision: int = 1, *, coordinator: bool = False) -> NodeView:
        """As it is told."""
        return NodeView(
            name=self.whole_name,
            key=self.key,
            addresses=self.addresses,
            groups=self.groups,
            routes=self.routes,
            certificate=self.peer().der(),
            state=NodeState.ACTIVE,
            expires=self.not_after,
            coordinator=coordinator,
            revision=revision,
        )


def page(
    *nodes: NodeView,
    since: int = 0,
    revision: int = 1,
    reset: bool = False,
    more: bool = False,
    revocations: tuple[Revocation, ...] = (),
    crl: tuple[bytes, ...] = (),
    settings: NetworkSettings | None = SETTINGS,
) -> Directory:
    """A page of a directory."""
    return Directory(since, revision, reset, more, nodes, revocations, crl, settings)
