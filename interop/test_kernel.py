"""wgpy against the Linux kernel's WireGuard, in a guest that QEMU emulates.

One boot serves all tests; the picture is in tests/support/qemu.py.
"""

import hashlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from interop.checks import ours
from tests.support import kernel, qemu
from tests.support.mesh import GATE, Visitor
from tests.support.netns import Namespace, wait_until
from tests.support.programs import (
    WGPY,
    Interface,
    Keys,
    PeerStatus,
    new_keys,
    new_psk,
    parse_dump_line,
)
from tests.support.requirements import in_ci
from tests.support.traffic import Pings
from tests.support.tunnel import endpoint, interface_section, peer_section

pytestmark = [
    pytest.mark.root,
    *(pytest.mark.tool(name) for name in ("qemu-system-x86_64", "busybox", "dpkg", "wg", "ping")),
]

# The guest's processor is emulated: 3 MB are two thousand packets and about a second.
SIZE = 3_000_000
TCP_PORT = 5000
# Room for a handshake in an emulated processor, and for its repetition after 5 s.
PATIENCE = 20


@dataclass(frozen=True, slots=True)
class KernelInterface:
    """wg0 of the guest, by commands that run there."""

    guest: qemu.Guest
    address: str = "10.77.0.2"
    address6: str = "fd77::2"

    def make(self, config: str, mtu: int = 1420) -> None:
        """A new wg0 with this configuration, up."""
        self.delete()
        self.guest.run("ip link add wg0 type wireguard")
        self.setconf(config)
        self.guest.run(
            "echo 0 > /proc/sys/net/ipv6/conf/wg0/accept_dad; "
            f"ip address add {self.address}/24 dev wg0 && "
            f"ip address add {self.address6}/64 dev wg0 && "
            f"ip link set wg0 mtu {mtu} up"
        )

    def delete(self) -> None:
        """Delete wg0 if there is one."""
        self.guest.run("ip link del wg0", check=False)

    def setconf(self, config: str) -> None:
        """Replace the configuration, and with it the sessions."""
        self.guest.write("/tmp/wg0.conf", config)
        self.guest.run("wg setconf wg0 /tmp/wg0.conf")

    def peer(self) -> PeerStatus:
        """The only peer, as the guest's wg(8) shows it."""
        return parse_dump_line(self.guest.run("wg show wg0 dump").splitlines()[1])


@dataclass(frozen=True, slots=True)
class Lab:
    """The namespace and the guest on its tap."""

    space: Namespace
    guest: qemu.Guest


@pytest.fixture(scope="module")
def lab(clean_machine: None) -> Iterator[Lab]:
    """The guest, booted once for this file."""
    try:
        image = kernel.fetch()
    except kernel.KernelError as error:
        if in_ci():
            pytest.fail(f"in CI the kernel must be there: {error}", pytrace=False)
        pytest.skip(f"no kernel to boot: {error}")
    with Namespace("host") as space, qemu.guest(space, image) as guest:
        yield Lab(space, guest)


@dataclass(frozen=True, slots=True)
class Ends:
    """Our interface, the kernel's, and what they were configured with."""

    ours: Interface
    kernel: KernelInterface
    ours_keys: Keys
    kernel_keys: Keys
    kernel_config: str


@pytest.fixture
def ends(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Ends]:
    """Both ends, up. Parameter: (outer family, PSK or not, who knows where the other is, MTU)."""
    family, with_psk, knows, mtu = getattr(request, "param", (4, False, "both", 1420))
    here, there = (qemu.HOST[1], qemu.GUEST[1]) if family == 6 else (qemu.HOST[0], qemu.GUEST[0])
    secret = new_psk() if with_psk else None
    ours_keys, kernel_keys = new_keys(), new_keys()
    kernel_config = interface_section(kernel_keys.private) + peer_section(
        ours_keys.public,
        "10.77.0.1/32, fd77::1/128",
        at=endpoint(here) if knows in ("kernel", "both") else None,
        psk=secret,
    )
    inside = KernelInterface(lab.guest)
    inside.make(kernel_config, mtu)
    try:
        with Interface(lab.space, ours()) as interface:
            interface.setconf(
                interface_section(ours_keys.private)
                + peer_section(
                    kernel_keys.public,
                    "10.77.0.2/32, fd77::2/128",
                    at=endpoint(there) if knows in ("ours", "both") else None,
                    psk=secret,
                )
            )
            interface.up("10.77.0.1/24", "fd77::1/64", mtu=mtu)
            yield Ends(interface, inside, ours_keys, kernel_keys, kernel_config)
    finally:
        inside.delete()


def _case(family: int, psk: bool, knows: str, mtu: int = 1420) -> object:
    name = f"v{family}-{'psk' if psk else 'no-psk'}-{knows}-initiates-{mtu}"
    return pytest.param((family, psk, knows, mtu), id=name)


def _ping_both_ways(ends: Ends, first: str = "ours") -> None:
    space, guest = ends.ours.namespace, ends.kernel.guest
    for who in (first, "kernel" if first == "ours" else "ours"):
        for ours_end, kernel_end in (
            (ends.ours.address, ends.kernel.address),
            (ends.ours.address6, ends.kernel.address6),
        ):
            if who == "ours":
                space.ping(kernel_end, wait=PATIENCE)
            else:
                guest.ping(ours_end, wait=PATIENCE)


