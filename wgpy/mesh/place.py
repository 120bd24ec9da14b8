"""What a node keeps: /var/lib/wgpy/IF.mesh/, 0700, its files 0600, each written whole.

    mesh.json          who we are (`Membership`)         node.key           the private key, base64
    certificate.pem    what we present                   ca.pem, ca-2.pem   whom we trust, one each
    intermediates.pem  the authorities between           crl/ISSUER.crl     revocation lists, DER
    enrol.jwt          the token, while joining          directory.json     who else there is
    turn.password      of our TURN credentials           places.json        where nodes were found
    port               the UDP port of the last time

A file is a temporary one that reaches the disk and takes its name; the directory reaches it too. So
whatever ends this machine, each file is what it was before or what it is after.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from wgpy.identity import ca_files
from wgpy.identity.claims import CredentialError
from wgpy.identity.x509der import MAX_CRL_FILE, certificates_in, read_file
from wgpy.ip import Prefix, address_text, parse_address
from wgpy.keys import KeyFormatError, PrivateKey, PublicKey, read_key_text, write_secret
from wgpy.mesh import fields
from wgpy.mesh.fields import RecordError
from wgpy.mesh.line import MAX_COORDINATORS, Coordinator, Endpoint, LineError

STATE_DIRECTORY: Final = Path("/var/lib/wgpy")
RUN_DIRECTORY: Final = Path("/run/wgpy")
VERSION: Final = 1
# mesh.json has a line of 2,742 characters at the most, and some prefixes.
_MAX_MEMBERSHIP: Final = 64 * 1024
# 65,533 nodes of 2 kilobytes: more than a network has room for.
MAX_DIRECTORY: Final = 160 << 20
_MAX_LINE: Final = 8192
# As many as a certificate has, of each of some nodes.
MAX_ACCEPTED: Final = 64
_MAX_REASON: Final = 500
# wire.py has fewer.
MAX_ANCHORS: Final = 8


class PlaceError(Exception):
    """A file of a node's is missing or is not what it has to be: one line, with its path."""


@dataclass(frozen=True, slots=True)
class Membership:
    """Who a node is in which network; raises RecordError for what cannot be.

    While it joins, `line` is the joining line and `wanted` the name that its user asked for; `name`
    is None until it has one. `contacts` are the coordinators as the line knew them. `port` is the
    UDP port that the tunnel listens at, 0 for any. `accept` are the prefixes of others that are
    routed here, or the nodes whose prefixes all are, and `exit` the node that takes all else;
    `offers` are the prefixes that it would route, and with `masquerade` it stands for who comes by
    it. `ended` is a sentence: why it can never come in again.
    """

    interface: str
    network: bytes
    domain: str
    name: str | None = None
    coordinator: bool = False
    line: str | None = field(default=None, repr=False)
    wanted: str | None = None
    contacts: tuple[Coordinator, ...] = ()
    port: int = 0
    accept: tuple[str, ...] = ()
    exit: str | None = None
    offers: tuple[Prefix, ...] = ()
    masquerade: bool = False
    ended: str | None = None

    @property
    def joining(self) -> bool:
        """Whether it has no certificate yet, and may get one."""
        return self.name is None and self.ended is None


def membership_to_json(found: Membership) -> dict[str, Any]:
    """The JSON object that `membership_from_json` reads."""
    return {
        "version": VERSION,
        "interface": found.interface,
        "network": found.network.hex(),
        "domain": found.domain,
        "name": found.name,
        "coordinator": found.coordinator,
        "line": found.line,
        "wanted": found.wanted,
        "contacts": [
            {
                "key": x.key.base64(),
                "endpoints": fields.texts(x.endpoints),
                "addresses": [address_text(address) for address in x.addresses],
            }
            for x in found.contacts
        ],
        "port": found.port,
        "accept_routes": list(found.accept),
        "exit": found.exit,
        "offers": fields.texts(found.offers),
        "masquerade": found.masquerade,
        "ended": found.ended,
    }


_MEMBERS: Final = frozenset(
    (
        *("version", "interface", "network", "domain", "name", "coordinator", "line", "wanted"),
        *("contacts", "port", "accept_routes", "exit", "offers", "masquerade", "ended"),
    )
)


def membership_from_json(value: object) -> Membership:
    """Read the JSON form, strictly. Raises RecordError."""
    found = fields.members(value, _MEMBERS, "it")
    fields.number(found["version"], VERSION, VERSION, "version")
    return Membership(
        interface=fields.text(found["interface"], 15, "interface"),
        network=fields.network_id(found["network"], "network"),
        domain=fields.name(found["domain"], "domain"),
        name=fields.optional(found["name"], "name", fields.name),
        coordinator=fields.flag(found["coordinator"], "coordinator"),
        line=fields.optional(
            found["line"], "line", lambda x, what: fields.text(x, _MAX_LINE, what)
        ),
        wanted=fields.optional(found["wanted"], "wanted", fields.name),
        contacts=fields.each(found["contacts"], MAX_COORDINATORS, "contacts", _contact),
        port=fields.number(found["port"], 0, 65_535, "port"),
        accept=fields.each(found["accept_routes"], MAX_ACCEPTED, "accept_routes", accepted),
        exit=fields.optional(found["exit"], "exit", fields.name),
        offers=fields.prefixes(found["offers"], "offers"),
        masquerade=fields.flag(found["masquerade"], "masquerade"),
        ended=fields.optional(found["ended"], "ended", _sentence),
    )


