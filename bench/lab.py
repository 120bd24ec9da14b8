"""What the measures stand on: a tunnel of one contender, and an interface with many peers."""

import base64
import contextlib
import functools
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.contenders import Contender
from tests.support.netns import Namespace, Pair, pair
from tests.support.programs import Interface, new_keys
from tests.support.tunnel import Tunnel, tunnel

# 10.0.0.0/8 has an address for each of so many.
_MAX_PEERS = 1 << 24


@contextlib.contextmanager
def tunnel_of(contender: Contender) -> Iterator[tuple[Pair, Tunnel]]:
    """Two namespaces with a daemon of the contender in each, and a first packet through them."""
    both = contender.implementation
    with pair() as net, tunnel(net, both, both) as made:
        net.left.ping(made.right.address)
        yield net, made


@contextlib.contextmanager
def lonely_interface(contender: Contender) -> Iterator[Interface]:
    """One interface in a namespace of its own, up, with no peer and no way out."""
    with Namespace("bench") as place, Interface(place, contender.implementation) as interface:
        interface.up("10.255.255.1/32")
        yield interface


def pid_of(interface: Interface) -> int:
    """The process of an interface that was started."""
    if interface.process is None:
        raise RuntimeError(f"{interface.name} was not started")
    return interface.process.pid


@contextlib.contextmanager
def config_file(peers: int) -> Iterator[Path]:
    """A file for setconf with so many peers, readable by its owner only, gone at the end."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(config_text(peers))
        file.flush()
        yield Path(file.name)


@functools.cache
def config_text(peers: int) -> str:
    """A configuration with so many peers, one IPv4 address each; the same in every run."""
    if not 0 < peers < _MAX_PEERS:
        raise ValueError(f"{peers} peers: 1 to {_MAX_PEERS - 1}")
    lines = ["[Interface]", f"PrivateKey = {new_keys().private}", "ListenPort = 51820"]
    for number in range(peers):
        # Any 32 bytes are a public key (RFC 7748): no handshake is held with these.
        key = base64.b64encode(hashlib.sha256(b"peer %d" % number).digest()).decode()
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        lines += ["", "[Peer]", f"PublicKey = {key}", f"AllowedIPs = {address}/32"]
    return "\n".join(lines) + "\n"