def _receive_from_guest(ends: Ends) -> None:
    """The guest makes random bytes and sends them by TCP; ours must be the same."""
    guest = ends.kernel.guest
    with ends.ours.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.settimeout(30)
        # Every test listens here: the connection of the one before may be in TIME_WAIT.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((ends.ours.address, TCP_PORT))
        listener.listen(1)
        guest.run(f"head -c {SIZE} /dev/urandom > /tmp/sent")
        guest.run(f"nc {ends.ours.address} {TCP_PORT} < /tmp/sent > /tmp/said 2>&1 &")
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(30)
            data = bytearray()
            while len(data) < SIZE and (chunk := connection.recv(1 << 18)):
                data += chunk
    digest = guest.run("sha256sum /tmp/sent").split()[0]
    assert hashlib.sha256(data).hexdigest() == digest


def _send_to_guest(ends: Ends) -> None:
    """Random bytes by TCP to the guest; what it has must be the same."""
    guest = ends.kernel.guest
    data = os.urandom(SIZE)
    guest.run(f"rm -f /tmp/done; (nc -l -p {TCP_PORT} > /tmp/got; touch /tmp/done) 2>&1 &")
    # Port 5000 in state LISTEN (0A): netcat takes a moment.
    listening = f"grep -q ':{TCP_PORT:04X} .* 0A ' /proc/net/tcp /proc/net/tcp6"
    guest.run(f"until {listening}; do sleep 0.1; done")
    with ends.ours.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as sender:
        sender.settimeout(30)
        sender.connect((ends.kernel.address, TCP_PORT))
        sender.sendall(data)
    guest.run("until [ -e /tmp/done ]; do sleep 0.1; done")
    digest = guest.run("sha256sum /tmp/got").split()[0]
    assert hashlib.sha256(data).hexdigest() == digest


@pytest.mark.parametrize(
    "ends",
    [
        _case(4, False, "ours"),
        _case(4, True, "kernel"),
        _case(6, True, "ours"),
        _case(6, False, "kernel", 1280),
    ],
    indirect=True,
)
def test_ping_and_tcp(ends: Ends, request: pytest.FixtureRequest) -> None:
    """A handshake by the one side that knows the other; ping and TCP both ways."""
    first = "ours" if "ours-initiates" in request.node.name else "kernel"
    _ping_both_ways(ends, first)
    _receive_from_guest(ends)
    _send_to_guest(ends)
    theirs, own = ends.kernel.peer(), ends.ours.peer(ends.kernel_keys.public)
    for seen in (theirs, own):
        assert seen.handshake > 0
        assert seen.rx > SIZE
        assert seen.tx > SIZE


def test_rekey(ends: Ends) -> None:
    """Each side in turn forgets its sessions, and the first packet makes a new one."""
    _ping_both_ways(ends)
    for _ in range(2):
        ends.ours.restart_sessions()
        ends.ours.namespace.ping(ends.kernel.address, wait=PATIENCE)
        _ping_both_ways(ends)
        ends.kernel.setconf(ends.kernel_config)
        assert ends.kernel.peer().handshake == 0
        ends.kernel.guest.ping(ends.ours.address, wait=PATIENCE)
        assert ends.kernel.peer().handshake > 0
        _ping_both_ways(ends)


def test_beside_peers_with_credentials(ends: Ends, tmp_path: Path) -> None:
    """Others come in by certificates, and go, on our interface: the kernel's peer does not care."""
    if ends.ours.implementation is not WGPY:
        pytest.skip("only wgpyd knows credentials")
    _ping_both_ways(ends)
    with Visitor(ends.ours, ends.ours_keys.public, tmp_path) as visitor:
        shaken = ends.kernel.peer().handshake
        pings = Pings(ends.ours.namespace, ends.kernel.address, 60)
        for _ in range(2):
            visitor.come()
            visitor.go()
        assert pings.lost() == 0
        assert ends.kernel.peer().handshake == shaken, "one handshake was enough"
        visitor.come()
        _receive_from_guest(ends)
        _send_to_guest(ends)
        ends.ours.restart_sessions()
        ends.ours.namespace.ping(ends.kernel.address, wait=PATIENCE)
        ends.kernel.setconf(ends.kernel_config)
        ends.kernel.guest.ping(ends.ours.address, wait=PATIENCE)
        visitor.space.ping(GATE)
        assert visitor.is_in(), "whoever configures the others again leaves it"


def test_roaming(ends: Ends) -> None:
    """Our port changes; the kernel follows the first authenticated packet."""
    _ping_both_ways(ends)
    ends.ours.wg("set", "listen-port", "51999")
    ends.ours.namespace.ping(ends.kernel.address, wait=PATIENCE)
    assert ends.kernel.peer().endpoint == endpoint(qemu.HOST[0], 51999)
    _ping_both_ways(ends, "kernel")


@pytest.mark.parametrize("ends", [_case(4, True, "kernel")], indirect=True)
def test_keepalive_of_the_kernel(ends: Ends) -> None:
    """The kernel's persistent keepalive alone makes a session and is counted by ours."""
    ends.kernel.guest.run(f"wg set wg0 peer {ends.ours_keys.public} persistent-keepalive 1")

    def received() -> int:
        return ends.ours.peer(ends.kernel_keys.public).rx

    wait_until(received, "the kernel's handshake", timeout=PATIENCE)
    seen = received()
    wait_until(lambda: received() >= seen + 64, "two keepalives of the kernel", timeout=PATIENCE)
