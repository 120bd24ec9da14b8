"""Founding a network here: its authorities, its store, and the first node, a coordinator.

    IF.root/                root of the network: it signs the intermediate, and then belongs offline
    IF.mesh/coordinator/    see coordinator_files.py
    IF.mesh/                the node (place.py)

mesh.json is written last: before it there is no node, and what was made is removed again.
"""

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from wgpy.identity import ca
from wgpy.identity.ca_files import CaError
from wgpy.identity.claims import CredentialError
from wgpy.identity.settings import Limits
from wgpy.ip import Prefix, parse_prefix
from wgpy.keys import PrivateKey, write_secret
from wgpy.mesh import coordinator_files
from wgpy.mesh.addresses import nodes_range6, ula
from wgpy.mesh.coordinator_files import CoordinatorFiles, FilesError
from wgpy.mesh.directory import first_text
from wgpy.mesh.fields import RecordError
from wgpy.mesh.issuer import IssuerError, LocalIssuer
from wgpy.mesh.place import STATE_DIRECTORY, Membership, Place
from wgpy.mesh.records import NodeRecord
from wgpy.mesh.settings import VALIDITY, Coordinator, NetworkSettings
from wgpy.mesh.store import NoNetwork, Store, StoreError
from wgpy.mesh.wire import PORT

# What nodes are, in most networks; rules of the firewall speak of these. Certificates have at most
# 16 groups, and so has the authority that gives them.
GROUPS: Final = ("admins", "coordinators", "laptops", "phones", "routers", "servers")
# The group of a node that coordinates.
OWN_GROUP: Final = "coordinators"
UDP_PORT: Final = 51820
_EVERYTHING: Final = (parse_prefix("0.0.0.0/0"), parse_prefix("::/0"))
# 160 bits: nobody types it.
_PASSPHRASE_BYTES: Final = 20


class FoundingError(Exception):
    """No network was made: one line, with what to do."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What an operator has decided. `routes` are prefixes that nodes may ever be let route, for the
    intermediate cannot grant others; `passphrase` None leaves the root's in a file beside it."""

    interface: str
    network: bytes
    name: str  # whole
    domain: str
    range4: Prefix
    endpoints: tuple[str, ...]
    groups: tuple[str, ...] = GROUPS
    routes: tuple[Prefix, ...] = ()
    validity: int = VALIDITY
    approval: bool = False
    stun: tuple[str, ...] = ()
    turn: tuple[str, ...] = ()
    turn_secret: str | None = field(default=None, repr=False)
    store: str | None = None
    port: int = UDP_PORT
    api_port: int = PORT
    root: Path | None = None
    passphrase: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Founded:
    """A network that is there now."""

    settings: NetworkSettings
    node: NodeRecord
    root: Path
    # None if the operator knows it.
    root_passphrase: Path | None
    store: str


def found(
    plan: Plan, state: Path = STATE_DIRECTORY, clock: Callable[[], float] = time.time
) -> Founded:
    """Make everything, or nothing. Raises FoundingError."""
    place = Place(plan.interface, state)
    where = coordinator_files.directory(plan.interface, state)
    root = plan.root or state / f"{plan.interface}.root"
    if place.exists():
        raise FoundingError(
            f"{plan.interface} is in a network already; `wgpy mesh leave` first, or choose another "
            "--interface"
        )
    for directory in (where, root):
        if directory.exists():
            raise FoundingError(f"{directory} is there already: move it away, or remove it")
    try:
        settings = _settings(plan)
        with _all_or_nothing(where, root, where.parent / "coordinator.json"):
            return _make(plan, settings, place, where, root, state, clock())
    except (CaError, CredentialError, FilesError, IssuerError, RecordError, StoreError) as error:
        raise FoundingError(str(error)) from None


def _settings(plan: Plan) -> NetworkSettings:
    return NetworkSettings(
        id=plan.network,
        domain=plan.domain,
        range4=plan.range4,
        range6=ula(plan.network),
        validity=plan.validity,
        approval=plan.approval,
        stun=plan.stun,
        turn=plan.turn,
    )


