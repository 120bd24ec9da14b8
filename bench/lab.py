"""What the measures stand on: a tunnel of one contender, and an interface with many peers."""

import base64
import contextlib
import functools
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.contenders import Contender
from bench.procstat import cpu_seconds
from tests.support.netns import Namespace, Pair, pair
from tests.support.programs import Interface, new_keys
from tests.support.tunnel import Tunnel, tunnel

# What fits into every tunnel here: 1,500 bytes of the veth less the 80 that WireGuard may take.
MTU = 1420
# The daemons of a tunnel that is kept for a round end after so many seconds, whatever happens: a
# round of everything against everyone takes a quarter of it.
LIFE = 3600.0
# 10.0.0.0/8 has an address for each of so many.
_MAX_PEERS = 1 << 24
# So many addresses are in 172.16.0.0/12.
_MAX_PREFIXES = 1 << 20


@contextlib.contextmanager
def tunnel_of(contender: Contender) -> Iterator[tuple[Pair, Tunnel]]:
    """Two namespaces with a daemon of the contender in each, and a first packet through them."""
    both = contender.implementation
    with pair() as net, tunnel(net, both, both, life=LIFE) as made:
        net.left.ping(made.right.address)
        yield net, made


@dataclass(frozen=True, slots=True)
class Road:
    """A way from one namespace to another: `address` is that of the right end, `pids` are the
    daemons that serve it, none where there is no tunnel."""

    left: Namespace
    right: Namespace
    address: str
    pids: tuple[int, ...] = ()

    def cpu_seconds(self) -> float:
        """Processor time of the daemons so far, user and system."""
        return sum(map(cpu_seconds, self.pids))


@contextlib.contextmanager
def road_of(contender: Contender) -> Iterator[Road]:
    """A fresh tunnel of the contender, or the bare link, with a first packet through it."""
    if contender.is_bare:
        with bare_road() as road:
            yield road
        return
    with tunnel_of(contender) as (net, made):
        yield road_through(net, made)


@contextlib.contextmanager
def bare_road() -> Iterator[Road]:
    """The link without a tunnel, whose packets are as large as those inside of one."""
    with pair(mtu=MTU) as net:
        net.left.ping(net.right.v4)
        yield Road(net.left, net.right, net.right.v4)


def road_through(net: Pair, made: Tunnel) -> Road:
    """The way through a tunnel."""
    pids = (pid_of(made.left), pid_of(made.right))
    return Road(net.left, net.right, made.right.address, pids)


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
        key = nobodys_key(number)
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        lines += ["", "[Peer]", f"PublicKey = {key}", f"AllowedIPs = {address}/32"]
    return "\n".join(lines) + "\n"


def nobodys_key(number: int) -> str:
    """A public key with which no handshake is held: any 32 bytes are one (RFC 7748)."""
    return base64.b64encode(hashlib.sha256(b"peer %d" % number).digest()).decode()


@functools.cache
def crowd_text(peers: int, prefixes: int) -> str:
    """The [Peer] sections of so many peers that never come, with so many allowed IPs each.

    Every other one is an IPv4 address of 172.16.0.0/12, the rest are IPv6 /64s: none of them
    covers an address of a tunnel.
    """
    if not 0 < peers * prefixes < _MAX_PREFIXES:
        raise ValueError(f"{peers * prefixes} prefixes: 1 to {_MAX_PREFIXES - 1}")
    lines = []
    for number in range(peers):
        allowed = []
        for index in range(number * prefixes, (number + 1) * prefixes):
            high, low = index >> 16, index & 0xFFFF
            if index % 2:
                allowed.append(f"fd00:0:{high:x}:{low:x}::/64")
            else:
                allowed.append(f"172.{16 + high}.{low >> 8}.{low & 255}/32")
        key = nobodys_key(number)
        lines += ["[Peer]", f"PublicKey = {key}", f"AllowedIPs = {', '.join(allowed)}"]
    return "\n".join(lines) + "\n"
