"""An office: a gate that trusts a certification authority, and machines with its certificates.

`Machine` is a whole interface. `Caller` is a key alone, which says what a test wants it to say.
"""

import errno
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tests.support.certificates import NETWORK, Authority, Peer, names
from tests.support.fake_network import EPOCH_NS, PORT, Machine, World
from wgpy.device.guard import Guard
from wgpy.device.uapi import (
    Address,
    AllowedIpChange,
    DeviceChange,
    PeerChange,
    PeerState,
    UapiError,
)
from wgpy.firewall.rules import Settings
from wgpy.firewall.verdict import Member
from wgpy.firewall.wall import Wall
from wgpy.identity.profile import Rights
from wgpy.identity.settings import Anchor, AuthoritySettings, Expectation, IdentitySettings
from wgpy.ip import Prefix, parse_prefix
from wgpy.keys import PrivateKey, PublicKey
from wgpy.linux.nft import FirewallError
from wgpy.protocol.constants import (
    CREDENTIAL_PROLOGUE,
    TYPE_CREDENTIAL_INITIATION,
    TYPE_TRANSPORT,
)
from wgpy.protocol.credential import parse_credential_response
from wgpy.protocol.credential_payload import Offer, OfferKind
from wgpy.protocol.handshake import Begun, Local, Remote
from wgpy.protocol.noise import initial_hash
from wgpy.protocol.peer import Peer as Pair
from wgpy.protocol.tai64n import stamp

START = EPOCH_NS / 1e9
DAY = 86_400.0

ROOT = Authority(not_before=START - DAY, not_after=START + 365 * DAY)