@contextlib.contextmanager
def _all_or_nothing(*paths: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        raise


def _make(
    plan: Plan,
    settings: NetworkSettings,
    place: Place,
    where: Path,
    root: Path,
    state: Path,
    now: float,
) -> Founded:
    where.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    os.makedirs(where, mode=0o700)
    where.parent.chmod(0o700)
    # The store first: one that has a network already is the likeliest to refuse.
    url = plan.store or str(where / "store.sqlite")
    with contextlib.closing(Store(url)) as store:
        _check_empty(store)
        passphrase_file = _make_root(plan, settings, root, now)
        issuer = _make_issuing(plan, settings, where, root, now)
        coordinator_files.make_tokens(where)
        key = PrivateKey.generate()
        store.create_network(settings, plan.turn_secret)
        groups = (OWN_GROUP,) if OWN_GROUP in plan.groups else ()
        node = store.add(plan.name, key.public(), groups, now, issuer.issue)
        assert node.certificate is not None, "who is added has one"
        coordinator = Coordinator(plan.name, key.public(), plan.endpoints)
        settings = replace(settings, coordinators=(coordinator,))
        store.change_settings(settings)
    files = CoordinatorFiles(
        store=url, tokens=where / "tokens.key", ca=where / "issuing", port=plan.api_port
    )
    coordinator_files.write(plan.interface, files, state)
    place.set_papers(node.certificate, (issuer.authority.der,), (issuer.root.der,))
    # What our own agent begins with: it asks itself, for which it has to know where it is.
    place.set_directory(first_text(settings))
    # Our own daemon has to know the network before anybody can tell our agent of it.
    place.set_directory(first_text(settings))
    place.make(
        key,
        Membership(
            plan.interface,
            plan.network,
            plan.domain,
            name=plan.name,
            coordinator=True,
            port=plan.port,
        ),
    )
    return Founded(settings, node, root, passphrase_file, url)


def _check_empty(store: Store) -> None:
    try:
        found = store.settings()
    except NoNetwork:
        return
    raise FoundingError(
        f"{store.place} has the network {found.domain} already; to coordinate it from here too, "
        "join it, and say `wgpy mesh coordinate`"
    )


def _make_root(plan: Plan, settings: NetworkSettings, root: Path, now: float) -> Path | None:
    """The root, limited to this network; where its passphrase is, unless the operator knows it."""
    passphrase = plan.passphrase or secrets.token_urlsafe(_PASSPHRASE_BYTES).encode()
    # It may permit every route: what the intermediate may grant is less.
    request = ca.AuthorityRequest(
        f"{plan.domain} root", plan.network, _limits(plan, settings), _EVERYTHING
    )
    ca.create(root, request, passphrase, now)
    if plan.passphrase is not None:
        return None
    write_secret(root / "passphrase", passphrase + b"\n")
    return root / "passphrase"


def _make_issuing(
    plan: Plan, settings: NetworkSettings, where: Path, root: Path, now: float
) -> LocalIssuer:
    passphrase = secrets.token_urlsafe(_PASSPHRASE_BYTES).encode()
    with ca.Issuer(root) as parent:
        parent.unlock(plan.passphrase or (root / "passphrase").read_bytes().strip())
        ca.create(
            where / "issuing",
            ca.AuthorityRequest(
                f"{plan.domain} issuing",
                plan.network,
                _limits(plan, settings),
                plan.routes,
                days=ca.INTERMEDIATE_DAYS,
            ),
            passphrase,
            now,
            parent,
        )
    write_secret(where / "passphrase", passphrase + b"\n")
    return LocalIssuer(where / "issuing", passphrase, lambda: now)


def _limits(plan: Plan, settings: NetworkSettings) -> Limits:
    ranges = (settings.range4, nodes_range6(settings.range6))
    return Limits((plan.domain,), ranges, plan.groups)
