"""What a coordinator keeps beside what its node keeps: /var/lib/wgpy/IF.mesh/

    coordinator.json         where its store is, and its keys (`CoordinatorFiles`)
    coordinator/issuing/     the intermediate that signs nodes' certificates; its key is encrypted
    coordinator/passphrase   what opens that key, since nobody is there to type it
    coordinator/others.pem   if there: intermediates that nodes shall know too, the next or the last
    coordinator/tokens.key   what signs the tokens of joining lines
    coordinator/issuers.jwks its public part, for the daemon
    coordinator/store.sqlite the store, unless it is PostgreSQL

Whoever has these files can be any node of the network (docs/threat-model.md).
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from wgpy.identity.anchors import read_authority
from wgpy.identity.ca_files import CaError
from wgpy.identity.claims import CredentialError
from wgpy.identity.jose import JsonError, load_object
from wgpy.identity.jwks import make_jwks
from wgpy.identity.signer import Signer, make_signing_key
from wgpy.identity.x509der import certificates_in, read_file
from wgpy.keys import KeyFormatError, read_password, write_secret
from wgpy.mesh import fields
from wgpy.mesh.fields import RecordError
from wgpy.mesh.issuer import Issuer, IssuerError, LocalIssuer, RemoteIssuer
from wgpy.mesh.wire import MAX_INTERMEDIATES, PORT

STATE_DIRECTORY: Final = Path("/var/lib/wgpy")
RUN_DIRECTORY: Final = Path("/run/wgpy")
VERSION: Final = 1
_MAX_FILE: Final = 16 * 1024
_MAX_PATH: Final = 4_096
_MEMBERS: Final = ("version", "store", "ca", "signer", "tokens", "port")


class FilesError(Exception):
    """A coordinator's file is missing, or is not what it has to be; one line, with its path."""


@dataclass(frozen=True, slots=True)
class CoordinatorFiles:
    """Where everything is. Either `ca`, a directory with its passphrase beside it, or `signer`, the
    socket of `wgpy ca signer`. `store` is a file or postgresql://, without a password."""

    store: str
    tokens: Path
    ca: Path | None = None
    signer: Path | None = None
    port: int = PORT

    @property
    def passphrase(self) -> Path:
        """The file with what opens the CA's key."""
        return self.tokens.parent / "passphrase"


def directory(interface: str, state: Path = STATE_DIRECTORY) -> Path:
    """Where all that is of an interface's coordinator."""
    return state / f"{interface}.mesh" / "coordinator"


def read(interface: str, state: Path = STATE_DIRECTORY) -> CoordinatorFiles:
    """Read coordinator.json. Raises FilesError."""
    path = _path(interface, state)
    try:
        with path.open("rb") as file:
            value = load_object(file.read(_MAX_FILE))
        found = fields.members(value, _MEMBERS, "it")
        fields.number(found["version"], VERSION, VERSION, "version")
        ca, signer = (fields.optional(found[x], x, _path_of) for x in ("ca", "signer"))
        if (ca is None) == (signer is None):
            raise RecordError("it has either ca or signer")
        return CoordinatorFiles(
            fields.text(found["store"], _MAX_PATH, "store"),
            _path_of(found["tokens"], "tokens"),
            ca,
            signer,
            fields.number(found["port"], 1, 65_535, "port"),
        )
    except FileNotFoundError:
        raise FilesError(
            f"{interface} coordinates no mesh: there is no {path}; `wgpy mesh init` makes one"
        ) from None
    except OSError as error:
        raise FilesError(f"{path}: {error.strerror}") from None
    except (JsonError, RecordError) as error:
        raise FilesError(f"{path}: {error}") from None


def write(interface: str, files: CoordinatorFiles, state: Path = STATE_DIRECTORY) -> None:
    """Write coordinator.json. Raises OSError."""
    value: dict[str, Any] = {
        "version": VERSION,
        "store": files.store,
        "ca": None if files.ca is None else str(files.ca),
        "signer": None if files.signer is None else str(files.signer),
        "tokens": str(files.tokens),
        "port": files.port,
    }
    write_secret(_path(interface, state), (json.dumps(value, indent=1) + "\n").encode())


def make_tokens(where: Path) -> Signer:
    """Make the key of joining lines, and the file by which daemons verify them. Raises OSError."""
    signer = make_signing_key(where / "tokens.key", "EdDSA")
    jwks = json.dumps(make_jwks([(signer.kid, signer.public)]), indent=1) + "\n"
    write_secret(where / "issuers.jwks", jwks.encode())
    return signer


def open_tokens(files: CoordinatorFiles) -> Signer:
    """The key of joining lines. Raises FilesError."""
    try:
        return Signer.load(files.tokens)
    except (CredentialError, OSError) as error:
        raise FilesError(f"{files.tokens}: {_reason(error)}") from None


def open_issuer(files: CoordinatorFiles) -> Issuer:
    """Who signs certificates. Raises FilesError, IssuerError."""
    if files.signer is not None:
        return RemoteIssuer(str(files.signer))
    assert files.ca is not None, "it has one of the two"
    try:
        passphrase = read_password(files.passphrase).encode()
        return LocalIssuer(files.ca, passphrase)
    except (KeyFormatError, OSError, CaError) as error:
        raise FilesError(f"{files.passphrase}: {_reason(error)}") from None
    except IssuerError as error:
        raise FilesError(str(error)) from None


def others(files: CoordinatorFiles) -> tuple[bytes, ...]:
    """The other intermediates (DER) of the network; none without the file. Raises FilesError.

    A network's intermediate is replaced in two steps, so that every node knows both at any time:
    the next one is here until all have renewed, and then the two change places.
    """
    path = files.tokens.parent / "others.pem"
    try:
        found = tuple(certificates_in(read_file(path)))
        for der in found:
            read_authority(der)
    except FileNotFoundError:
        return ()
    except (CredentialError, OSError) as error:
        raise FilesError(f"{path}: {_reason(error)}") from None
    if len(found) >= MAX_INTERMEDIATES:
        raise FilesError(f"{path}: a node takes {MAX_INTERMEDIATES} intermediates with ours")
    return found


def _path(interface: str, state: Path) -> Path:
    return state / f"{interface}.mesh" / "coordinator.json"


def _path_of(value: object, what: str) -> Path:
    if not isinstance(value, str) or not os.path.isabs(value) or len(value) > _MAX_PATH:
        raise RecordError(f"{what} is no absolute path")
    return Path(value)


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