def leaf(machine: "Machine | Caller", name: str, *, generation: int = 1, **changes: object) -> Peer:
    """A good certificate for a machine, with its inner address."""
    made = Peer(
        parent=ROOT,
        key=machine.private.public(),
        names=names(name, machine.inner),
        rights=Rights(NETWORK, generation, ("laptops",), ()),
        not_before=START - 300,
        not_after=START + DAY,
        serial=0x1000 + generation,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@dataclass
class Office:
    """A world, a directory with the root and the certificates, and the settings that name them."""

    world: World
    directory: Path
    # The firewall of the gate, if it is to have one.
    guard: Guard | None = None
    gate: Machine = field(init=False)

    def __post_init__(self) -> None:
        (self.directory / "root.pem").write_bytes(ROOT.pem())
        (self.directory / "crl").mkdir()
        self.gate = self.machine("192.0.2.1", "gate.mesh", self.guard)

    def machine(
        self, address: str, name: str, guard: Guard | None = None, **changes: object
    ) -> Machine:
        """A machine with a certificate that trusts the root."""
        ledger = self.directory / f"{address}.ledger"
        made = Machine(self.world, address, ledger=ledger, gate=guard)
        made.inner = "10.7.0." + address.rpartition(".")[2]
        self.give(made, name, **changes)
        made.device.apply(
            DeviceChange(
                authority=self.authority(),
                identity=IdentitySettings(certificate=str(self.directory / f"{address}.pem")),
            )
        )
        return made

    def give(self, machine: Machine, name: str, **changes: object) -> None:
        """Write a certificate into a machine's file."""
        path = self.directory / f"{machine.address}.pem"
        path.write_bytes(leaf(machine, name, **changes).pem())  # type: ignore[arg-type]

    def authority(self, **changes: object) -> AuthoritySettings:
        made = AuthoritySettings(
            network=NETWORK,
            accept=(parse_prefix("10.7.0.0/16"),),
            anchors=(Anchor(str(self.directory / "root.pem")),),
            revocations=(str(self.directory / "crl"),),
        )
        return replace(made, **changes)  # type: ignore[arg-type]

    def firewall(self) -> "Recorder":
        """Put a firewall that records before the gate's sessions."""
        recorder = Recorder()
        credentials = self.gate.device._admissions
        assert credentials is not None
        credentials._sessions._gate = recorder
        return recorder

    def knows_gate(self, machine: Machine, name: str | None = "gate.mesh", **more: object) -> None:
        """Configure the gate on a machine, as a peer that must prove its name."""
        machine.device.apply(
            DeviceChange(
                peers=[
                    PeerChange(
                        self.gate.private.public(),
                        endpoint=Address(self.gate.address, PORT),
                        expectation=Expectation(name, **more),  # type: ignore[arg-type]
                        allowed_ips=[AllowedIpChange(parse_prefix("10.7.0.0/16"))],
                    )
                ]
            )
        )


def admitted(machine: Machine) -> dict[PublicKey, PeerState]:
    return {x.public_key: x for x in machine.device.state().peers if x.admitted}


def counter(machine: Machine, name: str) -> int:
    return machine.device.state().counters.get(name, 0)


class Caller:
    """A static key at an address that calls the gate and completes nothing by itself."""

    def __init__(self, office: Office, number: int = 66, private: PrivateKey | None = None) -> None:
        self.office = office
        self.address = f"192.0.2.{number}"
        self.inner = f"10.7.0.{number}"
        self.private = private or PrivateKey(bytes([number]) * 32)
        self.gate = office.gate.private.public()
        self.peer = Pair(Local(self.private), self.gate, None, lambda: 0.0)

    @property
    def key(self) -> PublicKey:
        return self.private.public()

    def certificate(self, name: str = "laptop.mesh", **changes: object) -> Offer:
        """A good certificate, with something changed."""
        made = leaf(self, name, **changes)  # type: ignore[arg-type]
        return Offer(OfferKind.CERTIFICATE, made.der())

    def initiation(
        self, offer: Offer | None, *, wanted: str | None = "gate.mesh", network: bytes = NETWORK
    ) -> bytes:
        """A 0x10 that nobody has sent yet, stamped with the time of now."""
        world = self.office.world
        return self.peer.credential_initiation(
            index=77,
            network=network,
            wanted=wanted,
            offer=offer,
            random=world.random.randbytes,
            wall_ns=world.wall_ns(),
            now=world.now,
        )

    def sealed(self, payload: bytes) -> bytes:
        """A 0x10 with any payload, of 1,064 bytes, behind its stamp."""
        world = self.office.world
        remote = Remote(Local(self.private), self.gate, None)
        begun = Begun(
            remote,
            struct.pack("<II", TYPE_CREDENTIAL_INITIATION, 77),
            77,
            (stamp(world.wall_ns()) + payload).ljust(1064, b"\0"),
            world.random.randbytes(32),
            initial_hash(bytes(self.gate), CREDENTIAL_PROLOGUE),
        )
        return self.peer.cookie.add_macs(begun.message, world.now)

    def send(self, data: bytes) -> None:
        """Put a datagram on the wire to the gate."""
        self.office.world.transmit(self.address, self.office.gate.address, data)

    def call(self, offer: Offer | None, **asked: Any) -> None:
        """Send a 0x10, and let it arrive."""
        self.send(self.initiation(offer, **asked))
        self.office.world.run(0.1)

    def answers(self) -> list[bytes]:
        """What came back."""
        gate = self.office.gate.address
        log = self.office.world.log
        return [sent.data for sent in log if (sent.source, sent.target) == (gate, self.address)]

    def confirm(self) -> None:
        """Complete the handshake by a first packet, a keepalive."""
        message = parse_credential_response(self.answers()[-1])
        keys, index, _payload = self.peer.consume_credential_response(message)
        sealed = ChaCha20Poly1305(bytes(keys.send)).encrypt(bytes(12), b"", b"")
        self.send(struct.pack("<IIQ", TYPE_TRANSPORT, index, 0) + sealed)
        self.office.world.run(0.1)

    def enter(self, offer: Offer | None = None) -> None:
        """Call and confirm."""
        self.call(self.certificate() if offer is None else offer)
        self.confirm()


class Recorder:
    """A firewall that writes down what it is told, and can fail."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        # How many transactions there were.
        self.calls = 0
        self.fails = False

    def change(self, add: Iterable[Member] = (), remove: Iterable[str] = ()) -> None:
        if self.fails:
            raise FirewallError("no nft today")
        self.calls += 1
        self.told += [("add", member.name) for member in add]
        self.told += [("remove", key) for key in remove]


class FakeGuard(Guard):
    """A firewall without a kernel: it writes down members, and keeps rules and wall."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.rules = Settings()
        self.stands: Wall | None = None
        # Each wall, in the order in which they were put up.
        self.walls: list[Wall | None] = []
        self.firewall = self.recorder  # type: ignore[assignment]

    @property
    def settings(self) -> Settings:
        return self.rules

    @property
    def wall(self) -> Wall | None:
        return self.stands

    @property
    def active(self) -> bool:
        return False

    def start(self, settings: Settings, wall: Wall | None = None) -> None:
        if self.recorder.fails:
            raise UapiError(errno.EIO, "no nft today")
        self.rules, self.stands = settings, wall
        self.walls.append(wall)

    def follow(self, peers: Iterable[tuple[PublicKey, list[Prefix]]]) -> None:
        del peers
