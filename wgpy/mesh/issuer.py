"""Who makes certificates of nodes: an intermediate in this process, or one in a process apart.

    LocalIssuer     the key is unlocked here
    RemoteIssuer    the key is in `wgpy ca signer`, behind an AF_UNIX socket: one line of JSON each
                    way, then the connection ends

    {"do": "about"}                                          {"certificate": DER, "root": DER}
    {"do": "issue", "node": {..}}                            {"der": DER}
    {"do": "list", "number": N, "revocations": [{..}, ..]}   {"der": DER}
                                                             {"error": "refused", "message": TEXT}

What is issued, to whom and with which generation is in the store's record: an issuer keeps no
ledger, and two coordinators with one key, or one signer, issue as one.
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from wgpy.identity.anchors import CertificateAuthority, read_authority
from wgpy.identity.ca_files import CaError
from wgpy.identity.claims import CredentialError
from wgpy.identity.denylist import Denied
from wgpy.identity.jose import JsonError, load_object
from wgpy.identity.profile import Rights
from wgpy.identity.signatory import Signatory
from wgpy.keys import PublicKey
from wgpy.mesh import fields
from wgpy.mesh.fields import RecordError
from wgpy.mesh.records import (
    NodeRecord,
    Revocation,
    RevocationKind,
    node_from_json,
    node_to_json,
    revocation_from_json,
    revocation_to_json,
)
from wgpy.mesh.wire import MAX_AUTHORITY, MAX_CRL

# A signature takes milliseconds. It is asked for while the store is locked, for which others wait
# 4 s (store_engine.py).
TIMEOUT: Final = 3.0
# 10,000 revocations of 250 bytes.
MAX_LINE: Final = 4 << 20
_READ_SIZE: Final = 1 << 16

Clock = Callable[[], float]


class IssuerError(Exception):
    """No certificate, and no list: the key is away, or may not sign this. One line."""


class Issuer(Protocol):
    """Makes what a store records. Blocking; any thread may call. Methods raise IssuerError."""

    @property
    def authority(self) -> CertificateAuthority:
        """The CA that signs."""

    @property
    def root(self) -> CertificateAuthority:
        """The anchor above it."""

    def issue(self, record: NodeRecord) -> bytes:
        """The certificate (DER) of a record, whose generation and end it gets."""

    def sign_list(self, number: int, revocations: Sequence[Revocation]) -> bytes:
        """The list (DER) with this number."""


class LocalIssuer:
    """An intermediate whose key is open in this process."""

    def __init__(self, directory: Path, passphrase: bytes, clock: Clock = time.time) -> None:
        """Open a CA's directory. Raises IssuerError."""
        self._clock = clock
        with _as_issuer_error():
            self._signatory = Signatory(directory, passphrase)

    @property
    def authority(self) -> CertificateAuthority:
        """The CA that signs."""
        return self._signatory.authority

    @property
    def root(self) -> CertificateAuthority:
        """The anchor above it."""
        return self._signatory.root

    def issue(self, record: NodeRecord) -> bytes:
        """The certificate (DER) of a record, whose generation and end it gets."""
        if record.expires is None:
            raise IssuerError("a certificate must end: the record says no time")
        rights = Rights(self._signatory.network, record.generation, record.groups, record.routes)
        with _as_issuer_error():
            return self._signatory.leaf(
                record.key, record.name, record.addresses, rights, record.expires, self._clock()
            )

    def sign_list(self, number: int, revocations: Sequence[Revocation]) -> bytes:
        """The list (DER) with this number."""
        of_kind: dict[RevocationKind, list[Revocation]] = {x: [] for x in RevocationKind}
        for revocation in revocations:
            of_kind[revocation.kind].append(revocation)
        denied = Denied(
            keys=frozenset(PublicKey.from_base64(x.value) for x in of_kind[RevocationKind.KEY]),
            names={(x.value, None): x.generation for x in of_kind[RevocationKind.NAME]},
        )
        serials = [(int(x.value, 16), x.at) for x in of_kind[RevocationKind.SERIAL]]
        with _as_issuer_error():
            return self._signatory.crl(number, serials, denied, self._clock())


