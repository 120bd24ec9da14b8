"""What plain peers see of an interface is the same to the byte, whether or not it has an authority.

Two worlds of one seed: the same keys, ephemeral keys, indices, timestamps and packets. In one the
machine in the middle trusts a CA and shows a certificate, and in the other it has never heard of
either.
"""

import random
from collections import defaultdict
from pathlib import Path

import pytest

from tests.support import fake_network
from tests.support.certificates import NETWORK, Authority, Peer, names
from tests.support.fake_network import EPOCH_NS, Machine, Sent, World, befriend
from tests.support.native_path import NativeFakeDataPath, needs_native
from wgpy.device.uapi import DeviceChange
from wgpy.identity.profile import Rights
from wgpy.identity.settings import Anchor, AuthoritySettings, IdentitySettings
from wgpy.ip import parse_prefix
from wgpy.protocol.constants import TYPE_INITIATION, TYPE_RESPONSE, TYPE_TRANSPORT

START = EPOCH_NS / 1e9
DAY = 86_400.0


@pytest.fixture(autouse=True, params=["portable", pytest.param("native", marks=needs_native)])
def datapath(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "native":
        monkeypatch.setattr(fake_network, "FakeDataPath", NativeFakeDataPath)


class Streams(random.Random):
    """Bytes from one stream for each length. Keys have 32, indices 4, and what the authority draws
    besides, the seed of the filter's tables, has 16: it must not shift the others."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._streams: dict[int, random.Random] = defaultdict(lambda: random.Random(seed))

    def randbytes(self, n: int) -> bytes:
        return self._streams[n].randbytes(n)


def trust(machine: Machine, directory: Path) -> None:
    """Give a machine an authority, and a certificate of its own."""
    root = Authority(not_before=START - DAY, not_after=START + 365 * DAY)
    own = Peer(
        parent=root,
        key=machine.private.public(),
        names=names("gate.mesh", "10.7.0.1"),
        rights=Rights(NETWORK, 1, ("laptops",), ()),
        not_before=START - 300,
        not_after=START + DAY,
    )
    (directory / "root.pem").write_bytes(root.pem())
    (directory / "own.pem").write_bytes(own.pem())
    machine.device.apply(
        DeviceChange(
            authority=AuthoritySettings(
                network=NETWORK,
                accept=(parse_prefix("10.7.0.0/16"),),
                anchors=(Anchor(str(directory / "root.pem")),),
            ),
            identity=IdentitySettings(certificate=str(directory / "own.pem")),
        )
    )


def life(ledger: Path, authority: Path | None) -> list[Sent]:
    """Everything that is on the wire while a plain peer and the gate talk for six minutes."""
    world = World()
    world.random = Streams(5)
    gate = Machine(world, "192.0.2.1", ledger=ledger)
    plain = Machine(world, "192.0.2.2")
    if authority is not None:
        trust(gate, authority)
    befriend(plain, gate)
    # The plain one begins, and later the gate, when all keys have run out.
    for second in range(150):
        world.at(second, lambda: plain.send(gate))
    for second in range(400, 500):
        world.at(second, lambda: gate.send(plain))
    world.run(520)
    assert len(gate.datapath.delivered) == 150
    assert len(plain.datapath.delivered) == 100
    return world.log


def test_plain_peers_get_the_same_bytes(tmp_path: Path) -> None:
    without = life(tmp_path / "one", None)
    beside = life(tmp_path / "two", tmp_path)
    assert {sent.kind for sent in without} == {TYPE_INITIATION, TYPE_RESPONSE, TYPE_TRANSPORT}
    for source in ("192.0.2.1", "192.0.2.2"):
        kinds = {sent.kind for sent in without if sent.source == source}
        assert {TYPE_INITIATION, TYPE_RESPONSE} <= kinds, "each began, and each answered"
    assert [(x.source, x.target, len(x.data)) for x in without] == [
        (x.source, x.target, len(x.data)) for x in beside
    ]
    assert without == beside