def accepted(value: object, what: str) -> str:
    """A prefix, or a node's whole name."""
    written = fields.text(value, 253, what)
    return str(fields.prefix(value, what)) if "/" in written else fields.name(value, what)


def _line(value: object, what: str) -> str:
    return fields.text(value, _MAX_LINE, what)


def _sentence(value: object, what: str) -> str:
    """What a coordinator said to a person: any letters."""
    if not isinstance(value, str) or len(value) > _MAX_REASON or not value.isprintable():
        raise RecordError(f"{what} is no sentence")
    return value


def _contact(value: object, what: str) -> Coordinator:
    found = fields.members(value, ("key", "endpoints", "addresses"), what)
    try:
        return Coordinator(
            fields.key(found["key"], what),
            fields.each(found["endpoints"], 8, what, _endpoint),
            fields.each(found["addresses"], 8, what, _address),
        )
    except LineError as error:
        raise RecordError(f"{what}: {error}") from None


def _endpoint(value: object, what: str) -> Endpoint:
    written = fields.text(value, 300, what)
    host, colon, port = written.rpartition(":")
    if not colon or not port.isdigit() or len(port) > 5:
        raise RecordError(f"{what} has what is no HOST:PORT")
    return Endpoint(host.removeprefix("[").removesuffix("]"), int(port))


def _address(value: object, what: str) -> bytes:
    try:
        return parse_address(fields.text(value, 45, what))
    except ValueError:
        raise RecordError(f"{what} has what is no address") from None