class RemoteIssuer:
    """The signer behind a socket."""

    def __init__(self, path: str) -> None:
        """Ask who signs. Raises IssuerError."""
        self._path = path
        about = self._ask({"do": "about"})
        try:
            self._authority, self._root = (
                read_authority(fields.octets(about.get(x), MAX_AUTHORITY, x))
                for x in ("certificate", "root")
            )
        except (CredentialError, RecordError) as error:
            raise IssuerError(f"{path}: {error}") from None

    @property
    def authority(self) -> CertificateAuthority:
        """The CA that signs."""
        return self._authority

    @property
    def root(self) -> CertificateAuthority:
        """The anchor above it."""
        return self._root

    def issue(self, record: NodeRecord) -> bytes:
        """The certificate (DER) of a record, whose generation and end it gets."""
        answer = self._ask({"do": "issue", "node": node_to_json(record)})
        return self._der(answer, fields.MAX_CERTIFICATE)

    def sign_list(self, number: int, revocations: Sequence[Revocation]) -> bytes:
        """The list (DER) with this number."""
        said = [revocation_to_json(x) for x in revocations]
        return self._der(self._ask({"do": "list", "number": number, "revocations": said}), MAX_CRL)

    def _der(self, answer: dict[str, Any], most: int) -> bytes:
        try:
            return fields.octets(answer.get("der"), most, "der")
        except RecordError as error:
            raise IssuerError(f"{self._path}: {error}") from None

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(TIMEOUT)
                connection.connect(self._path)
                connection.sendall(json.dumps(question).encode() + b"\n")
                answer = load_object(read_line(connection, TIMEOUT))
        except (OSError, JsonError) as error:
            said = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise IssuerError(f"the signer at {self._path} does not answer: {said}") from None
        if "error" in answer:
            raise IssuerError(f"the signer refuses: {answer.get('message')}")
        return answer


class SignerServer:
    """The signer: answers one connection after another, on a socket that its owner alone opens."""

    def __init__(self, issuer: Issuer, path: str) -> None:
        """Listen. Raises OSError."""
        self._issuer = issuer
        self.counters = {"issued": 0, "lists": 0, "refused": 0}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path = path
        umask = os.umask(0o177)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            self._socket.bind(path)
            self._socket.listen(16)
        except OSError:
            self._socket.close()
            raise
        finally:
            os.umask(umask)

    def fileno(self) -> int:
        """What becomes readable when somebody connects."""
        return self._socket.fileno()

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def serve_one(self) -> None:
        """Answer whoever connects next. A client that breaks off is none of our business."""
        connection, _ = self._socket.accept()
        with connection:
            connection.settimeout(TIMEOUT)
            try:
                answer = self._answer(read_line(connection, TIMEOUT))
                connection.sendall(json.dumps(answer).encode() + b"\n")
            except OSError:
                self.counters["refused"] += 1

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            return self._do(load_object(line))
        except (IssuerError, JsonError, RecordError) as error:
            self.counters["refused"] += 1
            return {"error": "refused", "message": str(error)}

    def _do(self, asked: dict[str, Any]) -> dict[str, Any]:
        match asked.get("do"):
            case "about":
                return {
                    "certificate": fields.octets_text(self._issuer.authority.der),
                    "root": fields.octets_text(self._issuer.root.der),
                }
            case "issue":
                der = self._issuer.issue(node_from_json(asked.get("node")))
                self.counters["issued"] += 1
            case "list":
                number = fields.number(asked.get("number"), 1, fields.MAX_NUMBER, "number")
                said = fields.items(asked.get("revocations"), 100_000, "revocations")
                der = self._issuer.sign_list(number, [revocation_from_json(x) for x in said])
                self.counters["lists"] += 1
            case _:
                raise RecordError("it is neither about, issue nor list")
        return {"der": fields.octets_text(der)}


def read_line(connection: socket.socket, seconds: float) -> bytes:
    """One line, without its end. Raises OSError, also for one that is too long or too slow."""
    ends = time.monotonic() + seconds
    found = bytearray()
    while not found.endswith(b"\n"):
        connection.settimeout(max(0.001, ends - time.monotonic()))
        data = connection.recv(_READ_SIZE)
        if not data:
            raise OSError("the connection ended in the middle of a line")
        found += data
        if len(found) > MAX_LINE:
            raise OSError("the line is too long")
    return bytes(found[:-1])


@contextlib.contextmanager
def _as_issuer_error() -> Iterator[None]:
    try:
        yield
    except (CaError, CredentialError) as error:
        raise IssuerError(str(error)) from None
    except FileNotFoundError as error:
        raise IssuerError(f"{error.filename}: {error.strerror}") from None
