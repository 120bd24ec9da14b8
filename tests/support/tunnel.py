"""A tunnel between two namespaces, each end by any implementation, and traffic through it.

  left                                                              right
┌─────────────────────────────┐                    ┌─────────────────────────────┐
│ IF  10.77.0.1/24 fd77::1/64 │                    │ IF  10.77.0.2/24 fd77::2/64 │
│          │ :51820           │                    │          │ :51820           │
│ veth0    10.91.0.1 fd91::1  ├──────── veth ──────┤ veth0    10.91.0.2 fd91::2  │
└─────────────────────────────┘                    └─────────────────────────────┘
"""

import contextlib
import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.support.commands import LIFE
from tests.support.netns import Namespace, Pair
from tests.support.programs import (
    Implementation,
    Interface,
    Keys,
    new_keys,
    new_psk,
)

PORT = 51820
# One TCP test: enough for thousands of packets, a second at 160 Mb/s.
TRANSFER_SIZE = 20_000_000
# A transfer that makes no progress for so long has failed.
STALL = 30.0


def endpoint(address: str, port: int = PORT) -> str:
    """An address and port as configuration files have them."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def peer_section(
    public: str,
    allowed_ips: str,
    *,
    at: str | None = None,
    psk: str | None = None,
    keepalive: int | None = None,
) -> str:
    """A [Peer] section; `at` is its endpoint."""
    lines = ["[Peer]", f"PublicKey = {public}", f"AllowedIPs = {allowed_ips}"]
    if psk is not None:
        lines.append(f"PresharedKey = {psk}")
    if at is not None:
        lines.append(f"Endpoint = {at}")
    if keepalive is not None:
        lines.append(f"PersistentKeepalive = {keepalive}")
    return "\n".join(lines) + "\n"


def interface_section(private: str, port: int = PORT) -> str:
    """An [Interface] section as wg(8) reads it."""
    return f"[Interface]\nPrivateKey = {private}\nListenPort = {port}\n"


@dataclass(frozen=True, slots=True)
class Tunnel:
    """Two interfaces that are each other's only peer."""

    left: Interface
    right: Interface
    left_keys: Keys
    right_keys: Keys
    psk: str | None

    def left_sees(self) -> "tuple[int, int, int]":
        """(handshake time, rx, tx) of the right peer, as the left daemon tells it."""
        seen = self.left.peer(self.right_keys.public)
        return seen.handshake, seen.rx, seen.tx

    def right_sees(self) -> "tuple[int, int, int]":
        """(handshake time, rx, tx) of the left peer, as the right daemon tells it."""
        seen = self.right.peer(self.left_keys.public)
        return seen.handshake, seen.rx, seen.tx

    def ping_both_ways(self, count: int = 2) -> None:
        """Ping over both families, the left side first."""
        for here, there in ((self.left, self.right), (self.right, self.left)):
            here.namespace.ping(there.address, count)
            here.namespace.ping(there.address6, count)


@contextlib.contextmanager
def tunnel(
    net: Pair,
    left: Implementation,
    right: Implementation,
    *,
    psk: bool = False,
    family: int = 4,
    endpoints: tuple[bool, bool] = (True, True),
    keepalive: int | None = None,
    mtu: int | None = None,
    left_options: tuple[str, ...] = (),
    life: float = LIFE,
) -> Iterator[Tunnel]:
    """The tunnel of the module's drawing, configured by wg(8), up, no packet sent yet.

    `family` is the outer one, 4 or 6. `endpoints` says whether the left, and the right, side is
    told where the other one is: a side that is not can only be the responder. `keepalive`
    (seconds) and `left_options` (for its command line) are of the left side. It lasts for `life`
    seconds at the most.
    """
    secret = new_psk() if psk else None
    keys = (new_keys(), new_keys())
    outer = (net.left.v6, net.right.v6) if family == 6 else (net.left.v4, net.right.v4)
    with (
        Interface(net.left, left, options=left_options, life=life) as one,
        Interface(net.right, right, life=life) as two,
    ):
        # The right one first and wholly: what the left one sends with its first breath (it may
        # have a keepalive to send) finds it listening.
        for here, interface in ((1, two), (0, one)):
            other = 1 - here
            interface.setconf(
                interface_section(keys[here].private)
                + peer_section(
                    keys[other].public,
                    f"10.77.0.{other + 1}/32, fd77::{other + 1}/128",
                    at=endpoint(outer[other]) if endpoints[here] else None,
                    psk=secret,
                    keepalive=keepalive if here == 0 else None,
                )
            )
            interface.up(f"10.77.0.{here + 1}/24", f"fd77::{here + 1}/64", mtu=mtu)
        yield Tunnel(one, two, *keys, secret)


def transfer(
    source: Namespace,
    target: Namespace,
    address: str,
    size: int = TRANSFER_SIZE,
    *,
    between: Callable[[], object] | None = None,
) -> None:
    """Send `size` random bytes by TCP to `address` of `target`; assert that they arrive whole.

    `between` is called after each quarter, when the last of it is still on its way.
    """
    data = os.urandom(size)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    failures: list[Exception] = []

    def send() -> None:
        try:
            sender.connect(listener.getsockname())
            quarter = -(-size // 4)
            for start in range(0, size, quarter):
                sender.sendall(data[start : start + quarter])
                if between is not None:
                    between()
            sender.shutdown(socket.SHUT_WR)
        except Exception as error:
            failures.append(error)
            # The receiver need not wait for what does not come.
            sender.close()

    with (
        target.socket(family, socket.SOCK_STREAM) as listener,
        source.socket(family, socket.SOCK_STREAM) as sender,
    ):
        for end in (listener, sender):
            end.settimeout(STALL)
        listener.bind((address, 0))
        listener.listen(1)
        thread = threading.Thread(target=send)
        thread.start()
        arrived, digest = 0, hashlib.sha256()
        try:
            arrived = _receive(listener, digest)
        except TimeoutError:
            failures.append(TimeoutError(f"nothing more came in {STALL:g} s"))
        finally:
            # Wakes a sender that still waits for a reader.
            with contextlib.suppress(OSError):
                sender.shutdown(socket.SHUT_RDWR)
            thread.join()
    if failures:
        raise AssertionError(f"TCP to {address} failed: {failures[0]}") from failures[0]
    assert arrived == size, f"{arrived} of {size} bytes arrived"
    assert digest.digest() == hashlib.sha256(data).digest(), "the bytes changed on the way"


def _receive(listener: socket.socket, digest: "hashlib._Hash") -> int:
    """Take one connection to its end; returns the number of bytes."""
    arrived = 0
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(STALL)
        while chunk := connection.recv(1 << 18):
            digest.update(chunk)
            arrived += len(chunk)
    return arrived
