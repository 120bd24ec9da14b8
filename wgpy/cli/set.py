"""`wgpy set`: change an interface by words on the command line, in the grammar of wg(8).

Keys that are secret come from files, because others can read a command line.
"""

import argparse
from typing import Final, NoReturn, TypeVar

from wgpy.cli import print_error
from wgpy.cli.errors import CommandError
from wgpy.config.model import EndpointSpec
from wgpy.config.sync import endpoint_address
from wgpy.config.values import (
    WHITESPACE,
    BadValueError,
    parse_endpoint,
    parse_fwmark,
    parse_keepalive,
    parse_network,
    parse_port,
    shown,
)
from wgpy.device import client
from wgpy.device.resolve import resolve
from wgpy.device.uapi import Address, AllowedIpChange, DeviceChange, PeerChange
from wgpy.ip import Prefix, mask
from wgpy.keys import (
    KEY_LENGTH,
    KeyFormatError,
    PresharedKey,
    PrivateKey,
    PublicKey,
    read_key_text,
)

USAGE: Final = (
    "wgpy set INTERFACE [listen-port PORT] [fwmark MARK] [private-key FILE] "
    "[peer PUBLIC-KEY [remove] [preshared-key FILE] [endpoint HOST:PORT] "
    "[persistent-keepalive SECONDS] [allowed-ips [+|-]ADDRESS/LENGTH[,...]]...]..."
)
SecretKey = TypeVar("SecretKey", PrivateKey, PresharedKey)

_NO_SPACES: Final = str.maketrans("", "", WHITESPACE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `set`."""
    parser.usage = USAGE
    parser.add_argument("interface", metavar="INTERFACE", help="the interface to change")
    parser.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="CHANGE",
        help="what to change, as above; what is not mentioned stays",
    )
    parser.epilog = (
        "An empty file (/dev/null) removes a key. `off` or 0 turns a mark or a keepalive off. "
        "`allowed-ips ''` takes all of a peer's allowed IPs away; +ADDRESS/LENGTH adds one to "
        "those that it has, -ADDRESS/LENGTH takes one away. A host name is looked up, again if "
        "need be, as often as WG_ENDPOINT_RESOLUTION_RETRIES says (15, or `infinity`)."
    )


def run(args: argparse.Namespace) -> int:
    """Change the interface; returns the exit code."""
    client.apply(args.interface, read_words(args.words))
    return 0


def read_words(words: list[str]) -> DeviceChange:
    """The request that the words after the interface's name ask for.

    Reads key files and looks host names up. Raises CommandError, OSError and ResolveError.
    """
    if not words:
        raise CommandError(f"there is nothing to change; usage: {USAGE}")
    change = DeviceChange()
    peer: PeerChange | None = None
    remaining = iter(words)
    for word in remaining:
        if word == "remove" and peer is not None:
            peer.remove = True
            continue
        if word not in (DEVICE_WORDS if peer is None else PEER_WORDS):
            _refuse_word(word, peer is not None)
        value = next(remaining, None)
        if value is None:
            raise CommandError(f"{word} needs a value; see `wgpy set --help`")
        try:
            if word == "peer":
                peer = PeerChange(PublicKey.from_base64(value))
                change.peers.append(peer)
            elif peer is None:
                _set_device(change, word, value)
            else:
                _set_peer(peer, word, value)
        except (BadValueError, KeyFormatError) as error:
            raise CommandError(f"{word}: {error}") from None
    # Whatever else is said of a peer that goes is read for errors, and not sent.
    change.peers = [
        PeerChange(peer.public_key, remove=True) if peer.remove else peer for peer in change.peers
    ]
    return change


DEVICE_WORDS: Final = ("listen-port", "fwmark", "private-key", "peer")
PEER_WORDS: Final = (
    "preshared-key",
    "endpoint",
    "persistent-keepalive",
    "allowed-ips",
    "peer",
)


def _refuse_word(word: str, of_peer: bool) -> NoReturn:
    if word in DEVICE_WORDS:
        raise CommandError(f"{word} is the interface's: it comes before the first peer")
    if word in PEER_WORDS or word == "remove":
        raise CommandError(f"{word} is a peer's: `peer PUBLIC-KEY` comes before it")
    known = ", ".join((*PEER_WORDS, "remove") if of_peer else DEVICE_WORDS)
    raise CommandError(f"{shown(word)} is not known here; write one of {known}")


def _set_device(change: DeviceChange, word: str, value: str) -> None:
    match word:
        case "listen-port":
            change.listen_port = parse_port(value)
        case "fwmark":
            change.fwmark = parse_fwmark(value)
        case "private-key":
            change.private_key = _read_key(value, PrivateKey)


def _set_peer(peer: PeerChange, word: str, value: str) -> None:
    match word:
        case "preshared-key":
            peer.preshared_key = _read_key(value, PresharedKey)
        case "endpoint":
            spec = parse_endpoint(value)
            peer.endpoint = endpoint_address(spec)
            peer.endpoint_name = None
            if peer.endpoint is None:
                peer.endpoint = look_up(spec)
                # A wgpy daemon looks it up again later; the client sends it to no other.
                peer.endpoint_name = (spec.host, spec.port)
        case "persistent-keepalive":
            peer.persistent_keepalive = parse_keepalive(value)
        case "allowed-ips":
            _add_allowed_ips(peer, value.translate(_NO_SPACES))


def _add_allowed_ips(peer: PeerChange, value: str) -> None:
    # Each list says anew that it replaces, unless a sign in it says otherwise.
    peer.replace_allowed_ips = True
    if not value:
        return
    for word in value.split(","):
        sign = word[:1] if word[:1] in ("+", "-") else ""
        if sign:
            peer.replace_allowed_ips = False
        address, length = parse_network(word[len(sign) :])
        prefix = Prefix(mask(address, length), length)
        if address != prefix.address:
            print_error(f"warning: {shown(word)} has bits beyond its length: taken as {prefix}")
        peer.allowed_ips.append(AllowedIpChange(prefix, remove=sign == "-"))


def _read_key(path: str, kind: type[SecretKey]) -> SecretKey:
    """The key in a file; zeros, which mean "none", if it is empty."""
    try:
        text = read_key_text(path)
        return kind.from_base64(text) if text else kind(bytes(KEY_LENGTH))
    except KeyFormatError as error:
        raise KeyFormatError(f"{path!r}: {error}") from None


def look_up(spec: EndpointSpec) -> Address:
    """The address of an endpoint's host name; tells on standard error of each retry."""
    return resolve(spec.host, spec.port, report=print_error)
