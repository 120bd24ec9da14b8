"""Making a node a coordinator too: with the keys of one that is there, and its store."""

import contextlib
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

from wgpy.keys import write_secret
from wgpy.mesh import coordinator_files
from wgpy.mesh.coordinator_files import CoordinatorFiles, FilesError
from wgpy.mesh.fields import RecordError
from wgpy.mesh.founding import UDP_PORT, FoundingError
from wgpy.mesh.issuer import IssuerError
from wgpy.mesh.place import STATE_DIRECTORY, Place, PlaceError
from wgpy.mesh.records import NodeState
from wgpy.mesh.settings import Coordinator
from wgpy.mesh.store import Store, StoreError

# What is taken of the other's directory; its ledger is not: the store has the record.
_FILES: Final = ("tokens.key", "issuers.jwks", "passphrase")
_CA_FILES: Final = ("ca.key", "ca.pem", "parent.pem")


def promote(
    interface: str,
    source: Path,
    store: str,
    endpoints: tuple[str, ...],
    port: int = UDP_PORT,
    state: Path = STATE_DIRECTORY,
) -> str:
    """Take the keys from `source`, a copy of a coordinator's coordinator/; returns our name.

    Nothing is changed in the store before everything here is ready. Raises FoundingError.
    """
    place = Place(interface, state)
    try:
        membership = place.membership()
        if membership.name is None:
            raise FoundingError(f"{interface} has yet to join; then it may coordinate")
        files = _take(interface, source, store, state)
        coordinator_files.open_tokens(files)
        issuer = coordinator_files.open_issuer(files)
        rights = issuer.authority.rights
        if rights is None or rights.network != membership.network:
            raise FoundingError(f"{source} is of another network")
        with contextlib.closing(Store(store)) as opened:
            settings = opened.settings()
            node = opened.node_of(place.key().public())
            if settings.id != membership.network or node is None:
                raise FoundingError(f"{opened.place} does not have this node: another store")
            if node.state is not NodeState.ACTIVE:
                raise FoundingError(f"{node.name} was removed, or has yet to be approved")
            others = tuple(x for x in settings.coordinators if x.key != node.key)
            own = Coordinator(node.name, node.key, endpoints)
            opened.change_settings(replace(settings, coordinators=(*others, own)))
        place.set_membership(replace(membership, coordinator=True, port=port))
    except (FilesError, IssuerError, PlaceError, RecordError, StoreError) as error:
        raise FoundingError(str(error)) from None
    return node.name


def _take(interface: str, source: Path, store: str, state: Path) -> CoordinatorFiles:
    where = coordinator_files.directory(interface, state)
    if where.resolve() != source.resolve():
        os.makedirs(where / "issuing", mode=0o700, exist_ok=True)
        try:
            for name in _FILES:
                write_secret(where / name, (source / name).read_bytes())
            for name in _CA_FILES:
                write_secret(where / "issuing" / name, (source / "issuing" / name).read_bytes())
        except FileNotFoundError as error:
            shutil.rmtree(where)
            raise FoundingError(
                f"{error.filename}: there is none; copy a coordinator's whole directory"
            ) from None
    files = CoordinatorFiles(store, where / "tokens.key", where / "issuing")
    coordinator_files.write(interface, files, state)
    return files
