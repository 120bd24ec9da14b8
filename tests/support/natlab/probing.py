"""Questions that tests of the lab ask: does this datagram come through, or is it kept out?"""

import os
import socket
import time

from tests.support.natlab.lab import Lab
from tests.support.natlab.plan import Host, Router
from tests.support.natlab.reflector import Address

# What is sent is there in no time; a busy machine takes its time. What is kept out is kept out at
# once, and is waited for as long as a machine that is not busy takes many times over.
_PATIENCE = 5.0
_SILENCE = 0.5
_TIMES = 3


def small_lab(*routers: Router, ipv6: bool = False) -> Lab:
    """These routers, a laptop "at-NAME" behind each, and a "server" with two addresses."""
    hosts = [Host(f"at-{router.name}", router.name) for router in routers]
    return Lab(routers, [*hosts, Host("server", addresses=2)], ipv6=ipv6)


def passes(sender: socket.socket, target: Address, receiver: socket.socket) -> Address | None:
    """Where a datagram seems to come from that comes through; None if it does not in 5 s."""
    return _came(sender, target, receiver, _PATIENCE)


def is_kept_out(sender: socket.socket, target: Address, receiver: socket.socket) -> bool:
    """Whether nothing of three datagrams comes through in half a second."""
    return _came(sender, target, receiver, _SILENCE) is None


def _came(
    sender: socket.socket, target: Address, receiver: socket.socket, wait: float
) -> Address | None:
    # Nothing that was sent before, and comes late, is taken for it.
    token = os.urandom(8)
    for _ in range(_TIMES):
        sender.sendto(token, target)
    deadline = time.monotonic() + wait
    while (left := deadline - time.monotonic()) > 0:
        receiver.settimeout(left)
        try:
            data, source = receiver.recvfrom(100)
        except TimeoutError:
            return None
        if data == token:
            return source[0], source[1]
    return None
