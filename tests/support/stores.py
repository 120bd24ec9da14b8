"""Stores of a mesh for tests, on SQLite and PostgreSQL, and an issuer of real certificates."""

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.certificates import MINUTE, NETWORK, NOW, Authority, Peer, names
from tests.support.postgres import Postgres
from wgpy.identity.leaf import Leaf, read_leaf
from wgpy.identity.profile import Rights
from wgpy.ip import Prefix, address_text, parse_prefix
from wgpy.keys import PrivateKey, PublicKey
from wgpy.mesh.addresses import ula
from wgpy.mesh.records import InviteRecord, NodeRecord
from wgpy.mesh.settings import NetworkSettings
from wgpy.mesh.store import Enrolment, Store

DAY = 86_400.0
SETTINGS = NetworkSettings(
    id=NETWORK, domain="mesh", range4=parse_prefix("10.7.0.0/24"), range6=ula(NETWORK)
)

# A test that asks for one of these runs on both.
BOTH = ("sqlite", pytest.param("postgresql", marks=pytest.mark.tool("pg_ctl")))


def key(number: int) -> PublicKey:
    """A static key: the same for the same number."""
    return PrivateKey(hashlib.sha256(b"%d" % number).digest()).public()


@dataclass
class Clerk:
    """Issues what it is asked for, and counts; `now` is when."""

    now: float = NOW
    asked: list[NodeRecord] = field(default_factory=list)
    authority: Authority = field(default_factory=Authority)
    _serials: Iterator[int] = field(default_factory=lambda: itertools.count(0x1000))

    def __call__(self, record: NodeRecord) -> bytes:
        self.asked.append(record)
        return self.peer(record).der()

    def peer(self, record: NodeRecord) -> Peer:
        """What goes into the certificate."""
        assert record.expires is not None
        return Peer(
            parent=self.authority,
            key=record.key,
            names=names(record.name, *(address_text(x.address) for x in record.addresses)),
            not_before=self.now - 5 * MINUTE,
            not_after=record.expires,
            rights=Rights(NETWORK, record.generation, record.groups, record.routes),
            serial=next(self._serials),
        )


def refuse_to_issue(record: NodeRecord) -> bytes:
    """An issuer that is not to be asked."""
    raise AssertionError(f"asked for a certificate of {record.name}")


def leaf(record: NodeRecord) -> Leaf:
    """What the certificate of a record says."""
    assert record.certificate is not None
    return read_leaf(record.certificate)


@dataclass
class Office:
    """A store with a network, and somebody who invites into it."""

    store: Store
    clerk: Clerk = field(default_factory=Clerk)
    _jtis: Iterator[int] = field(default_factory=itertools.count)

    @property
    def now(self) -> float:
        """The wall clock of everybody."""
        return self.clerk.now

    def invite(self, name: str | None = None, uses: int = 1, groups: tuple[str, ...] = ()) -> str:
        """A new invitation for a day: its jti."""
        jti = f"jti-{next(self._jtis)}"
        invite = InviteRecord(jti, self.now + DAY, name=name, groups=groups, uses=uses)
        return self.store.create_invite(invite, self.now).jti

    def join(self, number: int, name: str | None = None, jti: str | None = None) -> NodeRecord:
        """Enrol a key, by default with an invitation of its own and as n<NUMBER>.mesh."""
        request = Enrolment(jti or self.invite(), key(number), name or f"n{number}.mesh")
        return self.store.enrol(request, self.now, self.clerk)


def addresses(number: int, settings: NetworkSettings = SETTINGS) -> tuple[Prefix, Prefix]:
    """What node number `number` has, written in another way than the store's."""
    four, six = settings.range4.address, settings.range6.address
    return (
        Prefix(four[:3] + bytes([four[3] + number]), 32),
        Prefix(six[:14] + number.to_bytes(2, "big"), 128),
    )


@contextlib.contextmanager
def database(kind: str, folder: Path, server: Callable[[], Postgres]) -> Iterator[str]:
    """An empty database of the kind: its URL."""
    if kind == "sqlite":
        yield str(folder / "store")
    else:
        with server().database() as url:
            yield url