class Place:
    """The files of one interface's node. Methods raise PlaceError, and OSError of the disk."""

    def __init__(
        self, interface: str, state: Path = STATE_DIRECTORY, run: Path = RUN_DIRECTORY
    ) -> None:
        self.interface = interface
        self.directory = state / f"{interface}.mesh"
        # What sealed signals pass through; empty after a reboot, as it should be.
        self.signals = run / f"{interface}.signals"
        self.socket = run / f"{interface}.mesh.sock"
        self.lock = run / f"{interface}.mesh.lock"
        self.crl = self.directory / "crl"
        self.certificate = self.directory / "certificate.pem"
        self.intermediates = self.directory / "intermediates.pem"
        self.token = self.directory / "enrol.jwt"
        self.turn_password = self.directory / "turn.password"
        self._key = self.directory / "node.key"
        self._membership = self.directory / "mesh.json"
        self._nodes = self.directory / "directory.json"
        self._port = self.directory / "port"
        self._places = self.directory / "places.json"

    # --- The whole ---

    def exists(self) -> bool:
        """Whether there is a node here."""
        return self._membership.exists()

    def make(self, key: PrivateKey, membership: Membership) -> None:
        """Begin a node: its key, then who it is. What an earlier try left behind is replaced."""
        self.directory.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self.directory.chmod(0o700)
        self.crl.mkdir(mode=0o700, exist_ok=True)
        write_secret(self._key, key.base64().encode() + b"\n")
        self.set_membership(membership)

    def remove(self) -> None:
        """Forget the node. Who it was goes first: a half-removed one is none."""
        self._membership.unlink(missing_ok=True)
        if self.directory.exists():
            shutil.rmtree(self.directory)
        if self.signals.exists():
            shutil.rmtree(self.signals)

    # --- Its parts ---

    def key(self) -> PrivateKey:
        """The private key."""
        try:
            return PrivateKey.from_base64(read_key_text(self._key))
        except FileNotFoundError:
            raise PlaceError(f"{self._key}: the node has no key; leave and join again") from None
        except KeyFormatError as error:
            raise PlaceError(f"{self._key}: {error}") from None

    def membership(self) -> Membership:
        """Who the node is."""
        try:
            raw = read_file(self._membership, _MAX_MEMBERSHIP)
        except FileNotFoundError:
            raise PlaceError(
                f"{self.interface} is in no mesh; `wgpy mesh join` brings it into one"
            ) from None
        try:
            found = membership_from_json(json.loads(raw))
        except (ValueError, RecursionError) as error:
            raise PlaceError(f"{self._membership}: {error}") from None
        if found.interface != self.interface:
            raise PlaceError(f"{self._membership}: it is of the interface {found.interface}")
        return found

    def set_membership(self, membership: Membership) -> None:
        """Put down who the node is."""
        value = membership_to_json(membership)
        write_secret(self._membership, (json.dumps(value, indent=1) + "\n").encode())

    def set_token(self, token: bytes | None) -> None:
        """The token to enrol with; None when it is of no more use."""
        if token is None:
            self.token.unlink(missing_ok=True)
        else:
            write_secret(self.token, token + b"\n")

    def anchors(self) -> tuple[Path, ...]:
        """The files with the authorities that are trusted, one each; none before it has joined."""
        names = ["ca.pem", *(f"ca-{number}.pem" for number in range(2, MAX_ANCHORS + 1))]
        return tuple(path for path in (self.directory / x for x in names) if path.exists())

    def set_papers(
        self, certificate: bytes, intermediates: Sequence[bytes], anchors: Sequence[bytes]
    ) -> None:
        """What it was issued, and whom it trusts, in DER. What is there already is not written.

        The certificate is last: who has one has all else.
        """
        for number, der in enumerate(anchors, start=1):
            name = "ca.pem" if number == 1 else f"ca-{number}.pem"
            _write(self.directory / name, _pem(der))
        for path in self.anchors()[len(anchors) :]:
            path.unlink()
        if intermediates:
            _write(self.intermediates, b"".join(map(_pem, intermediates)))
        else:
            self.intermediates.unlink(missing_ok=True)
        _write(self.certificate, _pem(certificate))

    def papers(self) -> tuple[bytes, tuple[bytes, ...], tuple[bytes, ...]]:
        """The certificate, the intermediates and the anchors, in DER."""
        try:
            own = _certificates(self.certificate)[0]
            exists = self.intermediates.exists()
            between = _certificates(self.intermediates) if exists else []
            anchors = [der for path in self.anchors() for der in _certificates(path)]
        except (OSError, CredentialError, IndexError) as error:
            raise PlaceError(f"{self.directory}: what it was issued is lost: {error}") from None
        return own, tuple(between), tuple(anchors)

    def lists(self) -> dict[str, bytes]:
        """The revocation lists by the name of their file, without its ending."""
        return {path.stem: read_file(path, MAX_CRL_FILE) for path in self.crl.glob("*.crl")}

    def set_list(self, issuer: str, der: bytes) -> None:
        """Put down the list of an issuer: 64 hexadecimal digits. The daemon sees it at once."""
        self.crl.mkdir(mode=0o700, exist_ok=True)
        _write(self.crl / f"{issuer}.crl", der)

    def directory_text(self) -> bytes | None:
        """The last known directory as it was put down; None if there is none."""
        try:
            return read_file(self._nodes, MAX_DIRECTORY)
        except FileNotFoundError:
            return None

    def set_directory(self, text: bytes) -> None:
        """Put down the directory."""
        write_secret(self._nodes, text)

    def places(self) -> dict[PublicKey, Endpoint]:
        """Where nodes were reached directly the last time; nothing, where that cannot be read: it
        is a help and no more."""
        try:
            value = json.loads(read_file(self._places, MAX_DIRECTORY))
            return {
                fields.key(key, "key"): _endpoint(at, "place")
                for key, at in (value if isinstance(value, dict) else {}).items()
            }
        except (OSError, ValueError, RecursionError, CredentialError):
            return {}

    def set_places(self, places: Mapping[PublicKey, Endpoint]) -> None:
        """Put down where nodes are."""
        value = {key.base64(): str(at) for key, at in places.items()}
        write_secret(self._places, (json.dumps(value, indent=1) + "\n").encode())

    def port(self) -> int:
        """The UDP port that the tunnel had the last time; 0 if that is not known."""
        try:
            text = read_file(self._port, 16).strip()
        except (OSError, CredentialError):
            return 0
        number = int(text) if text.isdigit() else 0
        return number if number < 1 << 16 else 0

    def set_port(self, port: int) -> None:
        """Put down the UDP port."""
        write_secret(self._port, f"{port}\n".encode())

    def make_signals(self) -> None:
        """Make the directory of signals, which a reboot removes."""
        self.signals.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.signals.mkdir(mode=0o700, exist_ok=True)


def _certificates(path: Path) -> list[bytes]:
    return certificates_in(read_file(path))


def _pem(der: bytes) -> bytes:
    return ca_files.pem(der, "CERTIFICATE")


def _write(path: Path, data: bytes) -> None:
    """Write a file unless it says so already: who watches it is woken by news only."""
    try:
        if path.read_bytes() == data:
            return
    except FileNotFoundError:
        os.makedirs(path.parent, mode=0o700, exist_ok=True)
    write_secret(path, data)


def interfaces(state: Path = STATE_DIRECTORY) -> Iterable[str]:
    """The interfaces that are a node of some mesh, in the order of their names."""
    return sorted(x.parent.name.removesuffix(".mesh") for x in state.glob("*.mesh/mesh.json"))
